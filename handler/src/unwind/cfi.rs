//! DWARF call frame information: `.eh_frame`, `.debug_frame`, Mach-O `__eh_frame` (DWARF 5, 6.4; LSB Core 5.0, 10.6).
//!
//! The rows are read with gimli and run here rather than by framehop, which has no bound on expressions (a table that jumps
//! to itself would hold us for ever), can't read memory in them (each signal trampoline needs that), and carries three
//! registers only.

use std::sync::OnceLock;

use addr2line::gimli::{
    BaseAddresses, CfaRule, DebugFrame, EhFrame, Encoding, EndianSlice, Evaluation, EvaluationResult, LittleEndian,
    Location, RegisterRule, UnwindContext, UnwindExpression, UnwindOffset, UnwindSection, Value, Vendor,
};
use aftermach_protocol::platform::Cpu;

use super::code::CodeMap;
use super::plain::Plain;
use super::registers::{ARM64_LR, Registers, X86_64_RA};
use super::stack::StackReader;
use super::step::Failure;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Steps of one expression. The longest that compilers emit have about ten.
const EXPRESSION_STEPS: u32 = 256;
/// Entries of a table without a search index that are indexed. Chromium's `.eh_frame` has about 600,000.
const INDEXED_ENTRIES: usize = 2_000_000;

/// One image's call frame information, in the file's own addresses.
#[derive(Debug)]
pub(crate) struct Cfi {
    cpu: Cpu,
    /// `.debug_frame` rather than `.eh_frame`.
    debug_frame: bool,
    section: Vec<u8>,
    bases: BaseAddresses,
    search: Search,
}

/// How the entry for an address is found.
#[derive(Debug)]
enum Search {
    /// The linker's sorted table: pairs of (start, entry), both as 32-bit distances from the header's address.
    Header { table: Vec<u8>, header: u64, section: u64 },
    /// Our own, made when first asked: (start, offset of the entry), sorted.
    Index(OnceLock<Vec<(u64, usize)>>),
    /// The entry's offset is known already (Mach-O compact unwind information names it).
    Given,
}

/// A row of the table: how to find the caller's registers at one instruction.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    cfa: CfaRule<usize>,
    /// (register, rule), the return address column included.
    registers: Vec<(u16, RegisterRule<usize>)>,
    return_address: u16,
    encoding: Encoding,
    /// The caller is what a signal interrupted ('S' augmentation).
    pub(crate) signal: bool,
    /// The function has landing pads for exceptions.
    pub(crate) has_lsda: bool,
    /// First address of the function.
    pub(crate) start: u64,
    /// Address after the function's last.
    pub(crate) end: u64,
}

/// Where the sections were loaded, in the file's own addresses.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bases {
    pub(crate) eh_frame: u64,
    pub(crate) text: u64,
    pub(crate) got: u64,
}

/// Where a register is saved.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) register: u16,
    pub(crate) offset: i64,
}

#[cfg(test)]
impl Row {
    /// The register and the offset that make the CFA.
    pub(crate) fn cfa_place(&self) -> Option<(u16, i64)> {
        match &self.cfa {
            CfaRule::RegisterAndOffset { register, offset } => Some((register.0, *offset)),
            CfaRule::Expression(_) => None,
        }
    }

    /// The registers that are saved, and where from the CFA.
    pub(crate) fn places(&self) -> Vec<Place> {
        let place = |(register, rule): &(u16, RegisterRule<usize>)| match rule {
            RegisterRule::Offset(offset) => Some(Place { register: *register, offset: *offset }),
            _ => None,
        };
        self.registers.iter().filter_map(place).collect()
    }
}

impl Row {
    /// The same as a plain rule, if it is one. Registers that nobody keeps are left out.
    pub(crate) fn plain(&self, cpu: Cpu) -> Option<Plain> {
        let return_address = match cpu {
            Cpu::X86_64 => X86_64_RA,
            Cpu::Arm64 => ARM64_LR,
        };
        let CfaRule::RegisterAndOffset { register, offset } = self.cfa else { return None };
        if self.signal || self.return_address != return_address {
            return None;
        }
        let saved = |wanted: u16| self.registers.iter().filter(move |(register, _)| *register == wanted);
        let RegisterRule::Offset(at) = saved(return_address).next_back()?.1 else { return None };
        let mut plain = Plain::new(register.0, offset, at)?;
        for (register, rule) in self.registers.iter().filter(|(register, _)| *register < 32) {
            let RegisterRule::Offset(offset) = rule else { return None };
            if !(cpu == Cpu::X86_64 && *register == X86_64_RA) {
                plain = plain.saves(cpu, *register, *offset)?;
            }
        }
        Some(plain)
    }

