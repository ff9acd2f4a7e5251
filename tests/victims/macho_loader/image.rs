//! What the loader needs of a Mach-O file (`<mach-o/loader.h>`, `<mach-o/fixup-chains.h>`). The files are the lab's own, so
//! whatever isn't as expected is an error.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

#[path = "opcodes.rs"]
mod opcodes;

pub(crate) use opcodes::Bind;

const LC_SYMTAB: u32 = 0x2;
const LC_LOAD_DYLIB: u32 = 0xc;
const LC_SEGMENT_64: u32 = 0x19;
const LC_UUID: u32 = 0x1b;
const LC_DYLD_INFO_ONLY: u32 = 0x8000_0022;
const LC_MAIN: u32 = 0x8000_0028;
const LC_DYLD_CHAINED_FIXUPS: u32 = 0x8000_0034;

/// A file and what its load commands say.
#[derive(Default)]
pub(crate) struct Image {
    pub(crate) path: PathBuf,
    /// `cputype` of its header.
    pub(crate) cpu: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) uuid: [u8; 16],
    /// `LC_MAIN`: where `main` is, from the image's first byte.
    pub(crate) entry: Option<u64>,
    /// File names of the libraries that it needs.
    pub(crate) libraries: Vec<String>,
    /// Symbols that it defines: name and address.
    pub(crate) symbols: Vec<(String, u64)>,
    fixups: Option<usize>,
    /// `LC_DYLD_INFO_ONLY`: where its tables of pointers are, to be rebased, bound, and bound when they are first used.
    info: Option<[(usize, usize); 3]>,
    /// Offsets of all segments, in the file's order.
    segment_offsets: Vec<u64>,
}

pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) address: u64,
    pub(crate) size: u64,
    pub(crate) offset: u64,
    pub(crate) file_size: u64,
    /// `VM_PROT_READ` 1, `_WRITE` 2, `_EXECUTE` 4: the same numbers as `PROT_…`.
    pub(crate) protection: i32,
}

/// A pointer in the image's data that depends on where images lie.
pub(crate) struct Fixup {
    /// Where it is, from the image's first byte.
    pub(crate) offset: u64,
    pub(crate) target: Target,
}

pub(crate) enum Target {
    /// An address of the image itself, from its first byte.
    Own(u64),
    /// A symbol of another image, and what to add.
    Symbol(String, u64),
}

impl Image {
    /// Reads the file at `path`, which must be for the CPU type `cpu`.
    pub(crate) fn read(path: &Path, cpu: u32) -> Result<Image> {
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let mut image = Image { path: path.to_owned(), cpu, bytes, ..Image::default() };
        image.parse().with_context(|| format!("{}", path.display()))?;
        Ok(image)
    }

    /// Address of the image's first byte in the file's own terms.
    pub(crate) fn base(&self) -> u64 {
        self.segments.iter().find(|segment| segment.name == "__TEXT").map_or(0, |segment| segment.address)
    }

    /// The address of a symbol in the file's own terms.
    pub(crate) fn symbol(&self, name: &str) -> Option<u64> {
        self.symbols.iter().find(|(own, _)| own == name).map(|(_, address)| *address)
    }

    fn quarter(&self, at: usize) -> Result<u32> {
        let bytes = self.bytes.get(at..at + 4).context("cut short")?;
        Ok(u32::from_le_bytes(bytes.try_into()?))
    }

    fn word(&self, at: usize) -> Result<u64> {
        Ok(u64::from(self.quarter(at)?) | u64::from(self.quarter(at + 4)?) << 32)
    }

    fn half(&self, at: usize) -> Result<u16> {
        let bytes = self.bytes.get(at..at + 2).context("cut short")?;
        Ok(u16::from_le_bytes(bytes.try_into()?))
    }

    fn text(&self, at: usize) -> Result<String> {
        let rest = self.bytes.get(at..).context("cut short")?;
        let end = rest.iter().position(|byte| *byte == 0).context("a string without end")?;
        Ok(String::from_utf8(rest[..end].to_vec())?)
    }

    fn parse(&mut self) -> Result<()> {
        const MH_MAGIC_64: u32 = 0xfeed_facf;
        if self.quarter(0)? != MH_MAGIC_64 || self.quarter(4)? != self.cpu {
            bail!("no Mach-O image for this CPU");
        }
        let mut at = 32;
        for _ in 0..self.quarter(16)? {
            match self.quarter(at)? {
                LC_SEGMENT_64 => {
                    let segment = Segment {
                        name: String::from_utf8_lossy(&self.bytes[at + 8..at + 24]).trim_end_matches('\0').to_owned(),
                        address: self.word(at + 24)?,
                        size: self.word(at + 32)?,
                        offset: self.word(at + 40)?,
                        file_size: self.word(at + 48)?,
                        protection: self.quarter(at + 60)? as i32,
                    };
                    self.segment_offsets.push(segment.address);
                    if segment.name != "__PAGEZERO" {
                        self.segments.push(segment);
                    }
                }
                LC_UUID => self.uuid.copy_from_slice(self.bytes.get(at + 8..at + 24).context("cut short")?),
                LC_MAIN => self.entry = Some(self.word(at + 8)?),
                LC_LOAD_DYLIB => {
                    let name = self.text(at + self.quarter(at + 8)? as usize)?;
                    self.libraries.push(name.rsplit('/').next().unwrap_or_default().to_owned());
                }
                LC_SYMTAB => self.parse_symbols(at)?,
                LC_DYLD_INFO_ONLY => {
                    let part = |field: usize| -> Result<(usize, usize)> {
                        Ok((self.quarter(at + field)? as usize, self.quarter(at + field + 4)? as usize))
                    };
                    self.info = Some([part(8)?, part(16)?, part(32)?]);
                }
                LC_DYLD_CHAINED_FIXUPS => self.fixups = Some(self.quarter(at + 8)? as usize),
                _ => {}
            }
            at += self.quarter(at + 4)? as usize;
        }
        let base = self.base();
        self.segment_offsets.iter_mut().for_each(|address| *address = address.wrapping_sub(base));
        Ok(())
    }

