//! What a record says, read from a copy of its space.

use std::fmt;
use std::time::Duration;

use super::header::{Header, Part, State, u32_at, u64_at};
use super::words::Check;
use super::{BREADCRUMB_TEXT, COPY_KEY, COPY_VALUE, CUT, KEY_CAPACITY, MAX_SLOTS};

/// What a program said of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The product's group, name and channel, if the client was ever installed.
    pub product: Option<(String, String, String)>,
    /// The product's version, if one was given.
    pub version: Option<String>,
    /// Annotations in the order in which they were last set.
    pub annotations: Vec<Annotation>,
    /// Breadcrumbs, oldest first.
    pub breadcrumbs: Vec<Breadcrumb>,
    /// What could not be read, or was not believed.
    pub damage: Vec<Damage>,
}

/// One key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// The key.
    pub key: String,
    /// The last value that was completely written.
    pub value: String,
    /// The value was longer than the record holds, and was cut.
    pub cut: bool,
    /// A newer value was being written.
    pub superseded: bool,
}

/// One breadcrumb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breadcrumb {
    /// Its number, from 1. A gap in the numbers is a breadcrumb that was torn or dropped.
    pub number: u64,
    /// Time since the record was first used.
    pub time: Duration,
    /// What it says.
    pub text: String,
    /// It was longer than the record holds, and was cut.
    pub cut: bool,
}

/// What is wrong with a part of a record. The rest stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// A table does not lie in the space, or its entries are too small for what they should hold.
    Table(&'static str),
    /// A table has more entries than a reader looks at; the later ones are left out.
    TooMany(&'static str),
    /// The space could be read only in part: this table is missing after its first entries.
    Unread(&'static str),
    /// An annotation slot whose current copy fails its check: overwritten, or read while the process ran.
    Annotation(u32),
    /// A breadcrumb that was being written, or fails its check.
    Breadcrumb(u32),
    /// An identity string longer than its place.
    Identity(u32),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Table(table) => write!(f, "the client record's {table} are not where its header says"),
            Damage::TooMany(table) => write!(f, "the client record has more {table} than are read: {MAX_SLOTS}"),
            Damage::Unread(table) => write!(f, "not all of the client record's {table} could be read"),
            Damage::Annotation(slot) => write!(f, "the annotation in slot {slot} is damaged"),
            Damage::Breadcrumb(slot) => write!(f, "the breadcrumb in slot {slot} is damaged or was being written"),
            Damage::Identity(place) => write!(f, "string {place} of the product's identity is damaged"),
        }
    }
}

impl Contents {
    /// What the space says. `space` is what could be read from [`Header::space`] on; where that is less than
    /// [`Header::space_size`], the tables that it cuts are marked. Text that is not UTF-8 is shown with replacement characters.
    pub fn decode(header: &Header, space: &[u8]) -> Contents {
        let space = space.get(..header.space_size as usize).unwrap_or(space);
        let mut contents = Contents::default();
        if header.state != State::NotInstalled {
            contents.read_identity(header, space);
        }
        contents.read_annotations(header, space);
        contents.read_breadcrumbs(header, space);
        contents
    }

