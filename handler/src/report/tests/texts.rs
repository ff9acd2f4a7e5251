//! Reports as people see them, whole. The expected texts are files beside this one; `BLESS=1 cargo test` writes them anew, to
//! be read before they are committed.

use std::path::Path;
use std::time::Duration;

use aftermach_protocol::exception::LinuxSignal;
use aftermach_protocol::report::{Report, StopReason, Upload, UploadState};

use super::victim::*;
use crate::report::text::{Options, render};
use crate::snapshot::{Annotations, Exception, Fault, Gap, Thread};
use crate::unwind::{Fold, Stop, Trace, Trust};

#[track_caller]
fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/tests").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, expected, "differs from {name}");
}

fn add_thread(victim: &mut Victim, id: u64, name: &str, like: usize) {
    let mut thread: Thread = victim.snapshot.threads[like].clone();
    thread.state.id = id;
    thread.state.name = name.to_owned();
    victim.snapshot.threads.push(thread);
    let trace = Trace { thread: id, ..victim.traces[like].clone() };
    victim.traces.push(trace);
}

/// A null write with all that a report may have beside it.
fn rich() -> Report {
    // mov %rcx,(%rax)
    let mut victim = Victim::new(&[0x48, 0x89, 0x08]).fault(11, 1, Some(0x10));
    victim.registers().rax = 0x10;
    victim.registers().rflags = 0x1_0246;
    victim.names[3].1.insert(
        0,
        crate::symbols::Symbol {
            inlined: true,
            ..symbol("core::ptr::write::<tunnel::Packet>", 0, Some(("/rustc/abc/library/core/src/ptr/mod.rs", 1523)))
        },
    );
    for number in 0..3 {
        add_thread(&mut victim, 4250 + number, &format!("pool-{number}"), 0);
    }
    add_thread(&mut victim, 4260, "no-registers", 0);
    let last = victim.traces.last_mut().unwrap();
    (last.frames, last.stop) = (Vec::new(), Stop::NoRegisters);
    add_thread(&mut victim, 4261, "cut", 1);
    let last = victim.traces.last_mut().unwrap();
    last.frames.truncate(2);
    last.frames.push(frame(LIBC + 0x4_4444, Trust::Scan));
    last.stop = Stop::StackUnreadable(STACK_END);
    victim.snapshot.annotations = Annotations {
        version: Some("1.2.3".to_owned()),
        values: vec![
            ("state".to_owned(), "connecting\nto \u{1b}]0;owned\u{7}".to_owned()),
            ("server".to_owned(), "192.0.2.7".to_owned()),
            ("state".to_owned(), "twice".to_owned()),
        ],
        breadcrumbs: vec![
            (Duration::from_millis(12), "started".to_owned()),
            (Duration::from_millis(74_950), "peer \u{202e}gnp.exe joined".to_owned()),
        ],
        messages: vec![("/usr/lib/libc.so.6".into(), "*** stack smashing detected ***".to_owned())],
        ..Annotations::default()
    };
    victim.snapshot.gaps.push(Gap::new("memory", "64 bytes at 0x10 could not be read"));
    let mut report = victim.report();
    report.times.unwinding_us = Some(8_250);
    report.times.writing_us = Some(12_090);
    report.upload.push(Upload {
        profile: "sentry".to_owned(),
        url: "https://o1.ingest.example/api/2/minidump/".to_owned(),
        state: UploadState::Accepted,
        time: Some("2026-01-02T03:04:09.000Z".to_owned()),
        server_id: Some("abc123".to_owned()),
        ..Upload::default()
    });
    report
}

#[test]
fn a_report_is_read_from_the_top() {
    check("rich.txt", &render(&rich(), &Options::default()));
}

#[test]
fn all_shows_every_frame_of_every_thread() {
    check("rich_all.txt", &render(&rich(), &Options { all: true, width: None }));
}

#[test]
fn no_line_of_a_stack_is_wider_than_asked_for() {
    let text = render(&rich(), &Options { width: Some(62), all: true });
    let stacks = text.lines().skip_while(|line| !line.starts_with("Thread 1 \"io-worker\" (id")).skip(1);
    let stacks: Vec<&str> = stacks.take_while(|line| !line.starts_with("Annotations")).collect();
    assert!(stacks.len() > 20);
    for line in stacks.iter().filter(|line| !line.starts_with('~')) {
        assert!(line.chars().count() <= 62, "{line}");
    }
}

