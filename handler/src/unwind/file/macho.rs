//! Headers of Mach-O files (<mach-o/loader.h>, <mach-o/fat.h>).

use std::fs::File;

use aftermach_protocol::platform::Cpu;
use object::Endianness;
use object::macho::{CPU_TYPE_ARM64, CPU_TYPE_X86_64, MachHeader64, VM_PROT_EXECUTE};
use object::read::macho::{
    FatArch, LoadCommandVariant, MachHeader, MachOFatFile32, MachOFatFile64, Section, Segment as _,
};
use object::read::{ReadCache, ReadRef};

use super::bytes::Bytes;
use super::{FileError, FileSection, Format, HEADERS, MachOTables, Parsed, Segment, name};
use crate::snapshot::{ImageId, OwnSharedCache};

/// Bytes of load commands that are read of an image in the shared cache.
const COMMANDS: usize = 256 << 10;

/// Reads the headers; of a fat file, those of the first part for `cpu`.
pub(super) fn parse(data: &ReadCache<File>, cpu: Cpu) -> Result<Parsed, FileError> {
    let length = data.len().map_err(|()| FileError::Malformed("no length"))?;
    let cpu_type = type_of(cpu);
    let magic = data.read_bytes_at(0, 4).map_err(|()| FileError::Malformed("too short for a header"))?;
    let (start, length) = match magic {
        [0xca, 0xfe, 0xba, 0xbe] => {
            part(MachOFatFile32::parse(data).ok().map(|file| file.arches().to_vec()), cpu_type, length)?
        }
        [0xca, 0xfe, 0xba, 0xbf] => {
            part(MachOFatFile64::parse(data).ok().map(|file| file.arches().to_vec()), cpu_type, length)?
        }
        _ => (0, length),
    };
    headers(data.range(start, length), start, length, cpu_type)
}

/// The header and the load commands that `data` begins with.
fn headers<'data, R: ReadRef<'data>>(data: R, start: u64, length: u64, cpu_type: u32) -> Result<Parsed, FileError> {
    let magic = data.read_bytes_at(0, 4).map_err(|()| FileError::Malformed("too short for a header"))?;
    if magic != [0xcf, 0xfa, 0xed, 0xfe] {
        return Err(FileError::OtherMachine("not 64-bit little-endian"));
    }
    let header = MachHeader64::<Endianness>::parse(data, 0).map_err(|_| FileError::Malformed("file header"))?;
    let endian = Endianness::Little;
    if header.cputype(endian) != cpu_type {
        return Err(FileError::OtherMachine("another CPU"));
    }
    let mut commands = header.load_commands(endian, data, 0).map_err(|_| FileError::Malformed("load commands"))?;

    let mut parsed = Parsed {
        start,
        length,
        format: Format::MachO,
        id: ImageId::None,
        segments: Vec::new(),
        sections: Vec::new(),
        macho: MachOTables::default(),
        entry: None,
    };
    // One bad load command ends the list but never costs what came before it.
    for _ in 0..HEADERS {
        let Ok(Some(command)) = commands.next() else { break };
        match command.variant() {
            Ok(LoadCommandVariant::Segment64(segment, section_data)) => {
                parsed.segments.push(Segment {
                    name: name(segment.name()),
                    address: segment.vmaddr(endian),
                    size: segment.vmsize(endian),
                    offset: segment.fileoff(endian),
                    file_size: segment.filesize(endian),
                    executable: segment.initprot(endian) & VM_PROT_EXECUTE != 0,
                });
                for section in segment.sections(endian, section_data).unwrap_or_default().iter().take(HEADERS) {
                    // S_ZEROFILL, S_GB_ZEROFILL and S_THREAD_LOCAL_ZEROFILL have no bytes in the file.
                    let zero_fill = matches!(section.flags(endian) & 0xff, 0x1 | 0xc | 0x12);
                    parsed.sections.push(FileSection {
                        name: format!("{},{}", name(section.segment_name()), name(section.name())),
                        address: section.addr(endian),
                        offset: section.offset(endian).into(),
                        size: if zero_fill { 0 } else { section.size(endian) },
                        link: 0,
                        compressed: false,
                    });
                }
            }
            Ok(LoadCommandVariant::Uuid(uuid)) => parsed.id = ImageId::Uuid(uuid.uuid),
            Ok(LoadCommandVariant::LinkeditData(data)) if data.cmd.get(endian) == object::macho::LC_FUNCTION_STARTS => {
                parsed.macho.function_starts = (data.dataoff.get(endian).into(), data.datasize.get(endian).into());
            }
            Ok(LoadCommandVariant::Symtab(symtab)) => {
                parsed.macho.symbols = (symtab.symoff.get(endian).into(), symtab.nsyms.get(endian).into());
                parsed.macho.strings = (symtab.stroff.get(endian).into(), symtab.strsize.get(endian).into());
            }
            _ => {}
        }
    }
    Ok(parsed)
}

