use super::*;
use crate::message::{MAX_REQUEST_SIZE, Received};

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

const HEADER: Header =
    Header { bits: 0x1112, size: 0, remote: PortName(0x1503), local: PortName(0x0A0B), voucher: PortName::NULL, id: 0 };
const PORTS: Subject = Subject::Ports { thread: PortName(0x2203), task: PortName(0x1F07) };
const IDENTITY: Subject = Subject::Identity { token: PortName(0x2503), thread_id: 0x0012_3456_789A_BCDE };
const EXCEPTION: MachException = MachException { kind: 10, codes: [0x0B10_0001, 0x7FF8_1234_5678_9ABC] };

fn request(subject: Subject, width: CodeWidth, state_words: Option<usize>) -> Request {
    let state = state_words.map(|count| State { flavor: 6, words: (0..count as u32).collect() });
    let mut exception = EXCEPTION;
    if width == CodeWidth::Bits32 {
        exception.codes = exception.codes.map(|code| code & 0xFFFF_FFFF);
    }
    Request { header: HEADER, subject, exception, width, state }
}

/// Message 2405 word by word, from the layout that MIG's output for `mach_exc.defs` has on both CPUs.
const RAISE: [u32; 21] = [
    0x8000_1112,
    84,
    0x1503,
    0x0A0B,
    0,
    2405,
    2, // descriptors
    0x2203,
    0,
    0x0011_0000, // thread: move send
    0x1F07,
    0,
    0x0011_0000, // task
    0,
    1, // NDR
    10,
    2, // exception, code count
    0x0B10_0001,
    0, // at byte 68: not aligned to 8
    0x5678_9ABC,
    0x7FF8_1234,
];

/// Message 2408: one descriptor, and the thread id before the exception.
const RAISE_PROTECTED: [u32; 20] = [
    0x8000_1112,
    80,
    0x1503,
    0x0A0B,
    0,
    2408,
    1,
    0x2503,
    0,
    0x0011_0000,
    0,
    1,
    0x789A_BCDE,
    0x0012_3456,
    10,
    2,
    0x0B10_0001,
    0,
    0x5678_9ABC,
    0x7FF8_1234,
];

/// Message 2402: no descriptors, 32-bit codes, then flavour, count and state.
const RAISE_STATE_32: [u32; 17] =
    [0x1112, 68, 0x1503, 0x0A0B, 0, 2402, 0, 1, 10, 2, 0x0B10_0001, 0x5678_9ABC, 6, 3, 0, 1, 2];

fn with_id(request: Request, bytes: &[u8]) -> Request {
    Request { header: Header::decode(bytes).unwrap(), ..request }
}

#[test]
fn message_2405_is_these_bytes_both_ways() {
    let bytes = words(&RAISE);
    let value = request(PORTS, CodeWidth::Bits64, None);
    assert_eq!(Request::decode(&bytes), Ok(with_id(value.clone(), &bytes)));
    assert_eq!(value.encode(), Some(bytes));
}

#[test]
fn message_2408_is_these_bytes_both_ways() {
    let bytes = words(&RAISE_PROTECTED);
    let value = request(IDENTITY, CodeWidth::Bits64, None);
    assert_eq!(Request::decode(&bytes), Ok(with_id(value.clone(), &bytes)));
    assert_eq!(value.encode(), Some(bytes));
}

#[test]
fn message_2402_is_these_bytes_both_ways() {
    let bytes = words(&RAISE_STATE_32);
    let value = request(Subject::Nobody, CodeWidth::Bits32, Some(3));
    assert_eq!(Request::decode(&bytes), Ok(with_id(value.clone(), &bytes)));
    assert_eq!(value.encode(), Some(bytes));
}

#[test]
fn every_message_has_the_id_and_size_that_mig_gives_it() {
    // id, subject, width, bytes without state words, whether it has a state, largest size
    let table = [
        (2401, PORTS, CodeWidth::Bits32, 76, false, 76),
        (2402, Subject::Nobody, CodeWidth::Bits32, 56, true, 5240),
        (2403, PORTS, CodeWidth::Bits32, 84, true, 5268),
        (2405, PORTS, CodeWidth::Bits64, 84, false, 84),
        (2406, Subject::Nobody, CodeWidth::Bits64, 64, true, 5248),
        (2407, PORTS, CodeWidth::Bits64, 92, true, 5276),
        (2408, IDENTITY, CodeWidth::Bits64, 80, false, 80),
        (2410, IDENTITY, CodeWidth::Bits64, 88, true, 5272),
    ];
    for (id, subject, width, bare, with_state, largest) in table {
        for count in [0, 42, 68, 1296] {
            let state = with_state.then_some(count);
            let value = request(subject, width, state);
            let bytes = value.encode().unwrap();
            let expected = if with_state { bare + 4 * count } else { bare };
            assert_eq!(bytes.len(), expected, "{id} with {count} words");
            let decoded = Request::decode(&bytes).unwrap();
            assert_eq!(decoded.header.id, id);
            assert_eq!(decoded, with_id(value, &bytes));
            assert!(bytes.len() <= largest && largest <= MAX_REQUEST_SIZE);
        }
    }
}

