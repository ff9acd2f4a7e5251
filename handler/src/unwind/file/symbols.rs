//! Symbol tables, entry by entry.

use super::{FileError, Format, ObjectFile};

/// Bytes of a symbol table read at a time.
const CHUNK: u64 = 1 << 20;
/// Entries of a symbol table that are read; Chromium has about two million.
const ENTRIES: u64 = 16 << 20;
/// Bytes of a name that are read.
const NAME: u64 = 32_768;

/// A symbol that names code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileSymbol {
    /// Address in the file's own terms.
    pub(crate) address: u64,
    /// Bytes; 0 where the table does not say.
    pub(crate) size: u64,
    /// Where its name is; see [`ObjectFile::symbol_name`].
    pub(crate) name: u32,
    /// Of symbols with one address, the lower is the one that people know: exported before local, functions before labels. The
    /// C library's `poll` is weak and its `__poll` global, so that a program may have a `poll` of its own.
    pub(crate) rank: u8,
}

impl ObjectFile {
    /// Whether the file has a full symbol table, not only what it exports.
    pub(crate) fn has_full_symbols(&self) -> bool {
        match self.format {
            Format::Elf => self.section(".symtab").is_some_and(|section| section.size > 0),
            Format::MachO => self.macho.symbols.1 > 0,
        }
    }

    /// Calls `each` with every symbol that names code, in the table's order.
    pub(crate) fn code_symbols(&self, each: impl FnMut(FileSymbol)) -> Result<(), FileError> {
        match self.format {
            Format::Elf => self.elf_symbols(each),
            Format::MachO => self.macho_symbols(each),
        }
    }

