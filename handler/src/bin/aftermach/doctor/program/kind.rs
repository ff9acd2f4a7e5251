//! What kind of program it is, and so whose services it finds.

use super::super::finding::Finding;
use super::bundle::{Extension, Kind};

/// In which domains of this machine's launchd the product's job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Reach {
    /// In the user's graphical session.
    pub(in super::super) agent: bool,
    /// In the system's.
    pub(in super::super) daemon: bool,
}

/// Whether the product's job on this machine is where the program looks.
pub(super) fn judge_reach(kind: &Kind, reach: Reach) -> Option<Finding> {
    const CHECK: &str = "program-reach";
    let Reach { agent, daemon } = reach;
    Some(match (kind, agent, daemon) {
        (Kind::Driver | Kind::Other(_), ..) => return None,
        (Kind::SystemExtension(_), _, true) => Finding::ok(CHECK, "a daemon serves its product on this machine"),
        (Kind::SystemExtension(_), true, false) => Finding::failed(
            CHECK,
            "on this machine only an agent serves its product, which it does not find",
            "install the handler as a daemon by hand, see docs/macos.md",
        ),
        (Kind::SystemExtension(_), false, false) => Finding::failed(
            CHECK,
            "nobody serves its product on this machine",
            "install the handler as a daemon by hand, see docs/macos.md",
        ),
        (Kind::Plain, true, false) => Finding::ok(CHECK, "an agent serves its product on this machine")
            .and(["if launchd starts it as root, it does not find that: it needs a daemon".to_owned()]),
        (_, true, _) => Finding::ok(CHECK, "an agent serves its product on this machine"),
        (_, false, true) => Finding::ok(CHECK, "a daemon serves its product on this machine"),
        (_, false, false) => Finding::failed(
            CHECK,
            "nobody serves its product on this machine",
            "`aftermach service install`; `aftermach doctor` with the product says more",
        ),
    })
}

/// What a bundle or program is, and where it runs. `has_daemon`: whether a daemon is known to serve its product here.
pub(super) fn judge_kind(kind: &Kind, has_daemon: bool) -> Finding {
    const CHECK: &str = "program-kind";
    const SESSION: &str = "it runs in its user's session, and finds an agent's service as well as a daemon's";
    let name = match kind {
        Kind::App => "app",
        Kind::XpcService => "xpc-service",
        Kind::AppExtension(_) => "app-extension",
        Kind::SystemExtension(_) => "system-extension",
        Kind::Driver => "driver",
        Kind::Plain => "program",
        Kind::Other(_) => "bundle",
    };
    match kind {
        Kind::App => Finding::ok(CHECK, format!("an app: {SESSION}")),
        Kind::XpcService => Finding::ok(CHECK, format!("an XPC service: {SESSION}; it is a process of its own, and installs its own client")),
        Kind::AppExtension(point) => {
            let point = point.as_deref().map(|point| format!(" ({point})")).unwrap_or_default();
            Finding::ok(CHECK, format!("an app extension{point}: {SESSION}; it is a process of its own, and installs its own client"))
        }
        Kind::SystemExtension(extension) if has_daemon => Finding::ok(
            CHECK,
            format!("a system extension{}: it runs as root in the system's domain, and finds the daemon", told(extension)),
        ),
        Kind::SystemExtension(extension) => Finding::warning(
            CHECK,
            format!("a system extension{}: it runs as root in the system's domain, and finds a daemon's service only", told(extension)),
            "an agent (`aftermach service install`) never hears of its crashes: install the handler as a daemon by hand, see \
             docs/macos.md",
        ),
        Kind::Driver => Finding::failed(
            CHECK,
            "a driver (DriverKit): it may not use what the client needs",
            "its crashes are in Apple's own reports only",
        ),
        Kind::Plain => Finding::ok(
            CHECK,
            "a program: started by its user it finds that user's agents; started by launchd as root, daemons only",
        ),
        Kind::Other(ending) => Finding::unknown(
            CHECK,
            format!("a bundle of another kind ({ending:?})"),
            "crashes are those of the process that loads it: check that one",
        ),
    }
    .with("kind", name)
}

fn told(extension: &Extension) -> String {
    if extension.providers.is_empty() {
        return String::new();
    }
    format!(" for {}", extension.providers.join(", "))
}
