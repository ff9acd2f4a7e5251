//! Text that a dead program, or a server, chose.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` with everything escaped that a terminal would obey or that would make it look like other text: control characters
/// (so a value stays on its line), and the marks that turn the direction of writing around.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            character if is_unsafe(character) => {
                // Writing to a string does not fail.
                let _ = write!(escaped, "\\u{{{:x}}}", u32::from(character));
            }
            character => escaped.push(character),
        }
    }
    Cow::Owned(escaped)
}

/// C0, DEL and C1; line and paragraph separators; bidirectional controls (UAX #9) and zero-width characters, the byte order
/// mark, and tags.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{61c}')
        || matches!(character, '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_of_it() {
        assert_eq!(escape("\x1b[2J\x1b]0;owned\x07\u{9b}31m"), "\\u{1b}[2J\\u{1b}]0;owned\\u{7}\\u{9b}31m");
        assert_eq!(escape("one\r\ntwo\tthree"), "one\\r\\ntwo\\tthree");
        assert_eq!(escape("evil\u{202e}txt.exe"), "evil\\u{202e}txt.exe");
    }

    #[test]
    fn words_of_any_language_stay() {
        let words = "Grüße, 日本語, emoji 🦀, \\n";
        assert!(matches!(escape(words), Cow::Borrowed(same) if same == words));
    }
}
