//! What the list shows of a crash, gathered once when it arrives: from the form, from the report if one came along, and from
//! the dump. None of it is trusted; all of it is bounded.

use std::time::SystemTime;

use aftermach_protocol::report::Report;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::minidump::Summary;
use crate::time::rfc3339;

/// Most characters of one value in the list.
const MAX_TEXT: usize = 300;
/// Most notes.
const MAX_NOTES: usize = 50;
/// Most fields that are made of one Sentry event.
const MAX_EVENT_FIELDS: usize = 256;

/// A crash in the list, and `meta.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Meta {
    /// The folder's name.
    pub(super) id: String,
    /// RFC 3339, UTC, with milliseconds.
    pub(super) received: String,
    /// How it came: "breakpad", "sentry", "raw".
    pub(super) via: String,
    /// Bytes of the dump.
    pub(super) size: u64,
    pub(super) product: String,
    pub(super) version: String,
    pub(super) channel: String,
    pub(super) process: String,
    pub(super) pid: Option<u32>,
    pub(super) os: String,
    pub(super) cpu: String,
    pub(super) reason: String,
    /// Hexadecimal, with "0x".
    pub(super) address: String,
    pub(super) signature: String,
    /// One sentence.
    pub(super) summary: String,
    /// Name or id of the thread that crashed.
    pub(super) thread: String,
    pub(super) threads: usize,
    /// A report came along.
    pub(super) report: bool,
    pub(super) notes: Vec<String>,
}

/// The form's text fields, in order, each name once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Fields(pub(super) Vec<(String, String)>);

impl Fields {
    /// The first of these that is there and not empty.
    pub(super) fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| {
            let (_, value) = self.0.iter().find(|(key, value)| key == name && !value.is_empty())?;
            Some(value.as_str())
        })
    }

    /// `fields.json`.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let map: Map<String, Value> =
            self.0.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        // Strings in an object always become JSON.
        serde_json::to_vec_pretty(&map).unwrap_or_default()
    }

    /// The fields in a `fields.json`.
    pub(super) fn from_bytes(bytes: &[u8]) -> serde_json::Result<Fields> {
        let map: Map<String, Value> = serde_json::from_slice(bytes)?;
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        Ok(Fields(map.into_iter().map(|(name, value)| (name, text(value))).collect()))
    }

    /// Replaces Sentry's event, one field of JSON, by a field for each fact in it. What is no event stays as it is.
    pub(super) fn unfold_event(&mut self) {
        let Some(index) = self.0.iter().position(|(name, _)| name == "sentry") else { return };
        let Ok(Value::Object(event)) = serde_json::from_str(&self.0[index].1) else { return };
        self.0.remove(index);
        let mut facts = Vec::new();
        for (key, value) in event {
            match value {
                // "tags" and "extra" are flat lists of names and values; deeper ones stay JSON.
                Value::Object(inner) => {
                    facts.extend(inner.into_iter().map(|(name, value)| (format!("{key}.{name}"), value)));
                }
                other => facts.push((key, other)),
            }
        }
        for (name, value) in facts.into_iter().take(MAX_EVENT_FIELDS) {
            if !self.0.iter().any(|(other, _)| *other == name) {
                let text = match value {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                self.0.push((name, text));
            }
        }
    }

    /// The id that the sender gave the crash: Sentry's event id, or our own field.
    pub(super) fn wanted_id(&self) -> Option<Uuid> {
        let text = self.first(&["event_id", "sentry[event_id]", "report_id"])?;
        Uuid::try_parse(text).ok().filter(|id| !id.is_nil())
    }
}

/// What a crash's parts say of it.
pub(super) struct Parts<'a> {
    pub(super) via: &'static str,
    pub(super) fields: &'a Fields,
    pub(super) report: Option<&'a Report>,
    pub(super) dump: &'a Summary,
    pub(super) size: u64,
    pub(super) notes: Vec<String>,
}

impl Meta {
    /// Gathers what the parts say; the form goes before the report, that before the dump.
    pub(super) fn gather(parts: Parts<'_>, now: SystemTime) -> Meta {
        let Parts { via, fields, report, dump, size, notes } = parts;
        let product = report.and_then(|report| report.product.as_ref());
        let release = fields.first(&["release", "sentry[release]"]);
        let (release_product, release_version) = match release.map(|release| release.rsplit_once('@').ok_or(release)) {
            Some(Ok((product, version))) => (Some(product), Some(version)),
            Some(Err(version)) => (None, Some(version)),
            None => (None, None),
        };
        let exception = report.map(|report| &report.exception);
        let crashed = report.and_then(|report| report.threads.get(report.exception.thread?));
        let thread = match (crashed, &dump.crashed_thread) {
            (Some(thread), _) if !thread.name.is_empty() => Some(thread.name.clone()),
            (_, Some((_, Some(name)))) if !name.is_empty() => Some(name.clone()),
            (_, Some((id, _))) => Some(id.to_string()),
            (Some(thread), None) => Some(thread.id.to_string()),
            (None, None) => None,
        };
        let main_module = dump.modules.first().map(|module| base_name(&module.file));
        let text = |choices: &[Option<&str>]| {
            bounded(choices.iter().flatten().find(|choice| !choice.is_empty()).copied().unwrap_or(""))
        };
        Meta {
            id: String::new(),
            received: rfc3339(now),
            via: via.to_owned(),
            size,
            product: text(&[
                fields.first(&["prod", "ProductName", "product", "tags.product", "_productName"]),
                release_product,
                product.map(|product| product.name.as_str()),
                dump.annotation("prod"),
            ]),
            version: text(&[
                fields.first(&["ver", "Version", "version", "_version"]),
                release_version,
                product.and_then(|product| product.version.as_deref()),
                dump.annotation("ver"),
            ]),
            channel: text(&[
                fields.first(&["channel", "ReleaseChannel", "environment", "sentry[environment]"]),
                dump.annotation("channel"),
            ]),
            process: text(&[
                fields.first(&["process", "tags.process"]),
                report.map(|report| report.process.name.as_str()),
                main_module,
            ]),
            pid: dump.pid,
            os: text(&[dump.os.as_deref(), report.map(|report| report.system.os.as_str())]),
            cpu: text(&[dump.cpu.as_deref(), report.map(|report| report.system.cpu.as_str())]),
            reason: text(&[dump.reason.as_deref(), fields.first(&["reason", "extra.reason"])]),
            address: dump.address.map(|address| format!("{address:#x}")).unwrap_or_default(),
            signature: text(&[
                fields.first(&["signature", "tags.signature"]),
                report.and_then(|report| report.signature.as_ref()).map(|signature| signature.text.as_str()),
            ]),
            summary: text(&[exception.map(|exception| exception.summary.as_str())]),
            thread: text(&[thread.as_deref()]),
            threads: dump.threads,
            report: report.is_some(),
            notes: notes.iter().chain(&dump.notes).take(MAX_NOTES).map(|note| bounded(note)).collect(),
        }
    }

