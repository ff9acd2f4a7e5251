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
//! A dump that the program asked for, and went on, has the code that Crashpad gives it on either system: 0xffffffff on Linux, which
//! is Breakpad's `MD_EXCEPTION_CODE_LIN_DUMP_REQUESTED`, and 0x43507378 on macOS; its address is the asking thread's program counter.
//!
//! The type and both codes as they came are in the exception information, and in a stream of our own. 0 / 0, which Crashpad
//! writes for `abort()`, is "unknown" to every reader; 5 / 0x10003 with a program counter hangs LLDB 19, which takes the
//! address for a signal and looks for its name without end.

use std::io::{Seek, Write};

use aftermach_protocol::exception::mach::{EXC_GUARD, EXC_RESOURCE, EXC_SOFTWARE};
use aftermach_protocol::exception::{Cause, Crash, LinuxSignal, MachException, darwin};
use aftermach_protocol::platform::{Cpu, Os};
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
        Exception::Simulated => MDException {
            exception_code: match snapshot.os {
                Os::Linux => DUMP_REQUESTED,
                Os::MacOs => CRASHPAD_SIMULATED,
            },
            exception_address: pc,
            ..MDException::default()
        },
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

/// Breakpad's code for a dump that was asked for (google_breakpad/common/minidump_exception_linux.h, `MD_EXCEPTION_CODE_LIN_DUMP_REQUESTED`).
const DUMP_REQUESTED: u32 = 0xffff_ffff;

fn linux(signal: LinuxSignal, pc: u64) -> MDException {
    MDException {
        exception_code: u32::try_from(signal.signal).ok().filter(|signal| *signal > 0).unwrap_or(DUMP_REQUESTED),
        exception_flags: signal.code as u32,
        exception_address: signal.address.unwrap_or(pc),
        ..MDException::default()
    }
}

/// Codes of `EXC_SOFTWARE`: `EXC_UNIX_ABORT` (bsd/uxkern/ux_exception.c) and `EXC_SOFT_SIGNAL` (mach/exception_types.h).
const UNIX_ABORT: u32 = 0x10002;
const SOFT_SIGNAL: u32 = 0x10003;
/// What Crashpad writes for a dump that was asked for; no system has such an exception.
const CRASHPAD_SIMULATED: u32 = 0x4350_7378;

fn mach(exception: MachException, cpu: Cpu, pc: u64) -> MDException {
    let (exception_code, exception_flags, exception_address) = match Crash::unpack(cpu, &exception) {
        None => spelling(exception, cpu, pc),
        Some(Crash { cause: Cause::Exception(inner), .. }) => spelling(inner, cpu, pc),
        Some(Crash { signal, .. }) => of_signal(signal, pc),
    };
    let MachException { kind, codes: [code, subcode] } = exception;
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

/// Code, flags and address of an exception that is no `EXC_CRASH`.
fn spelling(exception: MachException, cpu: Cpu, pc: u64) -> (u32, u32, u64) {
    match (exception.kind, exception.code()) {
        // Their codes use all 64 bits; the upper half says what it is about.
        (EXC_RESOURCE | EXC_GUARD, code) => (exception.kind, (code >> 32) as u32, pc),
        (EXC_SOFTWARE, code) if code as u32 == SOFT_SIGNAL => of_signal(exception.subcode() as i32, pc),
        (kind, code) => (kind, code as u32, exception.fault_address(cpu).unwrap_or(pc)),
    }
}

/// Code, flags and address of a death of nothing but a signal. LLDB 19 hangs on any that it has no name for.
fn of_signal(signal: i32, pc: u64) -> (u32, u32, u64) {
    match signal {
        darwin::SIGABRT => (EXC_SOFTWARE, UNIX_ABORT, pc),
        1..=31 => (EXC_SOFTWARE, SOFT_SIGNAL, signal as u64),
        _ => (EXC_SOFTWARE, 0, pc),
    }
}
