//! Loading, running, Linux's few system calls, and signing of return addresses.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use unicorn_engine::{Arch, HookType, Mode, Prot, RegisterARM64, Unicorn, uc_error};

use crate::image::{Image, Target};
use crate::signals::Signals;
use crate::trace::{Before, Registers, Trace};

/// `<mach/machine.h>`.
const CPU_TYPE_ARM64: u32 = 0x0100_000c;
const PAGE: u64 = 0x4000;
/// Where the program lies, and each further image 256 MiB after the one before.
const BASE: u64 = 0x1_0480_0000;
const APART: u64 = 0x1000_0000;
/// What the victims' libsys asks for with mmap: their threads' stacks.
const MEMORY: u64 = 0x1_6000_0000;
const MEMORY_SIZE: u64 = 0x100_0000;
/// Tables of the pointers that are bound when they are first used.
const TABLES: u64 = 0x1_5000_0000;
const TABLES_SIZE: u64 = 0x4000;
/// Bytes of `cxx_install`, at most.
const INSTALL: u64 = 120;
const MAIN_STACK: (u64, u64) = (0x1_6f00_0000, 0x1_6f10_0000);

/// A signature as a processor puts it into the bits above 47 bits of address; the emulator's own gets stuck.
const SIGNATURE: u64 = 0x5a35_8000_0000_0000;
const ADDRESS: u64 = 0x7fff_ffff_ffff;
const PACIBSP: u32 = 0xd503_237f;
const AUTIBSP: u32 = 0xd503_23ff;
const RETAB: u32 = 0xd65f_0fff;
/// mov sp, x13
const MOV_SP_X13: u32 = 0x9100_01bf;
const RET: u32 = 0xd65f_03c0;

struct State {
    trace: Trace,
    /// Where threads begin.
    starts: Vec<u64>,
    thread: usize,
    begun: bool,
    /// The instruction before, and where it was; 0: none.
    last: (u64, u32),
    /// Return addresses, each with the stack pointer at the call.
    callers: Vec<(u64, u64)>,
    /// What an exception or a signal has done to them since the moment before.
    jump: Option<Before>,
    /// Where a C++ victim goes to its landing pads: first address and the one after the last.
    install: (u64, u64),
    signals: Option<Signals>,
    /// A signal comes here.
    signal: bool,
    /// Stack writes of the instruction before.
    writes: Vec<(u64, usize)>,
    wrong: Option<String>,
}

/// A thread that waits for one that it has made.
struct Waiting {
    thread: usize,
    registers: Registers,
    pc: u64,
    callers: Vec<(u64, u64)>,
}

fn x(number: usize) -> RegisterARM64 {
    use RegisterARM64::*;
    [
        X0, X1, X2, X3, X4, X5, X6, X7, X8, X9, X10, X11, X12, X13, X14, X15, X16, X17, X18, X19, X20, X21, X22, X23,
        X24, X25, X26, X27, X28, X29, X30, SP,
    ][number]
}

fn registers(uc: &Unicorn<'_, State>) -> Registers {
    std::array::from_fn(|number| uc.reg_read(x(number)).unwrap_or(0))
}

fn failed(error: uc_error) -> anyhow::Error {
    anyhow::anyhow!("the emulator: {error:?}")
}

