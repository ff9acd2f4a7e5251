//! What the unwind tables say of addresses, each looked up once.

use addr2line::gimli::UnwindContext;
use aftermach_protocol::platform::Cpu;

use super::cfi::Row;
use super::compact::{self, Rule};
use super::plain::Plain;
use super::sections::{ImageSections, Sections, Tables};
use crate::snapshot::Snapshot;

/// Slots of the cache; a power of two.
const SLOTS: usize = 512;

/// The rules of one snapshot's images. What is found serves all threads.
pub(crate) struct Rules<'a> {
    snapshot: &'a Snapshot,
    sections: &'a Sections,
    context: Box<UnwindContext<usize>>,
    /// By hash of the address looked up, which of `kept` has it, counted from 1; 0 for none.
    slots: Box<[u16; SLOTS]>,
    /// Where two addresses share a slot, the later one has it.
    kept: Vec<Kept>,
}

/// What is known of an address.
pub(crate) struct Kept {
    address: u64,
    /// The image that it lies in.
    pub(crate) image: Option<usize>,
    pub(crate) way: Way,
    /// The same for a frame out of which nothing else leads, if that is plain.
    pub(crate) plain: Option<PlainWay>,
}

/// A plain rule, and where it holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainWay {
    pub(crate) rule: Plain,
    /// It holds for a frame that was stopped here as well: compact unwind information describes calls only.
    pub(crate) anywhere: bool,
    /// The return address that was found last, which lies in code.
    pub(crate) caller: u64,
}

/// What the tables say of an address.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// A row of call frame information, in the image's first or second table.
    Row {
        row: Box<Row>,
        second: bool,
        image: usize,
        /// Address in memory of the function's end.
        end: u64,
    },
    /// An entry of compact unwind information, and what it means.
    Compact { entry: compact::Entry, rule: Rule },
    /// Nothing.
    Nothing,
}

impl<'a> Rules<'a> {
    /// Nothing is looked up yet.
    pub(crate) fn new(snapshot: &'a Snapshot, sections: &'a Sections) -> Rules<'a> {
        let (context, slots) = (Box::new(UnwindContext::new()), Box::new([0; SLOTS]));
        Rules { snapshot, sections, context, slots, kept: Vec::new() }
    }

    /// What is known of `address`.
    #[inline]
    pub(crate) fn of(&mut self, address: u64) -> &mut Kept {
        let slot = slot(address);
        let known = usize::from(self.slots[slot]).checked_sub(1);
        let index = match known {
            Some(index) if self.kept[index].address == address => index,
            known => self.look_up(address, slot, known),
        };
        &mut self.kept[index]
    }

    /// The image that an address lies in, if it is known already.
    #[inline]
    pub(crate) fn known_image(&self, address: u64) -> Option<usize> {
        let index = usize::from(self.slots[slot(address)]).checked_sub(1)?;
        self.kept.get(index).filter(|kept| kept.address == address)?.image
    }

    /// Looks `address` up and keeps what is found at `place`, or at a new one. Returns where.
    #[cold]
    fn look_up(&mut self, address: u64, slot: usize, place: Option<usize>) -> usize {
        let image = self.sections.code.image(address);
        let way = self.find(address);
        let plain = self.plain(address, image, &way);
        let kept = Kept { address, image, way, plain };
        match place {
            Some(index) => {
                self.kept[index] = kept;
                index
            }
            None => {
                self.kept.push(kept);
                // There are no more of them than slots.
                self.slots[slot] = self.kept.len() as u16;
                self.kept.len() - 1
            }
        }
    }

    /// What the tables say of `address`.
    pub(crate) fn find(&mut self, address: u64) -> Way {
        let cpu = self.sections.code.cpu;
        let Some(image) = self.sections.code.image(address) else { return Way::Nothing };
        let Some(sections) = self.sections.image(self.snapshot, image) else { return Way::Nothing };
        let address = address.wrapping_sub(sections.bias);
        match &sections.tables {
            Tables::Dwarf(one, two) => {
                let way = |row: Row, second| {
                    let end = row.end.wrapping_add(sections.bias);
                    Way::Row { row: Box::new(row), second, image, end }
                };
                if let Some(row) = one.row(address, &mut self.context) {
                    return way(row, false);
                }
                let row = two.as_ref().and_then(|two| two.row(address, &mut self.context));
                row.map_or(Way::Nothing, |row| way(row, true))
            }
            Tables::Compact { unwind_info, base, .. } => find_compact(sections, cpu, unwind_info, *base, address),
            Tables::None => Way::Nothing,
        }
    }

    /// The row that an entry of compact unwind information refers to.
    pub(crate) fn row(&mut self, sections: &ImageSections, offset: u32, address: u64) -> Option<Row> {
        let Tables::Compact { eh_frame: Some(cfi), .. } = &sections.tables else { return None };
        cfi.row_of_entry(address.wrapping_sub(sections.bias), offset as usize, &mut self.context)
    }

    /// The way as a plain rule. A frame whose function ends right after the call may be the kernel's to return from.
    fn plain(&mut self, address: u64, image: Option<usize>, way: &Way) -> Option<PlainWay> {
        let cpu = self.sections.code.cpu;
        let (rule, anywhere) = match way {
            Way::Row { row, end, .. } if *end > address.saturating_add(1) => (row.plain(cpu)?, true),
            Way::Compact { rule: Rule::Dwarf { offset }, .. } => {
                let sections = self.sections.image(self.snapshot, image?)?;
                (self.row(sections, *offset, address)?.plain(cpu)?, false)
            }
            Way::Compact { entry, rule } => (entry.plain(*rule, cpu)?, false),
            _ => return None,
        };
        Some(PlainWay { rule, anywhere, caller: 0 })
    }
}

fn find_compact(sections: &ImageSections, cpu: Cpu, unwind_info: &[u8], base: u64, address: u64) -> Way {
    let jumps = [sections.stubs, sections.stub_helpers];
    if jumps.into_iter().flatten().any(|(start, end)| (start..end).contains(&address)) {
        return Way::Nothing;
    }
    let found = u32::try_from(address.wrapping_sub(base)).ok().and_then(|at| compact::lookup(unwind_info, at));
    match found.and_then(|entry| Some((entry, entry.rule(cpu)?))) {
        Some((entry, rule)) => Way::Compact { entry, rule },
        None => Way::Nothing,
    }
}

#[inline]
fn slot(address: u64) -> usize {
    // Fibonacci hashing (Knuth 6.4): return addresses differ in their low bits mostly, but not evenly.
    (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOTS.trailing_zeros())) as usize
}
