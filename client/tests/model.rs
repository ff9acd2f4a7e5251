//! Who may install, and what the record holds, in every order in which threads can come upon it: see `src/model`.
//!
//! Run by `.ci/run model`; without `--cfg aftermach_model` there is nothing in here.
#![cfg(aftermach_model)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects by unwrapping it")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use aftermach_client::model::{self, Explored, SLOTS, explore, fail_next_registration, is_registered};
use aftermach_client::{
    Error, Options, ProductRef, breadcrumb, detach_for_child, dump_without_crashing, header_bytes, install, rearm,
    remove, set, uninstall,
};
use aftermach_protocol::record::{Contents, Damage, Header, State};

/// Tests of this program share its one client: they take turns.
static TURN: Mutex<()> = Mutex::new(());

/// What a reader of the process finds, if it died at this moment.
fn record() -> (Header, Contents) {
    let header = Header::decode(&header_bytes()).unwrap();
    // SAFETY: the space is as large as the header says and lives as long as the program. Nobody writes: every thread but this
    // one stands still.
    let space = unsafe { std::slice::from_raw_parts(header.space as usize as *const u8, header.space_size as usize) };
    let contents = Contents::decode(&header, space);
    (header, contents)
}

fn value(contents: &Contents, key: &str) -> Option<String> {
    let values: Vec<_> = contents.annotations.iter().filter(|annotation| annotation.key == key).collect();
    assert!(values.len() < 2, "{values:?}");
    values.first().map(|annotation| annotation.value.clone())
}

fn told(name: &str, explored: Explored) {
    println!("{name}: {} orders, {} looks at the record", explored.orders, explored.looks);
    assert!(explored.orders > 50, "{explored:?}");
}

/// Answers of the threads, by index: 0 for none yet, 1 for success, else 10 and the error's code.
struct Answers([AtomicU32; 3]);

impl Answers {
    const fn new() -> Answers {
        Answers([const { AtomicU32::new(0) }; 3])
    }

    fn reset(&self) {
        self.0.iter().for_each(|answer| answer.store(0, Ordering::Relaxed));
    }

    fn put(&self, index: usize, answer: Result<(), Error>) {
        self.0[index].store(answer.map_or_else(|error| 10 + error.code() as u32, |()| 1), Ordering::Relaxed);
    }

    fn get(&self, index: usize) -> Option<Result<(), u32>> {
        match self.0[index].load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Ok(())),
            code => Some(Err(code - 10)),
        }
    }

    fn successes(&self) -> usize {
        (0..3).filter(|index| self.get(*index) == Some(Ok(()))).count()
    }
}

fn install_as(name: &str) -> Result<(), Error> {
    let product = ProductRef::new("com.example", name, "").unwrap();
    install(&product, &Options::new().version("1")).map(drop)
}

