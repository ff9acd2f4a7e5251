//! A dump as it grows: bytes go out in order, offsets are checked, the header comes last.

use std::io::{BufWriter, Seek, SeekFrom, Write};

use minidump_writer::minidump_format::{
    MD_HEADER_SIGNATURE, MD_HEADER_VERSION, MDLocationDescriptor, MDRawDirectory, MDRawHeader,
};
use scroll::ctx::{SizeWith, TryIntoCtx};
use scroll::{Endian, Pwrite};

use super::Error;

/// Bytes of `MINIDUMP_HEADER`.
const HEADER: u64 = 32;

/// A dump being written. Nothing of it stays in memory but its directory.
pub(super) struct DumpFile<'a, W: Write + Seek> {
    out: BufWriter<&'a mut W>,
    position: u64,
    limit: u64,
    directory: Vec<MDRawDirectory>,
    scratch: Vec<u8>,
}

impl<'a, W: Write + Seek> DumpFile<'a, W> {
    /// A dump that may grow to `limit` bytes (at most 2^32 - 1). Leaves room for the header.
    pub(super) fn new(out: &'a mut W, limit: u64) -> Result<DumpFile<'a, W>, Error> {
        let limit = limit.min(u32::MAX.into());
        // Large enough that lists go out in few writes; larger blocks of memory pass it by.
        let mut file = DumpFile {
            out: BufWriter::with_capacity(64 << 10, out),
            position: 0,
            limit,
            directory: Vec::new(),
            scratch: Vec::new(),
        };
        file.out.seek(SeekFrom::Start(0)).map_err(|source| Error::Io { written: 0, source })?;
        file.bytes(&[0; HEADER as usize])?;
        Ok(file)
    }

    /// The offset of what is written next.
    pub(super) fn rva(&self) -> u32 {
        // `bytes` lets the position grow no further than the limit, which fits.
        u32::try_from(self.position).unwrap_or(u32::MAX)
    }

    /// Writes bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let end = self.position.checked_add(bytes.len() as u64).filter(|end| *end <= self.limit);
        let end = end.ok_or(Error::TooLarge { limit: self.limit })?;
        self.out.write_all(bytes).map_err(|source| Error::Io { written: self.position, source })?;
        self.position = end;
        Ok(())
    }

    /// Fills up to a multiple of `alignment` (at most 16).
    pub(super) fn align(&mut self, alignment: u64) -> Result<(), Error> {
        let missing = self.position.wrapping_neg() % alignment.clamp(1, 16);
        self.bytes(&[0; 16][..missing as usize])
    }

    /// Writes a structure of the format.
    pub(super) fn put<T>(&mut self, value: T) -> Result<(), Error>
    where
        T: TryIntoCtx<Endian, Error = scroll::Error> + SizeWith<Endian>,
    {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.resize(T::size_with(&Endian::Little), 0);
        let laid_out = scratch.pwrite_with(value, 0, Endian::Little);
        let result = match laid_out {
            Ok(_) => self.bytes(&scratch),
            Err(error) => Err(Error::Layout(error.to_string())),
        };
        self.scratch = scratch;
        result
    }

    /// Writes a `MINIDUMP_STRING` (length in bytes, UTF-16, NUL) and returns its offset.
    pub(super) fn string(&mut self, text: &str) -> Result<u32, Error> {
        self.align(4)?;
        let rva = self.rva();
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        bytes.extend([0; 4]);
        bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
        // A length past 4 GiB never gets out: the dump would be too large.
        let length = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes.extend([0; 2]);
        let result = self.bytes(&bytes);
        self.scratch = bytes;
        result.map(|()| rva)
    }

    /// Writes a `MinidumpUTF8String` (length in bytes, UTF-8, NUL) and returns its offset.
    pub(super) fn utf8(&mut self, text: &str) -> Result<u32, Error> {
        self.align(4)?;
        let rva = self.rva();
        self.bytes(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes())?;
        self.bytes(text.as_bytes())?;
        self.bytes(&[0])?;
        Ok(rva)
    }

    /// Writes something that is in one piece, on an 8-byte boundary, and returns where it is.
    pub(super) fn piece(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<MDLocationDescriptor, Error> {
        self.align(8)?;
        let rva = self.rva();
        write(self)?;
        Ok(MDLocationDescriptor { data_size: self.rva() - rva, rva })
    }

    /// Writes a stream in one piece and enters it in the directory. What it points to was written before.
    pub(super) fn stream(
        &mut self,
        kind: impl Into<u32>,
        write: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let location = self.piece(write)?;
        self.directory.push(MDRawDirectory { stream_type: kind.into(), location });
        Ok(())
    }

    /// Writes the directory and the header, its signature last, and returns the dump's size in bytes.
    pub(super) fn finish(mut self, time: u32) -> Result<u64, Error> {
        self.align(8)?;
        let header = MDRawHeader {
            signature: MD_HEADER_SIGNATURE,
            version: MD_HEADER_VERSION,
            stream_count: self.directory.len() as u32,
            stream_directory_rva: self.rva(),
            checksum: 0,
            time_date_stamp: time,
            flags: 0,
        };
        for entry in std::mem::take(&mut self.directory) {
            self.put(entry)?;
        }
        let size = self.position;
        let mut bytes = [0; HEADER as usize];
        bytes.pwrite_with(header, 0, Endian::Little).map_err(|error| Error::Layout(error.to_string()))?;
        // Each of these empties the buffer first: the signature is the last thing to reach the file.
        let out = &mut self.out;
        let mut write_last = || {
            out.seek(SeekFrom::Start(4))?;
            out.write_all(&bytes[4..])?;
            out.seek(SeekFrom::Start(0))?;
            out.write_all(&bytes[..4])?;
            out.flush()
        };
        write_last().map_err(|source| Error::Io { written: size, source })?;
        Ok(size)
    }
}

/// The first `N` UTF-16 units of a text, with a NUL after them: the format's fixed-size strings.
pub(super) fn fixed_utf16<const N: usize>(text: &str) -> [u16; N] {
    let mut units = [0; N];
    let mut used = 0;
    for character in text.chars() {
        // Whole characters only: half a surrogate pair makes the string unreadable.
        if used + character.len_utf16() >= N {
            break;
        }
        used += character.encode_utf16(&mut units[used..]).len();
    }
    units
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_dump_never_grows_past_what_its_offsets_can_say() {
        let mut out = Cursor::new(Vec::new());
        let mut file = DumpFile::new(&mut out, u64::MAX).unwrap();
        assert_eq!(file.limit, u64::from(u32::MAX));
        // As if so much had been written.
        file.position = u64::from(u32::MAX) - 8;
        file.bytes(&[0; 8]).unwrap();
        assert_eq!(file.rva(), u32::MAX);
        assert!(matches!(file.bytes(&[0]), Err(Error::TooLarge { limit: 0xffff_ffff })));
        assert!(matches!(file.finish(0), Err(Error::TooLarge { .. })));
        assert!(!out.into_inner().starts_with(b"MDMP"));
    }

    #[test]
    fn a_fixed_string_ends_with_nul_and_holds_no_half_character() {
        assert_eq!(fixed_utf16::<4>("ab"), [0x61, 0x62, 0, 0]);
        assert_eq!(fixed_utf16::<4>("abcd"), [0x61, 0x62, 0x63, 0]);
        // U+1F980 is two units.
        assert_eq!(fixed_utf16::<4>("ab\u{1f980}"), [0x61, 0x62, 0, 0]);
        assert_eq!(fixed_utf16::<5>("ab\u{1f980}"), [0x61, 0x62, 0xd83e, 0xdd80, 0]);
    }
}
