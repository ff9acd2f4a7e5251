//! dyld's list of images (`struct dyld_all_image_infos` of `<mach-o/dyld_images.h>`), and its traps:
//!
//! - `infoArray` is null while dyld changes the list; if the task died in dyld, it stays so.
//! - dyld itself is in no list.
//! - The main executable is the first of the list up to macOS 13, and may be the last since.
//! - Paths may be unreadable, and are of any length.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::super::capture::Capture;
use super::super::{ImageFile, ImageId, ImageKind, SharedCache};
use super::elf::{quarter, word};
use super::macho::{self, MachO};
use super::{Builder, Image};

/// The structure up to its largest known version.
const ALL_IMAGE_INFOS: usize = 368;
/// The part that every version has.
const SMALLEST: usize = 24;
/// `dyld_image_info` and `dyld_uuid_info`: address, path, time; address, UUID.
const ENTRY: usize = 24;
/// dyld's path where nothing tells it.
const DYLD: &str = "/usr/lib/dyld";

/// The least version of `__crash_info` whose messages are where this reads them (4, 5 and 7 are known).
const CRASH_INFO_VERSION: u64 = 4;

/// What of the structure is used; fields that its version doesn't have are 0.
#[derive(Debug, Clone, Copy, Default)]
struct Infos {
    count: u64,
    array: u64,
    dyld: u64,
    dyld_path: u64,
    error_message: u64,
    uuid_count: u64,
    uuids: u64,
    shared_cache: Option<SharedCache>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    base: u64,
    path: u64,
}

/// Lists the images from the structure at `address`.
pub(super) fn list(builder: &mut Builder<'_, '_>, address: u64) {
    let infos = infos(builder.capture, address);
    builder.found.shared_cache = infos.shared_cache;
    let mut entries = entries(builder.capture, &infos);
    let uuids = uuids(builder.capture, &infos);
    if entries.is_empty() {
        entries = uuids.iter().map(|(base, _)| Entry { base: *base, path: 0 }).collect();
        let seen: Vec<u64> = entries.iter().map(|entry| entry.base).chain([infos.dyld]).collect();
        entries.extend(mapped_headers(builder.capture, &seen));
    }
    let mut loader_name = None;
    for entry in entries {
        if builder.capture.out_of_time() {
            builder.capture.gap("images", "the victim had been held for too long to read the rest of dyld's list");
            break;
        }
        if builder.known(entry.base) {
            continue;
        }
        let image = macho::read(builder.capture, entry.base);
        let first = builder.found.images.first().is_none_or(|image| image.kind != ImageKind::Executable);
        let kind = match image {
            _ if entry.base == infos.dyld => ImageKind::Loader,
            MachO { is_executable: true, .. } if first => ImageKind::Executable,
            MachO { is_loader: true, .. } => ImageKind::Loader,
            _ => ImageKind::Library,
        };
        if kind == ImageKind::Executable {
            loader_name.clone_from(&image.loader);
        }
        add(builder, entry, kind, image, &uuids, None);
    }
    if infos.dyld != 0 && !builder.known(infos.dyld) {
        let image = macho::read(builder.capture, infos.dyld);
        let name = loader_name.or_else(|| image.name.clone()).unwrap_or_else(|| DYLD.as_bytes().to_vec());
        let entry = Entry { base: infos.dyld, path: infos.dyld_path };
        add(builder, entry, ImageKind::Loader, image, &uuids, Some(name));
    }
    // Why dyld could not start the program, if that is what it died of.
    if let Some(message) = message(builder.capture, infos.error_message, Path::new(DYLD)) {
        builder.found.messages.push((PathBuf::from(DYLD), message));
    }
}

fn infos(capture: &mut Capture<'_>, address: u64) -> Infos {
    let bytes = capture.read(address, ALL_IMAGE_INFOS);
    if bytes.len() < SMALLEST {
        capture.gap("images", format!("dyld's structure at {address:#x} can't be read"));
        return Infos::default();
    }
    let version = quarter(&bytes, 0);
    let since = |first: u32, offset: usize| if version >= first { word(&bytes, offset) } else { 0 };
    Infos {
        count: quarter(&bytes, 4).into(),
        array: word(&bytes, 8),
        dyld: since(2, 32),
        dyld_path: since(15, 192),
        error_message: since(5, 56),
        uuid_count: since(8, 88),
        uuids: since(8, 96),
        shared_cache: shared_cache(&bytes, since(15, 176)),
    }
}

/// The cache at `base`. Its UUID came with an earlier version of the structure than its base.
fn shared_cache(infos: &[u8], base: u64) -> Option<SharedCache> {
    let uuid = infos.get(160..176)?.try_into().ok()?;
    (base != 0).then_some(SharedCache { uuid, base })
}

fn entries(capture: &mut Capture<'_>, infos: &Infos) -> Vec<Entry> {
    if infos.array == 0 {
        capture.gap("images", "dyld was changing its list when the task died");
        return Vec::new();
    }
    let bytes = table(capture, "dyld's list", infos.array, infos.count);
    let entry = |entry: &[u8]| Entry { base: word(entry, 0), path: word(entry, 8) };
    bytes.chunks_exact(ENTRY).map(entry).filter(|entry| entry.base != 0).collect()
}

