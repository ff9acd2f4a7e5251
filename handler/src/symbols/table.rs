//! Symbol tables: the nearest function symbol before an address, never one of another function.

use crate::unwind::file::{FileError, Format, ObjectFile};

/// Bytes of a symbol table read at a time.
const CHUNK: u64 = 1 << 20;
/// Entries of a symbol table that are read; Chromium has about two million.
const ENTRIES: u64 = 16 << 20;
/// Names that one address may have (aliases); the best of them is shown.
const ALIASES: usize = 8;
/// Bytes of a name that are read.
const NAME: usize = 32_768;

/// A function that an address lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Function {
    /// Its name, as it is in the table.
    pub(super) name: String,
    /// Its first address.
    pub(super) start: u64,
}

/// The functions that `addresses` (sorted, in the file's own terms) lie in, by the file's symbol table.
pub(super) fn functions(file: &ObjectFile, addresses: &[u64]) -> Result<Vec<Option<Function>>, FileError> {
    match file.format() {
        Format::Elf => elf(file, addresses),
        Format::MachO => macho(file, addresses),
    }
}

/// Whether the file has a full symbol table, not only what it exports.
pub(super) fn is_full(file: &ObjectFile) -> bool {
    match file.format() {
        Format::Elf => file.section(".symtab").is_some_and(|section| section.size > 0),
        Format::MachO => file.macho_tables().symbols.1 > 0,
    }
}

/// The nearest symbol before each address, found in one pass: each symbol is noted at the first address that follows it,
/// and what is noted there serves the later addresses too, unless something nearer does.
struct Nearest<'a> {
    addresses: &'a [u64],
    best: Vec<Option<Candidate>>,
}

#[derive(Debug, Clone)]
struct Candidate {
    start: u64,
    /// 0: the table does not say.
    size: u64,
    /// Offset in the string table, and rank (lower is better).
    names: Vec<(u32, u8)>,
}

impl<'a> Nearest<'a> {
    fn new(addresses: &'a [u64]) -> Nearest<'a> {
        Nearest { addresses, best: vec![None; addresses.len()] }
    }

    fn note(&mut self, start: u64, size: u64, name: u32, rank: u8) {
        let slot = self.addresses.partition_point(|address| *address < start);
        let Some(best) = self.best.get_mut(slot) else { return };
        match best {
            Some(candidate) if candidate.start > start => {}
            Some(candidate) if candidate.start == start => {
                candidate.size = candidate.size.max(size);
                if candidate.names.len() < ALIASES {
                    candidate.names.push((name, rank));
                }
            }
            _ => *best = Some(Candidate { start, size, names: vec![(name, rank)] }),
        }
    }

    fn finish(mut self) -> Vec<Option<Candidate>> {
        for slot in 1..self.best.len() {
            let (before, after) = self.best.split_at_mut(slot);
            let (Some(before), after) = (&before[slot - 1], &mut after[0]) else { continue };
            if after.as_ref().is_none_or(|after| after.start < before.start) {
                *after = Some(before.clone());
            }
        }
        self.best
    }
}

impl Candidate {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.size)
    }

    /// The best of its names.
    fn name(&self, read: impl Fn(u32) -> Option<String>) -> Option<String> {
        let names = self.names.iter().filter_map(|(offset, rank)| Some((*rank, read(*offset)?)));
        // Of aliases, the one that people know: `write` rather than `__write`.
        let order = |(rank, name): &(u8, String)| {
            (*rank, name.len() - name.trim_start_matches('_').len(), name.len(), name.clone())
        };
        names.min_by_key(order).map(|(_, name)| name)
    }
}