/// Runs `main` with one argument to its end. Returns what was recorded and what it printed.
pub(crate) fn run(main: &Path, argument: &str) -> Result<(Trace, Vec<u8>)> {
    let folder = main.parent().context("a file is in a folder")?;
    let mut images = vec![Image::read(main, CPU_TYPE_ARM64)?];
    let mut index = 0;
    while index < images.len() {
        for library in images[index].libraries.clone() {
            let path = folder.join(library);
            if !images.iter().any(|image| image.path == path) {
                images.push(Image::read(&path, CPU_TYPE_ARM64)?);
            }
        }
        index += 1;
    }
    let base = |index: usize| BASE + index as u64 * APART;
    let find = |name: &str| {
        let found =
            images.iter().enumerate().find_map(|(index, image)| Some(image.symbol(name)? - image.base() + base(index)));
        found.with_context(|| format!("nothing defines {name}"))
    };

    let mut trace = Trace::default();
    trace.stacks.push(MAIN_STACK);
    for (index, image) in images.iter().enumerate() {
        let name = image.path.file_name().context("a file has a name")?.to_string_lossy().into_owned();
        trace.images.push((name, base(index)));
    }
    let starts = vec![find("__start_main")?, find("__thread_entry")?];
    let install = find("_cxx_install").map_or((0, 0), |start| (start, start + INSTALL));
    let code = images.iter().enumerate().map(|(index, image)| {
        let size = image.segments.iter().find(|segment| segment.name == "__TEXT").map_or(0, |text| text.size);
        (base(index), base(index) + size)
    });
    let signals = match find("__sigtramp") {
        Ok(first) => {
            let trampolines = vec![first, find("__sigtramp_described")?, find("__sigtramp_exact")?];
            Some(Signals::new(trampolines, find("_platform_handler")?, code.collect()))
        }
        Err(_) => None,
    };
    let state = State {
        trace,
        starts: starts.clone(),
        thread: 0,
        begun: false,
        last: (0, 0),
        callers: Vec::new(),
        jump: None,
        install,
        signals,
        signal: false,
        writes: Vec::new(),
        wrong: None,
    };
    let mut uc = Unicorn::new_with_data(Arch::ARM64, Mode::LITTLE_ENDIAN, state).map_err(failed)?;
    // UC_CPU_ARM64_MAX; the default lacks instructions that Apple's targets have. Before any mapping.
    uc.ctl_set_cpu_model(3).map_err(failed)?;
    for (index, image) in images.iter().enumerate() {
        load(&mut uc, image, base(index), &find)?;
    }
    uc.mem_map(TABLES, TABLES_SIZE, Prot::READ).map_err(failed)?;
    let mut table = TABLES;
    for (index, image) in images.iter().enumerate() {
        table = prepare_lazy(&mut uc, image, base(index), table, &find)?;
    }
    uc.mem_map(MEMORY, MEMORY_SIZE, Prot::READ | Prot::WRITE).map_err(failed)?;
    uc.mem_map(MAIN_STACK.0, MAIN_STACK.1 - MAIN_STACK.0, Prot::READ | Prot::WRITE).map_err(failed)?;

    // argv, in memory of its own.
    let strings = MEMORY;
    uc.mem_write(strings + 64, b"main\0").map_err(failed)?;
    uc.mem_write(strings + 128, &[argument.as_bytes(), b"\0"].concat()).map_err(failed)?;
    uc.mem_write(strings, &(strings + 64).to_le_bytes()).map_err(failed)?;
    uc.mem_write(strings + 8, &(strings + 128).to_le_bytes()).map_err(failed)?;
    uc.reg_write(RegisterARM64::X0, 2).map_err(failed)?;
    uc.reg_write(RegisterARM64::X1, strings).map_err(failed)?;
    uc.reg_write(RegisterARM64::X2, images[0].entry.context("no LC_MAIN")? + base(0)).map_err(failed)?;
    uc.reg_write(RegisterARM64::SP, MAIN_STACK.1).map_err(failed)?;
    // CPACR_EL1.FPEN: vector registers may be used.
    uc.reg_write(RegisterARM64::CPACR_EL1, 3 << 20).map_err(failed)?;

    uc.add_code_hook(1, 0, |uc, address, _| moment(uc, address)).map_err(failed)?;
    uc.add_mem_hook(HookType::MEM_WRITE, 1, 0, |uc, _, address, size, _| {
        uc.get_data_mut().writes.push((address, size));
        true
    })
    .map_err(failed)?;
    uc.add_intr_hook(|uc, number| {
        // EXCP_SWI; anything else is a fault.
        if number != 2 {
            uc.get_data_mut().wrong = Some(format!("exception {number}"));
        }
        let _ = uc.emu_stop();
    })
    .map_err(failed)?;

    let mut waiting: Vec<Waiting> = Vec::new();
    let mut free = MEMORY + PAGE;
    let mut printed = Vec::new();
    let mut pc = starts[0];
    loop {
        uc.emu_start(pc, 0, 0, 0).map_err(failed)?;
        pc = uc.pc_read().map_err(failed)?;
        if let Some(wrong) = uc.get_data_mut().wrong.take() {
            bail!("{wrong} at {pc:#x}");
        }
        let r = registers(&uc);
        if std::mem::take(&mut uc.get_data_mut().signal) {
            pc = interrupt(&mut uc, pc, &r)?;
            continue;
        }
        // Darwin's sigreturn.
        if r[8] == 184 {
            pc = go_back(&mut uc, r[0])?;
            continue;
        }
        let result = match r[8] {
            // write
            64 => {
                printed.extend(uc.mem_read_as_vec(r[1], r[2] as usize).map_err(failed)?);
                r[2]
            }
            // mmap: above what is taken, or as asked (MAP_FIXED) inside of that
            222 if r[3] & 0x10 == 0 => {
                let address = free;
                free += r[1].next_multiple_of(PAGE);
                ensure!(free <= MEMORY + MEMORY_SIZE, "out of memory");
                uc.get_data_mut().trace.stacks.push((address, free));
                address
            }
            222 => r[0],
            // clone: the new thread runs first
            220 => {
                let state = uc.get_data_mut();
                let thread = state.trace.stacks.len() - 1;
                let callers = std::mem::take(&mut state.callers);
                let mut registers = r;
                registers[0] = thread as u64;
                waiting.push(Waiting { thread: state.thread, registers, pc, callers });
                (state.thread, state.begun, state.last) = (thread, false, (0, 0));
                uc.reg_write(RegisterARM64::SP, r[1]).map_err(failed)?;
                // Darwin's threads begin with all other registers 0.
                uc.reg_write(RegisterARM64::FP, 0).map_err(failed)?;
                uc.reg_write(RegisterARM64::LR, 0).map_err(failed)?;
                0
            }
            // exit of a thread
            93 => {
                let back = waiting.pop().context("the first thread has ended alone")?;
                let state = uc.get_data_mut();
                (state.thread, state.callers, state.begun, state.last) = (back.thread, back.callers, true, (0, 0));
                pc = back.pc;
                for (number, value) in back.registers.into_iter().enumerate() {
                    uc.reg_write(x(number), value).map_err(failed)?;
                }
                back.registers[0]
            }
            // exit_group
            94 => {
                ensure!(r[0] == 0, "the program ends with status {}", r[0]);
                return Ok((std::mem::take(&mut uc.get_data_mut().trace), printed));
            }
            // futex: nobody waits here. prctl: names.
            98 | 167 => 0,
            other => bail!("system call {other} at {pc:#x}"),
        };
        uc.reg_write(RegisterARM64::X0, result).map_err(failed)?;
    }
}

