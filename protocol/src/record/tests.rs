//! Records built by hand, byte by byte from the layout in the module's documentation, and read back.

use std::time::Duration;

use super::*;

/// A space with two strings of identity, two annotation slots and two breadcrumb slots, and the header that describes it.
struct Built {
    header: Vec<u8>,
    space: Vec<u8>,
}

const SPACE_ADDRESS: u64 = 0x7fff_0000_1000;
const IDENTITY: usize = 0;
const DIRECTORY: usize = 256;
const ANNOTATIONS: usize = 272;
const BREADCRUMBS: usize = ANNOTATIONS + 2 * 1024;
const SPACE: usize = BREADCRUMBS + 2 * 256;

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

impl Built {
    fn new() -> Built {
        let mut header = vec![0; 128];
        put(&mut header, 0, b"AFTMREC\0");
        let numbers: [(usize, u32); 17] = [
            (8, 1),
            (12, 128),
            (16, 1),
            (20, 4711),
            (48, SPACE as u32),
            (52, IDENTITY as u32),
            (56, 4),
            (60, 64),
            (64, DIRECTORY as u32),
            (68, 2),
            (72, 8),
            (76, ANNOTATIONS as u32),
            (80, 2),
            (84, 1024),
            (88, BREADCRUMBS as u32),
            (92, 2),
            (96, 256),
        ];
        for (at, number) in numbers {
            put(&mut header, at, &number.to_le_bytes());
        }
        put(&mut header, 32, &5_000_000_000_u64.to_le_bytes());
        put(&mut header, 40, &SPACE_ADDRESS.to_le_bytes());
        let mut space = vec![0; SPACE];
        for (index, text) in ["com.example", "Tunnel", "canary", "1.2"].into_iter().enumerate() {
            space[IDENTITY + index * 64] = text.len() as u8;
            put(&mut space, IDENTITY + index * 64 + 1, text.as_bytes());
        }
        Built { header, space }
    }

    fn annotation(&mut self, slot: usize, version: u32, stamp: u32, key: &str, value: &str) {
        let at = ANNOTATIONS + slot * 1024 + (version as usize & 1) * 512;
        let word = u64::from(stamp) | (value.len() as u64) << 32 | (key.len() as u64) << 48;
        let check = check([word].into_iter().chain(padded(key)).chain(padded(value)));
        put(&mut self.space, at, &check.to_le_bytes());
        put(&mut self.space, at + 8, &word.to_le_bytes());
        put(&mut self.space, at + 16, key.as_bytes());
        put(&mut self.space, at + 80, value.as_bytes());
        self.sequence(slot, version << 1, if key.is_empty() { 0 } else { 7 });
    }

    fn sequence(&mut self, slot: usize, sequence: u32, hash: u32) {
        put(&mut self.space, DIRECTORY + slot * 8, &sequence.to_le_bytes());
        put(&mut self.space, DIRECTORY + slot * 8 + 4, &hash.to_le_bytes());
    }

    fn breadcrumb(&mut self, number: u64, time: u64, text: &str) {
        let at = BREADCRUMBS + (number as usize % 2) * 256;
        let fields = [number << 1, time, text.len() as u64];
        let check = check(fields.into_iter().chain(padded(text)));
        for (index, word) in [fields[0], check, fields[1], fields[2]].into_iter().enumerate() {
            put(&mut self.space, at + index * 8, &word.to_le_bytes());
        }
        put(&mut self.space, at + 32, text.as_bytes());
    }

    fn read(&self) -> Contents {
        Contents::decode(&Header::decode(&self.header).unwrap(), &self.space)
    }

    fn values(&self) -> Vec<(String, String)> {
        self.read().annotations.into_iter().map(|annotation| (annotation.key, annotation.value)).collect()
    }
}

fn check(words: impl IntoIterator<Item = u64>) -> u64 {
    Check::of(&words.into_iter().collect::<Vec<_>>()).value()
}

