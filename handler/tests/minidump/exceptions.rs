//! Every exception is spelled as the reader knows it. The words are the reader's own.

use aftermach_handler::minidump::check;
use aftermach_handler::snapshot::{Exception, Snapshot};
use aftermach_protocol::exception::{LinuxSignal, MachException};
use aftermach_protocol::platform::{Cpu, Os};

use crate::{dump_of, process, read, samples};

/// What an exception reads as: reason and address.
fn spelled(mut snapshot: Snapshot, exception: Exception) -> (String, u64) {
    snapshot.death.exception = exception;
    let bytes = dump_of(&snapshot);
    let summary = check(&bytes).unwrap();
    let (state, _) = process(&bytes);
    let info = state.exception_info.unwrap();
    assert_eq!(summary.reason, Some(info.reason.to_string()));
    (info.reason.to_string(), info.address.0)
}

fn pc(snapshot: &Snapshot) -> u64 {
    snapshot.threads[0].state.registers.as_ref().unwrap().pc()
}

#[test]
fn linux_signals_read_as_the_kernel_raised_them() {
    let table = [
        (11, 1, Some(0x10), "SIGSEGV / SEGV_MAPERR"),
        (11, 2, Some(0x5555_5555_4000), "SIGSEGV / SEGV_ACCERR"),
        // A general protection fault: the processor does not say where.
        (11, 0x80, None, "SIGSEGV / SI_KERNEL"),
        (7, 2, Some(0x7fff_0000_1000), "SIGBUS / BUS_ADRERR"),
        (8, 1, Some(0x1234), "SIGFPE / FPE_INTDIV"),
        (4, 2, Some(0x1234), "SIGILL / ILL_ILLOPN"),
        (5, 0x80, None, "SIGTRAP / SI_KERNEL"),
        (6, -6, None, "SIGABRT / SI_TKILL"),
        (6, 0, None, "SIGABRT"),
        (3, 0, None, "SIGQUIT"),
        (31, 1, Some(0x1234), "SIGSYS / SYS_SECCOMP"),
    ];
    for cpu in [Cpu::X86_64, Cpu::Arm64] {
        for (signal, code, address, reason) in table {
            let snapshot = samples::sample(Os::Linux, cpu);
            let expected = address.unwrap_or(pc(&snapshot));
            let found = spelled(snapshot, Exception::Linux(LinuxSignal { signal, code, address, sender: None }));
            assert_eq!(found, (reason.to_owned(), expected));
        }
    }
}

/// `EXC_CRASH` as the kernel packs it.
fn crash(signal: u64, kind: u64, code: u64, subcode: u64) -> Exception {
    Exception::Mach(MachException { kind: 10, codes: [signal << 24 | kind << 20 | code, subcode] })
}

fn first_chance(kind: u32, code: u64, subcode: u64) -> Exception {
    Exception::Mach(MachException { kind, codes: [code, subcode] })
}

/// Where an exception's address comes from.
#[derive(Clone, Copy)]
enum At {
    Subcode,
    Pc,
    Number(u64),
}

fn mac_table(cpu: Cpu, table: &[(Exception, u64, &str, At)]) {
    for (exception, subcode, reason, at) in table {
        let snapshot = samples::sample(Os::MacOs, cpu);
        let expected = match at {
            At::Subcode => *subcode,
            At::Pc => pc(&snapshot),
            At::Number(number) => *number,
        };
        assert_eq!(spelled(snapshot, *exception), ((*reason).to_owned(), expected), "{exception:x?}");
    }
}

#[test]
fn deaths_on_a_mac_read_as_what_they_were_of() {
    let (segv, bus) = (0xdead_beef, 0x1_0000_4000);
    for cpu in [Cpu::X86_64, Cpu::Arm64] {
        mac_table(
            cpu,
            &[
                (crash(11, 1, 1, segv), segv, "EXC_BAD_ACCESS / KERN_INVALID_ADDRESS", At::Subcode),
                (crash(10, 1, 2, bus), bus, "EXC_BAD_ACCESS / KERN_PROTECTION_FAILURE", At::Subcode),
                // The guard of the main stack.
                (crash(11, 1, 2, bus), bus, "EXC_BAD_ACCESS / KERN_PROTECTION_FAILURE", At::Subcode),
                (crash(9, 1, 50, bus), bus, "EXC_BAD_ACCESS / KERN_CODESIGN_ERROR", At::Subcode),
                (first_chance(1, 1, segv), segv, "EXC_BAD_ACCESS / KERN_INVALID_ADDRESS", At::Subcode),
                (crash(6, 0, 0, 0), 0, "EXC_SOFTWARE / SIGABRT", At::Pc),
            ],
        );
    }
}

#[test]
fn the_codes_of_each_processor_have_their_names() {
    mac_table(
        Cpu::X86_64,
        &[
            // A general protection fault has an error code where others have an address.
            (crash(11, 1, 13, 0x18), 0x18, "EXC_BAD_ACCESS / EXC_I386_GPFLT", At::Pc),
            (first_chance(1, 13, 0), 0, "EXC_BAD_ACCESS / EXC_I386_GPFLT", At::Pc),
            (crash(4, 2, 1, 0), 0, "EXC_BAD_INSTRUCTION / EXC_I386_INVOP", At::Pc),
            (crash(8, 3, 1, 0), 0, "EXC_ARITHMETIC / EXC_I386_DIV", At::Pc),
            (crash(5, 6, 2, 0), 0, "EXC_BREAKPOINT / EXC_I386_BPT", At::Pc),
        ],
    );
    mac_table(
        Cpu::Arm64,
        &[
            (crash(10, 1, 0x101, 0x13), 0x13, "EXC_BAD_ACCESS / EXC_ARM_DA_ALIGN", At::Subcode),
            (crash(4, 2, 1, 0xdead), 0, "EXC_BAD_INSTRUCTION / EXC_ARM_UNDEFINED", At::Pc),
            (crash(5, 6, 1, 0x1_0000_1100), 0, "EXC_BREAKPOINT / EXC_ARM_BREAKPOINT", At::Pc),
        ],
    );
}

