//! Rust programs that die: panics where a panic ends the program, faults in unsafe code, and threads that wait meanwhile.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

#[inline(always)]
fn die() -> u64 {
    // SAFETY: none; this is the death.
    unsafe { std::ptr::null_mut::<u64>().write_volatile(1) };
    1
}

fn unwrap_none() {
    let map: HashMap<u32, String> = HashMap::from([(1, "one".to_owned())]);
    println!("{}", map.get(&black_box(2)).unwrap());
}

fn expect_error() {
    let number: u32 = black_box("twelve").parse().expect("a number");
    println!("{number}");
}

fn index() {
    let values = black_box(vec![1, 2, 3]);
    println!("{}", values[black_box(7)]);
}

fn slice() {
    let text = black_box("gr\u{fc}n");
    println!("{}", &text[..black_box(3)]);
}

fn overflow() {
    println!("{}", black_box(u32::MAX) + black_box(1));
}

fn divide() {
    println!("{}", black_box(1) / black_box(0));
}

fn borrowed() {
    let cell = RefCell::new(1);
    let first = cell.borrow_mut();
    println!("{} {}", cell.borrow_mut(), first);
}

struct Loud;

impl Drop for Loud {
    fn drop(&mut self) {
        panic!("in drop");
    }
}

fn panic_in_drop() {
    let _loud = Loud;
    panic!("first");
}

extern "C" fn called_by_c(left: *const libc_void, _: *const libc_void) -> i32 {
    assert!(left.is_null(), "not null");
    0
}

#[allow(non_camel_case_types)]
type libc_void = std::ffi::c_void;

unsafe extern "C" {
    fn qsort(
        base: *mut libc_void,
        count: usize,
        size: usize,
        compare: extern "C" fn(*const libc_void, *const libc_void) -> i32,
    );
    fn abort() -> !;
}

fn panic_below_c() {
    let mut values = [3, 1, 2];
    // SAFETY: an array of three.
    unsafe { qsort(values.as_mut_ptr().cast(), 3, 4, called_by_c) };
}

struct Fails;

impl fmt::Display for Fails {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        die();
        formatter.write_str("fails")
    }
}

fn in_formatting() {
    println!("it {}", Fails);
}

trait Shape {
    fn area(&self) -> u64;
}

struct Square(u64);

impl Shape for Square {
    fn area(&self) -> u64 {
        if self.0 == 2 { die() } else { self.0 }
    }
}

fn in_trait_object() {
    let shapes: Vec<Box<dyn Shape>> = vec![Box::new(Square(1)), Box::new(Square(black_box(2)))];
    println!("{}", shapes.iter().map(|shape| shape.area()).sum::<u64>());
}

fn in_closure() {
    let mut values: Vec<u64> = (0..100).rev().collect();
    values.sort_by_key(|value| if *value == 50 { die() } else { *value });
    println!("{values:?}");
}

fn in_generic() {
    fn largest<T: Ord + Copy, F: Fn(T) -> T>(values: &[T], map: F) -> Option<T> {
        values.iter().copied().map(map).max()
    }
    println!("{:?}", largest(&[3u64, 1, 2], |value| if value == black_box(1) { die() } else { value }));
}

fn in_map_entry() {
    let mut map = BTreeMap::new();
    *map.entry("key").or_insert_with(|| die()) += 1;
    println!("{map:?}");
}

#[allow(unconditional_recursion)]
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let pad = black_box([depth; 64]);
    recurse(depth + 1) + pad[3]
}

fn stack_overflow() {
    println!("{}", recurse(0));
}

fn stack_overflow_in_thread() {
    let thread = thread::Builder::new().name("deep".to_owned()).stack_size(256 << 10).spawn(stack_overflow);
    thread.unwrap().join().unwrap();
}

fn c_abort() {
    // SAFETY: it only ends the process.
    unsafe { abort() }
}

fn panic_in_thread() {
    thread::Builder::new().name("worker".to_owned()).spawn(unwrap_none).unwrap().join().unwrap();
}

/// A future that is ready the second time.
struct Twice(bool);

impl Future for Twice {
    type Output = u64;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<u64> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(die());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

async fn inner(number: u64) -> u64 {
    number + Twice(false).await
}

async fn outer() -> u64 {
    inner(1).await * inner(2).await
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        thread::park();
    }
}

fn in_executor() {
    println!("{}", block_on(outer()));
}

fn spawn(name: &str, wait: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name.to_owned()).spawn(wait).unwrap();
}

fn waiting_threads() {
    let mutex = Arc::new(Mutex::new(1));
    let rwlock = Arc::new(RwLock::new(1));
    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let barrier = Arc::new(Barrier::new(2));
    let (sender, receiver) = mpsc::channel::<u64>();
    let (full, kept) = mpsc::sync_channel::<u64>(0);
    let held = mutex.lock().unwrap();
    let read = rwlock.read().unwrap();
    {
        let (mutex, rwlock) = (mutex.clone(), rwlock.clone());
        spawn("mutex", move || drop(mutex.lock()));
        spawn("rwlock", move || drop(rwlock.write()));
    }
    spawn("condition", move || drop(pair.1.wait_while(pair.0.lock().unwrap(), |done| !*done)));
    spawn("barrier", move || drop(barrier.wait()));
    spawn("channel", move || assert!(receiver.recv().is_ok()));
    spawn("rendezvous", move || assert!(full.send(1).is_ok()));
    spawn("park", || thread::park_timeout(Duration::from_secs(60)));
    spawn("sleep", || thread::sleep(Duration::from_secs(60)));
    spawn("scope", || {
        thread::scope(|scope| {
            thread::Builder::new().name("scoped".to_owned()).spawn_scoped(scope, thread::park).unwrap();
        })
    });
    thread::sleep(Duration::from_millis(200));
    die();
    println!("{} {} {}", *held, *read, sender.send(1).is_ok());
    drop(kept);
}

fn main() {
    let deaths: &[(&str, fn())] = &[
        ("unwrap-none", unwrap_none),
        ("expect-error", expect_error),
        ("index", index),
        ("slice", slice),
        ("overflow", overflow),
        ("divide", divide),
        ("borrowed", borrowed),
        ("panic-in-drop", panic_in_drop),
        ("panic-below-c", panic_below_c),
        ("in-formatting", in_formatting),
        ("in-trait-object", in_trait_object),
        ("in-closure", in_closure),
        ("in-generic", in_generic),
        ("in-map-entry", in_map_entry),
        ("stack-overflow", stack_overflow),
        ("stack-overflow-in-thread", stack_overflow_in_thread),
        ("c-abort", c_abort),
        ("panic-in-thread", panic_in_thread),
        ("in-executor", in_executor),
        ("waiting-threads", waiting_threads),
    ];
    let name = std::env::args().nth(1).unwrap_or_default();
    match deaths.iter().find(|(death, _)| *death == name) {
        Some((_, run)) => run(),
        None => std::process::exit(2),
    }
    std::process::exit(3);
}
