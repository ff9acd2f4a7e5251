//! Debug information that lies beside an image: detached ELF debug files and dSYM bundles.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use aftermach_protocol::platform::Cpu;

use crate::snapshot::ImageId;
use crate::unwind::file::{Format, ObjectFile};

/// Where distributions put detached debug files (gdb manual, "Separate Debug Files").
const DEBUG_DIRECTORY: &str = "/usr/lib/debug";
/// Bytes of `.gnu_debuglink`: a file name, padding and a checksum.
const DEBUG_LINK: u64 = 4096;

/// The debug file of the image at `path` and where it is, if there is one with the same build id or UUID.
pub(super) fn find(path: &Path, image: &ObjectFile, cpu: Cpu) -> Option<(PathBuf, ObjectFile)> {
    let candidates = match (image.format(), image.id()) {
        (Format::Elf, ImageId::BuildId(id)) => elf_candidates(path, image, id),
        (Format::MachO, ImageId::Uuid(_)) => dsym(path),
        _ => return None,
    };
    // The id decides; the checksum of .gnu_debuglink would cost reading the whole file.
    let open = |path: PathBuf| ObjectFile::open(&path, cpu).ok().map(|file| (path, file));
    candidates.into_iter().filter_map(open).find(|(_, file)| file.id() == image.id())
}

/// Whether an image is a library of the distribution. Of its detached debug information only the symbols are read: its source
/// lines help few, and reading the C library's takes a hundred times as long as all the rest of a report.
pub(super) fn is_system_library(path: &Path) -> bool {
    ["/lib", "/lib64", "/usr/lib", "/usr/lib64"].iter().any(|directory| path.starts_with(directory))
}

fn elf_candidates(path: &Path, image: &ObjectFile, id: &[u8]) -> Vec<PathBuf> {
    let mut candidates = Vec::new();
    if let Some((first, rest)) = id.split_first() {
        let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
        candidates.push(Path::new(DEBUG_DIRECTORY).join(format!(".build-id/{first:02x}/{rest}.debug")));
    }
    if let (Some(name), Some(directory)) = (debug_link(image), path.parent()) {
        candidates.push(directory.join(&name));
        candidates.push(directory.join(".debug").join(&name));
        if let Ok(relative) = directory.strip_prefix("/") {
            candidates.push(Path::new(DEBUG_DIRECTORY).join(relative).join(&name));
        }
    }
    candidates.retain(|candidate| candidate != path);
    candidates
}

/// The file name in `.gnu_debuglink`; one that would lead elsewhere is no file name.
fn debug_link(image: &ObjectFile) -> Option<PathBuf> {
    let section = image.section(".gnu_debuglink")?;
    let bytes = image.read(section.offset, section.size, DEBUG_LINK).ok()?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let name = Path::new(OsStr::from_bytes(&bytes[..end]));
    (name.file_name() == Some(name.as_os_str())).then(|| name.to_owned())
}

/// What dsymutil makes of "dir/name", "dir/name.dSYM/Contents/Resources/DWARF/name", and Xcode of what lies in a bundle: the
/// same beside the bundle, "dir/Name.app.dSYM/…".
fn dsym(path: &Path) -> Vec<PathBuf> {
    const BUNDLES: [&str; 6] = ["app", "appex", "bundle", "framework", "systemextension", "xpc"];
    let Some(name) = path.file_name() else { return Vec::new() };
    let is_bundle = |folder: &&Path| folder.extension().is_some_and(|kind| BUNDLES.iter().any(|known| kind == *known));
    let bundles = path.ancestors().skip(1).filter(is_bundle);
    let beside = |of: &Path| {
        let mut bundle = of.as_os_str().to_owned();
        bundle.push(".dSYM");
        PathBuf::from(bundle).join("Contents/Resources/DWARF").join(name)
    };
    std::iter::once(path).chain(bundles).map(beside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_information_is_looked_for_beside_the_file_and_beside_each_bundle_around_it() {
        let inner = Path::new("/Users/x/A.app/Contents/PlugIns/B.appex/Contents/MacOS/B");
        let found = dsym(inner);
        let expected = [
            "/Users/x/A.app/Contents/PlugIns/B.appex/Contents/MacOS/B.dSYM/Contents/Resources/DWARF/B",
            "/Users/x/A.app/Contents/PlugIns/B.appex.dSYM/Contents/Resources/DWARF/B",
            "/Users/x/A.app.dSYM/Contents/Resources/DWARF/B",
        ];
        assert_eq!(found, expected.map(PathBuf::from));
        assert_eq!(dsym(Path::new("/usr/local/bin/tool")).len(), 1);
        assert!(dsym(Path::new("/")).is_empty());
    }
}
