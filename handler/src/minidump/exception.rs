//! Exception: `MINIDUMP_EXCEPTION_STREAM`, spelled as both readers know it.
//!
//! Linux, as Breakpad spells it: the code is the signal, the flags are `si_code`, the address is `si_addr` or, where the kernel
//! gives none, the program counter.
//!
//! macOS, as Breakpad and Crashpad do: the code is the exception's type, the flags are its code, the address is its subcode
//! where that is one. `EXC_CRASH` is what the kernel wrapped around the real one, which no reader looks into:
//!
//! | death | code / flags, address | rust-minidump | LLDB 19 |
//! |---|---|---|---|
//! | of a hardware exception | that exception's | its names | its names |
//! | `abort()` | 5 / 0x10002, pc | EXC_SOFTWARE / SIGABRT | EXC_SOFTWARE (code=65538) |
//! | of another signal | 5 / 0x10003 (`EXC_SOFT_SIGNAL`), the signal | EXC_SOFTWARE / 0x00010003 | signal SIGSEGV |
//! | `EXC_GUARD`, `EXC_RESOURCE` | 12 or 11 / high half of the code, pc | their details | EXC_GUARD |
//!
//! The type and both codes as they came are in the exception information, and in a stream of our own. 0 / 0, which Crashpad
//! writes for `abort()`, is "unknown" to every reader; 5 / 0x10003 with a program counter hangs LLDB 19, which takes the
//! address for a signal.

use std::io::{Seek, Write};

use aftermach_protocol::exception::{LinuxSignal, MachException};
use aftermach_protocol::platform::Cpu;
use minidump_writer::minidump_format::{MDException, MDLocationDescriptor, MDRawExceptionStream, MDStreamType};

use super::Error;
use super::file::DumpFile;
use super::thread_ids::ThreadIds;
use crate::snapshot::{Exception, Snapshot};

/// Writes the stream. The context is that of the dead thread, and not written twice.
pub(super) fn write<W: Write + Seek>(
    file: &mut DumpFile<'_, W>,
    snapshot: &Snapshot,
    ids: &ThreadIds,
    contexts: &[MDLocationDescriptor],
) -> Result<(), Error> {
    let dead = snapshot.death.thread;
    let index = snapshot.threads.iter().position(|thread| Some(thread.state.id) == dead);
    let registers = index.and_then(|index| snapshot.threads.get(index)?.state.registers.as_ref());
    let pc = registers.map_or(0, |registers| registers.pc() & snapshot.system.pointer_mask.unwrap_or(u64::MAX));
    let exception_record = match snapshot.death.exception {
        Exception::Linux(signal) => linux(signal, pc),
        Exception::Mach(exception) => mach(exception, snapshot.cpu, pc),
    };
    file.stream(MDStreamType::ExceptionStream, |file| {
        file.put(MDRawExceptionStream {
            thread_id: ids.exception(),
            __align: 0,
            exception_record,
            thread_context: index.and_then(|index| contexts.get(index)).copied().unwrap_or_default(),
        })
    })
}

fn linux(signal: LinuxSignal, pc: u64) -> MDException {
    MDException {
        exception_code: signal.signal as u32,
        exception_flags: signal.code as u32,
        exception_address: signal.address.unwrap_or(pc),
        ..MDException::default()
    }
}

// osfmk/mach/exception_types.h
const EXC_BAD_ACCESS: u32 = 1;
const EXC_BAD_INSTRUCTION: u32 = 2;
const EXC_ARITHMETIC: u32 = 3;
const EXC_SOFTWARE: u32 = 5;
const EXC_BREAKPOINT: u32 = 6;
const EXC_CRASH: u32 = 10;
const EXC_RESOURCE: u32 = 11;
const EXC_GUARD: u32 = 12;
/// Codes of `EXC_SOFTWARE`: bsd/uxkern/ux_exception.c has the first, exception_types.h the second.
const EXC_UNIX_ABORT: u32 = 0x10002;
const EXC_SOFT_SIGNAL: u32 = 0x10003;
/// Code of `EXC_BAD_ACCESS` for a general protection fault (osfmk/mach/i386/exception.h): its subcode is no address.
const EXC_I386_GPFLT: u64 = 13;

