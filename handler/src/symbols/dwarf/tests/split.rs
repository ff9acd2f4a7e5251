use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A program in a folder of its own, twice: with its debug information, and with that split off.
struct Built {
    folder: PathBuf,
    label: String,
}

/// A program of two units, one in C++ with names that have no linker's names.
fn build(compiler: &str, options: &[&str]) -> Option<Built> {
    let label = format!("{compiler} {}", options.join(" "));
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = format!("aftermach-split-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(folder);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("one.cc"), SCOPED.replace("int main(", "extern \"C\" int far_away(int);\nint main("))
        .unwrap();
    fs::write(folder.join("two.c"), TWO).unwrap();
    for (name, split) in [("plain", &[][..]), ("program", &["-gsplit-dwarf"])] {
        // In two steps: what is split off is named after the object file.
        let common = |command: &mut Command| {
            let command = command.current_dir(&folder).args(["-w", "-g"]).args(options).args(split);
            let built = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            built.is_ok_and(|status| status.success())
        };
        let c = compiler.replace("++", if compiler.starts_with('g') { "cc" } else { "" });
        let steps = [
            common(Command::new(compiler).args(["-c", "one.cc", "-o", "one.o"])),
            common(Command::new(&c).args(["-c", "two.c", "-o", "two.o"])),
            common(Command::new(compiler).args(["one.o", "two.o", "-o", name])),
        ];
        if steps.contains(&false) {
            fs::remove_dir_all(&folder).unwrap();
            return None;
        }
    }
    Some(Built { folder, label })
}

impl Drop for Built {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Built {
    fn places(&self, name: &str) -> (Vec<Vec<Place>>, Option<FileError>) {
        let path = self.folder.join(name);
        let file = ObjectFile::open(&path, CPU).unwrap();
        let found = places(of(&file, &path), &addresses(&file, 10_000), LIMIT, soon());
        (found.of_each, found.problem)
    }

    /// Asserts that the program whose debug information is split off has the places of the other, which addr2line has as well.
    fn assert_same(&self) {
        let (plain, problem) = self.places("plain");
        assert!(problem.is_none(), "{}: {problem:?}", self.label);
        let path = self.folder.join("plain");
        let file = ObjectFile::open(&path, CPU).unwrap();
        let theirs = by_addr2line(&file, &addresses(&file, 10_000));
        let (split, problem) = self.places("program");
        assert!(problem.is_none(), "{}: {problem:?}", self.label);
        assert_eq!(split, plain, "{}", self.label);
        let same = |(ours, theirs): (&Vec<Place>, &Vec<Place>)| {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| without_scopes(a, b) == *b)
        };
        assert!(split.iter().zip(&theirs).all(same), "{}", self.label);
        assert!(split.iter().filter(|places| places.len() > 1).count() > 10, "{}", self.label);
    }
}

/// Every program that can be built here, with both versions or one of them; says SKIP, if none.
fn all(test: &str, versions: &[&str]) -> Vec<Built> {
    let mut built = Vec::new();
    for compiler in ["g++", "clang++", "clang++-19"] {
        for version in versions {
            built.extend(build(compiler, &["-O2", version]));
        }
    }
    if built.is_empty() {
        println!("SKIP {test}: there is no compiler that splits debug information");
    }
    built
}

#[test]
fn debug_information_that_was_split_off_reads_like_the_image_s_own() {
    let test = "debug_information_that_was_split_off_reads_like_the_image_s_own";
    for built in all(test, &["-gdwarf-4", "-gdwarf-5"]) {
        built.assert_same();
    }
}

#[test]
fn a_package_beside_the_image_stands_for_the_files() {
    let test = "a_package_beside_the_image_stands_for_the_files";
    let mut packed = 0;
    for built in all(test, &["-gdwarf-4", "-gdwarf-5"]) {
        // LLVM's (19) never ends on what GCC makes of DWARF 5, and binutils' (2.40) packs DWARF 4 only.
        let tools: &[&str] = if built.label.starts_with('g') { &["dwp"] } else { &["dwp", "llvm-dwp-19"] };
        for tool in tools {
            let mut command = Command::new(tool);
            command.current_dir(&built.folder).args(["-e", "program", "-o", "program.dwp"]);
            let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            if !status.is_ok_and(|status| status.success()) {
                continue;
            }
            for file in ["one.dwo", "two.dwo"] {
                fs::rename(built.folder.join(file), built.folder.join(format!("{file}-away"))).unwrap();
            }
            built.assert_same();
            for file in ["one.dwo", "two.dwo"] {
                fs::rename(built.folder.join(format!("{file}-away")), built.folder.join(file)).unwrap();
            }
            fs::remove_file(built.folder.join("program.dwp")).unwrap();
            packed += 1;
        }
    }
    if packed == 0 {
        println!("SKIP {test}: there is nothing that packs split debug information");
    }
}

#[test]
fn without_the_files_there_are_lines_and_a_reason() {
    for built in all("without_the_files_there_are_lines_and_a_reason", &["-gdwarf-5"]) {
        let (plain, _) = built.places("plain");
        fs::remove_file(built.folder.join("one.dwo")).unwrap();
        let (split, problem) = built.places("program");
        let problem = problem.unwrap().to_string();
        assert!(problem.contains("one.dwo, split off: can't read it"), "{}: {problem}", built.label);
        // The line of the innermost place is in the image itself.
        let line = |places: &Vec<Place>| places.first().and_then(|place| place.source.clone());
        assert_eq!(split.iter().map(line).collect::<Vec<_>>(), plain.iter().map(line).collect::<Vec<_>>());
        // The other unit has all it had.
        let far_away = |places: &&Vec<Place>| {
            places.last().and_then(|place| place.name.as_deref()).is_some_and(|name| name == "far_away")
        };
        assert_eq!(split.iter().filter(far_away).count(), plain.iter().filter(far_away).count());
    }
}

#[test]
fn files_moved_beside_the_image_are_found_there_and_those_of_another_build_are_not_believed() {
    let test = "files_moved_beside_the_image_are_found_there_and_those_of_another_build_are_not_believed";
    for built in all(test, &["-gdwarf-4"]) {
        let (plain, _) = built.places("plain");
        let elsewhere = built.folder.join("elsewhere");
        fs::create_dir_all(&elsewhere).unwrap();
        for file in ["program", "one.dwo", "two.dwo"] {
            fs::rename(built.folder.join(file), elsewhere.join(file)).unwrap();
        }
        let (moved, problem) = built.places("elsewhere/program");
        assert!(problem.is_none(), "{}: {problem:?}", built.label);
        assert_eq!(moved, plain, "{}", built.label);
        fs::copy(elsewhere.join("two.dwo"), elsewhere.join("one.dwo")).unwrap();
        let (_, problem) = built.places("elsewhere/program");
        let problem = problem.unwrap().to_string();
        assert!(problem.contains("of another build"), "{}: {problem}", built.label);
    }
}

#[test]
fn split_files_that_lie_cost_places_and_nothing_else() {
    for built in all("split_files_that_lie_cost_places_and_nothing_else", &["-gdwarf-5"]) {
        let path = built.folder.join("one.dwo");
        let honest = fs::read(&path).unwrap();
        let count = built.places("program").0.len();
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        for _ in 0..60 {
            let mut bytes = honest.clone();
            for _ in 0..=random.below(8) {
                let at = random.below(bytes.len());
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff, random.below(256) as u8][random.below(6)];
            }
            fs::write(&path, &bytes).unwrap();
            assert_eq!(built.places("program").0.len(), count);
        }
    }
}
