//! `LC_DYLD_INFO_ONLY`: what older linkers have instead of chained fixups, programs for machines whose registers are segments
//! and addresses (`<mach-o/loader.h>`, the constants named `REBASE_…` and `BIND_…`).

use anyhow::{Context, Result, bail};

/// Where one of the two programs has come to.
#[derive(Default)]
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Offset from the image's first byte.
    offset: u64,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Result<u8> {
        self.at += 1;
        self.bytes.get(self.at - 1).copied().context("cut short")
    }

    fn number(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(value)
    }

    fn text(&mut self) -> Result<String> {
        let mut text = Vec::new();
        loop {
            match self.byte()? {
                0 => return Ok(String::from_utf8(text)?),
                byte => text.push(byte),
            }
        }
    }

    fn segment(&mut self, segments: &[u64], index: u8) -> Result<()> {
        let start = segments.get(usize::from(index)).context("a segment that is not there")?;
        self.offset = start + self.number()?;
        Ok(())
    }
}

/// The pointers that hold an address of the image itself. `segments` are the offsets of all segments.
pub(super) fn rebases(bytes: &[u8], segments: &[u64]) -> Result<Vec<u64>> {
    let mut cursor = Cursor { bytes, ..Cursor::default() };
    let mut places = Vec::new();
    while cursor.at < bytes.len() {
        let byte = cursor.byte()?;
        let immediate = byte & 0xf;
        let (times, skip) = match byte & 0xf0 {
            0x00 => break,
            0x10 => continue,
            0x20 => {
                cursor.segment(segments, immediate)?;
                continue;
            }
            0x30 => {
                cursor.offset += cursor.number()?;
                continue;
            }
            0x40 => {
                cursor.offset += u64::from(immediate) * 8;
                continue;
            }
            0x50 => (immediate.into(), 0),
            0x60 => (cursor.number()?, 0),
            0x70 => (1, cursor.number()?),
            0x80 => (cursor.number()?, cursor.number()?),
            other => bail!("rebase opcode {other:#x}"),
        };
        for _ in 0..times {
            places.push(cursor.offset);
            cursor.offset += 8 + skip;
        }
    }
    Ok(places)
}

/// A pointer to a symbol of another image.
pub(crate) struct Bind {
    /// Where it is, from the image's first byte.
    pub(crate) offset: u64,
    pub(crate) name: String,
    pub(crate) addend: u64,
    /// Where its instructions start: what a lazy one's stub helper names it by.
    pub(crate) start: u64,
}

/// The pointers to other images' symbols. In the lazy table each has a "done" behind it.
pub(super) fn binds(bytes: &[u8], segments: &[u64], lazy: bool) -> Result<Vec<Bind>> {
    let mut cursor = Cursor { bytes, ..Cursor::default() };
    let (mut name, mut addend, mut start) = (String::new(), 0, 0);
    let mut binds = Vec::new();
    while cursor.at < bytes.len() {
        let byte = cursor.byte()?;
        let immediate = byte & 0xf;
        let (times, skip) = match byte & 0xf0 {
            0x00 if lazy => {
                start = cursor.at as u64;
                continue;
            }
            0x00 => break,
            // Which library: the first that has the symbol will do. The kind of pointer.
            0x10 | 0x30 | 0x50 => continue,
            0x20 => {
                cursor.number()?;
                continue;
            }
            0x40 => {
                name = cursor.text()?;
                continue;
            }
            0x60 => {
                addend = cursor.number()?;
                continue;
            }
            0x70 => {
                cursor.segment(segments, immediate)?;
                continue;
            }
            0x80 => {
                cursor.offset = cursor.offset.wrapping_add(cursor.number()?);
                continue;
            }
            0x90 => (1, 0),
            0xa0 => (1, cursor.number()?),
            0xb0 => (1, u64::from(immediate) * 8),
            0xc0 => (cursor.number()?, cursor.number()?),
            other => bail!("bind opcode {other:#x}"),
        };
        for _ in 0..times {
            binds.push(Bind { offset: cursor.offset, name: name.clone(), addend, start });
            cursor.offset = cursor.offset.wrapping_add(8).wrapping_add(skip);
        }
    }
    Ok(binds)
}