    /// `nlist_64`: those that name a section.
    fn parse_symbols(&mut self, command: usize) -> Result<()> {
        const N_TYPE: u8 = 0x0e;
        const N_SECT: u8 = 0x0e;
        let (table, count) = (self.quarter(command + 8)? as usize, self.quarter(command + 12)? as usize);
        let strings = self.quarter(command + 16)? as usize;
        for index in 0..count {
            let at = table + index * 16;
            if self.bytes.get(at + 4).context("cut short")? & N_TYPE == N_SECT {
                let symbol = (self.text(strings + self.quarter(at)? as usize)?, self.word(at + 8)?);
                self.symbols.push(symbol);
            }
        }
        Ok(())
    }

    /// Every pointer that must be fixed before the program starts: the chains of `DYLD_CHAINED_PTR_64` and `_OFFSET`, with
    /// imports of format 1, or what `LC_DYLD_INFO_ONLY` tells.
    pub(crate) fn fixups(&self) -> Result<Vec<Fixup>> {
        if let Some([rebases, binds, _]) = self.info {
            let mut fixups = Vec::new();
            for offset in opcodes::rebases(self.part(rebases)?, &self.segment_offsets)? {
                let address = self.word(self.in_file(offset)?)?;
                fixups.push(Fixup { offset, target: Target::Own(address - self.base()) });
            }
            for bind in opcodes::binds(self.part(binds)?, &self.segment_offsets, false)? {
                fixups.push(Fixup { offset: bind.offset, target: Target::Symbol(bind.name, bind.addend) });
            }
            return Ok(fixups);
        }
        let Some(header) = self.fixups else { return Ok(Vec::new()) };
        let (starts, imports) =
            (header + self.quarter(header + 4)? as usize, header + self.quarter(header + 8)? as usize);
        let names = header + self.quarter(header + 12)? as usize;
        let format = self.quarter(header + 20)?;
        if format != 1 {
            bail!("imports of format {format}");
        }
        let mut fixups = Vec::new();
        for segment in 0..self.quarter(starts)? as usize {
            match self.quarter(starts + 4 + segment * 4)? as usize {
                0 => {}
                offset => self.chains(starts + offset, imports, names, &mut fixups)?,
            }
        }
        Ok(fixups)
    }

    /// The pointers that are bound when they are first used.
    pub(crate) fn lazy_binds(&self) -> Result<Vec<Bind>> {
        let Some([_, _, lazy]) = self.info else { return Ok(Vec::new()) };
        opcodes::binds(self.part(lazy)?, &self.segment_offsets, true)
    }

    /// Where, from the image's first byte, it keeps the word that is dyld's own, for lazy binding.
    pub(crate) fn dyld_private(&self) -> Option<u64> {
        Some(self.symbol("__dyld_private")? - self.base())
    }

    fn part(&self, (offset, size): (usize, usize)) -> Result<&[u8]> {
        self.bytes.get(offset..offset + size).context("cut short")
    }

    /// One `dyld_chained_starts_in_segment`.
    fn chains(&self, starts: usize, imports: usize, names: usize, fixups: &mut Vec<Fixup>) -> Result<()> {
        const POINTER_64: u16 = 2;
        const POINTER_64_OFFSET: u16 = 6;
        const NONE: u16 = 0xffff;
        let (page_size, format) = (u64::from(self.half(starts + 4)?), self.half(starts + 6)?);
        let segment_offset = self.word(starts + 8)?;
        for page in 0..self.half(starts + 20)? {
            let first = self.half(starts + 22 + usize::from(page) * 2)?;
            if first == NONE {
                continue;
            }
            let mut offset = segment_offset + u64::from(page) * page_size + u64::from(first);
            loop {
                let value = self.word(self.in_file(offset)?)?;
                let target = match (value >> 63, format) {
                    (1, POINTER_64 | POINTER_64_OFFSET) => {
                        let import = self.quarter(imports + (value & 0xff_ffff) as usize * 4)?;
                        Target::Symbol(self.text(names + (import >> 9) as usize)?, value >> 24 & 0xff)
                    }
                    (_, POINTER_64) => Target::Own((value & 0xf_ffff_ffff) - self.base()),
                    (_, POINTER_64_OFFSET) => Target::Own(value & 0xf_ffff_ffff),
                    (_, other) => bail!("pointers of format {other}"),
                };
                fixups.push(Fixup { offset, target });
                match value >> 51 & 0xfff {
                    0 => break,
                    next => offset += next * 4,
                }
            }
        }
        Ok(())
    }

    /// Where in the file the byte is that lies `offset` after the image's first.
    fn in_file(&self, offset: u64) -> Result<usize> {
        let address = self.base() + offset;
        let segment = self
            .segments
            .iter()
            .find(|segment| address >= segment.address && address - segment.address < segment.file_size);
        let segment = segment.context("a fixup outside of every segment")?;
        Ok((segment.offset + (address - segment.address)) as usize)
    }
}
