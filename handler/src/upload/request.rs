//! A report as one request: which parts go where, in each dialect. The order is fixed, so that a resend is the same bytes.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::destination::Profile;
use super::metadata::{Metadata, cut};
use super::multipart::{Form, Plan};

/// The part that every server of this kind looks for.
pub const DUMP_PART: &str = "upload_file_minidump";
/// The part in which our own collector finds the report with its names and source lines; others keep it as an attachment.
pub const REPORT_PART: &str = "aftermach_report";

/// Largest report that goes along: the dump holds the same facts, and servers have limits for attachments.
pub const MAX_REPORT: u64 = 8 << 20;

/// Fields of Breakpad's and Crashpad's form that mean something to servers; no annotation may pose as one.
const RESERVED: &[&str] = &[
    "prod",
    "ver",
    "channel",
    "guid",
    "ptype",
    "plat",
    "ptime",
    "report_id",
    "process",
    "reason",
    "signature",
    "crash_time",
    "sentry",
    "uuid",
    "list_annotations",
    DUMP_PART,
    REPORT_PART,
];

/// Sentry's limits (docs "Event payloads", "Tags"): releases and tag values 200 characters, environments 64.
const SENTRY_RELEASE: usize = 200;
const SENTRY_ENVIRONMENT: usize = 64;
const SENTRY_TAG: usize = 200;
/// Sentry takes 1 MB of event; the annotations, which can be more, stay well under.
const SENTRY_EXTRA: usize = 512 * 1024;

/// The body for one report in the profile's dialect: its dump, and `report.json` if it is to go along and is not too large.
/// Reads the dump through once; sends nothing.
pub fn plan(profile: &Profile, metadata: &Metadata, dump: &Path, report: Option<Vec<u8>>) -> io::Result<Plan> {
    let mut form = Form::new();
    match profile {
        Profile::Breakpad { fields, .. } => {
            for (name, value) in fields {
                form.text(name, value);
            }
            let taken = |name: &str| fields.iter().any(|(field, _)| field == name);
            for (name, value) in breakpad_fields(metadata, taken) {
                form.text(&name, value);
            }
        }
        Profile::Sentry { .. } => form.text("sentry", sentry_event(metadata).to_string()),
    }
    let id = metadata.report_id;
    form.file(DUMP_PART, &format!("{id}.dmp"), "application/octet-stream", dump)?;
    if let Some(report) = report.filter(|report| report.len() as u64 <= MAX_REPORT) {
        form.bytes(REPORT_PART, &format!("{id}.json"), "application/json", report);
    }
    form.seal(&id.simple().to_string())
}

/// Breakpad's and Crashpad's names for our facts, then the annotations under their own names. `taken` are the fields that the
/// user gave for this server: those win.
fn breakpad_fields(metadata: &Metadata, taken: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let text = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let fields = [
        ("prod", Some(metadata.product_name().to_owned())),
        // Servers of this kind refuse a report without a version.
        ("ver", Some(text(&metadata.version).unwrap_or_else(|| "unknown".into()))),
        ("channel", text(&metadata.channel)),
        ("guid", metadata.client_id.map(|id| id.hyphenated().to_string())),
        ("ptype", Some("main".into())),
        ("plat", Some(metadata.os.clone())),
        ("ptime", metadata.uptime.map(|uptime| uptime.as_millis().to_string())),
        ("report_id", Some(metadata.report_id.hyphenated().to_string())),
        ("process", Some(metadata.process.clone())),
        ("reason", text(&metadata.reason)),
        ("signature", text(&metadata.signature)),
        ("crash_time", seconds(metadata).map(|seconds| seconds.to_string())),
    ];
    let ours = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let ours = ours.filter(|(name, _)| !taken(name));
    let annotations = metadata.sent_annotations(|name| RESERVED.contains(&name) || taken(name));
    ours.chain(annotations.into_iter().map(|(name, value)| (name, value.to_owned()))).collect()
}

/// Seconds since 1970, as Socorro's `CrashTime`.
fn seconds(metadata: &Metadata) -> Option<u64> {
    metadata.time.duration_since(std::time::UNIX_EPOCH).ok().map(|time| time.as_secs())
}

/// The event that the dump becomes (Sentry's "Event payloads"). Facts that Relay reads from the dump itself stay out.
fn sentry_event(metadata: &Metadata) -> Value {
    let mut event = Map::new();
    event.insert("event_id".into(), json!(metadata.report_id.simple().to_string()));
    if let Ok(time) = Timestamp::try_from(metadata.time) {
        event.insert("timestamp".into(), json!(time.to_string()));
    }
    event.insert("platform".into(), json!("native"));
    event.insert("level".into(), json!("fatal"));
    if let Some(version) = metadata.version.as_deref().filter(|version| !version.is_empty()) {
        let release = sentry_name(&format!("{}@{version}", metadata.product_name()));
        event.insert("release".into(), json!(cut(&release, SENTRY_RELEASE)));
    }
    // No channel is the stable one; "production" is what Sentry calls a release's default.
    let channel = metadata.channel.as_deref().filter(|channel| !channel.is_empty()).unwrap_or("production");
    event.insert("environment".into(), json!(cut(&sentry_name(channel), SENTRY_ENVIRONMENT)));
    if let Some(client) = metadata.client_id {
        event.insert("user".into(), json!({ "id": client.hyphenated().to_string() }));
    }

    let mut tags = Map::new();
    let mut tag = |name: &str, value: &str| {
        if !value.is_empty() {
            // Line ends end a tag's value there.
            tags.insert(name.into(), json!(cut(&value.replace(['\r', '\n'], " "), SENTRY_TAG)));
        }
    };
    tag("product", metadata.product_name());
    tag("process", &metadata.process);
    tag("os", &metadata.os);
    tag("cpu", &metadata.cpu);
    tag("signature", metadata.signature.as_deref().unwrap_or(""));
    event.insert("tags".into(), Value::Object(tags));

    let mut extra = Map::new();
    if let Some(uptime) = metadata.uptime {
        extra.insert("uptime_ms".into(), json!(uptime.as_millis().to_string()));
    }
    if let Some(reason) = &metadata.reason {
        extra.insert("reason".into(), json!(reason));
    }
    let mut room = SENTRY_EXTRA;
    for (name, value) in metadata.sent_annotations(|name| matches!(name, "uptime_ms" | "reason")) {
        let Some(rest) = room.checked_sub(name.len() + value.len()) else { break };
        room = rest;
        extra.insert(name, json!(value));
    }
    event.insert("extra".into(), Value::Object(extra));
    Value::Object(event)
}

