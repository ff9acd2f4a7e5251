//! Everything in a snapshot is found again by the reader.

use aftermach_handler::minidump::{Extra, check};
use aftermach_handler::snapshot::{Gap, ImageId, Registers, Snapshot};
use aftermach_protocol::platform::Os;
use minidump::format::{CONTEXT_AMD64, CONTEXT_ARM64};
use minidump::*;
use uuid::Uuid;

use crate::{dump_of, dump_with, process, read, samples};

/// The dump's id of each thread of the samples: that of the system where it fits 32 bits, else its low half where that is
/// free, else the first free number.
fn expected_ids(os: Os) -> [u32; 3] {
    match os {
        Os::Linux => [4321, 4322, 4330],
        Os::MacOs => [0x1_8a3f, 1, 0x1_8a40],
    }
}

#[test]
fn every_stream_that_a_reader_looks_for_is_there() {
    for (name, snapshot) in samples::all() {
        let bytes = dump_of(&snapshot);
        let dump = read(&bytes);
        dump.get_stream::<MinidumpSystemInfo>().unwrap_or_else(|error| panic!("{name}: {error}"));
        dump.get_stream::<MinidumpMiscInfo>().unwrap_or_else(|error| panic!("{name}: {error}"));
        dump.get_stream::<MinidumpThreadList<'_>>().unwrap_or_else(|error| panic!("{name}: {error}"));
        dump.get_stream::<MinidumpThreadNames>().unwrap_or_else(|error| panic!("{name}: {error}"));
        dump.get_stream::<MinidumpException<'_>>().unwrap_or_else(|error| panic!("{name}: {error}"));
        dump.get_stream::<MinidumpModuleList>().unwrap_or_else(|error| panic!("{name}: {error}"));
        dump.get_stream::<MinidumpMemoryList<'_>>().unwrap_or_else(|error| panic!("{name}: {error}"));
        dump.get_stream::<MinidumpMemoryInfoList<'_>>().unwrap_or_else(|error| panic!("{name}: {error}"));
        dump.get_stream::<MinidumpCrashpadInfo>().unwrap_or_else(|error| panic!("{name}: {error}"));
        dump.get_stream::<MinidumpSoftErrors<'_>>().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(dump.get_stream::<MinidumpMacCrashInfo>().is_ok(), snapshot.os == Os::MacOs, "{name}");
        assert_eq!(dump.get_stream::<MinidumpLinuxMaps<'_>>().is_ok(), snapshot.os == Os::Linux, "{name}");
        // A reader hides the thread that BreakpadInfo names; the environment holds secrets.
        assert!(dump.get_stream::<MinidumpBreakpadInfo>().is_err(), "{name}");
        assert!(dump.get_stream::<MinidumpLinuxEnviron<'_>>().is_err(), "{name}");
    }
}

#[test]
fn the_processor_finds_the_same_threads_and_has_nothing_to_warn_of() {
    for (name, snapshot) in samples::all() {
        let (state, warnings) = process(&dump_of(&snapshot));
        assert_eq!(warnings, "", "{name}");
        assert_eq!(state.requesting_thread, Some(0), "{name}");
        assert_eq!(state.process_id, Some(4321), "{name}");
        let ids: Vec<u32> = state.threads.iter().map(|thread| thread.thread_id).collect();
        assert_eq!(ids, expected_ids(snapshot.os), "{name}");
        let names: Vec<Option<&str>> = state.threads.iter().map(|thread| thread.thread_name.as_deref()).collect();
        assert_eq!(names, [None, Some("worker ü🦀"), Some("com.apple.NSURLConnectionLoader")], "{name}");
        // The context, and the caller that the frame pointer leads to.
        for (thread, found) in snapshot.threads.iter().zip(&state.threads) {
            let pc = thread.state.registers.as_ref().unwrap().pc();
            let caller = samples::layout(snapshot.os, snapshot.cpu).program + 0x1200;
            assert_eq!(found.frames[0].instruction, pc, "{name}");
            assert_eq!(found.frames[1].resume_address, caller, "{name}");
            assert!(found.frames[0].module.is_some() && found.frames[1].module.is_some(), "{name}");
        }
    }
}

#[test]
fn system_and_process_are_what_they_were() {
    for (name, snapshot) in samples::all() {
        let bytes = dump_of(&snapshot);
        let (state, _) = process(&bytes);
        let linux = snapshot.os == Os::Linux;
        assert_eq!(state.system_info.os, if linux { system_info::Os::Linux } else { system_info::Os::MacOs }, "{name}");
        assert_eq!(state.system_info.cpu.to_string(), if name.ends_with("arm64") { "arm64" } else { "amd64" });
        assert_eq!(state.system_info.os_version.as_deref(), Some(if linux { "6.1.0" } else { "15.4.1" }), "{name}");
        let build = state.system_info.os_build.unwrap();
        if linux {
            assert!(build.starts_with("Linux 6.1.0-13-amd64 #1 SMP"), "{name}: {build}");
        } else {
            assert_eq!(build, "24E263", "{name}");
        }
        // 300 processors don't fit in the format's byte.
        assert_eq!(state.system_info.cpu_count, 255, "{name}");
        if name.ends_with("x86_64") {
            // CPUID 000906ea is family 6, model 158, stepping 10 (Intel's revision guide for Coffee Lake).
            assert_eq!(state.system_info.cpu_info.as_deref(), Some("family 6 model 158 stepping 10"), "{name}");
        }
        assert_eq!(state.time, std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_744_804_800));
        assert_eq!(state.process_create_time, snapshot.process.started.map(whole_seconds), "{name}");

        let dump = read(&bytes);
        let misc = dump.get_stream::<MinidumpMiscInfo>().unwrap();
        assert_eq!(misc.raw.process_user_time(), Some(&12), "{name}");
        assert_eq!(misc.raw.process_kernel_time(), Some(&3), "{name}");
        let build = String::from_utf16(misc.raw.build_string().unwrap()).unwrap();
        let expected =
            if linux { "Debian GNU/Linux 12 (bookworm); Linux 6.1.0" } else { "macOS 15.4.1 (24E263); Mac16,13" };
        assert!(build.starts_with(expected), "{name}: {build}");
    }
}

fn whole_seconds(time: std::time::SystemTime) -> std::time::SystemTime {
    let since = time.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
    std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(since.as_secs())
}

#[test]
fn every_register_is_what_it_was() {
    for (name, snapshot) in samples::all() {
        let bytes = dump_of(&snapshot);
        let dump = read(&bytes);
        let system = dump.get_stream::<MinidumpSystemInfo>().unwrap();
        let list = dump.get_stream::<MinidumpThreadList<'_>>().unwrap();
        for (n, (thread, found)) in snapshot.threads.iter().zip(&list.threads).enumerate() {
            let context = found.context(&system, None).unwrap();
            let registers = thread.state.registers.as_ref().unwrap();
            for (register, value) in registers.general() {
                if !matches!(register, "rflags" | "cpsr") {
                    assert_eq!(context.get_register(register), Some(value), "{name}: {register} of thread {n}");
                }
            }
            match (&context.raw, registers) {
                (MinidumpRawContext::Amd64(context), Registers::X86_64(registers)) => {
                    // What LLDB wants to see before it reads any register, and the float state (winnt.h).
                    assert_eq!(context.context_flags, 0x10_000f, "{name}");
                    x86_64_state(context, registers);
                }
                (MinidumpRawContext::Arm64(context), Registers::Arm64(_)) => {
                    assert_eq!(context.context_flags, 0x40_0007, "{name}");
                    arm64_state(context, n as u64);
                }
                _ => panic!("{name}: the context is of another processor"),
            }
        }
        let exception = dump.get_stream::<MinidumpException<'_>>().unwrap();
        let context = exception.context(&system, None).unwrap();
        let registers = snapshot.threads[0].state.registers.as_ref().unwrap();
        assert_eq!(context.get_instruction_pointer(), registers.pc(), "{name}");
        assert_eq!(context.get_stack_pointer(), registers.sp(), "{name}");
    }
}

fn x86_64_state(context: &CONTEXT_AMD64, registers: &aftermach_handler::snapshot::X86_64Registers) {
    assert_eq!(context.eflags, 0x1_0246);
    let segments = [context.cs, context.ss, context.ds, context.es, context.fs, context.gs];
    assert_eq!(segments, [0x33, 0x2b, 1, 2, 3, 4]);
    assert_eq!(context.mx_csr, 0x1f80);
    assert_eq!(&context.float_save, registers.legacy().unwrap());
}

fn arm64_state(context: &CONTEXT_ARM64, n: u64) {
    assert_eq!(context.cpsr, 0x6000_0000);
    assert_eq!((context.fpsr, context.fpcr), (0x10, 0x0300_0000));
    let vectors: [u128; 32] = std::array::from_fn(|register| samples::vector(register, n));
    assert_eq!(context.float_regs, vectors);
}

#[test]
fn stacks_and_memory_are_what_they_were_and_stacks_are_in_the_memory_list() {
    for (name, snapshot) in samples::all() {
        let bytes = dump_of(&snapshot);
        let dump = read(&bytes);
        let memory = dump.get_stream::<MinidumpMemoryList<'_>>().unwrap();
        assert_eq!(memory.iter().count(), snapshot.memory.blocks().len(), "{name}");
        for block in snapshot.memory.blocks() {
            let found = memory.memory_at_address(block.address).unwrap();
            assert_eq!((found.base_address, found.bytes), (block.address, &*block.bytes), "{name}");
        }
        let nothing = UnifiedMemoryList::default();
        let list = dump.get_stream::<MinidumpThreadList<'_>>().unwrap();
        for (thread, found) in snapshot.threads.iter().zip(&list.threads) {
            let stack = thread.stack.unwrap();
            let found = found.stack_memory(&nothing).unwrap();
            assert_eq!(found.base_address(), stack.start, "{name}");
            let length = (stack.end - stack.start) as usize;
            assert_eq!(Some(found.bytes()), snapshot.memory.slice(stack.start, length), "{name}");
            assert!(memory.memory_at_address(stack.start).is_some(), "{name}: LLDB reads stacks from this list only");
        }
    }
}

#[test]
fn memory_that_follows_a_stack_is_not_taken_for_part_of_it() {
    let (_, mut snapshot) = samples::all().swap_remove(0);
    let end = snapshot.threads[0].stack.unwrap().end;
    snapshot.memory.insert(end, vec![0xee; 64]);
    let bytes = dump_of(&snapshot);
    let list = read(&bytes).get_stream::<MinidumpThreadList<'_>>().unwrap().threads[0].raw.stack;
    assert_eq!(list.start_of_memory_range + u64::from(list.memory.data_size), end);
}

#[test]
fn mappings_are_what_they_were() {
    for (name, snapshot) in samples::all() {
        let bytes = dump_of(&snapshot);
        let dump = read(&bytes);
        let list = dump.get_stream::<MinidumpMemoryInfoList<'_>>().unwrap();
        assert_eq!(list.iter().count(), snapshot.regions.len(), "{name}");
        for (region, found) in snapshot.regions.iter().zip(list.iter()) {
            assert_eq!(found.memory_range().map(|range| range.start), Some(region.start), "{name}");
            assert_eq!(found.raw.region_size, region.end - region.start, "{name}");
            let protection = (region.protection.read, region.protection.write, region.protection.execute);
            assert_eq!((found.is_readable(), found.is_writable(), found.is_executable()), protection, "{name}");
            assert_eq!(found.ty.contains(format::MemoryType::MEM_MAPPED), region.shared, "{name}");
        }
    }
}

#[test]
fn modules_are_what_they_were_and_can_be_looked_up_on_symbol_servers() {
    for (name, snapshot) in samples::all() {
        let bytes = dump_of(&snapshot);
        let dump = read(&bytes);
        let list = dump.get_stream::<MinidumpModuleList>().unwrap();
        assert_eq!(list.main_module().unwrap().code_file(), snapshot.images[0].path.to_str().unwrap(), "{name}");
        assert_eq!(list.iter().count(), snapshot.images.len(), "{name}");
        for (image, found) in snapshot.images.iter().zip(list.iter()) {
            assert_eq!(found.code_file(), image.path.to_str().unwrap(), "{name}");
            assert_eq!((found.base_address(), found.size()), (image.base, image.size), "{name}");
            if image.id != ImageId::None {
                assert_eq!(found.debug_file().unwrap(), image.path.to_str().unwrap(), "{name}");
            }
        }
        let first = list.main_module().unwrap();
        // Breakpad: a UUID's digits as dwarfdump prints them, then the age. Of a build id, the first 16 bytes are taken for a
        // GUID in memory, whose first three fields are little-endian.
        let (code, debug) = match snapshot.os {
            Os::Linux => ("8e9fd827446c24067541ac5390e6f527fb5947bb", "27D89F8E6C4406247541AC5390E6F5270"),
            Os::MacOs => ("8e0e7a442f3c3481a5d6010203040506", "8E0E7A442F3C3481A5D60102030405060"),
        };
        assert_eq!(first.code_identifier().unwrap().as_str(), code, "{name}");
        assert_eq!(first.debug_identifier().unwrap().breakpad().to_string(), debug, "{name}");
        assert_eq!(first.version().as_deref(), (snapshot.os == Os::MacOs).then_some("1351.2.3.0"), "{name}");
        assert!(list.iter().last().unwrap().debug_identifier().is_none(), "{name}");
    }
}

#[test]
fn annotations_are_where_dashboards_look_for_them() {
    let id = Uuid::from_bytes(samples::UUID);
    let known = [("ptype".to_owned(), "xpc".to_owned()), ("channel".to_owned(), "nightly".to_owned())];
    for (name, snapshot) in samples::all() {
        let extra = Extra { report_id: id, annotations: &known, ..Extra::default() };
        let bytes = dump_with(&snapshot, &extra);
        let dump = read(&bytes);
        let info = dump.get_stream::<MinidumpCrashpadInfo>().unwrap();
        assert_eq!(info.raw.report_id.to_string(), id.to_string(), "{name}");
        let found: Vec<(&str, &str)> = info.simple_annotations.iter().map(|(key, value)| (&**key, &**value)).collect();
        let expected = [
            // What the handler knows stands before what the victim says.
            ("channel", "nightly"),
            ("endpoint", "wg0 – Zürich"),
            ("group", "com.example"),
            ("prod", "Tunnel"),
            ("ptype", "xpc"),
            ("ver", "2.3.4"),
        ];
        assert_eq!(found, expected, "{name}");
        if snapshot.os == Os::MacOs {
            assert_eq!(info.module_list[0].module_index, 1, "{name}");
            assert!(info.module_list[0].list_annotations[0].starts_with("Assertion failed: (sane)"), "{name}");
        }
        let summary = check(&bytes).unwrap();
        assert_eq!(summary.report_id.as_deref(), Some("9b0e7a44-2f3c-3481-a5d6-010203040506"), "{name}");
        assert_eq!(summary.annotation("prod"), Some("Tunnel"), "{name}");
    }
}

#[test]
fn messages_of_libraries_are_in_the_mac_crash_info() {
    for (name, snapshot) in samples::all().into_iter().filter(|(_, snapshot)| snapshot.os == Os::MacOs) {
        let (state, warnings) = process(&dump_of(&snapshot));
        assert_eq!(warnings, "", "{name}");
        let records = state.mac_crash_info.unwrap();
        assert_eq!(records.len(), 1, "{name}");
        assert_eq!(records[0].module_path(), Some("/usr/lib/system/libsystem_c.dylib"), "{name}");
        let message = "Assertion failed: (sane), function main, file victim.c, line 7.";
        assert_eq!(records[0].message(), Some(message), "{name}");
    }
}

#[test]
fn more_and_longer_messages_than_the_format_holds_are_cut_and_noted() {
    let (_, mut snapshot) = samples::all().pop().unwrap();
    let path = snapshot.annotations.messages[0].0.clone();
    snapshot.annotations.messages = vec![(path, "é".repeat(5000) + "\0tail"); 30];
    let bytes = dump_of(&snapshot);
    let info = read(&bytes).get_stream::<MinidumpMacCrashInfo>().unwrap();
    assert_eq!(info.raw.len(), 20);
    // The readers' limit is 8192 bytes with the NUL; é has two.
    assert_eq!(info.raw[19].message(), Some(&*"é".repeat(4095)));
    assert!(soft_errors(&bytes).contains("holds 20 of 30 messages"));
}

#[test]
fn what_could_not_be_read_is_in_the_soft_errors() {
    let notes = [Gap::new("unwind", "thread 2: the stack is \"gone\"")];
    for (name, snapshot) in samples::all() {
        let bytes = dump_with(&snapshot, &Extra { notes: &notes, ..Extra::default() });
        let (state, _) = process(&bytes);
        let expected = serde_json::json!([
            { "part": "memory", "what": "0x10 is not mapped" },
            { "part": "unwind", "what": "thread 2: the stack is \"gone\"" },
        ]);
        assert_eq!(state.soft_errors, Some(expected), "{name}");
    }
}

fn soft_errors(bytes: &[u8]) -> String {
    read(bytes).get_stream::<MinidumpSoftErrors<'_>>().unwrap().as_ref().to_owned()
}

#[test]
fn files_of_proc_are_what_they_were() {
    for (name, snapshot) in samples::all().into_iter().filter(|(_, snapshot)| snapshot.os == Os::Linux) {
        let bytes = dump_of(&snapshot);
        let (state, warnings) = process(&bytes);
        assert_eq!(warnings, "", "{name}");
        assert_eq!(state.linux_memory_map_count, Some(2), "{name}");
        assert_eq!(state.system_info.cpu_microcode_version, Some(0xde), "{name}");
        assert_eq!(state.linux_standard_base.unwrap().id, "", "{name}");
        let dump = read(&bytes);
        // LinuxAuxv and LinuxCmdLine (Breakpad's minidump_format.h).
        assert_eq!(dump.get_raw_stream(0x4767_0008).unwrap(), b"0123456789abcdef", "{name}");
        assert_eq!(dump.get_raw_stream(0x4767_0006).unwrap(), b"victim\0--now\0", "{name}");
    }
}

#[test]
fn what_no_reader_knows_is_in_streams_of_our_own() {
    for (name, snapshot) in samples::all() {
        let bytes = dump_of(&snapshot);
        let dump = read(&bytes);
        let info: serde_json::Value = serde_json::from_slice(dump.get_raw_stream(0x414d_0001).unwrap()).unwrap();
        let fault = &info["threads"][0]["first_chance"];
        match snapshot.os {
            Os::Linux => {
                assert_eq!(
                    info["exception"],
                    serde_json::json!({"system": "linux", "signal": 11, "code": 1, "address": "0x10"})
                );
                assert_eq!(fault["exception"]["signal"], 11, "{name}");
                // Ids that fit need no second saying.
                assert_eq!(info["threads"].as_array().unwrap().len(), 1, "{name}");
            }
            Os::MacOs => {
                assert_eq!(
                    info["exception"],
                    serde_json::json!({"system": "mach", "kind": 10, "codes": ["0xb100001", "0x10"]})
                );
                assert_eq!(fault["exception"]["codes"], serde_json::json!(["0x1", "0x10"]), "{name}");
                assert_eq!(info["threads"][0]["queue"], "com.apple.main-thread", "{name}");
                assert_eq!(info["threads"][1], serde_json::json!({"thread": 1, "id": "0x100018a3f"}), "{name}");
                assert_eq!(info["threads"][2], serde_json::json!({"thread": 0x18a40, "id": "0x200018a40"}), "{name}");
            }
        }
        assert_eq!(fault["pc"], format!("{:#x}", snapshot.threads[0].state.registers.as_ref().unwrap().pc()), "{name}");
        assert_eq!(info["breadcrumbs"], serde_json::json!([[1.5, "handshake"]]), "{name}");
        assert_eq!(dump.get_raw_stream(0x414d_0002).unwrap(), [0xa5; 64], "{name}");
        if name.ends_with("x86_64") {
            let table = dump.get_raw_stream(0x414d_0003).unwrap();
            let word = |at: usize| u32::from_le_bytes(table[at..at + 4].try_into().unwrap());
            assert_eq!((word(0), word(4), word(8)), (1, expected_ids(snapshot.os)[0], 832), "{name}");
            assert_eq!(bytes[word(12) as usize..][..832], [0xab; 832], "{name}");
        }
    }
}

#[test]
fn the_collector_takes_what_we_write() {
    for (name, snapshot) in samples::all() {
        let summary = check(&dump_of(&snapshot)).unwrap();
        assert_eq!(summary.notes, Vec::<String>::new(), "{name}");
        assert_eq!(summary.threads, 3, "{name}");
        assert_eq!(summary.pid, Some(4321), "{name}");
        assert_eq!(summary.crashed_thread, Some((expected_ids(snapshot.os)[0], None)), "{name}");
        assert_eq!(summary.modules.len(), 3, "{name}");
        assert_eq!(summary.modules[0].base, samples::layout(snapshot.os, snapshot.cpu).program, "{name}");
        assert_eq!(summary.address, Some(0x10), "{name}");
    }
}

#[test]
fn a_program_counter_loses_its_authentication_and_a_link_register_keeps_it() {
    let (_, mut snapshot) = samples::all().pop().unwrap();
    let signed = 0x8a5b_0000_0000_0000;
    let Some(Registers::Arm64(registers)) = &mut snapshot.threads[0].state.registers else { panic!("not arm64") };
    let (pc, lr) = (registers.pc, registers.lr);
    (registers.pc, registers.lr) = (pc | signed, lr | signed);
    let (dump, raw) = context_of_first(&snapshot);
    assert_eq!((dump.pc, dump.iregs[30]), (pc, lr | signed));
    assert_eq!(raw, Some(format!("{:#x}", pc | signed)));
}

fn context_of_first(snapshot: &Snapshot) -> (CONTEXT_ARM64, Option<String>) {
    let bytes = dump_of(snapshot);
    let dump = read(&bytes);
    let info: serde_json::Value = serde_json::from_slice(dump.get_raw_stream(0x414d_0001).unwrap()).unwrap();
    let system = dump.get_stream::<MinidumpSystemInfo>().unwrap();
    let list = dump.get_stream::<MinidumpThreadList<'_>>().unwrap();
    let context = list.threads[0].context(&system, None).unwrap().into_owned();
    let MinidumpRawContext::Arm64(context) = context.raw else { panic!("not arm64") };
    (context, info["threads"][0]["raw_pc"].as_str().map(str::to_owned))
}
