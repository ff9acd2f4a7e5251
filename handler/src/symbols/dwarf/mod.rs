//! Source lines and inlined functions from DWARF. What is read is what the addresses need: the units that they lie in, each
//! once. The work is bounded by the bytes that may be read, and by the clock.

mod functions;
mod index;
mod lines;
mod scopes;
mod section;
mod split;
#[cfg(test)]
mod tests;
mod unit;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use addr2line::gimli::SectionId;
use aftermach_protocol::platform::Cpu;

use crate::unwind::file::{FileError, Format, ObjectFile};
use functions::{Function, NameFinder};
use index::Index;
use lines::Lines;
use section::Sections;
use split::{Skeleton, SplitFiles};
use unit::Unit;

/// One function at an address, as DWARF has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Name as it is in DWARF: the linker's name, mangled, if there is one.
    pub(super) name: Option<String>,
    /// Source file and line.
    pub(super) source: Option<(String, u32)>,
}

/// What DWARF says of some addresses.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The places of each address, the innermost first; none where DWARF says nothing.
    pub(super) of_each: Vec<Vec<Place>>,
    /// The first thing that went wrong. It may have cost some places.
    pub(super) problem: Option<FileError>,
}

/// Whether the file has debug information.
pub(super) fn has_debug_information(file: &ObjectFile) -> bool {
    section_name(file, SectionId::DebugInfo)
        .and_then(|name| file.section(&name))
        .is_some_and(|section| section.size > 0)
}

/// An image whose debug information is read.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// The file that has it: the image's own, or a detached one.
    pub(super) file: &'a ObjectFile,
    /// The image's own path, beside which what was split off may lie.
    pub(super) image: &'a Path,
    pub(super) cpu: Cpu,
}

/// The places of `addresses` (sorted, in the file's own terms). At most `limit` bytes of debug information are read.
pub(super) fn places(source: Source<'_>, addresses: &[u64], limit: u64, deadline: Instant) -> Places {
    let Source { file, image, cpu } = source;
    let sections = Sections::new(file, limit);
    let mut places = Places { of_each: vec![Vec::new(); addresses.len()], problem: None };
    let index = match Index::new(file, &sections, addresses, deadline) {
        Ok(index) => index,
        Err(problem) => return Places { problem: Some(problem), ..places },
    };
    let mut units: Vec<u64> = index.units.iter().flatten().copied().collect();
    units.sort_unstable();
    units.dedup();
    // Units have nothing to do with each other, but what they refer to of others.
    let next = AtomicUsize::new(0);
    let found = Mutex::new(&mut places);
    let work = |sections: &Sections<'_>| {
        let split = SplitFiles::new(image, cpu);
        let mut names = NameFinder::new(sections, deadline);
        while let Some(start) = units.get(next.fetch_add(1, Ordering::Relaxed))
            && Instant::now() < deadline
        {
            let wanted: Vec<usize> = (0..addresses.len()).filter(|at| index.units[*at] == Some(*start)).collect();
            let inside: Vec<u64> = wanted.iter().map(|at| addresses[*at]).collect();
            let reader = UnitReader { sections, split: &split, index: &index, addresses: &inside, deadline };
            let mut problem = None;
            let in_unit = reader.places(*start, &mut names, &mut problem);
            let mut places = found.lock().unwrap_or_else(PoisonError::into_inner);
            if places.problem.is_none() {
                places.problem = problem;
            }
            match in_unit {
                Ok(found) => wanted.into_iter().zip(found).for_each(|(at, found)| places.of_each[at] = found),
                Err(problem) => drop(places.problem.get_or_insert(problem)),
            }
        }
    };
    let threads = match sections.any_compressed() {
        true => 1,
        false => super::threads().min(units.len() / 2).max(1),
    };
    let share = sections.left() / threads as u64;
    thread::scope(|scope| {
        for _ in 1..threads {
            // One that can't be started leaves its work to the others.
            let work = || work(&Sections::new(file, share));
            let _ = thread::Builder::new().name("symbols".to_owned()).spawn_scoped(scope, work);
        }
        sections.allow(share);
        work(&sections);
    });
    places
}

