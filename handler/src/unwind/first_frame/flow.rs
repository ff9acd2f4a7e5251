//! Forward data flow over one function.

use std::collections::{BTreeMap, BTreeSet};

use super::NoResult;

/// What is known of a register or a stack slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing.
    Unknown,
    /// What this register held when the function was called.
    Entry(u8),
    /// The CFA plus this many bytes. The CFA is the stack pointer before the call.
    Cfa(i64),
    /// The stack pointer after it was aligned (`and rsp, -64`), plus this many bytes: how far below the CFA nobody knows.
    Aligned(i64),
    /// A number.
    Constant(u64),
}

impl Value {
    /// Some bytes further.
    pub(super) fn plus(self, bytes: i64) -> Value {
        match self {
            Value::Cfa(offset) => Value::Cfa(offset.wrapping_add(bytes)),
            Value::Aligned(offset) => Value::Aligned(offset.wrapping_add(bytes)),
            same if bytes == 0 => same,
            _ => Value::Unknown,
        }
    }

    /// Where in the frame it points, if it does.
    fn place(self) -> Option<(bool, i64)> {
        match self {
            Value::Cfa(offset) => Some((false, offset)),
            Value::Aligned(offset) => Some((true, offset)),
            _ => None,
        }
    }
}

/// Stack slots that a state keeps; a function saves at most 20 registers.
const SLOTS: usize = 32;

/// What is known before an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    values: [Value; 32],
    /// (whether it is counted from the aligned stack pointer rather than the CFA, offset, value), only what is known.
    slots: Vec<(bool, i64, Value)>,
    /// The stack pointer's number.
    stack_pointer: u16,
}

impl State {
    /// At the function's first instruction.
    pub(super) fn at_entry(stack_pointer: u16, offset: i64) -> State {
        let mut values: [Value; 32] = std::array::from_fn(|number| Value::Entry(number as u8));
        values[usize::from(stack_pointer)] = Value::Cfa(offset);
        State { values, slots: Vec::new(), stack_pointer }
    }

    fn stack_pointer(&self) -> Value {
        self.get(self.stack_pointer)
    }

    /// A register's value.
    pub(super) fn get(&self, number: u16) -> Value {
        self.values.get(usize::from(number)).copied().unwrap_or(Value::Unknown)
    }

    /// A register is written.
    pub(super) fn set(&mut self, number: u16, value: Value) {
        if let Some(slot) = self.values.get_mut(usize::from(number)) {
            *slot = value;
        }
    }

    /// The stack pointer is found to equal a register.
    pub(super) fn stack_pointer_equals(&mut self, number: u16) {
        let value = self.get(number);
        if value.place().is_some() {
            self.set(self.stack_pointer, value);
        }
    }

    /// The value of the stack slot at `place`.
    pub(super) fn slot(&self, place: Value) -> Value {
        let Some((aligned, offset)) = place.place() else { return Value::Unknown };
        let slot = self.slots.iter().find(|slot| (slot.0, slot.1) == (aligned, offset));
        slot.map_or(Value::Unknown, |(_, _, value)| *value)
    }

    /// The stack slots: where, and what they hold.
    pub(super) fn slots(&self) -> impl Iterator<Item = (Value, Value)> {
        let place = |aligned, offset| if aligned { Value::Aligned(offset) } else { Value::Cfa(offset) };
        self.slots.iter().map(move |(aligned, offset, value)| (place(*aligned, *offset), *value))
    }

    /// `size` bytes at `place` are written; all eight of them with `value`.
    pub(super) fn store(&mut self, place: Value, size: i64, value: Value) {
        let Some((aligned, offset)) = place.place() else { return };
        let apart = |at: i64| at.saturating_add(8) <= offset || at >= offset.saturating_add(size);
        self.slots.retain(|slot| slot.0 != aligned || apart(slot.1));
        if size == 8 && value != Value::Unknown && self.slots.len() < SLOTS {
            self.slots.push((aligned, offset, value));
            self.slots.sort_unstable_by_key(|slot| (slot.0, slot.1));
        }
    }

