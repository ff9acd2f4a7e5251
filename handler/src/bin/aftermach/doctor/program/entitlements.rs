//! What entitlements and the signature's flags mean for registering, and for being found.

use plist::{Dictionary, Value};
use serde_json::json;

use super::super::finding::Finding;
use super::bundle::Extension;
use super::signature::CodeSignature;

pub(super) const SANDBOX: &str = "com.apple.security.app-sandbox";
pub(super) const INHERIT: &str = "com.apple.security.inherit";
pub(super) const GROUPS: &str = "com.apple.security.application-groups";
pub(super) const LOOKUPS: &str = "com.apple.security.temporary-exception.mach-lookup.global-name";
const ONE_PORT: &str = "com.apple.security.only-one-exception-port";
const HARDENED: &str = "com.apple.security.hardened-process";
const RESTRICTIONS: &str = "com.apple.security.hardened-process.platform-restrictions";
const RESTRICTIONS_TEXT: &str = "com.apple.security.hardened-process.platform-restrictions-string";
const BROWSER: &str = "com.apple.developer.web-browser-engine";
const GET_TASK: &str = "com.apple.security.get-task-allow";
const DEBUGGER: &str = "com.apple.security.cs.debugger";
const JIT: [&str; 2] = ["com.apple.security.cs.allow-jit", "com.apple.security.cs.allow-unsigned-executable-memory"];
const NETWORK: &str = "com.apple.developer.networking.networkextension";

pub(super) fn listed(entitlements: &Dictionary) -> Finding {
    let names: Vec<&String> = entitlements.keys().collect();
    let found = match names.as_slice() {
        [] => "none".to_owned(),
        names => names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "),
    };
    Finding::ok("program-entitlements", found).with("names", json!(names))
}

pub(super) fn hardened(signature: &CodeSignature) -> Finding {
    const CHECK: &str = "program-hardened-runtime";
    let found = if signature.is_hardened() {
        "on: its own exception ports it may set, and it needs no entitlement for that"
    } else {
        "off: fine here, and notarization wants it on"
    };
    Finding::ok(CHECK, found).with("hardened", signature.is_hardened())
}

/// osfmk/kern/ipc_tt.c, `set_exception_behavior_allowed`: who may set which exception ports.
pub(super) fn exception_ports(entitlements: &Dictionary) -> Finding {
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

pub(super) fn debugging(entitlements: &Dictionary) -> Finding {
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

pub(super) fn jit(entitlements: &Dictionary) -> Option<Finding> {
    let name = JIT.iter().find(|name| is_set(entitlements, name))?;
    Some(
        Finding::ok("program-jit", format!("it makes code as it runs ({name})")).and([
            "if it takes faults in its normal course, install with crash_only: each would go to the service and back"
                .to_owned(),
        ]),
    )
}

pub(super) fn system_extension(extension: &Extension, entitlements: &Dictionary) -> Vec<Finding> {
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

pub(super) fn is_set(entitlements: &Dictionary, name: &str) -> bool {
    entitlements.get(name).and_then(Value::as_boolean) == Some(true)
}

/// An array of texts, or one text.
pub(super) fn texts(entitlements: &Dictionary, name: &str) -> Vec<String> {
    match entitlements.get(name) {
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_string).map(str::to_owned).collect(),
        Some(Value::String(text)) => vec![text.clone()],
        _ => Vec::new(),
    }
}

/// Whether `name` is `group`, or starts with it and a dot: what the sandbox lets be looked up.
pub(super) fn is_below(name: &str, group: &str) -> bool {
    name.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