    /// Whether it describes a function's first instruction: nothing but the call has happened. The part of a function that GCC
    /// moves out of the way ("name.cold") has tables of its own that start in the middle.
    pub(crate) fn is_entry(&self, cpu: Cpu) -> bool {
        let (sp, pushed) = match cpu {
            Cpu::X86_64 => (7, 8),
            Cpu::Arm64 => (31, 0),
        };
        let saves = |(register, rule): &(u16, RegisterRule<usize>)| {
            *register != self.return_address && !matches!(rule, RegisterRule::Undefined | RegisterRule::SameValue)
        };
        let by_sp =
            matches!(self.cfa, CfaRule::RegisterAndOffset { register, offset } if register.0 == sp && offset == pushed);
        by_sp && !self.registers.iter().any(saves)
    }

    /// Whether it describes what a signal interrupted, marked as such or not: only a trampoline computes both the CFA and the
    /// return address, out of the context that the kernel has saved.
    pub(crate) fn restores_context(&self) -> bool {
        let computed = |(register, rule): &(u16, RegisterRule<usize>)| {
            *register == self.return_address && matches!(rule, RegisterRule::Expression(_))
        };
        self.signal || matches!(self.cfa, CfaRule::Expression(_)) && self.registers.iter().any(computed)
    }

    /// Whether it has expressions: what GCC emits for a frame whose stack pointer it has aligned, and does not keep up to date
    /// in the epilogue.
    pub(crate) fn has_expressions(&self) -> bool {
        let is_expression = |rule: &RegisterRule<usize>| matches!(rule, RegisterRule::Expression(_));
        matches!(self.cfa, CfaRule::Expression(_)) || self.registers.iter().any(|(_, rule)| is_expression(rule))
    }
}

impl Cfi {
    /// `.eh_frame` with its `.eh_frame_hdr` as (bytes, address), if there is one.
    pub(crate) fn eh_frame(cpu: Cpu, section: Vec<u8>, bases: Bases, header: Option<(Vec<u8>, u64)>) -> Cfi {
        let search = header
            .and_then(|(bytes, address)| search_table(&bytes, address, bases.eh_frame))
            .unwrap_or_else(|| Search::Index(OnceLock::new()));
        let section = without_marks(cpu, section);
        Cfi { cpu, debug_frame: false, section, bases: base_addresses(bases), search }
    }

    /// `__eh_frame` of a Mach-O image whose compact unwind information names the entries.
    pub(crate) fn with_given_entries(cpu: Cpu, section: Vec<u8>, bases: Bases) -> Cfi {
        let section = without_marks(cpu, section);
        Cfi { cpu, debug_frame: false, section, bases: base_addresses(bases), search: Search::Given }
    }

    /// `.debug_frame`.
    pub(crate) fn debug_frame(cpu: Cpu, section: Vec<u8>) -> Cfi {
        let bases = BaseAddresses::default();
        Cfi { cpu, debug_frame: true, section, bases, search: Search::Index(OnceLock::new()) }
    }

    /// The row for `address`, if the table covers it.
    pub(crate) fn row(&self, address: u64, context: &mut UnwindContext<usize>) -> Option<Row> {
        let offset = match &self.search {
            Search::Header { table, header, section } => entry_in_table(table, *header, *section, address)?,
            Search::Index(index) => {
                let index = index.get_or_init(|| self.index());
                let after = index.partition_point(|(start, _)| *start <= address);
                index.get(after.checked_sub(1)?)?.1
            }
            Search::Given => return None,
        };
        self.row_of_entry(address, offset, context)
    }

