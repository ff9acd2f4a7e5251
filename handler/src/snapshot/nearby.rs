//! Memory round each pc, and round the addresses that the crashed thread's registers hold.

use super::capture::Capture;
use super::{Region, Thread};

/// Copies the code round each thread's pc, and what the registers of the thread `crashed` point to.
pub(super) fn copy(capture: &mut Capture<'_>, threads: &[Thread], crashed: Option<u64>) {
    let (around_pc, around_register) = (capture.limits.around_pc, capture.limits.around_register);
    let mut ranges = Vec::with_capacity(threads.len());
    for thread in threads {
        let own = thread.state.registers.as_ref().map(|registers| registers.pc());
        let fault = thread.state.first_chance.as_ref().map(|fault| fault.pc);
        ranges.extend(own.into_iter().chain(fault).filter_map(|pc| window(capture, pc, around_pc)));
    }
    let crashed = threads.iter().find(|thread| Some(thread.state.id) == crashed);
    if let Some(registers) = crashed.and_then(|thread| thread.state.registers.as_ref()) {
        let values = registers.general();
        ranges.extend(values.iter().filter_map(|(_, value)| window(capture, *value, around_register)));
    }
    // Stacks are there already, and so is what registers point to on them.
    ranges.retain(|(start, end)| capture.memory.slice(*start, (end - start) as usize).is_none());
    // What can't be read after all (a file cut short) is no gap: none was promised.
    capture.copy_all(ranges);
}

/// The readable bytes round `address`, if it can be read itself.
fn window(capture: &Capture<'_>, address: u64, around: u64) -> Option<(u64, u64)> {
    let index = capture.region_index(address)?;
    let readable = |region: &&Region| region.protection.read;
    let here = Some(&capture.regions[index]).filter(readable)?;
    let (low, high) = (address.saturating_sub(around), address.saturating_add(around));
    let below = index.checked_sub(1).and_then(|below| capture.regions.get(below)).filter(readable);
    let above = capture.regions.get(index + 1).filter(readable);
    let low = match below {
        Some(below) if low < here.start && below.end == here.start => low.max(below.start),
        _ => low.max(here.start),
    };
    let high = match above {
        Some(above) if high > here.end && above.start == here.end => high.min(above.end),
        _ => high.min(here.end),
    };
    Some((low, high))
}
