//! The images of a task: what its loader lists, and what is mapped to be executed besides.

mod dyld;
#[cfg(test)]
mod dyld_tests;
mod elf;
mod link_map;
mod macho;
#[cfg(test)]
mod tests;
mod unwind_sections;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use self::elf::Elf;
use super::capture::Capture;
use super::{Image, ImageFile, ImageKind, Region, SharedCache, Thread};
use crate::host::ImageList;

/// The name of the vDSO's mapping, and of its image.
const VDSO: &str = "[vdso]";

/// What the kernel adds to the path of a mapped file that is gone.
const DELETED: &[u8] = b" (deleted)";

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The images, the main executable first.
    pub(super) images: Vec<Image>,
    /// Where the headers of client records are.
    pub(super) records: Vec<u64>,
    /// What images say to the crash reporter: path and message.
    pub(super) messages: Vec<(PathBuf, String)>,
    /// Where the shared cache is.
    pub(super) shared_cache: Option<SharedCache>,
}

/// Copies what unwinding `threads` needs of those of `images` whose files are of no use.
pub(super) fn copy_unwind_sections(capture: &mut Capture<'_>, images: &[Image], threads: &[Thread]) {
    unwind_sections::copy_needed(capture, images, threads);
}

/// Lists the task's images.
pub(super) fn list(capture: &mut Capture<'_>) -> Found {
    let list = capture.task.image_list(&mut capture.gaps);
    let mut builder = Builder { capture, found: Found::default() };
    match list {
        Some(ImageList::LinkMap { program_headers, count, vdso, interpreter }) => {
            builder.elf(program_headers, count, vdso, interpreter);
        }
        Some(ImageList::Dyld { all_image_infos }) => dyld::list(&mut builder, all_image_infos),
        None => builder.elf(0, 0, None, None),
    }
    builder.separate();
    builder.found
}

struct Builder<'a, 'b> {
    capture: &'a mut Capture<'b>,
    found: Found,
}

impl Builder<'_, '_> {
    fn elf(&mut self, program_headers: u64, count: u64, vdso: Option<u64>, interpreter: Option<u64>) {
        let executable = elf::executable(self.capture, program_headers, count);
        if executable.is_none() && program_headers != 0 {
            self.capture.gap("images", format!("the program headers at {program_headers:#x} lead to no executable"));
        }
        let dynamic = executable.as_ref().and_then(|elf| elf.dynamic);
        if let Some(elf) = executable {
            self.add(elf, ImageKind::Executable, None);
        }
        let kind = |base: u64| match base {
            _ if Some(base) == vdso => ImageKind::Vdso,
            _ if Some(base) == interpreter => ImageKind::Loader,
            _ => ImageKind::Library,
        };
        let entries = match dynamic.and_then(|dynamic| link_map::head(self.capture, dynamic)) {
            Some(head) => link_map::walk(self.capture, head),
            None => Vec::new(),
        };
        let mut lost = 0_usize;
        for entry in entries {
            let Some(base) = entry.base(self.capture) else {
                lost += 1;
                continue;
            };
            if self.known(base) {
                continue;
            }
            match elf::read(self.capture, base) {
                Some(elf) => self.add(elf, kind(base), Some(entry.name)),
                None => lost += 1,
            }
        }
        if lost > 0 {
            self.capture.gap("images", format!("{lost} entries of the loader's list lead to no image"));
        }
        for base in [interpreter, vdso].into_iter().flatten().filter(|base| *base != 0) {
            self.mapped(base, kind(base));
        }
        self.executable_mappings(program_headers);
    }

    /// Adds what is mapped to be executed and in no list: before the loader has started, after its list was overwritten,
    /// or because something else loaded it.
    fn executable_mappings(&mut self, program_headers: u64) {
        let regions = self.capture.regions;
        for region in regions.iter().filter(|region| region.protection.execute && is_file(region)) {
            let known = |image: &Image| image.base <= region.start && region.start - image.base < image.size;
            if self.found.images.iter().any(known) {
                continue;
            }
            if self.found.images.len() >= self.capture.limits.images || self.capture.out_of_time() {
                let count = self.found.images.len();
                return self
                    .capture
                    .gap("images", format!("mappings that are executed may hold more than {count} images"));
            }
            let Some(base) = file_start(self.capture, region.start) else { continue };
            let main = region.start <= program_headers && program_headers < region.end;
            self.mapped(base, if main { ImageKind::Executable } else { ImageKind::Library });
        }
    }

    /// Adds the image whose header is at `base`, if it isn't there and there is one.
    fn mapped(&mut self, base: u64, kind: ImageKind) {
        if !self.known(base)
            && let Some(elf) = elf::read(self.capture, base)
        {
            self.add(elf, kind, None);
        }
    }