/// A signal comes: the kernel puts a context on the stack and has the trampoline run, whose address is returned.
fn interrupt(uc: &mut Unicorn<'_, State>, pc: u64, registers: &Registers) -> Result<u64> {
    let state = uc.get_data_mut();
    let signals = state.signals.as_mut().context("no trampolines")?;
    let place = signals.handler;
    signals.interrupted.push(state.callers.len());
    state.callers.push((pc, registers[31]));
    state.jump = Some(Before::Jump(0, vec![pc]));
    let handler = word(uc, place)?;
    let signals = uc.get_data().signals.as_ref().context("no trampolines")?;
    let start = signals.start(pc, registers, handler);
    let (at, bytes) = start.frame;
    uc.mem_write(at, &bytes).map_err(failed)?;
    let state = uc.get_data_mut();
    state.writes.push((at, bytes.len()));
    state.last = (0, 0);
    for (number, value) in start.arguments.into_iter().enumerate() {
        uc.reg_write(x(number), value).map_err(failed)?;
    }
    uc.reg_write(RegisterARM64::SP, start.sp).map_err(failed)?;
    Ok(start.pc)
}

/// A handler has ended: goes on with what is in the `ucontext64` at `context`.
fn go_back(uc: &mut Unicorn<'_, State>, context: u64) -> Result<u64> {
    let machine = word(uc, context + 48)? + 16;
    for number in 0..32 {
        let value = word(uc, machine + number as u64 * 8)?;
        uc.reg_write(x(number), value).map_err(failed)?;
    }
    let pc = word(uc, machine + 256)?;
    let state = uc.get_data_mut();
    let kept = state.signals.as_mut().and_then(|signals| signals.interrupted.pop()).context("no signal")?;
    state.jump = Some(Before::Jump(state.callers.len() - kept, Vec::new()));
    state.callers.truncate(kept);
    state.last = (0, 0);
    Ok(pc)
}

