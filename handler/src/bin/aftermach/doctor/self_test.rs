//! The whole way, tried with a crash of our own: held, copied, let go, unwound, written, and every port given back.

use std::fs;
use std::path::PathBuf;

use aftermach_handler::host::{HostError, HostState, PortGroup};
use aftermach_handler::minidump;
use aftermach_handler::store::{MINIDUMP, Store};
use aftermach_protocol::report::Report;

use super::finding::Finding;
use super::handlers::tree;
use super::newest;
use super::text::counted;
use crate::own_crash::{self, OwnCrash};

/// A program with a thread that dies, "crasher", and seven that wait.
const KIND: &str = "named-thread";
/// Those, and the main thread.
const THREADS: usize = 9;
const CRASHER: &str = "crasher";
/// A function of ours that stands on the crashed thread's stack.
const FUNCTION: &str = "first_step";

/// What came of the crash.
pub(super) struct TestFacts {
    pub(super) report: Report,
    /// How long the program was held, and how long it took until the report was on the disk, in milliseconds.
    pub(super) held: f64,
    pub(super) total: f64,
    /// What the dashboards' own reader makes of the minidump: threads and the crashed one's id.
    pub(super) dump: Result<(usize, bool), String>,
    /// What the host told of itself, before and after.
    pub(super) states: Vec<HostState>,
}

/// Makes the crash in a store of its own, which is removed afterwards.
pub(super) fn run() -> Vec<Finding> {
    let folder = Temporary(std::env::temp_dir().join(format!("aftermach-doctor-{}", uuid::Uuid::new_v4())));
    let caught = Store::open(&folder.0).map_err(Into::into).and_then(|store| own_crash::catch(&store, KIND));
    match caught {
        Ok(crash) => judge(&gather(crash)),
        Err(error) if error.is::<HostError>() => vec![Finding::failed(
            "crash-caught",
            format!("{error:#}"),
            "change what that says: without it nothing is caught",
        )],
        Err(error) => {
            vec![Finding::failed(
                "crash-caught",
                format!("{error:#}"),
                "see `aftermach doctor` for the store and the system",
            )]
        }
    }
}

fn gather(crash: OwnCrash) -> TestFacts {
    let OwnCrash { made, states } = crash;
    let summary = fs::read(made.folder.join(MINIDUMP)).map_err(|error| error.to_string());
    let summary = summary.and_then(|bytes| minidump::check(&bytes).map_err(|error| error.to_string()));
    TestFacts {
        held: made.held.as_secs_f64() * 1e3,
        total: made.total.as_secs_f64() * 1e3,
        dump: summary.map(|summary| (summary.threads, summary.crashed_thread.is_some())),
        report: made.report,
        states,
    }
}

/// A folder that goes with the test, whatever comes of it.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn judge(facts: &TestFacts) -> Vec<Finding> {
    let caught = Finding::ok("crash-caught", facts.report.exception.summary.clone());
    vec![
        caught,
        threads(&facts.report),
        frames(&facts.report),
        times(facts),
        newest::notes(&facts.report).named("crash-notes"),
        dump(facts),
        ports(&facts.states),
    ]
}

fn threads(report: &Report) -> Finding {
    const CHECK: &str = "crash-threads";
    let count = report.threads.len();
    let crashed = report.threads.iter().find(|thread| thread.crashed);
    let name = crashed.map_or("none", |thread| thread.name.as_str());
    let told = format!("{}, of which \"{name}\" crashed", counted(count as u64, "thread"));
    match (count, name) {
        (THREADS.., CRASHER) => Finding::ok(CHECK, told),
        _ => Finding::failed(
            CHECK,
            format!("{told}; there were {THREADS}, and \"{CRASHER}\" crashed"),
            "see crash-notes for what could not be read",
        ),
    }
}

fn frames(report: &Report) -> Finding {
    const CHECK: &str = "crash-frames";
    let crashed = report.threads.iter().find(|thread| thread.crashed);
    let frames = crashed.map(|thread| thread.frames.as_slice()).unwrap_or_default();
    let named = frames.iter().filter(|frame| frame.function.is_some()).count();
    let told = format!("{} of the crashed thread, {named} of them named", counted(frames.len() as u64, "frame"));
    let found =
        frames.iter().any(|frame| frame.function.as_deref().is_some_and(|function| function.contains(FUNCTION)));
    if found {
        Finding::ok(CHECK, told)
    } else if frames.len() < 3 {
        Finding::failed(CHECK, told, "the stack could not be walked: see crash-notes, and report it")
    } else {
        Finding::warning(
            CHECK,
            format!("{told}; the function that called the crash is not among them"),
            "is this tool stripped of its symbols? Then names come from elsewhere (a dSYM, the dashboard)",
        )
    }
}

fn times(facts: &TestFacts) -> Finding {
    let told = format!("held for {:.1} ms, on the disk after {:.1} ms", facts.held, facts.total);
    let finding = if facts.held > 1000.0 {
        Finding::warning("crash-times", told, "programs stand still for so long: see what else this machine is at")
    } else {
        Finding::ok("crash-times", told)
    };
    finding.with("held_ms", facts.held).with("total_ms", facts.total)
}

