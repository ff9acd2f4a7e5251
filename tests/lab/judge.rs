//! Compares every frame of a thread with the truth: the shadow stack of whoever ran it instruction by instruction.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use aftermach_handler::snapshot::{Memory, Registers, Snapshot, Stack, Thread, ThreadState};
use aftermach_handler::unwind::{Limits, Sections, Stop, Trace, unwind};

use crate::figures::{Figures, Wrong};
use crate::images::ImageBytes;
use crate::peer::Peer;

/// Judges one victim.
pub(crate) struct Judge {
    /// The victim, with one thread, whose registers and memory change with each step.
    pub(crate) snapshot: Snapshot,
    sections: Sections,
    limits: Limits,
    peer: Peer,
    images: Vec<ImageBytes>,
    /// How often a moment with the same pc and the same two nearest callers is judged; the others are passed over.
    times: u32,
    seen: HashMap<u64, u32>,
    pub(crate) figures: Figures,
}

impl Judge {
    /// Judges the victim that `snapshot` was taken of, before it began; of the moments with one pc and the
    /// same two nearest callers so many.
    pub(crate) fn new(snapshot: Snapshot, times: u32) -> Judge {
        let peer = Peer::new(&snapshot);
        let images = snapshot.images.iter().map(|image| ImageBytes::read(&image.path)).collect();
        // Frames are compared one by one: recursion must not be folded.
        let limits = Limits { fold_after: 1000, ..Limits::default() };
        let sections = Sections::new(&snapshot);
        Judge { snapshot, sections, limits, peer, images, times, seen: HashMap::new(), figures: Figures::default() }
    }

    /// Judges the walk over a thread that stands at `registers` on the stack bytes from `start` on. `callers` are its
    /// return addresses, the outermost first.
    pub(crate) fn judge(&mut self, registers: Registers, start: u64, bytes: Vec<u8>, callers: &[u64]) {
        let mut hasher = DefaultHasher::new();
        (registers.pc(), callers.iter().rev().take(2).collect::<Vec<_>>()).hash(&mut hasher);
        let seen = self.seen.entry(hasher.finish()).or_default();
        *seen += 1;
        if *seen > self.times {
            return;
        }
        let truth: Vec<u64> = [registers.pc()].into_iter().chain(callers.iter().rev().copied()).collect();
        self.stand(registers, start, bytes);
        let thread = self.snapshot.threads[0].state.registers.as_ref().unwrap();
        let memory = &self.snapshot.memory;
        let theirs = self.peer.walk(thread, &mut |address| memory.word(address));
        let trace = unwind(&self.snapshot, &self.sections, &self.limits).remove(0);

        let right =
            trace.stop == Stop::Root && trace.frames.iter().map(|frame| frame.address).eq(truth.iter().copied());
        let (image, address) = self.place(truth[0]);
        let wrong = (!right).then(|| self.wrong(&trace, &truth));
        self.figures.add((image, address), wrong, theirs.as_ref() == Some(&truth));
    }

    /// Has the victim's one thread stand at `registers` on the stack bytes from `start` on.
    pub(crate) fn stand(&mut self, registers: Registers, start: u64, bytes: Vec<u8>) {
        let end = start + bytes.len() as u64;
        let mut memory = Memory::default();
        memory.insert(start, bytes);
        self.snapshot.memory = memory;
        self.snapshot.threads = vec![Thread {
            state: ThreadState {
                id: 1,
                name: String::new(),
                registers: Some(registers),
                priority: None,
                queue: None,
                first_chance: None,
            },
            stack: Some(Stack { start, end, limit: end, overflowed: false }),
        }];
    }

    /// The image that an address lies in, and where in the image's own terms.
    fn place(&self, address: u64) -> (usize, u64) {
        let inside = |base: u64, size: u64| address >= base && address - base < size;
        let found = self.snapshot.images.iter().position(|image| inside(image.base, image.size));
        found.map_or((usize::MAX, address), |index| (index, address - self.snapshot.images[index].bias))
    }

    fn wrong(&self, trace: &Trace, truth: &[u64]) -> Wrong {
        let name = |address: u64| {
            let (image, address) = self.place(address);
            match self.images.get(image) {
                Some(image) => image.function(address).0.to_owned(),
                None => format!("{address:#x}"),
            }
        };
        let (image, address) = self.place(truth[0]);
        let place = self.images.get(image).map_or_else(
            || format!("{address:#x}"),
            |image| {
                let (function, offset) = image.function(address);
                format!("{function}+{offset:#x} ({address:#x})")
            },
        );
        let got: Vec<String> = trace
            .frames
            .iter()
            .skip(1)
            .take(3)
            .map(|frame| format!("{} {:?}", name(frame.address), frame.trust))
            .collect();
        let same = trace.frames.iter().zip(truth).take_while(|(frame, truth)| frame.address == **truth).count();
        let what = format!(
            "{} of {} frames right, then {:?}; callers {:?}, got {got:?}",
            same,
            truth.len(),
            trace.stop,
            truth.iter().skip(1).take(2).map(|address| name(*address - 1)).collect::<Vec<_>>(),
        );
        Wrong { place, what }
    }
}