    fn known(&self, base: u64) -> bool {
        self.found.images.iter().any(|image| image.base == base)
    }

    fn add(&mut self, elf: Elf, kind: ImageKind, name: Option<u64>) {
        let limits = self.capture.limits;
        self.found.records.extend(&elf.records);
        if elf.cut {
            self.capture.gap("images", format!("the image at {:#x} has more headers than are read", elf.base));
        }
        let path = match kind {
            ImageKind::Vdso => PathBuf::from(VDSO),
            _ => self.path(elf.base, name),
        };
        let file = match kind {
            ImageKind::Vdso => ImageFile::Unreachable,
            _ => self.capture.task.image_file(elf.base, &path),
        };
        let sections = match kind {
            ImageKind::Vdso => {
                // Its symbol table lies behind what its headers have mapped, on the same pages.
                let mapped = self.capture.region_at(elf.base).map_or(0, |region| region.end - elf.base);
                let size = elf.size.max(mapped).min(limits.unwind_section);
                self.capture.copy(elf.base, elf.base.saturating_add(size));
                unwind_sections::find(self.capture, &elf)
            }
            _ if file == ImageFile::Same => Vec::new(),
            _ => unwind_sections::find(self.capture, &elf),
        };
        self.push(Image {
            version: version(&path),
            path,
            kind,
            base: elf.base,
            size: elf.size,
            bias: elf.bias,
            id: elf.id,
            file,
            sections,
        });
    }

    /// Adds `image`. The executable is the first, however late it was found.
    fn push(&mut self, image: Image) {
        let limit = self.capture.limits.images;
        if self.found.images.len() >= limit {
            self.capture.gap("images", format!("{}: left out, there are {limit} already", image.path.display()));
            return;
        }
        let index = if image.kind == ImageKind::Executable { 0 } else { self.found.images.len() };
        self.found.images.insert(index, image);
    }

    /// The path of the image at `base`: of the mapping, or else what the loader calls it (its name is at `name`).
    fn path(&mut self, base: u64, name: Option<u64>) -> PathBuf {
        if let Some(path) = self.capture.region_at(base).and_then(|region| region.path.as_deref()) {
            let bytes = path.as_os_str().as_bytes();
            return PathBuf::from(OsStr::from_bytes(bytes.strip_suffix(DELETED).unwrap_or(bytes)));
        }
        let limit = self.capture.limits.path;
        let Some(name) = name.filter(|name| *name != 0) else { return PathBuf::new() };
        match self.capture.read_c_string(name, limit) {
            Some(path) => PathBuf::from(OsStr::from_bytes(&path)),
            None => {
                self.capture.gap("images", format!("path of the image at {base:#x}: no end within {limit} bytes"));
                PathBuf::new()
            }
        }
    }

    /// Sees to it that no image reaches into the next, whatever their headers say of their sizes.
    fn separate(&mut self) {
        let mut bases: Vec<u64> = self.found.images.iter().map(|image| image.base).collect();
        bases.sort_unstable();
        for image in &mut self.found.images {
            let next = bases.get(bases.partition_point(|base| *base <= image.base)).copied().unwrap_or(u64::MAX);
            if image.size > next - image.base {
                let path = image.path.display();
                self.capture.gap("images", format!("{path}: its headers claim memory of the image after it"));
                image.size = next - image.base;
            }
        }
    }
}

fn is_file(region: &Region) -> bool {
    region.path.as_ref().is_some_and(|path| path.as_os_str().as_bytes().starts_with(b"/"))
}

/// Where the file that is mapped at `address` begins in memory: its header. An image's mappings lie close together, with at
/// most a few others (zeroed data, gaps made by large alignments) between them.
fn file_start(capture: &Capture<'_>, address: u64) -> Option<u64> {
    const MAPPINGS_OF_AN_IMAGE: usize = 64;
    let index = capture.region_index(address)?;
    let path = capture.regions[index].path.as_ref().filter(|_| is_file(&capture.regions[index]))?;
    let below = capture.regions[..=index].iter().rev().take(MAPPINGS_OF_AN_IMAGE);
    let mut of_file = below.filter(|region| region.path.as_ref() == Some(path));
    of_file.find(|region| region.offset == 0).map(|region| region.start)
}

/// "6" of "libc.so.6", "1.1" of "libssl.so.1.1": ELF has no version but this.
fn version(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let (_, version) = name.rsplit_once(".so.")?;
    let plain = version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    (plain && !version.is_empty()).then(|| version.to_owned())
}
