use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use addr2line::gimli::{Dwarf, EndianSlice};
use aftermach_protocol::platform::Cpu;

use super::super::demangle::demangle;
use super::*;

mod split;

const CPU: Cpu = if cfg!(target_arch = "x86_64") { Cpu::X86_64 } else { Cpu::Arm64 };
const LIMIT: u64 = 512 << 20;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

/// The debug information of `file`, which was opened at `image`.
fn of<'a>(file: &'a ObjectFile, image: &'a Path) -> Source<'a> {
    Source { file, image, cpu: CPU }
}

/// Addresses all over a file's code.
fn addresses(file: &ObjectFile, count: u64) -> Vec<u64> {
    let text = file.section(".text").or_else(|| file.section("__TEXT,__text")).unwrap();
    // An odd step, so that all offsets in an instruction and all alignments of functions come by.
    let step = (text.size / count) | 1;
    (text.address..text.address + text.size).step_by(step as usize).collect()
}

/// The same places, by addr2line over the whole of the debug information.
fn by_addr2line(file: &ObjectFile, addresses: &[u64]) -> Vec<Vec<Place>> {
    let load = |id: SectionId| -> Result<EndianSlice<'static, _>, addr2line::gimli::Error> {
        let section = section_name(file, id).and_then(|name| file.section(&name));
        let bytes = section.map(|section| file.read(section.offset, section.size, LIMIT).unwrap()).unwrap_or_default();
        Ok(EndianSlice::new(bytes.leak(), addr2line::gimli::LittleEndian))
    };
    let context = addr2line::Context::from_dwarf(Dwarf::load(load).unwrap()).unwrap();
    let place = |frame: addr2line::Frame<'_, _>| Place {
        name: frame.function.and_then(|function: addr2line::FunctionName<EndianSlice<'_, _>>| {
            Some(function.raw_name().ok()?.into_owned())
        }),
        source: frame.location.and_then(|location| Some((location.file?.to_owned(), location.line?))),
    };
    let places = |address: &u64| {
        let mut frames = context.find_frames(*address).skip_all_loads().unwrap();
        let mut places = Vec::new();
        while let Some(frame) = frames.next().unwrap() {
            places.push(place(frame));
        }
        // Neither a name nor a line: as good as nothing.
        if places == [Place::default()] { Vec::new() } else { places }
    };
    addresses.iter().map(places).collect()
}

/// A place with the name that addr2line has: a name that is not the linker's stands there without its scopes.
fn without_scopes(ours: &Place, theirs: &Place) -> Place {
    let plain = theirs.name.as_deref().filter(|name| !name.starts_with("_R") && !name.starts_with("_Z"));
    let same =
        |ours: &str| plain.is_some_and(|plain| ours.strip_suffix(plain).is_some_and(|rest| rest.ends_with("::")));
    let name = if ours.name.as_deref().is_some_and(same) { theirs.name.clone() } else { ours.name.clone() };
    Place { name, source: ours.source.clone() }
}

/// Asserts that every place in a file is as addr2line has it, and returns how many had one.
fn assert_same(path: &Path, count: u64) -> usize {
    let file = ObjectFile::open(path, CPU).unwrap();
    let addresses = addresses(&file, count);
    let ours = places(of(&file, path), &addresses, LIMIT, soon());
    assert!(ours.problem.is_none(), "{:?}", ours.problem);
    let theirs = by_addr2line(&file, &addresses);
    for ((address, ours), theirs) in addresses.iter().zip(&ours.of_each).zip(&theirs) {
        assert_eq!(ours.len(), theirs.len(), "{address:#x} in {}", path.display());
        let ours: Vec<Place> = ours.iter().zip(theirs).map(|(ours, theirs)| without_scopes(ours, theirs)).collect();
        assert_eq!(&ours, theirs, "{address:#x} in {}", path.display());
    }
    ours.of_each.iter().filter(|places| !places.is_empty()).count()
}

#[test]
fn rust_programs_have_the_places_that_addr2line_finds() {
    let found = assert_same(&std::env::current_exe().unwrap(), 4000);
    assert!(found > 1000, "{found}");
}

/// Two units, functions inlined within and across them, a function in two parts, one that the linker drops, and assembly.
const ONE: &str = r#"
    extern int far_away(int);
    static inline __attribute__((always_inline)) int innermost(volatile int *p) { *p += 1; return *p; }
    static inline __attribute__((always_inline)) int inner(volatile int *p) { return innermost(p) * 3; }
    __attribute__((noinline)) int outer(volatile int *p) { int n = inner(p); if (__builtin_expect(n < 0, 0)) { n += far_away(n); __builtin_trap(); } return n + inner(p); }
    int never_called(int n) { return n / 3; }
    __asm__(".text\n.globl bare\nbare:\n nop\n ret\n");
    extern void bare(void);
    int main(void) { volatile int n = 4; bare(); return outer(&n) + far_away(n); }
