//! Definitions written by hand; what each key does is launchd.plist(5)'s word.

use super::*;

fn product() -> Product {
    Product::new("com.example", "Tunnel", "").unwrap()
}

const GOOD: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
<key>Label</key><string>com.example.Tunnel.crashd</string>
<key>ProgramArguments</key><array><string>/opt/handler</string><string>serve</string><string>--group</string>
<string>com.example</string><string>--name=Tunnel</string></array>
<key>MachServices</key><dict><key>com.example.Tunnel.crashd.v1</key><true/></dict>
<key>ProcessType</key><string>Interactive</string>
<key>ExitTimeOut</key><integer>30</integer>
</dict></plist>
"#;

/// The good one with `part`, which must be in it, replaced.
fn changed(part: &str, by: &str) -> Vec<Problem> {
    assert!(GOOD.contains(part), "{part}");
    check(GOOD.replacen(part, by, 1).as_bytes(), &product())
}

/// The good one with one more key.
fn with(key: &str) -> Vec<Problem> {
    changed("<key>Label</key>", &format!("{key}<key>Label</key>"))
}

#[test]
fn a_good_definition_has_no_problem() {
    assert_eq!(check(GOOD.as_bytes(), &product()), []);
}

#[test]
fn what_is_written_passes_its_own_check() {
    for channel in ["", "canary"] {
        let product = Product::new("com.example", "Tunnel", channel).unwrap();
        let definition = crate::Definition::new(product.clone(), Path::new("/a & b/handler")).unwrap();
        let definition = definition.with_store(Path::new("/r")).unwrap();
        let xml = definition.to_xml().unwrap();
        assert_eq!(check(&xml, &product), []);
        assert_eq!(program(&xml), Some(Program::At("/a & b/handler".into())));
    }
}

#[test]
fn each_key_that_harms_is_named() {
    let service = "com.example.Tunnel.crashd.v1";
    let cases = [
        ("<key>KeepAlive</key><true/>", Problem::KeepAlive),
        ("<key>KeepAlive</key><dict><key>Crashed</key><true/></dict>", Problem::KeepAlive),
        ("<key>RunAtLoad</key><true/>", Problem::RunAtLoad),
        ("<key>Disabled</key><true/>", Problem::Disabled),
        ("<key>ThrottleInterval</key><integer>11</integer>", Problem::LongThrottle(11)),
        ("<key>LimitLoadToSessionType</key><string>Background</string>", Problem::OtherSession),
        ("<key>LimitLoadToSessionType</key><array><string>LoginWindow</string></array>", Problem::OtherSession),
        ("<key>LowPriorityIO</key><true/>", Problem::Slowed("LowPriorityIO")),
        ("<key>LowPriorityBackgroundIO</key><true/>", Problem::Slowed("LowPriorityBackgroundIO")),
        ("<key>Nice</key><integer>5</integer>", Problem::Slowed("Nice")),
        (
            "<key>RunAtLoad</key><string>yes</string>",
            Problem::WrongType { key: "RunAtLoad", expected: "true or false" },
        ),
        ("<key>Program</key><string>handler</string>", Problem::RelativeProgram("handler".to_owned())),
    ];
    for (key, problem) in cases {
        assert_eq!(with(key), [problem], "{key}");
    }
    let options = |key: &str| changed("<true/>", &format!("<dict><key>{key}</key><true/></dict>"));
    assert_eq!(options("ResetAtClose"), [Problem::ResetAtClose(service.to_owned())]);
    assert_eq!(options("HideUntilCheckIn"), [Problem::HideUntilCheckIn(service.to_owned())]);
}

#[test]
fn keys_that_change_nothing_are_no_problem() {
    for key in [
        "<key>KeepAlive</key><false/>",
        "<key>RunAtLoad</key><false/>",
        "<key>ThrottleInterval</key><integer>10</integer>",
        "<key>LimitLoadToSessionType</key><array><string>Background</string><string>Aqua</string></array>",
        "<key>Nice</key><integer>-5</integer>",
        "<key>EnableTransactions</key><true/>",
        "<key>Program</key><string>/opt/handler</string>",
        "<key>SomeKeyOfTheFuture</key><data>AAAA</data>",
    ] {
        assert_eq!(with(key), [], "{key}");
    }
    assert_eq!(changed("<true/>", "<dict><key>ResetAtClose</key><false/></dict>"), []);
    assert_eq!(changed("<integer>30</integer>", "<integer>0</integer>"), []);
}

#[test]
fn each_key_that_is_missing_is_named() {
    for key in ["Label", "ProgramArguments", "MachServices", "ProcessType", "ExitTimeOut"] {
        let other = changed(&format!("<key>{key}</key>"), "<key>Other</key>");
        assert_eq!(other, [Problem::Missing(key)]);
    }
    let service = "com.example.Tunnel.crashd.v1".to_owned();
    let none = changed("<key>com.example.Tunnel.crashd.v1</key><true/>", "");
    assert_eq!(none, [Problem::NoService(service)]);
}

