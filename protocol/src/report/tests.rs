use super::*;

/// As a reader would find it in the documentation, with keys from the future on every level.
const FROM_THE_FUTURE: &str = r#"{
  "schema": 1,
  "report_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
  "producer": { "name": "aftermach-handler", "version": "0.9", "commit": "abc" },
  "times": { "died": "2026-01-02T03:04:05.006Z", "held_us": 1200, "compressing_us": 7 },
  "exception": {
    "summary": "It died.", "kind": "cosmic_ray", "type": "SIGSEGV",
    "signal": { "name": "SIGSEGV", "number": 11, "colour": "red" },
    "address": "0xffffffffffffffff", "access": "prefetch"
  },
  "first_chance": {
    "summary": "SIGSEGV", "kind": "null_pointer", "type": "SIGSEGV", "code": { "value": 1 },
    "codes": ["0x1", "0x10"], "address": "0x10", "mood": ["grim"],
    "pc": "0x401000", "sp": "0x7ffe0000", "time": "2026-01-02T03:04:05.006Z", "frame": 3
  },
  "process": { "pid": 4242, "name": "tunneld", "path": "/x/tunneld", "bundle_id": "com.example" },
  "system": { "os": "linux", "cpu": "x86_64" },
  "threads": [
    { "index": 0, "id": 18446744073709551615, "crashed": true,
      "registers": { "zz": "0x1", "aa": "0x2" },
      "frames": [ { "address": "0x10", "trust": "oracle", "vendor": [1, 2] } ],
      "stop": { "reason": "bored" } }
  ],
  "images": [ { "path": "/x/tunneld", "base": "0x1000", "size": "0x2000", "kind": "plugin", "arch": "x" } ],
  "annotations": { "z": "1", "a": "2" },
  "breadcrumbs": [], "messages": [], "notes": [], "files": [],
  "upload": [ { "profile": "sentry", "url": "https://x", "state": "quarantined", "attempts": 2, "tag": { "k": null } } ],
  "future": { "nested": [1.5, "x"] }
}"#;

#[test]
fn a_report_from_a_later_version_survives_being_read_and_written() {
    let before: Value = serde_json::from_str(FROM_THE_FUTURE).unwrap();
    let mut report = Report::from_bytes(FROM_THE_FUTURE.as_bytes()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&report.to_bytes()).unwrap(), before);
    report.upload.push(Upload { profile: "breakpad".to_owned(), state: UploadState::Accepted, ..Upload::default() });
    let after: Value = serde_json::from_slice(&report.to_bytes()).unwrap();
    assert_eq!(after["upload"][0], before["upload"][0]);
    assert_eq!(after["upload"][1]["state"], "accepted");
    assert_eq!(after["future"], before["future"]);
}

#[test]
fn a_first_chance_has_an_exceptions_keys_beside_its_own() {
    let report = Report::from_bytes(FROM_THE_FUTURE.as_bytes()).unwrap();
    let first_chance = report.first_chance.unwrap();
    assert_eq!(first_chance.exception.kind, ExceptionKind::NullPointer);
    assert_eq!(
        (first_chance.exception.codes.as_slice(), first_chance.pc),
        ([Hex(1), Hex(16)].as_slice(), Hex(0x40_1000))
    );
    assert_eq!(first_chance.frame, Some(3));
    assert_eq!(first_chance.exception.other.keys().collect::<Vec<_>>(), ["mood"]);
    assert!(report.exception.other.is_empty());
}

#[test]
fn writing_twice_gives_the_same_bytes() {
    let once = Report::from_bytes(FROM_THE_FUTURE.as_bytes()).unwrap().to_bytes();
    assert_eq!(Report::from_bytes(&once).unwrap().to_bytes(), once);
}

#[test]
fn what_is_not_known_is_absent() {
    fn has_null(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Array(items) => items.iter().any(has_null),
            Value::Object(map) => map.values().any(has_null),
            _ => false,
        }
    }
    let report = Report {
        schema: SCHEMA,
        product: Some(Product::default()),
        signature: Some(Signature::default()),
        first_chance: Some(FirstChance::default()),
        threads: vec![Thread { frames: vec![Frame::default()], stop: Some(Stop::default()), ..Thread::default() }],
        images: vec![Image::default()],
        upload: vec![Upload::default()],
        ..Report::default()
    };
    let value: Value = serde_json::from_slice(&report.to_bytes()).unwrap();
    assert!(!has_null(&value), "{value:#}");
    assert_eq!(Report::from_bytes(&report.to_bytes()).unwrap(), report);
}

#[test]
fn hex_keeps_all_64_bits_and_takes_nothing_else() {
    assert_eq!(serde_json::to_string(&Hex(u64::MAX)).unwrap(), "\"0xffffffffffffffff\"");
    assert_eq!(serde_json::from_str::<Hex>("\"0xFFFFFFFFFFFFFFFF\"").unwrap(), Hex(u64::MAX));
    for bad in ["\"12\"", "12", "\"0x\"", "\"0x+1\"", "\"0x10000000000000000\"", "null"] {
        assert!(serde_json::from_str::<Hex>(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_newer_schema_is_told_from_damage() {
    assert_eq!(Report::from_bytes(br#"{"schema":2,"report_id":7}"#), Err(ReadError::Newer(2)));
    for damaged in ["", "{", "[]", "{}", r#"{"schema":"1"}"#, r#"{"schema":0}"#, r#"{"schema":1}"#, "\u{0}\u{0}"] {
        assert!(matches!(Report::from_bytes(damaged.as_bytes()), Err(ReadError::Damaged(_))), "{damaged:?}");
    }
}

#[test]
fn the_schema_is_found_wherever_it_stands_and_without_reading_on() {
    assert_eq!(schema_of(br#"{"a":[1,{"schema":9}],"schema":7,"b":"#), Ok(7));
    assert_eq!(schema_of(br#"{"sch\u0065ma":7}"#), Ok(7));
    assert!(matches!(schema_of(br#"{"schema":-1}"#), Err(ReadError::Damaged(_))));
}

#[test]
fn json_nested_without_end_is_refused() {
    let deep = format!("{{\"schema\":1,\"x\":{}", "[".repeat(1_000_000));
    assert!(matches!(Report::from_bytes(deep.as_bytes()), Err(ReadError::Damaged(_))));
}