fn dump(facts: &TestFacts) -> Finding {
    const CHECK: &str = "crash-minidump";
    let advice = "report it, with `aftermach export` of such a report";
    match &facts.dump {
        Err(why) => Finding::failed(CHECK, why.clone(), advice),
        Ok((threads, true)) if *threads == facts.report.threads.len() => Finding::ok(
            CHECK,
            format!("rust-minidump reads it: {}, one of them crashed", counted(*threads as u64, "thread")),
        ),
        Ok((threads, _)) => {
            Finding::failed(CHECK, format!("rust-minidump reads {} in it", counted(*threads as u64, "thread")), advice)
        }
    }
}

/// Whether the ledger is back where it was before the crash.
fn ports(states: &[HostState]) -> Finding {
    const CHECK: &str = "crash-ports";
    let (Some(before), Some(after)) = (states.first(), states.last()) else {
        return Finding::ok(CHECK, "there are no ports on this system");
    };
    let held = |group: &PortGroup| (group.name.clone(), group.held, group.refused);
    let is_back = before.ports.iter().map(held).eq(after.ports.iter().map(held));
    let lines = ["before:".to_owned()]
        .into_iter()
        .chain(tree(&before.ports))
        .chain(["after:".to_owned()])
        .chain(tree(&after.ports));
    let finding = if is_back {
        Finding::ok(CHECK, "every right that the crash brought was given back")
    } else {
        Finding::failed(
            CHECK,
            "the ledger is not where it was before",
            "a defect of Aftermach: report it with these lines",
        )
    };
    let ports = |state: &HostState| serde_json::to_value(&state.ports).unwrap_or_default();
    finding.and(lines).with("before", ports(before)).with("after", ports(after))
}

#[cfg(test)]
mod tests {
    use aftermach_protocol::report::{Frame, Note, Thread};

    use super::super::finding::{Verdict, worst};
    use super::*;

    fn good() -> TestFacts {
        let frame = |function: &str| Frame { function: Some(function.into()), ..Frame::default() };
        let frames =
            vec![frame("kinds::die"), frame("aftermach::crash::second_step"), frame("aftermach::crash::first_step")];
        let mut threads = vec![Thread::default(); THREADS];
        threads[8] = Thread { name: CRASHER.into(), crashed: true, frames, ..Thread::default() };
        let report = Report { threads, ..Report::default() };
        TestFacts { report, held: 0.9, total: 30.0, dump: Ok((THREADS, true)), states: Vec::new() }
    }

    #[track_caller]
    fn verdict(facts: &TestFacts, check: &str) -> Verdict {
        judge(facts).iter().find(|finding| finding.check == check).unwrap().verdict
    }

    fn ledger(threads: i64, refused: u64) -> HostState {
        let group = |name: &str, held, refused| PortGroup { name: name.into(), held, refused, ..PortGroup::default() };
        HostState { refused: 0, ports: vec![group("service ports", 3, 0), group("threads", threads, refused)] }
    }

    #[test]
    fn a_crash_that_was_caught_whole_is_fine() {
        assert_eq!(worst(&judge(&good())), Verdict::Ok, "{:#?}", judge(&good()));
    }

    #[test]
    fn each_thing_that_is_missing_is_told() {
        let mut few = good();
        few.report.threads.remove(0);
        assert_eq!(verdict(&few, "crash-threads"), Verdict::Failed);
        assert_eq!(verdict(&few, "crash-minidump"), Verdict::Failed);
        let mut other = good();
        other.report.threads[8].name = "main".into();
        assert_eq!(verdict(&other, "crash-threads"), Verdict::Failed);
        let mut nameless = good();
        nameless.report.threads[8].frames.iter_mut().for_each(|frame| frame.function = None);
        assert_eq!(verdict(&nameless, "crash-frames"), Verdict::Warning);
        nameless.report.threads[8].frames.truncate(1);
        assert_eq!(verdict(&nameless, "crash-frames"), Verdict::Failed);
        assert_eq!(verdict(&TestFacts { held: 8000.0, ..good() }, "crash-times"), Verdict::Warning);
        assert_eq!(verdict(&TestFacts { dump: Err("cut".into()), ..good() }, "crash-minidump"), Verdict::Failed);
        let mut noted = good();
        noted.report.notes.push(Note { part: "ports".into(), text: "threads: 3 taken".into(), ..Note::default() });
        assert_eq!(verdict(&noted, "crash-notes"), Verdict::Warning);
    }

    #[test]
    fn the_ledger_must_be_where_it_was() {
        let with = |states| TestFacts { states, ..good() };
        assert_eq!(verdict(&with(vec![ledger(0, 0), ledger(2, 0), ledger(0, 0)]), "crash-ports"), Verdict::Ok);
        assert_eq!(verdict(&with(vec![ledger(0, 0), ledger(1, 0)]), "crash-ports"), Verdict::Failed);
        assert_eq!(verdict(&with(vec![ledger(0, 0), ledger(0, 1)]), "crash-ports"), Verdict::Failed);
        let lines = judge(&with(vec![ledger(0, 0), ledger(0, 0)])).pop().unwrap().lines;
        assert_eq!((lines.len(), lines[0].as_str(), lines[3].as_str()), (6, "before:", "after:"));
    }
}
