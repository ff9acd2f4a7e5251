//! Fields in an array of 32-bit words, by byte offset: how Mach gives its structures out.

/// The words that a call filled in.
#[derive(Clone, Copy)]
pub(super) struct Words<'a>(pub(super) &'a [u32]);

impl Words<'_> {
    /// The word at a byte offset that is a multiple of four.
    pub(super) fn u32(&self, offset: usize) -> Option<u32> {
        self.0.get(offset / 4).copied()
    }

    pub(super) fn i32(&self, offset: usize) -> Option<i32> {
        self.u32(offset).map(|word| word as i32)
    }

    /// Two words, the lower first.
    pub(super) fn u64(&self, offset: usize) -> Option<u64> {
        Some(u64::from(self.u32(offset)?) | u64::from(self.u32(offset + 4)?) << 32)
    }

    pub(super) fn u16(&self, offset: usize) -> Option<u16> {
        self.u32(offset).map(|word| (word >> (8 * (offset % 4))) as u16)
    }

    pub(super) fn u8(&self, offset: usize) -> Option<u8> {
        self.u32(offset).map(|word| (word >> (8 * (offset % 4))) as u8)
    }

    /// Bytes from `start` to `end`; fewer if the words end before.
    pub(super) fn bytes(&self, start: usize, end: usize) -> Vec<u8> {
        let bytes = self.0.iter().flat_map(|word| word.to_le_bytes());
        bytes.take(end).skip(start).collect()
    }
}

/// A C string in a fixed field: up to its NUL, or all of it.
pub(super) fn c_string(field: &[u8]) -> String {
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_at_their_byte_offsets() {
        let words = Words(&[0x4433_2211, 0x8877_6655, 0xCCBB_AA99]);
        assert_eq!(words.u32(4), Some(0x8877_6655));
        assert_eq!(words.u64(4), Some(0xCCBB_AA99_8877_6655));
        assert_eq!(words.u16(2), Some(0x4433));
        assert_eq!(words.u8(7), Some(0x88));
        assert_eq!(words.bytes(3, 6), [0x44, 0x55, 0x66]);
        assert_eq!(words.u64(8), None);
        assert_eq!(words.u32(12), None);
        assert_eq!(words.bytes(8, 100).len(), 4);
    }

    #[test]
    fn a_string_ends_at_its_nul_or_with_its_field() {
        assert_eq!(c_string(b"main\0rest"), "main");
        assert_eq!(c_string(b"full"), "full");
        assert_eq!(c_string(b""), "");
        assert_eq!(c_string(b"\xFF\0"), "\u{FFFD}");
    }
}
