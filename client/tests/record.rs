//! Annotations and breadcrumbs, read back as the handler reads them.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use aftermach_client::{Dropped, breadcrumb, remove, scoped, set};
use aftermach_protocol::record::{Damage, State};
use support::{own_record, turn, value};

fn clear() {
    for annotation in own_record().1.annotations {
        remove(&annotation.key).unwrap();
    }
}

#[test]
fn what_is_set_before_any_installation_is_in_the_record() {
    let _turn = turn();
    clear();
    set("state", "connecting").unwrap();
    set("server", "192.0.2.7").unwrap();
    set("state", "connected").unwrap();
    let (header, contents) = own_record();
    assert_eq!((header.version, header.size, header.state), (1, 128, State::NotInstalled));
    let pairs: Vec<_> = contents.annotations.iter().map(|a| (a.key.as_str(), a.value.as_str())).collect();
    assert_eq!(pairs, [("server", "192.0.2.7"), ("state", "connected")]);
    assert_eq!(contents.damage, []);
    remove("state").unwrap();
    remove("never set").unwrap();
    assert_eq!(value(&own_record().1, "state"), None);
}

#[test]
fn every_length_up_to_the_limits_comes_back_whole() {
    let _turn = turn();
    clear();
    let text: String = ('a'..='z').cycle().take(432).collect();
    for length in 0..=432 {
        let key = &text[..1 + length % 64];
        set(key, &text[..length]).unwrap();
        assert_eq!(value(&own_record().1, key).as_deref(), Some(&text[..length]));
        remove(key).unwrap();
    }
}

#[test]
fn a_value_over_the_limit_is_cut_between_characters_and_marked() {
    let _turn = turn();
    clear();
    set("fits", &"x".repeat(432)).unwrap();
    set("over", &"x".repeat(433)).unwrap();
    set("accents", &"é".repeat(300)).unwrap();
    set("odd", &("x".to_owned() + &"é".repeat(300))).unwrap();
    let contents = own_record().1;
    let lengths: Vec<_> = contents.annotations.iter().map(|a| (a.key.as_str(), a.value.len(), a.cut)).collect();
    assert_eq!(lengths, [("fits", 432, false), ("over", 432, true), ("accents", 432, true), ("odd", 431, true)]);
    assert!(contents.annotations.iter().all(|annotation| !annotation.value.contains('\u{fffd}')));
}

#[test]
fn a_key_that_is_empty_or_too_long_is_refused() {
    let _turn = turn();
    assert_eq!(set("", "x"), Err(Dropped::Key));
    assert_eq!(set(&"k".repeat(65), "x"), Err(Dropped::Key));
    assert_eq!(set(&"k".repeat(64), "x"), Ok(()));
    remove(&"k".repeat(64)).unwrap();
}

#[test]
fn a_full_table_refuses_new_keys_keeps_the_old_ones_and_counts() {
    let _turn = turn();
    clear();
    let before = own_record().0.dropped;
    for index in 0..64 {
        set(&format!("key {index}"), &index.to_string()).unwrap();
    }
    assert_eq!(set("one more", "x"), Err(Dropped::Full));
    assert_eq!(set("key 7", "changed"), Ok(()));
    let (header, contents) = own_record();
    assert_eq!(header.dropped, before + 1);
    assert_eq!(contents.annotations.len(), 64);
    assert_eq!(value(&contents, "key 7").as_deref(), Some("changed"));
    assert_eq!(value(&contents, "one more"), None);
    remove("key 3").unwrap();
    assert_eq!(set("one more", "x"), Ok(()));
    clear();
    assert_eq!(own_record().1.annotations, []);
}

#[test]
fn a_scope_ends_with_what_was_there_before() {
    let _turn = turn();
    clear();
    {
        let _outer = scoped("request", "outer");
        {
            let _inner = scoped("request", &"inner".repeat(50));
            assert_eq!(value(&own_record().1, "request"), Some("inner".repeat(50)));
        }
        assert_eq!(value(&own_record().1, "request").as_deref(), Some("outer"));
    }
    assert_eq!(value(&own_record().1, "request"), None);
}

#[test]
fn the_newest_64_breadcrumbs_are_kept_in_order() {
    let _turn = turn();
    for index in 0..200 {
        breadcrumb(&format!("step {index}"));
    }
    breadcrumb(&"ü".repeat(113));
    let contents = own_record().1;
    assert_eq!(contents.damage, []);
    assert_eq!(contents.breadcrumbs.len(), 64);
    let last = &contents.breadcrumbs[63];
    assert_eq!((last.text.len(), last.cut), (224, true));
    for (index, breadcrumb) in contents.breadcrumbs[..63].iter().enumerate() {
        assert_eq!(breadcrumb.text, format!("step {}", 137 + index));
        assert!(!breadcrumb.cut);
    }
    let in_order = |pair: &[aftermach_protocol::record::Breadcrumb]| {
        pair[0].number + 1 == pair[1].number && pair[0].time <= pair[1].time
    };
    assert!(contents.breadcrumbs.windows(2).all(in_order));
}

