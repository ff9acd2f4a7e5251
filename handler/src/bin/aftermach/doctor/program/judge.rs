//! What a program's file says of whether its crashes would be caught.

use std::path::Path;

use aftermach_protocol::product::Product;
use plist::{Dictionary, Value};
use serde_json::json;

use super::super::finding::Finding;
use super::bundle::{Extension, Kind};
use super::macho::Program;
use super::signature::{CodeSignature, Entitlements};

const SANDBOX: &str = "com.apple.security.app-sandbox";
const INHERIT: &str = "com.apple.security.inherit";
const GROUPS: &str = "com.apple.security.application-groups";
const LOOKUPS: &str = "com.apple.security.temporary-exception.mach-lookup.global-name";
const ONE_PORT: &str = "com.apple.security.only-one-exception-port";
const HARDENED: &str = "com.apple.security.hardened-process";
const RESTRICTIONS: &str = "com.apple.security.hardened-process.platform-restrictions";
const RESTRICTIONS_TEXT: &str = "com.apple.security.hardened-process.platform-restrictions-string";
const BROWSER: &str = "com.apple.developer.web-browser-engine";
const GET_TASK: &str = "com.apple.security.get-task-allow";
const DEBUGGER: &str = "com.apple.security.cs.debugger";
const JIT: [&str; 2] = ["com.apple.security.cs.allow-jit", "com.apple.security.cs.allow-unsigned-executable-memory"];
const NETWORK: &str = "com.apple.developer.networking.networkextension";

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

/// A slice with all that is judged with it.
pub(super) struct Case<'c> {
    pub(super) program: &'c Program,
    pub(super) cpu: &'c str,
    pub(super) kind: &'c Kind,
    pub(super) product: Option<&'c Product>,
    /// A library in the bundle that has the client.
    pub(super) library: Option<&'c Path>,
}

