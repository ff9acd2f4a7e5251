//! What a dashboard wants to know besides the dump: the facts it groups and searches by.

use std::time::{Duration, SystemTime};

use aftermach_protocol::report::Report;
use jiff::Timestamp;
use uuid::Uuid;

/// Most annotations that are sent as fields, and most bytes of all of them. The dump and the report hold every one anyway.
const MAX_ANNOTATIONS: usize = 200;
const MAX_ALL: usize = 1 << 20;
/// Most bytes of one annotation's key.
const MAX_KEY: usize = 128;
/// Most bytes of one value: the longest that the client's record holds.
const MAX_VALUE: usize = 20 * 1024;

/// The facts of one report. All text in it came from the process that died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The report's id. Sent as Sentry's event id, so that the server's id and ours are one.
    pub report_id: Uuid,
    /// This installation, if it has sent before; made at random, reset by deleting it.
    pub client_id: Option<Uuid>,
    /// When the process died.
    pub time: SystemTime,
    /// How long it had lived.
    pub uptime: Option<Duration>,
    /// The product's name.
    pub product: Option<String>,
    /// The product's version.
    pub version: Option<String>,
    /// The release channel; empty or absent for stable.
    pub channel: Option<String>,
    /// The process's name.
    pub process: String,
    /// "linux" or "macos".
    pub os: String,
    /// "x86_64" or "arm64".
    pub cpu: String,
    /// Why it died, in a few words.
    pub reason: Option<String>,
    /// What equal crashes have in common.
    pub signature: Option<String>,
    /// What the program said of itself.
    pub annotations: Vec<(String, String)>,
}

impl Metadata {
    /// The facts in a report; `None` if its id is no UUID. A report without a time of death, which a later version may write,
    /// counts as of now.
    pub fn of(report: &Report, client_id: Option<Uuid>) -> Option<Metadata> {
        let product = report.product.as_ref();
        let died = report.times.died.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
        let exception = &report.exception;
        let code = exception.code.as_ref().and_then(|code| code.name.as_deref());
        let reason = match code {
            Some(code) => format!("{} / {code}", exception.name),
            None => exception.name.clone(),
        };
        Some(Metadata {
            report_id: Uuid::try_parse(&report.report_id).ok()?,
            client_id,
            time: died.map_or_else(SystemTime::now, SystemTime::from),
            uptime: report.process.uptime_us.map(Duration::from_micros),
            product: product.map(|product| product.name.clone()),
            version: product.and_then(|product| product.version.clone()),
            channel: product.map(|product| product.channel.clone()),
            process: report.process.name.clone(),
            os: report.system.os.clone(),
            cpu: report.system.cpu.clone(),
            reason: Some(reason).filter(|reason| !reason.is_empty()),
            signature: report.signature.as_ref().map(|signature| signature.text.clone()),
            annotations: report.annotations.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect(),
        })
    }

    /// The product's name, or the process's for a program that gives none: servers insist on one.
    pub(super) fn product_name(&self) -> &str {
        self.product.as_deref().unwrap_or(&self.process)
    }

    /// The annotations as they are sent: bounded, and none under a name for which `reserved` says that it is taken.
    pub(super) fn sent_annotations(&self, reserved: impl Fn(&str) -> bool) -> Vec<(String, &str)> {
        let mut sent: Vec<(String, &str)> = Vec::new();
        let mut room = MAX_ALL;
        for (key, value) in self.annotations.iter().take(MAX_ANNOTATIONS) {
            let mut name = cut(key, MAX_KEY).to_owned();
            if name.is_empty() || reserved(&name) {
                name = format!("annotation_{name}");
            }
            let value = cut(value, MAX_VALUE);
            let Some(rest) = room.checked_sub(name.len() + value.len()) else { break };
            if !sent.iter().any(|(other, _)| *other == name) {
                room = rest;
                sent.push((name, value));
            }
        }
        sent
    }
}

/// At most `limit` bytes of `text`, whole characters.
pub(super) fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::upload) fn sample() -> Metadata {
        Metadata {
            report_id: "67e55044-10b1-426f-9247-bb680e5fe0c8".parse().unwrap(),
            client_id: Some("11111111-2222-4333-8444-555555555555".parse().unwrap()),
            // date -u -d @1700000000: 2023-11-14T22:13:20
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            uptime: Some(Duration::from_millis(61_500)),
            product: Some("Tunnel".into()),
            version: Some("1.2.3".into()),
            channel: Some("canary".into()),
            process: "tunneld".into(),
            os: "linux".into(),
            cpu: "x86_64".into(),
            reason: Some("SIGSEGV".into()),
            signature: Some("read | poll".into()),
            annotations: vec![("mode".into(), "full".into())],
        }
    }

    #[test]
    fn an_annotation_never_takes_the_place_of_a_field() {
        let mut metadata = sample();
        metadata.annotations = vec![
            ("prod".into(), "evil".into()),
            ("a".into(), "1".into()),
            ("a".into(), "2".into()),
            ("".into(), "x".into()),
        ];
        let sent = metadata.sent_annotations(|key| key == "prod");
        assert_eq!(sent, [("annotation_prod".into(), "evil"), ("a".into(), "1"), ("annotation_".into(), "x")]);
    }

    #[test]
    fn annotations_are_bounded_at_whole_characters() {
        let mut metadata = sample();
        metadata.annotations = (0..MAX_ANNOTATIONS + 1).map(|n| (n.to_string(), "ä".into())).collect();
        assert_eq!(metadata.sent_annotations(|_| false).len(), MAX_ANNOTATIONS);
        metadata.annotations = (0..MAX_ANNOTATIONS).map(|n| (n.to_string(), "ä".repeat(MAX_VALUE))).collect();
        let sent = metadata.sent_annotations(|_| false);
        assert_eq!(sent[0].1.len(), MAX_VALUE);
        assert!(sent.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() <= MAX_ALL);
        assert_eq!(cut("aä", 2), "a");
    }
}
