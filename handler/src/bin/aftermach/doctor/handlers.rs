//! The handlers that keep or left their state in the store: what they took, what they failed at, and their port ledgers.

use std::time::SystemTime;

use aftermach_handler::host::{HostState, PortGroup};
use aftermach_handler::service::HandlerState;
use aftermach_handler::store::{FoundHandler, Listing};
use aftermach_protocol::product::Product;

use super::finding::Finding;
use super::newest::ago;
use super::text::counted;

/// One product's handler.
pub(super) struct HandlerFacts {
    /// The name of the product's folder.
    pub(super) product: String,
    /// Where it was read.
    pub(super) path: String,
    pub(super) state: Result<HandlerState, String>,
    /// Whether a handler of the product runs; `None` if that can't be told.
    pub(super) running: Option<bool>,
    /// When the newest report of the product died.
    pub(super) newest_report: Option<String>,
    pub(super) now: SystemTime,
}

pub(super) fn gather(found: Vec<FoundHandler>, listing: &Listing) -> Vec<HandlerFacts> {
    let facts = |found: FoundHandler| {
        let newest = listing.entries.iter().find(|entry| entry.location.product == found.product);
        HandlerFacts {
            path: found.path.display().to_string(),
            state: found.bytes.map_err(|error| error.to_string()).and_then(|bytes| HandlerState::from_bytes(&bytes)),
            running: found.running,
            newest_report: newest.map(|entry| entry.time.clone()),
            product: found.product,
            now: SystemTime::now(),
        }
    };
    found.into_iter().map(facts).collect()
}

/// The products that handlers named.
pub(super) fn products(facts: &[HandlerFacts]) -> Vec<Product> {
    let named = |state: &HandlerState| Product::new(&state.group, &state.name, &state.channel).ok();
    facts.iter().filter_map(|facts| named(facts.state.as_ref().ok()?)).collect()
}

/// Of a product whose handler left nothing here.
pub(super) fn none_ran(product: &Product) -> Finding {
    Finding::unknown(
        "handler-state",
        "no handler of it has run with this store yet: no crash has reached it, or its store is another",
        "name the handler's store with --store; see whether the client is installed in the program that crashed \
         (`aftermach doctor --program PATH`), and what its install returned",
    )
    .about(&product.stem())
}

pub(super) fn judge(facts: &HandlerFacts) -> Vec<Finding> {
    let findings = match &facts.state {
        Err(why) => vec![Finding::unknown(
            "handler-state",
            format!("{}: {why}", facts.path),
            "a handler of this version writes it anew when it starts",
        )],
        Ok(state) => {
            let mut findings = vec![life(facts, state), crashes(facts, state)];
            findings.extend(state.host.as_ref().map(|host| ports(facts, host)));
            findings
        }
    };
    findings.into_iter().map(|finding| finding.about(&facts.product)).collect()
}

fn life(facts: &HandlerFacts, state: &HandlerState) -> Finding {
    const CHECK: &str = "handler-state";
    let HandlerState { version, pid, .. } = state;
    let started = ago(&state.started, facts.now);
    let finding = match (facts.running, &state.ended) {
        (Some(true), None) => Finding::ok(CHECK, format!("version {version} runs, process {pid}, started {started}")),
        (Some(true), Some(_)) => Finding::ok(CHECK, "a handler runs, and has not written down yet how it does"),
        (_, Some(ended)) => Finding::ok(
            CHECK,
            format!("none runs; the last, version {version}, ended of itself {}", ago(ended, facts.now)),
        ),
        (Some(false), None) => Finding::warning(
            CHECK,
            format!(
                "process {pid} (version {version}, started {started}) is gone without having ended: this is what it left"
            ),
            "it was killed, or died: look for it in the system's own crash reports and log; a report may be missing",
        ),
        (None, None) => Finding::unknown(
            CHECK,
            format!(
                "process {pid} (version {version}, started {started}) may run or not: this file system knows no locks"
            ),
            "see whether the process is there",
        ),
    };
    finding.with("pid", *pid).with("running", facts.running).with("started", state.started.clone())
}