#[test]
fn values_that_are_wrong_are_named() {
    let label = "<string>com.example.Tunnel.crashd</string>";
    assert_eq!(
        changed(label, "<string>com.example.Tunnel-canary.crashd</string>"),
        [Problem::WrongLabel {
            found: "com.example.Tunnel-canary.crashd".to_owned(),
            expected: "com.example.Tunnel.crashd".to_owned()
        }]
    );
    assert_eq!(changed(label, "<true/>"), [Problem::WrongType { key: "Label", expected: "a text" }]);
    assert_eq!(changed("Interactive", "Adaptive"), [Problem::Throttled("Adaptive".to_owned())]);
    assert_eq!(changed("/opt/handler", "handler"), [Problem::RelativeProgram("handler".to_owned())]);
    assert_eq!(changed("<string>serve</string>", ""), [Problem::NotServing]);
    assert_eq!(changed("<integer>30</integer>", "<integer>2</integer>"), [Problem::ShortExitTimeOut(2)]);
    let option = |option, found: &str, expected: &str| Problem::WrongOption {
        option,
        found: found.to_owned(),
        expected: expected.to_owned(),
    };
    assert_eq!(changed("--name=Tunnel", "--name=Proxy"), [option("--name", "Proxy", "Tunnel")]);
    assert_eq!(changed("--name=Tunnel", "--name"), [option("--name", "", "Tunnel")]);
    let channel = changed("--name=Tunnel</string>", "--name=Tunnel</string><string>--channel=canary</string>");
    assert_eq!(channel, [option("--channel", "canary", "")]);
    let store = changed("--name=Tunnel</string>", "--name=Tunnel</string><string>--store=reports</string>");
    assert_eq!(store, [Problem::RelativeStore("reports".to_owned())]);
}

#[test]
fn a_service_of_another_major_belongs_to_the_product_and_one_of_another_product_does_not() {
    let service = |name: &str| changed("<true/>", &format!("<true/><key>{name}</key><true/>"));
    assert_eq!(service("com.example.Tunnel.crashd.v2"), []);
    for name in ["com.example.Tunnel-canary.crashd.v1", "com.example.Tunnel.crashd.v", "com.apple.securityd"] {
        assert_eq!(service(name), [Problem::ForeignService(name.to_owned())]);
    }
}

#[test]
fn a_program_in_a_bundle_needs_no_absolute_path() {
    let bundled = GOOD.replacen("<key>Label", "<key>BundleProgram</key><string>Contents/h</string><key>Label", 1);
    let bundled = bundled.replacen("/opt/handler", "h", 1);
    assert_eq!(check(bundled.as_bytes(), &product()), []);
    assert_eq!(program(bundled.as_bytes()), Some(Program::InBundle("Contents/h".to_owned())));
}

#[test]
fn what_is_no_property_list_is_one_problem() {
    for bytes in ["", "hello", "<plist>", "<plist version=\"1.0\"><dict><key>Label</key>", "\0\0\0", "<plist><dict/>x"]
    {
        let problems = check(bytes.as_bytes(), &product());
        assert!(matches!(problems.as_slice(), [Problem::Unreadable(_)]), "{bytes:?}: {problems:?}");
        assert_eq!(program(bytes.as_bytes()), None);
    }
    let array = check(b"<plist version=\"1.0\"><array/></plist>", &product());
    assert_eq!(array, [Problem::Unreadable("it is not a dictionary".to_owned())]);
    assert_eq!(check(b"bplist00\xd1", &product()), [Problem::Binary]);
}

#[test]
fn the_limits_hold_at_their_edges() {
    let padded = |length: usize| [GOOD.as_bytes(), &vec![b' '; length - GOOD.len()]].concat();
    assert_eq!(check(&padded(MAX_BYTES), &product()), []);
    assert_eq!(check(&padded(MAX_BYTES + 1), &product()), [Problem::TooLarge]);
    // The good one has three of its own.
    let nested =
        |depth: usize| with(&format!("<key>Deep</key>{}{}", "<array>".repeat(depth), "</array>".repeat(depth)));
    assert_eq!(nested(MAX_COLLECTIONS - 3), []);
    assert_eq!(nested(MAX_COLLECTIONS - 2), [Problem::TooDeep]);
}

#[test]
fn no_cut_and_no_changed_byte_makes_the_check_panic() {
    for length in 0..GOOD.len() {
        check(GOOD.as_bytes().get(..length).unwrap(), &product());
    }
    for index in 0..GOOD.len() {
        for byte in [0, b'<', b'>', b'&', 0xff] {
            let mut bytes = GOOD.as_bytes().to_vec();
            bytes[index] = byte;
            check(&bytes, &product());
        }
    }
}

#[test]
fn a_definition_tells_whose_it_is_and_another_programs_does_not() {
    assert_eq!(product_of(GOOD.as_bytes()), Some(product()));
    let other = |part: &str, by: &str| product_of(GOOD.replacen(part, by, 1).as_bytes());
    assert_eq!(other("<string>serve</string>", "<string>listen</string>"), None);
    assert_eq!(other("--group", "--for"), None);
    assert_eq!(other("com.example</string>", "com example</string>").map(|product| product.stem()), None);
    assert_eq!(product_of(b"bplist00"), None);
}
