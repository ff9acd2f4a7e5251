//! Keys and values.
//!
//! One word of the directory per slot says who owns it: a sequence in the low half and the key's hash in the high one. A
//! writer takes a slot by making its sequence odd, writes the copy that is not current, and makes that the current one by
//! storing the next even sequence. Nobody ever waits: who finds its key's slot being written drops its own write, which is
//! then as if it had come just before the other. So a signal handler may interrupt a write of the same key, and a thread that
//! dies in one leaves the last complete value.

use aftermach_protocol::record::{COPY_KEY, COPY_VALUE, KEY_CAPACITY, VALUE_CAPACITY, each_word, key_hash};

use crate::error::Dropped;
use crate::record::{Copy, SPACE, check, fitting, header, start_clock, store};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// How often a write that lost a slot to another thread looks again. Each loss means that another write got through, so
/// more than this takes more threads at it at once than a program has.
const ATTEMPTS: usize = 64;

const KEY_WORD: usize = COPY_KEY / 8;
const VALUE_WORD: usize = COPY_VALUE / 8;

/// Tells which of two writes came later.
static STAMP: AtomicU32 = AtomicU32::new(0);

/// Sets `key` to `value` in the reports of this process. A value longer than 432 bytes is cut and marked. Does not need
/// [`install`](crate::install()) first.
///
/// # Errors
/// The key is empty or longer than 64 bytes, all 64 slots are taken, or the same key is being written at this moment. The
/// report counts those.
pub fn set(key: &str, value: &str) -> Result<(), Dropped> {
    set_bytes(key.as_bytes(), value.as_bytes())
}

/// Removes `key`; that it wasn't set is no error.
///
/// # Errors
/// The key is being written at this moment.
pub fn remove(key: &str) -> Result<(), Dropped> {
    remove_bytes(key.as_bytes())
}

/// Sets `key` until the guard is dropped, which brings back the value it had before, if any.
#[must_use = "dropping the guard takes the value back at once"]
pub fn scoped<'k>(key: &'k str, value: &str) -> Scoped<'k> {
    let mut before = Value { words: [0; VALUE_CAPACITY / 8], length: 0 };
    let was_set = read(key.as_bytes(), &mut before);
    let set = set(key, value).is_ok();
    Scoped { key, before, was_set, set }
}

/// See [`scoped`].
#[derive(Debug)]
pub struct Scoped<'k> {
    key: &'k str,
    before: Value,
    was_set: bool,
    set: bool,
}

impl Drop for Scoped<'_> {
    fn drop(&mut self) {
        // What can't be taken back is counted as dropped, and the report shows the value.
        let _ = match (self.set, self.was_set) {
            (false, _) => Ok(()),
            (true, false) => remove(self.key),
            (true, true) => set_bytes(self.key.as_bytes(), self.before.bytes()),
        };
    }
}

/// A value that was read back.
#[derive(Debug)]
struct Value {
    words: [u64; VALUE_CAPACITY / 8],
    length: usize,
}

impl Value {
    fn bytes(&self) -> &[u8] {
        // SAFETY: words are eight bytes each, in the order of the text (the record is little-endian).
        let bytes = unsafe { core::slice::from_raw_parts(self.words.as_ptr().cast(), VALUE_CAPACITY) };
        bytes.get(..self.length).unwrap_or_default()
    }
}

pub(crate) fn set_bytes(key: &[u8], value: &[u8]) -> Result<(), Dropped> {
    if key.is_empty() || key.len() > KEY_CAPACITY {
        return counted(Dropped::Key);
    }
    start_clock(header());
    let hash = hash_of(key);
    for _ in 0..ATTEMPTS {
        match find(key, hash) {
            Found::Slot(slot, word) | Found::Free(slot, word) => {
                if write(slot, word, hash, key, value) {
                    return Ok(());
                }
            }
            Found::Busy => return counted(Dropped::Busy),
            Found::Full => return counted(Dropped::Full),
        }
    }
    counted(Dropped::Busy)
}

pub(crate) fn remove_bytes(key: &[u8]) -> Result<(), Dropped> {
    let hash = hash_of(key);
    for _ in 0..ATTEMPTS {
        match find(key, hash) {
            // There may be a second slot with this key (see `find`): look until there is none.
            Found::Slot(slot, word) => {
                write(slot, word, 0, &[], &[]);
            }
            Found::Busy => return counted(Dropped::Busy),
            Found::Free(..) | Found::Full => return Ok(()),
        }
    }
    counted(Dropped::Busy)
}

/// One copy of the loop for all its users.
#[inline(never)]
fn hash_of(key: &[u8]) -> u32 {
    key_hash(key)
}

