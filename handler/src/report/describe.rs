//! What happened, as the part of a sentence that comes after "died of SIGSEGV:".
//!
//! Nothing is said that is not known: a fault whose direction is not known "accessed" its address.

use aftermach_protocol::report::{Access, ExceptionKind};

use super::cause::Cause;
use super::instruction::{Divisor, Effect};
use super::scene::{Scene, mapping_name};

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Description {
    /// For programs.
    pub(super) kind: ExceptionKind,
    /// The address whose access failed, as the system says.
    pub(super) address: Option<u64>,
    /// The address that the instruction was about to access, where the system does not say.
    pub(super) computed_address: Option<u64>,
    /// How it was accessed.
    pub(super) access: Option<Access>,
    /// For people: "wrote to unmapped address 0x1337". Empty where the kind says it all.
    pub(super) phrase: String,
}

impl Description {
    fn new(kind: ExceptionKind, phrase: impl Into<String>) -> Description {
        Description { kind, address: None, computed_address: None, access: None, phrase: phrase.into() }
    }
}

/// Describes `cause`, which happened in `scene`.
pub(super) fn describe(cause: &Cause, scene: &Scene<'_>) -> Description {
    use ExceptionKind as Kind;
    match cause {
        Cause::Memory { address, protected } => memory(*address, *protected, scene),
        Cause::GeneralProtection => general_protection(scene),
        Cause::Backing { address } => {
            let file = scene.region(*address).and_then(mapping_name);
            let phrase = match file {
                Some(file) => format!(
                    "{} address {address:#x} in the mapping of {file}: past the end of the file, or the file could not be read",
                    verb(scene.access(*address).as_ref())
                ),
                None => format!("{} address {address:#x}, whose memory could not be had", {
                    verb(scene.access(*address).as_ref())
                }),
            };
            Description {
                address: Some(*address),
                access: scene.access(*address),
                ..Description::new(Kind::BusError, phrase)
            }
        }
        Cause::Misaligned { address } => {
            let phrase = match address {
                Some(address) => format!("accessed address {address:#x}, which is not aligned"),
                None => "accessed an address that is not aligned".to_owned(),
            };
            Description { address: *address, ..Description::new(Kind::BusError, phrase) }
        }
        Cause::Instruction => match scene.effect() {
            Effect::Trap => {
                Description::new(Kind::IllegalInstruction, "illegal instruction: ud2, which compilers place as a trap")
            }
            Effect::Privileged => Description::new(Kind::IllegalInstruction, "a privileged instruction"),
            _ => Description::new(Kind::IllegalInstruction, "illegal instruction"),
        },
        Cause::Breakpoint => Description::new(Kind::Breakpoint, "breakpoint"),
        Cause::Division => Description::new(Kind::Arithmetic, division(scene)),
        Cause::Float => Description::new(Kind::Arithmetic, "floating-point exception"),
        Cause::SystemCall => Description::new(Kind::BadSystemCall, "a system call that it may not make"),
        Cause::Abort => Description::new(Kind::Abort, ""),
        Cause::Sent(_) | Cause::Terminal => Description::new(Kind::Killed, ""),
        Cause::Limit => Description::new(Kind::ResourceLimit, "a resource limit was reached"),
        Cause::Request => Description::new(Kind::Simulated, ""),
        Cause::Other(detail) => Description::new(Kind::Unknown, detail),
    }
}

fn verb(access: Option<&Access>) -> &'static str {
    match access {
        Some(Access::Read) => "read from",
        Some(Access::Write) => "wrote to",
        Some(Access::Execute) => "jumped to",
        _ => "accessed",
    }
}

fn memory(address: u64, protected: Option<bool>, scene: &Scene<'_>) -> Description {
    let access = scene.access(address);
    let executes = access == Some(Access::Execute);
    // Only a call leaves its return address: a jump's origin is lost.
    let verb = if executes && scene.called { "called" } else { verb(access.as_ref()) };
    let (kind, phrase) = if address == 0 {
        (ExceptionKind::NullPointer, format!("{verb} a null pointer (address 0x0)"))
    } else if address < scene.page_size() {
        (ExceptionKind::NullPointer, format!("{verb} unmapped address {address:#x} (near null)"))
    } else if !executes && scene.is_stack_overflow(address) {
        (ExceptionKind::StackOverflow, format!("stack overflow: {verb} address {address:#x}, past the stack's end"))
    } else {
        (ExceptionKind::BadAccess, place(address, protected, verb, access.as_ref(), scene))
    };
    let kind = if executes { ExceptionKind::BadCall } else { kind };
    Description { address: Some(address), access, ..Description::new(kind, phrase) }
}

