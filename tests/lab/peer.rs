//! framehop 0.16 alone on the same stacks: what is known to be wrong about once in 60 to 250 addresses.

use std::path::Path;

use aftermach_handler::snapshot::{Registers, Snapshot};
use aftermach_protocol::platform::Cpu;
use framehop::aarch64::{CacheAarch64, PtrAuthMask, UnwindRegsAarch64, UnwinderAarch64};
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder};

use crate::images::ImageBytes;

/// More frames than any victim has: a chain that is longer has gone round.
const FRAMES: usize = 200;

/// framehop with the images of one victim.
pub(crate) enum Peer {
    X86_64(Box<(UnwinderX86_64<Vec<u8>>, CacheX86_64)>),
    Arm64(Box<(UnwinderAarch64<Vec<u8>>, CacheAarch64)>),
}

impl Peer {
    pub(crate) fn new(snapshot: &Snapshot) -> Peer {
        let modules = snapshot.images.iter().map(|image| module(&image.path, image.base, image.size));
        match snapshot.cpu {
            Cpu::X86_64 => {
                let mut unwinder = UnwinderX86_64::new();
                modules.for_each(|module| unwinder.add_module(module));
                Peer::X86_64(Box::new((unwinder, CacheX86_64::new())))
            }
            Cpu::Arm64 => {
                let mut unwinder = UnwinderAarch64::new();
                modules.for_each(|module| unwinder.add_module(module));
                Peer::Arm64(Box::new((unwinder, CacheAarch64::new())))
            }
        }
    }

    /// The addresses of a thread's frames, if the walk came to a clean end.
    pub(crate) fn walk(&mut self, registers: &Registers, read: &mut dyn FnMut(u64) -> Option<u64>) -> Option<Vec<u64>> {
        let read = &mut |address| read(address).ok_or(());
        match (self, registers) {
            (Peer::X86_64(peer), Registers::X86_64(r)) => {
                let (unwinder, cache) = &mut **peer;
                let registers = UnwindRegsX86_64::new(r.rip, r.rsp, r.rbp);
                collect(unwinder.iter_frames(r.rip, registers, cache, read))
            }
            (Peer::Arm64(peer), Registers::Arm64(r)) => {
                let (unwinder, cache) = &mut **peer;
                let registers = UnwindRegsAarch64::new_with_ptr_auth_mask(PtrAuthMask::new_24_40(), r.lr, r.sp, r.fp);
                collect(unwinder.iter_frames(r.pc, registers, cache, read))
            }
            _ => None,
        }
    }
}

fn collect<U: Unwinder, F: FnMut(u64) -> Result<u64, ()>>(
    mut frames: framehop::UnwindIterator<'_, '_, '_, U, F>,
) -> Option<Vec<u64>> {
    let mut addresses = Vec::new();
    while addresses.len() < FRAMES {
        match frames.next() {
            Ok(Some(FrameAddress::InstructionPointer(address))) => addresses.push(address),
            Ok(Some(FrameAddress::ReturnAddress(address))) => addresses.push(address.get()),
            Ok(None) => return Some(addresses),
            Err(_) => return None,
        }
    }
    None
}

fn module(path: &Path, base: u64, size: u64) -> Module<Vec<u8>> {
    let image = ImageBytes::read(path);
    let range = |name: &str| image.section(name).map(|(range, _)| range);
    let (text_segment_svma, text_segment) = image.text_segment();
    let sections = ExplicitModuleSectionInfo {
        base_svma: text_segment_svma.start,
        text_svma: range("__text"),
        text: image.section("__text").map(|(_, bytes)| bytes),
        stubs_svma: range("__stubs"),
        stub_helper_svma: range("__stub_helper"),
        got_svma: range("__got"),
        unwind_info: image.section("__unwind_info").map(|(_, bytes)| bytes),
        eh_frame_svma: range("__eh_frame"),
        eh_frame: image.section("__eh_frame").map(|(_, bytes)| bytes),
        eh_frame_hdr_svma: None,
        eh_frame_hdr: None,
        debug_frame: None,
        text_segment_svma: Some(text_segment_svma),
        text_segment: Some(text_segment),
    };
    Module::new(path.display().to_string(), base..base + size, base, sections)
}
