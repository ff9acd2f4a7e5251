//! The committed images: where they are, and what every one of them must have.

use std::ops::Range;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol};

/// The victims' builds for x86-64.
pub(crate) const X86_64: [&str; 5] = ["O0", "O2", "O2-nofp", "Os", "dwarf"];
/// The Rust program's build, for both.
pub(crate) const RUST: &str = "rust";
/// The same without optimisation, where `build.sh debug` has been run.
pub(crate) const RUST_DEBUG: &str = "rust-debug";
/// The C++ program's builds, for both.
pub(crate) const CXX: [&str; 4] = ["cxx-O0", "cxx-O2", "cxx-Os", "cxx-dwarf"];
/// The small programs, for both: signals, and binding when a function is first called.
pub(crate) const SMALL: [&str; 2] = ["signal", "lazy"];
/// The victims' builds for arm64.
pub(crate) const ARM64: [&str; 5] = ["O0", "O2", "Os", "dwarf", "ptrauth"];

/// The images of one build, the program first.
pub(crate) const NAMES: [&str; 3] = ["main", "libwork.dylib", "libsys.dylib"];

/// The folder of one build.
pub(crate) fn folder(cpu: &str, build: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/lab/bin").join(cpu).join(build).canonicalize().unwrap()
}

/// Whether a build is there: some are too large to be committed.
pub(crate) fn is_built(cpu: &str, build: &str) -> bool {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/lab/bin").join(cpu).join(build).exists()
}

/// An image's bytes and what tests ask of it, read by the `object` crate.
pub(crate) struct ImageBytes {
    pub(crate) bytes: Vec<u8>,
    /// Functions by ascending address.
    pub(crate) functions: Vec<(u64, String)>,
    stubs: Range<u64>,
}

impl ImageBytes {
    pub(crate) fn read(path: &Path) -> ImageBytes {
        let bytes = std::fs::read(path).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let mut functions: Vec<(u64, String)> = file
            .symbols()
            .filter(|symbol| symbol.is_definition() && symbol.kind() == object::SymbolKind::Text)
            .map(|symbol| (symbol.address(), symbol.name().unwrap().trim_start_matches('_').to_owned()))
            .collect();
        functions.sort();
        let stubs =
            file.section_by_name("__stubs").map_or(0..0, |stubs| stubs.address()..stubs.address() + stubs.size());
        ImageBytes { bytes, functions, stubs }
    }

    /// `LC_UUID`.
    pub(crate) fn uuid(&self) -> [u8; 16] {
        object::File::parse(&*self.bytes).unwrap().mach_uuid().unwrap().unwrap()
    }

    /// Addresses and bytes of a section.
    pub(crate) fn section(&self, name: &str) -> Option<(Range<u64>, Vec<u8>)> {
        let file = object::File::parse(&*self.bytes).unwrap();
        let section = file.section_by_name(name)?;
        let range = section.address()..section.address() + section.size();
        Some((range, section.data().unwrap().to_vec()))
    }

    /// Addresses and bytes of `__TEXT`.
    pub(crate) fn text_segment(&self) -> (Range<u64>, Vec<u8>) {
        let file = object::File::parse(&*self.bytes).unwrap();
        let segment = file.segments().find(|segment| segment.name() == Ok(Some("__TEXT"))).unwrap();
        (segment.address()..segment.address() + segment.size(), segment.data().unwrap().to_vec())
    }

    /// The address of a variable.
    pub(crate) fn variable(&self, name: &str) -> Option<u64> {
        let file = object::File::parse(&*self.bytes).unwrap();
        let name = format!("_{name}");
        let found = file.symbols().find(|symbol| symbol.is_definition() && symbol.name() == Ok(&name))?;
        Some(found.address())
    }

    /// The function that `address` lies in, and how far.
    pub(crate) fn function(&self, address: u64) -> (&str, u64) {
        if self.stubs.contains(&address) {
            return ("a stub", address - self.stubs.start);
        }
        let after = self.functions.partition_point(|(start, _)| *start <= address);
        match after.checked_sub(1).map(|index| &self.functions[index]) {
            Some((start, name)) => (name, address - start),
            None => ("?", address),
        }
    }
}

#[test]
fn every_image_has_unwind_information_for_every_function() {
    for (cpu, builds) in [("x86_64", X86_64), ("arm64", ARM64)] {
        let c = builds.into_iter().flat_map(|build| NAMES.map(|name| (build, name)));
        let cxx = CXX.into_iter().flat_map(|build| [(build, "main"), (build, "libsys.dylib")]);
        let small =
            [("signal", "main"), ("signal", "libsystem_platform.dylib"), ("lazy", "main"), ("lazy", "libsys.dylib")];
        for (build, name) in c.chain(cxx).chain(small).chain([(RUST, "main"), (RUST, "libsys.dylib")]) {
            let image = ImageBytes::read(&folder(cpu, build).join(name));
            let what = format!("{cpu} {build} {name}");
            let (_, unwind_info) = image.section("__unwind_info").unwrap_or_else(|| panic!("{what}: no __unwind_info"));
            // `unwind_info_section_header` (mach-o/compact_unwind_encoding.h): version 1, and at least one page of the index
            // besides its end.
            let quarter = |at: usize| u32::from_le_bytes(unwind_info[at..at + 4].try_into().unwrap());
            assert_eq!(quarter(0), 1, "{what}");
            assert!(quarter(24) >= 2, "{what}");
            let dwarf = build == "dwarf" && name == "libwork.dylib" || build == "cxx-dwarf";
            assert!(!dwarf || image.section("__eh_frame").is_some(), "{what}: no __eh_frame");
            assert!(image.functions.len() > 4, "{what}");
            // Landing pads, and stubs that are bound when they are first called.
            assert!(
                !build.starts_with("cxx") || name != "main" || image.section("__gcc_except_tab").is_some(),
                "{what}"
            );
            assert!(build != "lazy" || name != "main" || image.section("__stub_helper").is_some(), "{what}");
        }
    }
}
