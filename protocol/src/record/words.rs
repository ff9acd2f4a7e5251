//! The arithmetic that writer and reader of a record share.

/// FNV-1a's 64-bit offset basis and prime (draft-eastlake-fnv), used on whole words: one multiplication for eight bytes.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The check over a slot's words. Never 0, so that zero-filled memory does not pass for a written slot.
pub fn check_words(words: impl IntoIterator<Item = u64>) -> u64 {
    let mut hash = BASIS;
    for word in words {
        // The rotation carries high bits down: multiplication alone never would.
        hash = (hash ^ word).wrapping_mul(PRIME).rotate_left(23);
    }
    if hash == 0 { 1 } else { hash }
}

/// A key's hash, as the directory holds it. Never 0: that marks a free slot.
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