#[test]
fn nothing_that_the_victim_wrote_reaches_the_terminal_as_it_is() {
    let mut report = rich();
    let hostile = "\u{1b}[2J\u{9b}1m\r\u{202e}";
    // Every string of the report, wherever it stands.
    fn spoil(value: &mut serde_json::Value, hostile: &str) {
        match value {
            // What stands for a number or a fixed word has no room for it.
            serde_json::Value::String(text) if !text.starts_with("0x") => text.push_str(hostile),
            serde_json::Value::Array(items) => items.iter_mut().for_each(|item| spoil(item, hostile)),
            serde_json::Value::Object(map) => map.values_mut().for_each(|item| spoil(item, hostile)),
            _ => {}
        }
    }
    report.exception.computed_address = report.exception.address;
    let mut value: serde_json::Value = serde_json::from_slice(&report.to_bytes()).unwrap();
    spoil(&mut value, hostile);
    let spoilt = Report::from_bytes(value.to_string().as_bytes()).unwrap();
    assert!(matches!(&spoilt.threads[0].stop.as_ref().unwrap().reason, StopReason::Other(_)));
    for all in [false, true] {
        let text = render(&spoilt, &Options { all, width: None });
        let wild: Vec<char> = text.chars().filter(|character| *character != '\n' && character.is_control()).collect();
        assert!(wild.is_empty(), "{wild:?}");
        assert!(!text.contains('\u{202e}'));
        assert!(text.matches("\\u{1b}[2J").count() > 30);
    }
}

#[test]
fn an_abort_in_a_handler_shows_what_the_signal_interrupted() {
    let mut victim = Victim::new(&[0x48, 0x89, 0x08]).sent(6, -6, 4242).stack(&[
        (LIBC + 0x10, Trust::Context, "__pthread_kill_implementation", None),
        (LIBC + 0x30, Trust::UnwindInfo, "abort", None),
        (TEXT + 0x200, Trust::UnwindInfo, "tunnel::on_fault", Some(("src/fault.rs", 5))),
        (LIBC + 0x40, Trust::UnwindInfo, "__restore_rt", None),
        (TEXT + 0x100, Trust::SignalContext, "tunnel::Peer::send", Some(("src/peer.rs", 88))),
        (TEXT + 0x300, Trust::FramePointer, "tunnel::walk", Some(("src/walk.rs", 3))),
        (TEXT + 0x400, Trust::FramePointer, "main", Some(("src/main.rs", 3))),
    ]);
    victim.registers().rip = LIBC + 0x10;
    victim.traces[1].folds = vec![Fold { first: 5, length: 1, omitted: 120 }];
    victim.snapshot.threads[1].state.first_chance = Some(Fault {
        exception: Exception::Linux(LinuxSignal { signal: 11, code: 1, address: Some(0x10), sender: None }),
        pc: TEXT + 0x100,
        sp: SP + 0x800,
        time: victim.snapshot.death.time,
    });
    check("abort_in_handler.txt", &render(&victim.report(), &Options { width: Some(100), all: false }));
}

#[test]
fn a_report_with_nothing_in_it_is_short_but_whole() {
    let report =
        Report { schema: 1, report_id: "6f9619ff-8b86-4d01-b42d-00cf4fc964ff".to_owned(), ..Report::default() };
    check("bare.txt", &render(&report, &Options::default()));
}

#[test]
fn numbers_that_point_nowhere_cost_nothing_but_themselves() {
    let absurd = [0, 1, 5, usize::MAX - 1, usize::MAX];
    for value in absurd {
        let mut report = rich();
        let fold = Fold { first: value, length: value, omitted: u64::MAX };
        for thread in &mut report.threads {
            thread.index = value;
            thread.id = u64::MAX;
            let (first, length, omitted) = (fold.first, fold.length, fold.omitted);
            thread.folds = vec![aftermach_protocol::report::Fold { first, length, omitted, ..Default::default() }];
            for frame in &mut thread.frames {
                frame.image = Some(value);
                frame.line = Some(u32::MAX);
            }
        }
        for image in &mut report.images {
            (image.base.0, image.size.0) = (u64::MAX, u64::MAX);
        }
        report.times.held_us = Some(u64::MAX);
        report.process.uptime_us = Some(u64::MAX);
        for thread in absurd {
            report.exception.thread = Some(thread);
            report.exception.kind = aftermach_protocol::report::ExceptionKind::StackOverflow;
            let text = render(&report, &Options { all: true, width: Some(0) });
            assert!(text.starts_with("Thread 1 \"io-worker\""));
            let signature = crate::report::signature::signature(&report).text;
            assert!(signature.starts_with("stack overflow"), "{signature}");
        }
    }
}