    /// The row for `address` of the entry at `offset`.
    pub(crate) fn row_of_entry(&self, address: u64, offset: usize, context: &mut UnwindContext<usize>) -> Option<Row> {
        match self.debug_frame {
            false => row(&self.as_eh_frame(), &self.bases, address, offset, context),
            true => row(&self.as_debug_frame(), &self.bases, address, offset, context),
        }
    }

    /// The caller's registers.
    #[inline]
    pub(crate) fn run(
        &self,
        row: &Row,
        registers: &Registers,
        stack: &mut StackReader<'_>,
        code: &CodeMap,
        first: bool,
    ) -> Result<Caller, Failure> {
        let mut machine = Machine { section: &self.section, row, registers, stack, cfa: None };
        let cfa = match &row.cfa {
            CfaRule::RegisterAndOffset { register, offset } => {
                registers.get(register.0).ok_or(Failure::NoRule)?.wrapping_add_signed(*offset)
            }
            CfaRule::Expression(expression) => machine.evaluate(expression)?,
        };
        machine.cfa = Some(cfa);

        let mut caller = if row.signal { *registers } else { registers.preserved() };
        caller.set(caller.sp_number(), cfa);
        let mut return_address = ReturnAddress::Unstated;
        for (register, rule) in &row.registers {
            let value = machine.value(*register, rule, cfa);
            if *register == row.return_address {
                return_address = match (rule, &value) {
                    (RegisterRule::SameValue, _) => ReturnAddress::Unstated,
                    (RegisterRule::Undefined, _) => ReturnAddress::Undefined,
                    (_, Ok(value)) => ReturnAddress::Is(*value),
                    (_, Err(failure)) => return Err(*failure),
                };
            }
            // Any other register that can't be had costs no more than itself.
            match value {
                Ok(value) => caller.set(*register, value),
                Err(_) => caller.forget(*register),
            }
        }

        let raw = match (return_address, self.cpu) {
            (ReturnAddress::Is(value), _) => value,
            // "Undefined" is how the outermost function says so.
            (ReturnAddress::Undefined, _) | (ReturnAddress::Unstated, Cpu::X86_64) => return Ok(Caller::Root),
            // Still in the link register; true of the first frame only, since every call overwrites it.
            (ReturnAddress::Unstated, Cpu::Arm64) => {
                if !first {
                    return Err(Failure::NoRule);
                }
                registers.lr().ok_or(Failure::NoRule)?
            }
        };
        caller.pc = code.strip(raw);
        Ok(Caller::Frame { registers: caller, raw, by_stack_pointer: self.by_stack_pointer(row) })
    }

    /// Whether the row's CFA is counted from the stack pointer, which can't lead anywhere but up.
    fn by_stack_pointer(&self, row: &Row) -> bool {
        let sp = match self.cpu {
            Cpu::X86_64 => 7,
            Cpu::Arm64 => 31,
        };
        matches!(row.cfa, CfaRule::RegisterAndOffset { register, .. } if register.0 == sp)
    }

    fn as_eh_frame(&self) -> EhFrame<Slice<'_>> {
        let mut section = EhFrame::new(&self.section, LittleEndian);
        section.set_address_size(8);
        section.set_vendor(self.vendor());
        section
    }

    fn as_debug_frame(&self) -> DebugFrame<Slice<'_>> {
        let mut section = DebugFrame::new(&self.section, LittleEndian);
        section.set_address_size(8);
        section.set_vendor(self.vendor());
        section
    }

    fn vendor(&self) -> Vendor {
        match self.cpu {
            Cpu::X86_64 => Vendor::Default,
            Cpu::Arm64 => Vendor::AArch64,
        }
    }

    /// First address of every function and the one after its last.
    #[cfg(test)]
    pub(crate) fn functions(&self) -> Vec<(u64, u64)> {
        let mut context = UnwindContext::new();
        let rows =
            self.index().into_iter().filter_map(|(start, offset)| self.row_of_entry(start, offset, &mut context));
        rows.map(|row| (row.start, row.end)).collect()
    }

    fn index(&self) -> Vec<(u64, usize)> {
        match self.debug_frame {
            false => index(&self.as_eh_frame(), &self.bases),
            true => index(&self.as_debug_frame(), &self.bases),
        }
    }
}