/// While the process is registered it may be reported, and then its record must say whose it is.
fn a_registered_process_says_so(names: &[&str]) {
    let (header, contents) = record();
    if is_registered() {
        assert_eq!(header.state, State::Installed);
        assert_eq!(header.pid, std::process::id());
        let (group, name, channel) = contents.product.unwrap();
        assert_eq!((group.as_str(), channel.as_str()), ("com.example", ""));
        assert!(names.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn of_threads_that_install_at_once_one_does() {
    let _turn = TURN.lock();
    static ANSWERS: Answers = Answers::new();
    let explored = explore(
        3,
        &|| {
            model::reset();
            ANSWERS.reset();
        },
        &[&|| ANSWERS.put(0, install_as("First")), &|| ANSWERS.put(1, install_as("Second"))],
        &|| a_registered_process_says_so(&["First", "Second"]),
        &|| {
            assert!(is_registered());
            assert_eq!(ANSWERS.successes(), 1);
            let (winner, loser) = if ANSWERS.get(0) == Some(Ok(())) { ("First", 1) } else { ("Second", 0) };
            let refusals = [Error::AlreadyInstalled, Error::InProgress].map(|error| Some(Err(error.code() as u32)));
            assert!(refusals.contains(&ANSWERS.get(loser)));
            assert_eq!(record().1.product.unwrap().1, winner);
        },
    );
    told("install, install", explored);
}

#[test]
fn a_registration_that_fails_leaves_room_for_another() {
    let _turn = TURN.lock();
    static ANSWERS: Answers = Answers::new();
    let explored = explore(
        3,
        &|| {
            model::reset();
            ANSWERS.reset();
            fail_next_registration();
        },
        &[&|| ANSWERS.put(0, install_as("First")), &|| ANSWERS.put(1, install_as("Second"))],
        &|| a_registered_process_says_so(&["First", "Second"]),
        &|| {
            assert_eq!(is_registered(), ANSWERS.successes() == 1);
            assert_eq!(is_registered(), record().0.state == State::Installed);
            install_as("Third").map_or_else(|error| assert!(is_registered(), "{error}"), |()| assert!(is_registered()));
        },
    );
    told("install, install, of which one fails", explored);
}

#[test]
fn installing_and_taking_it_back_leave_one_or_the_other() {
    let _turn = TURN.lock();
    static ANSWERS: Answers = Answers::new();
    for installed in [false, true] {
        let explored = explore(
            3,
            &|| {
                model::reset();
                ANSWERS.reset();
                if installed {
                    install_as("First").unwrap();
                }
            },
            &[&|| ANSWERS.put(0, install_as("Second")), &|| ANSWERS.put(1, uninstall())],
            &|| a_registered_process_says_so(&["First", "Second"]),
            &|| {
                let done = [0, 1].map(|index| ANSWERS.get(index) == Some(Ok(())));
                let expected = match (installed, done) {
                    // Who came first found nothing to do.
                    (false, [installs, uninstalls]) => installs && !uninstalls,
                    (true, [installs, uninstalls]) => !uninstalls || installs,
                };
                assert_eq!(is_registered(), expected, "{done:?}");
                assert_eq!(record().0.state == State::Installed, expected);
            },
        );
        told("install, uninstall", explored);
    }
}

#[test]
fn of_calls_on_what_is_installed_none_finds_it_half_gone() {
    let _turn = TURN.lock();
    static ANSWERS: Answers = Answers::new();
    let explored = explore(
        3,
        &|| {
            model::reset();
            ANSWERS.reset();
            install_as("First").unwrap();
        },
        &[&|| ANSWERS.put(0, uninstall()), &|| ANSWERS.put(1, rearm()), &|| ANSWERS.put(2, dump_without_crashing())],
        &|| a_registered_process_says_so(&["First"]),
        &|| {
            let uninstalled = ANSWERS.get(0) == Some(Ok(()));
            assert_eq!(is_registered(), !uninstalled);
            assert!(ANSWERS.successes() > 0, "whoever had the right to change it did");
        },
    );
    told("uninstall, rearm, dump", explored);
}

/// Forks for real, at every moment: the child has the memory of that moment, and the thread that forked.
fn forked(child: impl FnOnce() -> bool) {
    // SAFETY: every other thread waits for its turn, and holds no lock of the C library's.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            model::forked();
            libc::_exit(i32::from(!child()));
        }
        let mut status = 0;
        libc::waitpid(pid, &mut status, 0);
        assert_eq!(status, 0, "the child is as it should be");
    }
}

#[test]
fn a_child_that_is_forked_at_any_moment_can_free_itself_and_install() {
    let _turn = TURN.lock();
    let explored = explore(
        1,
        &model::reset,
        &[&|| _ = install_as("First"), &|| _ = uninstall()],
        &|| {
            forked(|| {
                detach_for_child();
                let header = record().0;
                let speaks_for_it = header.state == State::Installed && header.pid == std::process::id();
                !speaks_for_it
                    && install_as("Child").is_ok()
                    && record().0.pid == std::process::id()
                    && uninstall().is_ok()
            });
        },
        &|| {},
    );
    assert!(explored.looks > 100, "{explored:?}");
}

#[test]
fn a_reader_finds_the_last_value_that_was_complete() {
    let _turn = TURN.lock();
    static DONE: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
    let write = |index: usize, value: &'static str| {
        let result = set("key", value);
        DONE[index].store(if result.is_ok() { 1 } else { 2 }, Ordering::Relaxed);
    };
    let explored = explore(
        3,
        &|| {
            model::reset();
            DONE.iter().for_each(|done| done.store(0, Ordering::Relaxed));
            set("key", "before").unwrap();
        },
        &[&|| write(0, "first value"), &|| write(1, "second")],
        &|| {
            let (_, contents) = record();
            assert_eq!(contents.damage, []);
            let found = value(&contents, "key").unwrap();
            assert!(["before", "first value", "second"].contains(&found.as_str()), "{found}");
            if DONE.iter().any(|done| done.load(Ordering::Relaxed) == 1) {
                assert_ne!(found, "before", "a write that was done has been lost");
            }
        },
        &|| {
            let (header, contents) = record();
            let done = DONE.each_ref().map(|done| done.load(Ordering::Relaxed) == 1);
            assert!(done[0] || done[1], "one of them got through");
            let found = value(&contents, "key").unwrap();
            match done {
                [true, false] => assert_eq!(found, "first value"),
                [false, true] => assert_eq!(found, "second"),
                _ => assert!(found == "first value" || found == "second"),
            }
            assert!(!contents.annotations[0].superseded);
            assert_eq!(header.dropped, done.iter().filter(|done| !**done).count() as u32);
        },
    );
    told("set, set of one key", explored);
}

