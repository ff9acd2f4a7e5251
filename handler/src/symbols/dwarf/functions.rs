//! Functions, and what was inlined into them: a unit's entries, walked once for all addresses that are looked up in the unit.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use addr2line::gimli::{self, Abbreviation, AttributeValue, EntriesRaw};

use super::index::{Index, unit_around};
use super::scopes::Scopes;
use super::section::Sections;
use super::unit::{Extent, Slice, Unit, malformed};
use crate::unwind::file::FileError;

/// Functions that one address may lie in, the inlined ones among them.
pub(super) const INLINED: usize = 64;
/// References from one entry to the next on the way to a name.
const REFERENCES: usize = 16;
/// Entries between two looks at the clock.
const ENTRIES_PER_LOOK: u32 = 1 << 16;
/// Units that are kept for the names that others take from them.
const OTHER_UNITS: usize = 64;

/// A function at an address.
#[derive(Debug, Clone)]
pub(super) struct Function<'u> {
    pub(super) name: NameOf<'u>,
    /// Where it was inlined: file and line in the function around it.
    pub(super) call: (Option<u64>, u32),
    /// The entry, by its place in the walk.
    entry: u32,
}

/// The attributes that lead to a name.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct NameOf<'u> {
    linkage: Option<AttributeValue<Slice<'u>>>,
    plain: Option<AttributeValue<Slice<'u>>>,
    origin: Option<AttributeValue<Slice<'u>>>,
    /// Offset of the entry in the unit.
    offset: usize,
}

/// A function that the walk is inside of and that some address lies in.
struct Open {
    depth: isize,
    entry: u32,
}

/// What an entry for a function says.
#[derive(Default)]
struct Entry<'u> {
    extent: Extent,
    name: NameOf<'u>,
    call: (Option<u64>, u32),
}

/// The functions of each of `addresses`, which are sorted: the outermost first.
pub(super) fn find<'u>(
    unit: &'u Unit<'_>,
    sections: &Sections<'_>,
    addresses: &[u64],
    index: &Index<'_>,
    deadline: Instant,
) -> Result<Vec<Vec<Function<'u>>>, FileError> {
    let mut found: Vec<Vec<Function<'u>>> = vec![Vec::new(); addresses.len()];
    let mut left = addresses.len();
    let mut open: Vec<Open> = Vec::new();
    let mut entries = unit.entries(None);
    let mut count: u32 = 0;
    while !entries.is_empty() {
        let (depth, offset) = (entries.next_depth(), entries.next_offset().0);
        let Some(abbreviation) = entries.read_abbreviation().map_err(malformed)? else { continue };
        count = count.wrapping_add(1);
        while open.last().is_some_and(|open| open.depth >= depth) {
            open.pop();
        }
        let done = open.is_empty() && left == 0;
        if done || count.is_multiple_of(ENTRIES_PER_LOOK) && Instant::now() >= deadline {
            break;
        }
        let inlined = match abbreviation.tag() {
            gimli::DW_TAG_subprogram => false,
            gimli::DW_TAG_inlined_subroutine if !open.is_empty() => true,
            _ => {
                entries.skip_attributes(abbreviation.attributes()).map_err(malformed)?;
                continue;
            }
        };
        let entry = read(&mut entries, abbreviation, offset, unit.root.encoding.version)?;
        let mut hit = false;
        unit.root.ranges(sections, &entry.extent, &mut |start, end| {
            let first = addresses.partition_point(|address| *address < start);
            let last = first + addresses[first..].partition_point(|address| *address < end);
            if first == last || !index.is_code(start) {
                return;
            }
            for functions in &mut found[first..last] {
                // It must lie in the innermost function that the address lies in so far; one beside that one is a lie.
                let inside = functions.last().is_none_or(|last| open.iter().any(|open| open.entry == last.entry));
                if !inside || functions.is_empty() == inlined || functions.len() >= INLINED {
                    continue;
                }
                if functions.is_empty() {
                    left -= 1;
                }
                if !inlined {
                    // A function in a function is called, not inlined: what is around it has no part in it.
                    functions.clear();
                }
                functions.push(Function { name: entry.name, call: entry.call, entry: count });
                hit = true;
            }
        });
        if hit {
            open.push(Open { depth, entry: count });
        }
    }
    Ok(found)
}

