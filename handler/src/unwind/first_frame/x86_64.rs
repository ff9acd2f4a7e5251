//! What x86-64 instructions do to registers and stack (Intel SDM 2).

use std::cell::RefCell;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, InstructionInfoOptions, Mnemonic,
    OpAccess, OpKind, Register,
};

use super::flow::{Instructions, Next, State, Value, straight};

const RSP: u16 = 7;
const RBP: u16 = 6;
const RAX: u16 = 0;

/// A function's bytes.
pub(super) struct Code<'a> {
    bytes: &'a [u8],
    start: u64,
    information: RefCell<InstructionInfoFactory>,
}

impl<'a> Code<'a> {
    pub(super) fn new(bytes: &'a [u8], start: u64) -> Code<'a> {
        Code { bytes, start, information: RefCell::new(InstructionInfoFactory::new()) }
    }

    fn decode(&self, address: u64) -> Option<Instruction> {
        let bytes = self.bytes.get(usize::try_from(address.checked_sub(self.start)?).ok()?..)?;
        let instruction = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
        (!instruction.is_invalid()).then_some(instruction)
    }

    /// Every register that the instruction writes becomes unknown.
    fn forget(&self, instruction: &Instruction, state: &mut State) {
        let mut information = self.information.borrow_mut();
        let information = information.info_options(instruction, InstructionInfoOptions::NO_MEMORY_USAGE);
        for used in information.used_registers() {
            let written =
                !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None | OpAccess::NoMemAccess);
            if let (true, Some(number)) = (written, number(used.register().full_register())) {
                state.set(number, Value::Unknown);
            }
        }
    }
}

/// What is known in stub helpers: `push NUMBER; jmp START` each, and `lea r11, [...]; push r11; jmp [...]` at the start.
pub(super) fn in_stub_helper(bytes: &[u8], start: u64, pc: u64) -> Option<State> {
    let code = Code::new(bytes, start);
    let mut pushed = code.entry();
    push(&mut pushed, Value::Unknown);
    match bytes.get(usize::try_from(pc.checked_sub(start)?).ok()?)? {
        0x68 => Some(code.entry()),
        0xe9 => Some(pushed),
        _ => straight(&code, start, pc, pushed),
    }
}

impl Instructions for Code<'_> {
    fn entry(&self) -> State {
        // The call has pushed the return address.
        State::at_entry(RSP, -8)
    }

    fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }

    fn run(&self, address: u64, state: &mut State) -> Option<(u64, Next)> {
        let instruction = self.decode(address)?;
        let next = instruction.next_ip();
        let target = || match instruction.op0_kind() {
            OpKind::NearBranch64 => Some(instruction.near_branch64()),
            _ => None,
        };
        let to = match instruction.flow_control() {
            FlowControl::Next => {
                self.compute(&instruction, state);
                Next::On
            }
            FlowControl::ConditionalBranch => {
                // LOOP counts in rcx; the other branches write nothing.
                self.forget(&instruction, state);
                Next::Branch(target()?)
            }
            FlowControl::UnconditionalBranch => Next::Jump(target()?),
            FlowControl::IndirectBranch => Next::Elsewhere,
            FlowControl::Call | FlowControl::IndirectCall if instruction.mnemonic() == Mnemonic::Call => {
                // `call` to the next instruction, to learn the address: pushes it, and never returns there.
                if target() == Some(next) {
                    push(state, Value::Unknown);
                    return Some((next, Next::On));
                }
                self.after_call(next, state);
                Next::Call
            }
            // The kernel returns here with rax, rcx and r11 changed.
            FlowControl::Call => {
                self.forget(&instruction, state);
                Next::On
            }
            // int3 goes on after it is looked at; as an end of what never returns it would stand last.
            FlowControl::Interrupt if instruction.mnemonic() == Mnemonic::Int3 => Next::Call,
            FlowControl::Interrupt => Next::On,
            FlowControl::Return if matches!(instruction.mnemonic(), Mnemonic::Ret) => Next::Return,
            _ => Next::End,
        };
        Some((next, to))
    }

    /// `cmp rsp, r11; jne`, in the form that LLVM emits.
    fn not_taken(&self, address: u64, state: &mut State) {
        const COMPARE: [u8; 3] = [0x4c, 0x39, 0xdc];
        let offset = address.checked_sub(self.start).and_then(|offset| usize::try_from(offset).ok());
        let Some((before, after)) = offset.and_then(|offset| self.bytes.split_at_checked(offset)) else { return };
        if before.ends_with(&COMPARE) && matches!(after, [0x75, ..] | [0x0f, 0x85, ..]) {
            state.stack_pointer_equals(11);
        }
    }
}

