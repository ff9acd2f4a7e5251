//! What one slice of a program says of whether its crashes would be caught.

use std::path::Path;

use aftermach_protocol::product::Product;
use plist::Dictionary;

use super::super::finding::Finding;
use super::bundle::Kind;
use super::entitlements::{
    GROUPS, INHERIT, LOOKUPS, SANDBOX, debugging, exception_ports, hardened, is_below, is_set, jit, listed,
    system_extension, texts,
};
use super::macho::Program;
use super::signature::{CodeSignature, Entitlements};

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