fn padded(text: &str) -> Vec<u64> {
    let word = |chunk: &[u8]| chunk.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    text.as_bytes().chunks(8).map(word).collect()
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn the_check_and_the_hash_are_these_numbers_in_every_version() {
    assert_eq!(Check::of(&[9]).with_text(b"abcdefgh\x01").value(), check([9, 0x6867_6665_6463_6261, 1]));
    // By an independent implementation (Python) of FNV-1a over words with a rotation of 23, and of FNV-1a folded to 32 bits.
    assert_eq!(check([]), 0xcbf2_9ce4_8422_2325);
    assert_eq!(check([1]), 0x2643_00db_1657_b1de);
    assert_eq!(check([0x0123_4567_89ab_cdef, 2]), 0x9729_68d1_948f_b6b3);
    assert_eq!(key_hash(b""), 0xcbf2_9ce4 ^ 0x8422_2325);
    assert_eq!(key_hash(b"state"), 0xabd2_1bbb);
}

#[test]
fn a_record_says_who_what_and_when() {
    let mut built = Built::new();
    built.annotation(0, 1, 1, "state", "connecting");
    built.annotation(1, 4, 2, "server", "192.0.2.7");
    built.breadcrumb(1, 5_000_000_000, "start");
    built.breadcrumb(2, 5_250_000_000, "dial");
    let contents = built.read();
    assert_eq!(contents.product, Some(("com.example".into(), "Tunnel".into(), "canary".into())));
    assert_eq!(contents.version.as_deref(), Some("1.2"));
    assert_eq!(built.values(), [pair("state", "connecting"), pair("server", "192.0.2.7")]);
    let breadcrumbs: Vec<_> = contents.breadcrumbs.iter().map(|b| (b.number, b.time, b.text.as_str())).collect();
    assert_eq!(breadcrumbs, [(1, Duration::ZERO, "start"), (2, Duration::from_millis(250), "dial")]);
    assert_eq!(contents.damage, []);
}

#[test]
fn an_annotation_that_dies_in_its_write_keeps_its_last_complete_value() {
    let mut built = Built::new();
    built.annotation(0, 1, 1, "state", "old");
    built.annotation(0, 2, 2, "state", "new");
    // Version 1 stands in copy 1; the write of version 2 in copy 0 is only half done.
    put(&mut built.space, ANNOTATIONS + 80, b"nXX");
    built.sequence(0, 3, 7);
    let contents = built.read();
    assert_eq!(built.values(), [pair("state", "old")]);
    assert!(contents.annotations[0].superseded);
    assert_eq!(contents.damage, []);
}

#[test]
fn the_first_write_of_an_annotation_leaves_nothing_until_it_is_complete() {
    let mut built = Built::new();
    built.sequence(0, 1, 7);
    put(&mut built.space, ANNOTATIONS + 512 + 16, b"sta");
    assert_eq!(built.read().annotations, []);
    assert_eq!(built.read().damage, []);
}

#[test]
fn a_removed_annotation_is_gone_also_while_its_slot_is_claimed_anew() {
    let mut built = Built::new();
    built.annotation(0, 1, 1, "state", "old");
    built.annotation(0, 2, 2, "", "");
    assert_eq!(built.values(), []);
    built.sequence(0, 5, 9);
    assert_eq!(built.values(), []);
    assert_eq!(built.read().damage, []);
}

#[test]
fn an_annotation_that_was_overwritten_by_the_bug_is_reported_and_not_believed() {
    let mut built = Built::new();
    built.annotation(0, 1, 1, "state", "connecting");
    built.annotation(1, 1, 2, "server", "192.0.2.7");
    built.space[ANNOTATIONS + 512 + 83] ^= 0x40;
    assert_eq!(built.values(), [pair("server", "192.0.2.7")]);
    assert_eq!(built.read().damage, [Damage::Annotation(0)]);
}

#[test]
fn of_two_slots_with_one_key_the_later_write_counts() {
    let mut built = Built::new();
    built.annotation(0, 1, 9, "state", "later");
    built.annotation(1, 1, 8, "state", "earlier");
    assert_eq!(built.values(), [pair("state", "later")]);
}

#[test]
fn a_breadcrumb_that_was_being_written_is_reported_and_the_others_stand() {
    let mut built = Built::new();
    built.breadcrumb(1, 5_000_000_000, "one");
    built.breadcrumb(2, 5_000_000_001, "two");
    put(&mut built.space, BREADCRUMBS, &7_u64.to_le_bytes());
    let contents = built.read();
    assert_eq!(contents.breadcrumbs.len(), 1);
    assert_eq!(contents.breadcrumbs[0].text, "one");
    assert_eq!(contents.damage, [Damage::Breadcrumb(0)]);
}

#[test]
fn a_record_that_was_never_installed_has_annotations_but_no_product() {
    let mut built = Built::new();
    put(&mut built.header, 16, &[0]);
    built.annotation(0, 1, 1, "state", "early");
    assert_eq!(built.read().product, None);
    assert_eq!(built.values(), [pair("state", "early")]);
}

#[test]
fn a_space_that_could_be_read_in_part_gives_that_part() {
    let mut built = Built::new();
    built.annotation(0, 1, 1, "state", "there");
    built.annotation(1, 1, 2, "server", "missing");
    built.space.truncate(ANNOTATIONS + 1024);
    assert_eq!(built.values(), [pair("state", "there")]);
    assert_eq!(built.read().damage, [Damage::Unread("annotations"), Damage::Unread("breadcrumbs")]);
}

#[test]
fn a_later_versions_header_is_read_and_its_new_part_kept() {
    let mut built = Built::new();
    put(&mut built.header, 8, &2_u32.to_le_bytes());
    put(&mut built.header, 12, &132_u32.to_le_bytes());
    built.header.extend_from_slice(&[1, 2, 3, 4, 99, 99]);
    let header = Header::decode(&built.header).unwrap();
    assert_eq!((header.version, header.size, header.pid), (2, 132, 4711));
    assert_eq!(header.rest.as_slice(), [1_u8, 2, 3, 4]);
    // A reader that copied only what it knows still has that.
    assert!(Header::decode(&built.header[..128]).unwrap().rest.is_empty());
}

#[test]
fn a_later_versions_longer_values_are_read_whole() {
    let mut built = Built::new();
    put(&mut built.header, 80, &1_u32.to_le_bytes());
    put(&mut built.header, 84, &2048_u32.to_le_bytes());
    let value = "v".repeat(700);
    let word = 1 | 700_u64 << 32 | 1 << 48;
    let check = check([word].into_iter().chain(padded("k")).chain(padded(&value)));
    for (at, bytes) in [(0, check.to_le_bytes()), (8, word.to_le_bytes())] {
        put(&mut built.space, ANNOTATIONS + 1024 + at, &bytes);
    }
    put(&mut built.space, ANNOTATIONS + 1024 + 16, b"k");
    put(&mut built.space, ANNOTATIONS + 1024 + 80, value.as_bytes());
    built.sequence(0, 2, 7);
    assert_eq!(built.values(), [pair("k", &value)]);
}

#[test]
fn headers_that_lie_are_refused_with_the_reason() {
    let with = |at: usize, bytes: &[u8]| {
        let mut built = Built::new();
        put(&mut built.header, at, bytes);
        Header::decode(&built.header).unwrap_err()
    };
    assert_eq!(Header::decode(&Built::new().header[..127]), Err(HeaderError::Short(127)));
    assert_eq!(with(0, b"X"), HeaderError::Magic);
    assert_eq!(with(12, &127_u32.to_le_bytes()), HeaderError::Size(127));
    assert_eq!(with(12, &4097_u32.to_le_bytes()), HeaderError::Size(4097));
    assert_eq!(with(40, &[0; 8]), HeaderError::Space);
    assert_eq!(with(40, &[0xff; 8]), HeaderError::Space);
    assert_eq!(with(48, &[0; 4]), HeaderError::Space);
    assert_eq!(with(48, &((1 << 20) + 1_u32).to_le_bytes()), HeaderError::Space);
}

#[test]
fn tables_that_do_not_lie_in_the_space_cost_only_themselves() {
    for (at, table) in [(76, "annotations"), (88, "breadcrumbs")] {
        for (field, lie) in [(0, SPACE as u32), (0, u32::MAX), (4, u32::MAX), (8, u32::MAX), (8, 0), (8, 8)] {
            let mut built = Built::new();
            put(&mut built.header, at + field, &lie.to_le_bytes());
            let contents = built.read();
            assert!(contents.product.is_some());
            assert_eq!(contents.damage, [Damage::Table(table)], "field {field} is {lie}");
        }
    }
}

#[test]
fn a_table_with_more_entries_than_are_read_says_so() {
    let mut built = Built::new();
    built.space.resize(1 << 20, 0);
    put(&mut built.header, 48, &(1_u32 << 20).to_le_bytes());
    for (count, damage) in [(1024_u32, vec![]), (1025, vec![Damage::TooMany("directory")])] {
        put(&mut built.header, 68, &count.to_le_bytes());
        assert_eq!(built.read().damage, damage);
    }
}

#[test]
fn texts_are_cut_between_characters() {
    assert_eq!(cut(b"abc", 3), b"abc");
    assert_eq!(cut(b"abcd", 3), b"abc");
    assert_eq!(cut("aé".as_bytes(), 2), b"a");
    assert_eq!(cut("aé".as_bytes(), 3), "aé".as_bytes());
    assert_eq!(cut("ab😀".as_bytes(), 5), b"ab");
    assert_eq!(cut(&[0x80; 9], 8), [0x80; 8]);
    assert_eq!(cut(b"a", 0), b"");
}

/// xorshift64* (Vigna): the same sequence on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

#[test]
fn no_bytes_make_the_reader_panic_or_return_more_than_its_limits() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..20_000 {
        let mut built = Built::new();
        built.annotation(0, 1, 1, "state", "connecting");
        built.annotation(1, 2, 2, "server", "192.0.2.7");
        built.breadcrumb(1, 5_000_000_000, "start");
        // Few changes leave most of the record standing, many leave nothing; numbers at the edges come more often than by chance.
        for _ in 0..1 << random.below(8) {
            let edge = [0, 1, 0x7f, 0x80, 0xff, random.next() as u8][random.below(6)];
            match random.below(2) {
                0 => {
                    let at = 8 + random.below(120);
                    built.header[at] = edge;
                }
                _ => {
                    let at = random.below(SPACE);
                    built.space[at] = edge;
                }
            }
        }
        built.space.truncate(random.below(SPACE + 1));
        let Ok(header) = Header::decode(&built.header) else { continue };
        let contents = Contents::decode(&header, &built.space);
        assert!(contents.annotations.len() <= MAX_SLOTS as usize, "round {round}");
        assert!(contents.breadcrumbs.len() <= MAX_SLOTS as usize, "round {round}");
        // One remark a slot, and at most three a table.
        assert!(contents.damage.len() <= 3 * MAX_SLOTS as usize + 12, "round {round}");
    }
}
