//! A made-up dead process, and the ways to change it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use aftermach_protocol::exception::LinuxSignal;
use aftermach_protocol::exception::linux::Sender;
use aftermach_protocol::platform::{Cpu, Os};
use aftermach_protocol::product::Product;

use crate::report::{Input, Report, build};
use crate::snapshot::*;
use crate::symbols::Symbol;
use crate::unwind::{Frame, Stop, Trace, Trust};

pub(super) const TEXT: u64 = 0x40_2000;
pub(super) const READ_ONLY: u64 = 0x40_8000;
pub(super) const DATA: u64 = 0x40_a000;
pub(super) const LIBC: u64 = 0x7f00_0000_0000;
pub(super) const CUT_FILE: u64 = 0x7f10_0000_0000;
pub(super) const GUARD: u64 = 0x7f20_0000_0000;
pub(super) const STACK: u64 = GUARD + 0x1000;
pub(super) const STACK_END: u64 = STACK + 0x20_0000;
pub(super) const MAIN_STACK: u64 = 0x7ffe_0000_0000;
/// An ordinary stack pointer of the thread that dies.
pub(super) const SP: u64 = STACK_END - 0x400;

/// A frame: address, how it was found, function, source.
pub(super) type Called<'a> = (u64, Trust, &'a str, Option<(&'a str, u32)>);

pub(super) struct Victim {
    pub(super) snapshot: Snapshot,
    pub(super) traces: Vec<Trace>,
    /// Names by address.
    pub(super) names: Vec<(u64, Vec<Symbol>)>,
}

fn time(milliseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_323_045_006 + milliseconds)
}

fn region(start: u64, size: u64, protection: &str, path: &str) -> Region {
    Region {
        start,
        end: start + size,
        protection: Protection {
            read: protection.contains('r'),
            write: protection.contains('w'),
            execute: protection.contains('x'),
        },
        shared: false,
        tag: 0,
        offset: 0,
        path: (!path.is_empty()).then(|| PathBuf::from(path)),
    }
}

fn image(path: &str, base: u64, size: u64, kind: ImageKind, id: ImageId) -> Image {
    let file = ImageFile::Same;
    Image { path: path.into(), kind, base, size, bias: base, id, version: None, file, sections: Vec::new() }
}

pub(super) fn symbol(function: &str, offset: u64, source: Option<(&str, u32)>) -> Symbol {
    let source = source.map(|(file, line)| (file.to_owned(), line));
    Symbol { function: Some(function.to_owned()), offset: Some(offset), source, inlined: false }
}

pub(super) fn frame(address: u64, trust: Trust) -> Frame {
    let image = match address {
        0x40_0000..0x41_0000 => Some(0),
        LIBC..0x7f00_0020_0000 => Some(1),
        _ => None,
    };
    Frame { address, raw: address, is_return_address: trust != Trust::Context, sp: 0, trust, image }
}

