//! Keeps a defect in one room from costing the report.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::snapshot::Gap;

/// Runs `work`. If it panics, that is a defect of ours; it costs this part, not the service, and the report says so.
pub(super) fn protect<T: Default>(part: &'static str, notes: &mut Vec<Gap>, work: impl FnOnce() -> T) -> T {
    // What `work` borrows is only read, or thrown away with it.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
        let message = message.unwrap_or_else(|| "no message".to_owned());
        notes.push(Gap::new(part, format!("a defect in Aftermach ended this part: {message}")));
        T::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_costs_the_part_and_is_noted() {
        let mut notes = Vec::new();
        let value: Vec<u8> = protect("unwind", &mut notes, || panic!("index {}", 7));
        assert!(value.is_empty());
        assert_eq!(notes, [Gap::new("unwind", "a defect in Aftermach ended this part: index 7")]);
    }
}
