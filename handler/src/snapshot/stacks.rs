//! Which bytes are a thread's stack.
//!
//! ```text
//!   low                                                                              high
//!   | guard: not readable | ......... | red zone | frames of the thread ... | its first |
//!                          ^ region              ^ sp                        region end ^
//! ```
//! The copy starts at the red zone and ends with the mapping, or where a limit bites: what is nearest the stack pointer is
//! what unwinding needs first. A thread that has overflowed its stack has its stack pointer in the guard, or below it in
//! nothing; its stack is the next mapping above, from its first byte.

use aftermach_protocol::platform::{Cpu, Os};

use super::capture::Capture;
use super::{Region, Registers, Stack, Thread, ThreadState};

/// Where the bytes are copied from, before the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    start: u64,
    /// End of the stack's mapping.
    limit: u64,
    overflowed: bool,
}

impl Extent {
    fn size(self) -> u64 {
        self.limit - self.start
    }
}

/// Copies every thread's stack, that of the thread `crashed` first.
pub(super) fn copy(capture: &mut Capture<'_>, states: Vec<ThreadState>, crashed: Option<u64>) -> Vec<Thread> {
    let extents: Vec<Option<Extent>> = states.iter().map(|state| extent_of(capture, state)).collect();
    let first = states.iter().position(|state| Some(state.id) == crashed);
    let limits = capture.limits;
    let demand = |index: usize| extents[index].map_or(0, |extent| extent.size().min(limits.stack));
    let own = first.and_then(|index| extents[index]).map_or(0, |extent| extent.size().min(limits.crashed_stack));
    let others = (0..states.len()).filter(|index| Some(*index) != first);
    let share = fair_share(limits.stacks.saturating_sub(own), others.clone().map(demand).collect());

    let wanted: Vec<Option<(Extent, u64)>> = extents
        .iter()
        .enumerate()
        .map(|(index, extent)| {
            let room = if Some(index) == first { own } else { demand(index).min(share) };
            extent.map(|extent| (extent, extent.start + room))
        })
        .collect();
    capture.copy_all(wanted.iter().flatten().map(|(extent, end)| (extent.start, *end)).collect());

    let stack_of = |(state, wanted): (&ThreadState, &Option<(Extent, u64)>)| {
        let (extent, wanted) = (*wanted)?;
        copied(capture, state.id, extent, wanted)
    };
    let stacks: Vec<Option<Stack>> = states.iter().zip(&wanted).map(stack_of).collect();
    let mut room = limits.stacks;
    for (state, stack) in states.iter().zip(&stacks) {
        copy_interrupted(capture, state, *stack, Some(state.id) == crashed, &mut room);
    }
    states.into_iter().zip(stacks).map(|(state, stack)| Thread { state, stack }).collect()
}

fn extent_of(capture: &mut Capture<'_>, state: &ThreadState) -> Option<Extent> {
    let sp = state.registers.as_ref()?.sp();
    let extent = extent(capture, sp);
    if extent.is_none() {
        capture.gap("threads", format!("stack of thread {}: {sp:#x} leads to no stack", state.id));
    }
    extent
}

/// What has been copied of `extent`, of which the bytes up to `wanted` were to be.
fn copied(capture: &mut Capture<'_>, id: u64, extent: Extent, wanted: u64) -> Option<Stack> {
    let bytes = capture.memory.slice_from(extent.start).unwrap_or_default();
    let end = wanted.min(extent.start + bytes.len() as u64);
    if wanted < extent.limit {
        let room = wanted - extent.start;
        capture.gap("threads", format!("stack of thread {id}: {room} of {} bytes copied", extent.size()));
    }
    if end < wanted {
        capture.gap("threads", format!("stack of thread {id}: not readable from {end:#x} to {:#x}", extent.limit));
    }
    let Extent { start, limit, overflowed } = extent;
    (end > start).then_some(Stack { start, end, limit, overflowed })
}