fn type_of(cpu: Cpu) -> u32 {
    match cpu {
        Cpu::X86_64 => CPU_TYPE_X86_64,
        Cpu::Arm64 => CPU_TYPE_ARM64,
    }
}

/// Reads the headers of the image at `base` of this process, in its shared cache.
///
/// The cache's builder takes images apart: segments of all images with the same protection lie together, in several files, and
/// the offsets in load commands count from the start of one of those. The tables without a section of their own are all in
/// `__LINKEDIT`. So offsets are turned into addresses, and read by those.
pub(super) fn parse_cached(cache: &OwnSharedCache, base: u64, cpu: Cpu) -> Result<(Parsed, Bytes), FileError> {
    let unreadable = FileError::Malformed("its header in the shared cache can't be read");
    let mut header = [0; size_of::<MachHeader64<Endianness>>()];
    if cache.read(base, &mut header) < header.len() {
        return Err(unreadable);
    }
    let commands = u32::from_le_bytes([header[20], header[21], header[22], header[23]]) as usize;
    let mut head = vec![0; header.len() + commands.min(COMMANDS)];
    if cache.read(base, &mut head) < head.len() {
        return Err(unreadable);
    }
    let mut parsed = headers(&head[..], 0, head.len() as u64, type_of(cpu))?;
    let find = |name: &str| parsed.segments.iter().find(|segment| segment.name == name);
    let text = find("__TEXT").ok_or(FileError::Malformed("no __TEXT in the shared cache"))?.address;
    let linkedit = find("__LINKEDIT").map(|segment| (segment.address, segment.offset));
    let address = |(offset, size): (u64, u64)| {
        let (start, first) = linkedit?;
        Some((offset.checked_sub(first)?.checked_add(start)?, size))
    };
    let MachOTables { function_starts, symbols, strings } = parsed.macho;
    parsed.macho = MachOTables {
        function_starts: address(function_starts).unwrap_or_default(),
        symbols: address(symbols).unwrap_or_default(),
        strings: address(strings).unwrap_or_default(),
    };
    for segment in &mut parsed.segments {
        (segment.offset, segment.file_size) = (segment.address, segment.size);
    }
    for section in &mut parsed.sections {
        section.offset = section.address;
    }
    // Data is each process's own.
    let shared = parsed.segments.iter().filter(|segment| matches!(&*segment.name, "__TEXT" | "__LINKEDIT"));
    let shared = shared.map(|segment| (segment.address, segment.size)).collect();
    let bytes = Bytes::Cache { cache: cache.clone(), slide: base.wrapping_sub(text), shared };
    Ok((parsed, bytes))
}

/// Offset and size of the part for `cpu_type`.
fn part<Fat: FatArch>(parts: Option<Vec<Fat>>, cpu_type: u32, length: u64) -> Result<(u64, u64), FileError> {
    let parts = parts.ok_or(FileError::Malformed("fat header"))?;
    let part = parts.iter().find(|part| part.cputype() == cpu_type);
    let part = part.ok_or(FileError::OtherMachine("no part for this CPU in a fat file"))?;
    let (offset, size) = part.file_range();
    match offset.checked_add(size) {
        Some(end) if end <= length => Ok((offset, size)),
        _ => Err(FileError::Malformed("a part beyond the end of the file")),
    }
}

/// The values of `LC_FUNCTION_STARTS` data: distances from `__TEXT`'s start as ULEB128, ended by 0 or the end of the data.
pub(super) fn function_starts(data: &[u8], text: u64) -> Vec<u64> {
    let mut starts = Vec::new();
    let mut address = text;
    let mut rest = data;
    while let Some(distance) = uleb128(&mut rest).filter(|distance| *distance != 0) {
        let Some(next) = address.checked_add(distance) else { break };
        address = next;
        starts.push(address);
    }
    starts
}

fn uleb128(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn function_starts_are_distances_summed_up() {
        // Three functions: 0x1000 after __TEXT, then 0x20 and 0x180 further; two zero bytes of padding.
        assert_eq!(
            function_starts(&[0x80, 0x20, 0x20, 0x80, 0x03, 0, 0], 0x1_0000_0000),
            [0x1_0000_1000, 0x1_0000_1020, 0x1_0000_11a0]
        );
        assert!(function_starts(&[0x80; 20], 0).is_empty());
    }
}
