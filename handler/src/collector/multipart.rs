//! Takes `multipart` bodies (RFC 2046, section 5.1) apart as their bytes come in: whatever the body says, never more of it is
//! in memory than one piece, one delimiter and one part's headers.

use super::header_value;
use super::refusal::Refusal;

/// RFC 2046, section 5.1.1.
const MAX_BOUNDARY: usize = 70;
/// Bytes that may stand before the first delimiter. Mail has a text there for people; forms have nothing.
const MAX_PREAMBLE: usize = 8 * 1024;
/// Padding that may follow a delimiter on its line.
const MAX_PADDING: usize = 64;

/// The headers of a part, as far as anything depends on them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Head {
    /// The field's name.
    pub(super) name: String,
    /// The file's name, if the part is one.
    pub(super) file_name: Option<String>,
}

/// Where the parts go. The first refusal ends the parsing.
pub(super) trait Sink {
    /// A part begins.
    fn begin(&mut self, head: Head) -> Result<(), Refusal>;
    /// Bytes of the part that began last.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Refusal>;
    /// That part is complete.
    fn end(&mut self) -> Result<(), Refusal>;
}

/// A body that is being taken apart.
#[derive(Debug)]
pub(super) struct Parser {
    /// CR LF, two hyphens, the boundary.
    delimiter: Vec<u8>,
    buffer: Vec<u8>,
    state: State,
    max_head: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first delimiter, this many bytes in.
    Preamble(usize),
    /// Behind a delimiter: its line must end, or two more hyphens end the body.
    Delimiter,
    Headers,
    Content,
    /// Behind the last delimiter: whatever follows means nothing.
    Done,
}

impl Parser {
    /// A parser for the body with this `Content-Type`.
    pub(super) fn new(content_type: &str, max_head: usize) -> Result<Parser, Refusal> {
        let (kind, parameters) = header_value::parse(content_type);
        if !matches!(kind.as_str(), "multipart/form-data" | "multipart/mixed") {
            return Err(Refusal::bad("the body is no multipart form"));
        }
        let boundary = header_value::parameter(&parameters, "boundary").unwrap_or("");
        let valid =
            (1..=MAX_BOUNDARY).contains(&boundary.len()) && boundary.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !valid {
            return Err(Refusal::bad("the Content-Type header names no valid boundary"));
        }
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // The first delimiter may stand at the very beginning: as if a line had ended before it.
        Ok(Parser { delimiter, buffer: b"\r\n".to_vec(), state: State::Preamble(0), max_head })
    }

    /// The body's next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<(), Refusal> {
        if self.state == State::Done {
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        let mut consumed = 0;
        while let Some(step) = self.step(consumed, sink)? {
            consumed += step;
        }
        self.buffer.drain(..consumed.min(self.buffer.len()));
        Ok(())
    }

    /// The body has ended.
    pub(super) fn finish(&self) -> Result<(), Refusal> {
        match self.state {
            State::Done => Ok(()),
            State::Preamble(_) => Err(Refusal::bad("the body holds no part: its boundary never occurs")),
            _ => Err(Refusal::bad("the body is cut off: its last boundary is missing")),
        }
    }

    /// Makes one step on what is buffered from `start` on, and says how many bytes it used up; `None` if it needs more.
    fn step(&mut self, start: usize, sink: &mut impl Sink) -> Result<Option<usize>, Refusal> {
        let rest = &self.buffer[start..];
        match self.state {
            State::Done => Ok((!rest.is_empty()).then_some(rest.len())),
            State::Preamble(seen) => match find(rest, &self.delimiter) {
                Some(at) => {
                    self.state = State::Delimiter;
                    Ok(Some(at + self.delimiter.len()))
                }
                None => {
                    let over = rest.len().saturating_sub(self.delimiter.len() - 1);
                    if seen + over > MAX_PREAMBLE {
                        return Err(Refusal::bad("the body does not begin with its boundary"));
                    }
                    self.state = State::Preamble(seen + over);
                    Ok((over > 0).then_some(over))
                }
            },
            State::Delimiter => {
                if rest.starts_with(b"--") {
                    self.state = State::Done;
                    return Ok(Some(2));
                }
                let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
                match &rest[padding..] {
                    _ if padding > MAX_PADDING => Err(Refusal::bad("a boundary's line does not end")),
                    [b'\r', b'\n', ..] => {
                        self.state = State::Headers;
                        // The line end stays: headers that are empty are then an empty line like any other.
                        Ok(Some(padding))
                    }
                    [] | [b'\r'] => Ok(None),
                    [b'-'] if padding == 0 => Ok(None),
                    _ => Err(Refusal::bad("a boundary is followed by something else than a line end")),
                }
            }
            State::Headers => match find(&rest[..rest.len().min(self.max_head + 6)], b"\r\n\r\n") {
                Some(end) => {
                    let head = head(&rest[..end])?;
                    sink.begin(head)?;
                    self.state = State::Content;
                    Ok(Some(end + 4))
                }
                None if rest.len() > self.max_head => {
                    Err(Refusal::bad(format!("a part's headers are longer than {} bytes", self.max_head)))
                }
                None => Ok(None),
            },
            State::Content => match find(rest, &self.delimiter) {
                Some(at) => {
                    if at > 0 {
                        sink.data(&rest[..at])?;
                    }
                    sink.end()?;
                    self.state = State::Delimiter;
                    Ok(Some(at + self.delimiter.len()))
                }
                None => {
                    let sure = rest.len().saturating_sub(self.delimiter.len() - 1);
                    if sure == 0 {
                        return Ok(None);
                    }
                    sink.data(&rest[..sure])?;
                    Ok(Some(sure))
                }
            },
        }
    }
}