/// A signal handler may run on a stack of its own (`sigaltstack`; Rust's and Go's do). Then the thread's frames before the
/// signal are on another stack, to which the first chance leads, or what the kernel saved for the handler. So it is with a
/// thread that waits in such a handler while another one crashes. `room` is for those of all threads but the crashed one.
fn copy_interrupted(
    capture: &mut Capture<'_>,
    state: &ThreadState,
    stack: Option<Stack>,
    crashed: bool,
    room: &mut u64,
) {
    let fault = state.first_chance.as_ref().map(|fault| fault.sp);
    let searched = if crashed { SEARCHED_IN_CRASHED } else { SEARCHED };
    let saved = stack.map(|stack| saved_stack_pointers(capture, stack, searched)).unwrap_or_default();
    for sp in fault.into_iter().chain(saved) {
        if stack.is_some_and(|stack| (stack.start..stack.limit).contains(&sp)) || capture.out_of_time() {
            continue;
        }
        let Some(extent) = extent(capture, sp) else { continue };
        let size = match crashed {
            true => extent.size().min(capture.limits.crashed_stack),
            false => extent.size().min(capture.limits.stack).min(*room & !0xf),
        };
        if size < extent.size() {
            let what = format!("of {} bytes that a signal interrupted on another stack, {size} copied", extent.size());
            capture.gap("threads", format!("stack of thread {}: {what}", state.id));
        }
        capture.copy(extent.start, extent.start + size);
        if !crashed {
            *room -= size;
        }
    }
}

/// Bytes of the crashed thread's stack in which signal frames are looked for: a handler may have gone deep.
const SEARCHED_IN_CRASHED: usize = 256 << 10;
/// Bytes of any other thread's. There may be thousands, all of them held meanwhile.
const SEARCHED: usize = 16 << 10;

/// Stack pointers in the signal frames on `stack`. A frame of 64-bit Linux on x86 has, in its `struct sigcontext`
/// (`arch/x86/include/uapi/asm/sigcontext.h`), a word with the selectors cs 0x33, gs 0, fs 0, ss 0x2b, the same in every
/// program; rsp stands three words before it.
fn saved_stack_pointers(capture: &Capture<'_>, stack: Stack, searched: usize) -> Vec<u64> {
    const SELECTORS: u64 = 0x002b_0000_0000_0033;
    const HANDLERS_IN_HANDLERS: usize = 4;
    if (capture.task.os(), capture.task.cpu()) != (Os::Linux, Cpu::X86_64) {
        return Vec::new();
    }
    let length = usize::try_from(stack.end - stack.start).unwrap_or(searched).min(searched);
    let bytes = capture.memory.slice(stack.start, length).unwrap_or_default();
    // The copy starts at a multiple of 16, and so do frames.
    let word = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let frames = bytes.chunks_exact(8).enumerate().filter(|(_, bytes)| word(bytes) == Some(SELECTORS));
    let pointers = frames.filter_map(|(index, _)| word(bytes.get(index.checked_sub(3)? * 8..)?));
    pointers.take(HANDLERS_IN_HANDLERS).collect()
}

/// The stack that the stack pointer `sp` leads to.
fn extent(capture: &Capture<'_>, sp: u64) -> Option<Extent> {
    let regions = capture.regions;
    let index = regions.partition_point(|region| region.end <= sp);
    let here = regions.get(index).filter(|region| region.start <= sp && region.protection.read);
    if let Some(region) = here {
        // Not aligned further down than the red zone: what lies below it has no meaning.
        let start = sp.saturating_sub(Registers::RED_ZONE).max(region.start) & !0xf;
        // At the very edge of a guard, the next push is what kills.
        let guarded = index == 0 || regions[index - 1].end != region.start || !regions[index - 1].protection.read;
        let overflowed = guarded && sp - region.start < 8;
        return Some(Extent { start, limit: end_of(regions, index), overflowed });
    }
    // In a guard, or below it: the first mapping above that isn't one must be a stack, near enough to fall off from.
    let index = index + regions[index..].iter().position(|region| region.protection.read)?;
    let region = &regions[index];
    let near = region.start.checked_sub(sp)? <= capture.limits.guard;
    (near && region.protection.write).then(|| Extent {
        start: region.start,
        limit: end_of(regions, index),
        overflowed: true,
    })
}