"#;
const TWO: &str = r#"
    static int helper(int n) { return n * n + 7; }
    int far_away(int n) { volatile int m = n; return helper(m) ^ helper(m + 1); }
"#;

/// Builds the program with a compiler, in a folder of its own.
fn build(compiler: &str, options: &[&str], number: usize) -> Option<PathBuf> {
    let folder = std::env::temp_dir().join(format!("aftermach-dwarf-{}-{compiler}-{number}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("one.c"), ONE).unwrap();
    fs::write(folder.join("two.c"), TWO).unwrap();
    let mut command = Command::new(compiler);
    command.current_dir(&folder).args(["-g", "one.c", "two.c", "-o", "program"]).args(options);
    let built = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    built.is_ok_and(|status| status.success()).then(|| folder.join("program"))
}

#[test]
fn c_programs_have_the_places_that_addr2line_finds() {
    let options: [&[&str]; 8] = [
        &["-O0", "-gdwarf-4"],
        &["-O2", "-gdwarf-4"],
        &["-O2", "-gdwarf-5"],
        &["-O0", "-gdwarf-5"],
        &["-O2", "-gdwarf-5", "-flto"],
        &["-O2", "-gdwarf-4", "-flto"],
        &["-O2", "-gdwarf-4", "-ffunction-sections", "-Wl,--gc-sections"],
        &["-O2", "-gdwarf-5", "-ffunction-sections", "-Wl,--gc-sections", "-no-pie"],
    ];
    let mut built = 0;
    // gcc writes .debug_aranges, clang does not.
    for compiler in ["cc", "gcc", "clang", "clang-19"] {
        for (number, options) in options.iter().enumerate() {
            let Some(program) = build(compiler, options, number) else { continue };
            let found = assert_same(&program, 10_000);
            assert!(found > 40, "{compiler} {options:?}: {found}");
            fs::remove_dir_all(program.parent().unwrap()).unwrap();
            built += 1;
        }
    }
    if built == 0 {
        println!("SKIP c_programs_have_the_places_that_addr2line_finds: there is no C compiler");
    }
}

/// Functions of which compilers leave out the linker's name: they are inlined, and not seen outside of this file.
const SCOPED: &str = r#"
    #define INLINE __attribute__((always_inline)) inline
    namespace outer {
        namespace {
            struct Hidden {
                template <class T> INLINE T get(T n) { *(volatile T *)8 = n; return n; }
                INLINE ~Hidden() { *(volatile int *)16 = 1; }
            };
        }
        static INLINE int plain(int n) { Hidden hidden; return hidden.get(n) + 1; }
        template <class T> struct Holder {
            enum { NONE };
            static INLINE int held(int n) { *(volatile int *)24 = n; return plain(n); }
        };
        namespace inner { struct Empty {}; static INLINE int last(int n) { *(volatile int *)32 = n; return n; } }
    }
    int main(int count, char **) {
        struct Local { INLINE int local(int n) { *(volatile int *)40 = n; return n; } } local;
        return outer::Holder<int>::held(count) + outer::inner::last(count) + local.local(count);
    }
"#;

#[test]
fn inlined_functions_have_the_namespaces_and_types_that_they_stand_in() {
    let mut built = 0;
    for (number, compiler) in ["c++", "g++", "clang++", "clang++-19"].iter().enumerate() {
        for version in ["-gdwarf-4", "-gdwarf-5"] {
            let folder = std::env::temp_dir().join(format!("aftermach-scopes-{}-{number}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("scoped.cc"), SCOPED).unwrap();
            let mut command = Command::new(compiler);
            command.current_dir(&folder).args(["-w", "-g", "-O2", version, "scoped.cc", "-o", "program"]);
            if command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
                let file = ObjectFile::open(&folder.join("program"), CPU).unwrap();
                let found = places(of(&file, Path::new("/")), &addresses(&file, 10_000), LIMIT, soon());
                assert!(found.problem.is_none());
                let names = found.of_each.iter().flatten().filter_map(|place| place.name.as_deref());
                let names: HashSet<String> = names.map(|name| demangle(name, false)).collect();
                // As gdb and addr2line have them; where the linker's name is there, with parameters.
                let hidden = "outer::(anonymous namespace)::Hidden";
                for expected in [
                    format!("{hidden}::get<int>"),
                    format!("{hidden}::~Hidden"),
                    "outer::plain".to_owned(),
                    "outer::Holder<int>::held".to_owned(),
                    "outer::inner::last".to_owned(),
                ] {
                    let is_there = names.iter().any(|name| name.contains(&expected));
                    assert!(is_there, "{compiler} {version}: {expected} in {names:?}");
                }
                built += 1;
            }
            fs::remove_dir_all(&folder).unwrap();
        }
    }
    if built == 0 {
        println!("SKIP inlined_functions_have_the_namespaces_and_types_that_they_stand_in: there is no C++ compiler");
    }
}

#[test]
fn compressed_debug_information_reads_like_plain() {
    let read = |path: &Path| {
        let file = ObjectFile::open(path, CPU).unwrap();
        let addresses = addresses(&file, 10_000);
        let places = places(of(&file, path), &addresses, LIMIT, soon());
        assert!(places.problem.is_none());
        let without_folder = |place: &Place| {
            let source = place.source.as_ref().map(|(path, line)| (path.rsplit('/').next().unwrap().to_owned(), *line));
            (place.name.clone(), source)
        };
        places.of_each.iter().map(|places| places.iter().map(without_folder).collect()).collect::<Vec<Vec<_>>>()
    };
    let mut compared = 0;
    for (number, (compiler, option)) in [("cc", "-gz=zlib"), ("clang-19", "-gz=zstd")].into_iter().enumerate() {
        let plain = build(compiler, &["-O2"], 100 + 2 * number);
        let (Some(plain), Some(compressed)) = (plain, build(compiler, &["-O2", option], 101 + 2 * number)) else {
            println!("SKIP compressed_debug_information_reads_like_plain: no {compiler} that knows {option}");
            continue;
        };
        let file = ObjectFile::open(&compressed, CPU).unwrap();
        assert!(file.section(".debug_info").unwrap().compressed, "{compiler} left it as it was");
        assert_eq!(read(&plain), read(&compressed), "{compiler} {option}");
        [plain, compressed].iter().for_each(|path| fs::remove_dir_all(path.parent().unwrap()).unwrap());
        compared += 1;
    }
    assert!(compared > 0 || build("cc", &["-O2"], 110).is_none(), "a C compiler compresses");
}

#[test]
fn what_is_beyond_the_limit_is_not_read_and_told() {
    let file = ObjectFile::open(&std::env::current_exe().unwrap(), CPU).unwrap();
    let found = places(of(&file, Path::new("/")), &addresses(&file, 10), 100, soon());
    assert!(found.of_each.iter().all(Vec::is_empty));
    assert!(matches!(found.problem, Some(FileError::TooLarge(_))), "{:?}", found.problem);
}

#[test]
fn without_time_there_are_no_places() {
    let file = ObjectFile::open(&std::env::current_exe().unwrap(), CPU).unwrap();
    let found = places(of(&file, Path::new("/")), &addresses(&file, 10), LIMIT, Instant::now());
    assert!(found.of_each.iter().all(Vec::is_empty));
}

/// A xorshift generator: the same mutations in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn debug_information_that_lies_costs_places_and_nothing_else() {
    let Some(program) = build("cc", &["-O2"], 200) else {
        println!("SKIP debug_information_that_lies_costs_places_and_nothing_else: there is no C compiler");
        return;
    };
    let honest = fs::read(&program).unwrap();
    let file = ObjectFile::open(&program, CPU).unwrap();
    let addresses = addresses(&file, 200);
    let names = [".debug_info", ".debug_abbrev", ".debug_aranges", ".debug_line", ".debug_rnglists", ".debug_ranges"];
    let parts: Vec<_> = names
        .iter()
        .filter_map(|name| file.section(name))
        .map(|section| (section.offset as usize, section.size as usize))
        .filter(|(_, size)| *size > 0)
        .collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..300 {
        let mut bytes = honest.clone();
        for _ in 0..=random.below(6) {
            let (offset, size) = parts[random.below(parts.len())];
            let value = [0, 1, 0x7f, 0x80, 0xff, random.below(256) as u8][random.below(6)];
            bytes[offset + random.below(size)] = value;
        }
        fs::write(&program, &bytes).unwrap();
        let Ok(file) = ObjectFile::open(&program, CPU) else { continue };
        assert_eq!(places(of(&file, &program), &addresses, LIMIT, soon()).of_each.len(), addresses.len());
    }
    fs::remove_dir_all(program.parent().unwrap()).unwrap();
}
