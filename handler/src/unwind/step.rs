//! One step: from a frame to its caller, by the surest way that leads anywhere.

use std::collections::HashMap;
use std::path::Path;

use aftermach_protocol::platform::{Cpu, Os};

use super::cfi::Caller;
use super::code::{CodeMap, ends_in_call};
use super::compact::{self, Rule};
use super::first_frame;
use super::frame::Trust;
use super::limits::Limits;
use super::registers::Registers;
use super::rules::{Rules, Way};
use super::sections::{Sections, Tables};
use super::signal;
use super::stack::StackReader;
use crate::snapshot::Snapshot;

/// Why a way led nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no rule for this frame, or it needs a register that is not known.
    NoRule,
    /// The stack could not be read here.
    Unreadable(u64),
    /// It does not lead up the stack.
    NoProgress,
    /// It leads to an address that is no code.
    BadReturnAddress(u64),
}

/// What a frame is to the one inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its pc is where it stopped: the thread's own registers, or those that a signal interrupted.
    Stopped,
    /// Its pc is a return address.
    Called,
}

/// Where a step leads.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "moved once a step; a box would cost an allocation a frame")]
pub(crate) enum Next {
    /// There is no caller.
    Root,
    /// To this frame.
    Frame(Found),
}

/// A frame that was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) registers: Registers,
    /// The pc with pointer authentication.
    pub(crate) raw: u64,
    pub(crate) kind: Kind,
    pub(crate) trust: Trust,
    /// It lies on another stack, or further down: a signal, a coroutine.
    pub(crate) switched: bool,
}

impl Found {
    /// The address to look up in tables: inside the call, for a return address.
    pub(crate) fn lookup(&self) -> u64 {
        match self.kind {
            Kind::Stopped => self.registers.pc,
            Kind::Called => self.registers.pc.wrapping_sub(1),
        }
    }
}

/// Places in functions of which is kept what their instructions tell.
const KNOWN: usize = 4096;

/// Steps through the stacks of one snapshot. Rows found once serve all threads.
pub(crate) struct Stepper<'a> {
    snapshot: &'a Snapshot,
    sections: &'a Sections,
    code: &'a CodeMap,
    pub(crate) stack: StackReader<'a>,
    rules: Rules<'a>,
    /// What functions' instructions tell at (pc, whether it is a return address).
    known: HashMap<(u64, bool), Option<first_frame::Known>>,
    /// The image that has Darwin's `_sigtramp`.
    platform: Option<usize>,
    function: u64,
    scan_words: u64,
}

