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
    let own = first.map_or(0, |index| demand(index).min(limits.stacks));
    let others = (0..states.len()).filter(|index| Some(*index) != first);
    let share = fair_share(limits.stacks - own, others.clone().map(demand).collect());

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
    for (state, stack) in states.iter().zip(&stacks) {
        copy_interrupted(capture, state, *stack);
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
/// signal are on another stack, to which the first chance leads.
fn copy_interrupted(capture: &mut Capture<'_>, state: &ThreadState, stack: Option<Stack>) {
    let Some(fault) = &state.first_chance else { return };
    if stack.is_some_and(|stack| (stack.start..stack.limit).contains(&fault.sp)) || capture.out_of_time() {
        return;
    }
    if let Some(extent) = extent(capture, fault.sp) {
        capture.copy(extent.start, extent.start + extent.size().min(capture.limits.stack));
    }
}

/// The stack that the stack pointer `sp` leads to.
fn extent(capture: &Capture<'_>, sp: u64) -> Option<Extent> {
    let regions = capture.regions;
    let index = regions.partition_point(|region| region.end <= sp);
    let here = regions.get(index).filter(|region| region.start <= sp && region.protection.read);
    if let Some(region) = here {
        // Not aligned further down than the red zone: what lies below it has no meaning.
        let start = sp.saturating_sub(Registers::RED_ZONE).max(region.start) & !0xf;
        return Some(Extent { start, limit: end_of(regions, index), overflowed: false });
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
    use super::*;

    #[test]
    fn a_large_demand_takes_nothing_from_small_ones() {
        assert_eq!(fair_share(1000, vec![16, 32, 64]), u64::MAX);
        assert_eq!(fair_share(1000, vec![5000, 32, 5000, 8]), 480);
        assert_eq!(fair_share(0, vec![16]), 0);
        assert_eq!(fair_share(0, vec![]), u64::MAX);
    }
}