/// The list of images outside the shared cache, which dyld keeps besides.
fn uuids(capture: &mut Capture<'_>, infos: &Infos) -> Vec<(u64, [u8; 16])> {
    if infos.uuids == 0 {
        return Vec::new();
    }
    let bytes = table(capture, "dyld's list of UUIDs", infos.uuids, infos.uuid_count);
    let entries = bytes.chunks_exact(ENTRY).filter_map(|entry| Some((word(entry, 0), entry[8..].try_into().ok()?)));
    entries.filter(|(base, _)| *base != 0).collect()
}

fn table(capture: &mut Capture<'_>, what: &str, address: u64, count: u64) -> Vec<u8> {
    let limit = capture.limits.images as u64;
    if count > limit {
        capture.gap("images", format!("{what} claims {count} images; {limit} were read"));
    }
    let length = count.min(limit) as usize * ENTRY;
    let bytes = capture.read(address, length);
    if bytes.len() < length {
        capture.gap("images", format!("{} of {} entries of {what} could be read", bytes.len() / ENTRY, length / ENTRY));
    }
    bytes
}

/// Images found by their headers at the start of mapped code.
fn mapped_headers(capture: &Capture<'_>, known: &[u64]) -> Vec<Entry> {
    let code = capture.regions.iter().filter(|region| region.protection.read && region.protection.execute);
    let unknown = code.map(|region| region.start).filter(|start| !known.contains(start));
    let found = unknown.take_while(|_| !capture.out_of_time()).filter(|start| macho::is_header(capture, *start));
    found.take(capture.limits.images).map(|base| Entry { base, path: 0 }).collect()
}

fn add(
    builder: &mut Builder<'_, '_>,
    entry: Entry,
    kind: ImageKind,
    image: MachO,
    uuids: &[(u64, [u8; 16])],
    name: Option<Vec<u8>>,
) {
    let capture = &mut *builder.capture;
    let path = path(capture, entry, name.or(image.name));
    if let Some(trouble) = image.trouble {
        capture.gap("images", format!("{} at {:#x}: {trouble}", path.display(), entry.base));
    }
    builder.found.records.extend(&image.records);
    for address in image.crash_info {
        let messages = crash_messages(builder.capture, address, &path);
        builder.found.messages.extend(messages.into_iter().map(|message| (path.clone(), message)));
    }
    let listed = || uuids.iter().find(|(base, _)| *base == entry.base).map(|(_, uuid)| ImageId::Uuid(*uuid));
    let task = builder.capture.task;
    let file = match builder.found.shared_cache {
        // Its path names no file.
        Some(cache) if image.in_cache && task.has_shared_cache(&cache.uuid) => ImageFile::SharedCache,
        _ if image.in_cache => ImageFile::Unreachable,
        _ => task.image_file(entry.base, &path),
    };
    builder.push(Image {
        path,
        kind,
        base: entry.base,
        size: image.size,
        bias: image.bias,
        id: image.id.or_else(listed).unwrap_or(ImageId::None),
        version: image.version,
        file,
        sections: image.sections,
    });
}

/// The path that dyld gives; else that of the file mapped there, or what the image calls itself.
fn path(capture: &mut Capture<'_>, entry: Entry, name: Option<Vec<u8>>) -> PathBuf {
    if entry.path != 0 {
        let limit = capture.limits.path;
        match capture.read_c_string(entry.path, limit) {
            Some(path) => return PathBuf::from(OsStr::from_bytes(&path)),
            None => {
                let base = entry.base;
                capture.gap("images", format!("path of the image at {base:#x}: no end within {limit} bytes"));
            }
        }
    }
    let mapped = capture.region_at(entry.base).and_then(|region| region.path.clone());
    mapped.or_else(|| Some(PathBuf::from(OsStr::from_bytes(&name?)))).unwrap_or_default()
}

/// The two messages of a `crashreporter_annotations_t` (Libc, `CrashReporterClient.h`): version, message, signature,
/// backtrace, message2, each 8 bytes.
fn crash_messages(capture: &mut Capture<'_>, address: u64, path: &Path) -> Vec<String> {
    let Some(info) = capture.read_array::<40>(address) else {
        capture.gap("annotations", format!("{}: its crash information can't be read", path.display()));
        return Vec::new();
    };
    if word(&info, 0) < CRASH_INFO_VERSION {
        return Vec::new();
    }
    let pointers = [word(&info, 8), word(&info, 32)];
    pointers.into_iter().filter_map(|pointer| message(capture, pointer, path)).collect()
}

/// The message that the image at `path` left at `pointer`, unless there is none.
fn message(capture: &mut Capture<'_>, pointer: u64, path: &Path) -> Option<String> {
    if pointer == 0 {
        return None;
    }
    let limit = capture.limits.annotation;
    let Some(message) = capture.read_c_string(pointer, limit) else {
        let what = format!("{}: a message at {pointer:#x} has no end within {limit} bytes", path.display());
        capture.gap("annotations", what);
        return None;
    };
    let message = String::from_utf8_lossy(&message).trim_end().to_owned();
    (!message.is_empty()).then_some(message)
}
