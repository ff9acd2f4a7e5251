//! macOS: the system's release and what it means, and whether exceptions may be served at all.

use super::finding::Finding;

/// What was found of the system.
#[derive(Debug)]
pub(super) struct MacFacts {
    /// Such as "15.4.1"; empty if the kernel does not say.
    pub(super) version: String,
    /// Such as "24E263".
    pub(super) build: String,
    pub(super) machine: String,
    /// Whether this process runs translated, by Rosetta.
    pub(super) translated: bool,
    /// Why this process may not serve exceptions, if it may not.
    pub(super) exceptions: Result<(), String>,
}

pub(super) fn judge(facts: &MacFacts) -> Vec<Finding> {
    vec![release(facts), translated(facts), exceptions(facts)]
}

fn release(facts: &MacFacts) -> Finding {
    const CHECK: &str = "system";
    let MacFacts { version, build, machine, .. } = facts;
    let told = format!("macOS {version} ({build}) on {machine}");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        None => Finding::unknown(CHECK, "the system does not say its release", "macOS 11 or later is needed"),
        Some(..11) => Finding::failed(CHECK, told, "macOS 11 or later is needed"),
        // osfmk/kern/ipc_tt.c, osfmk/mach/exception_types.h: identity tokens came with macOS 12.
        Some(11) => Finding::ok(CHECK, told)
            .and(["clients register with the classic behaviour: the protected one came with macOS 12".to_owned()]),
        Some(12..14) => Finding::ok(CHECK, told).and(["clients register with the protected behaviour".to_owned()]),
        Some(14..26) => Finding::ok(CHECK, told).and([
            "clients register with the protected behaviour: the only kind that the system's own programs may use"
                .to_owned(),
        ]),
        Some(26) => Finding::ok(CHECK, told).and([
            "clients register with the protected behaviour: the only kind that programs with Enhanced Security may use"
                .to_owned(),
        ]),
        Some(_) => Finding::ok(CHECK, told).and([
            "clients register with the protected behaviour: the only kind that programs with Enhanced Security may use"
                .to_owned(),
            "Apple's CrashReportExtension of an app runs beside Aftermach".to_owned(),
        ]),
    }
    .with("version", version.clone())
    .with("build", build.clone())
}

fn translated(facts: &MacFacts) -> Finding {
    const CHECK: &str = "system-translated";
    if facts.translated {
        Finding::warning(
            CHECK,
            "this is the Intel build, translated by Rosetta",
            "use the arm64 build: a translated handler has not been tried, and reads other programs' registers by Rosetta",
        )
    } else {
        Finding::ok(CHECK, "not translated by Rosetta")
    }
}

fn exceptions(facts: &MacFacts) -> Finding {
    const CHECK: &str = "system-exceptions";
    match &facts.exceptions {
        Ok(()) => {
            Finding::ok(CHECK, "a port was made and registered for this process's own exceptions, and taken back")
        }
        Err(why) => Finding::failed(CHECK, why.clone(), "run this outside any sandbox, and not under a debugger"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Verdict, worst};
    use super::*;

    fn mac() -> MacFacts {
        MacFacts {
            version: "15.4.1".into(),
            build: "24E263".into(),
            machine: "Mac16,13".into(),
            translated: false,
            exceptions: Ok(()),
        }
    }

    #[test]
    fn releases_are_told_with_what_they_mean() {
        for (version, verdict, words) in [
            ("10.15.7", Verdict::Failed, ""),
            ("11.0", Verdict::Ok, "classic"),
            ("12.7", Verdict::Ok, "protected"),
            ("14.2", Verdict::Ok, "system's own programs"),
            ("26.1", Verdict::Ok, "Enhanced Security"),
            ("27.0", Verdict::Ok, "Enhanced Security"),
            ("", Verdict::Unknown, ""),
        ] {
            let finding = release(&MacFacts { version: version.into(), ..mac() });
            assert_eq!(finding.verdict, verdict, "{version}");
            assert!(finding.lines.concat().contains(words), "{version}: {finding:?}");
        }
        assert_eq!(worst(&judge(&mac())), Verdict::Ok);
        assert_eq!(worst(&judge(&MacFacts { translated: true, ..mac() })), Verdict::Warning);
        assert_eq!(worst(&judge(&MacFacts { exceptions: Err("denied".into()), ..mac() })), Verdict::Failed);
    }
}