impl Case<'_> {
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![self.client(), self.signature()];
        let none = Dictionary::new();
        let signature = self.program.signature.as_ref().and_then(|signature| signature.as_ref().ok());
        let entitlements = match signature.map(|signature| &signature.entitlements) {
            Some(Entitlements::Some(entitlements)) => entitlements,
            Some(Entitlements::OnlyDer) => {
                findings.push(Finding::unknown(
                    "program-entitlements",
                    "they are there in the binary form only",
                    "`codesign -d --entitlements - PATH` shows them",
                ));
                return findings;
            }
            Some(Entitlements::Broken(why)) => {
                findings.push(Finding::failed(
                    "program-entitlements",
                    format!("they can't be read: {why}"),
                    "sign it again",
                ));
                return findings;
            }
            Some(Entitlements::None) | None => &none,
        };
        findings.push(listed(entitlements));
        findings.extend(signature.map(hardened));
        findings.push(self.sandbox(entitlements));
        findings.push(self.service(entitlements, signature));
        findings.push(exception_ports(entitlements));
        findings.push(debugging(entitlements));
        findings.extend(jit(entitlements));
        if let Kind::SystemExtension(extension) = self.kind {
            findings.extend(system_extension(extension, entitlements));
        }
        findings
    }

    fn client(&self) -> Finding {
        const CHECK: &str = "program-client";
        match (self.program.client, self.library) {
            (Some(version), _) => Finding::ok(CHECK, format!("the client is linked (record version {version})"))
                .with("record_version", version),
            (None, Some(library)) => {
                Finding::ok(CHECK, format!("the client is linked into {}, which it may load", library.display()))
            }
            (None, None) => Finding::failed(
                CHECK,
                "the client is not linked: no crash of this program is caught",
                "link it and call aftermach_install (docs/client.md); the linker leaves it out where nothing calls it",
            ),
        }
    }

    fn signature(&self) -> Finding {
        const CHECK: &str = "program-signature";
        match &self.program.signature {
            None if self.cpu.starts_with("arm64") => {
                Finding::failed(CHECK, "not signed: Apple silicon does not run it", "sign it: `codesign -s - PATH`")
            }
            None => Finding::warning(CHECK, "not signed: it has no entitlements and no team", "sign it"),
            Some(Err(why)) => Finding::failed(CHECK, format!("its signature can't be read: {why}"), "sign it again"),
            Some(Ok(signature)) => {
                let identifier = signature.identifier.as_deref().unwrap_or("nothing");
                let by = match (&signature.team, signature.is_linkers(), signature.is_ad_hoc()) {
                    (Some(team), _, false) => format!("by team {team}"),
                    (_, true, _) => "by the linker, good for the machine that linked it".to_owned(),
                    (_, _, true) => "ad hoc, good for tests".to_owned(),
                    (None, ..) => "by no team".to_owned(),
                };
                Finding::ok(CHECK, format!("signed as {identifier} {by}; only its form was looked at"))
                    .with("identifier", signature.identifier.clone())
                    .with("team", signature.team.clone())
                    .with("ad_hoc", signature.is_ad_hoc())
            }
        }
    }

    fn sandbox(&self, entitlements: &Dictionary) -> Finding {
        const CHECK: &str = "program-sandbox";
        if !is_set(entitlements, SANDBOX) {
            return match self.kind {
                Kind::AppExtension(_) => Finding::warning(
                    CHECK,
                    "no sandbox, which the system wants of app extensions",
                    format!("give it {SANDBOX}"),
                ),
                _ => Finding::ok(CHECK, "no sandbox: it may look up any service of its domain"),
            };
        }
        if is_set(entitlements, INHERIT) {
            return Finding::unknown(
                CHECK,
                "the sandbox of whoever starts it",
                "check that program: its app groups decide what this one finds",
            );
        }
        let groups = texts(entitlements, GROUPS);
        let found = match groups.as_slice() {
            [] => "a sandbox without app groups".to_owned(),
            groups => format!("a sandbox, with the app groups {}", groups.join(", ")),
        };
        Finding::ok(CHECK, found).with("groups", groups)
    }

    /// Which service it would register with, and whether it may look it up.
    fn service(&self, entitlements: &Dictionary, signature: Option<&CodeSignature>) -> Finding {
        const CHECK: &str = "program-service";
        let sandboxed = is_set(entitlements, SANDBOX) && !is_set(entitlements, INHERIT);
        let groups = texts(entitlements, GROUPS);
        let Some(product) = self.product else {
            let found = "which product it registers for is said when it runs";
            return match groups.first() {
                _ if !sandboxed => Finding::unknown(CHECK, found, "name it with --group and --name"),
                None => Finding::failed(
                    CHECK,
                    "in its sandbox without an app group it finds no product's service",
                    format!("entitle it to an app group ({GROUPS}), and use that as the product's group"),
                ),
                Some(group) => Finding::unknown(
                    CHECK,
                    format!("{found}; its group must be an app group, or lie below one"),
                    format!("name it: --group {group} --name NAME"),
                ),
            };
        };
        let service = product.service();
        let seen = if self.program.has_text { "; the group's name is in the program" } else { "" };
        let team = signature.and_then(|signature| signature.team.as_deref());
        let finding = if !sandboxed {
            Finding::ok(CHECK, format!("{service}: it may look that up{seen}"))
        } else if let Some(group) = groups.iter().find(|group| is_below(&service, group)) {
            match team {
                // "TEAM." or, with a profile, "group.".
                Some(team) if !group.starts_with("group.") && !is_below(group, team) => Finding::warning(
                    CHECK,
                    format!("{service} lies in the app group {group}, which is not of the signing team {team}"),
                    "from macOS 15 on the system asks the user, or refuses: begin the group with the team's identifier",
                ),
                _ => Finding::ok(CHECK, format!("{service} lies in its app group {group}{seen}")),
            }
        } else if texts(entitlements, LOOKUPS).contains(&service) {
            Finding::ok(CHECK, format!("{service} is among the names that it may look up by exception{seen}"))
                .and(["the App Store does not like that exception; an app group needs none".to_owned()])
        } else {
            Finding::failed(
                CHECK,
                format!("{service} lies in none of its app groups ({}): the sandbox hides it", groups.join(", ")),
                format!(
                    "entitle it to an app group that the product's group {} is or lies below, or choose such a group",
                    product.group()
                ),
            )
        };
        finding.with("service", service)
    }
}

fn listed(entitlements: &Dictionary) -> Finding {
    let names: Vec<&String> = entitlements.keys().collect();
    let found = match names.as_slice() {
        [] => "none".to_owned(),
        names => names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "),
    };
    Finding::ok("program-entitlements", found).with("names", json!(names))
}

fn hardened(signature: &CodeSignature) -> Finding {
    const CHECK: &str = "program-hardened-runtime";
    let found = if signature.is_hardened() {
        "on: its own exception ports it may set, and it needs no entitlement for that"
    } else {
        "off: fine here, and notarization wants it on"
    };
    Finding::ok(CHECK, found).with("hardened", signature.is_hardened())
}