fn crashes(facts: &HandlerFacts, state: &HandlerState) -> Finding {
    const CHECK: &str = "handler-crashes";
    let HandlerState { crashes, strangers, failures, .. } = state;
    let when = |time: &Option<String>| time.as_ref().map(|time| format!(", the last {}", ago(time, facts.now)));
    let refused = state.host.as_ref().map(|host| host.refused);
    let refused_told = refused.map(|refused| format!("; {refused} messages refused")).unwrap_or_default();
    let told = format!(
        "{} taken{}; {} of strangers{}{refused_told}; {failures} could not be reported",
        counted(*crashes, "crash").replace("crashs", "crashes"),
        when(&state.last_crash).unwrap_or_default(),
        counted(*strangers, "crash").replace("crashs", "crashes"),
        when(&state.last_stranger).unwrap_or_default(),
    );
    // Both are RFC 3339 in UTC with milliseconds, which sort as they follow each other.
    let lost =
        state.last_crash.as_ref().filter(|crash| facts.newest_report.as_ref().is_none_or(|newest| newest < *crash));
    let finding = match (failures, lost) {
        (1.., _) => Finding::failed(
            CHECK,
            format!("{told}: {}", state.last_failure.as_deref().unwrap_or("for an unknown reason")),
            "mend that: the store's checks here may say more",
        ),
        (0, Some(_)) if facts.running != Some(true) => Finding::warning(
            CHECK,
            format!("{told}; the last of them has no report here"),
            "it was deleted or pruned, or the handler ended before it was written",
        ),
        _ => Finding::ok(CHECK, told),
    };
    let finding = if *strangers > 0 && *crashes == 0 && finding.verdict == super::finding::Verdict::Ok {
        Finding::warning(
            CHECK,
            finding.found,
            "crashes came, and none of a client: is the client linked and installed in that very process, for this product and \
             channel (`aftermach doctor --program PATH`)?",
        )
    } else {
        finding
    };
    finding
        .with("crashes", *crashes)
        .with("strangers", *strangers)
        .with("failures", *failures)
        .with("refused", refused)
        .with("last_crash", state.last_crash.clone())
}

/// What to do about rights that are not back.
const LEAK: &str = "a defect of Aftermach: please report it with these lines; with --trace-ports in the handler's arguments, notes of \
                    later reports name the place";

/// The ledger as a handler told it after its last crash.
fn ports(facts: &HandlerFacts, host: &HostState) -> Finding {
    const CHECK: &str = "handler-ports";
    let finding = match host.ports.iter().find(|group| group.refused > 0) {
        Some(_) => {
            Finding::warning(CHECK, "the kernel refused to take rights back: they leak, or were never ours", LEAK)
        }
        None if host.ports.is_empty() => Finding::unknown(CHECK, "the handler told of no rights", ""),
        None => {
            let lent: i64 = leaves(&host.ports).filter(|group| in_passing(group)).map(|group| group.held).sum();
            match lent {
                0 => Finding::ok(CHECK, "every right that a crash brought was given back"),
                // Several are captured at a time.
                _ if facts.running == Some(true) => {
                    Finding::ok(CHECK, format!("{lent} rights were held when it was written"))
                }
                _ => Finding::warning(CHECK, format!("{lent} rights that crashes brought were not given back"), LEAK),
            }
        }
    };
    finding.and(tree(&host.ports)).with("ports", serde_json::to_value(&host.ports).unwrap_or_default())
}

/// Groups that have no parts.
fn leaves(ports: &[PortGroup]) -> impl Iterator<Item = &PortGroup> {
    ports
        .iter()
        .enumerate()
        .filter(|(index, group)| ports.get(index + 1).is_none_or(|next| next.depth <= group.depth))
        .map(|(_, group)| group)
}

/// Whether a group's rights come and go with one crash. The others last as long as the service, or a client.
fn in_passing(group: &PortGroup) -> bool {
    !matches!(group.name.as_str(), "service ports" | "client sessions")
}

