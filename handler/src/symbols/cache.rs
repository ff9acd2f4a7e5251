//! Names that were found before: the second crash of a program usually stands where the first one stood.

use std::collections::HashMap;
use std::mem::size_of;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Symbol;
use crate::unwind::file::{Identity, ObjectFile};

/// Bytes that names may take together. A crash with 500 threads has some hundred different frames, of some 300 bytes each.
const BYTES: usize = 2 << 20;
/// Bytes that a frame takes besides its names: the key, the counters, the table's free places.
const OVERHEAD: usize = 96;

/// An address in a file's own terms, and whether it is a return address.
pub(super) type Place = (u64, bool);

/// The functions at each of some addresses; `None` where that is not known.
pub(super) type Known = Vec<Option<Arc<[Symbol]>>>;

/// Keeps what stands at addresses of files, for as long as the files are what they were. It serves any number of reports,
/// holds no more than 2 MiB, and forgets first the files that were asked for least recently.
#[derive(Debug, Default)]
pub struct NameCache(Mutex<Files>);

/// Names come from an image's file and from the file with its debug information.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source(Identity, Option<Identity>);

impl Source {
    /// Those of two files as they are now; `None` where a file may change unseen, or is none.
    pub(super) fn of(file: &ObjectFile, debug_file: Option<&ObjectFile>) -> Option<Source> {
        let debug_file = debug_file.map(|file| file.identity().ok_or(())).transpose().ok()?;
        Some(Source(file.identity()?, debug_file))
    }
}

#[derive(Debug, Default)]
struct Files {
    /// The one that was asked for last is the last.
    files: Vec<File>,
    bytes: usize,
}

#[derive(Debug)]
struct File {
    source: Source,
    /// Where the second file of the source is.
    debug_path: Option<PathBuf>,
    names: HashMap<Place, Arc<[Symbol]>>,
    bytes: usize,
}

impl NameCache {
    /// What is known of `places` in a file whose debug information is elsewhere, and was found before: nothing has to be opened
    /// then. `None` if it is not all known, or if that other file is not what it was.
    pub(super) fn get_all(&self, file: &ObjectFile, places: impl Iterator<Item = Place>) -> Option<Vec<Arc<[Symbol]>>> {
        let identity = file.identity()?;
        let files = self.files();
        let file = files.files.iter().find(|file| file.source.0 == identity)?;
        let known = places.map(|place| file.names.get(&place).cloned()).collect::<Option<_>>()?;
        let (path, debug_file) = (file.debug_path.clone()?, file.source.1.clone()?);
        drop(files);
        debug_file.is_still(&path).then_some(known)
    }

    /// What is known of `places` in `source`.
    pub(super) fn get(&self, source: &Source, places: impl Iterator<Item = Place>) -> Known {
        let mut files = self.files();
        let file = files.of(source);
        places.map(|place| file?.names.get(&place).cloned()).collect()
    }

