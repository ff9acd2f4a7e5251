//! Names for every frame of a report.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::cache::{self, NameCache, Source};
use super::demangle::demangle;
use super::dwarf::{self, Place};
use super::table::{self, Function};
use super::{Symbol, debug_file, vdso};
use crate::snapshot::{Gap, Image, Snapshot};
use crate::unwind::file::{Format, ObjectFile};
use crate::unwind::{Frame, Sections, Trace};

/// How much is read for names at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of debug information that are read for one image. What would take more has function names only.
    pub debug_information: u64,
    /// Time for all addresses together; what is left over then has function names only.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { debug_information: 512 << 20, time: Duration::from_secs(20) }
    }
}

/// Finds names for the frames of one snapshot.
#[derive(Debug)]
pub struct Symbolizer<'a> {
    snapshot: &'a Snapshot,
    sections: &'a Sections,
    limits: Limits,
    cache: Option<&'a NameCache>,
    gaps: Mutex<Vec<Gap>>,
}

/// The names of a report's frames.
#[derive(Debug, Clone, Default)]
pub struct Names(HashMap<Key, Arc<[Symbol]>>);

impl Names {
    /// The functions of a frame, the innermost first; none where there is no name.
    pub fn of(&self, frame: &Frame) -> &[Symbol] {
        self.0.get(&key(frame)).map_or(&[], |symbols| symbols)
    }
}

/// What decides a frame's names: the address to look up, and how far the frame's own address is from it.
type Key = (u64, bool);

