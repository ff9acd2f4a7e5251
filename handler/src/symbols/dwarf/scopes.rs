//! What a declaration stands in: the namespaces and types that are the front of its name, where no linker's name has them.

use std::time::Instant;

use addr2line::gimli::{self, AttributeValue};

use super::section::Sections;
use super::unit::{Slice, Unit, malformed};
use crate::unwind::file::FileError;

/// Scopes of one unit; generated code has some ten thousand.
const SCOPES: usize = 1 << 18;
/// Scopes around one declaration that are named.
const DEPTH: usize = 32;
/// Entries between two looks at the clock.
const ENTRIES_PER_LOOK: u32 = 1 << 16;

/// The scopes of one unit, in the order in which they start.
pub(super) struct Scopes(Vec<Scope>);

struct Scope {
    /// Offsets in the unit of its entry, and of the one after its last.
    start: usize,
    end: usize,
    /// The scope around it.
    parent: Option<usize>,
}

enum Name {
    Is(String),
    /// A namespace without a name: what is in it is called so by demanglers and debuggers.
    AnonymousNamespace,
    /// A function, or a type without a name: what is in it has no name that reaches further out.
    Local,
}

impl Scopes {
    /// Reads them. A unit of a language without such scopes has none, and is not walked.
    pub(super) fn read(unit: &Unit<'_>, deadline: Instant) -> Result<Scopes, FileError> {
        let mut scopes: Vec<Scope> = Vec::new();
        let mut open: Vec<(isize, usize)> = Vec::new();
        let mut entries = unit.entries(None);
        let mut count: u32 = 0;
        // With line tables only, functions stand alone, and Rust's have no linker's names either.
        let any = unit.root.has_scopes && unit.may_have(has_name);
        while any && !entries.is_empty() {
            let (depth, offset) = (entries.next_depth(), entries.next_offset().0);
            let Some(abbreviation) = entries.read_abbreviation().map_err(malformed)? else { continue };
            while let Some((_, closed)) = open.pop_if(|(outer, _)| *outer >= depth) {
                scopes[closed].end = offset;
            }
            count = count.wrapping_add(1);
            if count.is_multiple_of(ENTRIES_PER_LOOK) && Instant::now() >= deadline || scopes.len() >= SCOPES {
                break;
            }
            let is_scope = abbreviation.tag() == gimli::DW_TAG_subprogram || has_name(abbreviation.tag());
            if !is_scope || !abbreviation.has_children() {
                entries.skip_attributes(abbreviation.attributes()).map_err(malformed)?;
                continue;
            }
            entries.skip_attributes(abbreviation.attributes()).map_err(malformed)?;
            let parent = open.last().map(|(_, index)| *index);
            open.push((depth, scopes.len()));
            scopes.push(Scope { start: offset, end: usize::MAX, parent });
        }
        Ok(Scopes(scopes))
    }

    /// `name`, with the scopes around the entry at `offset` of the unit in front.
    pub(super) fn qualify(&self, unit: &Unit<'_>, sections: &Sections<'_>, offset: usize, name: String) -> String {
        let after = self.0.partition_point(|scope| scope.start < offset);
        let mut around = after.checked_sub(1);
        // The last one before the entry may have ended; then the ones around that.
        while let Some(index) = around.filter(|index| self.0[*index].end <= offset) {
            around = self.0[index].parent;
        }
        let mut parts = vec![name];
        while let Some(scope) = around.map(|index| &self.0[index])
            && parts.len() <= DEPTH
        {
            match scope.name(unit, sections) {
                Name::Is(name) => parts.push(name),
                Name::AnonymousNamespace => parts.push("(anonymous namespace)".to_owned()),
                Name::Local => break,
            }
            around = scope.parent;
        }
        parts.reverse();
        parts.join("::")
    }
}

/// Whether such a scope is part of the names of what is in it.
fn has_name(kind: gimli::DwTag) -> bool {
    matches!(
        kind,
        gimli::DW_TAG_namespace
            | gimli::DW_TAG_module
            | gimli::DW_TAG_class_type
            | gimli::DW_TAG_structure_type
            | gimli::DW_TAG_union_type
            | gimli::DW_TAG_enumeration_type
            | gimli::DW_TAG_interface_type
    )
}

impl Scope {
    fn name(&self, unit: &Unit<'_>, sections: &Sections<'_>) -> Name {
        let mut entries = unit.entries(Some(self.start));
        let Ok(Some(abbreviation)) = entries.read_abbreviation() else { return Name::Local };
        let mut name: Option<AttributeValue<Slice<'_>>> = None;
        for specification in abbreviation.attributes() {
            let Ok(attribute) = entries.read_attribute_inline(*specification) else { return Name::Local };
            if attribute.name() == gimli::DW_AT_name {
                name = Some(attribute.value());
            }
        }
        match (abbreviation.tag(), name.and_then(|name| unit.root.string(sections, name))) {
            (gimli::DW_TAG_subprogram, _) => Name::Local,
            (_, Some(name)) => Name::Is(name),
            (gimli::DW_TAG_namespace, None) => Name::AnonymousNamespace,
            (_, None) => Name::Local,
        }
    }
}