    /// Keeps what was found in `source`, whose second file is at `debug_path`.
    pub(super) fn keep(
        &self,
        source: &Source,
        debug_path: Option<PathBuf>,
        names: impl Iterator<Item = (Place, Arc<[Symbol]>)>,
    ) {
        let mut files = self.files();
        if files.of(source).is_none() {
            files.files.push(File { source: source.clone(), debug_path, names: HashMap::new(), bytes: 0 });
        }
        let Some(file) = files.files.last_mut() else { return };
        let before = file.bytes;
        for (place, symbols) in names {
            let bytes = bytes_of(&symbols);
            if file.bytes + bytes <= BYTES && file.names.insert(place, symbols).is_none() {
                file.bytes += bytes;
            }
        }
        files.bytes += files.files.last().map_or(0, |file| file.bytes) - before;
        while files.bytes > BYTES {
            let oldest = files.files.remove(0);
            files.bytes -= oldest.bytes;
        }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    /// The names of a file, which becomes the last one.
    fn of(&mut self, source: &Source) -> Option<&File> {
        let index = self.files.iter().position(|file| file.source == *source)?;
        let file = self.files.remove(index);
        self.files.push(file);
        self.files.last()
    }
}

fn bytes_of(symbols: &[Symbol]) -> usize {
    let texts = |symbol: &Symbol| {
        symbol.function.as_ref().map_or(0, String::capacity)
            + symbol.source.as_ref().map_or(0, |(file, _)| file.capacity())
    };
    OVERHEAD + symbols.iter().map(|symbol| size_of::<Symbol>() + texts(symbol)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use aftermach_protocol::platform::Cpu;

    use super::*;

    /// A copy of this test's own program, which is an image file.
    struct Copy(PathBuf);

    impl Copy {
        fn new(name: &str) -> Copy {
            let path = std::env::temp_dir().join(format!("aftermach-names-{}-{name}", std::process::id()));
            fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
            Copy(path)
        }

        fn open(&self) -> ObjectFile {
            let cpu = if cfg!(target_arch = "x86_64") { Cpu::X86_64 } else { Cpu::Arm64 };
            ObjectFile::open(&self.0, cpu).unwrap()
        }

        fn source(&self) -> Source {
            Source::of(&self.open(), None).unwrap()
        }
    }

    impl Drop for Copy {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn symbols(name: &str) -> Arc<[Symbol]> {
        Arc::new([Symbol { function: Some(name.to_owned()), ..Symbol::default() }])
    }

    fn name_at(cache: &NameCache, source: &Source, address: u64) -> Option<String> {
        cache.get(source, [(address, true)].into_iter())[0].as_ref()?[0].function.clone()
    }

    #[test]
    fn a_name_is_known_again_for_the_same_file_and_place_only() {
        let (one, other) = (Copy::new("one"), Copy::new("other"));
        let cache = NameCache::default();
        cache.keep(&one.source(), None, [((5, true), symbols("five"))].into_iter());
        assert_eq!(name_at(&cache, &one.source(), 5).as_deref(), Some("five"));
        assert_eq!(name_at(&cache, &one.source(), 6), None);
        assert!(cache.get(&one.source(), [(5, false)].into_iter())[0].is_none());
        assert_eq!(name_at(&cache, &other.source(), 5), None);
    }

    #[test]
    fn a_file_that_was_written_to_or_replaced_is_another_one() {
        let file = Copy::new("changed");
        let before = file.source();
        let bytes = fs::read(&file.0).unwrap();
        fs::write(&file.0, &bytes).unwrap();
        // The times of two changes may be the same tick of the clock.
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
        fs::File::options().write(true).open(&file.0).unwrap().set_modified(later).unwrap();
        let written = file.source();
        assert_ne!(before, written);
        let aside = file.0.with_extension("new");
        fs::write(&aside, &bytes).unwrap();
        fs::rename(&aside, &file.0).unwrap();
        assert_ne!(written, file.source());
    }

    #[test]
    fn names_from_a_debug_file_are_known_without_opening_it_until_it_changes() {
        let (image, debug) = (Copy::new("image"), Copy::new("debug"));
        let (file, cache) = (image.open(), NameCache::default());
        let known = |addresses: &[u64]| {
            let known = cache.get_all(&file, addresses.iter().map(|address| (*address, true)))?;
            Some(known.iter().map(|symbols| symbols[0].function.clone().unwrap()).collect::<Vec<_>>())
        };
        let source = Source::of(&file, Some(&debug.open())).unwrap();
        let names = [((5, true), symbols("five")), ((6, true), symbols("six"))];
        cache.keep(&source, Some(debug.0.clone()), names.into_iter());
        assert_eq!(known(&[6, 5]), Some(vec!["six".to_owned(), "five".to_owned()]));
        assert_eq!(known(&[5, 7]), None);
        fs::remove_file(&debug.0).unwrap();
        assert_eq!(known(&[5]), None);
        // Without a debug file there may be one by now: that has to be looked for.
        let (alone, other) = (Copy::new("alone"), NameCache::default());
        other.keep(&alone.source(), None, [((5, true), symbols("five"))].into_iter());
        assert!(other.get_all(&alone.open(), [(5, true)].into_iter()).is_none());
    }

    #[test]
    fn what_is_kept_has_a_bound_and_the_file_asked_for_least_recently_goes_first() {
        let copies = ["a", "b", "c"].map(Copy::new);
        let sources = copies.each_ref().map(Copy::source);
        let cache = NameCache::default();
        let third = |source: &Source| {
            let one = |index: u64| ((index, true), symbols(&"x".repeat(1000)));
            cache.keep(source, None, (0..BYTES as u64 / 3 / 1000).map(one));
        };
        third(&sources[0]);
        third(&sources[1]);
        assert!(name_at(&cache, &sources[0], 0).is_some());
        third(&sources[2]);
        let known = sources.each_ref().map(|source| name_at(&cache, source, 0).is_some());
        assert_eq!(known, [true, false, true]);
        // One that is too large by itself is kept in part.
        cache.keep(&sources[1], None, (0..10_000).map(|index| ((index, true), symbols(&"y".repeat(1000)))));
        assert!(name_at(&cache, &sources[1], 0).is_some() && name_at(&cache, &sources[1], 9999).is_none());
        let files = cache.files();
        assert_eq!(files.bytes, files.files.iter().map(|file| file.bytes).sum::<usize>());
        assert!(files.bytes <= BYTES);
    }
}