/// A text that shows when it was mixed with another: one character over and over.
fn uniform(text: &str) -> bool {
    text.bytes().all(|byte| Some(byte) == text.bytes().next())
}

#[test]
fn a_reader_never_believes_a_mixture_while_threads_write() {
    let _turn = turn();
    clear();
    let stop = AtomicBool::new(false);
    let (mut values, mut crumbs) = (0_u64, 0_u64);
    thread::scope(|scope| {
        for writer in 0..3_usize {
            let stop = &stop;
            scope.spawn(move || {
                let letters: Vec<String> = ('a'..='z').map(|c| c.to_string().repeat(200 + writer)).collect();
                let mut round = writer;
                while !stop.load(Ordering::Relaxed) {
                    let text = &letters[round % letters.len()];
                    // All share one key, and each has its own, which it also removes.
                    let _ = set("shared", text);
                    let _ = set(&format!("own {writer}"), text);
                    if round.is_multiple_of(7) {
                        let _ = remove(&format!("own {writer}"));
                    }
                    breadcrumb(text);
                    round += 1;
                }
            });
        }
        for _ in 0..500 {
            let (_, contents) = own_record();
            for annotation in &contents.annotations {
                assert!(uniform(&annotation.value), "{annotation:?}");
                values += 1;
            }
            for breadcrumb in &contents.breadcrumbs {
                assert!(uniform(&breadcrumb.text), "{breadcrumb:?}");
                crumbs += 1;
            }
            // This reader holds nobody, so a slot may change under it: seen, said and not believed.
            let seen = |damage: &Damage| matches!(damage, Damage::Annotation(_) | Damage::Breadcrumb(_));
            assert!(contents.damage.iter().all(seen), "{:?}", contents.damage);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(values > 1_000 && crumbs > 1_000, "{values} values and {crumbs} breadcrumbs were read");
    // Once nobody writes, everything is whole.
    let contents = own_record().1;
    assert_eq!(contents.damage, []);
    assert_eq!(contents.breadcrumbs.len(), 64);
    clear();
}

#[test]
fn two_threads_that_set_one_key_at_once_leave_one_of_the_two_values_whole() {
    let _turn = turn();
    clear();
    const ROUNDS: usize = 5_000;
    let texts = ["a".repeat(432), "b".repeat(432)];
    let (arrived, broken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for text in &texts {
            let (arrived, broken) = (&arrived, &broken);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    // Both start each round together, and stop for a look at what they left.
                    meet(arrived, 4 * round + 2);
                    let _ = set("shared", text);
                    meet(arrived, 4 * round + 4);
                    if text.starts_with('a') {
                        let contents = own_record().1;
                        let whole = contents.damage.is_empty() && texts_contain(&contents, text);
                        // Judged at the end: the other thread would wait for one that panics.
                        broken.fetch_add(usize::from(!whole), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(broken.into_inner(), 0, "of {ROUNDS} rounds");
    clear();
}

/// Waits until as many threads have arrived as two would have by now. Both leave at the same moment if each has a processor;
/// there may be only one, so in the end it is given away.
fn meet(arrived: &AtomicUsize, expected: usize) {
    arrived.fetch_add(1, Ordering::SeqCst);
    let mut turns = 0;
    while arrived.load(Ordering::SeqCst) < expected {
        turns += 1;
        if turns > 1_000 {
            thread::yield_now();
        }
        std::hint::spin_loop();
    }
}

fn texts_contain(contents: &aftermach_protocol::record::Contents, text: &str) -> bool {
    value(contents, "shared").is_some_and(|found| found.len() == text.len() && uniform(&found))
}

#[test]
fn a_signal_handler_that_interrupts_a_write_of_the_same_key_neither_waits_nor_mixes() {
    static HANDLED: AtomicBool = AtomicBool::new(false);
    extern "C" fn on_alarm(_: libc::c_int) {
        let _ = set(
            "state",
            "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh",
        );
        breadcrumb("hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh");
        HANDLED.store(true, Ordering::Relaxed);
    }
    let _turn = turn();
    clear();
    // SAFETY: the handler calls only what may be called in one.
    unsafe { libc::signal(libc::SIGUSR1, on_alarm as *const () as libc::sighandler_t) };
    // SAFETY: the thread that is signalled outlives the signals: it is joined after the signaller.
    let this = unsafe { libc::pthread_self() };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // SAFETY: as above.
                unsafe { libc::pthread_kill(this, libc::SIGUSR1) };
                thread::yield_now();
            }
        });
        let mut round = 0;
        while round < 20_000 || !HANDLED.load(Ordering::Relaxed) {
            let _ = set("state", &"m".repeat(300));
            breadcrumb(&"m".repeat(100));
            round += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    let contents = own_record().1;
    assert_eq!(contents.damage, []);
    assert!(uniform(&value(&contents, "state").unwrap()));
    assert!(contents.breadcrumbs.iter().all(|breadcrumb| uniform(&breadcrumb.text)));
    set("state", "after").unwrap();
    assert_eq!(value(&own_record().1, "state").as_deref(), Some("after"));
    clear();
}
