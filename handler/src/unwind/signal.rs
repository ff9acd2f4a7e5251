//! Signal trampolines: the frame that returns to what a signal interrupted, whose registers the kernel left on the stack.

use aftermach_protocol::platform::Cpu;

use super::code::CodeMap;
use super::registers::Registers;
use super::stack::StackReader;

/// Bytes of code that show a Linux trampoline.
pub(crate) const CODE: usize = 9;

/// Whether `code`, the instructions at a frame's address, are Linux's signal trampoline.
pub(crate) fn is_linux_trampoline(cpu: Cpu, code: &[u8]) -> bool {
    match cpu {
        // mov $15, %rax; syscall (glibc and musl: rt_sigreturn is 15; arch/x86/entry/syscalls/syscall_64.tbl). The second
        // form is what an assembler makes of `mov $15, %eax`.
        Cpu::X86_64 => {
            code.starts_with(&[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05])
                || code.starts_with(&[0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05])
        }
        // mov x8, #139; svc #0 (arch/arm64/kernel/vdso/sigreturn.S, which asks unwinders to look for just this).
        Cpu::Arm64 => code.starts_with(&[0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4]),
    }
}

/// The interrupted registers, for a frame that stands at Linux's trampoline.
pub(crate) fn linux_context(frame: &Registers, stack: &mut StackReader<'_>, code: &CodeMap) -> Option<Registers> {
    let sp = frame.sp()?;
    match frame.cpu {
        Cpu::X86_64 => {
            // The handler's `ret` has taken pretcode off `struct rt_sigframe` (arch/x86/include/asm/sigframe.h), so the stack
            // pointer stands at its `struct ucontext`; `uc_mcontext` is 40 bytes into that (uapi/asm-generic/ucontext.h).
            let context = sp.checked_add(40)?;
            // struct sigcontext_64 (arch/x86/include/uapi/asm/sigcontext.h) in DWARF numbers.
            const ORDER: [u16; 16] = [8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7];
            let mut registers = Registers::unknown(Cpu::X86_64, word(stack, context, 16)?);
            for (index, number) in ORDER.into_iter().enumerate() {
                registers.set(number, word(stack, context, index as u64)?);
            }
            Some(registers)
        }
        Cpu::Arm64 => {
            // struct rt_sigframe { siginfo (128 bytes); ucontext }, whose uc_mcontext is 176 bytes in: it is aligned to 16
            // after uc_sigmask and its padding (arch/arm64/include/uapi/asm/{ucontext,sigcontext}.h). fault_address first.
            let context = sp.checked_add(128 + 176 + 8)?;
            arm64_registers(context, stack, code)
        }
    }
}

/// x0 to x30, sp, pc at `context`.
fn arm64_registers(context: u64, stack: &mut StackReader<'_>, code: &CodeMap) -> Option<Registers> {
    let mut registers = Registers::unknown(Cpu::Arm64, code.strip(word(stack, context, 32)?));
    for number in 0..=31 {
        registers.set(number, word(stack, context, number.into())?);
    }
    Some(registers)
}

/// Bytes above a `_sigtramp` frame's stack pointer in which the kernel's context is looked for. `sendsig` puts the machine
/// context (at most some 3 KiB, with AVX-512), the context and the signal's information there, right above its frame.
const DARWIN_SEARCH: u64 = 8192;

/// The interrupted registers, for a frame of Darwin's `_sigtramp`.
///
/// The trampoline keeps the context's address in a register that its callees preserve, a different one in each release, and
/// what tables say of it is not always to be had. The context itself is easy to tell: a `ucontext64`
/// (<sys/_types/_ucontext64.h>) whose `uc_mcontext64` points into this stack and whose `uc_mcsize` is sane.
pub(crate) fn darwin_context(frame: &Registers, stack: &mut StackReader<'_>, code: &CodeMap) -> Option<Registers> {
    let sp = frame.sp()?;
    let (least, most) = match frame.cpu {
        // Exception and thread state, at least (<mach/i386/_structs.h>: 16 + 168 bytes, and 524 of float state).
        Cpu::X86_64 => (184, 4096),
        // <mach/arm/_structs.h>: 16 + 272 bytes, and 528 of NEON state.
        Cpu::Arm64 => (288, 4096),
    };
    for offset in (0..DARWIN_SEARCH).step_by(8) {
        let context = sp.checked_add(offset)?;
        let size = stack.word(context.checked_add(40)?)?;
        if !(least..=most).contains(&size) {
            continue;
        }
        let machine = stack.word(context.checked_add(48)?)?;
        let near = machine >= sp && machine < sp.checked_add(2 * DARWIN_SEARCH)? && machine.is_multiple_of(8);
        if !near {
            continue;
        }
        // After the exception state, 16 bytes on either CPU.
        let state = machine.checked_add(16)?;
        let registers = match frame.cpu {
            Cpu::X86_64 => darwin_x86_64(state, stack),
            Cpu::Arm64 => arm64_registers(state, stack, code),
        };
        // A context that the kernel made has a stack that can be read; its pc may be anything.
        let stands = |registers: &Registers| registers.sp().is_some_and(stack_is_sane);
        if let Some(registers) = registers.filter(stands) {
            return Some(registers);
        }
    }
    None
}

fn stack_is_sane(sp: u64) -> bool {
    sp >= 4096 && sp.is_multiple_of(8)
}

/// rax, rbx, rcx, rdx, rdi, rsi, rbp, rsp, r8 to r15, rip (<mach/i386/_structs.h>, `x86_thread_state64`).
fn darwin_x86_64(state: u64, stack: &mut StackReader<'_>) -> Option<Registers> {
    const ORDER: [u16; 16] = [0, 3, 2, 1, 5, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut registers = Registers::unknown(Cpu::X86_64, word(stack, state, 16)?);
    for (index, number) in ORDER.into_iter().enumerate() {
        registers.set(number, word(stack, state, index as u64)?);
    }
    Some(registers)
}

fn word(stack: &mut StackReader<'_>, base: u64, index: u64) -> Option<u64> {
    stack.word(base.checked_add(index * 8)?)
}
