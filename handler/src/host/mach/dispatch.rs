//! The label of the dispatch queue that a thread serves.
//!
//! libdispatch exports where its queues keep their parts (`dispatch_queue_offsets`, `private/layout_private.h`) so that
//! debuggers need not know a release's layout.

/// Where a queue keeps its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueLayout {
    label: u16,
}

/// Bytes of a label that are read: labels are reverse-DNS names. What is longer is cut.
const LABEL_LIMIT: usize = 256;
/// Bytes of a pointer, and so of the label field: with any other size the table is of another kind.
const POINTER: u16 = 8;

impl QueueLayout {
    /// Reads the exported table: version, then offset and size of the label. Versions only ever added fields at the end.
    pub(super) fn decode(table: &[u16]) -> Option<QueueLayout> {
        match table {
            [1..=u16::MAX, label, POINTER, ..] if *label < 4096 => Some(QueueLayout { label: *label }),
            _ => None,
        }
    }

    /// The label of the queue whose pointer lies at `slot` (`dispatch_qaddr`: the *address* of the thread's own variable).
    /// `None` for a thread that serves no queue, an unnamed queue, and memory that can't be read.
    pub(super) fn label(&self, slot: u64, mut read: impl FnMut(u64, &mut [u8]) -> usize) -> Option<String> {
        let queue = pointer(slot, &mut read)?;
        let label = pointer(queue.checked_add(self.label.into())?, &mut read)?;
        let mut text = [0; LABEL_LIMIT];
        let length = read(label, &mut text).min(LABEL_LIMIT);
        let end = text[..length].iter().position(|byte| *byte == 0).unwrap_or(length);
        (end > 0).then(|| String::from_utf8_lossy(&text[..end]).into_owned())
    }
}

fn pointer(address: u64, read: &mut impl FnMut(u64, &mut [u8]) -> usize) -> Option<u64> {
    let mut bytes = [0; POINTER as usize];
    if address == 0 || read(address, &mut bytes) < bytes.len() {
        return None;
    }
    Some(u64::from_le_bytes(bytes)).filter(|pointer| *pointer != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 6: label at 72, 8 bytes; flags, serial number and so on after it.
    const TABLE: [u16; 17] = [6, 72, 8, 8, 4, 64, 8, 0, 0, 0, 0, 0, 0, 24, 8, 0, 0];

    fn memory(label: &[u8]) -> impl FnMut(u64, &mut [u8]) -> usize + use<> {
        let label = label.to_vec();
        move |address, buffer| {
            let bytes: &[u8] = match address {
                0x1000 => &0x2000u64.to_le_bytes(),
                0x2048 => &0x3000u64.to_le_bytes(),
                0x3000 => &label,
                0x1008 => &0u64.to_le_bytes(),
                0x1010 => &u64::MAX.to_le_bytes(),
                _ => return 0,
            };
            let count = bytes.len().min(buffer.len());
            buffer[..count].copy_from_slice(&bytes[..count]);
            count
        }
    }

    #[test]
    fn the_label_is_found_through_the_thread_slot_and_the_queue() {
        let layout = QueueLayout::decode(&TABLE).unwrap();
        assert_eq!(
            layout.label(0x1000, memory(b"com.apple.main-thread\0zz")).as_deref(),
            Some("com.apple.main-thread")
        );
    }

    #[test]
    fn a_thread_without_queue_and_pointers_into_nowhere_have_no_label() {
        let layout = QueueLayout::decode(&TABLE).unwrap();
        for slot in [0, 0x1008, 0x1010, 0x9999] {
            assert_eq!(layout.label(slot, memory(b"x\0")), None);
        }
        assert_eq!(layout.label(0x1000, memory(b"\0")), None);
    }

    #[test]
    fn a_label_without_end_is_cut() {
        let layout = QueueLayout::decode(&TABLE).unwrap();
        assert_eq!(layout.label(0x1000, memory(&[b'a'; 5000])).unwrap().len(), LABEL_LIMIT);
        // One that ends with its page is whole.
        assert_eq!(layout.label(0x1000, memory(b"abc")).as_deref(), Some("abc"));
    }

    #[test]
    fn a_table_of_another_kind_is_not_used() {
        for table in [&[][..], &[6], &[0, 72, 8], &[6, 72, 4, 0], &[6, 65_000, 8]] {
            assert_eq!(QueueLayout::decode(table), None);
        }
    }
}