    /// A symbol's name.
    pub(crate) fn symbol_name(&self, offset: u32) -> Option<String> {
        let (table, size) = match self.format {
            Format::Elf => {
                let strings = self.sections.get(self.elf_symbol_table()?.link as usize)?;
                (strings.offset, strings.size)
            }
            Format::MachO => self.macho.strings,
        };
        let left = size.checked_sub(offset.into())?;
        let mut wanted = 128;
        loop {
            let length = left.min(wanted);
            let bytes = self.read(table.checked_add(offset.into())?, length, NAME).ok()?;
            if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                return (end > 0).then(|| String::from_utf8_lossy(&bytes[..end]).into_owned());
            }
            if length == left || wanted >= NAME {
                return Some(String::from_utf8_lossy(&bytes).into_owned());
            }
            wanted = (wanted * 8).min(NAME);
        }
    }

    /// The address of the code symbol of this name.
    pub(crate) fn code_symbol_named(&self, name: &str) -> Option<u64> {
        let mut symbols = Vec::new();
        self.code_symbols(|symbol| symbols.push((symbol.name, symbol.address))).ok()?;
        let named = |(offset, _): &(u32, u64)| self.symbol_name(*offset).is_some_and(|own| own == name);
        symbols.into_iter().find(named).map(|(_, address)| address)
    }

    /// The function that `address` lies in, by function starts or symbols: its first address and the one after its last.
    pub(crate) fn function_at(&self, address: u64) -> Option<(u64, u64)> {
        let starts = self.function_starts();
        if let Some(index) = starts.partition_point(|start| *start <= address).checked_sub(1) {
            return Some((starts[index], *starts.get(index + 1)?));
        }
        let inside = |start: u64, size: u64| address >= start && address - start < size;
        let mut nearest: Option<(u64, u64, u32)> = None;
        let mut following = u64::MAX;
        self.code_symbols(|symbol| {
            if symbol.address > address {
                following = following.min(symbol.address);
            } else if nearest.is_none_or(|(start, size, _)| (start, size) < (symbol.address, symbol.size)) {
                nearest = Some((symbol.address, symbol.size, symbol.name));
            }
        })
        .ok()?;
        let (start, size, name) = nearest?;
        // The part of a function that GCC moves out of the way is no function: it starts with the frame of the other part.
        if self.symbol_name(name).is_some_and(|name| name.contains(".cold")) {
            return None;
        }
        match (start, size) {
            // Nothing but the next symbol says where it ends.
            (start, 0) => Some((start, following)).filter(|_| following != u64::MAX),
            (start, size) => inside(start, size).then_some((start, start.saturating_add(size))),
        }
    }

    fn elf_symbol_table(&self) -> Option<&super::FileSection> {
        [".symtab", ".dynsym"].into_iter().find_map(|name| self.section(name).filter(|section| section.size > 0))
    }

    /// `Elf64_Sym` (System V gABI, chapter 4).
    fn elf_symbols(&self, mut each: impl FnMut(FileSymbol)) -> Result<(), FileError> {
        const ENTRY: usize = 24;
        let Some(table) = self.elf_symbol_table() else { return Ok(()) };
        let executable: Vec<(u64, u64)> = (self.segments.iter().filter(|segment| segment.executable))
            .map(|segment| (segment.address, segment.address.saturating_add(segment.size)))
            .collect();
        let in_code = |address: u64| executable.iter().any(|(start, end)| (*start..*end).contains(&address));
        // A detached debug file has the symbols, but its segments may be empty.
        let any = executable.is_empty();
        self.entries::<ENTRY>(table.offset, table.size / ENTRY as u64, |entry| {
            let word = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().unwrap_or_default());
            let (name, info) = (u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]), entry[4]);
            let section = u16::from_le_bytes([entry[6], entry[7]]);
            let (address, size) = (word(8), word(16));
            // STT_NOTYPE is what assembly leaves, STT_FUNC, STT_GNU_IFUNC.
            if section == 0 || !matches!(info & 0xf, 0 | 2 | 10) || !(any || in_code(address)) {
                return;
            }
            // STB_LOCAL is 0; the others are STB_GLOBAL, STB_WEAK and STB_GNU_UNIQUE.
            let rank = u8::from(info >> 4 == 0) + if info & 0xf == 0 { 2 } else { 0 };
            each(FileSymbol { address, size, name, rank });
        })
    }

    /// `nlist_64` (<mach-o/nlist.h>).
    fn macho_symbols(&self, mut each: impl FnMut(FileSymbol)) -> Result<(), FileError> {
        const ENTRY: usize = 16;
        const N_STAB: u8 = 0xe0;
        const N_TYPE: u8 = 0x0e;
        const N_SECT: u8 = 0x0e;
        const N_EXT: u8 = 0x01;
        let in_code = |section: u8| {
            let section = usize::from(section).checked_sub(1).and_then(|index| self.sections.get(index));
            section.is_some_and(|section| section.name.starts_with("__TEXT,") && section.name != "__TEXT,__const")
        };
        self.entries::<ENTRY>(self.macho.symbols.0, self.macho.symbols.1, |entry| {
            let (kind, section) = (entry[4], entry[5]);
            if kind & N_STAB != 0 || kind & N_TYPE != N_SECT || !in_code(section) {
                return;
            }
            let address = u64::from_le_bytes(entry[8..16].try_into().unwrap_or_default());
            let name = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
            each(FileSymbol { address, size: 0, name, rank: if kind & N_EXT != 0 { 0 } else { 1 } });
        })
    }

    fn entries<const ENTRY: usize>(
        &self,
        offset: u64,
        count: u64,
        mut each: impl FnMut(&[u8; ENTRY]),
    ) -> Result<(), FileError> {
        let bytes = count.min(ENTRIES).saturating_mul(ENTRY as u64);
        let step = CHUNK / ENTRY as u64 * ENTRY as u64;
        let mut done = 0;
        while done < bytes {
            let chunk = self.read(offset.saturating_add(done), step.min(bytes - done), CHUNK)?;
            chunk.as_chunks::<ENTRY>().0.iter().for_each(&mut each);
            done += step;
        }
        Ok(())
    }
}
