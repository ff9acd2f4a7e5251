//! The newest report: whether it is whole, and what it cost.

use std::time::{Duration, SystemTime};

use aftermach_handler::store::{Contents, Listing, StoreError};
use aftermach_handler::time::rfc3339;
use aftermach_protocol::report::Report;

use super::finding::Finding;
use super::text::counted;

/// A program that was held longer than this stood still for its user to see.
const LONG_HELD_US: u64 = 1_000_000;
/// Notes that are shown; `aftermach show` has all.
const NOTES: usize = 5;
/// Parts whose notes mean that the capture itself went wrong.
const GRAVE: [&str; 4] = ["capture", "task", "ports", "minidump"];

/// The newest readable report, and those that are not.
pub(super) struct NewestFacts {
    pub(super) now: SystemTime,
    pub(super) newest: Option<Result<Report, String>>,
    /// How many can't be read, and why the newest of them can't.
    pub(super) damaged: (u64, Option<String>),
}

pub(super) fn gather(listing: &Listing) -> NewestFacts {
    let read =
        |entry: &aftermach_handler::store::Entry| entry.location.read().map_err(|error: StoreError| error.to_string());
    let damaged = listing.entries.iter().filter_map(|entry| match &entry.contents {
        Contents::Damaged(why) => Some(format!("{}: {why}", entry.location.folder.display())),
        _ => None,
    });
    let damaged: Vec<String> = damaged.collect();
    let newest = listing.entries.iter().find(|entry| matches!(entry.contents, Contents::Report(_))).map(read);
    NewestFacts { now: SystemTime::now(), newest, damaged: (damaged.len() as u64, damaged.into_iter().next()) }
}

pub(super) fn judge(facts: &NewestFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &facts.newest {
        None => findings.push(Finding::unknown(
            "report-newest",
            "no crash has been reported yet",
            "try the whole way with `aftermach doctor --crash`, then let a program of the product die (`aftermach crash --help`)",
        )),
        Some(Err(why)) => {
            findings.push(Finding::failed("report-newest", why.clone(), "see what else writes into the store"));
        }
        Some(Ok(report)) => findings.extend([newest(report, facts.now), times(report), notes(report)]),
    }
    if let (count, Some(first)) = &facts.damaged {
        findings.push(Finding::warning(
            "report-damaged",
            format!("{} can't be read, such as {first}", counted(*count, "report")),
            "delete them (`aftermach delete ID`), and see what else writes into the store",
        ));
    }
    findings
}

fn newest(report: &Report, now: SystemTime) -> Finding {
    let died = report.times.died.as_deref().unwrap_or("at an unknown time");
    let age = seconds_since(died, now).map(|seconds| format!(", {} ago", age(seconds))).unwrap_or_default();
    let id = report.report_id.get(..8).unwrap_or(&report.report_id);
    Finding::ok("report-newest", format!("{id} of {died}{age}: {}", report.exception.summary))
        .with("report_id", report.report_id.clone())
        .with("died", died)
}

fn times(report: &Report) -> Finding {
    const CHECK: &str = "report-times";
    let times = &report.times;
    let ms = |us: Option<u64>| us.map_or("?".to_owned(), |us| format!("{:.1} ms", us as f64 / 1e3));
    // Points in time have milliseconds; where the span is known more exactly, it is told.
    let after = |time: &Option<String>| {
        let span = seconds_between(times.died.as_deref()?, time.as_deref()?)?;
        Some(format!("{:.0} ms", span * 1e3))
    };
    let or = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
    let told = format!(
        "known at {}, captured after {} (all threads held after {}), let go after {}, on the disk after {}",
        times.died.as_deref().unwrap_or("?"),
        or(after(&times.captured)),
        ms(times.gathering_us),
        ms(times.held_us),
        or(after(&times.written)),
    );
    let finding = match times.held_us {
        Some(held) if held > LONG_HELD_US => Finding::warning(
            CHECK,
            told,
            "the program stood still for so long: see what else the machine was at, and the handler's ProcessType",
        ),
        None => Finding::unknown(CHECK, told, "it was made by another version"),
        Some(_) => Finding::ok(CHECK, told),
    };
    finding.with("held_us", times.held_us)
}

