//! Findings for people: a line each, and what to do below those that need it.

use std::fmt::Write;

use aftermach_handler::report::text::escape;

use super::finding::{Finding, Verdict};

/// Width of the longest verdict.
const VERDICT: usize = 10;

pub(super) fn render(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut out = String::new();
    for finding in findings {
        let verdict = finding.verdict.words();
        let subject = match finding.subject.as_str() {
            "" => String::new(),
            subject => format!("[{}] ", escape(subject)),
        };
        // Writing to a string can't fail. What was found may come from a file that somebody made: it is never let at the terminal.
        let _ = writeln!(out, "{verdict:<VERDICT$}  {:<width$}  {subject}{}", finding.check, escape(&finding.found));
        let indent = VERDICT + width + 4;
        for line in &finding.lines {
            let _ = writeln!(out, "{:indent$}  {}", "", escape(line));
        }
        if !finding.advice.is_empty() {
            let _ = writeln!(out, "{:indent$}> {}", "", escape(&finding.advice));
        }
    }
    let count = |verdict: &Verdict| findings.iter().filter(|finding| finding.verdict == *verdict).count();
    let counts = Verdict::ALL.iter().map(|verdict| format!("{} {}", count(verdict), verdict.words()));
    let _ = writeln!(out, "\n{}", counts.collect::<Vec<_>>().join(", "));
    out
}

/// Bytes, as people count them.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| count >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", count as f64 / *unit as f64),
        None => format!("{count} bytes"),
    }
}

/// "1 report", "2 reports".
pub(super) fn counted(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_with_its_advice_below_and_nothing_in_it_steers_the_terminal() {
        let findings = [
            Finding::ok("store", "fine"),
            Finding::failed("job", "gone\u{1b}[2J", "install it").about("a\nb").and(["more".to_owned()]),
        ];
        let expected = "ok          store  fine\n\
                        failed      job    [a\\nb] gone\\u{1b}[2J\n                     more\n                   > install it\n\
                        \n1 failed, 0 warning, 0 can't tell, 1 ok\n";
        assert_eq!(render(&findings), expected);
    }

    #[test]
    fn bytes_are_told_in_their_largest_unit() {
        for (count, told) in [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!(bytes(count), told);
        }
    }
}
