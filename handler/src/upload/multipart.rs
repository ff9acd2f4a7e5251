//! `multipart/form-data` (RFC 7578) as an exact plan of bytes: the same report makes the same body every time, its length is
//! known before the first byte is sent, and files are read while sending, never held.
//!
//! The exact length matters: Socorro's collector refuses a body without `Content-Length`, and a resend that is the same byte
//! for byte is one that a server can recognise.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes read from a file at a time.
const BLOCK: usize = 64 * 1024;

/// Boundaries tried before giving up. One is enough unless the content was made to hold it.
const BOUNDARY_TRIES: u32 = 16;

/// A form that is being put together. The order of calls is the order of parts.
#[derive(Debug, Default)]
pub struct Form {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    name: String,
    file_name: Option<String>,
    content_type: Option<&'static str>,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Bytes(Vec<u8>),
    File { path: PathBuf, length: u64 },
}

impl Content {
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(match self {
            Content::Bytes(bytes) => Box::new(bytes.as_slice()),
            Content::File { path, length } => Box::new(ExactFile::open(path, *length)?),
        })
    }

    fn length(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File { length, .. } => *length,
        }
    }
}

impl Form {
    /// A form without parts.
    pub fn new() -> Form {
        Form::default()
    }

    /// Adds a text part. The value may be any text: its bytes are sent as they are.
    pub fn text(&mut self, name: &str, value: impl Into<String>) {
        self.add(name, None, None, Content::Bytes(value.into().into_bytes()));
    }

    /// Adds a part that servers store as a file, from memory.
    pub fn bytes(&mut self, name: &str, file_name: &str, content_type: &'static str, bytes: Vec<u8>) {
        self.add(name, Some(file_name), Some(content_type), Content::Bytes(bytes));
    }

    /// Adds a part that is read from `path` while sending. Its length is fixed now: a file that is shorter by then fails the
    /// sending, one that grew is sent up to the length it had.
    pub fn file(&mut self, name: &str, file_name: &str, content_type: &'static str, path: &Path) -> io::Result<()> {
        let length = std::fs::metadata(path)?.len();
        self.add(name, Some(file_name), Some(content_type), Content::File { path: path.to_owned(), length });
        Ok(())
    }

    fn add(&mut self, name: &str, file_name: Option<&str>, content_type: Option<&'static str>, content: Content) {
        let part = Part { name: name.to_owned(), file_name: file_name.map(str::to_owned), content_type, content };
        self.parts.push(part);
    }

    /// Fixes the bytes. The boundary derives from `seed` (the report's id) alone, so that a resend is the same bytes; every
    /// part is read through once to make sure that none holds it, since a crash's memory may hold anything.
    pub fn seal(self, seed: &str) -> io::Result<Plan> {
        for attempt in 0..BOUNDARY_TRIES {
            let boundary = boundary(seed, attempt);
            if !self.contains(boundary.as_bytes())? {
                return Ok(self.lay_out(&boundary));
            }
        }
        Err(io::Error::other("the content holds every boundary that could separate its parts"))
    }