    /// The bytes of `meta.json`.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers always become JSON.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// What a `meta.json` says.
    pub(super) fn from_bytes(bytes: &[u8]) -> serde_json::Result<Meta> {
        // An object, and nothing else: serde would also take a list of values.
        let map: Map<String, Value> = serde_json::from_slice(bytes)?;
        serde_json::from_value(Value::Object(map))
    }

    /// What a crash is called: by its signature, else by what is known of it.
    pub(super) fn title(&self) -> String {
        if !self.signature.is_empty() {
            return self.signature.clone();
        }
        if !self.summary.is_empty() {
            return self.summary.clone();
        }
        let name = if self.process.is_empty() { &self.product } else { &self.process };
        match (name.as_str(), self.reason.as_str()) {
            ("", "") => "Crash".to_owned(),
            ("", reason) => reason.to_owned(),
            (name, "") => format!("{name} crashed"),
            (name, reason) => format!("{name}: {reason}"),
        }
    }

    /// Whether `needle`, in lower case, occurs in anything that the list shows.
    pub(super) fn matches(&self, needle: &str) -> bool {
        [
            &self.id,
            &self.product,
            &self.version,
            &self.channel,
            &self.process,
            &self.os,
            &self.reason,
            &self.address,
            &self.signature,
            &self.summary,
            &self.thread,
            &self.received,
        ]
        .iter()
        .any(|text| text.to_lowercase().contains(needle))
    }
}

/// The last component of a path of either kind.
pub(super) fn base_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

fn bounded(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        Fields(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn gather(fields: &Fields, dump: &Summary) -> Meta {
        let parts = Parts { via: "breakpad", fields, report: None, dump, size: 1, notes: Vec::new() };
        // date -u -d @1700000000: 2023-11-14T22:13:20
        Meta::gather(parts, SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000))
    }

    #[test]
    fn every_dialects_names_for_product_and_version_are_known() {
        let dialects = [
            fields(&[("prod", "P"), ("ver", "1"), ("channel", "c")]),
            fields(&[("ProductName", "P"), ("Version", "1"), ("ReleaseChannel", "c")]),
            fields(&[("sentry[release]", "P@1"), ("sentry[environment]", "c")]),
            fields(&[("release", "P@1"), ("environment", "c")]),
        ];
        for fields in dialects {
            let meta = gather(&fields, &Summary::default());
            assert_eq!((&*meta.product, &*meta.version, &*meta.channel), ("P", "1", "c"), "{fields:?}");
            assert_eq!(meta.received, "2023-11-14T22:13:20.000Z");
        }
        let annotated = Summary { annotations: vec![("prod".into(), "D".into())], ..Summary::default() };
        assert_eq!(gather(&Fields::default(), &annotated).product, "D");
    }

    #[test]
    fn sentrys_event_becomes_fields() {
        let mut event = fields(&[
            (
                "sentry",
                r#"{"event_id":"67e5504410b1426f9247bb680e5fe0c8","tags":{"product":"P"},"extra":{"deep":[1]},"release":"P@2"}"#,
            ),
            ("other", "x"),
        ]);
        event.unfold_event();
        assert_eq!(event.first(&["tags.product"]), Some("P"));
        assert_eq!(event.first(&["extra.deep"]), Some("[1]"));
        assert_eq!(event.first(&["sentry"]), None);
        assert_eq!(event.wanted_id().unwrap().to_string(), "67e55044-10b1-426f-9247-bb680e5fe0c8");
        let mut broken = fields(&[("sentry", "{")]);
        broken.unfold_event();
        assert_eq!(broken, fields(&[("sentry", "{")]));
    }

    #[test]
    fn whatever_is_sent_the_list_stays_short() {
        let long = "é".repeat(100_000);
        let meta = gather(&fields(&[("prod", &long), ("signature", &long)]), &Summary::default());
        assert_eq!(meta.product.chars().count(), MAX_TEXT + 1);
        assert!(meta.to_bytes().len() < 10_000);
    }

    #[test]
    fn a_meta_file_of_another_version_is_read() {
        let meta = Meta::from_bytes(br#"{"product":"P","later":[1,2]}"#).unwrap();
        assert_eq!(meta.product, "P");
        assert!(Meta::from_bytes(b"[]").is_err());
    }
}
