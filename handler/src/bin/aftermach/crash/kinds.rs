//! The ways to die.

use std::hint::black_box;
use std::io;
use std::process;
use std::ptr;

use anyhow::Context;

use super::{instructions, signals};

/// A way to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Read through a null pointer.
    NullRead,
    /// Write through a null pointer, 16 bytes into the structure.
    NullWrite,
    /// Write to memory that may only be read.
    ReadonlyWrite,
    /// Call a null function pointer.
    NullCall,
    /// Jump to an address where there is nothing.
    WildJump,
    /// Read from an address that no x86-64 processor can have (on arm64: from a wild one).
    NonCanonical,
    /// Call abort().
    Abort,
    /// A Rust panic in a program that aborts on panic.
    Panic,
    /// A panic while another panic unwinds.
    DoublePanic,
    /// Recurse until the stack is used up.
    StackOverflow,
    /// The same, with the Rust runtime's handler in place, which says so and aborts.
    GuardedStackOverflow,
    /// Read through a null pointer under ten thousand frames of recursion.
    DeepRecursion,
    /// An instruction that does not exist.
    IllegalInstruction,
    /// A breakpoint instruction with no debugger attached.
    Breakpoint,
    /// Divide an integer by zero (x86-64 only: arm64 gives 0).
    DivideByZero,
    /// Read a mapped file past its end.
    BusError,
    /// Read through a null pointer in a handler for SIGUSR1.
    FaultInHandler,
    /// Call abort() in a handler for SIGSEGV.
    AbortInHandler,
    /// Write through a null pointer on the thread "crasher", while seven others wait.
    NamedThread,
    /// No crash: exit with --code.
    Exit,
    /// No crash either: SIGKILL.
    Kill,
}

/// An address where neither system ever maps anything.
const WILD: usize = 0x0000_1337_dead_b000;

/// Bits 47 to 63 differ: not an address on x86-64 with four- or five-level paging.
const NON_CANONICAL: usize = 0x1234_5678_9abc_def0;

/// Dies as `kind` says. Returns only if that could not be set up, or did not work.
#[inline(never)]
pub(super) fn die(kind: Kind, code: u8) -> anyhow::Result<()> {
    match kind {
        Kind::NullRead => null_read(),
        Kind::NullWrite | Kind::NamedThread => null_write(),
        Kind::ReadonlyWrite => readonly_write(),
        Kind::NullCall => call(0),
        Kind::WildJump => call(WILD),
        Kind::NonCanonical => read(NON_CANONICAL),
        Kind::Abort => abort_deliberately(),
        Kind::Panic => panic_and_abort(),
        Kind::DoublePanic => panic_twice(),
        Kind::StackOverflow | Kind::GuardedStackOverflow => {
            black_box(recurse_forever(0));
        }
        Kind::DeepRecursion => {
            black_box(recurse_then_fault(10_000));
        }
        Kind::IllegalInstruction => illegal_instruction(),
        Kind::Breakpoint => breakpoint(),
        Kind::DivideByZero => {
            anyhow::ensure!(instructions::DIVISION_TRAPS, "on this processor a division by zero does not trap");
            divide_by_zero();
        }
        Kind::BusError => bus_error().context("mapping a file to cut")?,
        Kind::FaultInHandler => signals::fault_in_handler().context("installing the handler")?,
        Kind::AbortInHandler => signals::abort_in_handler().context("installing the handler")?,
        Kind::Exit => process::exit(code.into()),
        Kind::Kill => signals::kill_self(),
    }
    Ok(())
}

#[inline(never)]
fn read(address: usize) {
    // SAFETY: none. This read is meant to fault; a wrong value would be thrown away.
    let value = unsafe { ptr::read_volatile(address as *const u64) };
    black_box(value);
}

#[inline(never)]
pub(super) fn null_read() {
    read(black_box(0));
}

#[inline(never)]
pub(super) fn null_write() {
    // SAFETY: none. This write is meant to fault: page zero is never mapped.
    unsafe { ptr::write_volatile(black_box(16) as *mut u64, 1) };
    black_box(());
}

static READ_ONLY: [u64; 4] = [1, 2, 3, 4];

#[inline(never)]
fn readonly_write() {
    // SAFETY: none. A constant's page is mapped without write permission: this write is meant to fault.
    unsafe { ptr::write_volatile(black_box(&raw const READ_ONLY).cast::<u64>().cast_mut(), 1) };
    black_box(READ_ONLY);
}

#[inline(never)]
fn call(address: usize) {
    // SAFETY: none. This call is meant to fault at its destination. It goes through the assembler since a Rust function
    // pointer may not be null.
    unsafe { instructions::call(black_box(address)) };
    black_box(());
}

#[inline(never)]
fn abort_deliberately() {
    if black_box(true) {
        process::abort();
    }
}

#[inline(never)]
fn panic_and_abort() {
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        default_hook(panic);
        process::abort();
    }));
    let empty: &[u32] = black_box(&[]);
    black_box(empty[black_box(7)]);
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        let empty: &[u32] = black_box(&[]);
        black_box(empty[black_box(2)]);
    }
}

#[inline(never)]
fn panic_twice() {
    let _guard = black_box(PanicsWhenDropped);
    let empty: &[u32] = black_box(&[]);
    black_box(empty[black_box(1)]);
}

#[inline(never)]
#[allow(unconditional_recursion, reason = "the point")]
fn recurse_forever(depth: u64) -> u64 {
    let room = black_box([depth; 16]);
    black_box(recurse_forever(depth + 1)) + room[black_box(3)]
}

#[inline(never)]
fn recurse_then_fault(depth: u64) -> u64 {
    if depth == 0 {
        null_read();
        return 0;
    }
    black_box(recurse_then_fault(black_box(depth) - 1)) + 1
}

#[inline(never)]
fn illegal_instruction() {
    instructions::illegal();
    black_box(());
}

#[inline(never)]
fn breakpoint() {
    instructions::breakpoint();
    black_box(());
}

#[inline(never)]
fn divide_by_zero() {
    instructions::divide_by_zero();
    black_box(());
}

#[inline(never)]
fn bus_error() -> io::Result<()> {
    let path = std::env::temp_dir().join(format!("aftermach-bus-error-{}", process::id()));
    let mapping = signals::map_then_cut(&path);
    std::fs::remove_file(&path)?;
    read(black_box(mapping?));
    Ok(())
}
