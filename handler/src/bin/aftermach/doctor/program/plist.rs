//! Property lists from anywhere: bounded in size, depth and number of objects.

use plist::{Dictionary, Value};

use super::binary_plist;

/// Largest property list that is read, in bytes. Those of large apps have some 50,000.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// Deepest nesting that is read: what reads and frees collections goes down with them.
pub(super) const MAX_DEPTH: usize = 64;

/// The dictionary that a property list is, XML or binary.
pub(super) fn dictionary(bytes: &[u8]) -> Result<Dictionary, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    let value = if bytes.starts_with(b"bplist") { binary_plist::read(bytes)? } else { xml(bytes)? };
    match value {
        Value::Dictionary(dictionary) => Ok(dictionary),
        _ => Err("it is no dictionary".to_owned()),
    }
}

fn xml(bytes: &[u8]) -> Result<Value, String> {
    let text = without_comments(bytes)?;
    check_depth(&text)?;
    Value::from_reader_xml(text.as_slice()).map_err(|error| error.to_string())
}

/// The text without comments and processing instructions, so that every '<' that is left starts a tag: elsewhere it must be
/// escaped (XML 1.0, 2.4). What could hold others, CDATA sections and declarations of entities, is refused.
fn without_comments(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut text = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == b'<') {
        let (before, tag) = rest.split_at(at);
        text.extend_from_slice(before);
        let end: &[u8] = if tag.starts_with(b"<!--") {
            b"-->"
        } else if tag.starts_with(b"<?") {
            b"?>"
        } else if tag.starts_with(b"<![") || tag.starts_with(b"<!ENTITY") {
            return Err("it has CDATA sections or entities".to_owned());
        } else {
            b">"
        };
        let length =
            tag.windows(end.len()).position(|window| window == end).ok_or("a tag in it does not end")? + end.len();
        let (tag, after) = tag.split_at(length);
        if end == b">" {
            text.extend_from_slice(tag);
        }
        rest = after;
    }
    text.extend_from_slice(rest);
    Ok(text)
}

/// Every tag counts, whatever its name: that is never less than what is built.
fn check_depth(text: &[u8]) -> Result<(), String> {
    let mut depth = 0_usize;
    for tag in text.split(|byte| *byte == b'<').skip(1) {
        let tag = tag.split(|byte| *byte == b'>').next().unwrap_or_default();
        match (tag.first(), tag.last()) {
            (Some(b'/'), _) => depth = depth.saturating_sub(1),
            (Some(b'!'), _) | (_, Some(b'/')) => {}
            _ => depth += 1,
        }
        if depth > MAX_DEPTH {
            return Err(format!("its collections lie more than {MAX_DEPTH} deep"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dictionary_is_read_with_comments_and_declarations() {
        let bytes =
            br#"<?xml version="1.0"?><!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "x"><plist><!-- </dict> -->
            <dict><key>a</key><true/><key>b</key><array><string>x &lt; y</string></array></dict></plist>"#;
        let read = dictionary(bytes).unwrap();
        assert_eq!(read["a"].as_boolean(), Some(true));
        assert_eq!(read["b"].as_array().unwrap()[0].as_string(), Some("x < y"));
    }

    #[test]
    fn nothing_that_nests_without_end_is_let_near_the_parser() {
        let deep = |open: &str| format!("<plist>{}", open.repeat(40_000)).into_bytes();
        for bytes in [
            deep("<dict><key>a</key>"),
            deep("<array>"),
            deep("<array><!-- </array> -->"),
            deep("<array><?x </array>?>"),
        ] {
            assert!(dictionary(&bytes).unwrap_err().contains("deep"));
        }
        for (bytes, why) in [
            (&b"<plist><![CDATA[</dict>]]>"[..], "CDATA"),
            (b"<!ENTITY x '<'>", "entities"),
            (b"<plist><array/></plist>", "no dictionary"),
            (b"<plist", "does not end"),
        ] {
            assert!(dictionary(bytes).unwrap_err().contains(why));
        }
        assert!(dictionary(b"").is_err());
        assert!(dictionary(&vec![b' '; MAX_BYTES + 1]).unwrap_err().contains("more than"));
    }
}
