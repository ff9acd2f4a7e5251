//! Binary property lists, which most built bundles hold. One object may stand in many places of one, so what is read is bounded
//! by a number of objects, and not only by the bytes.
//!
//! Layout: CoreFoundation `CFBinaryPList.c` and `ForFoundationOnly.h`. "bplist00", objects, a table of their offsets, and a
//! trailer of 32 bytes: 6 unused, then bytes in an offset (1), bytes in a reference (1), number of objects (8), the top object
//! (8), where the table is (8), all big-endian. An object starts with a byte: its kind above, its length below, where 15 means
//! that an integer object with the length follows.

use plist::{Dictionary, Value};

use super::plist::MAX_DEPTH;

/// Most objects that are built.
const MAX_OBJECTS: usize = 50_000;
/// Bytes of all texts together: one may stand in many places.
const MAX_TEXT: usize = 4 << 20;
const TRAILER: usize = 32;

struct Reader<'b> {
    bytes: &'b [u8],
    offset_size: usize,
    reference_size: usize,
    objects: u64,
    table: usize,
    left: usize,
    text_left: usize,
}

/// The value that `bytes` are.
pub(super) fn read(bytes: &[u8]) -> Result<Value, String> {
    let trailer =
        bytes.len().checked_sub(TRAILER).and_then(|at| bytes.get(at..)).filter(|_| bytes.starts_with(b"bplist00"));
    let trailer = trailer.ok_or("it is no binary property list of version 00")?;
    let number = |at: usize, size: usize| big_endian(trailer.get(at..at + size).unwrap_or_default());
    let table = usize::try_from(number(24, 8)).map_err(|_| OUTSIDE)?;
    let mut reader = Reader {
        bytes,
        offset_size: number(6, 1) as usize,
        reference_size: number(7, 1) as usize,
        objects: number(8, 8),
        table,
        left: MAX_OBJECTS,
        text_left: MAX_TEXT,
    };
    if !(1..=8).contains(&reader.offset_size) || !(1..=8).contains(&reader.reference_size) {
        return Err("its numbers have an impossible size".to_owned());
    }
    reader.object(number(16, 8), 0)
}

const OUTSIDE: &str = "a part of it lies outside";

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