/// Where the stack in `regions[index]` ends. The kernel cuts one stack in several mappings where parts of it were treated
/// differently (madvise, mlock): those that follow without a hole and are alike belong to it.
fn end_of(regions: &[Region], index: usize) -> u64 {
    let alike = |a: &Region, b: &Region| {
        a.end == b.start && a.protection == b.protection && a.tag == b.tag && a.path == b.path && a.shared == b.shared
    };
    let rest = &regions[index..];
    let more = rest.windows(2).take_while(|pair| alike(&pair[0], &pair[1])).count();
    rest[more].end
}

/// What each may have of `budget` so that all of it is used and no small demand suffers for a large one.
fn fair_share(mut budget: u64, mut demands: Vec<u64>) -> u64 {
    demands.sort_unstable();
    for (index, demand) in demands.iter().enumerate() {
        let share = budget / (demands.len() - index) as u64;
        if *demand > share {
            // Copies start and end at even addresses.
            return share & !0xf;
        }
        budget -= demand;
    }
    u64::MAX
}

#[cfg(test)]
mod tests {
    use super::super::test_task::{TestTask, gaps_of};
    use super::super::{Exception, Fault, Limits, Snapshot};
    use super::*;

    const STACK: u64 = 0x7f00_0001_0000;

    /// A stack of 16 pages with a guard page below, and a thread whose stack pointer is `sp`.
    fn task(sp: u64) -> TestTask {
        let mut task = TestTask::default();
        task.region(STACK - 0x1000, STACK, "---", None, 0);
        task.map(STACK, (0..=255).cycle().take(0x10000).collect(), "rw-", None, 0);
        task.thread(1, 0, sp);
        task
    }

    fn stack(snapshot: &Snapshot) -> Option<(u64, u64, bool)> {
        snapshot.threads[0].stack.map(|stack| (stack.start, stack.end, stack.overflowed))
    }

    fn of(sp: u64) -> Option<(u64, u64, bool)> {
        stack(&task(sp).capture(&Limits::default()))
    }

    #[test]
    fn a_large_demand_takes_nothing_from_small_ones() {
        assert_eq!(fair_share(1000, vec![16, 32, 64]), u64::MAX);
        assert_eq!(fair_share(1000, vec![5000, 32, 5000, 8]), 480);
        assert_eq!(fair_share(0, vec![16]), 0);
        assert_eq!(fair_share(0, vec![]), u64::MAX);
    }

    #[test]
    fn a_stack_reaches_from_the_red_zone_to_the_end_of_its_mapping() {
        let end = STACK + 0x10000;
        assert_eq!(of(STACK + 0x8000), Some((STACK + 0x8000 - 128, end, false)));
        assert_eq!(of(STACK + 0x8007), Some((STACK + 0x8000 - 128, end, false)));
        assert_eq!(of(end - 8), Some((end - 144, end, false)));
        // There is no red zone in the guard page.
        assert_eq!(of(STACK + 64), Some((STACK, end, false)));
        assert_eq!(of(STACK + 8), Some((STACK, end, false)));
    }

    #[test]
    fn a_stack_pointer_at_the_guard_or_below_leads_to_the_stack_above() {
        let whole = Some((STACK, STACK + 0x10000, true));
        assert_eq!(of(STACK), whole);
        assert_eq!(of(STACK - 8), whole);
        assert_eq!(of(STACK - 0x1000), whole);
        assert_eq!(of(STACK - 0x1008), whole);
        let guard = Limits::default().guard;
        assert_eq!(of(STACK - guard), whole);
        assert_eq!(of(STACK - guard - 1), None);
    }

