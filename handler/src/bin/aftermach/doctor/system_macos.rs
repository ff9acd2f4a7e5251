//! What macOS says of itself and of a product's job.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aftermach_handler::host::mach::xnu::{self, Lookup, Xnu};
use aftermach_handler::host::mach::{Facts, Kernel};
use aftermach_handler::host::{probe, user_id};
use aftermach_launchd::launchctl::{Launchctl, Loaded, NO_SUCH_JOB, SystemLaunchctl};
use aftermach_launchd::{Agents, MAX_BYTES, Program, Status, check as check_definition, product_of};
use aftermach_protocol::product::Product;

use super::finding::Finding;
use super::job::{self, DaemonFile, JobFacts, Name};
use super::mac::{self, MacFacts};
use super::program::Reach;

/// Most jobs in a folder that are looked at.
const MAX_JOBS: usize = 1000;

/// Everything about this system, and about the job of each product.
pub(super) fn check(products: &[Product]) -> io::Result<Vec<Finding>> {
    let kernel = Xnu::new();
    let system = Facts::read(&kernel, None).system;
    // sysctl.proc_translated: 1 under Rosetta; Intel Macs don't have it (Apple, "About the Rosetta translation environment").
    let translated = kernel.sysctl("sysctl.proc_translated").is_some_and(|value| value.first() == Some(&1));
    let facts = MacFacts {
        version: system.version,
        build: system.build,
        machine: system.machine.unwrap_or_else(|| "an unknown machine".to_owned()),
        translated,
        exceptions: probe().map_err(|error| error.to_string()),
    };
    let mut findings = mac::judge(&facts);
    findings.extend(products.iter().flat_map(|product| job::judge(&look_at(product))));
    if products.is_empty() {
        findings.push(Finding::unknown(
            "job-definition",
            "no handler has named a product in this store yet",
            "name one: `aftermach doctor --group GROUP --name NAME`",
        ));
    }
    Ok(findings)
}

/// The products that have a job here: a handler that no crash has started yet has named none.
pub(super) fn products() -> Vec<Product> {
    let own = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let own = own.map(|home| home.join("Library/LaunchAgents"));
    let folders = own.into_iter().chain([PathBuf::from("/Library/LaunchDaemons")]);
    let files =
        folders.filter_map(|folder| fs::read_dir(folder).ok()).flat_map(|entries| entries.flatten().take(MAX_JOBS));
    let ours = |path: &PathBuf| path.to_str().is_some_and(|path| path.ends_with(".crashd.plist"));
    files.map(|entry| entry.path()).filter(ours).filter_map(|path| product_of(&read_definition(&path)?.1)).collect()
}

/// Where a product's job is. `None` if launchd does not say.
pub(super) fn reach(product: &Product) -> Option<Reach> {
    let daemon = daemon(product).ok()?.is_some();
    // Root has no agents.
    let agent = agent(product).is_ok_and(|status| status.loaded.is_some());
    Some(Reach { agent, daemon })
}

/// Where Apple's reporter keeps its reports: of this user's programs, and of root's.
pub(super) fn report_folders() -> Vec<PathBuf> {
    const FOLDER: &str = "Library/Logs/DiagnosticReports";
    let own = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    own.into_iter().chain([PathBuf::from("/")]).map(|root| root.join(FOLDER)).collect()
}

fn look_at(product: &Product) -> JobFacts {
    let agent = agent(product);
    let program = agent.as_ref().ok().and_then(|status| match &status.program {
        Some(Program::At(path)) if status.program_problem.is_none() => Some(path.clone()),
        _ => None,
    });
    JobFacts {
        user: user_id(),
        daemon: daemon(product),
        daemon_file: daemon_file(product),
        name: match xnu::look_up(&product.service()) {
            Lookup::Found => Name::Found,
            Lookup::Unknown => Name::Unknown,
            Lookup::NotPrivileged => Name::NotPrivileged,
            Lookup::Other(why) => Name::Other(why),
        },
        remote: env::var_os("SSH_CONNECTION").is_some(),
        signature: program.map(|program| job::signature_of(&program)),
        product: product.clone(),
        agent,
    }
}

fn agent(product: &Product) -> Result<Status, String> {
    let home = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = home.ok_or("there is no home folder: set HOME")?;
    let agents = Agents::new(&home, user_id(), SystemLaunchctl::new());
    agents.and_then(|mut agents| agents.status(product)).map_err(|error| error.to_string())
}

/// A daemon's definition, where there is one.
fn daemon_file(product: &Product) -> Option<DaemonFile> {
    let path = PathBuf::from("/Library/LaunchDaemons").join(format!("{}.plist", product.label()));
    let (metadata, bytes) = read_definition(&path)?;
    Some(DaemonFile {
        problems: check_definition(&bytes, product).iter().map(ToString::to_string).collect(),
        path: path.display().to_string(),
        owner: metadata.uid(),
        mode: metadata.mode() & 0o7777,
    })
}

/// A definition's bytes, one more at most than are read.
fn read_definition(path: &Path) -> Option<(fs::Metadata, Vec<u8>)> {
    // A pipe would be waited for.
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let file = File::open(path).ok()?;
    let metadata = file.metadata().ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).ok()?;
    Some((metadata, bytes))
}

fn daemon(product: &Product) -> Result<Option<Loaded>, String> {
    let target = format!("system/{}", product.label());
    let answer = SystemLaunchctl::new().call(&[OsStr::new("print"), OsStr::new(&target)]);
    let answer = answer.map_err(|error| format!("can't run launchctl: {error}"))?;
    match answer.status {
        Some(0) => Ok(Some(Loaded::read(&answer.output))),
        Some(NO_SUCH_JOB) => Ok(None),
        _ => Err(format!("launchctl print {target} failed: {}", answer.errors.trim())),
    }
}