impl Code<'_> {
    /// A called function has returned: what it need not preserve is unknown (psABI 3.2.1).
    fn after_call(&self, next: u64, state: &mut State) {
        // `mov eax, SIZE; call ___chkstk_darwin; sub rsp, rax`: the probe preserves rax.
        let probe = matches!(state.get(RAX), Value::Constant(_))
            && self.decode(next).is_some_and(|instruction| {
                instruction.mnemonic() == Mnemonic::Sub
                    && instruction.op0_register() == Register::RSP
                    && instruction.op1_register() == Register::RAX
            });
        for number in [0, 1, 2, 4, 5, 8, 9, 10, 11].into_iter().filter(|number| !(probe && *number == RAX)) {
            state.set(number, Value::Unknown);
        }
    }

    fn compute(&self, instruction: &Instruction, state: &mut State) {
        match instruction.mnemonic() {
            Mnemonic::Push => {
                let value = match (instruction.op0_kind(), instruction.stack_pointer_increment()) {
                    (OpKind::Register, -8) => value_of(state, instruction.op0_register()),
                    (OpKind::Memory, -8) => state.slot(address(instruction, state)),
                    (_, -8) => Value::Unknown,
                    _ => return state.set(RSP, Value::Unknown),
                };
                push(state, value);
            }
            Mnemonic::Pushfq => push(state, Value::Unknown),
            Mnemonic::Pop | Mnemonic::Popfq if instruction.stack_pointer_increment() == 8 => {
                let value = pop(state);
                match instruction.op0_kind() {
                    _ if instruction.mnemonic() == Mnemonic::Popfq => {}
                    OpKind::Register => set(state, instruction.op0_register(), value),
                    _ => self.store(instruction, state, Value::Unknown),
                }
            }
            Mnemonic::Leave => {
                let frame = state.get(RBP);
                state.set(RSP, frame);
                let saved = pop(state);
                state.set(RBP, saved);
            }
            Mnemonic::Mov => self.move_(instruction, state),
            Mnemonic::Lea => {
                let value = match instruction.op0_register().size() {
                    8 => address(instruction, state),
                    _ => Value::Unknown,
                };
                set(state, instruction.op0_register(), value);
            }
            Mnemonic::And if instruction.op0_register() == Register::RSP => state.align(RSP),
            Mnemonic::Add | Mnemonic::Sub if instruction.op0_kind() == OpKind::Register => {
                let sign = if instruction.mnemonic() == Mnemonic::Add { 1 } else { -1 };
                let amount = match instruction.op1_kind() {
                    OpKind::Register => match value_of(state, instruction.op1_register()) {
                        Value::Constant(amount) => Some(amount as i64),
                        _ => None,
                    },
                    OpKind::Memory => None,
                    _ => Some(instruction.immediate(1) as i64),
                };
                let register = instruction.op0_register();
                let value = match amount {
                    Some(amount) => value_of(state, register).plus(amount.wrapping_mul(sign)),
                    None => Value::Unknown,
                };
                set(state, register, value);
            }
            Mnemonic::Xor
                if instruction.op0_kind() == OpKind::Register
                    && instruction.op1_kind() == OpKind::Register
                    && instruction.op0_register() == instruction.op1_register() =>
            {
                set(state, instruction.op0_register(), Value::Unknown);
            }
            _ => {
                let stack = state.get(RSP);
                // Stack probes touch memory without changing it: `or qword ptr [rsp], 0`.
                let touches = matches!(instruction.mnemonic(), Mnemonic::Or | Mnemonic::Xor)
                    && is_immediate(instruction.op1_kind())
                    && instruction.immediate(1) == 0;
                let reads = touches || matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Bt);
                if !reads && instruction.op_count() > 0 && instruction.op0_kind() == OpKind::Memory {
                    self.store(instruction, state, Value::Unknown);
                }
                self.forget(instruction, state);
                // Whatever else moves the stack pointer by a known distance.
                let increment = instruction.stack_pointer_increment();
                if increment != 0 {
                    state.set(RSP, stack.plus(increment.into()));
                }
            }
        }
    }

    fn move_(&self, instruction: &Instruction, state: &mut State) {
        match (instruction.op0_kind(), instruction.op1_kind()) {
            (OpKind::Register, OpKind::Register) => {
                let value = value_of(state, instruction.op1_register());
                set(state, instruction.op0_register(), value);
            }
            (OpKind::Register, OpKind::Memory) => {
                let value = match instruction.op0_register().size() {
                    8 => state.slot(address(instruction, state)),
                    _ => Value::Unknown,
                };
                set(state, instruction.op0_register(), value);
            }
            (OpKind::Register, _) => {
                // A 32-bit move clears the upper half.
                let register = instruction.op0_register();
                let constant = match register.size() {
                    4 => Value::Constant(u64::from(instruction.immediate(1) as u32)),
                    8 => Value::Constant(instruction.immediate(1)),
                    _ => Value::Unknown,
                };
                if let Some(number) = number(register.full_register()) {
                    state.set(number, constant);
                }
            }
            (OpKind::Memory, OpKind::Register) => {
                let value = value_of(state, instruction.op1_register());
                self.store(instruction, state, value);
            }
            _ => self.store(instruction, state, Value::Unknown),
        }
    }

    /// Memory is written. A write through a pointer that does not come from the stack pointer is taken not to reach saved
    /// registers.
    fn store(&self, instruction: &Instruction, state: &mut State, value: Value) {
        let place = address(instruction, state);
        state.store(place, instruction.memory_size().size() as i64, value);
    }
}