fn word(uc: &Unicorn<'_, State>, address: u64) -> Result<u64> {
    let mut bytes = [0; 8];
    uc.mem_read(address, &mut bytes).map_err(failed)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Leaves, for `lazy_bind` of victims/binder.c, a table of the pointers that are bound when they are first used. Returns where
/// the next may be.
fn prepare_lazy(
    uc: &mut Unicorn<'_, State>,
    image: &Image,
    base: u64,
    mut at: u64,
    find: &impl Fn(&str) -> Result<u64>,
) -> Result<u64> {
    let Some(private) = image.dyld_private() else { return Ok(at) };
    uc.mem_write(base + private, &at.to_le_bytes()).map_err(failed)?;
    let mut put = |value: u64| {
        at += 8;
        uc.mem_write(at - 8, &value.to_le_bytes()).map_err(failed)
    };
    for bind in image.lazy_binds()? {
        for value in [bind.start, base + bind.offset, find(&bind.name)? + bind.addend] {
            put(value)?;
        }
    }
    put(u64::MAX)?;
    Ok(at)
}

fn load(uc: &mut Unicorn<'_, State>, image: &Image, base: u64, find: &impl Fn(&str) -> Result<u64>) -> Result<()> {
    for segment in image.segments.iter().filter(|segment| segment.size > 0) {
        let address = segment.address - image.base() + base;
        uc.mem_map(address, segment.size.next_multiple_of(PAGE), Prot::ALL).map_err(failed)?;
        let from = segment.offset as usize;
        uc.mem_write(address, &image.bytes[from..from + segment.file_size as usize]).map_err(failed)?;
    }
    for fixup in image.fixups()? {
        let value = match &fixup.target {
            Target::Own(offset) => base + offset,
            Target::Symbol(name, addend) => find(name)? + addend,
        };
        uc.mem_write(base + fixup.offset, &value.to_le_bytes()).map_err(failed)?;
    }
    Ok(())
}

/// Before each instruction.
fn moment(uc: &mut Unicorn<'_, State>, address: u64) {
    let mut code = [0; 4];
    if uc.mem_read(address, &mut code).is_err() {
        return;
    }
    let code = u32::from_le_bytes(code);
    let (last_address, last) = uc.get_data().last;
    if last == PACIBSP {
        let lr = uc.reg_read(RegisterARM64::LR).unwrap_or(0);
        let _ = uc.reg_write(RegisterARM64::LR, lr & ADDRESS | SIGNATURE);
    }
    let registers = registers(uc);
    let written = std::mem::take(&mut uc.get_data_mut().writes);
    let stacks = uc.get_data().trace.stacks.clone();
    let on_stack = |at: u64| stacks.iter().any(|(start, end)| (*start..*end).contains(&at));
    let writes: Vec<(u64, Vec<u8>)> = written
        .into_iter()
        .filter(|(at, _)| on_stack(*at))
        .filter_map(|(at, size)| Some((at, uc.mem_read_as_vec(at, size).ok()?)))
        .collect();
    let state = uc.get_data_mut();
    // bl; blr and its authenticated forms
    let call = last & 0xfc00_0000 == 0x9400_0000 || last & 0xfeff_f000 == 0xd63f_0000;
    let install = (state.install.0..state.install.1).contains(&last_address);
    let before = match (state.jump.take(), last) {
        (Some(jump), _) => jump,
        (None, _) if call => Before::Call,
        (None, RET | RETAB) => Before::Return,
        // What was called below the stack pointer is gone; the landing pad is in x14.
        (None, MOV_SP_X13) if install => {
            let sp = registers[31];
            let kept = state.callers.partition_point(|(_, at)| *at > sp);
            let gone = state.callers.len() - kept;
            state.callers.truncate(kept);
            state.callers.push((registers[14], sp));
            Before::Jump(gone, vec![registers[14]])
        }
        _ => Before::Other,
    };
    match before {
        Before::Call => state.callers.push((last_address + 4, registers[31])),
        Before::Return => {
            if state.callers.pop().map(|(caller, _)| caller) != Some(address) {
                state.wrong = Some(format!("a return to {address:#x}, which was not called from there"));
                let _ = uc.emu_stop();
                return;
            }
        }
        _ => {}
    }
    // What was written before a thread begins is on its stack when it does.
    state.begun |= state.starts.contains(&address);
    if state.begun {
        let thread = state.thread;
        state.trace.add(thread, &before, address, registers, &writes);
    } else {
        for (at, bytes) in writes {
            state.writes.push((at, bytes.len()));
        }
    }
    state.last = (address, code);
    if let Some(place) = state.signals.as_ref().map(|signals| signals.handler) {
        let handler = word(uc, place).unwrap_or(0);
        let state = uc.get_data_mut();
        let comes = state.begun && state.signals.as_mut().is_some_and(|signals| signals.comes(address, handler));
        if comes {
            state.signal = true;
            let _ = uc.emu_stop();
            return;
        }
    }
    if code == AUTIBSP || code == RETAB {
        let _ = uc.reg_write(RegisterARM64::LR, registers[30] & ADDRESS);
    }
}
