//! Whatever the bytes, the codec answers with a value or a refusal, and a value says what the bytes said.

use super::*;
use crate::exception::MachException;

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// A value that was read must be written back as the same bytes, apart from those that carry nothing (paddings of
/// descriptors and of the NDR record).
fn check(buffer: &[u8]) -> bool {
    let Ok(received) = Received::split(buffer) else { return false };
    let _reply = Reply::decode(received.message);
    let _answer = decode_check_in_reply(received.message);
    match received.contents() {
        Ok(Contents::Exception(request)) => {
            let again = request.encode().unwrap();
            assert_eq!(again.len(), received.message.len());
            assert_eq!(Request::decode(&again), Ok(request));
            true
        }
        Ok(Contents::Notification(notification)) => {
            let again = notification.encode(received.header.local);
            assert_eq!(Notification::decode(&again), Ok(notification));
            true
        }
        Ok(Contents::CheckIn(request)) => {
            // The kernel turns what a sender copies into what a receiver owns.
            let mut again = request.encode(PortName::NULL, PortName::NULL);
            for index in 0..MAX_PREVIOUS {
                again[38 + 12 * index] = Disposition::SEND.0;
            }
            let again = CheckIn::decode(&again);
            assert!(again == Ok(request) || request.version != CHECK_IN_VERSION);
            true
        }
        // It has its own round trip.
        Ok(Contents::Dump(_)) => true,
        Err(_) => false,
    }
}

fn check_in(random: &mut Random) -> Vec<u8> {
    let row = Previous { port: PortName(random.next() as u32), mask: random.next() as u32, ..Previous::default() };
    let request = CheckIn { version: CHECK_IN_VERSION, previous: [row; MAX_PREVIOUS] };
    let mut bytes = request.encode(PortName(random.next() as u32), PortName(random.next() as u32));
    for index in 0..MAX_PREVIOUS {
        bytes[38 + 12 * index] = Disposition::SEND.0;
    }
    bytes
}

fn valid(random: &mut Random) -> Vec<u8> {
    if random.below(8) == 0 {
        return check_in(random);
    }
    let subjects = [
        Subject::Nobody,
        Subject::Ports { thread: PortName(random.next() as u32), task: PortName(random.next() as u32) },
        Subject::Identity { token: PortName(random.next() as u32), thread_id: random.next() },
    ];
    loop {
        let width = [CodeWidth::Bits32, CodeWidth::Bits64][random.below(2)];
        let words = random.below(MAX_STATE_WORDS as usize + 1);
        let state = State { flavor: random.next() as i32, words: (0..words).map(|_| random.next() as u32).collect() };
        let exception = MachException { kind: random.next() as u32, codes: [random.next(), random.next()] };
        let request = Request {
            header: Header { bits: 0x1112, remote: PortName(random.next() as u32), ..Header::default() },
            subject: subjects[random.below(3)],
            exception,
            width,
            state: (random.below(2) == 0).then_some(state),
        };
        if let Some(bytes) = request.encode() {
            return bytes;
        }
    }
}

#[test]
fn random_bytes_are_a_value_or_a_refusal() {
    let mut random = Random(1);
    for _ in 0..20_000 {
        let length = random.below(256);
        let mut bytes = random.bytes(length);
        check(&bytes);
        // The same with a header that gets past the first checks.
        if length >= Header::SIZE {
            bytes[4..8].copy_from_slice(&(length as u32).to_le_bytes());
            let ours = [dump_message::REQUEST_ID, CHECK_IN_ID, CHECK_IN_REPLY_ID];
            let ids = [65, 66, 69, 70, 71, 72, 2401, 2402, 2403, 2405, 2406, 2407, 2408, 2410].iter().chain(&ours);
            let ids: Vec<i32> = ids.copied().collect();
            let id = ids[random.below(ids.len())];
            bytes[20..24].copy_from_slice(&i32::to_le_bytes(id));
            check(&bytes);
        }
    }
}

#[test]
fn damaged_messages_are_a_value_or_a_refusal_and_undamaged_ones_a_value() {
    let mut random = Random(2);
    for _ in 0..5_000 {
        let mut bytes = valid(&mut random);
        assert!(check(&bytes));
        for _ in 0..=random.below(4) {
            // Mostly in the part that decides how the rest is read.
            let place = random.below(bytes.len().min(100));
            bytes[place] = random.next() as u8;
        }
        check(&bytes);
        bytes.truncate(random.below(bytes.len() + 1));
        check(&bytes);
    }
}

#[test]
fn any_trailer_is_read_without_complaint() {
    let mut random = Random(3);
    for _ in 0..20_000 {
        let length = random.below(100);
        let mut bytes = random.bytes(length);
        if length >= 8 && random.below(2) == 0 {
            bytes[..4].fill(0);
            bytes[4..8].copy_from_slice(&(random.below(100) as u32).to_le_bytes());
        }
        let _trailer = Trailer::decode(&bytes);
    }
}
