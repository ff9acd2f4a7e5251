//! Snapshots made by hand: one death of each kind of victim, with every part filled in.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use aftermach_handler::snapshot::*;
use aftermach_protocol::exception::linux::Sender;
use aftermach_protocol::exception::{LinuxSignal, MachException};
use aftermach_protocol::platform::{Cpu, Os};

/// 2025-04-16 12:00:00 UTC, and a fraction.
pub(crate) fn death_time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_744_804_800_250)
}

/// The four kinds, by name.
pub(crate) fn all() -> Vec<(&'static str, Snapshot)> {
    vec![
        ("linux-x86_64", sample(Os::Linux, Cpu::X86_64)),
        ("linux-arm64", sample(Os::Linux, Cpu::Arm64)),
        ("macos-x86_64", sample(Os::MacOs, Cpu::X86_64)),
        ("macos-arm64", sample(Os::MacOs, Cpu::Arm64)),
    ]
}

/// Ids as each system gives them. The last two on macOS have the same low half.
fn ids(os: Os) -> [u64; 3] {
    match os {
        Os::Linux => [4321, 4322, 4330],
        Os::MacOs => [0x1_8a3f, 0x1_0001_8a3f, 0x2_0001_8a40],
    }
}

/// Where things are: program, library, stacks.
pub(crate) struct Layout {
    pub(crate) program: u64,
    pub(crate) library: u64,
    pub(crate) stacks: u64,
}

pub(crate) fn layout(os: Os, cpu: Cpu) -> Layout {
    match (os, cpu) {
        (Os::Linux, Cpu::X86_64) => {
            Layout { program: 0x5555_5555_4000, library: 0x7fff_f7c0_0000, stacks: 0x7fff_f000_0000 }
        }
        (Os::Linux, Cpu::Arm64) => {
            Layout { program: 0xaaaa_aaaa_0000, library: 0xffff_f7c0_0000, stacks: 0xffff_f000_0000 }
        }
        (Os::MacOs, Cpu::X86_64) => {
            Layout { program: 0x1_0a00_0000, library: 0x7ff8_0a00_0000, stacks: 0x7ff7_b000_0000 }
        }
        (Os::MacOs, Cpu::Arm64) => Layout { program: 0x1_0000_0000, library: 0x1_8a00_0000, stacks: 0x1_6f00_0000 },
    }
}

pub(crate) fn sample(os: Os, cpu: Cpu) -> Snapshot {
    let at = layout(os, cpu);
    let mut memory = Memory::default();
    let threads =
        ids(os).into_iter().enumerate().map(|(n, id)| thread(os, cpu, &at, n as u64, id, &mut memory)).collect();
    memory.insert(at.program + 0x1100 - 128, code(cpu));
    let exception = match os {
        Os::Linux => Exception::Linux(LinuxSignal { signal: 11, code: 1, address: Some(0x10), sender: None }),
        // KERN_INVALID_ADDRESS at 0x10, as SIGSEGV.
        Os::MacOs => Exception::Mach(MachException { kind: 10, codes: [0x0b10_0001, 0x10] }),
    };
    Snapshot {
        os,
        cpu,
        system: system(os, cpu),
        process: process(os, &at),
        death: Death {
            pid: 4321,
            thread: Some(ids(os)[0]),
            exception,
            signal: 11,
            time: death_time(),
            gathering: Duration::from_micros(300),
        },
        threads,
        images: images(os, &at),
        shared_cache: None,
        regions: regions(os, &at),
        memory,
        annotations: annotations(os),
        gaps: vec![Gap::new("memory", "0x10 is not mapped")],
        times: Times {
            died: death_time(),
            gathering: Duration::from_micros(300),
            copying: Duration::from_micros(700),
            held: Duration::from_micros(1100),
        },
    }
}

