//! `/proc/PID/maps` (`fs/proc/task_mmu.c`, `show_map_vma`): one line a mapping,
//! `start-end rwxp offset major:minor inode path`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::directory::{self, Identity};
use crate::snapshot::{Gap, ImageFile, Protection, Region};

/// Bytes of it at most: 65530 mappings (`vm.max_map_count`) with a path of 400 bytes each. Beyond, the last are lost.
pub(super) const LIMIT: usize = 32 << 20;

/// What the kernel adds to the path of a file that is gone.
const DELETED: &str = " (deleted)";

/// The parsed file.
#[derive(Debug, Default)]
pub(super) struct Maps {
    text: Vec<u8>,
    regions: Vec<Region>,
    /// The file behind each region.
    files: Vec<MappedFile>,
}

/// A file as a mapping names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MappedFile {
    identity: Identity,
}

impl Maps {
    /// Parses the file; lines that can't be read are left out and counted in a gap.
    pub(super) fn parse(text: Vec<u8>, gaps: &mut Vec<Gap>) -> Maps {
        if text.len() >= LIMIT {
            gaps.push(Gap::new("regions", format!("the list of mappings is longer than {LIMIT} bytes and was cut")));
        }
        // A line of an anonymous mapping has 50 bytes or so.
        let (mut regions, mut files) = (Vec::with_capacity(text.len() / 64), Vec::with_capacity(text.len() / 64));
        let mut unreadable = 0;
        let mut rest = &text[..];
        while !rest.is_empty() {
            match parse_line(rest) {
                Some((region, file, after)) => {
                    regions.push(region);
                    files.push(file);
                    rest = after;
                }
                None => {
                    unreadable += 1;
                    rest = rest.iter().position(|byte| *byte == b'\n').map_or(&[][..], |end| &rest[end + 1..]);
                }
            }
        }
        if unreadable > 0 {
            gaps.push(Gap::new("regions", format!("{unreadable} lines of the list of mappings make no sense")));
        }
        Maps { text, regions, files }
    }

    /// The file as it was read.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The mappings.
    pub(super) fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The end of the readable mapping that holds `address`.
    pub(super) fn readable_until(&self, address: u64) -> Option<u64> {
        let region = &self.regions[self.index(address)?];
        region.protection.read.then_some(region.end)
    }

    /// The file mapped at `address`.
    pub(super) fn file_at(&self, address: u64) -> Option<MappedFile> {
        let file = self.files[self.index(address)?];
        (file.identity.inode != 0).then_some(file)
    }

    fn index(&self, address: u64) -> Option<usize> {
        let index = self.regions.partition_point(|region| region.end <= address);
        (self.regions.get(index)?.start <= address).then_some(index)
    }
}

impl MappedFile {
    /// Whether `path` still names this file.
    pub(super) fn compare(self, path: &Path) -> ImageFile {
        match directory::identity_of(path.as_os_str().as_bytes()) {
            Ok(found) if found.inode == self.identity.inode && self.same_device(found.device) => ImageFile::Same,
            _ => ImageFile::Replaced,
        }
    }

    /// On btrfs and overlayfs stat() answers with an anonymous device (major 0) where maps shows that of the superblock, or
    /// of the layer below; the inode has to suffice there.
    fn same_device(self, found: u64) -> bool {
        found == self.identity.device || libc::major(found) == 0
    }
}

/// The path without what the kernel adds when the file is gone.
pub(super) fn without_deleted(path: &[u8]) -> &[u8] {
    path.strip_suffix(DELETED.as_bytes()).unwrap_or(path)
}

fn parse_line(line: &[u8]) -> Option<(Region, MappedFile, &[u8])> {
    let (start, rest) = hex(line, b'-')?;
    let (end, rest) = hex(rest, b' ')?;
    let (&[read, write, execute, sharing, b' '], rest) = rest.split_first_chunk::<5>()? else { return None };
    let (offset, rest) = hex(rest, b' ')?;
    let (major, rest) = hex(rest, b':')?;
    let (minor, rest) = hex(rest, b' ')?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let inode = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    let rest = &rest[digits..];
    let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let path = path(rest[..length].trim_ascii_start());
    if start >= end {
        return None;
    }
    let region = Region {
        start,
        end,
        protection: Protection { read: read == b'r', write: write == b'w', execute: execute == b'x' },
        shared: sharing == b's',
        tag: 0,
        offset,
        path,
    };
    let device = libc::makedev(u32::try_from(major).ok()?, u32::try_from(minor).ok()?);
    let file = MappedFile { identity: Identity { device, inode } };
    Some((region, file, rest.get(length + 1..).unwrap_or_default()))
}

