use super::*;

fn registers() -> X86_64Registers {
    X86_64Registers {
        rax: 0x1000,
        rcx: 0x2000,
        rdx: 0x3000,
        rbx: 0x4000,
        rsp: 0x5000,
        rbp: 0x6000,
        rsi: 0x7000,
        rdi: 0x8000,
        r8: 0x9000,
        r9: 0xa000,
        r10: 0xb000,
        r11: 0xc000,
        r12: 0xd000,
        r13: 0xe000,
        r14: 0xf000,
        r15: 0x1_0000,
        rip: 0x40_0000,
        fs_base: 0x70_0000,
        gs_base: 0x80_0000,
        ..X86_64Registers::default()
    }
}

fn cases() -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let lines = include_str!("cases.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (left, effect) = line.split_once('#').unwrap();
            let (hex, instruction) = left.trim().split_once(' ').unwrap();
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            ((0..hex.len()).step_by(2).map(byte).collect(), instruction.trim(), effect.trim())
        })
        .collect()
}

fn words(effect: &Effect) -> String {
    match effect {
        Effect::Access { access, address, alignment } => {
            let verb = match access {
                Some(Access::Write) => "write",
                Some(_) => "read",
                None => "both",
            };
            format!("{verb} {:#x}{}", address.unwrap(), if alignment.is_some() { " aligned" } else { "" })
        }
        Effect::Jump { target } => format!("jump {:#x}", target.unwrap()),
        Effect::Divide { divisor: Divisor::Value(value) } => format!("divide by {value:#x}"),
        Effect::Divide { divisor: Divisor::Memory { address, size } } => {
            format!("divide by {size} bytes at {address:#x}")
        }
        Effect::Divide { divisor: Divisor::Unknown } => unreachable!(),
        Effect::Copy { from, to } => format!("copy {:#x} to {:#x}", from.unwrap(), to.unwrap()),
        Effect::Return => "return".to_owned(),
        Effect::Trap => "trap".to_owned(),
        Effect::Privileged => "privileged".to_owned(),
        Effect::Unknown => "unknown".to_owned(),
    }
}

#[test]
fn each_instruction_does_what_the_manual_says() {
    let cases = cases();
    assert!(cases.len() > 80);
    for (bytes, instruction, effect) in cases {
        // What follows must not matter.
        for filler in [0x00, 0x90, 0xff] {
            let mut text = bytes.clone();
            text.resize(16, filler);
            assert_eq!(words(&decode(&text, Some(&registers()))), effect, "{instruction}");
        }
    }
}

#[test]
fn without_registers_only_the_addresses_are_unknown() {
    for (bytes, instruction, effect) in cases() {
        let Effect::Access { access, address, .. } = decode(&bytes, None) else { continue };
        assert_eq!(address, None, "{instruction}");
        assert_eq!(access == Some(Access::Write), effect.starts_with("write"), "{instruction}");
    }
}

#[test]
fn an_instruction_that_is_cut_off_is_unknown() {
    for (bytes, instruction, _) in cases() {
        // The immediate is the one part that the effect does not need.
        if let Effect::Access { .. } | Effect::Divide { .. } = decode(&bytes, None) {
            assert_eq!(decode(&bytes[..1], None), if bytes.len() == 1 { decode(&bytes, None) } else { cut(&bytes) });
        }
        assert_eq!(decode(&[], None), Effect::Unknown, "{instruction}");
    }
}

/// push with an immediate and call need only their opcode.
fn cut(bytes: &[u8]) -> Effect {
    if matches!(bytes[0], 0x6a | 0xe8) { decode(bytes, None) } else { Effect::Unknown }
}

#[test]
fn no_bytes_make_it_panic() {
    // Every pair of first bytes, before bytes that mean many things.
    for first in 0..=u16::MAX {
        for rest in [[0x00; 14], [0xff; 14], [0x84; 14], [0x66; 14], [0x05; 14]] {
            let mut bytes = first.to_be_bytes().to_vec();
            bytes.extend(rest);
            for length in [2, 3, 5, 16] {
                decode(&bytes[..length], Some(&registers()));
            }
        }
    }
}
