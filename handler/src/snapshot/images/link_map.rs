//! The loader's list of images on Linux (`struct r_debug` and `struct link_map` of glibc's and musl's `link.h`).
//!
//! ```text
//! PT_DYNAMIC: { tag, value } ...  DT_DEBUG -> r_debug { version, r_map, r_brk, r_state, r_ldbase, r_next }
//!                                               r_map -> link_map { l_addr, l_name, l_ld, l_next, l_prev } -> ...
//!                                               r_next -> r_debug of the next namespace (dlmopen), from version 2 on
//! ```

use std::collections::HashSet;

use super::super::capture::Capture;
use super::elf::{Range, quarter, word};

const DT_NULL: u64 = 0;
const DT_DEBUG: u64 = 21;
/// Entries of a dynamic section: 30 or so are usual.
const DYNAMIC_ENTRIES: usize = 512;
/// Namespaces that dlmopen can make (glibc, `DL_NNS`).
const NAMESPACES: usize = 16;
/// `r_state` when nobody is changing the list.
const CONSISTENT: u32 = 0;

/// One entry of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// `l_addr`: address in memory less address in the file.
    bias: u64,
    /// Where its name is.
    pub(super) name: u64,
    /// Where its dynamic section is.
    dynamic: u64,
}

impl Entry {
    /// Where its header is. The mappings know it; an image that comes from no file begins at its bias, as all but prelinked
    /// ones do.
    pub(super) fn base(&self, capture: &Capture<'_>) -> Option<u64> {
        let mapped = super::file_start(capture, self.dynamic);
        mapped.or_else(|| capture.region_at(self.bias).map(|_| self.bias))
    }
}

/// The address of `r_debug`, from the executable's dynamic section.
pub(super) fn head(capture: &Capture<'_>, dynamic: Range) -> Option<u64> {
    let length = usize::try_from(dynamic.size).unwrap_or(usize::MAX).min(DYNAMIC_ENTRIES * 16);
    let bytes = capture.read(dynamic.address, length);
    let mut entries = bytes.chunks_exact(16).map(|entry| (word(entry, 0), word(entry, 8)));
    let entry = entries.find(|(tag, _)| matches!(*tag, DT_DEBUG | DT_NULL))?;
    // It is 0 until the loader has started, and for ever in static programs.
    (entry.0 == DT_DEBUG && entry.1 != 0).then_some(entry.1)
}

/// Follows the lists from `r_debug` on.
pub(super) fn walk(capture: &mut Capture<'_>, r_debug: u64) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut seen = HashSet::new();
    let mut next = r_debug;
    for _ in 0..NAMESPACES {
        let Some(lists) = capture.read_array::<48>(next).or_else(|| {
            // Version 1 ends here, perhaps with the page.
            let short = capture.read_array::<40>(next)?;
            let mut long = [0; 48];
            long[..40].copy_from_slice(&short);
            Some(long)
        }) else {
            capture.gap("images", format!("the loader's list at {next:#x} can't be read"));
            break;
        };
        if quarter(&lists, 24) != CONSISTENT {
            capture.gap("images", "the loader was changing its list when the task died");
        }
        follow(capture, word(&lists, 8), &mut seen, &mut entries);
        next = if quarter(&lists, 0) >= 2 { word(&lists, 40) } else { 0 };
        if next == 0 || !seen.insert(next) {
            break;
        }
    }
    entries
}

fn follow(capture: &mut Capture<'_>, mut node: u64, seen: &mut HashSet<u64>, entries: &mut Vec<Entry>) {
    while node != 0 {
        if entries.len() >= capture.limits.images || capture.out_of_time() {
            let count = entries.len();
            return capture.gap("images", format!("the loader's list is longer than the {count} images read of it"));
        }
        if !seen.insert(node) {
            return capture.gap("images", format!("the loader's list comes back to {node:#x}"));
        }
        let Some(entry) = capture.read_array::<32>(node) else {
            return capture.gap("images", format!("the loader's list leads to {node:#x}, which can't be read"));
        };
        entries.push(Entry { bias: word(&entry, 0), name: word(&entry, 8), dynamic: word(&entry, 16) });
        node = word(&entry, 24);
    }
}
