//! Apple's own reports of a program beside ours: a crash that it saw and we did not was not caught.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aftermach_handler::store::{Contents, Listing};
use aftermach_handler::time::rfc3339;

use super::finding::Finding;
use super::newest::ago;

/// Apple's reporter writes its report up to minutes after the death that ours tells.
const LATER: Duration = Duration::from_secs(5 * 60);
/// Most files of a folder that are looked at. The system prunes it far below that.
const MAX_FILES: usize = 20_000;

/// What was found of one program.
pub(super) struct AppleFacts {
    /// The process's name.
    pub(super) name: String,
    /// Apple's reports of it, with when they were written.
    pub(super) theirs: Vec<(PathBuf, SystemTime)>,
    /// Folders that could not be read.
    pub(super) unreadable: Vec<String>,
    /// When it died last by our reports: RFC 3339.
    pub(super) ours: Option<String>,
    pub(super) now: SystemTime,
}

/// Looks for reports of the process `name` in Apple's folders and in our list.
pub(super) fn gather(name: &str, folders: &[PathBuf], listing: &Listing) -> AppleFacts {
    let (mut theirs, mut unreadable) = (Vec::new(), Vec::new());
    for folder in folders.iter().filter(|folder| folder.exists()) {
        match fs::read_dir(folder) {
            Err(error) => unreadable.push(format!("{}: {error}", folder.display())),
            Ok(entries) => theirs.extend(entries.flatten().take(MAX_FILES).filter_map(|entry| {
                let path = entry.path();
                is_of(&path, name).then(|| Some((path, entry.metadata().ok()?.modified().ok()?))).flatten()
            })),
        }
    }
    theirs.sort_by_key(|(_, time)| *time);
    let is_same = |entry: &&aftermach_handler::store::Entry| match &entry.contents {
        Contents::Report(head) => head.process.name == name,
        _ => false,
    };
    let ours = listing.entries.iter().find(is_same).map(|entry| entry.time.clone());
    AppleFacts { name: name.to_owned(), theirs, unreadable, ours, now: SystemTime::now() }
}

/// "NAME-2022-09-06-120838.ips"; "NAME_2019-…_HOST.crash" before macOS 12.
fn is_of(path: &Path, name: &str) -> bool {
    let ending = path.extension().is_some_and(|ending| ending == "ips" || ending == "crash");
    let rest = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.strip_prefix(name));
    let dated =
        |rest: &str| rest.starts_with(['-', '_']) && rest[1..].starts_with(|letter: char| letter.is_ascii_digit());
    ending && rest.is_some_and(dated)
}

pub(super) fn judge(facts: &AppleFacts) -> Finding {
    const CHECK: &str = "system-reports";
    let AppleFacts { name, theirs, unreadable, ours, now } = facts;
    let ours_told = ours.as_ref().map_or("ours has none".to_owned(), |time| format!("our newest {}", ago(time, *now)));
    let Some((path, written)) = theirs.last() else {
        return match unreadable.first() {
            Some(why) => {
                Finding::unknown(CHECK, why.clone(), "run this as an administrator to see root's reports as well")
            }
            None => Finding::ok(CHECK, format!("Apple has no report of {name}, {ours_told}")),
        };
    };
    let written = rfc3339(*written);
    let told = format!("Apple's newest of {} of {name} {}, {ours_told}", theirs.len(), ago(&written, *now));
    // Both sort as they follow each other.
    let late = rfc3339(facts.theirs.last().map_or(*now, |(_, written)| written.checked_sub(LATER).unwrap_or(*written)));
    if ours.as_ref().is_none_or(|ours| *ours < late) {
        Finding::warning(
            CHECK,
            format!("{told}: that crash was not caught"),
            format!("read {}: it died before the client was installed, or the client could not be", path.display()),
        )
    } else {
        Finding::ok(CHECK, told)
    }
    .with("newest", path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn facts(theirs: &[u64], ours: Option<&str>) -> AppleFacts {
        // 2026-01-02T03:03:05Z and so many seconds.
        let at = |seconds: &u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_322_985 + seconds);
        AppleFacts {
            name: "tunnel".into(),
            theirs: theirs.iter().map(|seconds| ("/L/tunnel-2026-01-02-030305.ips".into(), at(seconds))).collect(),
            unreadable: Vec::new(),
            ours: ours.map(str::to_owned),
            now: at(&10_000),
        }
    }

    #[test]
    fn a_crash_that_only_apple_saw_is_warned_of() {
        let ours = Some("2026-01-02T03:03:05.000Z");
        for (theirs, ours, verdict) in [
            (&[][..], None, Verdict::Ok),
            (&[], ours, Verdict::Ok),
            (&[10], ours, Verdict::Ok),
            (&[10, 900], ours, Verdict::Warning),
            (&[10], None, Verdict::Warning),
        ] {
            let finding = judge(&facts(theirs, ours));
            assert_eq!(finding.verdict, verdict, "{finding:?}");
        }
        let closed = AppleFacts { unreadable: vec!["/L: denied".into()], ..facts(&[], None) };
        assert_eq!(judge(&closed).verdict, Verdict::Unknown);
    }

    #[test]
    fn reports_are_those_of_the_very_program() {
        for (file, expected) in [
            ("tunnel-2026-01-02-030305.ips", true),
            ("tunnel_2019-01-02-030305_Mac.crash", true),
            ("tunnel-helper-2026-01-02-030305.ips", false),
            ("tunneld-2026-01-02-030305.ips", false),
            ("tunnel-2026-01-02-030305.diag", false),
            ("tunnel-.ips", false),
        ] {
            assert_eq!(is_of(Path::new(file), "tunnel"), expected, "{file}");
        }
        let folder = std::env::temp_dir().join(format!("aftermach-doctor-apple-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("tunnel-2026-01-02-030305.ips"), "{}").unwrap();
        let found = gather("tunnel", &[folder.clone(), folder.join("none")], &Listing::default());
        assert_eq!((found.theirs.len(), found.unreadable.len()), (1, 0));
        fs::remove_dir_all(folder).unwrap();
    }
}
