//! Header values of the form `kind; name=value; name="quoted value"` (RFC 9110, section 5.6.6): `Content-Type` and
//! `Content-Disposition`.

/// The value before the first `;`, in lower case, and the parameters after it, names in lower case. What can't be parsed ends
/// the list: nothing is guessed.
pub(super) fn parse(value: &str) -> (String, Vec<(String, String)>) {
    let (kind, mut rest) = value.split_once(';').unwrap_or((value, ""));
    let mut parameters = Vec::new();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim().to_ascii_lowercase();
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => match unquote(quoted) {
                Some(found) => found,
                None => break,
            },
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim_end().to_owned(), &after[end..])
            }
        };
        parameters.push((name, value));
        rest = after.trim_start().strip_prefix(';').unwrap_or("");
    }
    (kind.trim().to_ascii_lowercase(), parameters)
}

/// The text up to the closing quote, with `\"` and `\\` resolved, and what follows. Other backslashes stay: old browsers send
/// whole Windows paths as file names.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[index + 1..])),
            '\\' => match characters.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                Some((_, escaped)) => value.push(escaped),
                None => value.push('\\'),
            },
            other => value.push(other),
        }
    }
    None
}

/// The first parameter of that name.
pub(super) fn parameter<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &str) -> (String, Vec<(String, String)>) {
        parse(value)
    }

    fn expected(kind: &str, parameters: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
        (kind.into(), parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn tokens_and_quoted_strings_are_both_values() {
        let cases = [
            ("text/plain", expected("text/plain", &[])),
            ("Multipart/Form-Data; boundary=abc", expected("multipart/form-data", &[("boundary", "abc")])),
            ("a/b;BOUNDARY=\"x y;z\" ; c=d", expected("a/b", &[("boundary", "x y;z"), ("c", "d")])),
            (
                "form-data; name=\"a\\\"b\"; filename=\"C:\\dumps\\x.dmp\"",
                expected("form-data", &[("name", "a\"b"), ("filename", "C:\\dumps\\x.dmp")]),
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(parsed(value), expected, "{value}");
        }
    }

    #[test]
    fn what_cannot_be_parsed_ends_the_list() {
        assert_eq!(parsed("form-data; name=\"a; filename=b"), expected("form-data", &[]));
        assert_eq!(parsed("form-data; name=a junk; x"), expected("form-data", &[("name", "a junk")]));
        assert_eq!(parsed(";;;=\"\""), expected("", &[(";;", "")]));
        assert_eq!(parsed(""), expected("", &[]));
        assert_eq!(parsed("\"\\"), expected("\"\\", &[]));
    }
}