/// The tree of a ledger, a line a group.
pub(super) fn tree(ports: &[PortGroup]) -> Vec<String> {
    ports.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn group(name: &str, depth: usize, held: i64, refused: u64) -> PortGroup {
        PortGroup { name: name.into(), depth, held, taken: 10, given_back: 10 - held.unsigned_abs(), refused }
    }

    fn facts() -> HandlerFacts {
        HandlerFacts {
            product: "com.example.Tunnel".into(),
            path: "/s/p/handler.json".into(),
            state: Ok(HandlerState {
                schema: 1,
                version: "0.1.0".into(),
                pid: 7,
                started: "2026-01-02T03:00:00.000Z".into(),
                crashes: 2,
                last_crash: Some("2026-01-02T03:03:05.100Z".into()),
                ..HandlerState::default()
            }),
            running: Some(true),
            newest_report: Some("2026-01-02T03:03:05.100Z".into()),
            now: SystemTime::UNIX_EPOCH,
        }
    }

    fn with(change: impl FnOnce(&mut HandlerState)) -> HandlerFacts {
        let mut facts = facts();
        change(facts.state.as_mut().unwrap());
        facts
    }

    #[track_caller]
    fn expect(facts: &HandlerFacts, check: &str, verdict: Verdict, words: &str) {
        let findings = judge(facts);
        let finding = findings.iter().find(|finding| finding.check == check).unwrap();
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        assert!(finding.found.contains(words), "{finding:?}");
    }

    #[test]
    fn a_handler_that_runs_or_ended_is_fine_and_one_that_vanished_is_not() {
        expect(&facts(), "handler-state", Verdict::Ok, "process 7");
        let ended = with(|state| state.ended = Some("2026-01-02T04:00:00.000Z".into()));
        expect(&HandlerFacts { running: Some(false), ..ended }, "handler-state", Verdict::Ok, "ended of itself");
        expect(&HandlerFacts { running: Some(false), ..facts() }, "handler-state", Verdict::Warning, "gone without");
        expect(&HandlerFacts { running: None, ..facts() }, "handler-state", Verdict::Unknown, "knows no locks");
        let unreadable = HandlerFacts { state: Err("it has schema 2".into()), ..facts() };
        expect(&unreadable, "handler-state", Verdict::Unknown, "/s/p/handler.json: it has schema 2");
    }

    #[test]
    fn a_crash_without_a_report_is_told_with_the_reason() {
        expect(&facts(), "handler-crashes", Verdict::Ok, "2 crashes taken");
        let full = with(|state| {
            state.failures = 1;
            state.last_failure = Some("No space left on device".into());
        });
        expect(&full, "handler-crashes", Verdict::Failed, "No space left");
        let deleted = HandlerFacts { newest_report: None, running: Some(false), ..facts() };
        expect(&deleted, "handler-crashes", Verdict::Warning, "has no report here");
        // It may be under way.
        expect(&HandlerFacts { newest_report: None, ..facts() }, "handler-crashes", Verdict::Ok, "taken");
        let strangers = with(|state| {
            (state.crashes, state.strangers, state.last_crash) = (0, 3, None);
        });
        expect(&strangers, "handler-crashes", Verdict::Warning, "3 crashes of strangers");
    }

    #[test]
    fn a_product_without_a_trace_is_told_by_its_name() {
        let finding = none_ran(&Product::new("com.example", "Tunnel", "canary").unwrap());
        assert_eq!((finding.verdict, finding.subject.as_str()), (Verdict::Unknown, "com.example.Tunnel-canary"));
    }

    #[test]
    fn the_ledger_is_judged_by_what_comes_and_goes_with_a_crash() {
        let host = |ports: Vec<PortGroup>| with(|state| state.host = Some(HostState { refused: 0, ports }));
        let whole = [group("handler", 0, 3, 0), group("exception server", 1, 3, 0), group("service ports", 2, 3, 0)];
        expect(&host(whole.to_vec()), "handler-ports", Verdict::Ok, "given back");
        let leaking: Vec<_> =
            whole.iter().cloned().chain([group("task reader", 1, 1, 0), group("threads", 2, 1, 0)]).collect();
        expect(&host(leaking.clone()), "handler-ports", Verdict::Ok, "1 rights were held");
        let gone = HandlerFacts { running: Some(false), ..host(leaking) };
        expect(&gone, "handler-ports", Verdict::Warning, "1 rights that crashes brought");
        let refused = host(vec![group("handler", 0, 0, 1), group("threads", 1, 0, 1)]);
        expect(&refused, "handler-ports", Verdict::Warning, "refused");
        assert_eq!(
            judge(&refused)[2].lines,
            [
                "handler: 0 held, 10 taken, 10 given back, 1 refused",
                "  threads: 0 held, 10 taken, 10 given back, 1 refused"
            ]
        );
        // Elsewhere there are no ports.
        assert_eq!(judge(&facts()).len(), 2);
    }
}