impl<'a> Symbolizer<'a> {
    /// A symbolizer for `snapshot`, whose image files `sections` has opened.
    pub fn new(snapshot: &'a Snapshot, sections: &'a Sections, limits: Limits) -> Symbolizer<'a> {
        Symbolizer { snapshot, sections, limits, cache: None, gaps: Mutex::default() }
    }

    /// The same, which takes from `cache` what was found before, and leaves there what it finds.
    pub fn with_cache(self, cache: &'a NameCache) -> Symbolizer<'a> {
        Symbolizer { cache: Some(cache), ..self }
    }

    /// What could not be read.
    pub fn gaps(&self) -> Vec<Gap> {
        self.gaps.lock().map(|gaps| gaps.clone()).unwrap_or_default()
    }

    /// The names of all frames of `traces`.
    pub fn names(&self, traces: &[Trace]) -> Names {
        Names(self.frames(traces.iter().flat_map(|trace| &trace.frames)))
    }

    /// The functions at one code address.
    pub fn address(&self, address: u64) -> Vec<Symbol> {
        let image = self.sections.code.image(address);
        let trust = crate::unwind::Trust::Context;
        let frame = Frame { address, raw: address, is_return_address: false, sp: 0, trust, image };
        self.frames([frame].iter()).remove(&key(&frame)).map_or_else(Vec::new, |symbols| symbols.to_vec())
    }

    fn frames<'f>(&self, frames: impl Iterator<Item = &'f Frame>) -> HashMap<Key, Arc<[Symbol]>> {
        let deadline = Instant::now() + self.limits.time;
        let mut by_image: HashMap<usize, Vec<Key>> = HashMap::new();
        for frame in frames {
            if let Some(image) = frame.image {
                by_image.entry(image).or_default().push(key(frame));
            }
        }
        // Images have nothing to do with each other: each of a few threads takes one after the other.
        let images: Vec<(usize, Vec<Key>)> = by_image.into_iter().collect();
        let found = Mutex::new(HashMap::new());
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some((image, keys)) = images.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut keys = keys.clone();
                keys.sort_unstable();
                keys.dedup();
                let named = self.image(*image, &keys, deadline);
                found.lock().unwrap_or_else(PoisonError::into_inner).extend(named);
            }
        };
        let threads = super::threads().min(images.len());
        thread::scope(|scope| {
            for _ in 1..threads {
                // One that can't be started leaves its work to the others.
                let _ = thread::Builder::new().name("symbols".to_owned()).spawn_scoped(scope, work);
            }
            work();
        });
        found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn image(&self, index: usize, keys: &[Key], deadline: Instant) -> Vec<(Key, Arc<[Symbol]>)> {
        let Some(image) = self.snapshot.images.get(index) else { return Vec::new() };
        let Some(file) = self.sections.file(self.snapshot, index) else { return self.in_vdso(image, keys) };
        let place = |key: &Key| (key.0.wrapping_sub(image.bias), key.1);
        if let Some(known) = self.cache.and_then(|cache| cache.get_all(file, keys.iter().map(place))) {
            return keys.iter().copied().zip(known).collect();
        }
        let needs_debug_file = !dwarf::has_debug_information(file) || !file.has_full_symbols();
        let debug_file = if needs_debug_file { debug_file::find(&image.path, file, self.snapshot.cpu) } else { None };
        let (debug_path, debug_file) = debug_file.unzip();
        let source = self.cache.and_then(|_| Source::of(file, debug_file.as_ref()));
        let known = match (self.cache, &source) {
            (Some(cache), Some(source)) => cache.get(source, keys.iter().map(place)),
            _ => vec![None; keys.len()],
        };
        let unknown: Vec<Key> =
            keys.iter().zip(&known).filter(|(_, known)| known.is_none()).map(|(key, _)| *key).collect();
        let mut all: Vec<(Key, Arc<[Symbol]>)> =
            keys.iter().zip(known).filter_map(|(key, known)| Some((*key, known?))).collect();
        if unknown.is_empty() {
            return all;
        }
        let places: Vec<cache::Place> = unknown.iter().map(place).collect();
        let (found, problems) = self.look_up(image, file, debug_file.as_ref(), &places, deadline);
        // What was found while the file changed, or in part, is not to be believed again.
        if let (Some(cache), Some(source)) = (self.cache, source)
            && problems.is_empty()
            && Source::of(file, debug_file.as_ref()).as_ref() == Some(&source)
        {
            cache.keep(&source, debug_path, places.into_iter().zip(found.iter().cloned()));
        }
        if let (false, Ok(mut gaps)) = (problems.is_empty(), self.gaps.lock()) {
            let path = image.path.display();
            gaps.extend(problems.into_iter().map(|what| Gap::new("symbols", format!("{path}: {what}"))));
        }
        all.extend(unknown.into_iter().zip(found));
        all
    }

    /// The names in the vDSO, which has no file; none in any other image without one.
    fn in_vdso(&self, image: &Image, keys: &[Key]) -> Vec<(Key, Arc<[Symbol]>)> {
        let addresses: Vec<u64> = keys.iter().map(|(lookup, _)| lookup.wrapping_sub(image.bias)).collect();
        let functions = vdso::functions(&self.snapshot.memory, image, &addresses);
        let named = keys.iter().zip(addresses).zip(functions).filter_map(|((key, lookup), function)| {
            let Function { name, start } = function?;
            let offset = (lookup + u64::from(key.1)).checked_sub(start);
            Some((*key, Arc::from([Symbol { function: Some(name), offset, ..Symbol::default() }])))
        });
        named.collect()
    }

    /// Finds what stands at each of `places`, which are sorted, and tells what went wrong.
    fn look_up(
        &self,
        image: &Image,
        file: &ObjectFile,
        debug_file: Option<&ObjectFile>,
        places: &[cache::Place],
        deadline: Instant,
    ) -> (Vec<Arc<[Symbol]>>, Vec<String>) {
        let mut problems = Vec::new();
        let addresses: Vec<u64> = places.iter().map(|(address, _)| *address).collect();
        let lines = match (debug_file, dwarf::has_debug_information(file)) {
            (_, true) => Some(file),
            (Some(debug_file), false) => {
                let wanted = !debug_file::is_system_library(&image.path) && dwarf::has_debug_information(debug_file);
                Some(debug_file).filter(|_| wanted)
            }
            (None, false) => None,
        };
        let names = match debug_file {
            Some(debug_file) if !file.has_full_symbols() && debug_file.has_full_symbols() => debug_file,
            _ => file,
        };
        let functions = table::functions(names, &addresses).unwrap_or_else(|error| {
            problems.push(format!("symbols: {error}"));
            vec![None; addresses.len()]
        });
        problems.extend(unread_names(names, &functions).map(str::to_owned));
        let source = lines.map(|file| dwarf::Source { file, image: &image.path, cpu: self.snapshot.cpu });
        let found = source.map(|source| dwarf::places(source, &addresses, self.limits.debug_information, deadline));
        let dwarf::Places { of_each, problem } = found.unwrap_or_default();
        problems.extend(problem.map(|error| format!("debug information: {error}")));
        if Instant::now() >= deadline {
            problems.push("names were not all looked up: the time was up".into());
        }
        let mut of_each = of_each.into_iter();
        let rows = places.iter().zip(functions).map(|((lookup, is_return), function)| {
            let address = lookup.saturating_add(u64::from(*is_return));
            combine(function, of_each.next().unwrap_or_default(), address, file).into()
        });
        (rows.collect(), problems)
    }
}

