//! An image taken apart as the shared cache's builder does it, beside the file that it was made of.

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::snapshot::{Memory, SharedCache};

/// Where the cache is here, where it was linked to, and where in it the image's text, the data of all and the tables of all lie.
const HERE: u64 = 0x7ff8_1234_0000;
const LINKED: u64 = 0x1_8000_0000;
const TEXT: u64 = 0x1_0000;
const DATA: u64 = 0x10_0000;
const TABLES: u64 = 0x20_0000;
const SIZE: u64 = 0x30_0000;
/// Where the image's own tables begin among those of all, and where all begin in their file.
const OWN_TABLES: u64 = 0x5000;
const TABLES_IN_FILE: u64 = 0x4000;

fn library(cpu: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/lab/bin").join(cpu).join("O2/libwork.dylib")
}

fn get(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn quarter(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn put_quarter(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 4].copy_from_slice(&u32::try_from(value).unwrap().to_le_bytes());
}

/// The cache that holds the library, which was linked to address 0.
fn cache_of(mut image: Vec<u8>) -> OwnSharedCache {
    let moved = |offset: u32, tables: u64| u64::from(offset) - tables + OWN_TABLES + TABLES_IN_FILE;
    let mut tables = 0..0;
    let (mut symbols, mut count, mut at) = (0, 0, 32);
    for _ in 0..quarter(&image, 16) {
        let (kind, size) = (quarter(&image, at), quarter(&image, at + 4) as usize);
        match kind {
            // LC_SEGMENT_64
            0x19 if image[at + 8..].starts_with(b"__LINKEDIT\0") => {
                tables = get(&image, at + 40)..get(&image, at + 40) + get(&image, at + 48);
                put(&mut image, at + 24, LINKED + TABLES);
                put(&mut image, at + 32, 0x10_0000);
                put(&mut image, at + 40, TABLES_IN_FILE);
                put(&mut image, at + 48, 0x10_0000);
            }
            0x19 => {
                let to = LINKED + if image[at + 8..].starts_with(b"__TEXT\0") { TEXT } else { DATA };
                let address = get(&image, at + 24);
                put(&mut image, at + 24, address + to);
                for section in (at + 72..at + size).step_by(80) {
                    let address = get(&image, section + 32);
                    put(&mut image, section + 32, address + to);
                }
            }
            // LC_SYMTAB
            0x2 => {
                (symbols, count) = (quarter(&image, at + 8) as usize, quarter(&image, at + 12) as usize);
                for field in [at + 8, at + 16] {
                    let offset = moved(quarter(&image, field), tables.start);
                    put_quarter(&mut image, field, offset);
                }
            }
            // LC_FUNCTION_STARTS
            0x26 => {
                let offset = moved(quarter(&image, at + 8), tables.start);
                put_quarter(&mut image, at + 8, offset);
            }
            _ => {}
        }
        at += size;
    }
    for symbol in (symbols..).step_by(16).take(count) {
        let address = get(&image, symbol + 8);
        put(&mut image, symbol + 8, address + LINKED + TEXT);
    }
    let flags = u64::from(quarter(&image, 24)) | 0x8000_0000;
    put_quarter(&mut image, 24, flags);
    let mut memory = Memory::default();
    memory.insert(HERE + TEXT, image[..0x4000].to_vec());
    memory.insert(HERE + DATA + 0x4000, image[0x4000..].to_vec());
    memory.insert(HERE + TABLES + OWN_TABLES, image[tables.start as usize..tables.end as usize].to_vec());
    OwnSharedCache { cache: SharedCache { uuid: [7; 16], base: HERE }, size: SIZE, memory: Arc::new(memory) }
}

fn named(file: &ObjectFile) -> Vec<(u64, String)> {
    let mut symbols = Vec::new();
    file.code_symbols(|symbol| symbols.push(symbol)).unwrap();
    symbols.iter().map(|symbol| (symbol.address, file.symbol_name(symbol.name).unwrap())).collect()
}

#[test]
fn an_image_in_the_shared_cache_reads_like_the_file_that_it_was_made_of() {
    for (name, cpu) in [("x86_64", Cpu::X86_64), ("arm64", Cpu::Arm64)] {
        let path = library(name);
        let file = ObjectFile::open(&path, cpu).unwrap();
        let cache = cache_of(std::fs::read(&path).unwrap());
        let cached = ObjectFile::in_shared_cache(&cache, HERE + TEXT, cpu).unwrap();
        let linked = |address: u64| address + LINKED + TEXT;
        assert_eq!(cached.id(), file.id());
        assert_eq!(cached.format(), Format::MachO);

        let starts: Vec<u64> = file.function_starts().iter().copied().map(linked).collect();
        assert!(starts.len() > 5, "{name}: {} functions", starts.len());
        assert_eq!(cached.function_starts(), starts);
        let symbols = named(&file);
        assert!(symbols.len() > 5, "{name}: {} symbols", symbols.len());
        assert_eq!(named(&cached), symbols.into_iter().map(|(at, name)| (linked(at), name)).collect::<Vec<_>>());
        for section in ["__TEXT,__text", "__TEXT,__unwind_info"] {
            let (theirs, ours) = (file.section(section).unwrap(), cached.section(section).unwrap());
            assert_eq!(ours.address, linked(theirs.address));
            let bytes = file.read(theirs.offset, theirs.size, u64::MAX).unwrap();
            assert_eq!(cached.read(ours.offset, ours.size, u64::MAX).unwrap(), bytes);
            let mut buffer = vec![0; bytes.len()];
            assert_eq!(cached.read_address(ours.address, &mut buffer), bytes.len());
            assert_eq!(buffer, bytes);
        }
    }
}

#[test]
fn data_of_the_shared_cache_is_not_taken_for_the_victims() {
    let path = library("x86_64");
    let cache = cache_of(std::fs::read(&path).unwrap());
    let cached = ObjectFile::in_shared_cache(&cache, HERE + TEXT, Cpu::X86_64).unwrap();
    let data = cached.section("__DATA_CONST,__got").unwrap();
    let here = data.address - LINKED + HERE;
    // It could be read.
    assert_eq!(cache.read(here, &mut [0; 8]), 8);
    assert!(cached.read(data.offset, 8, u64::MAX).is_err());
    assert_eq!(cached.read_address(data.address, &mut [0; 8]), 0);
}

#[test]
fn addresses_are_translated_within_a_cache_of_the_same_uuid_only() {
    let cache = cache_of(std::fs::read(library("x86_64")).unwrap());
    let theirs = SharedCache { uuid: [7; 16], base: 0x1_9000_0000 };
    assert_eq!(cache.translate(&theirs, theirs.base + TEXT), Some(HERE + TEXT));
    assert_eq!(cache.translate(&theirs, theirs.base - 1), None);
    assert_eq!(cache.translate(&theirs, theirs.base + SIZE), None);
    assert_eq!(cache.translate(&SharedCache { uuid: [8; 16], ..theirs }, theirs.base + TEXT), None);
}

#[test]
fn what_is_no_image_in_the_cache_is_refused_and_a_header_that_lies_costs_only_what_it_hides() {
    let image = std::fs::read(library("x86_64")).unwrap();
    let cache = cache_of(image.clone());
    for base in [HERE, HERE + TEXT + 0x100, HERE + SIZE, HERE - 8, u64::MAX - 4] {
        assert!(ObjectFile::in_shared_cache(&cache, base, Cpu::X86_64).is_err(), "{base:#x}");
    }
    assert!(ObjectFile::in_shared_cache(&cache, HERE + TEXT, Cpu::Arm64).is_err());
    // Load commands that reach out of the memory that there is.
    let mut long = image.clone();
    put_quarter(&mut long, 20, u64::from(u32::MAX));
    assert!(ObjectFile::in_shared_cache(&cache_of(long), HERE + TEXT, Cpu::X86_64).is_err());
    // The tables are gone, and more symbols claimed than could be.
    let symtab = image.windows(8).position(|command| command == [2, 0, 0, 0, 24, 0, 0, 0]).unwrap();
    let mut cache = cache_of(image);
    let mut head = vec![0; 0x4000];
    cache.read(HERE + TEXT, &mut head);
    put_quarter(&mut head, symtab + 12, 0x00ff_ffff);
    let mut memory = Memory::default();
    memory.insert(HERE + TEXT, head);
    cache.memory = Arc::new(memory);
    let cached = ObjectFile::in_shared_cache(&cache, HERE + TEXT, Cpu::X86_64).unwrap();
    assert!(cached.code_symbols(|_| {}).is_err());
    assert!(cached.function_starts().is_empty());
    assert!(cached.section("__TEXT,__text").is_some());
}
