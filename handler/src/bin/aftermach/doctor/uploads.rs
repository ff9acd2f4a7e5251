//! Uploads: whether reports may be sent, where to, and what came of those that were.

use std::path::Path;

use aftermach_handler::store::{Contents, Listing};
use aftermach_handler::upload::{Consent, Profile, Settings, reach};
use aftermach_protocol::report::UploadState;

use super::finding::Finding;
use super::text::counted;

/// What was found.
pub(super) struct UploadFacts {
    pub(super) consent: Consent,
    /// Why the settings count as a no, if they can't be understood.
    pub(super) note: Option<String>,
    /// Where reports would go, as it was given.
    pub(super) destination: Option<Result<Destination, String>>,
    pub(super) counts: Counts,
}

/// A destination that makes sense.
pub(super) struct Destination {
    /// Without its keys.
    pub(super) shown: String,
    pub(super) private: bool,
    /// The HTTP status that its server answered to a greeting, if it was asked.
    pub(super) answer: Option<Result<u16, String>>,
}

/// Reports by what came of sending them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) reports: u64,
    pub(super) accepted: u64,
    pub(super) waiting: u64,
    pub(super) refused: u64,
    pub(super) never_tried: u64,
    /// Why the newest that was refused or failed was.
    pub(super) newest_error: Option<String>,
}

/// Looks at a store's settings and reports. With `network`, the destination's server is asked for an answer.
pub(super) fn gather(root: &Path, listing: &Listing, upload_to: Option<&str>, network: bool) -> UploadFacts {
    let settings = Settings::load(root);
    let destination = upload_to.map(|address| look_at(address, network));
    UploadFacts { consent: settings.consent, note: settings.note, destination, counts: count(listing) }
}

fn look_at(address: &str, network: bool) -> Result<Destination, String> {
    let profile = Profile::parse(address, None).map_err(|error| error.to_string())?;
    let answer = network.then(|| reach(&profile));
    Ok(Destination { shown: profile.to_string(), private: profile.is_private(), answer })
}

fn count(listing: &Listing) -> Counts {
    let mut counts = Counts::default();
    for entry in &listing.entries {
        let Contents::Report(head) = &entry.contents else { continue };
        counts.reports += 1;
        counts.never_tried += u64::from(head.upload.is_empty());
        for upload in &head.upload {
            match &upload.state {
                UploadState::Accepted => counts.accepted += 1,
                UploadState::Pending => counts.waiting += 1,
                UploadState::Retry | UploadState::Other(_) => counts.waiting += 1,
                UploadState::Rejected => counts.refused += 1,
            }
            if let (UploadState::Retry | UploadState::Rejected, Some(error)) = (&upload.state, &upload.error) {
                counts.newest_error.get_or_insert_with(|| format!("{}: {error}", upload.url));
            }
        }
    }
    counts
}

pub(super) fn judge(facts: &UploadFacts) -> Vec<Finding> {
    let mut findings = vec![consent(facts)];
    findings.extend(destination(facts));
    findings.push(state(&facts.counts));
    findings
}

fn consent(facts: &UploadFacts) -> Finding {
    const CHECK: &str = "uploads-consent";
    let wanted = matches!(facts.destination, Some(Ok(_)));
    let name = facts.consent.name();
    let finding = match (facts.consent, &facts.note) {
        (_, Some(note)) => {
            Finding::failed(CHECK, note.clone(), "write it anew: `aftermach upload --consent always|ask|never`")
        }
        (Consent::Always, None) => Finding::ok(CHECK, "always: reports are sent without being asked"),
        (_, None) if wanted => Finding::warning(
            CHECK,
            format!("{name}: the handler sends nothing by itself"),
            "if this machine's user agrees: `aftermach upload --consent always`",
        ),
        (Consent::Ask, None) => Finding::ok(CHECK, "ask: nothing is sent without a yes for each report"),
        (Consent::Never, None) => Finding::ok(CHECK, "never: nothing is sent"),
    };
    finding.with("consent", name)
}

fn destination(facts: &UploadFacts) -> Vec<Finding> {
    const CHECK: &str = "uploads-destination";
    let destination = match &facts.destination {
        None if facts.consent == Consent::Always => {
            return vec![Finding::unknown(
                CHECK,
                "none was named here: where reports go is said to the handler (--upload-to)",
                "name it here too: `aftermach doctor --upload-to URL`, or AFTERMACH_UPLOAD_TO",
            )];
        }
        None => return vec![Finding::ok(CHECK, "none was named: reports stay on this machine")],
        Some(Err(why)) => {
            return vec![Finding::failed(
                CHECK,
                why.clone(),
                "see `aftermach help upload` for what an address looks like",
            )];
        }
        Some(Ok(destination)) => destination,
    };
    let shown = &destination.shown;
    let well_formed = if destination.private {
        Finding::ok(CHECK, shown.clone())
    } else {
        Finding::warning(CHECK, format!("{shown} is not encrypted"), "use https: everybody on the way can read reports")
    };
    let mut findings = vec![well_formed];
    match &destination.answer {
        None => {}
        Some(Ok(status)) => {
            let found = format!("its server answers (HTTP {status} to a greeting; no report was sent)");
            findings.push(Finding::ok("uploads-reachable", found).with("status", *status));
        }
        Some(Err(why)) => findings.push(Finding::failed(
            "uploads-reachable",
            why.clone(),
            "see the network, the proxy and the address; reports stay in the store meanwhile",
        )),
    }
    findings
}

