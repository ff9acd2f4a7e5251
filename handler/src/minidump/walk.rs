//! What a reader of a dump would have to copy, counted before it does.
//!
//! In a minidump, strings are reached by offsets, and nothing forbids that every thread and module names the same long one: a
//! dump of a few megabytes can make a reader copy gigabytes. This counts the entries and the text that each stream asks for.

/// A stream asks for more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMuch;

/// Counts what streams ask for, and says when it is too much.
pub(super) struct Walk<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    /// Bytes that may still be asked for.
    left: u64,
}

/// Entries of a list cost what a reader spends on one, whatever it holds.
const ENTRY_COST: u64 = 64;

impl<'a> Walk<'a> {
    /// A walk over a dump that stops after `budget` bytes of text and entries.
    pub(super) fn new(bytes: &'a [u8], budget: u64) -> Walk<'a> {
        Walk { bytes, big_endian: bytes.starts_with(b"PMDM"), left: budget }
    }

    /// The 32-bit number at `offset` of `bytes`.
    pub(super) fn word(&self, bytes: &[u8], offset: usize) -> Option<u32> {
        let bytes: [u8; 4] = bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn spend(&mut self, bytes: u64) -> Result<(), TooMuch> {
        self.left = self.left.checked_sub(bytes).ok_or(TooMuch)?;
        Ok(())
    }

    /// The text at an offset of the dump: both kinds of string start with their length in bytes.
    fn text(&mut self, rva: u32) -> Result<(), TooMuch> {
        let length = self.word(self.bytes, rva as usize).unwrap_or(0);
        // A string that runs past the end of the dump is refused by the reader, not copied.
        if length as usize > self.bytes.len() { Ok(()) } else { self.spend(length.into()) }
    }

    /// A list whose stream starts with a 32-bit count. In an entry, the offset of a string stands at `name`, and the size of a
    /// further record at `record`.
    pub(super) fn list(
        &mut self,
        stream: &[u8],
        entry_size: usize,
        most: u32,
        name: Option<usize>,
        record: Option<usize>,
    ) -> Result<(), TooMuch> {
        let Some(count) = self.word(stream, 0) else { return Ok(()) };
        if count > most {
            return Err(TooMuch);
        }
        self.spend(u64::from(count) * ENTRY_COST)?;
        // Some writers align the entries to 8 bytes.
        let start = if stream.len() == 8 + count as usize * entry_size { 8 } else { 4 };
        for entry in 0..count as usize {
            let at = start + entry * entry_size;
            if let Some(rva) = name.and_then(|field| self.word(stream, at + field)) {
                self.text(rva)?;
            }
            if let Some(size) = record.and_then(|field| self.word(stream, at + field)) {
                self.spend(u64::from(size).min(self.bytes.len() as u64))?;
            }
        }
        Ok(())
    }

    /// The CrashpadInfo stream: annotations of the process, and a list of modules with three kinds of annotation each.
    pub(super) fn crashpad(&mut self, stream: &[u8]) -> Result<(), TooMuch> {
        // Version, two GUIDs, then the two locations (crashpad: minidump/minidump_extensions.h, MinidumpCrashpadInfo).
        self.dictionary(stream, 36, 8, &[0, 4])?;
        let Some(modules) = self.located(stream, 44) else { return Ok(()) };
        let count = self.word(modules, 0).unwrap_or(0);
        for module in 0..count as usize {
            // Index, then the location of a MinidumpModuleCrashpadInfo: its version and three locations.
            let Some(rva) = self.word(modules, 4 + module * 12 + 8) else { break };
            self.spend(ENTRY_COST)?;
            let Some(info) = self.bytes.get(rva as usize..) else { break };
            self.dictionary(info, 4, 4, &[0])?;
            self.dictionary(info, 12, 8, &[0, 4])?;
            self.dictionary(info, 20, 12, &[0, 8])?;
        }
        Ok(())
    }

    /// The bytes that the location descriptor at `offset` of `bytes` points to.
    fn located(&self, bytes: &[u8], offset: usize) -> Option<&'a [u8]> {
        let size = self.word(bytes, offset)? as usize;
        let start = self.word(bytes, offset + 4)? as usize;
        self.bytes.get(start..start.checked_add(size)?)
    }

    fn dictionary(
        &mut self,
        bytes: &[u8],
        location: usize,
        entry_size: usize,
        strings: &[usize],
    ) -> Result<(), TooMuch> {
        let Some(list) = self.located(bytes, location) else { return Ok(()) };
        let count = self.word(list, 0).unwrap_or(0);
        for entry in 0..count as usize {
            self.spend(ENTRY_COST)?;
            for string in strings {
                let Some(rva) = self.word(list, 4 + entry * entry_size + string) else { return Ok(()) };
                self.text(rva)?;
            }
        }
        Ok(())
    }
}