    /// The stack pointer has been aligned. A second time, what is counted from the first is lost.
    pub(super) fn align(&mut self, stack_pointer: u16) {
        let again = self.values.iter().any(|value| matches!(value, Value::Aligned(_)));
        self.slots.retain(|slot| !slot.0);
        let value = if again { Value::Unknown } else { Value::Aligned(0) };
        self.set(stack_pointer, value);
    }

    /// What both states know.
    fn meet(&self, other: &State) -> State {
        let both = |(a, b): (&Value, &Value)| if a == b { *a } else { Value::Unknown };
        let mut values = self.values;
        for (value, pair) in values.iter_mut().zip(self.values.iter().zip(&other.values)) {
            *value = both(pair);
        }
        let slots = self.slots.iter().filter(|slot| other.slots.contains(slot)).copied().collect();
        State { values, slots, stack_pointer: self.stack_pointer }
    }
}

/// Where control goes after an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// To the next instruction.
    On,
    /// To the next instruction or this address.
    Branch(u64),
    /// To this address.
    Jump(u64),
    /// To an address in a register or in memory: another function, or a case of a `switch`.
    Elsewhere,
    /// To the next instruction, if the function that is called returns.
    Call,
    /// Back to the caller: stack pointer and preserved registers are as they were at the call.
    Return,
    /// Nowhere: a trap.
    End,
}

/// A function's instructions.
pub(super) trait Instructions {
    /// The state at the first instruction.
    fn entry(&self) -> State;
    /// Runs the instruction at `address`: changes `state`, and says where the next instruction in memory begins and where
    /// control goes. `None` if there is no instruction.
    fn run(&self, address: u64, state: &mut State) -> Option<(u64, Next)>;
    /// What is known besides if the conditional branch at `address` is not taken. A stack probe goes on until the stack pointer
    /// equals another register.
    fn not_taken(&self, address: u64, state: &mut State);
    /// Address after the last byte.
    fn end(&self) -> u64;
}

/// Instructions that are run at most, all paths and repetitions together; and as many to see what runs into the targets of
/// jumps.
const STEPS: usize = 200_000;

/// Added to the calls on the way to what is only supposed to be reached.
const SUPPOSED: u32 = 1 << 20;

/// What is known where control comes from elsewhere than the instruction before.
#[derive(Debug, Clone)]
struct Block {
    state: State,
    /// Calls on the way here. A way through fewer calls is more to be believed, since a call may never return, and then what
    /// follows it in memory belongs to another path.
    calls: u32,
}

/// The state before the instruction at `pc`; if the function has `called` another one that is to return there, the state
/// right after that call.
pub(super) fn state_at(
    code: &impl Instructions,
    start: u64,
    pc: u64,
    called: bool,
    has_landing_pads: bool,
) -> Result<State, NoResult> {
    if pc == start && !called {
        return Ok(code.entry());
    }
    let mut flow = Flow::new(code, start);
    flow.has_landing_pads = has_landing_pads;
    flow.follow()?;
    let state = match called {
        true => flow.returns.get(&pc).map(|block| block.state.clone()),
        false => flow.known_at(pc),
    };
    // Paths on which the stack pointer was moved by unlike or unknown amounts have put it right before they return.
    let placed = state.as_ref().is_some_and(|state| state.stack_pointer().place().is_some());
    if !placed && !called && matches!(code.run(pc, &mut code.entry()), Some((_, Next::Return))) {
        return Ok(code.entry());
    }
    state.ok_or(NoResult::NotReached)
}

/// `state` after the instructions from `at` to `pc`, if they are run one after the other.
pub(super) fn straight(code: &impl Instructions, mut at: u64, pc: u64, mut state: State) -> Option<State> {
    while at < pc {
        match code.run(at, &mut state)? {
            (next, Next::On) => at = next,
            _ => return None,
        }
    }
    (at == pc).then_some(state)
}

