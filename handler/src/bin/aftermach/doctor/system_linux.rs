//! What Linux says of itself and of a product's service.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aftermach_handler::host::linux::{Endpoint, visit};
use aftermach_handler::host::{probe, user_id};
use aftermach_protocol::product::Product;
use aftermach_protocol::session::Status;

use super::finding::Finding;
use super::program::Reach;
use super::ptrace::{self, Reply, Socket, SocketFacts, TracingFacts};

/// Everything about this system, and about the service of each product.
pub(super) fn check(products: &[Product]) -> io::Result<Vec<Finding>> {
    let read = |path: &str| fs::read_to_string(path);
    let status = read("/proc/self/status").unwrap_or_default();
    let facts = TracingFacts {
        release: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        yama: read("/proc/sys/kernel/yama/ptrace_scope").ok(),
        seccomp: status.lines().find_map(|line| line.strip_prefix("Seccomp:")?.trim().parse().ok()),
        probe: probe().map_err(|refused| refused.to_string()),
    };
    let mut findings = ptrace::judge(&facts);
    findings.extend(products.iter().flat_map(|product| ptrace::judge_socket(&look_at(product))));
    if products.is_empty() {
        findings.push(Finding::unknown(
            "service-socket",
            "no handler has named a product in this store yet",
            "name one: `aftermach doctor --group GROUP --name NAME`",
        ));
    }
    Ok(findings)
}

/// The products that have a service here that is not known from the store: nothing lists them.
pub(super) fn products() -> Vec<Product> {
    Vec::new()
}

/// Where a product's job is in launchd, which is macOS's.
pub(super) fn reach(_product: &Product) -> Option<Reach> {
    None
}

/// Where the system keeps crash reports of its own: nowhere that is the same on every distribution.
pub(super) fn report_folders() -> Vec<PathBuf> {
    Vec::new()
}

fn look_at(product: &Product) -> SocketFacts {
    let (path, socket) = match Endpoint::place(product) {
        Err(error) => (String::new(), Socket::NoPlace(error.to_string())),
        Ok(path) => (path.display().to_string(), socket(&path)),
    };
    SocketFacts { product: product.stem(), path, user: user_id(), socket }
}

fn socket(path: &Path) -> Socket {
    match visit(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Socket::Missing,
        Err(error) => Socket::Closed(error.to_string()),
        Ok(visit) => Socket::Open {
            pid: visit.pid,
            uid: visit.uid,
            answer: visit.answer.map_err(|error| error.to_string()).map(|status| match status {
                Status::Ok => Reply::Fine,
                Status::NotPermitted => Reply::NotPermitted,
                Status::Busy => Reply::Busy,
                _ => Reply::Odd,
            }),
        },
    }
}