    #[test]
    fn a_wild_stack_pointer_has_no_stack_and_a_gap() {
        for sp in [0, 1, 0x10000, STACK + 0x10000, 0x8000_0000_0000_0000, u64::MAX] {
            let snapshot = task(sp).capture(&Limits::default());
            assert_eq!(stack(&snapshot), None, "{sp:#x}");
            assert_eq!(gaps_of(&snapshot, "threads"), format!("stack of thread 1: {sp:#x} leads to no stack"));
        }
    }

    #[test]
    fn what_lies_above_a_stack_pointer_and_is_only_readable_is_no_stack() {
        let mut task = TestTask::default();
        task.map(STACK, vec![0; 0x1000], "r-x", Some("/lib/x.so"), 0);
        task.thread(1, 0, STACK - 64);
        assert_eq!(stack(&task.capture(&Limits::default())), None);
    }

    #[test]
    fn a_stack_in_several_mappings_is_one_and_a_mapping_unlike_it_ends_it() {
        let mut task = task(STACK + 0xf000);
        task.map(STACK + 0x10000, vec![1; 0x1000], "rw-", None, 0);
        task.map(STACK + 0x11000, vec![2; 0x1000], "rw-", Some("/dev/zero"), 0);
        assert_eq!(stack(&task.capture(&Limits::default())), Some((STACK + 0xf000 - 128, STACK + 0x11000, false)));
    }

    #[test]
    fn a_limit_keeps_what_is_nearest_the_stack_pointer_and_is_told() {
        let limits = Limits { stack: 0x1000, crashed_stack: 0x1000, ..Limits::default() };
        let snapshot = task(STACK + 0x8000).capture(&limits);
        let start = STACK + 0x8000 - 128;
        assert_eq!(stack(&snapshot), Some((start, start + 0x1000, false)));
        assert_eq!(snapshot.threads[0].stack.unwrap().limit, STACK + 0x10000);
        assert_eq!(gaps_of(&snapshot, "threads"), "stack of thread 1: 4096 of 32896 bytes copied");
        // At its edge it doesn't bite.
        let limits = Limits { stack: 0x8080, crashed_stack: 0x8080, ..Limits::default() };
        assert_eq!(task(STACK + 0x8000).capture(&limits).gaps, []);
    }

    #[test]
    fn all_stacks_together_have_a_limit_and_the_crashed_thread_comes_first() {
        let mut task = TestTask::default();
        for index in 0..10 {
            let base = STACK + index * 0x20000;
            task.map(base, vec![index as u8; 0x10000], "rw-", None, 0);
            task.thread(index, 0, base + 128);
        }
        task.threads.rotate_left(9);
        let limits = Limits { stacks: 0x10000 + 9 * 0x1000, ..Limits::default() };
        let snapshot = task.capture(&limits);
        let sizes: Vec<_> =
            snapshot.threads.iter().map(|thread| thread.stack.unwrap()).map(|s| s.end - s.start).collect();
        assert_eq!(sizes, [&[0x10000][..], &[0x1000; 9]].concat());
        assert_eq!(snapshot.memory.len(), 0x10000 + 9 * 0x1000);
    }

    #[test]
    fn a_stack_that_can_be_read_in_part_ends_there_and_it_is_told() {
        let mut task = TestTask::default();
        task.region(STACK, STACK + 0x10000, "rw-", None, 0);
        task.memory.insert(STACK, vec![5; 0x3000]);
        task.thread(1, 0, STACK + 0x80);
        let snapshot = task.capture(&Limits::default());
        assert_eq!(stack(&snapshot), Some((STACK, STACK + 0x3000, false)));
        assert!(gaps_of(&snapshot, "threads").contains("not readable from 0x7f0000013000 to 0x7f0000020000"));
        // Not at all: no stack.
        task.memory = Default::default();
        assert_eq!(stack(&task.capture(&Limits::default())), None);
    }