    /// The entries of a table that lie in `space`, each with its index.
    fn entries<'s>(
        &mut self,
        header: &Header,
        space: &'s [u8],
        table: &'static str,
        part: Part,
        smallest: usize,
    ) -> impl Iterator<Item = (u32, &'s [u8])> + use<'s> {
        let end = u64::from(part.offset) + u64::from(part.count) * u64::from(part.stride);
        let sound = part.stride as usize >= smallest && end <= u64::from(header.space_size);
        if !sound && part.count > 0 {
            self.damage.push(Damage::Table(table));
        } else if end > space.len() as u64 {
            self.damage.push(Damage::Unread(table));
        }
        if sound && part.count > MAX_SLOTS {
            self.damage.push(Damage::TooMany(table));
        }
        let stride = (part.stride as usize).max(1);
        let bytes = space.get(part.offset as usize..).filter(|_| sound).unwrap_or_default();
        (0..part.count.min(MAX_SLOTS)).zip(bytes.chunks_exact(stride))
    }

    fn read_identity(&mut self, header: &Header, space: &[u8]) {
        let mut strings: [String; super::IDENTITY_STRINGS] = Default::default();
        for (index, entry) in self.entries(header, space, "identity", header.identity, 1) {
            let Some(string) = strings.get_mut(index as usize) else { break };
            match entry.split_first().and_then(|(&length, text)| text.get(..length.into())) {
                Some(text) => *string = text_of(text),
                None => self.damage.push(Damage::Identity(index)),
            }
        }
        let [group, name, channel, version] = strings;
        if !group.is_empty() || !name.is_empty() {
            self.product = Some((group, name, channel));
        }
        self.version = Some(version).filter(|version| !version.is_empty());
    }

    fn read_annotations(&mut self, header: &Header, space: &[u8]) {
        let directory: Vec<_> = self.entries(header, space, "directory", header.directory, 8).collect();
        let slots: Vec<_> =
            self.entries(header, space, "annotations", header.annotations, 2 * (COPY_VALUE + 8)).collect();
        let mut found: Vec<(u32, Annotation)> = Vec::new();
        for ((index, word), (_, slot)) in directory.into_iter().zip(slots) {
            let word = u64_at(word, 0);
            let (sequence, hash) = (word as u32, (word >> 32) as u32);
            let version = sequence >> 1;
            let writing = sequence & 1 != 0;
            // Version 0 is nothing; hash 0 at rest is a slot whose annotation was removed.
            if version == 0 || (hash == 0 && !writing) {
                continue;
            }
            let (first, second) = slot.split_at(slot.len() / 2);
            let copy = if version & 1 == 0 { first } else { second };
            match Stored::decode(copy) {
                // The current copy of a slot that is being claimed anew is the removal of the annotation before.
                Ok(None) => {}
                Ok(Some(copy)) => {
                    let annotation = Annotation {
                        key: text_of(copy.key),
                        value: text_of(copy.value),
                        cut: copy.cut,
                        superseded: writing,
                    };
                    found.push((copy.stamp, annotation));
                }
                Err(()) => self.damage.push(Damage::Annotation(index)),
            }
        }
        found.sort_by_key(|&(stamp, _)| stamp);
        // Two threads that set a new key at the same moment may each take a slot: the later one counts.
        for (_, annotation) in found {
            self.annotations.retain(|earlier| earlier.key != annotation.key);
            self.annotations.push(annotation);
        }
    }

    fn read_breadcrumbs(&mut self, header: &Header, space: &[u8]) {
        for (index, slot) in self.entries(header, space, "breadcrumbs", header.breadcrumbs, BREADCRUMB_TEXT + 8) {
            let sequence = u64_at(slot, 0);
            if sequence == 0 {
                continue;
            }
            let length = usize::from(u32_at(slot, 24) as u16);
            let flags = slot.get(26).copied().unwrap_or_default();
            let text = slot.get(BREADCRUMB_TEXT..).and_then(|text| text.get(..length));
            let fields = [sequence, u64_at(slot, 16), u64_at(slot, 24)];
            match text {
                Some(text) if sequence & 1 == 0 && u64_at(slot, 8) == Check::of(&fields).with_text(text).value() => {
                    self.breadcrumbs.push(Breadcrumb {
                        number: sequence >> 1,
                        time: Duration::from_nanos(u64_at(slot, 16).saturating_sub(header.clock_base)),
                        text: text_of(text),
                        cut: flags & CUT != 0,
                    });
                }
                _ => self.damage.push(Damage::Breadcrumb(index)),
            }
        }
        self.breadcrumbs.sort_by_key(|breadcrumb| breadcrumb.number);
    }
}

/// One copy of an annotation.
struct Stored<'s> {
    stamp: u32,
    key: &'s [u8],
    value: &'s [u8],
    cut: bool,
}

impl<'s> Stored<'s> {
    /// The annotation in these bytes; `Ok(None)` for a removal, an error if they fail their check.
    fn decode(bytes: &'s [u8]) -> Result<Option<Stored<'s>>, ()> {
        let word = u64_at(bytes, 8);
        let (key_length, value_length) = (usize::from((word >> 48) as u8), usize::from((word >> 32) as u16));
        let key = bytes.get(COPY_KEY..COPY_VALUE).and_then(|key| key.get(..key_length.min(KEY_CAPACITY + 1)));
        let value = bytes.get(COPY_VALUE..).and_then(|value| value.get(..value_length));
        let (Some(key), Some(value)) = (key, value) else { return Err(()) };
        if u64_at(bytes, 0) != Check::of(&[word]).with_text(key).with_text(value).value() {
            return Err(());
        }
        let cut = (word >> 56) as u8 & CUT != 0;
        Ok(if key.is_empty() { None } else { Some(Stored { stamp: word as u32, key, value, cut }) })
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