/// What is known of a function.
pub(super) struct Flow<'a, Code> {
    code: &'a Code,
    start: u64,
    blocks: BTreeMap<u64, Block>,
    work: Vec<u64>,
    steps: usize,
    /// Instructions that were run again on the way to the target of a jump.
    run_again: usize,
    /// The state at jumps through a register or memory, what they agree on.
    elsewhere: Option<Block>,
    /// Addresses after instructions that don't go on.
    after: BTreeSet<u64>,
    /// The state at each return address.
    returns: BTreeMap<u64, Block>,
    /// Exceptions may enter it where no jump leads to.
    pub(super) has_landing_pads: bool,
}

impl<'a, Code: Instructions> Flow<'a, Code> {
    /// Nothing is known yet but the start.
    pub(super) fn new(code: &'a Code, start: u64) -> Flow<'a, Code> {
        let mut flow = Flow {
            code,
            start,
            blocks: BTreeMap::new(),
            work: Vec::new(),
            steps: 0,
            run_again: 0,
            elsewhere: None,
            after: BTreeSet::new(),
            returns: BTreeMap::new(),
            has_landing_pads: false,
        };
        flow.reach(start, Block { state: code.entry(), calls: 0 });
        flow
    }

    /// Follows all paths, and those that no jump shows: the cases of a `switch`, and the landing pads of exceptions. Their first
    /// instructions are to be found after instructions that don't go on.
    pub(super) fn follow(&mut self) -> Result<(), NoResult> {
        self.run()?;
        if let Some(block) = self.cases() {
            self.suppose(block)?;
        }
        match self.landing_pads().filter(|_| self.has_landing_pads) {
            Some(block) => self.suppose(block),
            None => Ok(()),
        }
    }

    /// What is known at the cases of a `switch`: its jump goes through a table, and all start with the state at the jump.
    fn cases(&self) -> Option<Block> {
        let block = self.elsewhere.clone()?;
        // With the stack as it was at the start, such a jump is a call in the place of a return, unless the function never
        // moves the stack pointer at all.
        let entry = self.code.entry();
        let moves = |block: &Block| block.state.stack_pointer() != entry.stack_pointer();
        (moves(&block) || !self.blocks.values().any(moves)).then_some(block)
    }

    /// What is known at landing pads: a call has been left by an exception, with the stack and the preserved registers as after
    /// its return (Itanium C++ ABI: Exception Handling, 1.6.3).
    fn landing_pads(&self) -> Option<Block> {
        self.returns
            .values()
            .cloned()
            .reduce(|one, other| Block { state: one.state.meet(&other.state), calls: one.calls.max(other.calls) })
    }

    /// What no path has reached after instructions that don't go on is supposed to start with `block`.
    fn suppose(&mut self, mut block: Block) -> Result<(), NoResult> {
        // Nothing that is known already is to be doubted for what is only supposed here.
        block.calls = block.calls.saturating_add(SUPPOSED);
        // In the order of addresses, since a case that ends shows where the next one begins.
        while let Some(head) = self.after.pop_first() {
            if self.inside(head) && self.known_at(head).is_none() {
                self.reach(head, block.clone());
                self.run()?;
            }
        }
        Ok(())
    }

    fn inside(&self, address: u64) -> bool {
        address >= self.start && address < self.code.end()
    }

    /// Control reaches `address`.
    fn reach(&mut self, address: u64, mut block: Block) {
        if !self.inside(address) {
            return;
        }
        // The first jump into the middle of a straight run: what runs into its target comes there as well.
        if !self.blocks.contains_key(&address)
            && let Some(run) = self.running_into(address)
        {
            if block.calls >= SUPPOSED {
                // The numbers of a jump table in the text, taken for a case of its `switch`, jump anywhere. Paths that do meet
                // have the stack pointer at the same place.
                let places = [&run, &block].map(|block| block.state.stack_pointer().place());
                if places[0].is_some() && places[0] != places[1] {
                    return;
                }
                block.state = run.state.meet(&block.state);
            } else if run.calls < block.calls {
                return;
            } else if run.calls == block.calls {
                block.state = run.state.meet(&block.state);
                if block.state == run.state {
                    return;
                }
            }
        }
        match self.blocks.get_mut(&address) {
            None => {
                self.blocks.insert(address, block);
                self.work.push(address);
            }
            Some(known) if known.state == block.state => known.calls = known.calls.min(block.calls),
            // The more believable way wins where they disagree.
            Some(known) if known.calls < block.calls => {}
            Some(known) if known.calls > block.calls => {
                *known = block;
                self.work.push(address);
            }
            Some(known) => {
                let met = known.state.meet(&block.state);
                if met != known.state {
                    known.state = met;
                    self.work.push(address);
                }
            }
        }
    }

    fn run(&mut self) -> Result<(), NoResult> {
        // The fewest calls first, so that what is believed most is there before it is compared with.
        while let Some(index) = (0..self.work.len()).min_by_key(|index| self.blocks[&self.work[*index]].calls) {
            let address = self.work.swap_remove(index);
            let Some(block) = self.blocks.get(&address).cloned() else { continue };
            self.run_block(address, block)?;
            // What was not met with all that runs into it is not to be relied on.
            if self.run_again > STEPS {
                return Err(NoResult::TooLarge);
            }
        }
        Ok(())
    }

    /// Runs from `address` on until control can't go on to the next instruction, or reaches one that is known.
    fn run_block(&mut self, mut address: u64, block: Block) -> Result<(), NoResult> {
        let Block { mut state, calls } = block;
        let first = address;
        loop {
            if address != first && self.blocks.contains_key(&address) {
                self.reach(address, Block { state, calls });
                return Ok(());
            }
            self.steps += 1;
            if self.steps > STEPS {
                return Err(NoResult::TooLarge);
            }
            let Some((next, to)) = self.code.run(address, &mut state) else { return Ok(()) };
            match to {
                Next::On => {}
                Next::Branch(target) => {
                    self.reach(target, Block { state: state.clone(), calls });
                    self.code.not_taken(address, &mut state);
                    self.reach(next, Block { state, calls });
                    return Ok(());
                }
                Next::Jump(target) => {
                    self.reach(target, Block { state, calls });
                    self.after.insert(next);
                    return Ok(());
                }
                Next::Call => {
                    let block = Block { state, calls: calls + 1 };
                    self.note_return(next, &block);
                    self.reach(next, block);
                    return Ok(());
                }
                Next::Elsewhere => {
                    let block = Block { state, calls };
                    self.elsewhere = Some(match self.elsewhere.take() {
                        None => block,
                        Some(known) => Block { state: known.state.meet(&block.state), calls: known.calls.max(calls) },
                    });
                    self.after.insert(next);
                    return Ok(());
                }
                Next::Return | Next::End => {
                    self.after.insert(next);
                    return Ok(());
                }
            }
            address = next;
        }
    }

    /// The state before the instruction at `address`: the last block that begins at or before it, and the instructions from
    /// there on, lead to it.
    pub(super) fn known_at(&self, address: u64) -> Option<State> {
        Some(self.run_to(address, &mut 0)?.state)
    }

    /// What comes to `address` from the instruction before it.
    fn running_into(&mut self, address: u64) -> Option<Block> {
        let mut steps = self.run_again;
        let block = self.run_to(address, &mut steps);
        self.run_again = steps;
        block
    }

    /// As [`Flow::known_at`]; counts the instructions that it runs in `steps`, and runs none above [`STEPS`].
    fn run_to(&self, address: u64, steps: &mut usize) -> Option<Block> {
        // Where instructions have several lengths, a block may begin in the middle of another's instruction: look back over
        // some.
        for (first, block) in self.blocks.range(..=address).rev().take(4) {
            let mut state = block.state.clone();
            let mut at = *first;
            while at < address && *steps <= STEPS {
                *steps += 1;
                match self.code.run(at, &mut state) {
                    Some((next, Next::On)) => at = next,
                    _ => break,
                }
            }
            if at == address {
                return Some(Block { state, calls: block.calls });
            }
        }
        None
    }

    /// A call is to return to `address`.
    fn note_return(&mut self, address: u64, block: &Block) {
        match self.returns.get_mut(&address) {
            Some(known) if known.calls < block.calls => {}
            Some(known) if known.calls == block.calls => known.state = known.state.meet(&block.state),
            _ => _ = self.returns.insert(address, block.clone()),
        }
    }
}