/// `Elf64_Sym` (System V gABI, chapter 4).
fn elf(file: &ObjectFile, addresses: &[u64]) -> Result<Vec<Option<Function>>, FileError> {
    const ENTRY: usize = 24;
    let table = [".symtab", ".dynsym"].into_iter().find_map(|name| file.section(name).filter(|s| s.size > 0));
    let Some(table) = table else { return Ok(vec![None; addresses.len()]) };
    let strings = file.sections().get(table.link as usize).ok_or(FileError::Malformed("symbol names"))?;
    // Addresses between code sections belong to no function.
    let text: Vec<(u64, u64)> = (file.segments().iter().filter(|segment| segment.executable))
        .map(|segment| (segment.address, segment.address.saturating_add(segment.size)))
        .collect();
    let in_text = |address: u64| text.iter().any(|(start, end)| (*start..*end).contains(&address)) || text.is_empty();

    let mut sized = Nearest::new(addresses);
    let mut unsized_ = Nearest::new(addresses);
    read_entries::<ENTRY>(file, table.offset, table.size / ENTRY as u64, |symbol| {
        let word = |at: usize| u64::from_le_bytes(symbol[at..at + 8].try_into().unwrap_or_default());
        let (name, info) = (u32::from_le_bytes([symbol[0], symbol[1], symbol[2], symbol[3]]), symbol[4]);
        let section = u16::from_le_bytes([symbol[6], symbol[7]]);
        let (value, size) = (word(8), word(16));
        // STT_NOTYPE is what assembly leaves, STT_FUNC, STT_GNU_IFUNC.
        if section == 0 || !matches!(info & 0xf, 0 | 2 | 10) || !in_text(value) {
            return;
        }
        // STB_GLOBAL, STB_WEAK, STB_LOCAL; functions before labels.
        let binding = match info >> 4 {
            1 => 0,
            2 => 1,
            _ => 2,
        };
        let rank = binding + if info & 0xf == 0 { 4 } else { 0 };
        let nearest = if size > 0 { &mut sized } else { &mut unsized_ };
        nearest.note(value, size, name, rank);
    })?;

    let name = |candidate: &Candidate| {
        // Some linkers append the symbol's version: "name@@VERSION".
        let plain = |name: String| name.split_once('@').map_or(name.clone(), |(name, _)| name.to_owned());
        candidate.name(|offset| read_name(file, strings.offset, strings.size, offset)).map(plain)
    };
    let candidates = sized.finish().into_iter().zip(unsized_.finish()).zip(addresses);
    let choose = |((sized, label), address): ((Option<Candidate>, Option<Candidate>), &u64)| {
        if let Some(sized) = sized.as_ref().filter(|sized| *address < sized.end()) {
            return Some(sized.clone());
        }
        // A label names what follows it up to the next function, in one segment.
        let label = label?;
        let segment = |at: u64| text.iter().position(|(start, end)| (*start..*end).contains(&at));
        let alone = sized.is_none_or(|sized| sized.end() <= label.start);
        (alone && segment(label.start) == segment(*address)).then_some(label)
    };
    let functions = candidates.map(|pair| {
        let candidate = choose(pair)?;
        Some(Function { name: name(&candidate)?, start: candidate.start })
    });
    Ok(functions.collect())
}

/// `nlist_64` (<mach-o/nlist.h>).
fn macho(file: &ObjectFile, addresses: &[u64]) -> Result<Vec<Option<Function>>, FileError> {
    const ENTRY: usize = 16;
    const N_STAB: u8 = 0xe0;
    const N_TYPE: u8 = 0x0e;
    const N_SECT: u8 = 0x0e;
    const N_EXT: u8 = 0x01;
    let tables = file.macho_tables();
    let in_text = |section: u8| {
        let section = usize::from(section).checked_sub(1).and_then(|index| file.sections().get(index));
        section.is_some_and(|section| section.name.starts_with("__TEXT,") && section.name != "__TEXT,__const")
    };
    let mut nearest = Nearest::new(addresses);
    read_entries::<ENTRY>(file, tables.symbols.0, tables.symbols.1, |symbol| {
        let (kind, section) = (symbol[4], symbol[5]);
        if kind & N_STAB != 0 || kind & N_TYPE != N_SECT || !in_text(section) {
            return;
        }
        let value = u64::from_le_bytes(symbol[8..16].try_into().unwrap_or_default());
        let name = u32::from_le_bytes([symbol[0], symbol[1], symbol[2], symbol[3]]);
        nearest.note(value, 0, name, if kind & N_EXT != 0 { 0 } else { 1 });
    })?;

    let starts = file.function_starts();
    let functions = nearest.finish().into_iter().zip(addresses).map(|(candidate, address)| {
        let candidate = candidate?;
        // A function that was stripped of its name is not the one before it.
        let start = starts.partition_point(|start| start <= address).checked_sub(1).map(|index| starts[index]);
        if start.is_some_and(|start| start > candidate.start) {
            return None;
        }
        let section =
            |at: u64| file.sections().iter().position(|s| s.size > 0 && at >= s.address && at - s.address < s.size);
        if section(candidate.start) != section(*address) {
            return None;
        }
        let name = candidate.name(|offset| read_name(file, tables.strings.0, tables.strings.1, offset))?;
        Some(Function { name, start: candidate.start })
    });
    Ok(functions.collect())
}

fn read_entries<const ENTRY: usize>(
    file: &ObjectFile,
    offset: u64,
    count: u64,
    mut each: impl FnMut(&[u8; ENTRY]),
) -> Result<(), FileError> {
    let bytes = count.min(ENTRIES).saturating_mul(ENTRY as u64);
    let step = CHUNK / ENTRY as u64 * ENTRY as u64;
    let mut done = 0;
    while done < bytes {
        let chunk = file.read(offset.saturating_add(done), step.min(bytes - done), CHUNK)?;
        chunk.as_chunks::<ENTRY>().0.iter().for_each(&mut each);
        done += step;
    }
    Ok(())
}

/// The string at `offset` of a string table.
fn read_name(file: &ObjectFile, table: u64, size: u64, offset: u32) -> Option<String> {
    let left = size.checked_sub(offset.into())?;
    let mut wanted = 128;
    loop {
        let length = left.min(wanted);
        let bytes = file.read(table.checked_add(offset.into())?, length, NAME as u64).ok()?;
        if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            return (end > 0).then(|| String::from_utf8_lossy(&bytes[..end]).into_owned());
        }
        if length == left || wanted >= NAME as u64 {
            return Some(String::from_utf8_lossy(&bytes).into_owned());
        }
        wanted = (wanted * 8).min(NAME as u64);
    }
}
