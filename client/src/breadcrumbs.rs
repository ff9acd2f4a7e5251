//! The ring of breadcrumbs.

use aftermach_protocol::record::{BREADCRUMB_CAPACITY, BREADCRUMB_TEXT};

use crate::record::{BREADCRUMBS, SPACE, check, fitting, header, monotonic, start_clock, store};
use crate::sync::{AtomicU64, Ordering};

/// How many slots a writer tries: one is refused only while a thread that is a whole ring behind, or was interrupted by this
/// very call, is writing it. All of them are never.
const ATTEMPTS: usize = BREADCRUMBS;

const TEXT_WORD: usize = BREADCRUMB_TEXT / 8;

/// Breadcrumbs begun so far.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Leaves a line for the report of a later crash; it keeps the newest 64. A text longer than 224 bytes is cut and marked.
/// Never waits. Does not need [`install`](crate::install()) first.
pub fn breadcrumb(text: &str) {
    breadcrumb_bytes(text.as_bytes());
}

pub(crate) fn breadcrumb_bytes(text: &[u8]) {
    let header = header();
    start_clock(header);
    let (kept, flags) = fitting(text, BREADCRUMB_CAPACITY);
    for _ in 0..ATTEMPTS {
        let number = COUNT.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let Some(slot) = SPACE.breadcrumbs.get(number as usize % BREADCRUMBS) else { break };
        let [sequence, check_word, time, fields, ..] = slot;
        let before = sequence.load(Ordering::Relaxed);
        let complete = number << 1;
        if before & 1 != 0
            || before >= complete
            || sequence.compare_exchange(before, complete | 1, Ordering::AcqRel, Ordering::Relaxed).is_err()
        {
            continue;
        }
        let values = [complete, monotonic(), kept.len() as u64 | u64::from(flags) << 16];
        let [_, now, length_and_flags] = values;
        check_word.store(check(&values, &[], kept), Ordering::Relaxed);
        time.store(now, Ordering::Relaxed);
        fields.store(length_and_flags, Ordering::Relaxed);
        store(slot.get(TEXT_WORD..).unwrap_or_default(), kept);
        sequence.store(complete, Ordering::Release);
        return;
    }
    header.count_dropped();
}

/// As if nothing had been left yet; the record is reset by itself.
#[cfg(aftermach_model)]
pub(crate) fn reset() {
    COUNT.store(0, Ordering::Relaxed);
}