    #[test]
    fn any_number_of_stack_pointers_in_one_mapping_copy_it_once() {
        let mut task = task(STACK + 0x1000);
        for index in 2..5000 {
            task.thread(index, 0, STACK + 0x1000 + index * 8);
        }
        let snapshot = task.capture(&Limits { stacks: 1 << 40, ..Limits::default() });
        assert_eq!(snapshot.memory.blocks().len(), 1);
        assert_eq!(snapshot.memory.len(), 0xf000 + 128);
        assert!(snapshot.threads.iter().all(|thread| thread.stack.unwrap().end == STACK + 0x10000));
    }

    #[test]
    fn a_handler_on_a_stack_of_its_own_leaves_the_interrupted_stack_in_the_copy() {
        let mut task = task(STACK + 0x8000);
        let interrupted = STACK + 0x100_0000;
        task.map(interrupted, vec![9; 0x4000], "rw-", None, 0);
        task.threads[0].first_chance = Some(Fault {
            exception: Exception::Mach(aftermach_protocol::exception::MachException { kind: 1, codes: [1, 0] }),
            pc: 0,
            sp: interrupted + 0x1000,
            time: std::time::SystemTime::UNIX_EPOCH,
        });
        let snapshot = task.capture(&Limits::default());
        assert_eq!(stack(&snapshot), Some((STACK + 0x8000 - 128, STACK + 0x10000, false)));
        assert_eq!(snapshot.memory.slice(interrupted + 0x1000 - 128, 0x3080), Some(&[9; 0x3080][..]));
    }

    /// A thread in a signal handler on a stack of its own; what it interrupted lies on a stack at `interrupted`.
    fn task_in_handler(interrupted: u64) -> TestTask {
        let mut task = task(STACK + 0x8000);
        task.map(interrupted, vec![9; 0x8000], "rw-", None, 0);
        // sigcontext: ... rsp, rip, eflags, selectors.
        let frame = [interrupted + 0x2000, 0, 0x246, 0x002b_0000_0000_0033];
        let mut memory = super::super::Memory::default();
        memory.insert(STACK + 0xa000, frame.iter().flat_map(|word: &u64| word.to_le_bytes()).collect());
        for block in task.memory.blocks() {
            memory.insert(block.address, block.bytes.to_vec());
        }
        task.memory = memory;
        task
    }

    #[test]
    fn a_signal_frame_leads_to_the_stack_that_the_handler_interrupted() {
        let interrupted = STACK + 0x100_0000;
        let snapshot = task_in_handler(interrupted).capture(&Limits::default());
        assert_eq!(snapshot.memory.slice(interrupted + 0x2000 - 128, 0x6080), Some(&[9; 0x6080][..]));
        assert_eq!(snapshot.memory.slice(interrupted, 1), None);
    }

    #[test]
    fn a_thread_that_waits_in_a_handler_while_another_crashes_has_both_of_its_stacks() {
        let interrupted = STACK + 0x100_0000;
        let mut task = task_in_handler(interrupted);
        let crashed = STACK + 0x200_0000;
        task.map(crashed, vec![1; 0x1000], "rw-", None, 0);
        task.thread(2, 0, crashed + 128);
        task.threads.reverse();
        let snapshot = task.capture(&Limits::default());
        assert_eq!(snapshot.memory.slice(interrupted + 0x2000 - 128, 0x6080), Some(&[9; 0x6080][..]));
        // What was interrupted has a limit as well.
        let snapshot = task.capture(&Limits { stacks: 0x4000, ..Limits::default() });
        assert_eq!(snapshot.memory.slice(interrupted + 0x2000 - 128, 0x4001), None);
        let told = gaps_of(&snapshot, "threads");
        assert!(told.contains("of 24704 bytes that a signal interrupted on another stack, 16384 copied"), "{told}");
    }
}