/// What the mappings say of an address that is neither null nor the stack's.
fn place(address: u64, protected: Option<bool>, verb: &str, access: Option<&Access>, scene: &Scene<'_>) -> String {
    let Some(region) = scene.region(address) else {
        let unmapped = scene.knows_regions() || protected == Some(false);
        return format!("{verb} {}address {address:#x}", if unmapped { "unmapped " } else { "" });
    };
    let of = mapping_name(region).map(|name| format!(" of {name}")).unwrap_or_default();
    let protection = region.protection;
    match access {
        Some(Access::Execute) if !protection.execute => {
            format!("{verb} address {address:#x} in memory{of} that is not executable")
        }
        Some(Access::Write) if protection.read && !protection.write => {
            format!("{verb} read-only memory{of} at address {address:#x}")
        }
        _ if !protection.read && !protection.write && !protection.execute => {
            format!("{verb} address {address:#x} in memory{of} that allows no access")
        }
        Some(Access::Read) if !protection.read => {
            format!("{verb} address {address:#x} in memory{of} that is not readable")
        }
        // The mapping was changed meanwhile, or another mechanism forbade it (protection keys).
        _ => format!(
            "{verb} address {address:#x}{}",
            if protected == Some(true) { ", which was not allowed" } else { "" }
        ),
    }
}

/// Whether no process can have this address: with four-level paging bits 47 to 63 are all the same (Intel SDM volume 1, 3.3.7.1).
/// Addresses that only five-level paging allows count as well: they would not have been refused.
fn is_non_canonical(address: u64) -> bool {
    let sign = (address as i64) >> 47;
    sign != 0 && sign != -1
}

fn general_protection(scene: &Scene<'_>) -> Description {
    let non_canonical = |address: u64, access: Option<Access>, verb: &str| Description {
        computed_address: Some(address),
        access,
        ..Description::new(
            ExceptionKind::NonCanonicalAddress,
            format!("{verb} non-canonical address {address:#x}, which no program can have"),
        )
    };
    if let Some(pc) = scene.pc.filter(|pc| is_non_canonical(*pc)) {
        return non_canonical(pc, Some(Access::Execute), "jumped to");
    }
    match scene.effect() {
        Effect::Access { access, address: Some(address), .. } if is_non_canonical(address) => {
            let verb = verb(access.as_ref());
            non_canonical(address, access, verb)
        }
        Effect::Access { access, address: Some(address), alignment: Some(alignment) } if address % alignment != 0 => {
            let verb = verb(access.as_ref());
            let phrase = format!(
                "{verb} address {address:#x}, which is not aligned to {alignment} bytes as the instruction demands"
            );
            let computed_address = Some(address);
            Description { computed_address, access, ..Description::new(ExceptionKind::BadAccess, phrase) }
        }
        Effect::Jump { target: Some(target) } if is_non_canonical(target) => {
            non_canonical(target, Some(Access::Execute), "jumped to")
        }
        Effect::Return => match scene.top_of_stack() {
            Some(target) if is_non_canonical(target) => non_canonical(target, Some(Access::Execute), "returned to"),
            _ => unexplained(),
        },
        Effect::Privileged => Description::new(ExceptionKind::IllegalInstruction, "a privileged instruction"),
        _ => unexplained(),
    }
}

fn unexplained() -> Description {
    Description::new(
        ExceptionKind::BadAccess,
        "general protection fault: most often a non-canonical address, but the processor does not say",
    )
}

fn division(scene: &Scene<'_>) -> &'static str {
    let divisor = match scene.effect() {
        Effect::Divide { divisor: Divisor::Value(value) } => Some(value),
        Effect::Divide { divisor: Divisor::Memory { address, size } } => scene.value(address, size),
        _ => None,
    };
    match divisor {
        Some(0) => "division by zero",
        Some(_) => "division whose result does not fit",
        None => "division by zero, or whose result does not fit",
    }
}
