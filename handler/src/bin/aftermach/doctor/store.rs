//! The store: whether reports can be kept, and for how long.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aftermach_handler::host::{free_bytes, user_id};
use aftermach_handler::store::{Limits, Listing, Store, Unfinished};

use super::finding::Finding;
use super::text::{bytes, counted};

/// Less room than this, and a report of a large program does not fit.
const NO_ROOM: u64 = 64 << 20;
/// Less room than this is soon used up.
const LITTLE_ROOM: u64 = 1 << 30;

/// What was found of the store's folder.
#[derive(Debug)]
pub(super) enum Folder {
    /// Nothing is there. The nearest folder above that is.
    Missing { above: Option<PathBuf> },
    /// Something else is there, or it can't be looked at.
    Unusable(String),
    /// It is there.
    There {
        /// Permission bits.
        mode: u32,
        /// Its owner.
        owner: u32,
        /// Why no file can be made in it.
        unwritable: Option<String>,
    },
}

/// What was found of a store.
#[derive(Debug)]
pub(super) struct StoreFacts {
    pub(super) root: PathBuf,
    pub(super) user: u32,
    pub(super) folder: Folder,
    /// Bytes that may still be written.
    pub(super) free: Result<u64, String>,
    /// Each product with its reports and their bytes.
    pub(super) products: Vec<(String, u64, u64)>,
    pub(super) limits: Limits,
    pub(super) unfinished: Vec<Unfinished>,
    /// What could not be read.
    pub(super) unreadable: Vec<String>,
}

/// Looks at the store at `root`. `listing` is what is in it.
pub(super) fn gather(root: &Path, store: Option<&Store>, listing: &Listing) -> StoreFacts {
    let folder = match fs::metadata(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Folder::Missing { above: root.ancestors().skip(1).find(|above| above.is_dir()).map(Path::to_owned) }
        }
        Err(error) => Folder::Unusable(error.to_string()),
        Ok(there) if !there.is_dir() => Folder::Unusable("it is no folder".to_owned()),
        Ok(there) => Folder::There { mode: there.mode() & 0o7777, owner: there.uid(), unwritable: try_to_write(root) },
    };
    let nearest = match &folder {
        Folder::Missing { above: Some(above) } => above,
        _ => root,
    };
    let mut products: Vec<(String, u64, u64)> = Vec::new();
    for entry in &listing.entries {
        match products.iter_mut().find(|(name, ..)| *name == entry.location.product) {
            Some((_, reports, size)) => {
                *reports += 1;
                *size += entry.bytes;
            }
            None => products.push((entry.location.product.clone(), 1, entry.bytes)),
        }
    }
    let mut unreadable: Vec<String> = listing.unreadable.iter().map(ToString::to_string).collect();
    let unfinished = store.map(Store::unfinished).transpose().unwrap_or_else(|error| {
        unreadable.push(error.to_string());
        None
    });
    StoreFacts {
        root: root.to_owned(),
        user: user_id(),
        free: free_bytes(nearest).map_err(|error| error.to_string()),
        folder,
        products,
        limits: store.map(Store::limits).unwrap_or_default(),
        unfinished: unfinished.unwrap_or_default(),
        unreadable,
    }
}