/// Releases and environments hold no line ends, tabs or slashes (Sentry's "Releases", naming).
fn sentry_name(name: &str) -> String {
    name.chars()
        .map(|character| if character.is_control() || matches!(character, '/' | '\\') { '_' } else { character })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::PathBuf;

    use super::super::metadata::tests::sample;
    use super::*;

    /// A dump in the temporary folder, gone with this value.
    struct Dump(PathBuf);

    impl Dump {
        fn new() -> Dump {
            let path = std::env::temp_dir().join(format!("aftermach-request-{}", uuid::Uuid::new_v4()));
            std::fs::write(&path, b"MDMP").unwrap();
            Dump(path)
        }
    }

    impl Drop for Dump {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn body(plan: &Plan) -> Vec<u8> {
        let mut bytes = Vec::new();
        plan.reader().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_resend_is_the_same_bytes_and_their_length_is_known() {
        let profile = Profile::parse("http://localhost/submit", None).unwrap();
        let dump = Dump::new();
        let first = plan(&profile, &sample(), &dump.0, Some(b"{}".to_vec())).unwrap();
        let second = plan(&profile, &sample(), &dump.0, Some(b"{}".to_vec())).unwrap();
        assert_eq!(body(&first), body(&second));
        assert_eq!(body(&first), body(&first));
        assert_eq!(body(&first).len() as u64, first.content_length());
        assert_eq!(first.content_type(), second.content_type());
    }

    #[test]
    fn breakpad_servers_get_the_fields_they_know() {
        let fields = breakpad_fields(&sample(), |_| false);
        let value = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(value("prod"), Some("Tunnel"));
        assert_eq!(value("ver"), Some("1.2.3"));
        assert_eq!(value("channel"), Some("canary"));
        assert_eq!(value("guid"), Some("11111111-2222-4333-8444-555555555555"));
        assert_eq!(value("ptime"), Some("61500"));
        assert_eq!(value("crash_time"), Some("1700000000"));
        assert_eq!(value("mode"), Some("full"));
    }

    #[test]
    fn a_program_that_says_nothing_of_itself_still_has_a_product_and_a_version() {
        let bare = Metadata { product: None, version: None, channel: None, client_id: None, ..sample() };
        let fields = breakpad_fields(&bare, |_| false);
        assert_eq!(fields[0], ("prod".into(), "tunneld".into()));
        assert_eq!(fields[1], ("ver".into(), "unknown".into()));
        assert!(!fields.iter().any(|(name, _)| name == "guid" || name == "channel"));
    }

    #[test]
    fn a_field_given_for_the_server_wins_over_ours() {
        let fields = vec![("prod".into(), "Renamed".into()), ("token".into(), "t".into())];
        let url = reqwest::Url::parse("http://localhost/").unwrap();
        let dump = Dump::new();
        let plan = plan(&Profile::Breakpad { url, fields }, &sample(), &dump.0, None).unwrap();
        let text = String::from_utf8(body(&plan)).unwrap();
        assert_eq!(text.matches("name=\"prod\"").count(), 1);
        assert!(text.contains("name=\"prod\"\r\n\r\nRenamed\r\n") && text.contains("name=\"token\"\r\n\r\nt\r\n"));
    }

    #[test]
    fn sentrys_event_bears_the_reports_id_release_and_environment() {
        let event = sentry_event(&sample());
        assert_eq!(event["event_id"], "67e5504410b1426f9247bb680e5fe0c8");
        assert_eq!(event["release"], "Tunnel@1.2.3");
        assert_eq!(event["environment"], "canary");
        assert_eq!(event["timestamp"], "2023-11-14T22:13:20Z");
        assert_eq!(event["tags"]["product"], "Tunnel");
        assert_eq!(event["extra"]["mode"], "full");
        assert_eq!(event["user"]["id"], "11111111-2222-4333-8444-555555555555");
    }

    #[test]
    fn sentrys_event_stays_under_its_limit_whatever_the_program_says() {
        let mut hostile = sample();
        hostile.version = Some("1/2\n3".repeat(1000));
        hostile.channel = Some("a/b\t".repeat(1000));
        hostile.annotations = (0..64).map(|n| (format!("k{n}"), "x".repeat(20 * 1024))).collect();
        let event = sentry_event(&hostile);
        assert!(event.to_string().len() < 1_000_000);
        let release = event["release"].as_str().unwrap();
        assert!(release.len() <= 200 && !release.contains(['/', '\n']));
        assert!(event["environment"].as_str().unwrap().len() <= 64);
    }
}