impl Victim {
    /// Thread "io-worker" of tunneld, in `tunnel::Peer::send`, with `code` as the bytes at its pc, and a main thread that waits.
    pub(super) fn new(code: &[u8]) -> Victim {
        let registers = X86_64Registers { rip: TEXT + 0x100, rsp: SP, rbp: SP + 0x40, ..X86_64Registers::default() };
        let thread = |id, name: &str, registers| Thread {
            state: ThreadState {
                id,
                name: name.to_owned(),
                registers: Some(Registers::X86_64(Box::new(registers))),
                priority: Some(0),
                queue: None,
                first_chance: None,
            },
            stack: None,
        };
        let mut memory = Memory::default();
        memory.insert(TEXT + 0x100, [code, &[0x90; 32]].concat());
        let exception = Exception::Linux(LinuxSignal { signal: 11, code: 1, address: Some(0), sender: None });
        let executable = ImageId::BuildId((1..=20).collect());
        let snapshot = Snapshot {
            os: Os::Linux,
            cpu: Cpu::X86_64,
            system: System {
                version: "6.1.0-13-amd64".to_owned(),
                build: "#1 SMP PREEMPT_DYNAMIC Debian 6.1.55-1 (2023-09-29)".to_owned(),
                name: "Debian GNU/Linux 12 (bookworm)".to_owned(),
                cpu_model: "AMD EPYC 7B13".to_owned(),
                cpu_count: 8,
                page_size: 4096,
                ..System::default()
            },
            process: Process {
                pid: 4242,
                parent: 1,
                name: "tunneld".to_owned(),
                path: "/opt/tunnel/bin/tunneld".into(),
                arguments: vec![b"tunneld".to_vec(), b"--config".to_vec(), b"my \xff\x1b[2Jfile".to_vec()],
                started: Some(time(0) - Duration::from_millis(75_250)),
                uptime: Some(Duration::from_millis(75_250)),
                uid: 501,
                effective_uid: 501,
                cpu_time: Some((Duration::from_millis(1500), Duration::from_millis(250))),
                ..Process::default()
            },
            death: Death {
                pid: 4242,
                thread: Some(4243),
                exception,
                signal: 11,
                time: time(0),
                gathering: Duration::from_micros(150),
            },
            threads: vec![
                thread(4242, "tunneld", X86_64Registers { rsp: MAIN_STACK + 0x800, ..registers.clone() }),
                thread(4243, "io-worker", registers),
            ],
            images: vec![
                image("/opt/tunnel/bin/tunneld", 0x40_0000, 0x1_0000, ImageKind::Executable, executable),
                image("/usr/lib/libc.so.6", LIBC, 0x20_0000, ImageKind::Library, ImageId::None),
                image("[vdso]", 0x7fff_0000_0000, 0x1000, ImageKind::Vdso, ImageId::None),
            ],
            shared_cache: None,
            regions: vec![
                region(0x40_0000, 0x2000, "r", "/opt/tunnel/bin/tunneld"),
                region(TEXT, 0x6000, "rx", "/opt/tunnel/bin/tunneld"),
                region(READ_ONLY, 0x2000, "r", "/opt/tunnel/bin/tunneld"),
                region(DATA, 0x6000, "rw", "/opt/tunnel/bin/tunneld"),
                region(LIBC, 0x20_0000, "rx", "/usr/lib/libc.so.6"),
                region(CUT_FILE, 0x2000, "r", "/tmp/routes.db"),
                region(GUARD, 0x1000, "", ""),
                region(STACK, STACK_END - STACK, "rw", ""),
                region(MAIN_STACK, 0x2_1000, "rw", "[stack]"),
            ],
            memory,
            annotations: Annotations::default(),
            gaps: Vec::new(),
            times: Times {
                died: time(0),
                gathering: Duration::from_micros(150),
                copying: Duration::from_micros(900),
                held: Duration::from_micros(1250),
            },
        };
        let trace = |thread, frames| Trace { thread, frames, folds: Vec::new(), stop: Stop::Root };
        let wait = vec![
            frame(LIBC + 0x1_0000, Trust::Context),
            frame(TEXT + 0x900, Trust::UnwindInfo),
            frame(LIBC + 0x2_0000, Trust::FramePointer),
        ];
        let work = vec![
            frame(TEXT + 0x100, Trust::Context),
            frame(TEXT + 0x200, Trust::UnwindInfo),
            frame(LIBC + 0x3_0000, Trust::UnwindInfo),
        ];
        let names = vec![
            (LIBC + 0x1_0000, vec![symbol("__poll", 0x4f, None)]),
            (TEXT + 0x900, vec![symbol("tunneld::main", 0x120, Some(("src/main.rs", 31)))]),
            (LIBC + 0x2_0000, vec![symbol("__libc_start_call_main", 0x7a, None)]),
            (TEXT + 0x100, vec![symbol("tunnel::Peer::send", 0x1c, Some(("src/peer.rs", 88)))]),
            (TEXT + 0x200, vec![symbol("tunnel::worker::h0123456789abcdef", 0x40, Some(("src/worker.rs", 12)))]),
            (LIBC + 0x3_0000, vec![symbol("start_thread", 0x2f3, None)]),
        ];
        Victim { snapshot, traces: vec![trace(4242, wait), trace(4243, work)], names }
    }

    pub(super) fn registers(&mut self) -> &mut X86_64Registers {
        match self.snapshot.threads[1].state.registers.as_mut().unwrap() {
            Registers::X86_64(registers) => registers,
            Registers::Arm64(_) => unreachable!(),
        }
    }

    /// Dies of a signal that an instruction raised.
    pub(super) fn fault(mut self, signal: i32, code: i32, address: Option<u64>) -> Victim {
        self.snapshot.death.exception = Exception::Linux(LinuxSignal { signal, code, address, sender: None });
        self.snapshot.death.signal = signal;
        self
    }

    /// Dies of a signal that a process sent.
    pub(super) fn sent(mut self, signal: i32, code: i32, pid: i32) -> Victim {
        let sender = Some(Sender { pid, uid: 1000 });
        self.snapshot.death.exception = Exception::Linux(LinuxSignal { signal, code, address: None, sender });
        self.snapshot.death.signal = signal;
        self
    }

    /// The crashed thread's frames, the innermost first.
    pub(super) fn stack(mut self, frames: &[Called<'_>]) -> Victim {
        self.traces[1].frames = frames.iter().map(|(address, trust, ..)| frame(*address, *trust)).collect();
        self.names = frames
            .iter()
            .filter(|(_, _, name, _)| !name.is_empty())
            .map(|(address, _, name, source)| (*address, vec![symbol(name, 0x10, *source)]))
            .collect();
        self
    }

    pub(super) fn report(&self) -> Report {
        let product = Product::new("com.example", "Tunnel", "canary").unwrap();
        let id = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
        let input = Input { id, product: Some(&product), snapshot: &self.snapshot, traces: &self.traces };
        build(&input, &mut |frame| {
            let found = self.names.iter().find(|(address, _)| *address == frame.address);
            found.map(|(_, symbols)| symbols.clone()).unwrap_or_default()
        })
    }

    pub(super) fn summary(&self) -> String {
        self.report().exception.summary
    }
}