/// What the memory operand's address is.
fn address(instruction: &Instruction, state: &State) -> Value {
    if instruction.memory_index() != Register::None || instruction.segment_prefix() != Register::None {
        return Value::Unknown;
    }
    match value_of(state, instruction.memory_base()) {
        base @ (Value::Cfa(_) | Value::Aligned(_)) => base.plus(instruction.memory_displacement64() as i64),
        _ => Value::Unknown,
    }
}

fn push(state: &mut State, value: Value) {
    let place = state.get(RSP).plus(-8);
    state.set(RSP, place);
    state.store(place, 8, value);
}

fn pop(state: &mut State) -> Value {
    let place = state.get(RSP);
    state.set(RSP, place.plus(8));
    state.slot(place)
}

/// A 64-bit register's value; parts of registers are unknown.
fn value_of(state: &State, register: Register) -> Value {
    number(register).map_or(Value::Unknown, |number| state.get(number))
}

/// A register is written; a part of one makes all of it unknown.
fn set(state: &mut State, register: Register, value: Value) {
    match (number(register), number(register.full_register())) {
        (Some(number), _) => state.set(number, value),
        (None, Some(number)) => state.set(number, Value::Unknown),
        (None, None) => {}
    }
}

fn is_immediate(kind: OpKind) -> bool {
    !matches!(kind, OpKind::Register | OpKind::Memory)
}

/// DWARF number of a 64-bit general register.
fn number(register: Register) -> Option<u16> {
    const DWARF: [u16; 16] = [0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15];
    register.is_gpr64().then(|| DWARF[register.number() & 15])
}