/// osfmk/kern/ipc_tt.c, `set_exception_behavior_allowed`: who may set which exception ports.
fn exception_ports(entitlements: &Dictionary) -> Finding {
    const CHECK: &str = "program-exception-ports";
    if is_set(entitlements, ONE_PORT) {
        return Finding::failed(
            CHECK,
            format!("{ONE_PORT}: it may set none but by a call that the client does not use"),
            "remove that entitlement, or leave its crashes to Apple's own report: install returns Hardened",
        );
    }
    let restrictions = [RESTRICTIONS, RESTRICTIONS_TEXT].iter().any(|name| entitlements.contains_key(name));
    let browser = entitlements.keys().any(|name| name.starts_with(BROWSER));
    if restrictions || browser || is_set(entitlements, HARDENED) {
        return Finding::ok(CHECK, "Enhanced Security: protected registrations only, which is what the client uses").and([
            "never Identity::Classic (AFTERMACH_CLASSIC): the kernel kills the program for it; other crash reporters in \
             it must know that too"
                .to_owned(),
        ]);
    }
    Finding::ok(CHECK, "it may set any")
}

fn debugging(entitlements: &Dictionary) -> Finding {
    const CHECK: &str = "program-debugging";
    if is_set(entitlements, GET_TASK) {
        return Finding::warning(
            CHECK,
            format!(
                "a build for debugging ({GET_TASK}): under a debugger only its deaths are caught, not first faults"
            ),
            "sign what is shipped without it; notarization refuses it",
        );
    }
    if is_set(entitlements, DEBUGGER) {
        return Finding::ok(CHECK, format!("it may debug others ({DEBUGGER}); the client needs no such entitlement"));
    }
    Finding::ok(CHECK, "no entitlement for debugging")
}

fn jit(entitlements: &Dictionary) -> Option<Finding> {
    let name = JIT.iter().find(|name| is_set(entitlements, name))?;
    Some(
        Finding::ok("program-jit", format!("it makes code as it runs ({name})")).and([
            "if it takes faults in its normal course, install with crash_only: each would go to the service and back"
                .to_owned(),
        ]),
    )
}

fn system_extension(extension: &Extension, entitlements: &Dictionary) -> Vec<Finding> {
    const CHECK: &str = "program-extension";
    let groups = texts(entitlements, GROUPS);
    let Some(key) = extension.key else {
        return vec![Finding::unknown(
            CHECK,
            "its Info.plist says no kind that is known here (network, endpoint security, camera)",
            "see that its Info.plist is whole",
        )];
    };
    let mut findings = vec![match &extension.service {
        None => Finding::failed(
            CHECK,
            format!("{key} is missing: the system does not load it"),
            "name a service below an app group",
        ),
        Some(service) => match groups.iter().find(|group| is_below(service, group)) {
            Some(group) => Finding::ok(CHECK, format!("{key} {service} lies in its app group {group}")),
            None => Finding::failed(
                CHECK,
                format!("{key} {service} lies in none of its app groups ({})", groups.join(", ")),
                "begin it with an app group that the extension is entitled to: otherwise it is not loaded",
            ),
        },
    }];
    if key == "NEMachServiceName" {
        let kinds = texts(entitlements, NETWORK);
        findings.push(if kinds.is_empty() {
            Finding::failed(
                "program-network-extension",
                format!("{NETWORK} is missing: the system ends it before the client runs"),
                "entitle it, e.g. to packet-tunnel-provider-systemextension, with a profile that has it",
            )
        } else if kinds.iter().any(|kind| kind.ends_with("-systemextension")) {
            Finding::ok("program-network-extension", kinds.join(", "))
        } else {
            Finding::ok("program-network-extension", kinds.join(", ")).and([
                "signed with a Developer ID it needs the same names with -systemextension at their end".to_owned(),
            ])
        });
    }
    findings
}

fn is_set(entitlements: &Dictionary, name: &str) -> bool {
    entitlements.get(name).and_then(Value::as_boolean) == Some(true)
}

/// An array of texts, or one text.
fn texts(entitlements: &Dictionary, name: &str) -> Vec<String> {
    match entitlements.get(name) {
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_string).map(str::to_owned).collect(),
        Some(Value::String(text)) => vec![text.clone()],
        _ => Vec::new(),
    }
}

/// Whether `name` is `group`, or starts with it and a dot: what the sandbox lets be looked up.
fn is_below(name: &str, group: &str) -> bool {
    name.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
