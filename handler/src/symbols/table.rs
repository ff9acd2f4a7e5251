//! Symbol tables: the nearest function symbol before an address, never one of another function.

use crate::unwind::file::{FileError, FileSymbol, ObjectFile};

/// Names that one address may have (aliases); the best of them is shown.
const ALIASES: usize = 8;
/// A function that an address lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Function {
    /// Its name, as it is in the table.
    pub(super) name: String,
    /// Its first address.
    pub(super) start: u64,
}

/// The functions that `addresses` (sorted, in the file's own terms) lie in, by the file's symbol table.
pub(super) fn functions(file: &ObjectFile, addresses: &[u64]) -> Result<Vec<Option<Function>>, FileError> {
    let mut sized = Nearest::new(addresses);
    let mut labels = Nearest::new(addresses);
    file.code_symbols(|symbol| if symbol.size > 0 { sized.note(symbol) } else { labels.note(symbol) })?;
    let candidates = sized.finish().into_iter().zip(labels.finish()).zip(addresses);
    let functions = candidates.map(|((sized, label), address)| {
        let candidate = choose(file, sized, label, *address)?;
        let name = candidate.name(|offset| file.symbol_name(offset))?;
        // Some linkers append the symbol's version: "name@@VERSION".
        let name = name.split_once('@').map_or(name.clone(), |(name, _)| name.to_owned());
        Some(Function { name, start: candidate.start })
    });
    Ok(functions.collect())
}

/// Which of the nearest symbols names the function that `address` lies in: the one with a size, if it reaches that far; a
/// label up to whatever begins next.
fn choose(file: &ObjectFile, sized: Option<Candidate>, label: Option<Candidate>, address: u64) -> Option<Candidate> {
    if let Some(sized) = sized.as_ref().filter(|sized| address < sized.end()) {
        return Some(sized.clone());
    }
    let label = label?;
    // What lies between the end of a function and the next one has no name.
    if sized.is_some_and(|sized| sized.end() > label.start) {
        return None;
    }
    // A function that was stripped of its name is not the one before it.
    let starts = file.function_starts();
    let start = starts.partition_point(|start| *start <= address).checked_sub(1).map(|index| starts[index]);
    if start.is_some_and(|start| start > label.start) {
        return None;
    }
    let section =
        |at: u64| file.sections().iter().position(|s| s.size > 0 && at >= s.address && at - s.address < s.size);
    (section(label.start) == section(address)).then_some(label)
}

/// The nearest symbol before each address, found in one pass: each symbol is noted at the first address that follows it,
/// and what is noted there serves the later addresses too, unless something nearer does.
struct Nearest<'a> {
    addresses: &'a [u64],
    best: Vec<Option<Candidate>>,
}

#[derive(Debug, Clone)]
struct Candidate {
    start: u64,
    /// 0: the table does not say.
    size: u64,
    /// Offset in the string table, and rank (lower is better).
    names: Vec<(u32, u8)>,
}

impl<'a> Nearest<'a> {
    fn new(addresses: &'a [u64]) -> Nearest<'a> {
        Nearest { addresses, best: vec![None; addresses.len()] }
    }

    fn note(&mut self, symbol: FileSymbol) {
        let FileSymbol { address: start, size, name, rank } = symbol;
        let slot = self.addresses.partition_point(|address| *address < start);
        let Some(best) = self.best.get_mut(slot) else { return };
        match best {
            Some(candidate) if candidate.start > start => {}
            Some(candidate) if candidate.start == start => {
                candidate.size = candidate.size.max(size);
                if candidate.names.len() < ALIASES {
                    candidate.names.push((name, rank));
                }
            }
            _ => *best = Some(Candidate { start, size, names: vec![(name, rank)] }),
        }
    }

    fn finish(mut self) -> Vec<Option<Candidate>> {
        for slot in 1..self.best.len() {
            let (before, after) = self.best.split_at_mut(slot);
            let (Some(before), after) = (&before[slot - 1], &mut after[0]) else { continue };
            if after.as_ref().is_none_or(|after| after.start < before.start) {
                *after = Some(before.clone());
            }
        }
        self.best
    }
}

impl Candidate {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.size)
    }

    /// The best of its names.
    fn name(&self, read: impl Fn(u32) -> Option<String>) -> Option<String> {
        let names = self.names.iter().filter_map(|(offset, rank)| Some((*rank, read(*offset)?)));
        // Of aliases, the one that people know: `write` rather than `__write`.
        let order = |(rank, name): &(u8, String)| {
            (*rank, name.len() - name.trim_start_matches('_').len(), name.len(), name.clone())
        };
        names.min_by_key(order).map(|(_, name)| name)
    }
}