impl<'a> Stepper<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, sections: &'a Sections, limits: &Limits) -> Stepper<'a> {
        let darwin = snapshot.os == Os::MacOs;
        let platform = snapshot.images.iter().position(|image| darwin && has_darwin_trampoline(&image.path));
        Stepper {
            platform,
            snapshot,
            sections,
            code: &sections.code,
            stack: StackReader::new(&snapshot.memory),
            rules: Rules::new(snapshot, sections),
            known: HashMap::new(),
            function: limits.function,
            scan_words: limits.scan_words,
        }
    }

    /// Makes `frame` its caller, if a plain rule leads there and nothing else can be the matter; returns the image that the
    /// address looked up lies in. What this finds, [`Stepper::step`] would: it only takes longer.
    #[inline]
    pub(crate) fn quick(&mut self, frame: &mut Found) -> Option<Option<usize>> {
        let kept = self.rules.of(frame.lookup());
        let plain = kept.plain.as_mut()?;
        if frame.kind == Kind::Stopped && !(plain.anywhere && self.code.is_code(frame.registers.pc)) {
            return None;
        }
        frame.raw = plain.rule.apply(&mut frame.registers, &mut self.stack, self.code, &mut plain.caller)?;
        frame.kind = Kind::Called;
        frame.trust = Trust::UnwindInfo;
        frame.switched = false;
        Some(kept.image)
    }

    /// The caller of a frame.
    ///
    /// # Errors
    /// Nothing leads on; the reason is that of the surest way.
    pub(crate) fn step(&mut self, frame: &Found) -> Result<Next, Failure> {
        if frame.kind == Kind::Stopped
            && !self.code.is_code(frame.registers.pc)
            && let Some(caller) = self.after_bad_call(&frame.registers)
        {
            return Ok(Next::Frame(caller));
        }
        if let Some(interrupted) = self.linux_signal(frame) {
            return Ok(Next::Frame(interrupted));
        }
        if let Some(interrupted) = self.darwin_signal(frame) {
            return Ok(Next::Frame(interrupted));
        }
        if let Some(caller) = self.by_instructions(frame) {
            return Ok(Next::Frame(caller));
        }
        let failure = match self.by_tables(frame) {
            Ok(next) => return Ok(next),
            Err(failure) => failure,
        };
        if let Some(interrupted) = self.darwin_context(frame).filter(|_| frame.kind == Kind::Called) {
            return Ok(Next::Frame(interrupted));
        }
        if frame.kind == Kind::Called && self.is_entry(frame.lookup()) {
            return Ok(Next::Root);
        }
        let reason = match self.by_frame_pointer(frame) {
            // An end of the chain is the end of the stack only where no table says that there is more.
            Ok(Next::Root) if failure != Failure::NoRule => failure,
            Ok(next) => return Ok(next),
            Err(reason) if failure == Failure::NoRule => reason,
            Err(_) => failure,
        };
        self.by_scan(&frame.registers).map(Next::Frame).ok_or(reason)
    }

    /// A code pointer without pointer authentication.
    pub(crate) fn strip(&self, pointer: u64) -> u64 {
        self.code.strip(pointer)
    }

    /// The image that an address lies in.
    pub(crate) fn image(&self, address: u64) -> Option<usize> {
        self.rules.known_image(address).or_else(|| self.code.image(address))
    }

    /// The caller of a call that went to a bad address: the call has stored its return address and nothing else happened.
    fn after_bad_call(&mut self, registers: &Registers) -> Option<Found> {
        let mut caller = *registers;
        let raw = match registers.cpu {
            Cpu::X86_64 => {
                let sp = registers.sp()?;
                caller.set(caller.sp_number(), sp.checked_add(8)?);
                self.stack.word(sp)?
            }
            Cpu::Arm64 => registers.lr()?,
        };
        caller.pc = self.code.strip(raw);
        let called = self.code.may_return_to(caller.pc) && self.follows_call(caller.pc).unwrap_or(true);
        called.then_some(Found { registers: caller, raw, kind: Kind::Called, trust: Trust::BadCall, switched: false })
    }

    /// What a Linux signal interrupted, if the frame stands at the trampoline.
    fn linux_signal(&mut self, frame: &Found) -> Option<Found> {
        if self.snapshot.os != Os::Linux {
            return None;
        }
        let pc = frame.registers.pc;
        // Trampolines either say that they are, or have no table, or start a function, so that the byte before them belongs
        // to another one. All other frames are spared the look at their code.
        let suspicious = match &self.rules.of(frame.lookup()).way {
            Way::Row { row, end, .. } => row.signal || *end <= pc,
            Way::Compact { .. } => false,
            Way::Nothing => true,
        };
        if !suspicious {
            return None;
        }
        let mut code = [0; signal::CODE];
        let length = self.sections.text(self.snapshot, pc, &mut code);
        if !signal::is_linux_trampoline(frame.registers.cpu, &code[..length]) {
            return None;
        }
        let registers = signal::linux_context(&frame.registers, &mut self.stack, self.code)?;
        Some(interrupted(registers, &frame.registers))
    }

    /// What a signal interrupted on Darwin, if the frame stands in `_sigtramp`. The context on the stack is right in all of it;
    /// the tables say where it is in a register that is not set yet in the first instructions.
    fn darwin_signal(&mut self, frame: &Found) -> Option<Found> {
        let lookup = frame.lookup();
        let image = self.platform.filter(|platform| self.code.image(lookup) == Some(*platform))?;
        let sections = self.sections.image(self.snapshot, image)?;
        let trampoline = match self.rules.of(lookup).way {
            Way::Compact { rule: Rule::Dwarf { offset }, .. } => {
                self.rules.row(sections, offset, lookup)?.restores_context()
            }
            Way::Row { ref row, .. } => row.restores_context(),
            Way::Compact { rule: Rule::Unstated, .. } | Way::Nothing => {
                sections.is_sigtramp(lookup.wrapping_sub(sections.bias))
            }
            _ => false,
        };
        if trampoline { self.darwin_context(frame) } else { None }
    }

    /// The context that Darwin's kernel has put above the stack pointer of a frame of the library that has `_sigtramp`.
    fn darwin_context(&mut self, frame: &Found) -> Option<Found> {
        self.platform.filter(|platform| self.code.image(frame.registers.pc) == Some(*platform))?;
        let registers = signal::darwin_context(&frame.registers, &mut self.stack, self.code)?;
        Some(interrupted(registers, &frame.registers))
    }

    /// The caller by the function's instructions: of a frame that was stopped, unless call frame information covers it, which
    /// is exact at every instruction in ELF; of any frame that no table describes, or that one describes wrongly.
    fn by_instructions(&mut self, frame: &Found) -> Option<Found> {
        let called = frame.kind == Kind::Called;
        let function = match &self.rules.of(frame.lookup()).way {
            Way::Row { row, .. } if called || row.signal || !row.has_expressions() => return None,
            Way::Row { row, .. } => Some((row.start, row.end)),
            Way::Compact { entry, rule } if called => {
                let (entry, rule) = (*entry, *rule);
                if !self.misstates_size(&entry, rule, frame.lookup()) {
                    return None;
                }
                None
            }
            _ => None,
        };
        let pc = frame.registers.pc;
        if !self.known.contains_key(&(pc, called)) {
            let known = self.known_at(frame.lookup(), function, pc, called);
            if self.known.len() >= KNOWN {
                self.known.clear();
            }
            self.known.insert((pc, called), known);
        }
        let known = self.known.get(&(pc, called))?.as_ref()?;
        let (registers, raw) = known.caller(&frame.registers, &mut self.stack, self.code).ok()?;
        self.check_return_address(&registers).ok()?;
        let switched = self.check(&frame.registers, &registers, !called).ok()?;
        let trust = Trust::Instructions;
        (!switched).then_some(Found { registers, raw, kind: Kind::Called, trust, switched })
    }

    /// What the instructions of the function tell at `pc`; where `function`, in the image's own addresses, is not known yet,
    /// it is looked up.
    fn known_at(
        &mut self,
        lookup: u64,
        function: Option<(u64, u64)>,
        pc: u64,
        called: bool,
    ) -> Option<first_frame::Known> {
        let sections = self.sections.image(self.snapshot, self.code.image(lookup)?)?;
        let address = lookup.wrapping_sub(sections.bias);
        // A stub only jumps: everything is as at a function's first instruction.
        if !called && sections.stubs.is_some_and(|(start, end)| (start..end).contains(&address)) {
            return Some(first_frame::at_entry(self.code.cpu));
        }
        if !called && let Some(range) = sections.stub_helpers.filter(|(start, end)| (*start..*end).contains(&address)) {
            let mut bytes =
                vec![0; usize::try_from(range.1 - range.0).ok().filter(|length| *length as u64 <= self.function)?];
            let start = range.0.wrapping_add(sections.bias);
            let read = self.sections.text(self.snapshot, start, &mut bytes);
            return first_frame::in_stub_helper(self.code.cpu, bytes.get(..read)?, start, pc);
        }
        let has_landing_pads = match self.rules.of(lookup).way {
            Way::Row { ref row, .. } => row.has_lsda,
            Way::Compact { rule: Rule::Dwarf { offset }, .. } => {
                self.rules.row(sections, offset, lookup).is_some_and(|row| row.has_lsda)
            }
            Way::Compact { entry, .. } => entry.has_lsda(),
            Way::Nothing => false,
        };
        let (start, end) = match function {
            Some((start, end)) => {
                let first = start.wrapping_add(sections.bias);
                let Way::Row { row, .. } = self.rules.find(first) else { return None };
                row.is_entry(self.code.cpu).then_some((start, end))?
            }
            None => {
                let (start, end) = sections.function(address)?;
                let first = start.wrapping_add(sections.bias);
                // Not every function starts as after a call: the helper has pushed more for dyld_stub_binder.
                if let Way::Compact { rule: Rule::Dwarf { offset }, .. } = self.rules.find(first)
                    && self.rules.row(sections, offset, first).is_some_and(|row| !row.is_entry(self.code.cpu))
                {
                    return None;
                }
                (start, end)
            }
        };
        let length = end.checked_sub(start).filter(|length| *length <= self.function)?;
        let start = start.wrapping_add(sections.bias);
        let mut bytes = vec![0; length as usize];
        let read = self.sections.text(self.snapshot, start, &mut bytes);
        bytes.truncate(read);
        match first_frame::known_at(self.code.cpu, &bytes, start, pc, called, has_landing_pads) {
            Ok(known) => Some(known),
            Err(reason) => {
                tracing::trace!(pc, ?reason, "the function's instructions don't tell its caller");
                None
            }
        }
    }

    /// Whether the compact entry looks for the frame's size where it isn't: in a function that calls a stack probe (`mov eax,
    /// SIZE; call ___chkstk_darwin; sub rsp, rax`) LLVM takes the first bytes for a `sub rsp, SIZE` (LLVM 19,
    /// `X86AsmBackend.cpp`, `generateCompactUnwindEncoding`).
    fn misstates_size(&self, entry: &compact::Entry, rule: Rule, lookup: u64) -> bool {
        const SUB_RSP: [u8; 3] = [0x48, 0x81, 0xec];
        let Rule::StackSizeInCode { offset, .. } = rule else { return false };
        let image = self.code.image(lookup).and_then(|image| self.sections.image(self.snapshot, image));
        let Some((image, Tables::Compact { base, .. })) = image.map(|image| (image, &image.tables)) else {
            return false;
        };
        let operand = base.wrapping_add(entry.start.into()).wrapping_add(offset.into()).wrapping_add(image.bias);
        let mut before = SUB_RSP;
        self.sections.text(self.snapshot, operand.wrapping_sub(3), &mut before) == before.len() && before != SUB_RSP
    }

    /// Whether an address lies in the function that the kernel or the loader starts an image at, which has no caller.
    fn is_entry(&self, address: u64) -> bool {
        let sections = self.code.image(address).and_then(|image| self.sections.image(self.snapshot, image));
        sections.is_some_and(|sections| sections.is_entry(address.wrapping_sub(sections.bias)))
    }

    #[inline]
    fn by_tables(&mut self, frame: &Found) -> Result<Next, Failure> {
        let first = frame.kind == Kind::Stopped;
        let registers = &frame.registers;
        let lookup = frame.lookup();
        let (caller, signal) = match &self.rules.of(lookup).way {
            Way::Row { row, second, image, .. } => {
                let sections = self.sections.image(self.snapshot, *image).ok_or(Failure::NoRule)?;
                let Tables::Dwarf(one, two) = &sections.tables else { return Err(Failure::NoRule) };
                let cfi = if *second { two.as_ref().ok_or(Failure::NoRule)? } else { one };
                (cfi.run(row, registers, &mut self.stack, self.code, first)?, row.signal)
            }
            Way::Compact { entry, rule } => {
                let (entry, rule) = (*entry, *rule);
                self.by_compact(&entry, rule, registers, lookup, first)?
            }
            Way::Nothing => return Err(Failure::NoRule),
        };
        match caller {
            Caller::Root => Ok(Next::Root),
            Caller::Frame { registers: caller, raw: _, .. } if signal => {
                Ok(Next::Frame(interrupted(caller, registers)))
            }
            Caller::Frame { registers: caller, raw, by_stack_pointer } => {
                let switched = self.check(registers, &caller, first)?;
                // Going up from the stack pointer can't end on another stack.
                if switched && by_stack_pointer {
                    return Err(Failure::NoProgress);
                }
                // Thread starts in assembly push a return address of 0. Nothing that was stopped is such a start's caller.
                if caller.pc == 0 && !first {
                    return Ok(Next::Root);
                }
                self.check_return_address(&caller)?;
                let trust = Trust::UnwindInfo;
                Ok(Next::Frame(Found { registers: caller, raw, kind: Kind::Called, trust, switched }))
            }
        }
    }

    fn by_compact(
        &mut self,
        entry: &compact::Entry,
        rule: Rule,
        registers: &Registers,
        lookup: u64,
        first: bool,
    ) -> Result<(Caller, bool), Failure> {
        let sections = self.sections;
        let image = self.code.image(lookup).and_then(|image| sections.image(self.snapshot, image));
        let image = image.ok_or(Failure::NoRule)?;
        let Tables::Compact { base, eh_frame, .. } = &image.tables else { return Err(Failure::NoRule) };
        match rule {
            Rule::FramePointer => Ok((entry.run_frame_pointer(registers, &mut self.stack, self.code)?, false)),
            Rule::StackSize { bytes } => {
                Ok((entry.run_stack_size(bytes, registers, &mut self.stack, self.code, first)?, false))
            }
            Rule::StackSizeInCode { offset, adjust } => {
                let at = base.wrapping_add(entry.start.into()).wrapping_add(offset.into()).wrapping_add(image.bias);
                let mut operand = [0; 4];
                if self.sections.text(self.snapshot, at, &mut operand) < 4 {
                    return Err(Failure::NoRule);
                }
                let size = u64::from(u32::from_le_bytes(operand)).wrapping_add(adjust);
                Ok((entry.run_stack_size(size, registers, &mut self.stack, self.code, first)?, false))
            }
            // A function without information that was interrupted is a leaf.
            Rule::Unstated if first => {
                let size = if registers.cpu == Cpu::X86_64 { 8 } else { 0 };
                Ok((entry.run_stack_size(size, registers, &mut self.stack, self.code, first)?, false))
            }
            Rule::Unstated => Err(Failure::NoRule),
            Rule::Dwarf { offset } => {
                let cfi = eh_frame.as_ref().ok_or(Failure::NoRule)?;
                let row = self.rules.row(image, offset, lookup).ok_or(Failure::NoRule)?;
                Ok((cfi.run(&row, registers, &mut self.stack, self.code, first)?, row.restores_context()))
            }
        }
    }

    fn by_frame_pointer(&mut self, frame: &Found) -> Result<Next, Failure> {
        let registers = &frame.registers;
        let fp = registers.fp().ok_or(Failure::NoRule)?;
        // The outermost frame's pointer is 0 by the ABIs of both CPUs. In code that uses the register for other things, as
        // the frame that was stopped may be, 0 means nothing.
        if fp == 0 && frame.kind == Kind::Called {
            return Ok(Next::Root);
        }
        let sp = registers.sp().ok_or(Failure::NoRule)?;
        if fp < sp || !fp.is_multiple_of(8) {
            return Err(Failure::NoProgress);
        }
        let read = |stack: &mut StackReader<'_>, at: u64| stack.word(at).ok_or(Failure::Unreadable(at));
        let saved_fp = read(&mut self.stack, fp)?;
        let raw = read(&mut self.stack, fp.wrapping_add(8))?;
        let mut caller = registers.preserved();
        caller.pc = self.code.strip(raw);
        caller.set(caller.fp_number(), saved_fp);
        caller.set(caller.sp_number(), fp.wrapping_add(16));
        if caller.pc == 0 && saved_fp == 0 {
            return Ok(Next::Root);
        }
        self.check_return_address(&caller)?;
        if self.follows_call(caller.pc) == Some(false) {
            return Err(Failure::BadReturnAddress(caller.pc));
        }
        let trust = Trust::FramePointer;
        Ok(Next::Frame(Found { registers: caller, raw, kind: Kind::Called, trust, switched: false }))
    }

    /// A word up the stack that is the address after a call instruction: the first from which the tables lead on to another
    /// such address, else the first of all. Stale words of calls that are over stand on every stack; few lead on.
    fn by_scan(&mut self, registers: &Registers) -> Option<Found> {
        let sp = registers.sp()?.checked_next_multiple_of(8)?;
        let mut first = None;
        for index in 0..self.scan_words {
            let Some(at) = sp.checked_add(index * 8) else { break };
            let Some(raw) = self.stack.word(at) else { break };
            let pc = self.code.strip(raw);
            if !self.code.may_return_to(pc) || self.follows_call(pc) != Some(true) {
                continue;
            }
            let mut caller = Registers::unknown(registers.cpu, pc);
            let sp = at.checked_add(8)?;
            caller.set(caller.sp_number(), sp);
            // A frame pointer that still leads up the stack may well be the caller's.
            if let Some(fp) = registers.fp().filter(|fp| *fp >= sp) {
                caller.set(caller.fp_number(), fp);
            }
            let found = Found { registers: caller, raw, kind: Kind::Called, trust: Trust::Scan, switched: false };
            let leads_on = match self.by_tables(&found) {
                Ok(Next::Root) => true,
                Ok(Next::Frame(next)) => {
                    next.kind == Kind::Stopped || self.follows_call(next.registers.pc) == Some(true)
                }
                Err(_) => false,
            };
            if leads_on {
                return Some(found);
            }
            first = first.or(Some(found));
        }
        first
    }

    /// Whether the caller's frame lies elsewhere than up the stack.
    #[inline]
    fn check(&self, frame: &Registers, caller: &Registers, first: bool) -> Result<bool, Failure> {
        let (Some(sp), Some(caller_sp)) = (frame.sp(), caller.sp()) else { return Err(Failure::NoProgress) };
        // The innermost frame may have nothing on the stack: a leaf on arm64, and glibc's vfork on x86-64, which keeps its
        // return address in rdi (sysdeps/unix/sysv/linux/x86_64/vfork.S). Any other frame is at least a return address. A
        // function's return address may be its own first instruction: a call that never returns may be the last instruction of
        // the function before it.
        let leaf = first && caller_sp == sp;
        if caller_sp == sp && caller.pc == frame.pc && !leaf {
            return Err(Failure::NoProgress);
        }
        Ok(caller_sp <= sp && !leaf)
    }

    #[inline]
    fn check_return_address(&self, caller: &Registers) -> Result<(), Failure> {
        match self.code.may_return_to(caller.pc) {
            true => Ok(()),
            false => Err(Failure::BadReturnAddress(caller.pc)),
        }
    }

    /// Whether the instruction before `address` is a call; `None` if it can't be read.
    fn follows_call(&self, address: u64) -> Option<bool> {
        let mut before = [0; 8];
        let length = before.len();
        if self.sections.text(self.snapshot, address.wrapping_sub(length as u64), &mut before) == length {
            return Some(ends_in_call(self.code.cpu, &before));
        }
        // The first function of an image has less before it.
        let mut before = [0; 4];
        let read = self.sections.text(self.snapshot, address.wrapping_sub(4), &mut before) == before.len();
        read.then(|| ends_in_call(self.code.cpu, &before))
    }
}

/// What a signal interrupted, for the frame of its trampoline.
fn interrupted(registers: Registers, trampoline: &Registers) -> Found {
    let raw = registers.pc;
    let switched = registers.sp() <= trampoline.sp();
    Found { registers, raw, kind: Kind::Stopped, trust: Trust::SignalContext, switched }
}

/// libsystem_platform holds Darwin's `_sigtramp`.
fn has_darwin_trampoline(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "libsystem_platform.dylib")
}