impl<'b> Reader<'b> {
    fn slice(&self, at: usize, size: usize) -> Result<&'b [u8], String> {
        let end = at.checked_add(size).ok_or(OUTSIDE)?;
        Ok(self.bytes.get(at..end).ok_or(OUTSIDE)?)
    }

    fn object(&mut self, index: u64, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(format!("its collections lie more than {MAX_DEPTH} deep"));
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| format!("it has more than {MAX_OBJECTS} objects"))?;
        if index >= self.objects {
            return Err(OUTSIDE.to_owned());
        }
        let entry = usize::try_from(index).ok().and_then(|index| index.checked_mul(self.offset_size));
        let entry = entry.and_then(|entry| self.table.checked_add(entry)).ok_or(OUTSIDE)?;
        let at = usize::try_from(big_endian(self.slice(entry, self.offset_size)?)).map_err(|_| OUTSIDE)?;
        let [marker] = *self.slice(at, 1)? else { return Err(OUTSIDE.to_owned()) };
        let (kind, low) = (marker >> 4, usize::from(marker & 0xf));
        let after = at + 1;
        match (kind, low) {
            (0x0, 8) => Ok(Value::Boolean(false)),
            (0x0, 9) => Ok(Value::Boolean(true)),
            // Sizes are powers of two; those of 16 bytes are unsigned numbers beyond i64, of which none matters here.
            (0x1, 0..=3) => Ok(Value::Integer((big_endian(self.slice(after, 1 << low)?) as i64).into())),
            (0x5, _) => {
                let (text, count) = self.length(after, low)?;
                let text = self.slice(text, count)?;
                self.text(String::from_utf8_lossy(text).into_owned())
            }
            (0x6, _) => {
                let (text, count) = self.length(after, low)?;
                let units = self.slice(text, count.checked_mul(2).ok_or(OUTSIDE)?)?;
                let units: Vec<u16> = units.chunks_exact(2).map(|unit| big_endian(unit) as u16).collect();
                self.text(String::from_utf16_lossy(&units))
            }
            (0xa, _) => {
                let (list, count) = self.length(after, low)?;
                let items = self.references(list, count)?;
                let items: Result<Vec<Value>, String> =
                    items.into_iter().map(|item| self.object(item, depth + 1)).collect();
                Ok(Value::Array(items?))
            }
            (0xd, _) => {
                let (list, count) = self.length(after, low)?;
                let both = self.references(list, count.checked_mul(2).ok_or(OUTSIDE)?)?;
                let (keys, values) = both.split_at(count);
                let mut dictionary = Dictionary::new();
                for (key, value) in keys.iter().zip(values) {
                    let Value::String(key) = self.object(*key, depth + 1)? else {
                        return Err("a key in it is no text".to_owned());
                    };
                    let value = self.object(*value, depth + 1)?;
                    dictionary.insert(key, value);
                }
                Ok(Value::Dictionary(dictionary))
            }
            // Reals, dates, data and UIDs: nothing that is looked for.
            _ => Ok(Value::Data(Vec::new())),
        }
    }

    fn text(&mut self, text: String) -> Result<Value, String> {
        self.text_left = self
            .text_left
            .checked_sub(text.len())
            .ok_or_else(|| format!("it has more than {MAX_TEXT} bytes of text"))?;
        Ok(Value::String(text))
    }

    /// Where an object's content starts, and its length.
    fn length(&self, after: usize, low: usize) -> Result<(usize, usize), String> {
        if low < 15 {
            return Ok((after, low));
        }
        let [marker] = *self.slice(after, 1)? else { return Err(OUTSIDE.to_owned()) };
        let size = match marker {
            0x10..=0x13 => 1_usize << (marker & 0xf),
            _ => return Err("a length in it is no number".to_owned()),
        };
        let length = big_endian(self.slice(after + 1, size)?);
        Ok((after + 1 + size, usize::try_from(length).map_err(|_| OUTSIDE)?))
    }

    fn references(&self, at: usize, count: usize) -> Result<Vec<u64>, String> {
        let bytes = self.slice(at, count.checked_mul(self.reference_size).ok_or(OUTSIDE)?)?;
        Ok(bytes.chunks_exact(self.reference_size).map(big_endian).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another writer's: the `plist` crate's.
    fn written() -> (Value, Vec<u8>) {
        let mut inner = Dictionary::new();
        inner.insert("yes".to_owned(), true.into());
        inner.insert("number".to_owned(), (-7_i64).into());
        inner.insert("text".to_owned(), "Grüße".into());
        let mut dictionary = Dictionary::new();
        let list: Vec<Value> = (0..20).map(|index| Value::String(format!("item {index}"))).collect();
        dictionary.insert("list".to_owned(), list.into());
        dictionary.insert("inner".to_owned(), inner.into());
        let value = Value::Dictionary(dictionary);
        let mut bytes = Vec::new();
        value.to_writer_binary(&mut bytes).unwrap();
        (value, bytes)
    }

    #[test]
    fn what_another_writer_wrote_is_read() {
        let (value, bytes) = written();
        assert_eq!(read(&bytes), Ok(value));
    }

    #[test]
    fn cut_and_changed_bytes_are_refused_or_read_but_never_more() {
        let (_, bytes) = written();
        for length in 0..bytes.len() {
            let _ = read(&bytes[..length]);
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x0f, 0x7f, 0xd1, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let _ = read(&changed);
            }
        }
    }

    /// A list of `objects`, each of 1-byte references.
    fn made(objects: &[&[u8]]) -> Vec<u8> {
        let mut bytes = b"bplist00".to_vec();
        let mut offsets = Vec::new();
        for object in objects {
            offsets.push(bytes.len() as u8);
            bytes.extend_from_slice(object);
        }
        let table = bytes.len() as u64;
        bytes.extend(&offsets);
        bytes.extend([0, 0, 0, 0, 0, 0, 1, 1]);
        for number in [objects.len() as u64, 0, table] {
            bytes.extend(number.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn lists_of_themselves_and_of_each_other_many_times_end() {
        assert!(read(&made(&[&[0xa1, 0]])).unwrap_err().contains("deep"));
        // Eight lists, each of ten times the next: ten to the eighth objects from a hundred bytes.
        let lists: Vec<Vec<u8>> = (1..9).map(|next| [&[0xaa][..], &[next; 10]].concat()).collect();
        let mut objects: Vec<&[u8]> = lists.iter().map(Vec::as_slice).collect();
        objects.push(&[0x09]);
        assert!(read(&made(&objects)).unwrap_err().contains("50000 objects"));
        assert!(read(&made(&[&[0xaf, 0x13, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]])).is_err());
        assert!(read(&made(&[&[0xd1, 1, 1], &[0x08]])).unwrap_err().contains("no text"));
    }
}