/// A path, in which the kernel writes a newline as `\012`, so that lines stay lines.
fn path(escaped: &[u8]) -> Option<PathBuf> {
    if escaped.is_empty() {
        return None;
    }
    if !escaped.contains(&b'\\') {
        return Some(PathBuf::from(OsStr::from_bytes(escaped)));
    }
    let mut plain = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((first, after)) = rest.split_first() {
        match rest.strip_prefix(b"\\012") {
            Some(after) => {
                plain.push(b'\n');
                rest = after;
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    Some(PathBuf::from(OsStr::from_bytes(&plain)))
}

/// A hexadecimal number that ends in `end`, and what follows it.
fn hex(text: &[u8], end: u8) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in text.iter().take(17).enumerate() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ if *byte == end && index > 0 => return Some((value, &text[index + 1..])),
            _ => return None,
        };
        value = value << 4 | u64::from(digit);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Maps, Vec<Gap>) {
        let mut gaps = Vec::new();
        (Maps::parse(text.as_bytes().to_vec(), &mut gaps), gaps)
    }

    #[test]
    fn every_kind_of_line_is_read() {
        let (maps, gaps) = parse(concat!(
            "00400000-00452000 r-xp 00001000 08:02 173521      /usr/bin/dbus-daemon\n",
            "00e03000-00e24000 rw-p 00000000 00:00 0           [heap]\n",
            "7f0000000000-7f0000001000 ---p 00000000 00:00 0 \n",
            "7f0000001000-7f0000002000 rw-s 00000000 00:01 12 /dev/shm/a b\\012c (deleted)\n",
            "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n",
        ));
        assert_eq!(gaps, []);
        let shown: Vec<_> = maps.regions().iter().map(|region| (region.start, region.end, region.offset)).collect();
        assert_eq!(shown[0], (0x400000, 0x452000, 0x1000));
        assert_eq!(shown[4], (0xffff_ffff_ff60_0000, 0xffff_ffff_ff60_1000, 0));
        let paths: Vec<_> = maps.regions().iter().map(|region| region.path.as_deref().and_then(Path::to_str)).collect();
        assert_eq!(
            paths,
            [Some("/usr/bin/dbus-daemon"), Some("[heap]"), None, Some("/dev/shm/a b\nc (deleted)"), Some("[vsyscall]")]
        );
        assert!(maps.regions()[3].shared && maps.regions()[3].protection.write);
        assert_eq!(maps.regions()[0].protection, Protection { read: true, write: false, execute: true });
        let file = maps.file_at(0x400fff).unwrap();
        assert_eq!(file.identity, Identity { device: libc::makedev(8, 2), inode: 173_521 });
        assert_eq!(maps.file_at(0xe03000), None);
    }

    #[test]
    fn a_line_that_makes_no_sense_costs_itself_only() {
        let (maps, gaps) =
            parse("rubbish\n1000-2000 rw-p 00000000 00:00 0 \n3000-2000 rw-p 00000000 00:00 0 \n-\n4000");
        assert_eq!(maps.regions().len(), 1);
        assert_eq!(gaps, [Gap::new("regions", "4 lines of the list of mappings make no sense")]);
    }

    #[test]
    fn readable_ends_where_the_mapping_does() {
        let (maps, _) = parse("1000-2000 rw-p 00000000 00:00 0 \n2000-3000 ---p 00000000 00:00 0 \n");
        assert_eq!(maps.readable_until(0x1000), Some(0x2000));
        assert_eq!(maps.readable_until(0x1fff), Some(0x2000));
        assert_eq!(maps.readable_until(0x2000), None);
        assert_eq!(maps.readable_until(0xfff), None);
        assert_eq!(maps.readable_until(u64::MAX), None);
    }

    #[test]
    fn our_own_mappings_are_read_and_our_own_program_is_the_same_file() {
        let text = std::fs::read("/proc/self/maps").unwrap();
        let mut gaps = Vec::new();
        let maps = Maps::parse(text, &mut gaps);
        assert_eq!(gaps, []);
        let own = our_own_mappings_are_read_and_our_own_program_is_the_same_file as fn() as usize as u64;
        let program = std::env::current_exe().unwrap();
        assert_eq!(maps.file_at(own).unwrap().compare(&program), ImageFile::Same);
        assert_eq!(maps.file_at(own).unwrap().compare(Path::new("/proc/self/status")), ImageFile::Replaced);
        assert_eq!(maps.file_at(own).unwrap().compare(Path::new("/nonexistent")), ImageFile::Replaced);
    }
}