    fn contains(&self, needle: &[u8]) -> io::Result<bool> {
        for part in &self.parts {
            let headers = part.headers();
            if find(headers.as_bytes(), needle) || reader_contains(part.content.open()?, needle)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn lay_out(self, boundary: &str) -> Plan {
        let mut contents = Vec::with_capacity(self.parts.len() * 2 + 1);
        let mut parts = Vec::with_capacity(self.parts.len());
        for (index, part) in self.parts.into_iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\r\n" };
            let head = format!("{line_end}--{boundary}\r\n{}\r\n", part.headers());
            contents.push(Content::Bytes(head.into_bytes()));
            parts.push(PlannedPart { name: part.name, file_name: part.file_name, length: part.content.length() });
            contents.push(part.content);
        }
        let line_end = if parts.is_empty() { "" } else { "\r\n" };
        contents.push(Content::Bytes(format!("{line_end}--{boundary}--\r\n").into_bytes()));
        Plan { content_type: format!("multipart/form-data; boundary={boundary}"), parts, contents }
    }
}

impl Part {
    fn headers(&self) -> String {
        let mut headers = format!("Content-Disposition: form-data; name=\"{}\"", escape_name(&self.name));
        if let Some(file_name) = &self.file_name {
            headers.push_str(&format!("; filename=\"{}\"", escape_name(file_name)));
        }
        headers.push_str("\r\n");
        if let Some(content_type) = self.content_type {
            headers.push_str(&format!("Content-Type: {content_type}\r\n"));
        }
        headers
    }
}

/// 70 characters are the most that RFC 2046, section 5.1.1, allows; only characters that need no quoting are used.
fn boundary(seed: &str, attempt: u32) -> String {
    let seed: String = seed.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    if attempt == 0 { format!("----aftermach-{seed}") } else { format!("----aftermach-{seed}-{attempt}") }
}

/// A name or file name inside the quotes of a header, escaped as browsers do (WHATWG HTML, "multipart/form-data encoding
/// algorithm"): a name can then end neither its quotes nor its header. Other control characters, which some servers refuse
/// in headers, go the same way.
fn escape_name(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for character in name.chars() {
        if character == '"' || character.is_ascii_control() {
            escaped.push_str(&format!("%{:02X}", character as u32));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

fn find(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

fn reader_contains(mut reader: impl Read, needle: &[u8]) -> io::Result<bool> {
    let mut window = vec![0; BLOCK + needle.len()];
    let mut kept = 0;
    loop {
        let read = reader.read(&mut window[kept..])?;
        if read == 0 {
            return Ok(false);
        }
        let filled = kept + read;
        if find(&window[..filled], needle) {
            return Ok(true);
        }
        // The needle may begin in this block and end in the next.
        let keep = filled.min(needle.len() - 1);
        window.copy_within(filled - keep..filled, 0);
        kept = keep;
    }
}

/// A body of known bytes and length.
#[derive(Debug, Clone)]
pub struct Plan {
    content_type: String,
    parts: Vec<PlannedPart>,
    contents: Vec<Content>,
}

/// What a plan sends as one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedPart {
    /// The field's name.
    pub name: String,
    /// The file's name, if the part is a file.
    pub file_name: Option<String>,
    /// Bytes of its content.
    pub length: u64,
}

impl Plan {
    /// The `Content-Type` header. The boundary is the first parameter, which Socorro insists on.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// The `Content-Length` header: bytes that [`Plan::reader`] gives.
    pub fn content_length(&self) -> u64 {
        self.contents.iter().map(Content::length).sum()
    }

    /// What is sent, in order.
    pub fn parts(&self) -> &[PlannedPart] {
        &self.parts
    }

    /// The body's bytes, from the first one on.
    pub fn reader(&self) -> PlanReader {
        PlanReader { rest: self.contents.clone().into_iter(), current: Current::Nothing }
    }
}

/// Reads a [`Plan`] once.
#[derive(Debug)]
pub struct PlanReader {
    rest: std::vec::IntoIter<Content>,
    current: Current,
}

#[derive(Debug)]
enum Current {
    Nothing,
    Bytes(io::Cursor<Vec<u8>>),
    File(ExactFile),
}

impl Read for PlanReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let read = match &mut self.current {
                Current::Nothing => 0,
                Current::Bytes(bytes) => bytes.read(buffer)?,
                Current::File(file) => file.read(buffer)?,
            };
            if read > 0 {
                return Ok(read);
            }
            self.current = match self.rest.next() {
                None => return Ok(0),
                Some(Content::Bytes(bytes)) => Current::Bytes(io::Cursor::new(bytes)),
                Some(Content::File { path, length }) => Current::File(ExactFile::open(&path, length)?),
            };
        }
    }
}

/// The first `rest` bytes of a file; an error if it has fewer.
#[derive(Debug)]
struct ExactFile {
    file: File,
    path: PathBuf,
    rest: u64,
}

impl ExactFile {
    fn open(path: &Path, length: u64) -> io::Result<ExactFile> {
        let file = File::open(path)
            .map_err(|error| io::Error::new(error.kind(), format!("can't open {}: {error}", path.display())))?;
        Ok(ExactFile { file, path: path.to_owned(), rest: length })
    }
}

impl Read for ExactFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.rest).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.file.read(&mut buffer[..wanted])?;
        if read == 0 {
            let what = format!("{} is {} bytes shorter than when the upload began", self.path.display(), self.rest);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        self.rest -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(plan: &Plan) -> Vec<u8> {
        let mut bytes = Vec::new();
        plan.reader().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_form_is_the_bytes_that_rfc_7578_asks_for() {
        let mut form = Form::new();
        form.text("prod", "Tunnel");
        form.bytes("upload_file_minidump", "a.dmp", "application/octet-stream", b"MDMP\r\n\0".to_vec());
        let plan = form.seal("1234-abcd").unwrap();
        let expected = b"------aftermach-1234abcd\r\n\
            Content-Disposition: form-data; name=\"prod\"\r\n\r\n\
            Tunnel\r\n\
            ------aftermach-1234abcd\r\n\
            Content-Disposition: form-data; name=\"upload_file_minidump\"; filename=\"a.dmp\"\r\n\
            Content-Type: application/octet-stream\r\n\r\n\
            MDMP\r\n\0\r\n\
            ------aftermach-1234abcd--\r\n";
        assert_eq!(String::from_utf8(body(&plan)).unwrap(), String::from_utf8(expected.to_vec()).unwrap());
        assert_eq!(plan.content_length(), expected.len() as u64);
        assert_eq!(plan.content_type(), "multipart/form-data; boundary=----aftermach-1234abcd");
    }

    #[test]
    fn a_name_can_end_neither_its_quotes_nor_its_header() {
        let mut form = Form::new();
        form.text("a\"; filename=\"x\r\nContent-Type: text/html\r\n\r\n", "v");
        let bytes = String::from_utf8(body(&form.seal("s").unwrap())).unwrap();
        let head = bytes.split("\r\n\r\n").next().unwrap();
        assert_eq!(
            head.lines().nth(1).unwrap(),
            "Content-Disposition: form-data; name=\"a%22; filename=%22x%0D%0AContent-Type: text/html%0D%0A%0D%0A\""
        );
        assert_eq!(head.lines().count(), 2);
    }

    #[test]
    fn content_that_holds_the_boundary_gets_another_one() {
        let mut form = Form::new();
        form.text("trap", "x\r\n------aftermach-s--\r\n");
        let plan = form.seal("s").unwrap();
        assert_eq!(plan.content_type(), "multipart/form-data; boundary=----aftermach-s-1");
    }

    #[test]
    fn a_boundary_across_two_blocks_of_a_file_is_found() {
        let needle = b"----aftermach-s";
        for offset in BLOCK - 20..BLOCK + 20 {
            let mut bytes = vec![b'-'; BLOCK * 2];
            bytes[offset..offset + needle.len()].copy_from_slice(needle);
            assert!(reader_contains(bytes.as_slice(), needle).unwrap(), "at {offset}");
        }
        assert!(!reader_contains(vec![b'-'; BLOCK * 2].as_slice(), needle).unwrap());
    }

    #[test]
    fn a_file_that_shrank_fails_and_one_that_grew_is_cut() {
        let path = std::env::temp_dir().join(format!("aftermach-multipart-{}", std::process::id()));
        std::fs::write(&path, b"12345678").unwrap();
        let mut form = Form::new();
        form.file("f", "f.bin", "application/octet-stream", &path).unwrap();
        let plan = form.seal("s").unwrap();

        std::fs::write(&path, b"123456789").unwrap();
        let grown = body(&plan);
        assert_eq!(grown.len() as u64, plan.content_length());
        assert!(grown.windows(12).any(|window| window == b"12345678\r\n--"));

        std::fs::write(&path, b"1234").unwrap();
        let error = plan.reader().read_to_end(&mut Vec::new()).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