#[test]
fn no_message_has_identity_with_32_bit_codes_or_nobody_without_state() {
    assert_eq!(request(IDENTITY, CodeWidth::Bits32, None).encode(), None);
    assert_eq!(request(Subject::Nobody, CodeWidth::Bits64, None).encode(), None);
    assert_eq!(request(PORTS, CodeWidth::Bits64, Some(1297)).encode(), None);
}

#[test]
fn a_dead_or_null_port_is_a_value() {
    let mut raw = RAISE;
    raw[7] = 0xFFFF_FFFF;
    raw[10] = 0;
    let subject = Request::decode(&words(&raw)).unwrap().subject;
    assert_eq!(subject, Subject::Ports { thread: PortName::DEAD, task: PortName::NULL });
}

#[test]
fn extra_bits_of_vouchers_and_importance_are_borne() {
    let mut raw = RAISE;
    raw[0] |= 0x2011_0000;
    raw[4] = 0x3303;
    let header = Request::decode(&words(&raw)).unwrap().header;
    assert_eq!(header.voucher_disposition(), Disposition::SEND);
    assert_eq!(header.remote_disposition(), Disposition::SEND_ONCE);
    assert_eq!(header.local_disposition(), Disposition::SEND);
}

#[test]
fn counts_other_than_two_are_refused() {
    for count in [0, 1, 3, 4, 0x8000_0002, u32::MAX] {
        for (base, index) in [(&RAISE[..], 16), (&RAISE_PROTECTED[..], 15), (&RAISE_STATE_32[..], 9)] {
            let mut raw = base.to_vec();
            raw[index] = count;
            assert_eq!(Request::decode(&words(&raw)), Err(Refusal::Codes(count)));
        }
    }
}

#[test]
fn a_message_with_one_code_that_is_honest_about_its_size_is_refused_as_such() {
    let mut raw = RAISE[..19].to_vec();
    raw[1] = 76;
    raw[16] = 1;
    assert_eq!(Request::decode(&words(&raw)), Err(Refusal::Codes(1)));
}

#[test]
fn misdescribed_messages_are_refused() {
    let refused = |base: &[u32], index: usize, word: u32, refusal: Refusal| {
        let mut raw = base.to_vec();
        raw[index] = word;
        assert_eq!(Request::decode(&words(&raw)), Err(refusal), "word {index} = {word:#x}");
    };
    refused(&RAISE, 0, 0x1112, Refusal::Complex(false));
    refused(&RAISE_STATE_32, 0, 0x8000_1112, Refusal::Complex(true));
    refused(&RAISE, 6, 1, Refusal::Descriptors(1));
    refused(&RAISE, 6, u32::MAX, Refusal::Descriptors(u32::MAX));
    refused(&RAISE, 9, 0x0012_0000, Refusal::Descriptor { kind: 0, disposition: 18 });
    refused(&RAISE, 12, 0x0111_0000, Refusal::Descriptor { kind: 1, disposition: 17 });
    refused(&RAISE, 14, 0, Refusal::NotLittleEndian);
    refused(&RAISE, 5, 2404, Refusal::Id(2404));
    refused(&RAISE, 5, 2409, Refusal::Id(2409));
    refused(&RAISE, 5, 2411, Refusal::Id(2411));
    refused(&RAISE, 1, 80, Refusal::Size { says: 80, expected: 84 });
    refused(&RAISE_STATE_32, 13, 1297, Refusal::StateWords(1297));
    refused(&RAISE_STATE_32, 13, 2, Refusal::Size { says: 68, expected: 64 });
    refused(&RAISE_STATE_32, 13, 4, Refusal::Short { needs: 72, has: 68 });
}