/// Makes a file and removes it: neither permissions nor the kind of file system tell so well. The reason, if it can't be done.
fn try_to_write(root: &Path) -> Option<String> {
    let path = root.join(format!(".doctor-{}", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = made.and_then(|mut file| io::Write::write_all(&mut file, &[0; 4096]));
    let _ = fs::remove_file(&path);
    written.err().map(|error| error.to_string())
}

pub(super) fn judge(facts: &StoreFacts) -> Vec<Finding> {
    let mut findings = vec![folder(facts)];
    findings.push(space(facts));
    if matches!(facts.folder, Folder::There { .. }) {
        findings.push(caps(facts));
        findings.push(leftovers(facts));
    }
    findings
}

fn folder(facts: &StoreFacts) -> Finding {
    const CHECK: &str = "store-folder";
    let root = facts.root.display();
    let finding = match &facts.folder {
        Folder::Missing { above: Some(_) } => {
            Finding::ok(CHECK, format!("{root} is not there yet: the first report makes it"))
        }
        Folder::Missing { above: None } => {
            Finding::failed(CHECK, format!("{root} is not there, nor is any folder above"), "name a place with --store")
        }
        Folder::Unusable(why) => Finding::failed(
            CHECK,
            format!("{root}: {why}"),
            "make it a folder of this user's, or name another with --store",
        ),
        Folder::There { unwritable: Some(why), .. } => Finding::failed(
            CHECK,
            format!("nothing can be written in {root}: {why}"),
            "make it this user's own (chown, chmod 700), free some space, or give the handler another with --store",
        ),
        Folder::There { owner, .. } if *owner != facts.user => Finding::warning(
            CHECK,
            format!("{root} belongs to user {owner}, and this is user {}", facts.user),
            "a handler that runs as its owner keeps its reports from others: run this as that user",
        ),
        Folder::There { mode, .. } if mode & 0o077 != 0 => Finding::warning(
            CHECK,
            format!("{root} is open to others (mode {mode:04o}): reports hold parts of programs' memory"),
            format!("chmod 700 '{root}'"),
        ),
        Folder::There { mode, .. } => {
            let reports: u64 = facts.products.iter().map(|(_, reports, _)| reports).sum();
            let products = facts.products.len() as u64;
            let (reports, products) = (counted(reports, "report"), counted(products, "product"));
            Finding::ok(CHECK, format!("{root}: {reports} of {products}, mode {mode:04o}, can be written"))
        }
    };
    let finding = match (facts.unreadable.first(), &finding.verdict) {
        (Some(first), super::finding::Verdict::Ok) => {
            Finding::warning(CHECK, first.clone(), "make what is in the store this user's own again (chown -R)")
        }
        _ => finding,
    };
    finding.with("path", facts.root.display().to_string())
}

fn space(facts: &StoreFacts) -> Finding {
    const CHECK: &str = "store-space";
    match &facts.free {
        Err(error) => Finding::unknown(CHECK, format!("how much is free: {error}"), ""),
        Ok(free) => {
            let told = format!("{} free", bytes(*free));
            let finding = match *free {
                0..NO_ROOM => Finding::failed(CHECK, told, "free some space: a report takes from 1 to 20 MiB"),
                NO_ROOM..LITTLE_ROOM => Finding::warning(CHECK, told, "free some space soon"),
                _ => Finding::ok(CHECK, told),
            };
            finding.with("free_bytes", *free)
        }
    }
}

fn caps(facts: &StoreFacts) -> Finding {
    const CHECK: &str = "store-caps";
    let Limits { reports: most, bytes: most_bytes } = facts.limits;
    let limits = format!("{most} reports and {} a product", bytes(most_bytes));
    let near = |(_, reports, size): &&(String, u64, u64)| {
        // From nine tenths on.
        *reports >= (most as u64).saturating_mul(9) / 10 || *size >= most_bytes / 10 * 9
    };
    match facts.products.iter().find(near) {
        Some((product, reports, size)) => Finding::warning(
            CHECK,
            format!("{product} has {} of {}; at {limits} the oldest go", counted(*reports, "report"), bytes(*size)),
            "keep what is needed elsewhere (`aftermach export`), and see what crashes so often (`aftermach list`)",
        ),
        None => Finding::ok(CHECK, format!("at most {limits}; no product is near")),
    }
}

fn leftovers(facts: &StoreFacts) -> Finding {
    const CHECK: &str = "store-leftovers";
    let count = |alive: Option<bool>| facts.unfinished.iter().filter(|folder| folder.alive == alive).count() as u64;
    let (written, dead, unknown) = (count(Some(true)), count(Some(false)), count(None));
    let finding = if let Some(first) = facts.unfinished.iter().find(|folder| folder.alive == Some(false)) {
        Finding::warning(
            CHECK,
            format!("{} left by a handler that was killed, such as {}", counted(dead, "folder"), first.path.display()),
            "a crash was lost there; see why the handler ended. The next one that starts removes them",
        )
    } else if unknown > 0 {
        let folders = counted(unknown, "folder");
        let found =
            format!("{folders} of reports that are being written or were left: this file system knows no locks");
        Finding::unknown(CHECK, found, "those older than a day are removed by the next handler that starts")
    } else if written > 0 {
        Finding::ok(CHECK, format!("{} being written now", counted(written, "report")))
    } else {
        Finding::ok(CHECK, "none")
    };
    finding.with("left", dead).with("being_written", written)
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Verdict, worst};
    use super::*;

    fn good() -> StoreFacts {
        StoreFacts {
            root: "/s".into(),
            user: 501,
            folder: Folder::There { mode: 0o700, owner: 501, unwritable: None },
            free: Ok(100 << 30),
            products: vec![("com.example.Tunnel".to_owned(), 3, 5 << 20)],
            limits: Limits { reports: 1000, bytes: 2 << 30 },
            unfinished: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    /// The finding of `check`, with its verdict.
    #[track_caller]
    fn expect(facts: &StoreFacts, check: &str, verdict: Verdict, words: &str) {
        let findings = judge(facts);
        let finding = findings.iter().find(|finding| finding.check == check).unwrap();
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        assert!(finding.found.contains(words), "{finding:?}");
        assert!(verdict == Verdict::Ok || !finding.advice.is_empty(), "{finding:?}");
    }

    #[test]
    fn a_store_as_it_should_be_is_fine_in_every_respect() {
        assert_eq!(worst(&judge(&good())), Verdict::Ok);
        let fresh = StoreFacts { folder: Folder::Missing { above: Some("/".into()) }, products: Vec::new(), ..good() };
        assert_eq!(worst(&judge(&fresh)), Verdict::Ok);
    }

    #[test]
    fn a_folder_that_takes_nothing_or_is_open_to_others_is_told() {
        let there = |mode, owner, unwritable: Option<&str>| StoreFacts {
            folder: Folder::There { mode, owner, unwritable: unwritable.map(str::to_owned) },
            ..good()
        };
        expect(&there(0o700, 501, Some("No space left")), "store-folder", Verdict::Failed, "No space left");
        expect(&there(0o755, 501, None), "store-folder", Verdict::Warning, "mode 0755");
        expect(&there(0o700, 0, None), "store-folder", Verdict::Warning, "user 0");
        let file = StoreFacts { folder: Folder::Unusable("it is no folder".to_owned()), ..good() };
        expect(&file, "store-folder", Verdict::Failed, "no folder");
        let unreadable = StoreFacts { unreadable: vec!["can't read /s/x".to_owned()], ..good() };
        expect(&unreadable, "store-folder", Verdict::Warning, "/s/x");
    }

    #[test]
    fn room_and_caps_are_told_before_they_bite() {
        expect(&StoreFacts { free: Ok(1 << 20), ..good() }, "store-space", Verdict::Failed, "1.0 MiB");
        expect(&StoreFacts { free: Ok(512 << 20), ..good() }, "store-space", Verdict::Warning, "512.0 MiB");
        for full in [("x".to_owned(), 900, 0), ("x".to_owned(), 1, 2 << 30)] {
            expect(&StoreFacts { products: vec![full], ..good() }, "store-caps", Verdict::Warning, "x has");
        }
        let almost = StoreFacts { products: vec![("x".to_owned(), 899, 1 << 30)], ..good() };
        expect(&almost, "store-caps", Verdict::Ok, "no product is near");
    }

    #[test]
    fn a_folder_that_a_killed_handler_left_is_told_from_one_that_is_being_written() {
        let unfinished = |alive| vec![Unfinished { path: "/s/p/.new-1".into(), alive }];
        let facts = |alive| StoreFacts { unfinished: unfinished(alive), ..good() };
        expect(&facts(Some(false)), "store-leftovers", Verdict::Warning, "/s/p/.new-1");
        expect(&facts(Some(true)), "store-leftovers", Verdict::Ok, "1 report being written");
        expect(&facts(None), "store-leftovers", Verdict::Unknown, "no locks");
    }

    #[test]
    fn what_is_looked_at_is_what_is_there() {
        let folder = std::env::temp_dir().join(format!("aftermach-doctor-store-{}", std::process::id()));
        let store = Store::open(&folder).unwrap();
        let facts = gather(&folder, Some(&store), &Listing::default());
        assert!(matches!(facts.folder, Folder::There { mode: 0o700, unwritable: None, .. }), "{facts:?}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing is left behind");
        fs::remove_dir_all(&folder).unwrap();
        let facts = gather(&folder, None, &Listing::default());
        assert!(matches!(facts.folder, Folder::Missing { above: Some(_) }), "{facts:?}");
        assert!(facts.free.is_ok());
    }
}
