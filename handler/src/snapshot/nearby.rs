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
        // Code and stack have been dealt with.
        let done = [registers.pc(), registers.sp()];
        let values = registers.general().into_iter().map(|(_, value)| value).filter(|value| !done.contains(value));
        ranges.extend(values.filter_map(|value| window(capture, value, around_register)));
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

#[cfg(test)]
mod tests {
    use super::super::test_task::TestTask;
    use super::super::{Limits, MemoryBlock};

    const CODE: u64 = 0x40_0000;
    const DATA: u64 = 0x60_0000;

    fn blocks(task: &TestTask) -> Vec<(u64, usize)> {
        let snapshot = task.capture(&Limits::default());
        let shown = |block: &MemoryBlock| (block.address, block.bytes.len());
        snapshot.memory.blocks().iter().map(shown).collect()
    }

    fn task() -> TestTask {
        let mut task = TestTask::default();
        task.map(CODE, vec![0x90; 0x2000], "r-x", None, 0);
        task.map(CODE + 0x2000, vec![0x91; 0x1000], "r--", None, 0);
        task.map(DATA, vec![7; 0x1000], "rw-", None, 0);
        task
    }

    #[test]
    fn each_pc_has_128_bytes_on_both_sides() {
        let mut task = task();
        task.thread(1, CODE + 0x800, 0);
        task.thread(2, CODE + 0x1000, 0);
        task.thread(3, CODE + 0x1040, 0);
        assert_eq!(blocks(&task), [(CODE + 0x800 - 128, 256), (CODE + 0x1000 - 128, 256 + 0x40)]);
    }

    #[test]
    fn a_pc_at_an_edge_has_what_is_readable_beyond_it() {
        let mut task = task();
        task.thread(1, CODE, 0);
        task.thread(2, CODE + 0x2010, 0);
        assert_eq!(blocks(&task), [(CODE, 128), (CODE + 0x2010 - 128, 256)]);
    }

    #[test]
    fn a_pc_that_leads_nowhere_copies_nothing() {
        let mut task = task();
        task.region(DATA + 0x1000, DATA + 0x2000, "---", None, 0);
        for (id, pc) in [0, CODE - 1, DATA + 0x1000, u64::MAX].into_iter().enumerate() {
            task.thread(id as u64, pc, 0);
        }
        assert_eq!(blocks(&task), []);
    }

    #[test]
    fn only_the_crashed_thread_s_registers_are_followed() {
        let mut task = task();
        let registers = task.thread(1, 0, 0);
        registers.rbx = DATA + 0x400;
        registers.r15 = DATA + 0x410;
        task.thread(2, 0, 0).rbx = DATA + 0xc00;
        assert_eq!(blocks(&task), [(DATA + 0x400 - 256, 512 + 0x10)]);
    }
}
