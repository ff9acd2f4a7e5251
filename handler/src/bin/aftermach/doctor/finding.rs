//! What a check found.

use serde_json::{Map, Value, json};

/// How a check came out, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// It can't be told from here.
    Unknown,
    /// Crashes are caught, but something is lost or will be.
    Warning,
    /// Crashes are not caught, not kept, or not sent where they should be.
    Failed,
}

impl Verdict {
    pub(super) const ALL: [Verdict; 4] = [Verdict::Failed, Verdict::Warning, Verdict::Unknown, Verdict::Ok];

    /// For people.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Unknown => "can't tell",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
        }
    }

    /// For programs.
    const fn name(self) -> &'static str {
        match self {
            Verdict::Unknown => "unknown",
            other => other.words(),
        }
    }
}

/// One check, and what it found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    /// Which check: the same name in every version.
    pub(super) check: &'static str,
    /// What of, where a check is made of several things: a product, a slice of a program.
    pub(super) subject: String,
    /// How it came out.
    pub(super) verdict: Verdict,
    /// What was found, for people.
    pub(super) found: String,
    /// What to do about it; empty if there is nothing to be done.
    pub(super) advice: String,
    /// Further lines that belong to it, for people.
    pub(super) lines: Vec<String>,
    /// What was found, for programs.
    pub(super) facts: Map<String, Value>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Ok, found.into(), String::new())
    }

    pub(super) fn unknown(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Unknown, found.into(), advice.into())
    }

    pub(super) fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Warning, found.into(), advice.into())
    }

    pub(super) fn failed(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Failed, found.into(), advice.into())
    }

    fn new(check: &'static str, verdict: Verdict, found: String, advice: String) -> Finding {
        let (subject, lines, facts) = (String::new(), Vec::new(), Map::new());
        Finding { check, subject, verdict, found, advice, lines, facts }
    }

    /// The same, of one of several things.
    pub(super) fn about(self, subject: &str) -> Finding {
        Finding { subject: subject.to_owned(), ..self }
    }

    /// The same, as another check.
    pub(super) fn named(self, check: &'static str) -> Finding {
        Finding { check, ..self }
    }

    /// With a fact for programs.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Finding {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    /// With further lines for people.
    pub(super) fn and(mut self, lines: impl IntoIterator<Item = String>) -> Finding {
        self.lines.extend(lines);
        self
    }

    fn object(&self) -> Value {
        let mut object = Map::new();
        object.insert("check".to_owned(), self.check.into());
        if !self.subject.is_empty() {
            object.insert("subject".to_owned(), self.subject.clone().into());
        }
        object.insert("verdict".to_owned(), self.verdict.name().into());
        object.insert("found".to_owned(), self.found.clone().into());
        for (name, value) in
            [("advice", json!(self.advice)), ("lines", json!(self.lines)), ("facts", json!(self.facts))]
        {
            if value.as_str() != Some("") && value != json!([]) && value != json!({}) {
                object.insert(name.to_owned(), value);
            }
        }
        object.into()
    }
}

/// The worst of all; fine where nothing was checked.
pub(super) fn worst(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok)
}

/// The layout of [`to_json`]. It grows only when a field changes its meaning or goes away.
const SCHEMA: u32 = 1;

/// All findings, for programs.
pub(super) fn to_json(findings: &[Finding]) -> Value {
    json!({
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
        "verdict": worst(findings).name(),
        "checks": findings.iter().map(Finding::object).collect::<Vec<_>>(),
    })
}
