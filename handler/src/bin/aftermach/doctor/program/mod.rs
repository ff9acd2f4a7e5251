//! `aftermach doctor --program`: whether a program's crashes would be caught, as far as its file tells.
//!
//! The rules are macOS's; the reading of files is the same everywhere, so that a build can be checked where it was made.

mod binary_plist;
mod bundle;
mod entitlements;
mod judge;
mod kind;
mod macho;
mod plist;
mod signature;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use aftermach_protocol::product::Product;

use super::finding::Finding;
use bundle::Target;
use judge::Case;
pub(super) use kind::Reach;
use macho::{Contents, Slice};

/// Everything about the program or bundle at `path`, as a client of `product` if that is known. `reach`: where that product's job
/// is on this machine, if it has a launchd.
pub(super) fn check(path: &Path, product: Option<&Product>, reach: Option<Reach>) -> Vec<Finding> {
    let target = match bundle::open(path) {
        Ok(target) => target,
        Err(why) => {
            let advice = "name an executable file, or an .app, .xpc, .appex or .systemextension bundle";
            return vec![Finding::failed("program-file", why, advice)];
        }
    };
    let contents = match macho::read(&target.executable, product.map(Product::group)) {
        Ok(contents) => contents,
        Err(why) => return vec![Finding::failed("program-file", why, "see that it can be read")],
    };
    match &contents {
        Contents::Other(why) => {
            let found = format!("{}: {why}", target.executable.display());
            vec![Finding::failed("program-file", found, "name the program itself")]
        }
        Contents::Elf { client } => vec![file(&target, "a Linux program (ELF)"), elf_client(*client)],
        Contents::MachO(slices) => {
            let cpus: Vec<&str> = slices.iter().map(|slice| slice.cpu.as_str()).collect();
            let mut findings = vec![
                file(&target, &cpus.join(", ")).with("cpus", cpus),
                kind::judge_kind(&target.kind, reach.is_some_and(|reach| reach.daemon)),
            ];
            findings.extend(target.info_problem.as_ref().map(|why| {
                Finding::failed(
                    "program-info",
                    why.clone(),
                    "mend it: `plutil -lint` says where (`-convert xml1` makes it XML)",
                )
            }));
            findings.extend(of_slices(slices, &target, product));
            findings.extend(reach.and_then(|reach| kind::judge_reach(&target.kind, reach)));
            findings.extend(embedded(&target));
            findings
        }
    }
}

/// The name of the process that the program or bundle at `path` becomes.
pub(super) fn process_name(path: &Path) -> Option<String> {
    Some(bundle::open(path).ok()?.executable.file_name()?.to_string_lossy().into_owned())
}

/// The CPUs that the Mach-O program at `path` has code for, each with its team and whether it is signed ad hoc, if it is signed.
///
/// # Errors
/// It is no such program, or a part of it can't be read.
pub(super) fn signatures(path: &Path) -> Result<Vec<(String, Signed)>, String> {
    let slices = match macho::read(path, None)? {
        Contents::MachO(slices) => slices,
        Contents::Elf { .. } => return Err("it is a Linux program".to_owned()),
        Contents::Other(why) => return Err(why),
    };
    let signed = |slice: Slice| {
        let signature = slice.program?.signature.transpose()?;
        Ok((slice.cpu, signature.map(|signature| (signature.team.clone(), signature.is_ad_hoc()))))
    };
    slices.into_iter().map(signed).collect()
}

/// Team, and whether ad hoc; `None` for code that is not signed.
type Signed = Option<(Option<String>, bool)>;

fn file(target: &Target, what: &str) -> Finding {
    let identifier = target.identifier.as_deref().map(|identifier| format!("{identifier}, ")).unwrap_or_default();
    let path = target.executable.display().to_string();
    Finding::ok("program-file", format!("{identifier}{path}: {what}")).with("path", path)
}

fn elf_client(client: bool) -> Finding {
    const CHECK: &str = "program-client";
    if client {
        Finding::ok(CHECK, "the client is linked")
    } else {
        Finding::failed(
            CHECK,
            "the client is not linked: the service catches no crash of this program",
            "link it and call aftermach_install (docs/client.md), or start it with `aftermach run`",
        )
    }
}

/// The findings of each slice; once, where all slices agree.
fn of_slices(slices: &[Slice], target: &Target, product: Option<&Product>) -> Vec<Finding> {
    let library = slices
        .iter()
        .any(|slice| slice.program.as_ref().is_ok_and(|program| program.client.is_none()))
        .then(|| library_with_client(target))
        .flatten();
    let of_slice = |slice: &Slice| match &slice.program {
        // Neither arm64 nor x86_64.
        Err(_) if slice.cpu.starts_with("CPU ") => {
            vec![Finding::unknown(
                "program-slice",
                "not looked at: no Mac that Aftermach runs on has such a CPU",
                "leave it out",
            )]
        }
        Err(why) => vec![Finding::failed("program-slice", format!("it can't be read: {why}"), "build it again")],
        Ok(program) => {
            let case = Case { program, cpu: &slice.cpu, kind: &target.kind, product, library: library.as_deref() };
            let damaged = program.is_damaged.then(|| {
                let found = "a load command is damaged: what it and those after it say is not known";
                Finding::failed("program-slice", found, "build it again")
            });
            damaged.into_iter().chain(case.findings()).collect()
        }
    };
    let mut each = slices.iter().map(|slice| (slice, of_slice(slice)));
    let Some((first, findings)) = each.next() else { return Vec::new() };
    let others: Vec<_> = each.collect();
    if others.iter().all(|(_, other)| *other == findings) {
        return findings;
    }
    let about = |(slice, findings): (&Slice, Vec<Finding>)| -> Vec<Finding> {
        findings.into_iter().map(|finding| finding.about(&slice.cpu)).collect()
    };
    [(first, findings)].into_iter().chain(others).flat_map(about).collect()
}

/// A library of the bundle that has the client.
fn library_with_client(target: &Target) -> Option<PathBuf> {
    let has_client = |path: &&PathBuf| {
        let has = |slice: &Slice| slice.program.as_ref().is_ok_and(|program| program.client.is_some());
        matches!(macho::read(path, None), Ok(Contents::MachO(slices)) if slices.iter().any(has))
    };
    target.libraries.iter().find(has_client).cloned()
}

fn embedded(target: &Target) -> Option<Finding> {
    if target.embedded.is_empty() {
        return None;
    }
    let count = super::text::counted(target.embedded.len() as u64, "program");
    let lines = target.embedded.iter().map(|path| format!("aftermach doctor --program '{}'", path.display()));
    let found = format!("{count} of their own in it, each with a client of its own: check them too");
    Some(Finding::ok("program-contains", found).and(lines))
}