/// What a row leads to.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "moved once a step; a box would cost an allocation a frame")]
pub(crate) enum Caller {
    /// The outermost frame: there is no caller.
    Root,
    /// The caller's registers, its pc without pointer authentication.
    Frame {
        registers: Registers,
        /// The pc as it stood on the stack.
        raw: u64,
        /// Found by going up from the stack pointer.
        by_stack_pointer: bool,
    },
}

enum ReturnAddress {
    Is(u64),
    Undefined,
    Unstated,
}

fn base_addresses(bases: Bases) -> BaseAddresses {
    BaseAddresses::default().set_eh_frame(bases.eh_frame).set_text(bases.text).set_got(bases.got)
}

/// `.eh_frame` without the marks that arm64 puts into augmentations, and which gimli refuses with all their functions: 'B', return
/// addresses are signed with the second key (arm64e's ABI), 'G', the frame's memory is tagged (DWARF for the Arm 64-bit
/// Architecture, 4.4). They change nothing of how a caller is found. What follows a mark moves up, and a no-op fills the end.
fn without_marks(cpu: Cpu, mut section: Vec<u8>) -> Vec<u8> {
    // Length, id (0 for these entries), version.
    const AUGMENTATION: usize = 9;
    let mut at = 0;
    while cpu == Cpu::Arm64
        && let Some(length) =
            section.get(at..).and_then(|rest| rest.first_chunk()).map(|bytes| u32::from_le_bytes(*bytes))
        && length != u32::MAX
        && let Some(entry) = section.get_mut(at..).and_then(|rest| rest.get_mut(..(length as usize).saturating_add(4)))
    {
        let common = entry.get(4..8) == Some(&[0; 4]);
        let letters = |entry: &[u8]| {
            let text = entry.get(AUGMENTATION..).filter(|_| common)?;
            let text = &text[..text.iter().position(|byte| *byte == 0)?];
            text.iter().position(|letter| matches!(letter, b'B' | b'G')).map(|index| AUGMENTATION + index)
        };
        while let Some(mark) = letters(entry) {
            entry.copy_within(mark + 1.., mark);
            if let Some(last) = entry.last_mut() {
                *last = 0;
            }
        }
        at += entry.len();
    }
    section
}

/// `.eh_frame_hdr` in the one encoding that linkers emit: 32-bit distances from the header, sorted (LSB Core 5.0, 10.6.2).
fn search_table(bytes: &[u8], header: u64, section: u64) -> Option<Search> {
    const UDATA4: u8 = 0x03;
    const DATAREL_SDATA4: u8 = 0x3b;
    let [1, _, UDATA4, DATAREL_SDATA4] = *bytes.first_chunk()? else { return None };
    // The pointer to .eh_frame has four bytes in any encoding seen.
    let count = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?) as usize;
    let table = bytes.get(12..)?;
    let length = count.checked_mul(8)?.min(table.len() / 8 * 8);
    Some(Search::Header { table: table[..length].to_vec(), header, section })
}

/// Offset in `.eh_frame` of the entry that may cover `address`.
fn entry_in_table(table: &[u8], header: u64, section: u64, address: u64) -> Option<usize> {
    let (rows, _) = table.as_chunks::<8>();
    let distance = |row: &[u8; 8], at: usize| {
        let bytes = [row[at], row[at + 1], row[at + 2], row[at + 3]];
        header.wrapping_add_signed(i32::from_le_bytes(bytes).into())
    };
    let after = rows.partition_point(|row| distance(row, 0) <= address);
    let row = rows.get(after.checked_sub(1)?)?;
    usize::try_from(distance(row, 4).checked_sub(section)?).ok()
}

fn row<'a, S>(
    section: &S,
    bases: &BaseAddresses,
    address: u64,
    offset: usize,
    context: &mut UnwindContext<usize>,
) -> Option<Row>
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: UnwindOffset<usize>,
{
    let entry = section.fde_from_offset(bases, S::Offset::from(offset), S::cie_from_offset).ok()?;
    if !entry.contains(address) {
        return None;
    }
    let encoding = entry.cie().encoding();
    let signal = entry.is_signal_trampoline();
    let has_lsda = entry.lsda().is_some();
    let (start, end) = (entry.initial_address(), entry.end_address());
    let return_address = entry.cie().return_address_register().0;
    let row = entry.unwind_info_for_address(section, bases, context, address).ok()?;
    let registers = row.registers().map(|(register, rule)| (register.0, rule.clone())).collect();
    Some(Row { cfa: row.cfa().clone(), registers, return_address, encoding, signal, has_lsda, start, end })
}