/// What the report says could not be read.
pub(super) fn notes(report: &Report) -> Finding {
    const CHECK: &str = "report-notes";
    let count = report.notes.len();
    let shown = report.notes.iter().take(NOTES).map(|note| format!("{}: {}", note.part, note.text));
    let lines: Vec<String> = shown.chain((count > NOTES).then(|| format!("and {} more", count - NOTES))).collect();
    let grave = report.notes.iter().filter(|note| GRAVE.contains(&note.part.as_str())).count();
    let told = format!("{} on what could not be read or is odd", counted(count as u64, "note"));
    let finding = match (count, grave) {
        (0, _) => Finding::ok(CHECK, "nothing is missing from it"),
        (_, 0) => Finding::ok(CHECK, told),
        _ => Finding::warning(
            CHECK,
            told,
            "the capture itself met trouble: a part of the report is missing or not to be trusted",
        ),
    };
    finding.and(lines).with("notes", count)
}

/// Seconds from one point in time to another, as reports write them.
fn seconds_between(from: &str, to: &str) -> Option<f64> {
    let parse = |text: &str| text.parse::<jiff::Timestamp>().ok();
    Some(parse(from)?.duration_until(parse(to)?).as_secs_f64())
}

fn seconds_since(time: &str, now: SystemTime) -> Option<f64> {
    seconds_between(time, &rfc3339(now)).filter(|seconds| *seconds >= 0.0)
}

/// A point in time that is past, as "3 hours ago" would have it.
pub(super) fn ago(time: &str, now: SystemTime) -> String {
    seconds_since(time, now).map_or_else(|| format!("at {time}"), |seconds| format!("{} ago ({time})", age(seconds)))
}

fn age(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use aftermach_protocol::report::{Exception, Note, Times};

    use super::super::finding::Verdict;
    use super::*;

    fn facts(report: Report) -> NewestFacts {
        // 2026-01-02T05:03:05Z
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_330_185);
        NewestFacts { now, newest: Some(Ok(report)), damaged: (0, None) }
    }

    fn report() -> Report {
        Report {
            report_id: "67e55044-10b1-426f-9247-bb680e5fe0c8".into(),
            times: Times {
                died: Some("2026-01-02T03:03:05.100Z".into()),
                captured: Some("2026-01-02T03:03:05.103Z".into()),
                written: Some("2026-01-02T03:03:05.140Z".into()),
                gathering_us: Some(400),
                held_us: Some(2_900),
                ..Times::default()
            },
            exception: Exception { summary: "Thread 0 of x died".into(), ..Exception::default() },
            ..Report::default()
        }
    }

    fn note(part: &str) -> Note {
        Note { part: part.into(), text: "odd".into(), ..Note::default() }
    }

    #[test]
    fn the_newest_report_is_told_with_its_times() {
        let findings = judge(&facts(report()));
        assert!(findings.iter().all(|finding| finding.verdict == Verdict::Ok), "{findings:?}");
        assert_eq!(findings[0].found, "67e55044 of 2026-01-02T03:03:05.100Z, 119 minutes ago: Thread 0 of x died");
        assert_eq!(
            findings[1].found,
            "known at 2026-01-02T03:03:05.100Z, captured after 3 ms (all threads held after 0.4 ms), let go after 2.9 ms, \
             on the disk after 40 ms"
        );
        assert_eq!(findings[2].found, "nothing is missing from it");
    }

    #[test]
    fn a_long_hold_and_trouble_with_the_capture_are_warnings_and_missing_names_are_not() {
        let mut long = report();
        long.times.held_us = Some(8_000_000);
        assert_eq!(judge(&facts(long))[1].verdict, Verdict::Warning);
        let with = |part: &str| judge(&facts(Report { notes: vec![note(part); 7], ..report() })).remove(2);
        assert_eq!(with("symbols").verdict, Verdict::Ok);
        let ports = with("ports");
        assert_eq!((ports.verdict, ports.lines.len()), (Verdict::Warning, 6));
        assert_eq!((ports.lines[0].as_str(), ports.lines[5].as_str()), ("ports: odd", "and 2 more"));
    }

    #[test]
    fn no_report_and_one_that_cannot_be_read_are_told_apart() {
        let none = NewestFacts { newest: None, ..facts(report()) };
        assert_eq!(judge(&none)[0].verdict, Verdict::Unknown);
        let bad =
            NewestFacts { newest: Some(Err("damaged".into())), damaged: (1, Some("/s/x: damaged".into())), ..none };
        let verdicts: Vec<_> = judge(&bad).iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [Verdict::Failed, Verdict::Warning]);
    }

    #[test]
    fn a_report_of_another_version_or_with_odd_times_is_no_defect() {
        let odd = Report { times: Times { died: Some("soon".into()), ..Times::default() }, ..report() };
        assert_eq!(judge(&facts(odd))[1].verdict, Verdict::Unknown);
    }
}
