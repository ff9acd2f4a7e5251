//! Reading and writing little-endian fields one after the other.

use super::Refusal;

/// Reads fields in order. Reading past the end is a [`Refusal::Short`].
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, offset: 0 }
    }

    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let needs = self.offset.saturating_add(N);
        let field = self.bytes.get(self.offset..needs).and_then(|field| field.first_chunk::<N>());
        let field = field.ok_or(Refusal::Short { needs, has: self.bytes.len() })?;
        self.offset = needs;
        Ok(*field)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Refusal> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Refusal> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Refusal> {
        self.take().map(i32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Refusal> {
        self.take().map(u64::from_le_bytes)
    }

    /// The network data representation record. Only its integer format matters, and only little-endian (1) exists
    /// (`osfmk/mach/ndr.h`).
    pub(super) fn ndr(&mut self) -> Result<(), Refusal> {
        let record: [u8; 8] = self.take()?;
        if record[4] == NDR[4] { Ok(()) } else { Err(Refusal::NotLittleEndian) }
    }
}

/// The NDR record of every message: only byte 4 is set, integers are little-endian.
pub(super) const NDR: [u8; 8] = [0, 0, 0, 0, 1, 0, 0, 0];