/// Every entry's start and offset, sorted. Entries that can't be read are left out.
fn index<'a, S>(section: &S, bases: &BaseAddresses) -> Vec<(u64, usize)>
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: UnwindOffset<usize>,
{
    use addr2line::gimli::CieOrFde;
    let mut index = Vec::new();
    let mut entries = section.entries(bases);
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        if let Ok(entry) = partial.parse(S::cie_from_offset) {
            index.push((entry.initial_address(), entry.offset()));
        }
        if index.len() == INDEXED_ENTRIES {
            break;
        }
    }
    index.sort_unstable();
    index
}

/// What expressions and rules read from.
struct Machine<'a, 'm> {
    section: &'a [u8],
    row: &'a Row,
    registers: &'a Registers,
    stack: &'a mut StackReader<'m>,
    cfa: Option<u64>,
}

impl Machine<'_, '_> {
    fn read(&mut self, address: u64) -> Result<u64, Failure> {
        self.stack.word(address).ok_or(Failure::Unreadable(address))
    }

    /// A register's value in the caller.
    #[inline]
    fn value(&mut self, register: u16, rule: &RegisterRule<usize>, cfa: u64) -> Result<u64, Failure> {
        match rule {
            RegisterRule::SameValue => self.registers.get(register).ok_or(Failure::NoRule),
            RegisterRule::Offset(offset) => self.read(cfa.wrapping_add_signed(*offset)),
            RegisterRule::ValOffset(offset) => Ok(cfa.wrapping_add_signed(*offset)),
            RegisterRule::Register(other) => self.registers.get(other.0).ok_or(Failure::NoRule),
            RegisterRule::Expression(expression) => {
                let address = self.evaluate(expression)?;
                self.read(address)
            }
            RegisterRule::ValExpression(expression) => self.evaluate(expression),
            RegisterRule::Constant(value) => Ok(*value),
            _ => Err(Failure::NoRule),
        }
    }

    fn evaluate(&mut self, expression: &UnwindExpression<usize>) -> Result<u64, Failure> {
        let end = expression.offset.checked_add(expression.length).ok_or(Failure::NoRule)?;
        let bytes = self.section.get(expression.offset..end).ok_or(Failure::NoRule)?;
        let mut evaluation = Evaluation::new(Slice::new(bytes, LittleEndian), self.row.encoding);
        evaluation.set_max_iterations(EXPRESSION_STEPS);
        if let Some(cfa) = self.cfa {
            // Register rules start with the CFA on the stack (DWARF 5, 6.4.2.3).
            evaluation.set_initial_value(cfa);
        }
        let mut result = evaluation.evaluate().map_err(|_| Failure::NoRule)?;
        // Each demand is one step of the expression, so the bound on steps bounds this loop as well.
        loop {
            result = match result {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = self.registers.get(register.0).ok_or(Failure::NoRule)?;
                    evaluation.resume_with_register(Value::Generic(value))
                }
                EvaluationResult::RequiresMemory { address, size, .. } => {
                    let word = self.read(address)?;
                    let bits = u32::from(size.clamp(1, 8)) * 8;
                    evaluation.resume_with_memory(Value::Generic(word & (u64::MAX >> (64 - bits))))
                }
                EvaluationResult::RequiresCallFrameCfa => {
                    evaluation.resume_with_call_frame_cfa(self.cfa.ok_or(Failure::NoRule)?)
                }
                _ => return Err(Failure::NoRule),
            }
            .map_err(|_| Failure::NoRule)?;
        }
        match evaluation.as_result() {
            [piece] => match piece.location {
                Location::Address { address } => Ok(address),
                _ => Err(Failure::NoRule),
            },
            _ => Err(Failure::NoRule),
        }
    }
}