#[test]
fn keys_that_are_set_and_removed_at_once_do_not_mix() {
    let _turn = TURN.lock();
    let explored = explore(
        2,
        &|| {
            model::reset();
            set("old", "1").unwrap();
        },
        &[&|| _ = set("new", "22"), &|| _ = remove("old"), &|| _ = set("third", "333")],
        &|| {
            let (_, contents) = record();
            assert_eq!(contents.damage, []);
            for annotation in &contents.annotations {
                let expected = match annotation.key.as_str() {
                    "old" => "1",
                    "new" => "22",
                    "third" => "333",
                    other => panic!("{other}"),
                };
                assert_eq!(annotation.value, expected);
            }
        },
        &|| {
            let (header, contents) = record();
            assert_eq!(value(&contents, "old"), None);
            let kept = contents.annotations.len() as u32;
            assert_eq!(kept + header.dropped, 2, "what was not kept was counted: {contents:?}");
        },
    );
    told("set, remove, set", explored);
}

#[test]
fn one_key_that_two_threads_bring_in_has_one_value_for_a_reader() {
    let _turn = TURN.lock();
    let explored = explore(
        2,
        &|| {
            model::reset();
            set("old", "1").unwrap();
        },
        &[&|| _ = set("key", "first"), &|| _ = set("key", "second"), &|| _ = remove("old")],
        &|| {
            let (_, contents) = record();
            assert_eq!(contents.damage, []);
            assert!(value(&contents, "key").is_none_or(|found| found == "first" || found == "second"));
        },
        &|| {
            // They may have come to two slots: later writes and removals deal with both.
            set("key", "later").unwrap();
            assert_eq!(value(&record().1, "key").as_deref(), Some("later"));
            remove("key").unwrap();
            assert_eq!(value(&record().1, "key"), None);
        },
    );
    told("set, set, remove", explored);
}

#[test]
fn a_ring_that_wraps_under_its_writers_shows_whole_lines_only() {
    let _turn = TURN.lock();
    let lines = ["a1", "a2, which is longer than a word", "b1", "b2, longer than a word too"];
    let explored = explore(
        2,
        &model::reset,
        &[&|| lines[..2].iter().for_each(|line| breadcrumb(line)), &|| {
            lines[2..].iter().for_each(|line| breadcrumb(line))
        }],
        &|| {
            let (_, contents) = record();
            let texts: Vec<&str> = contents.breadcrumbs.iter().map(|crumb| crumb.text.as_str()).collect();
            assert!(texts.iter().all(|text| lines.contains(text)), "{texts:?}");
            assert!(contents.damage.iter().all(|damage| matches!(damage, Damage::Breadcrumb(_))), "{contents:?}");
            assert!(contents.damage.len() + texts.len() <= SLOTS);
        },
        &|| {
            let (header, contents) = record();
            assert_eq!((contents.breadcrumbs.len(), contents.damage.len()), (SLOTS, 0), "{contents:?}");
            let mut numbers: Vec<u64> = contents.breadcrumbs.iter().map(|crumb| crumb.number).collect();
            numbers.dedup();
            assert_eq!(numbers.len(), SLOTS);
            // With as many writers as slots, one may find all of them taken.
            assert!(header.dropped <= 1, "{contents:?}");
        },
    );
    told("breadcrumb, breadcrumb", explored);
}