/// 256 bytes of no-operations with a load through the first argument in the middle.
fn code(cpu: Cpu) -> Vec<u8> {
    match cpu {
        Cpu::X86_64 => {
            let mut code = vec![0x90; 256];
            // mov eax, dword ptr [rdi]
            code[128..130].copy_from_slice(&[0x8b, 0x07]);
            code
        }
        Cpu::Arm64 => {
            let mut code = 0xd503_201f_u32.to_le_bytes().repeat(64);
            // ldr w0, [x0]
            code[128..132].copy_from_slice(&0xb940_0000_u32.to_le_bytes());
            code
        }
    }
}

/// A thread in the program (the first) or the library, whose frame pointer leads to one caller in the program.
fn thread(os: Os, cpu: Cpu, at: &Layout, n: u64, id: u64, memory: &mut Memory) -> Thread {
    let (start, sp) = (at.stacks + n * 0x10_0000, at.stacks + n * 0x10_0000 + Registers::RED_ZONE);
    let mut stack: Vec<u8> = (0..0x1000_u32).map(|byte| (byte as u64 * 7 + n) as u8).collect();
    let fp = sp + 0x40;
    let mut put = |address: u64, value: u64| {
        let offset = (address - start) as usize;
        stack[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    };
    put(fp, fp + 0x40);
    put(fp + 8, at.program + 0x1200);
    put(fp + 0x40, 0);
    put(fp + 0x48, 0);
    memory.insert(start, stack);
    let pc = if n == 0 { at.program + 0x1100 } else { at.library + 0x2000 + n };
    let registers = match cpu {
        Cpu::X86_64 => Registers::X86_64(Box::new(x86_64(pc, sp, fp, n))),
        Cpu::Arm64 => Registers::Arm64(Box::new(arm64(pc, sp, fp, at, n))),
    };
    let name = ["", "worker ü🦀", "com.apple.NSURLConnectionLoader"][n as usize];
    let queue = (os == Os::MacOs && n == 0).then(|| "com.apple.main-thread".to_owned());
    Thread {
        state: ThreadState {
            id,
            name: name.to_owned(),
            registers: Some(registers),
            priority: Some(if os == Os::Linux { -5 } else { 31 }),
            queue,
            first_chance: (n == 0).then(|| Fault {
                exception: match os {
                    Os::Linux => {
                        Exception::Linux(LinuxSignal { signal: 11, code: 1, address: Some(0x10), sender: None })
                    }
                    Os::MacOs => Exception::Mach(MachException { kind: 1, codes: [1, 0x10] }),
                },
                pc,
                sp,
                time: death_time() - Duration::from_millis(1),
            }),
        },
        stack: Some(Stack { start, end: start + 0x1000, limit: start + 0x2000, overflowed: false }),
    }
}

fn x86_64(pc: u64, sp: u64, fp: u64, n: u64) -> X86_64Registers {
    let mut fxsave = Box::new([0_u8; 512]);
    fxsave[0..2].copy_from_slice(&0x037f_u16.to_le_bytes());
    fxsave[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
    // xmm0 to xmm15 are at 160 (Intel SDM 1, table 10-2).
    for register in 0..16 {
        fxsave[160 + register * 16..][..16].copy_from_slice(&vector(register, n).to_le_bytes());
    }
    X86_64Registers {
        rax: 0xa,
        rbx: 0xb,
        rcx: 0xc,
        rdx: 0xd,
        rsi: 0x51,
        rdi: 0x10,
        rbp: fp,
        rsp: sp,
        r8: 0x1008 + n,
        r9: 0x1009,
        r10: 0x1010,
        r11: 0x1011,
        r12: 0x1012,
        r13: 0x1013,
        r14: 0x1014,
        r15: u64::MAX,
        rip: pc,
        rflags: 0x1_0246,
        cs: 0x33,
        ss: 0x2b,
        ds: 1,
        es: 2,
        fs: 3,
        gs: 4,
        fs_base: 0x7fff_f7d8_a740,
        gs_base: 0x7ff8_4e5a_6340,
        fxsave: Some(fxsave),
        xsave: (n == 0).then(|| vec![0xab; 832].into()),
        fault: Some((14, 4, 0x10)),
    }
}

fn arm64(pc: u64, sp: u64, fp: u64, at: &Layout, n: u64) -> Arm64Registers {
    let mut x: [u64; 29] = std::array::from_fn(|register| 0x1000 + register as u64 + n);
    x[0] = 0x10;
    Arm64Registers {
        x,
        fp,
        lr: at.program + 0x1180,
        sp,
        pc,
        cpsr: 0x6000_0000,
        float: Some(Box::new((std::array::from_fn(|register| vector(register, n)), 0x10, 0x0300_0000))),
        fault: Some((0x10, 0x9200_0006)),
    }
}

/// A value that no other vector register has.
pub(crate) fn vector(register: usize, n: u64) -> u128 {
    0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100 ^ (register as u128) << 64 ^ u128::from(n) << 32
}

fn system(os: Os, cpu: Cpu) -> System {
    let text = |linux: &str, mac: &str| if os == Os::Linux { linux.to_owned() } else { mac.to_owned() };
    let vendor = *b"GenuineIntel";
    System {
        version: text("6.1.0-13-amd64", "15.4.1"),
        build: text("#1 SMP PREEMPT_DYNAMIC Debian 6.1.55-1", "24E263"),
        name: text("Debian GNU/Linux 12 (bookworm)", "macOS"),
        cpu_model: "A processor".to_owned(),
        // Family 6, model 0x9e, stepping 10: an i7-8700.
        cpuid: (cpu == Cpu::X86_64).then_some(CpuId { vendor, version: 0x0009_06ea, features: 0xbfeb_fbff }),
        cpu_count: 300,
        machine: (os == Os::MacOs).then(|| "Mac16,13".to_owned()),
        page_size: 4096,
        pointer_mask: (cpu == Cpu::Arm64).then_some(0x0000_ffff_ffff_ffff),
    }
}

fn process(os: Os, at: &Layout) -> Process {
    let maps = format!(
        "{:x}-{:x} r-xp 00000000 08:01 131 /usr/bin/victim\n{:x}-{:x} r-xp 00000000 08:01 132 /usr/lib/libc.so.6\n",
        at.program,
        at.program + 0x5000,
        at.library,
        at.library + 0x20_0000
    );
    let files = [
        (LinuxFile::Maps, maps.as_str()),
        (LinuxFile::Status, "Name:\tvictim\nPid:\t4321\n"),
        (LinuxFile::CommandLine, "victim\0--now\0"),
        (LinuxFile::CpuInfo, "processor\t: 0\nmicrocode\t: 0xde\n"),
        (LinuxFile::Release, "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n"),
        (LinuxFile::Limits, "Limit                     Soft Limit           Hard Limit           Units     \n"),
        (LinuxFile::Auxv, "0123456789abcdef"),
    ];
    Process {
        pid: 4321,
        parent: 1,
        name: "victim".to_owned(),
        path: PathBuf::from("/usr/bin/victim"),
        arguments: vec![b"victim".to_vec(), b"--now".to_vec()],
        started: Some(death_time() - Duration::from_secs(3600)),
        uptime: Some(Duration::from_secs(3600)),
        uid: 1000,
        effective_uid: 1000,
        nice: 0,
        role: None,
        cpu_time: Some((Duration::from_secs(12), Duration::from_secs(3))),
        linux_files: if os == Os::Linux {
            files.map(|(file, text)| (file, text.as_bytes().to_vec())).to_vec()
        } else {
            Vec::new()
        },
    }
}

/// Identifiers in the order in which `dwarfdump --uuid` and `file` print them.
pub(crate) const UUID: [u8; 16] =
    [0x9b, 0x0e, 0x7a, 0x44, 0x2f, 0x3c, 0x34, 0x81, 0xa5, 0xd6, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06];
pub(crate) const BUILD_ID: [u8; 20] = [
    0x8e, 0x9f, 0xd8, 0x27, 0x44, 0x6c, 0x24, 0x06, 0x75, 0x41, 0xac, 0x53, 0x90, 0xe6, 0xf5, 0x27, 0xfb, 0x59, 0x47,
    0xbb,
];

fn images(os: Os, at: &Layout) -> Vec<Image> {
    let id = |first: u8| match os {
        Os::Linux => {
            let mut id = BUILD_ID.to_vec();
            id[0] = first;
            ImageId::BuildId(id)
        }
        Os::MacOs => {
            let mut id = UUID;
            id[0] = first;
            ImageId::Uuid(id)
        }
    };
    let image = |path: &str, kind, base, size, id| Image {
        path: PathBuf::from(path),
        kind,
        base,
        size,
        bias: base,
        id,
        version: (os == Os::MacOs).then(|| "1351.2.3".to_owned()),
        file: ImageFile::Same,
        sections: Vec::new(),
    };
    let (program, library) = match os {
        Os::Linux => ("/usr/bin/victim", "/usr/lib/libc.so.6"),
        Os::MacOs => ("/Applications/Victim.app/Contents/MacOS/Victim", "/usr/lib/system/libsystem_c.dylib"),
    };
    vec![
        image(program, ImageKind::Executable, at.program, 0x5000, id(0x8e)),
        image(library, ImageKind::Library, at.library, 0x20_0000, id(0x9b)),
        image("/opt/späße/no-id.so", ImageKind::Library, at.library + 0x40_0000, 0x3000, ImageId::None),
    ]
}

fn regions(os: Os, at: &Layout) -> Vec<Region> {
    let region = |start, size, read, write, execute, shared, path: Option<&str>| Region {
        start,
        end: start + size,
        protection: Protection { read, write, execute },
        shared,
        tag: 0,
        offset: 0,
        path: path.map(PathBuf::from),
    };
    let mut regions = vec![
        region(at.program, 0x5000, true, false, true, false, Some("/usr/bin/victim")),
        region(at.library, 0x20_0000, true, false, true, os == Os::MacOs, Some("/usr/lib/libc.so.6")),
        region(at.stacks - 0x1000, 0x1000, false, false, false, false, None),
        region(at.stacks, 0x2000, true, true, false, false, Some("[stack]")),
        region(at.stacks + 0x10_0000, 0x2000, true, true, false, false, None),
        region(at.stacks + 0x20_0000, 0x2000, true, true, false, false, None),
    ];
    regions.sort_by_key(|region| region.start);
    regions
}

fn annotations(os: Os) -> Annotations {
    let messages = match os {
        Os::Linux => Vec::new(),
        Os::MacOs => {
            let path = PathBuf::from("/usr/lib/system/libsystem_c.dylib");
            vec![(path, "Assertion failed: (sane), function main, file victim.c, line 7.".to_owned())]
        }
    };
    Annotations {
        installer: Some(4242),
        product: Some(("com.example".to_owned(), "Tunnel".to_owned(), "canary".to_owned())),
        version: Some("2.3.4".to_owned()),
        values: vec![("endpoint".to_owned(), "wg0 – Zürich".to_owned()), ("ver".to_owned(), "a lie".to_owned())],
        breadcrumbs: vec![(Duration::from_millis(1500), "handshake".to_owned())],
        messages,
        raw: vec![0xa5; 64],
    }
}

/// An abort: SIGABRT that the process sent itself.
pub(crate) fn aborted(os: Os, cpu: Cpu) -> Snapshot {
    let mut snapshot = sample(os, cpu);
    snapshot.death.signal = 6;
    snapshot.death.exception = match os {
        Os::Linux => {
            let sender = Some(Sender { pid: 4321, uid: 1000 });
            Exception::Linux(LinuxSignal { signal: 6, code: -6, address: None, sender })
        }
        Os::MacOs => Exception::Mach(MachException { kind: 10, codes: [0x0600_0000, 0] }),
    };
    snapshot
}

/// As the snapshot, but of the crashed thread only the id is known, one thread has no stack, and another no registers.
pub(crate) fn unreadable(mut snapshot: Snapshot) -> Snapshot {
    snapshot.threads[0].state.registers = None;
    snapshot.threads[0].stack = None;
    snapshot.threads[1].stack = None;
    snapshot.threads[2].state.registers = None;
    snapshot
}