/// What is the matter, if names are missing that are in the file: Fedora's programs have those of their own functions in
/// `.gnu_debugdata`, an ELF file compressed with xz, which is not read.
fn unread_names(file: &ObjectFile, functions: &[Option<Function>]) -> Option<&'static str> {
    let missing = functions.iter().any(Option::is_none) && !file.has_full_symbols();
    let unread = missing && file.section(".gnu_debugdata").is_some_and(|section| section.size > 0);
    unread.then_some("symbols: those in .gnu_debugdata are not read")
}

fn key(frame: &Frame) -> Key {
    (frame.lookup_address(), frame.is_return_address)
}

/// One frame's functions: DWARF's with their lines, named and bounded by the symbol table.
fn combine(function: Option<Function>, places: Vec<Place>, address: u64, file: &ObjectFile) -> Vec<Symbol> {
    let macho = file.format() == Format::MachO;
    let offset = function.as_ref().and_then(|function| address.checked_sub(function.start));
    let name = function.map(|function| demangle(&function.name, macho));
    let Some(outermost) = places.len().checked_sub(1) else {
        return name.map(|name| vec![Symbol { function: Some(name), offset, ..Symbol::default() }]).unwrap_or_default();
    };
    let symbol = |(index, place): (usize, Place)| {
        let inlined = index < outermost;
        let own = place.name.map(|name| demangle(&name, macho && name.starts_with('_')));
        let function = if inlined { own } else { fuller(own, name.clone()) };
        Symbol { function, offset: offset.filter(|_| !inlined), source: place.source, inlined }
    };
    places.into_iter().enumerate().map(symbol).collect()
}

/// The fuller of the names that DWARF and the symbol table have for one function. With line tables only, DWARF names a Rust
/// function without its path; the symbol table has the whole name, but of functions that the linker folded into one, anyone's.
fn fuller(dwarf: Option<String>, table: Option<String>) -> Option<String> {
    let (Some(dwarf), Some(table)) = (&dwarf, &table) else { return dwarf.or(table) };
    let plain = dwarf.split('<').next().and_then(|path| path.rsplit("::").next()).unwrap_or_default();
    Some(if table.contains(plain) && !plain.is_empty() { table } else { dwarf }.clone())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use aftermach_protocol::platform::Cpu;

    use super::*;

    #[test]
    fn names_that_are_in_the_file_and_not_read_are_told_where_they_are_missed() {
        let folder = std::env::temp_dir().join(format!("aftermach-debugdata-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("main.c"), "int main(void) { return 0; }").unwrap();
        fs::write(folder.join("packed"), [0xfd, b'7', b'z', b'X', b'Z', 0]).unwrap();
        let steps: [&[&str]; 2] = [
            &["cc", "-s", "main.c", "-o", "plain"],
            &["objcopy", "--add-section=.gnu_debugdata=packed", "plain", "mini"],
        ];
        let built = steps.iter().all(|step| {
            let status = Command::new(step[0]).args(&step[1..]).current_dir(&folder).status();
            status.is_ok_and(|status| status.success())
        });
        if built {
            let cpu = if cfg!(target_arch = "x86_64") { Cpu::X86_64 } else { Cpu::Arm64 };
            let open = |name: &str| ObjectFile::open(&folder.join(name), cpu).unwrap();
            let named = Function { name: "main".into(), start: 0 };
            assert!(unread_names(&open("mini"), &[None]).is_some());
            assert!(unread_names(&open("mini"), &[Some(named)]).is_none(), "none is missed");
            assert!(unread_names(&open("plain"), &[None]).is_none(), "there are none");
        } else {
            println!("SKIP names_that_are_in_the_file_and_not_read_are_told_where_they_are_missed: no cc or objcopy");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