/// Finds the places of addresses in one unit.
struct UnitReader<'s, 'i> {
    sections: &'s Sections<'s>,
    split: &'i SplitFiles<'i>,
    index: &'i Index<'i>,
    addresses: &'i [u64],
    deadline: Instant,
}

/// A function's name, and where it was inlined: file and line in the function around it.
type Called = (Option<String>, (Option<u64>, u32));

impl<'s> UnitReader<'s, '_> {
    fn places(
        &self,
        start: u64,
        names: &mut NameFinder<'s>,
        problem: &mut Option<FileError>,
    ) -> Result<Vec<Vec<Place>>, FileError> {
        let unit = Unit::read(self.sections, start)?;
        let split = unit.root.skeleton.as_ref().map(|skeleton| self.in_split_file(&unit, skeleton));
        let functions = match split {
            Some(Ok(functions)) => functions,
            // What the skeleton has of it is better than nothing: clang leaves inlined functions there.
            Some(Err(error)) => {
                problem.get_or_insert(error);
                self.functions(&unit, self.sections, names)?
            }
            None => self.functions(&unit, self.sections, names)?,
        };
        let program = lines::read(self.sections, &unit.root)?;
        let lines = program.as_deref().map(|program| Lines::run(program, self.addresses, self.index, self.deadline));
        let lines = lines.transpose()?;
        let source = |file: Option<u64>, line: u32| {
            let path = lines.as_ref()?.file(self.sections, &unit.root, file?)?;
            (line != 0).then_some((path, line))
        };
        let mut all = Vec::new();
        for (at, functions) in functions.into_iter().enumerate() {
            let row = lines.as_ref().and_then(|lines| lines.rows[at]);
            let mut here = row.and_then(|(file, line)| source(Some(file), line));
            let mut places = Vec::new();
            for (name, (file, line)) in functions.into_iter().rev() {
                places.push(Place { name, source: std::mem::replace(&mut here, source(file, line)) });
            }
            // Assembly has lines and no functions.
            if places.is_empty() && here.is_some() {
                places.push(Place { name: None, source: here });
            }
            all.push(places);
        }
        Ok(all)
    }

    /// The functions of each address, the outermost first.
    fn functions<'u>(
        &self,
        unit: &Unit<'u>,
        sections: &'u Sections<'u>,
        names: &mut NameFinder<'u>,
    ) -> Result<Vec<Vec<Called>>, FileError> {
        let found = functions::find(unit, sections, self.addresses, self.index, self.deadline)?;
        let mut called = |function: &Function<'_>| (names.name(unit, &function.name), function.call);
        Ok(found.iter().map(|functions| functions.iter().map(&mut called).collect()).collect())
    }

    /// The same, of a unit that was split off.
    fn in_split_file(&self, skeleton: &Unit<'_>, named: &Skeleton) -> Result<Vec<Vec<Called>>, FileError> {
        let file = self.split.find(self.sections, named, skeleton.root.directory.as_deref())?;
        let sections = file.sections(self.sections);
        let read = || {
            let unit = split::unit(&sections, skeleton, named.id)?;
            self.functions(&unit, &sections, &mut NameFinder::new(&sections, self.deadline))
        };
        read().map_err(|error| named.problem(error))
    }
}

/// The name that a debug section has in a file.
fn section_name(file: &ObjectFile, id: SectionId) -> Option<String> {
    match file.format() {
        Format::Elf => Some(id.name().to_owned()),
        // Section names have 16 bytes in Mach-O: "__debug_str_offs".
        Format::MachO => {
            let name = id.name().strip_prefix('.')?;
            Some(format!("__DWARF,__{}", &name[..name.len().min(14)]))
        }
    }
}
