//! Taking the hardware exceptions off a task that meets them in its normal course: a JIT, a collector with guard pages.
//!
//! Each of its faults waits for us before the program's own handler runs, and nobody learns anything from it. So we change our
//! registration in that task, and only ours: what others have registered stays, and who was there before us is there again. It
//! takes the task's control port, which not everybody is given.

use aftermach_protocol::exception::KernReturn;
use aftermach_protocol::exception::mach::{EXC_ARITHMETIC, EXC_BAD_ACCESS, EXC_BAD_INSTRUCTION, EXC_BREAKPOINT};
use aftermach_protocol::message::PortName;

use super::kernel::{Kernel, RawAction};
use super::ports::{Group, Port, Right, Rights};
use super::sessions::Action;

/// The exceptions that the processor raises for what a thread did.
pub(super) const HARDWARE: u32 =
    1 << EXC_BAD_ACCESS | 1 << EXC_BAD_INSTRUCTION | 1 << EXC_ARITHMETIC | 1 << EXC_BREAKPOINT;

/// `EXCEPTION_IDENTITY_PROTECTED | MACH_EXCEPTION_CODES`: nobody is killed for naming it (`osfmk/kern/ipc_tt.c`).
const PROTECTED: u32 = 4 | 0x8000_0000;

/// `CS_PLATFORM_BINARY` (`osfmk/kern/cs_blobs.h`): Apple's own.
const CS_PLATFORM_BINARY: u32 = 0x0400_0000;

/// Part of the entitlements that forbid the classic behaviours, or every change (macOS 15 and 26). Who tries all the same is
/// killed for it, and that would be us.
const HARDENED: [&[u8]; 3] = [b"hardened-process", b"only-one-exception-port", b"web-browser-engine"];

/// Why a task's hardware exceptions stay ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No port that may change the task.
    NoControl(KernReturn),
    /// The task is hardened, or that can't be told.
    Hardened,
    /// The kernel refused to change it.
    Refused(KernReturn),
    /// The kernel said that it changed it, and did not.
    NotHonoured,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::NoControl(code) => write!(f, "its control port was refused: {code}"),
            Refusal::Hardened => f.write_str("it is hardened, and who changes its exception ports is killed"),
            Refusal::Refused(code) => write!(f, "the system refused it: {code}"),
            Refusal::NotHonoured => f.write_str("the system accepted it, and did otherwise"),
        }
    }
}

/// Has the hardware exceptions of the task behind `control` no longer go to `ours`, but to whom they went before.
pub(super) fn unwatch(
    kernel: &dyn Kernel,
    rights: &Rights,
    (control, pid): (PortName, i32),
    ours: PortName,
    previous: &[Action],
) -> Result<(), Refusal> {
    if is_hardened(kernel, pid) {
        return Err(Refusal::Hardened);
    }
    let mut left = held(kernel, rights, control, ours).map_err(Refusal::NoControl)?;
    for action in previous {
        let mask = action.mask & left;
        let (behaviour, flavor) = (action.behaviour, action.flavor);
        let before = RawAction { mask, port: action.port.name(), behaviour, flavor };
        // One whose port is dead by now leads nowhere: the kernel says so, and those exceptions are cleared below.
        if mask != 0 && kernel.set_exception_ports(control, &before).is_ok() {
            left &= !mask;
        }
    }
    if left != 0 {
        let nobody = RawAction { mask: left, port: PortName::NULL, behaviour: PROTECTED, flavor: 0 };
        kernel.set_exception_ports(control, &nobody).map_err(Refusal::Refused)?;
    }
    match held(kernel, rights, control, ours) {
        Ok(0) => Ok(()),
        Ok(_) => Err(Refusal::NotHonoured),
        Err(code) => Err(Refusal::Refused(code)),
    }
}

/// Which hardware exceptions of a task go to `ours`.
fn held(kernel: &dyn Kernel, rights: &Rights, control: PortName, ours: PortName) -> Result<u32, KernReturn> {
    let actions = kernel.exception_ports(control, HARDWARE)?;
    let adopt = |action: &RawAction| rights.adopt(Group::Tasks, Right::Send, action.port);
    let _owned: Vec<Option<Port>> = actions.iter().map(adopt).collect();
    // A port that we receive on has the same name however a right to it arrives.
    let of_ours = actions.iter().filter(|action| action.port == ours);
    Ok(of_ours.fold(0, |mask, action| mask | action.mask) & HARDWARE)
}

/// Where it can't be told the answer is yes.
fn is_hardened(kernel: &dyn Kernel, pid: i32) -> bool {
    let Some(flags) = kernel.signature_flags(pid) else { return true };
    let Some(entitlements) = kernel.entitlements(pid) else { return true };
    let has = |name: &[u8]| entitlements.windows(name.len()).any(|part| part == name);
    flags & CS_PLATFORM_BINARY != 0 || HARDENED.into_iter().any(has)
}