/// Where `needle`, which begins with CR, occurs first.
fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == b'\r') {
        let at = from + at;
        if bytes[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// Reads a part's headers: lines of `name: value`, each after a line end.
fn head(bytes: &[u8]) -> Result<Head, Refusal> {
    let text = String::from_utf8_lossy(bytes);
    let disposition = text.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then(|| header_value::parse(value))
    });
    let Some((_, parameters)) = disposition else {
        return Err(Refusal::bad("a part has no Content-Disposition header"));
    };
    let Some(name) = header_value::parameter(&parameters, "name") else {
        return Err(Refusal::bad("a part has no name"));
    };
    let file_name = header_value::parameter(&parameters, "filename").map(str::to_owned);
    Ok(Head { name: name.to_owned(), file_name })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that a sink was told, as text.
    #[derive(Default)]
    struct Told(Vec<(Head, Vec<u8>, bool)>);

    impl Sink for Told {
        fn begin(&mut self, head: Head) -> Result<(), Refusal> {
            self.0.push((head, Vec::new(), false));
            Ok(())
        }
        fn data(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
            self.0.last_mut().unwrap().1.extend_from_slice(bytes);
            Ok(())
        }
        fn end(&mut self) -> Result<(), Refusal> {
            self.0.last_mut().unwrap().2 = true;
            Ok(())
        }
    }

    fn parse(body: &[u8], piece: usize) -> Result<Vec<(Head, Vec<u8>, bool)>, Refusal> {
        let mut parser = Parser::new("multipart/form-data; boundary=b", 200)?;
        let mut told = Told::default();
        for piece in body.chunks(piece) {
            parser.feed(piece, &mut told)?;
        }
        parser.finish()?;
        Ok(told.0)
    }

    const BODY: &[u8] = b"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n\
        --b \t\r\nContent-Type: x/y\r\nCONTENT-disposition:form-data;name=dump;filename=\"../../etc/x\"\r\n\r\n\
        \r\n--c\r\n--\r\r\n-\r\n\
        --b\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n\
        --b--\r\nan epilogue \r\n--b\r\n";

    #[test]
    fn a_body_is_the_same_parts_however_it_is_cut_into_pieces() {
        let head =
            |name: &str, file_name: Option<&str>| Head { name: name.into(), file_name: file_name.map(str::to_owned) };
        let expected = vec![
            (head("a", None), b"1".to_vec(), true),
            (head("dump", Some("../../etc/x")), b"\r\n--c\r\n--\r\r\n-".to_vec(), true),
            (head("empty", None), b"".to_vec(), true),
        ];
        for piece in 1..=BODY.len() {
            assert_eq!(parse(BODY, piece).as_ref(), Ok(&expected), "pieces of {piece}");
        }
    }

    #[test]
    fn a_body_that_is_cut_off_anywhere_is_refused() {
        let end = BODY.windows(5).position(|window| window == b"--b--").unwrap() + 5;
        for length in 0..end {
            let refusal = parse(&BODY[..length], 7).expect_err("cut off");
            assert_eq!(refusal.status.as_u16(), 400, "cut at {length}: {}", refusal.reason);
        }
    }

    #[test]
    fn what_no_form_has_is_refused() {
        let cases: &[(&[u8], &str)] = &[
            (b"--bx\r\n", "followed by something else"),
            (b"--b\r\n\r\nx\r\n--b--", "no Content-Disposition"),
            (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--", "no name"),
            (b"no boundary at all", "its boundary never occurs"),
            (b"", "its boundary never occurs"),
        ];
        for (body, reason) in cases {
            let refusal = parse(body, 3).expect_err("refused");
            assert!(refusal.reason.contains(reason), "{}", refusal.reason);
        }
    }

    #[test]
    fn nothing_without_an_end_is_kept_in_memory() {
        let endless: [(&[u8], u8); 3] = [(b"", b'x'), (b"--b", b' '), (b"--b\r\n", b'h')];
        for (start, filler) in endless {
            let mut parser = Parser::new("multipart/form-data; boundary=b", 200).unwrap();
            let mut told = Told::default();
            parser.feed(start, &mut told).unwrap();
            let filler = vec![filler; 1024];
            let refused = (0..100).any(|_| parser.feed(&filler, &mut told).is_err());
            assert!(refused && parser.buffer.len() < 16 * 1024, "{:?}", String::from_utf8_lossy(start));
        }
    }

    #[test]
    fn only_forms_with_a_valid_boundary_are_taken() {
        let refused = [
            "text/plain",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"a\u{7f}\"",
            "multipart/related; boundary=b",
        ];
        for content_type in refused {
            assert!(Parser::new(content_type, 200).is_err(), "{content_type}");
        }
        let boundary = |length: usize| format!("multipart/form-data; boundary={}", "x".repeat(length));
        assert!(Parser::new(&boundary(70), 200).is_ok());
        assert!(Parser::new(&boundary(71), 200).is_err());
        assert!(Parser::new("multipart/mixed; boundary=\"a b\"", 200).is_ok());
    }
}