// bsd/sys/signal.h
const SIGILL: u64 = 4;
const SIGTRAP: u64 = 5;
const SIGABRT: u64 = 6;
const SIGFPE: u64 = 8;
const SIGKILL: u64 = 9;
const SIGBUS: u64 = 10;
const SIGSEGV: u64 = 11;

fn mach(exception: MachException, cpu: Cpu, pc: u64) -> MDException {
    let MachException { kind, codes: [code, subcode] } = exception;
    let (exception_code, exception_flags, exception_address) = match kind {
        EXC_CRASH => crash(code, subcode, cpu, pc),
        // Their codes use all 64 bits; the upper half says what it is about.
        EXC_RESOURCE | EXC_GUARD => (kind, (code >> 32) as u32, pc),
        _ => (kind, code as u32, address(kind, code, subcode, cpu, pc)),
    };
    let mut exception_information = [0; 15];
    exception_information[..3].copy_from_slice(&[kind.into(), code, subcode]);
    MDException {
        exception_code,
        exception_flags,
        exception_address,
        number_parameters: 3,
        exception_information,
        ..MDException::default()
    }
}

/// The subcode where it is an address, else the program counter.
fn address(kind: u32, code: u64, subcode: u64, cpu: Cpu, pc: u64) -> u64 {
    let general_protection = cpu == Cpu::X86_64 && code == EXC_I386_GPFLT;
    if kind == EXC_BAD_ACCESS && !general_protection { subcode } else { pc }
}

/// What `EXC_CRASH` wraps: signal in bits 24-31 of its code, exception in 20-23, that one's code below
/// (bsd/kern/kern_exit.c, `proc_prepareexit`).
fn crash(code: u64, subcode: u64, cpu: Cpu, pc: u64) -> (u32, u32, u64) {
    let (signal, kind, inner) = (code >> 24 & 0xff, (code >> 20 & 0xf) as u32, code & 0xf_ffff);
    match (kind, signal) {
        _ if fits(kind, inner, signal, cpu) => (kind, inner as u32, address(kind, inner, subcode, cpu, pc)),
        // The kernel kept only the low bits of its code: the type is lost.
        (EXC_GUARD, SIGKILL) => (EXC_GUARD, 0, pc),
        (_, SIGABRT) => (EXC_SOFTWARE, EXC_UNIX_ABORT, pc),
        _ => (EXC_SOFTWARE, EXC_SOFT_SIGNAL, signal),
    }
}

/// Whether an exception becomes this signal (bsd/uxkern/ux_exception.c, bsd/dev/*/unix_signal.c). `EXC_CRASH` bears the last
/// exception that the thread met, however long ago: one that does not fit the signal is not what the task died of.
fn fits(kind: u32, code: u64, signal: u64, cpu: Cpu) -> bool {
    const KERN_INVALID_ADDRESS: u64 = 1;
    const KERN_PROTECTION_FAILURE: u64 = 2;
    match (kind, code) {
        // The kernel killed the task itself: an invalid code page, an authentication failure.
        (1..=9, _) if signal == SIGKILL => true,
        (EXC_BAD_ACCESS, KERN_INVALID_ADDRESS) => signal == SIGSEGV,
        (EXC_BAD_ACCESS, EXC_I386_GPFLT) if cpu == Cpu::X86_64 => signal == SIGSEGV,
        // SIGSEGV in the guard of the main stack.
        (EXC_BAD_ACCESS, KERN_PROTECTION_FAILURE) => signal == SIGBUS || signal == SIGSEGV,
        (EXC_BAD_ACCESS, _) => signal == SIGBUS,
        (EXC_BAD_INSTRUCTION, _) => signal == SIGILL,
        (EXC_ARITHMETIC, _) => signal == SIGFPE,
        (EXC_BREAKPOINT, _) => signal == SIGTRAP,
        _ => false,
    }
}