#[test]
fn an_old_fault_is_not_what_a_task_died_of() {
    for cpu in [Cpu::X86_64, Cpu::Arm64] {
        mac_table(
            cpu,
            &[
                // abort() in a thread that once recovered from a bad access.
                (crash(6, 1, 1, 0xdead), 0, "EXC_SOFTWARE / SIGABRT", At::Pc),
                // Killed by a signal from outside: there is no name for it, so the signal stands in the address.
                (crash(11, 0, 0, 0), 0, "EXC_SOFTWARE / 0x00010003", At::Number(11)),
                (crash(3, 1, 1, 0xdead), 0, "EXC_SOFTWARE / 0x00010003", At::Number(3)),
                (crash(11, 6, 1, 0), 0, "EXC_SOFTWARE / 0x00010003", At::Number(11)),
            ],
        );
    }
    // 13 is a general protection fault on one processor only.
    mac_table(Cpu::Arm64, &[(crash(11, 1, 13, 0), 0, "EXC_SOFTWARE / 0x00010003", At::Number(11))]);
}

#[test]
fn guards_keep_their_details() {
    // GUARD_TYPE_FD (2), flavor GUARD_EXC_CLOSE (1), file descriptor 3 (sys/guarded.h).
    let snapshot = samples::sample(Os::MacOs, Cpu::Arm64);
    let address = pc(&snapshot);
    let (reason, found) = spelled(snapshot, first_chance(12, 2 << 61 | 1 << 32 | 3, 0xfeed));
    assert!(reason.starts_with("EXC_GUARD / GUARD_TYPE_FD / GUARD_EXC_CLOSE"), "{reason}");
    assert_eq!(found, address);
    // In a death, the kernel has cut the type off.
    let (reason, _) = spelled(samples::sample(Os::MacOs, Cpu::Arm64), crash(9, 12, 3, 0xfeed));
    assert!(reason.starts_with("EXC_GUARD"), "{reason}");
}

#[test]
fn a_dump_that_was_asked_for_is_no_crash() {
    for (os, cpu, expected) in [
        (Os::MacOs, Cpu::Arm64, "Simulated Exception"),
        (Os::MacOs, Cpu::X86_64, "Simulated Exception"),
        (Os::Linux, Cpu::X86_64, "DUMP_REQUESTED"),
        (Os::Linux, Cpu::Arm64, "DUMP_REQUESTED"),
    ] {
        let snapshot = samples::sample(os, cpu);
        let at = pc(&snapshot);
        let (reason, address) = spelled(snapshot, Exception::Simulated);
        assert!(reason.starts_with(expected), "{os:?}: {reason}");
        assert_eq!(address, at);
    }
}

#[test]
fn resources_keep_their_details() {
    // RESOURCE_TYPE_CPU (1), flavor FLAVOR_CPU_MONITOR (1) (kern/exc_resource.h).
    let (reason, _) = spelled(samples::sample(Os::MacOs, Cpu::Arm64), first_chance(11, 1 << 61 | 1 << 58, 50));
    assert!(reason.starts_with("EXC_RESOURCE / RESOURCE_TYPE_CPU"), "{reason}");
}

#[test]
fn the_codes_as_they_came_are_in_the_exception_information() {
    let mut snapshot = samples::sample(Os::MacOs, Cpu::Arm64);
    snapshot.death.exception = crash(6, 1, 1, u64::MAX);
    let bytes = dump_of(&snapshot);
    let record = read(&bytes).get_stream::<minidump::MinidumpException<'_>>().unwrap().raw.exception_record;
    assert_eq!(record.number_parameters, 3);
    assert_eq!(record.exception_information[..3], [10, 0x0610_0001, u64::MAX]);
}

#[test]
fn an_abort_bears_the_signal_and_not_the_fault_before_it() {
    for (os, reason) in [(Os::Linux, "SIGABRT / SI_TKILL"), (Os::MacOs, "EXC_SOFTWARE / SIGABRT")] {
        let summary = check(&dump_of(&samples::aborted(os, Cpu::X86_64))).unwrap();
        assert_eq!(summary.reason.as_deref(), Some(reason));
    }
}

#[test]
fn any_exception_at_all_is_spelled_somehow() {
    for kind in (0..20).chain([u32::MAX]) {
        for code in [0, 1, 13, 0x10003, 0x2000_0000, 0xff50_0003, 0xffff_ffff, 0xffff_f000_0000, u64::MAX] {
            for cpu in [Cpu::X86_64, Cpu::Arm64] {
                let mut snapshot = samples::sample(Os::MacOs, cpu);
                snapshot.death.exception = first_chance(kind, code, code);
                let bytes = dump_of(&snapshot);
                assert!(check(&bytes).unwrap().reason.is_some_and(|reason| !reason.is_empty()));
                let record = read(&bytes).get_stream::<minidump::MinidumpException<'_>>().unwrap().raw.exception_record;
                // LLDB 19 looks for the name of a signal that has none without end.
                if (record.exception_code, record.exception_flags) == (5, 0x10003) {
                    assert!((1..=31).contains(&record.exception_address), "{kind} {code:#x}");
                }
            }
        }
    }
}