fn state(counts: &Counts) -> Finding {
    const CHECK: &str = "uploads-state";
    let Counts { reports, accepted, waiting, refused, never_tried, newest_error } = counts;
    let told = format!(
        "of {}: {accepted} accepted, {waiting} waiting for another attempt, {refused} refused, {never_tried} never sent",
        counted(*reports, "report")
    );
    let finding = match newest_error {
        Some(error) if *refused > 0 || *waiting > 0 => Finding::warning(
            CHECK,
            format!("{told}; {error}"),
            "mend what the server complains of, then `aftermach upload ID` again",
        ),
        _ => Finding::ok(CHECK, told),
    };
    finding
        .with("accepted", *accepted)
        .with("waiting", *waiting)
        .with("refused", *refused)
        .with("never_sent", *never_tried)
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Verdict, worst};
    use super::*;

    fn facts(consent: Consent, address: Option<&str>) -> UploadFacts {
        let destination = address.map(|address| look_at(address, false));
        UploadFacts { consent, note: None, destination, counts: Counts::default() }
    }

    #[track_caller]
    fn verdicts(facts: &UploadFacts) -> Vec<(&'static str, Verdict)> {
        judge(facts).iter().map(|finding| (finding.check, finding.verdict)).collect()
    }

    #[test]
    fn consent_and_destination_must_fit_each_other() {
        use Verdict::{Ok, Unknown, Warning};
        let https = Some("https://crashes.example.com/submit");
        for (consent, address, of_consent, of_destination) in [
            (Consent::Always, https, Ok, Ok),
            (Consent::Always, None, Ok, Unknown),
            (Consent::Ask, https, Warning, Ok),
            (Consent::Never, https, Warning, Ok),
            (Consent::Ask, None, Ok, Ok),
            (Consent::Always, Some("http://crashes.example.com/submit"), Ok, Warning),
            (Consent::Always, Some("http://127.0.0.1:8037/submit"), Ok, Ok),
            (Consent::Always, Some("ftp://x/"), Ok, Verdict::Failed),
        ] {
            let expected =
                [("uploads-consent", of_consent), ("uploads-destination", of_destination), ("uploads-state", Ok)];
            assert_eq!(verdicts(&facts(consent, address)), expected, "{consent:?} {address:?}");
        }
    }

    #[test]
    fn settings_that_cannot_be_understood_fail_with_the_reason() {
        let refused = UploadFacts { note: Some("it is no JSON".into()), ..facts(Consent::Never, None) };
        assert_eq!(judge(&refused)[0].verdict, Verdict::Failed);
        assert!(judge(&refused)[0].found.contains("no JSON"));
    }

    #[test]
    fn a_server_is_asked_only_when_told_to_and_what_it_says_decides() {
        let with = |answer| UploadFacts {
            destination: Some(Ok(Destination { shown: "https://x/".into(), private: true, answer })),
            ..facts(Consent::Always, None)
        };
        assert_eq!(verdicts(&with(None)).len(), 3);
        assert!(verdicts(&with(Some(Ok(404)))).contains(&("uploads-reachable", Verdict::Ok)));
        assert!(verdicts(&with(Some(Err("no such host".into())))).contains(&("uploads-reachable", Verdict::Failed)));
    }

    #[test]
    fn refusals_are_warned_of_with_what_the_server_said() {
        let counts =
            Counts { reports: 3, refused: 1, never_tried: 2, newest_error: Some("u: 413".into()), ..Counts::default() };
        let finding = state(&counts);
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.found.contains("1 refused, 2 never sent; u: 413"), "{finding:?}");
        let facts = UploadFacts { counts: Counts::default(), ..facts(Consent::Ask, None) };
        assert_eq!(worst(&judge(&facts)), Verdict::Ok);
    }

    #[test]
    fn no_key_of_an_address_is_shown() {
        let key = "0123456789abcdef0123456789abcdef";
        let facts = facts(Consent::Always, Some(&format!("https://{key}@o1.ingest.sentry.io/42")));
        assert!(judge(&facts).iter().all(|finding| !finding.found.contains(key)));
    }
}
