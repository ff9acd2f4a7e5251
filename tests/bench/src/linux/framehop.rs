//! Plain framehop over a snapshot's stacks, as a profiler would use it.

use std::fs::File;
use std::ops::Range;

use aftermach_handler::snapshot::{Image, ImageFile, Registers, Snapshot, Thread};
use aftermach_protocol::platform::Cpu;
use framehop::aarch64::{CacheAarch64, UnwindRegsAarch64, UnwinderAarch64};
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, Module, Unwinder};
use object::read::ReadCache;
use object::{Object, ObjectSection};

/// An unwinder that knows the snapshot's images.
pub(crate) struct Framehop {
    x86_64: UnwinderX86_64<Vec<u8>>,
    x86_64_cache: CacheX86_64,
    arm64: UnwinderAarch64<Vec<u8>>,
    arm64_cache: CacheAarch64,
}

impl Framehop {
    /// Reads what framehop asks for of each image that has a file.
    pub(crate) fn new(snapshot: &Snapshot) -> anyhow::Result<Framehop> {
        let mut framehop = Framehop {
            x86_64: UnwinderX86_64::new(),
            x86_64_cache: CacheX86_64::new(),
            arm64: UnwinderAarch64::new(),
            arm64_cache: CacheAarch64::new(),
        };
        for image in snapshot.images.iter().filter(|image| image.file == ImageFile::Same) {
            match snapshot.cpu {
                Cpu::X86_64 => framehop.x86_64.add_module(module(image)?),
                Cpu::Arm64 => framehop.arm64.add_module(module(image)?),
            }
        }
        Ok(framehop)
    }

    /// The addresses of every thread's frames.
    pub(crate) fn walk(&mut self, snapshot: &Snapshot) -> Vec<Vec<u64>> {
        let walk = |thread: &Thread| match &thread.state.registers {
            Some(Registers::X86_64(registers)) => {
                let start = UnwindRegsX86_64::new(registers.rip, registers.rsp, registers.rbp);
                walk(&self.x86_64, &mut self.x86_64_cache, registers.rip, start, snapshot)
            }
            Some(Registers::Arm64(registers)) => {
                let start = UnwindRegsAarch64::new(registers.lr, registers.sp, registers.fp);
                walk(&self.arm64, &mut self.arm64_cache, registers.pc, start, snapshot)
            }
            None => Vec::new(),
        };
        snapshot.threads.iter().map(walk).collect()
    }
}

fn walk<U: Unwinder>(
    unwinder: &U,
    cache: &mut U::Cache,
    pc: u64,
    registers: U::UnwindRegs,
    snapshot: &Snapshot,
) -> Vec<u64> {
    let mut read = |address| snapshot.memory.word(address).ok_or(());
    let mut frames = unwinder.iter_frames(pc, registers, cache, &mut read);
    let mut addresses = Vec::new();
    while let Ok(Some(frame)) = frames.next() {
        addresses.push(frame.address());
    }
    addresses
}

fn module(image: &Image) -> anyhow::Result<Module<Vec<u8>>> {
    let cache = ReadCache::new(File::open(&image.path)?);
    let file = object::File::parse(&cache)?;
    let section = |name: &str| {
        let section = file.section_by_name(name)?;
        let range: Range<u64> = section.address()..section.address() + section.size();
        Some((range, section.data().ok()?.to_vec()))
    };
    let split = |section: Option<(Range<u64>, Vec<u8>)>| section.unzip();
    let (text_svma, text) = split(section(".text"));
    let (eh_frame_svma, eh_frame) = split(section(".eh_frame"));
    let (eh_frame_hdr_svma, eh_frame_hdr) = split(section(".eh_frame_hdr"));
    let info = ExplicitModuleSectionInfo {
        base_svma: 0,
        text_svma,
        text,
        got_svma: section(".got").map(|(range, _)| range),
        eh_frame_svma,
        eh_frame,
        eh_frame_hdr_svma,
        eh_frame_hdr,
        ..ExplicitModuleSectionInfo::default()
    };
    let name = image.path.to_string_lossy().into_owned();
    Ok(Module::new(name, image.base..image.base + image.size, image.bias, info))
}
