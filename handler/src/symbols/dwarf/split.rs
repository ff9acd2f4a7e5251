//! Split debug information (`-gsplit-dwarf`): a unit of the image is a skeleton that has addresses and lines, and names the file
//! that has the functions. That file lies where the compiler put it ("NAME.dwo"), or in a package beside the image
//! ("IMAGE.dwp"). DWARF 5, 7.3.2, and before it GCC's and LLVM's extension of DWARF 4
//! (<https://gcc.gnu.org/wiki/DebugFission>, <https://gcc.gnu.org/wiki/DebugFissionDWP>).

use std::cell::{Cell, OnceCell};
use std::path::{Path, PathBuf};

use addr2line::gimli::{DebugCuIndex, IndexSectionId, LittleEndian};
use aftermach_protocol::platform::Cpu;

use super::section::{Parts, Sections};
use super::unit::{Unit, length_of, malformed};
use crate::unwind::file::{FileError, ObjectFile};

/// Files that are opened for one image. The units that a crash's frames lie in are fewer.
const FILES: usize = 256;
/// Bytes of a path that an error names.
const PATH: usize = 256;
/// Units in one file: one of code, and one for each type that has its own.
const UNITS: usize = 1 << 16;

/// Where an image's split debug information may be.
pub(super) struct SplitFiles<'a> {
    /// The image's path.
    image: &'a Path,
    cpu: Cpu,
    package: OnceCell<Option<ObjectFile>>,
    opened: Cell<usize>,
}

/// What a skeleton says of the file that has the rest of its unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Skeleton {
    /// Path, or relative to the folder of the compilation.
    pub(super) name: String,
    /// What the unit in that file has as well.
    pub(super) id: u64,
}

impl Skeleton {
    /// What is the matter with the file.
    pub(super) fn problem(&self, error: FileError) -> FileError {
        FileError::Split { path: self.name.chars().take(PATH).collect(), problem: Box::new(error) }
    }
}

/// The file that one skeleton's unit is in, and the parts of its sections that are the unit's; all of them in a file of its own.
pub(super) enum SplitFile<'p> {
    Package(&'p ObjectFile, Parts),
    Own(Box<ObjectFile>),
}

impl<'a> SplitFiles<'a> {
    pub(super) fn new(image: &'a Path, cpu: Cpu) -> SplitFiles<'a> {
        SplitFiles { image, cpu, package: OnceCell::new(), opened: Cell::new(0) }
    }

    /// The file that has the unit of `skeleton`, which was compiled in `directory`.
    ///
    /// # Errors
    /// There is none, or it can't be read; the error names it.
    pub(super) fn find(
        &self,
        sections: &Sections<'_>,
        skeleton: &Skeleton,
        directory: Option<&str>,
    ) -> Result<SplitFile<'_>, FileError> {
        if let Some(package) = self.package.get_or_init(|| self.open_package())
            && let Some(parts) = parts_in_package(package, sections, skeleton.id)
        {
            return Ok(SplitFile::Package(package, parts));
        }
        let mut first = None;
        for path in self.candidates(&skeleton.name, directory) {
            if self.opened.replace(self.opened.get() + 1) >= FILES {
                return Err(skeleton.problem(FileError::Malformed("more split files than are opened")));
            }
            match ObjectFile::open(&path, self.cpu) {
                Ok(file) => return Ok(SplitFile::Own(Box::new(file))),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        Err(skeleton.problem(first.unwrap_or(FileError::Malformed("a split file without a name"))))
    }

    fn open_package(&self) -> Option<ObjectFile> {
        let mut path = self.image.as_os_str().to_owned();
        path.push(".dwp");
        ObjectFile::open(Path::new(&path), self.cpu).ok()
    }

    /// Where the compiler put it, or beside the image: what was built elsewhere is often brought along in one folder.
    fn candidates(&self, name: &str, directory: Option<&str>) -> Vec<PathBuf> {
        let name = Path::new(name);
        let Some(file_name) = name.file_name() else { return Vec::new() };
        let compiled = Path::new(directory.unwrap_or_default()).join(name);
        let beside = self.image.parent().unwrap_or(Path::new("/"));
        let mut candidates = vec![compiled, beside.join(name), beside.join(file_name)];
        // A name alone would be looked for where the service happens to run.
        candidates.retain(|candidate| candidate.is_absolute());
        candidates.dedup();
        candidates
    }
}

impl SplitFile<'_> {
    /// The sections of the unit; those that stay in the image are those of `image`.
    pub(super) fn sections<'s>(&'s self, image: &Sections<'s>) -> Sections<'s> {
        match self {
            SplitFile::Package(file, parts) => image.split(file, parts),
            SplitFile::Own(file) => image.split(file, &Parts::default()),
        }
    }
}

/// The parts of a package's sections that the unit `id` has (DWARF 5, 7.3.5).
fn parts_in_package(package: &ObjectFile, sections: &Sections<'_>, id: u64) -> Option<Parts> {
    let section = package.section(".debug_cu_index").filter(|section| section.size > 0)?;
    let bytes = sections.of_another(package, section).ok()?;
    let index = DebugCuIndex::new(&bytes, LittleEndian).index().ok()?;
    let mut parts = Parts::default();
    for part in index.sections(index.find(id)?).ok()? {
        let range = Some((u64::from(part.offset), u64::from(part.size)));
        match part.section {
            IndexSectionId::DebugInfo => parts.info = range,
            IndexSectionId::DebugAbbrev => parts.abbreviations = range,
            IndexSectionId::DebugStrOffsets => parts.string_offsets = range,
            IndexSectionId::DebugRngLists => parts.range_lists = range,
            _ => {}
        }
    }
    parts.info.map(|_| parts)
}

/// The unit of `skeleton` in the sections of its split file: the one with its id.
pub(super) fn unit<'s>(sections: &'s Sections<'_>, skeleton: &Unit<'_>, id: u64) -> Result<Unit<'s>, FileError> {
    let mut at = 0;
    for _ in 0..UNITS {
        let bytes = sections.up_to(&sections.info, at, 12)?;
        let Some((_, length)) = length_of(&bytes) else { break };
        // Units of types are none of code.
        if let Ok(unit) = Unit::read_split(sections, at, &skeleton.root)
            && unit.id() == Some(id)
        {
            return Ok(unit);
        }
        at = at.checked_add(length).ok_or_else(|| malformed(()))?;
    }
    Err(FileError::Malformed("split debug information of another build"))
}
