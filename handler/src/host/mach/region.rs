//! Mappings from `mach_vm_region_recurse` (`struct vm_region_submap_info_64`, `osfmk/mach/vm_region.h`).

use aftermach_protocol::exception::KernReturn;

use super::kernel::RawRegion;
use super::words::Words;
use crate::snapshot::{Gap, Protection, Region};

/// Words of `vm_region_submap_info_64`, version 2.
pub(super) const SUBMAP_INFO_WORDS: usize = 19;
/// Mappings that are listed. A process of a browser has some 20,000.
const LIMIT: usize = 100_000;
/// `KERN_INVALID_ADDRESS`: there is no mapping from here on.
const KERN_INVALID_ADDRESS: KernReturn = KernReturn(1);

/// Walks all mappings upwards. `next` gives the one at or after an address.
pub(super) fn walk(mut next: impl FnMut(u64) -> Result<RawRegion, KernReturn>, gaps: &mut Vec<Gap>) -> Vec<Region> {
    let mut regions = Vec::new();
    let mut address = 0;
    let stopped = loop {
        if regions.len() == LIMIT {
            break format!("more than {LIMIT} mappings");
        }
        let raw = match next(address) {
            Ok(raw) => raw,
            Err(KERN_INVALID_ADDRESS) => return regions,
            Err(code) => break format!("the mapping after {address:#x} can't be read: {code}"),
        };
        // Whatever is answered, the walk goes upwards, or ends.
        let Some(end) = raw.address.checked_add(raw.size).filter(|end| raw.address >= address && *end > raw.address)
        else {
            break format!("a mapping after {address:#x} is said to be at {:#x}", raw.address);
        };
        match decode(&raw, end) {
            Some(region) => regions.push(region),
            None => break format!("the mapping at {:#x} is described in too few words", raw.address),
        }
        address = end;
    };
    gaps.push(Gap::new("regions", stopped));
    regions
}

fn decode(raw: &RawRegion, end: u64) -> Option<Region> {
    const READ: u32 = 1;
    const WRITE: u32 = 2;
    const EXECUTE: u32 = 4;
    const SHARED: u8 = 4;
    const TRUE_SHARED: u8 = 5;
    const SHARED_ALIASED: u8 = 7;
    let info = Words(&raw.info);
    let protection = info.u32(0)?;
    Some(Region {
        start: raw.address,
        end,
        protection: Protection {
            read: protection & READ != 0,
            write: protection & WRITE != 0,
            execute: protection & EXECUTE != 0,
        },
        shared: matches!(info.u8(47)?, SHARED | TRUE_SHARED | SHARED_ALIASED),
        tag: info.u32(20)?,
        offset: info.u64(12)?,
        path: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(protection: u32, tag: u32, share_mode: u8) -> Vec<u32> {
        let mut words = vec![0; SUBMAP_INFO_WORDS];
        words[0] = protection;
        words[3] = 0x4000; // offset, low half at byte 12
        words[5] = tag;
        words[11] = u32::from(share_mode) << 24;
        words
    }

    fn raw(address: u64, size: u64) -> RawRegion {
        RawRegion { address, size, info: info(3, 30, 2) }
    }

    fn over(regions: Vec<RawRegion>) -> impl FnMut(u64) -> Result<RawRegion, KernReturn> {
        move |address| {
            let found = regions.iter().find(|region| region.address + region.size > address);
            found.cloned().ok_or(KERN_INVALID_ADDRESS)
        }
    }

    #[test]
    fn every_mapping_is_listed_once_and_the_end_is_no_gap() {
        let mut gaps = Vec::new();
        let text = RawRegion { address: 0x4000, size: 0x4000, info: info(5, 33, 1) };
        let shared = RawRegion { address: 0x9000, size: 0x1000, info: info(1, 0, 5) };
        let regions = walk(over(vec![raw(0x1000, 0x3000), text, shared]), &mut gaps);
        assert!(gaps.is_empty());
        let spans: Vec<_> = regions.iter().map(|region| (region.start, region.end)).collect();
        assert_eq!(spans, [(0x1000, 0x4000), (0x4000, 0x8000), (0x9000, 0xA000)]);
        assert_eq!((regions[0].tag, regions[0].offset, regions[0].shared), (30, 0x4000, false));
        assert_eq!(regions[1].protection, Protection { read: true, write: false, execute: true });
        assert!(regions[2].shared);
    }

    #[test]
    fn a_walk_that_goes_nowhere_or_backwards_ends() {
        for (address, size) in [(0x1000, 0), (0, 0), (u64::MAX, 2), (0x1000, u64::MAX)] {
            let mut gaps = Vec::new();
            assert!(walk(|_| Ok(raw(address, size)), &mut gaps).is_empty());
            assert_eq!(gaps.len(), 1);
        }
        let mut gaps = Vec::new();
        // The same one again and again.
        let regions = walk(|_| Ok(raw(0x1000, 0x1000)), &mut gaps);
        assert_eq!((regions.len(), gaps.len()), (1, 1));
    }

    #[test]
    fn endless_mappings_are_cut() {
        let mut gaps = Vec::new();
        let regions = walk(|address| Ok(raw(address, 0x1000)), &mut gaps);
        assert_eq!((regions.len(), gaps.len()), (LIMIT, 1));
    }

    #[test]
    fn an_error_and_a_short_answer_keep_what_came_before() {
        let mut gaps = Vec::new();
        let next = |address| match address {
            0 => Ok(raw(0x1000, 0x1000)),
            _ => Err(KernReturn(37)),
        };
        assert_eq!(walk(next, &mut gaps).len(), 1);
        assert!(gaps[0].what.ends_with("KERN_TERMINATED"), "{}", gaps[0].what);
        let short = |_| Ok(RawRegion { address: 0x1000, size: 0x1000, info: vec![1, 2] });
        assert!(walk(short, &mut gaps).is_empty());
    }
}