fn read<'u>(
    entries: &mut EntriesRaw<'u, Slice<'u>>,
    abbreviation: &Abbreviation,
    offset: usize,
    version: u16,
) -> Result<Entry<'u>, FileError> {
    let mut entry = Entry { name: NameOf { offset, ..NameOf::default() }, ..Entry::default() };
    for specification in abbreviation.attributes() {
        let attribute = entries.read_attribute_inline(*specification).map_err(malformed)?;
        let value = attribute.value();
        match (attribute.name(), value) {
            // File 0 is none, but the first one since DWARF 5.
            (gimli::DW_AT_call_file, AttributeValue::FileIndex(file)) => {
                entry.call.0 = Some(file).filter(|file| *file > 0 || version >= 5);
            }
            (gimli::DW_AT_call_line, _) => {
                entry.call.1 = attribute.udata_value().and_then(|line| u32::try_from(line).ok()).unwrap_or(0);
            }
            (name, value) => {
                entry.name.note(name, value);
                entry.extent.note(name, value);
            }
        }
    }
    Ok(entry)
}

impl<'u> NameOf<'u> {
    fn note(&mut self, name: gimli::DwAt, value: AttributeValue<Slice<'u>>) {
        match name {
            gimli::DW_AT_linkage_name | gimli::DW_AT_MIPS_linkage_name => self.linkage = Some(value),
            gimli::DW_AT_name => self.plain = Some(value),
            gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => self.origin = Some(value),
            _ => {}
        }
    }
}

/// Finds names by entries of other units as well: with link-time optimisation, functions are inlined across units.
pub(super) struct NameFinder<'s> {
    sections: &'s Sections<'s>,
    others: HashMap<u64, Option<Rc<Unit<'s>>>>,
    /// By the unit's offset.
    scopes: HashMap<u64, Rc<Scopes>>,
    deadline: Instant,
}

impl<'s> NameFinder<'s> {
    pub(super) fn new(sections: &'s Sections<'s>, deadline: Instant) -> NameFinder<'s> {
        NameFinder { sections, others: HashMap::new(), scopes: HashMap::new(), deadline }
    }

    /// A function's name, as it is in the debug information: the linker's, or else the source's with its scopes.
    pub(super) fn name(&mut self, unit: &Unit<'_>, name: &NameOf<'_>) -> Option<String> {
        if let Some(name) = self.here(unit, name) {
            return Some(name);
        }
        let mut step = Step::of(name.origin?)?;
        let mut other: Option<Rc<Unit<'s>>> = None;
        for _ in 0..REFERENCES {
            let offset = match step {
                Step::Within(offset) => offset,
                Step::Across(offset) => {
                    let target = self.other(offset)?;
                    let within = target.offset_of(offset)?;
                    other = Some(target);
                    within
                }
            };
            let unit = other.as_deref().unwrap_or(unit);
            let mut entries = unit.entries(Some(offset));
            let abbreviation = entries.read_abbreviation().ok()??;
            let name = read(&mut entries, abbreviation, offset, unit.root.encoding.version).ok()?.name;
            if let Some(name) = self.here(unit, &name) {
                return Some(name);
            }
            step = Step::of(name.origin?)?;
        }
        None
    }

    /// The name that an entry has itself.
    fn here(&mut self, unit: &Unit<'_>, name: &NameOf<'_>) -> Option<String> {
        let string = |value: Option<AttributeValue<Slice<'_>>>| unit.root.string(self.sections, value?);
        if let Some(linkage) = string(name.linkage) {
            return Some(linkage);
        }
        let plain = string(name.plain)?;
        if !unit.root.has_scopes {
            return Some(plain);
        }
        let scopes = match self.scopes.get(&unit.start()) {
            Some(scopes) => Rc::clone(scopes),
            None => {
                // A unit that can't be walked leaves names as they are.
                let Ok(scopes) = Scopes::read(unit, self.deadline) else { return Some(plain) };
                if self.scopes.len() >= OTHER_UNITS {
                    self.scopes.clear();
                }
                let scopes = Rc::new(scopes);
                self.scopes.insert(unit.start(), Rc::clone(&scopes));
                scopes
            }
        };
        Some(scopes.qualify(unit, self.sections, name.offset, plain))
    }

    fn other(&mut self, offset: u64) -> Option<Rc<Unit<'s>>> {
        let start = unit_around(self.sections, offset)?;
        if self.others.len() >= OTHER_UNITS {
            self.others.clear();
        }
        let sections = self.sections;
        self.others.entry(start).or_insert_with(|| Unit::read(sections, start).ok().map(Rc::new)).clone()
    }
}

/// Where a name is to be looked for next.
enum Step {
    /// In the same unit.
    Within(usize),
    /// Anywhere in `.debug_info`.
    Across(u64),
}

impl Step {
    fn of(value: AttributeValue<Slice<'_>>) -> Option<Step> {
        match value {
            AttributeValue::UnitRef(offset) => Some(Step::Within(offset.0)),
            AttributeValue::DebugInfoRef(offset) => Some(Step::Across(offset.0 as u64)),
            _ => None,
        }
    }
}
