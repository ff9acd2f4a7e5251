use aftermach_protocol::report::{Exception, FirstChance, Fold, Hex, Image, Signal};

use super::*;

#[test]
fn each_name_has_its_normal_form() {
    let lines: Vec<&str> = include_str!("names.txt").lines().collect();
    let pairs = lines.iter().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" => "));
    let mut count = 0;
    for (name, normal) in pairs {
        assert_eq!(normalise(name), normal, "{name}");
        assert_eq!(normalise(normal), normal, "{name}, twice");
        count += 1;
    }
    assert!(count > 40);
}

#[test]
fn a_hostile_name_costs_neither_a_panic_nor_much_time() {
    for part in ["<", ">", "(", ")", "{", "[", "operator", "::<", "é", " ", "<a as ", ".cold"] {
        let name = part.repeat(100_000);
        assert!(normalise(&name).len() <= 3 * MAX_FRAMES * 4096, "{part}");
    }
    assert_eq!(normalise(""), "");
}

fn frame(name: &str) -> Frame {
    let frame = Frame { trust: Trust::UnwindInfo, ..Frame::default() };
    match name.split_once('+') {
        Some((_, offset)) => {
            let offset = u64::from_str_radix(offset.trim_start_matches("0x"), 16).unwrap();
            Frame { image: Some(0), offset: Some(Hex(offset)), ..frame }
        }
        None if name == "?" => frame,
        None => Frame { function: Some(name.to_owned()), ..frame },
    }
}

fn report(kind: ExceptionKind, names: &[&str]) -> Report {
    let frames = names.iter().map(|name| frame(name)).collect();
    Report {
        exception: Exception { kind, name: "SIGSEGV".to_owned(), thread: Some(0), ..Exception::default() },
        threads: vec![Thread { crashed: true, frames, ..Thread::default() }],
        images: vec![Image { path: "/usr/lib/libx.so.1".to_owned(), ..Image::default() }],
        ..Report::default()
    }
}

fn text(kind: ExceptionKind, names: &[&str]) -> String {
    signature(&report(kind, names)).text
}

#[test]
fn a_fault_in_a_function_is_named_by_it() {
    assert_eq!(text(ExceptionKind::NullPointer, &["tunnel::Peer::send", "main"]), "tunnel::Peer::send");
}

#[test]
fn copying_memory_brings_its_caller_along() {
    let names = ["__memmove_avx_unaligned_erms", "core::intrinsics::copy", "tunnel::Peer::send", "main"];
    assert_eq!(
        text(ExceptionKind::BadAccess, &names),
        "__memmove_avx_unaligned_erms | core::intrinsics::copy | tunnel::Peer::send"
    );
}

#[test]
fn what_ends_a_program_is_left_out() {
    let names = ["__pthread_kill_implementation", "raise", "abort", "tunnel::die", "main"];
    assert_eq!(text(ExceptionKind::Abort, &names), "abort | tunnel::die");
    let names = [
        "abort",
        "std::sys::pal::unix::abort_internal",
        "std::panicking::rust_panic_with_hook",
        "std::panicking::begin_panic_handler::{{closure}}",
        "rust_begin_unwind",
        "core::panicking::panic_fmt",
        "core::option::unwrap_failed",
        "core::option::Option<T>::unwrap",
        "tunnel::Peer::send::h0123456789abcdef",
        "main",
    ];
    assert_eq!(text(ExceptionKind::Panic, &names), "panic | tunnel::Peer::send");
}

#[test]
fn without_a_name_it_is_the_image_and_offset() {
    assert_eq!(text(ExceptionKind::BadAccess, &["x+0x1a2b", "main"]), "libx.so.1+0x1a2b");
}

#[test]
fn a_nameless_frame_of_a_runtime_is_named_only_where_it_died() {
    let mut report = report(ExceptionKind::Abort, &["abort", "x+0x10", "x+0x20", "tunnel::parse", "main"]);
    report.images[0].path = "/usr/lib/libstdc++.so.6.0.30".to_owned();
    assert_eq!(signature(&report).text, "abort | tunnel::parse");
    report.threads[0].frames.remove(0);
    report.exception.kind = ExceptionKind::BadAccess;
    assert_eq!(signature(&report).text, "libstdc++.so.6.0.30+0x10 | tunnel::parse");
}

#[test]
fn a_programs_own_function_is_not_taken_for_a_librarys() {
    for name in ["string_at", "stream::open", "memory_init", "small_step", "reader", "starter", "read", "select"] {
        assert_eq!(weight(name), Weight::Relevant, "{name}");
    }
}

#[test]
fn a_jump_into_nowhere_is_named_by_its_caller() {
    assert_eq!(text(ExceptionKind::BadCall, &["?", "tunnel::Peer::send"]), "bad call | tunnel::Peer::send");
}

#[test]
fn without_frames_it_is_the_exception() {
    assert_eq!(text(ExceptionKind::BadAccess, &[]), "SIGSEGV");
    assert_eq!(text(ExceptionKind::StackOverflow, &[]), "stack overflow");
    let mut nobody = report(ExceptionKind::BadAccess, &["main"]);
    nobody.exception.thread = Some(7);
    assert_eq!(signature(&nobody).text, "SIGSEGV");
}

#[test]
fn a_guessed_frame_is_not_part_of_it() {
    let mut report = report(ExceptionKind::BadAccess, &["memcpy", "tunnel::Peer::send"]);
    report.threads[0].frames[1].trust = Trust::Scan;
    assert_eq!(signature(&report).text, "memcpy");
}

#[test]
fn recursion_has_one_signature_wherever_it_hit_the_end() {
    let signature_from = |names: &[&str]| {
        let mut report = report(ExceptionKind::StackOverflow, names);
        report.threads[0].folds = vec![Fold { first: 0, length: 2, omitted: 9000, ..Fold::default() }];
        signature(&report).text
    };
    let even = signature_from(&["json::value", "json::array", "json::value", "main"]);
    assert_eq!(even, signature_from(&["json::array", "json::value", "json::array", "main"]));
    assert_eq!(even, "stack overflow | json::array");
}

#[test]
fn an_abort_in_a_fault_handler_is_signed_by_the_fault() {
    let mut report = report(ExceptionKind::Abort, &["raise", "abort", "handler", "tunnel::Peer::send", "main"]);
    let null_pointer = Exception { kind: ExceptionKind::NullPointer, ..Exception::default() };
    report.first_chance = Some(FirstChance { exception: null_pointer, frame: Some(3), ..FirstChance::default() });
    assert_eq!(signature(&report).text, "tunnel::Peer::send");
}

#[test]
fn a_kill_starts_with_its_signal() {
    let mut report = report(ExceptionKind::Killed, &["__poll", "tunnel::wait"]);
    report.exception.signal = Some(Signal { name: "SIGQUIT".to_owned(), number: 3, ..Signal::default() });
    assert_eq!(signature(&report).text, "SIGQUIT | __poll | tunnel::wait");
}

#[test]
fn a_signature_is_never_longer_than_255_characters() {
    let names: Vec<String> = (0..9).map(|number| format!("std::{}{number}", "é".repeat(200))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let long = text(ExceptionKind::BadAccess, &names);
    assert_eq!(long.chars().count(), 255);
    let names: Vec<String> = (0..9).map(|number| format!("std::f{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(text(ExceptionKind::BadAccess, &names).matches(" | ").count(), 5);
}