fn counted(reason: Dropped) -> Result<(), Dropped> {
    header().count_dropped();
    Err(reason)
}

/// A slot: its word of the directory and its two copies.
#[derive(Clone, Copy)]
struct Slot {
    word: &'static AtomicU64,
    copies: &'static [Copy; 2],
}

enum Found {
    /// The key's own slot, and its word as it was read.
    Slot(Slot, u64),
    /// The key has none; this one is free.
    Free(Slot, u64),
    /// A key with this hash is being written.
    Busy,
    /// The key has none, and none is free.
    Full,
}

/// The slot for a key. Two threads that set a new key at once may come to two slots, when a third removes another key
/// between their searches; readers take the later write, later writes go to the first slot, and removal empties both.
#[inline(never)]
fn find(key: &[u8], hash: u32) -> Found {
    let mut free = None;
    for (word, copies) in SPACE.directory.iter().zip(&SPACE.annotations) {
        let slot = Slot { word, copies };
        let now = word.load(Ordering::Acquire);
        let writing = now & 1 != 0;
        match (now >> 32) as u32 {
            other if other == hash && writing => return Found::Busy,
            other if other == hash && has_key(slot.current(now), key) => return Found::Slot(slot, now),
            0 if !writing && free.is_none() => free = Some((slot, now)),
            _ => {}
        }
    }
    match free {
        Some((slot, word)) => Found::Free(slot, word),
        None => Found::Full,
    }
}

impl Slot {
    /// The copy that holds the complete version.
    fn current(&self, word: u64) -> &'static Copy {
        let [first, second] = self.copies;
        if word & 2 == 0 { first } else { second }
    }

    /// The other one.
    fn other(&self, word: u64) -> &'static Copy {
        self.current(word ^ 2)
    }
}

/// Whether the copy's key is this one. It may change meanwhile: who acts on the answer does so with a compare-exchange.
#[inline(never)]
fn has_key(copy: &Copy, key: &[u8]) -> bool {
    let [_, second, ..] = copy;
    let length = usize::from((second.load(Ordering::Relaxed) >> 48) as u8);
    let mut stored = copy.get(KEY_WORD..VALUE_WORD).unwrap_or_default().iter();
    let mut same = length == key.len();
    each_word(key, |word| same &= stored.next().is_some_and(|stored| stored.load(Ordering::Relaxed) == word));
    same
}

/// Writes the slot, unless it has changed since its word was read. An empty key is a removal.
#[inline(never)]
fn write(slot: Slot, word: u64, hash: u32, key: &[u8], value: &[u8]) -> bool {
    let sequence = word as u32;
    let owner = if hash == 0 { word >> 32 } else { hash.into() };
    let claimed = owner << 32 | u64::from(sequence | 1);
    if slot.word.compare_exchange(word, claimed, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return false;
    }
    let (kept, flags) = fitting(value, VALUE_CAPACITY);
    let stamp = STAMP.fetch_add(1, Ordering::Relaxed);
    let fields = u64::from(stamp) | (kept.len() as u64) << 32 | (key.len() as u64) << 48 | u64::from(flags) << 56;
    let check = check(&[fields], key, kept);
    let copy = slot.other(word);
    let [first, second, rest @ ..] = copy;
    first.store(check, Ordering::Relaxed);
    second.store(fields, Ordering::Relaxed);
    store(rest, key);
    store(copy.get(VALUE_WORD..).unwrap_or_default(), kept);
    // Version 0 means "nothing yet": after the last version comes 2, which is in the same copy as 0 would be.
    let next = match sequence.wrapping_add(2) {
        0 => 4,
        next => next,
    };
    slot.word.store(u64::from(hash) << 32 | u64::from(next), Ordering::Release);
    true
}

/// Reads a key's value; false if it has none or it changes too fast.
#[inline(never)]
fn read(key: &[u8], value: &mut Value) -> bool {
    let hash = hash_of(key);
    for _ in 0..ATTEMPTS {
        let Found::Slot(slot, word) = find(key, hash) else { return false };
        let copy = slot.current(word);
        let [_, fields, ..] = copy;
        value.length = usize::from((fields.load(Ordering::Relaxed) >> 32) as u16);
        for (to, from) in value.words.iter_mut().zip(copy.iter().skip(VALUE_WORD).take(value.length.div_ceil(8))) {
            *to = from.load(Ordering::Relaxed);
        }
        fence(Ordering::Acquire);
        if slot.word.load(Ordering::Relaxed) == word {
            return true;
        }
    }
    false
}

/// As if nothing had been set yet; the record is reset by itself.
#[cfg(aftermach_model)]
pub(crate) fn reset() {
    STAMP.store(0, Ordering::Relaxed);
}
