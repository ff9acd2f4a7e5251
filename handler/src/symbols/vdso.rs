//! Names in the vDSO, the code that the kernel maps into every program: no file has it, but the snapshot has all of it.

use object::read::elf::ElfFile64;
use object::{LittleEndian, Object, ObjectSymbol, SymbolKind};

use super::table::Function;
use crate::snapshot::{Image, ImageKind, Memory};

/// Symbols of a vDSO; Linux 6.18 exports 14.
const SYMBOLS: usize = 1024;

/// The functions that `addresses` (in the image's own terms) lie in; none if `image` is another image.
pub(super) fn functions(memory: &Memory, image: &Image, addresses: &[u64]) -> Vec<Option<Function>> {
    let bytes = if image.kind == ImageKind::Vdso { memory.slice_from(image.base) } else { None };
    let Ok(file) = ElfFile64::<LittleEndian, _>::parse(bytes.unwrap_or_default()) else {
        return vec![None; addresses.len()];
    };
    let function = |address: &u64| {
        let inside = |symbol: &object::read::elf::ElfSymbol64<'_, '_, LittleEndian, &[u8]>| {
            symbol.kind() == SymbolKind::Text && address.wrapping_sub(symbol.address()) < symbol.size()
        };
        let named = file.dynamic_symbols().take(SYMBOLS).filter(inside);
        let named = named.filter_map(|symbol| Some((symbol.name().ok()?, symbol.address())));
        // Of `clock_gettime` and `__vdso_clock_gettime`, the one that people know.
        let (name, start) = named.min_by_key(|(name, _)| (name.starts_with('_'), *name))?;
        Some(Function { name: name.to_owned(), start })
    };
    addresses.iter().map(function).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::snapshot::{ImageFile, ImageId};

    fn image(base: u64, size: u64, kind: ImageKind) -> Image {
        let (path, id, file) = ("[vdso]".into(), ImageId::None, ImageFile::Unreachable);
        Image { path, kind, base, size, bias: base, id, version: None, file, sections: Vec::new() }
    }

    /// This process's own vDSO, if there is one.
    fn own() -> Option<(Memory, Image)> {
        let maps = fs::read_to_string("/proc/self/maps").ok()?;
        let range = maps.lines().find(|line| line.ends_with("[vdso]"))?.split(' ').next()?;
        let (start, end) = range.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let mut bytes = vec![0; (end - start) as usize];
        File::open("/proc/self/mem").ok()?.read_exact_at(&mut bytes, start).ok()?;
        let mut memory = Memory::default();
        memory.insert(start, bytes);
        Some((memory, image(start, end - start, ImageKind::Vdso)))
    }

    #[test]
    fn functions_of_the_vdso_have_the_names_that_its_manual_lists() {
        let Some((memory, image)) = own() else {
            println!("SKIP functions_of_the_vdso_have_the_names_that_its_manual_lists: there is no vDSO");
            return;
        };
        let addresses: Vec<u64> = (0..image.size).collect();
        let found = functions(&memory, &image, &addresses);
        let names: BTreeSet<String> = found.into_iter().flatten().map(|function| function.name).collect();
        // vdso(7); on x86-64 each has an alias without the prefix.
        let expected = match cfg!(target_arch = "x86_64") {
            true => ["clock_gettime", "gettimeofday", "clock_getres"],
            false => ["__kernel_clock_gettime", "__kernel_gettimeofday", "__kernel_clock_getres"],
        };
        assert!(expected.iter().all(|name| names.contains(*name)), "{names:?}");
        assert!(!names.contains("__vdso_clock_gettime"), "an alias that nobody knows");
    }

    #[test]
    fn what_was_not_copied_or_is_no_vdso_has_no_names() {
        let nothing = functions(&Memory::default(), &image(0x1000, 0x1000, ImageKind::Vdso), &[0, 1]);
        assert_eq!(nothing, [None, None]);
        let mut lies = Memory::default();
        lies.insert(0x1000, [&b"\x7fELF\x02\x01\x01"[..], &[0xff; 500]].concat());
        assert_eq!(functions(&lies, &image(0x1000, 0x1000, ImageKind::Vdso), &[0]), [None]);
        if let Some((memory, mut image)) = own() {
            image.kind = ImageKind::Library;
            assert_eq!(functions(&memory, &image, &[0x1000]), [None]);
        }
    }
}