#[test]
fn short_and_long_messages_are_refused() {
    for base in [&RAISE[..], &RAISE_PROTECTED[..], &RAISE_STATE_32[..]] {
        let bytes = words(base);
        for length in 0..bytes.len() {
            let mut cut = bytes[..length].to_vec();
            assert!(Request::decode(&cut).is_err(), "says more than it has");
            if length >= 8 {
                cut[4..8].copy_from_slice(&(length as u32).to_le_bytes());
                assert!(Request::decode(&cut).is_err(), "{length} honest bytes");
            }
        }
        let mut long = bytes;
        long.extend([0; 4]);
        let length = long.len() as u32;
        long[4..8].copy_from_slice(&length.to_le_bytes());
        assert!(Request::decode(&long).is_err());
    }
}

#[test]
fn a_received_message_is_divided_from_its_trailer_at_the_next_word() {
    let mut buffer = words(&RAISE);
    buffer.extend(words(&[0, 52, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
    buffer.extend([0xEE; 100]);
    let received = Received::split(&buffer).unwrap();
    assert_eq!(received.message.len(), 84);
    assert!(received.trailer.from_kernel());

    // A user's message may have any size: its trailer is still at a multiple of four.
    let mut odd = words(&RAISE[..7]);
    odd[4] = 26;
    odd.extend(words(&[0, 52, 0, 0, 1, 0, 0, 0, 0, 0, 9, 0, 0]));
    let received = Received::split(&odd).unwrap();
    assert_eq!(received.message.len(), 26);
    assert_eq!(received.trailer.audit.unwrap().pid(), 9);
}

#[test]
fn a_size_beyond_the_buffer_or_below_the_header_is_refused() {
    let mut buffer = words(&RAISE);
    buffer[4..8].copy_from_slice(&85u32.to_le_bytes());
    assert_eq!(Received::split(&buffer), Err(Refusal::Short { needs: 85, has: 84 }));
    buffer[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(Received::split(&buffer).is_err());
    buffer[4..8].copy_from_slice(&23u32.to_le_bytes());
    assert_eq!(Received::split(&buffer), Err(Refusal::Size { says: 23, expected: 24 }));
}

#[test]
fn a_message_that_is_sent_on_copies_its_rights_and_is_otherwise_as_the_kernel_would_send_it() {
    let header = Header { bits: 0x8011_1112, remote: PortName(0x1503), voucher: PortName(0x99), ..Header::default() };
    let subject = Subject::Ports { thread: PortName(0x1203), task: PortName(0x1307) };
    let exception = MachException { kind: 1, codes: [2, 0x1_0000_0010] };
    let request = Request { header, subject, exception, width: CodeWidth::Bits64, state: None };
    let bytes = request.encode_to(PortName(0x2203), PortName(0x2303)).unwrap();
    #[rustfmt::skip]
    let expected = [
        0x13, 0x15, 0, 0x80,  84, 0, 0, 0,  0x03, 0x22, 0, 0,  0x03, 0x23, 0, 0,  0, 0, 0, 0,  0x65, 0x09, 0, 0,
        2, 0, 0, 0,
        0x03, 0x12, 0, 0,  0, 0, 0, 0,  0, 0, 19, 0,
        0x07, 0x13, 0, 0,  0, 0, 0, 0,  0, 0, 19, 0,
        0, 0, 0, 0, 1, 0, 0, 0,
        1, 0, 0, 0,  2, 0, 0, 0,
        2, 0, 0, 0, 0, 0, 0, 0,  0x10, 0, 0, 0, 1, 0, 0, 0,
    ];
    assert_eq!(bytes, expected);

    let token = Subject::Identity { token: PortName(0x1403), thread_id: 7 };
    let protected = Request { subject: token, ..request.clone() }.encode_to(PortName(1), PortName(2)).unwrap();
    assert_eq!((protected.len(), protected[20], protected[38]), (80, 0x68, 19));
    let narrow = Request { width: CodeWidth::Bits32, ..request.clone() }.encode_to(PortName(1), PortName(2)).unwrap();
    // The codes are cut, as `exception_deliver` does it.
    assert_eq!((narrow.len(), narrow[20], &narrow[68..]), (76, 0x61, &[2, 0, 0, 0, 0x10, 0, 0, 0][..]));
    let state = Some(State { flavor: 7, words: vec![5; 44] });
    let nobody = Request { subject: Subject::Nobody, state, ..request }.encode_to(PortName(1), PortName(2)).unwrap();
    assert_eq!((nobody.len(), nobody[3], nobody[20]), (64 + 4 * 44, 0, 0x66));
}
