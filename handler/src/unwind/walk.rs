//! A walk over one thread's stack.

use std::time::Instant;

use super::fold::Folding;
use super::frame::{Frame, Stop, Trace, Trust};
use super::limits::Limits;
use super::registers::Registers;
use super::step::{Failure, Found, Kind, Next, Stepper};
use crate::snapshot::Thread;

/// Steps between two looks at the clock.
const STEPS_PER_LOOK: u64 = 256;

/// Walks `thread`'s stack until it ends, or `deadline`.
pub(crate) fn walk(thread: &Thread, stepper: &mut Stepper<'_>, limits: &Limits, deadline: Instant) -> Trace {
    let Some(registers) = &thread.state.registers else {
        let (frames, folds) = Folding::new(limits).finish();
        return Trace { thread: thread.state.id, frames, folds, stop: Stop::NoRegisters };
    };
    let mut registers = Registers::of_thread(registers);
    let raw = registers.pc;
    registers.pc = stepper.strip(raw);
    let mut current = Found { registers, raw, kind: Kind::Stopped, trust: Trust::Context, switched: false };
    let mut folding = Folding::new(limits);
    let mut switches = 0;
    let deadline = deadline.min(Instant::now() + limits.time);

    let mut steps = 0;
    let stop = loop {
        let mut quick = frame(&current);
        let next = match stepper.quick(&mut current) {
            Some(image) => {
                quick.image = image;
                folding.push(quick);
                None
            }
            None => {
                let next = stepper.step(&current);
                folding.push(whole(quick, &next, stepper));
                Some(next)
            }
        };
        steps += 1;
        if folding.len() >= limits.frames || steps >= limits.steps {
            break Stop::FrameLimit;
        }
        if steps % STEPS_PER_LOOK == 0 && Instant::now() >= deadline {
            break Stop::TimeLimit;
        }
        match next {
            None => {}
            Some(Ok(Next::Root)) => break Stop::Root,
            Some(Ok(Next::Frame(found))) => {
                switches += u32::from(found.switched);
                if switches > limits.stack_switches {
                    break Stop::NoProgress;
                }
                current = found;
            }
            Some(Err(failure)) => break reason(failure, &current),
        }
    };
    let (frames, folds) = folding.finish();
    Trace { thread: thread.state.id, frames, folds, stop }
}

/// A frame without its image, for any caller but one that a signal interrupted.
#[inline]
fn frame(found: &Found) -> Frame {
    let sp = found.registers.sp().unwrap_or(0);
    let is_return_address = found.kind == Kind::Called;
    Frame { address: found.registers.pc, raw: found.raw, is_return_address, sp, trust: found.trust, image: None }
}

fn whole(mut frame: Frame, next: &Result<Next, Failure>, stepper: &Stepper<'_>) -> Frame {
    // No call stands before a signal trampoline: the kernel made the handler return to it.
    let trampoline = matches!(next, Ok(Next::Frame(next)) if next.trust == Trust::SignalContext);
    frame.is_return_address &= !trampoline;
    frame.image = stepper.image(frame.lookup_address());
    frame
}

fn reason(failure: Failure, last: &Found) -> Stop {
    match failure {
        Failure::Unreadable(address) => Stop::StackUnreadable(address),
        Failure::BadReturnAddress(address) => Stop::BadReturnAddress(address),
        Failure::NoProgress => Stop::NoProgress,
        Failure::NoRule => match last.registers.sp() {
            Some(sp) => Stop::NoRule(sp),
            None => Stop::NoProgress,
        },
    }
}
