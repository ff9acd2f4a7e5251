//! A `no_std` Rust program that has the standard library's pure parts do their work: sorting, maps, strings, formatting and
//! parsing of numbers. Its functions are larger and more varied than those of libwork.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::{BTreeMap, BinaryHeap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{boxed::Box, format};
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::fmt::Write;

unsafe extern "C" {
    fn sys_exit(status: i32) -> !;
    fn sys_abort(message: *const u8) -> !;
    fn sys_write(fd: i32, bytes: *const u8, length: usize) -> isize;
}

/// Hands out memory from one block and never takes any back. One thread only.
struct Bump(UnsafeCell<([u8; 1 << 20], usize)>);

// SAFETY: the program has one thread.
unsafe impl Sync for Bump {}

// SAFETY: each block is handed out once, aligned and inside the array.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one thread, and no reference outlives this function.
        let (bytes, used) = unsafe { &mut *self.0.get() };
        let start = (bytes.as_ptr() as usize + *used).next_multiple_of(layout.align()) - bytes.as_ptr() as usize;
        if start + layout.size() > bytes.len() {
            return core::ptr::null_mut();
        }
        *used = start + layout.size();
        &raw mut bytes[start]
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static MEMORY: Bump = Bump(UnsafeCell::new(([0; 1 << 20], 0)));

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: the message ends in NUL.
    unsafe { sys_abort(c"a Rust panic".as_ptr().cast()) }
}

trait Shape {
    fn area(&self) -> f64;
    fn name(&self) -> String;
}

struct Circle(f64);
struct Square(f64);

impl Shape for Circle {
    fn area(&self) -> f64 {
        self.0 * self.0 * core::f64::consts::PI
    }

    fn name(&self) -> String {
        format!("circle of {:.2}", self.0)
    }
}

impl Shape for Square {
    fn area(&self) -> f64 {
        self.0 * self.0
    }

    fn name(&self) -> String {
        format!("square of {:?}", self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Token {
    Number(i64),
    Operator(char),
    Name(String),
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(&first) = characters.peek() {
        match first {
            ' ' => _ = characters.next(),
            '0'..='9' => {
                let mut number = String::new();
                while let Some(digit) = characters.next_if(char::is_ascii_digit) {
                    number.push(digit);
                }
                tokens.push(Token::Number(number.parse().map_err(|error| format!("{number}: {error}"))?));
            }
            '+' | '-' | '*' | '(' | ')' => {
                characters.next();
                tokens.push(Token::Operator(first));
            }
            letter if letter.is_alphabetic() => {
                let mut name = String::new();
                while let Some(letter) = characters.next_if(|letter| letter.is_alphanumeric()) {
                    name.extend(letter.to_uppercase());
                }
                tokens.push(Token::Name(name));
            }
            other => return Err(format!("{other:?} is no token")),
        }
    }
    Ok(tokens)
}

fn value(tokens: &mut &[Token], names: &BTreeMap<String, i64>) -> Option<i64> {
    let mut sum = product(tokens, names)?;
    while let [Token::Operator(operator @ ('+' | '-')), rest @ ..] = *tokens {
        *tokens = rest;
        let next = product(tokens, names)?;
        sum = if *operator == '+' { sum.checked_add(next)? } else { sum.checked_sub(next)? };
    }
    Some(sum)
}

fn product(tokens: &mut &[Token], names: &BTreeMap<String, i64>) -> Option<i64> {
    let mut all = atom(tokens, names)?;
    while let [Token::Operator('*'), rest @ ..] = *tokens {
        *tokens = rest;
        all = all.checked_mul(atom(tokens, names)?)?;
    }
    Some(all)
}

fn atom(tokens: &mut &[Token], names: &BTreeMap<String, i64>) -> Option<i64> {
    let (first, rest) = tokens.split_first()?;
    *tokens = rest;
    match first {
        Token::Number(number) => Some(*number),
        Token::Name(name) => names.get(name).copied(),
        Token::Operator('(') => {
            let inner = value(tokens, names)?;
            let (Token::Operator(')'), rest) = tokens.split_first()? else { return None };
            *tokens = rest;
            Some(inner)
        }
        Token::Operator(_) => None,
    }
}

fn work(out: &mut String) -> Result<(), Box<dyn core::error::Error>> {
    let mut numbers: Vec<u64> = (0..40u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).collect();
    numbers.sort_unstable();
    let mut words: Vec<String> = numbers.iter().take(24).map(|n| format!("{n:x}")).collect();
    words.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    let map: BTreeMap<String, u64> = words.iter().cloned().zip(numbers.iter().copied()).collect();
    let mut heap: BinaryHeap<(u64, &str)> = map.iter().map(|(word, number)| (*number % 17, word.as_str())).collect();
    let mut queue: VecDeque<u64> = numbers.iter().copied().collect();
    queue.rotate_left(7);
    while let Some((rank, word)) = heap.pop() {
        if rank < 12 {
            break;
        }
        write!(out, "{rank}{word} ")?;
    }
    let shapes: [Box<dyn Shape>; 2] = [Box::new(Circle(1.5)), Box::new(Square(1e10))];
    for shape in &shapes {
        write!(out, "{}: {:.3e}, ", shape.name(), shape.area())?;
    }
    let parsed: f64 = "3.14159265358979323846264338327950288e-5".parse()?;
    write!(out, "{parsed} {:?} {:>12} {:#018x} ", parsed as f32, u128::MAX / 7, i64::MIN)?;
    let names = BTreeMap::from([("X".to_string(), 12), ("Y".to_string(), -3)]);
    let tokens = tokens("(x + 4) * 3 - y * (2 + 7)")?;
    write!(out, "{:?} {tokens:?}", value(&mut &tokens[..], &names))?;
    let text = "grüße, мир, 世界".to_uppercase();
    write!(out, " {text:?} {}", text.split(", ").map(|part| part.chars().rev().collect::<String>()).collect::<Vec<_>>().join("-"))?;
    write!(out, " {:?} {:?}", "12a".parse::<i32>(), core::str::from_utf8(&text.as_bytes()[..2]))?;
    write!(out, " {:?} {}", map.range("8".to_string()..).next(), queue.iter().rev().take(3).sum::<u64>())?;
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const u8) -> i32 {
    let mut out = String::new();
    if let Err(error) = work(&mut out) {
        let _ = write!(out, "{error}");
    }
    out.push('\n');
    // SAFETY: the bytes are the string's.
    unsafe { sys_write(1, out.as_ptr(), out.len()) };
    // SAFETY: ends the program.
    unsafe { sys_exit(0) }
}
