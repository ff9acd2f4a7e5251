//! The arithmetic that writer and reader of a record share.

/// FNV-1a's 64-bit offset basis and prime (draft-eastlake-fnv), used on whole words: one multiplication for eight bytes.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The check over a slot's words, as it grows.
#[derive(Debug, Clone, Copy)]
pub struct Check(u64);

// What the client calls is inlined into it: a call into another crate, which might unwind for all that the compiler knows,
// would cost a C program the whole of Rust's unwinding.
impl Check {
    /// Of these words.
    #[inline]
    pub fn of(words: &[u64]) -> Check {
        let mut check = Check(BASIS);
        for &word in words {
            check.add(word);
        }
        check
    }

    /// Of these words and then this text, padded with zeros to whole words.
    #[inline]
    pub fn with_text(mut self, text: &[u8]) -> Check {
        each_word(text, |word| self.add(word));
        self
    }

    /// The number. Never 0, so that zero-filled memory does not pass for a written slot.
    #[inline]
    pub const fn value(self) -> u64 {
        if self.0 == 0 { 1 } else { self.0 }
    }

    #[inline]
    const fn add(&mut self, word: u64) {
        // The rotation carries high bits down: multiplication alone never would.
        self.0 = (self.0 ^ word).wrapping_mul(PRIME).rotate_left(23);
    }
}

/// Calls `take` with each word of `text`, the last one padded with zeros.
#[inline]
pub fn each_word(text: &[u8], mut take: impl FnMut(u64)) {
    let (words, rest) = text.as_chunks();
    for word in words {
        take(u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(rest) {
            *to = *from;
        }
        take(u64::from_le_bytes(word));
    }
}

/// A key's hash, as the directory holds it. Never 0: that marks a free slot.
#[inline]
pub const fn key_hash(key: &[u8]) -> u32 {
    let mut hash = BASIS;
    let mut rest = key;
    while let [byte, tail @ ..] = rest {
        hash = (hash ^ *byte as u64).wrapping_mul(PRIME);
        rest = tail;
    }
    let folded = (hash ^ (hash >> 32)) as u32;
    if folded == 0 { 1 } else { folded }
}

/// The longest start of `text` that fits in `capacity` bytes without splitting a UTF-8 character.
#[inline]
pub fn cut(text: &[u8], capacity: usize) -> &[u8] {
    let Some(head) = text.get(..capacity) else { return text };
    // A character's first byte is within four of its end; where there is none it was not UTF-8, and is cut where it falls.
    let splits = text.get(capacity).is_some_and(|next| next & 0xC0 == 0x80);
    if !splits {
        return head;
    }
    let start = head.iter().rev().take(4).position(|byte| byte & 0xC0 != 0x80);
    match start.and_then(|back| head.get(..capacity - back - 1)) {
        Some(whole) => whole,
        None => head,
    }
}
