//! HTML in which text from a crash can't become markup: markup is only taken from the program's own literals, and everything
//! else goes through one escape.

use std::fmt::{self, Display, Write};

/// Most characters of one piece of text.
const MAX_TEXT: usize = 4000;

/// A page that is being written.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup. `'static` keeps everything out that was not written in this program.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Html {
        self.0.push_str(markup);
        self
    }

    /// Text, wherever it came from, for an element's content or a quoted attribute.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Html {
        // Writing into a String can't fail; what a value's own Display fails to say is missing.
        let _ = write!(Escape { out: &mut self.0, room: MAX_TEXT }, "{text}");
        self
    }

    /// `open`, the text, `close`.
    pub(super) fn element(&mut self, open: &'static str, text: impl Display, close: &'static str) -> &mut Html {
        self.raw(open).text(text).raw(close)
    }

    /// The page's bytes.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Writes text as HTML text: the five characters that mean something to HTML as references; control characters as U+FFFD; and
/// characters that turn the direction of writing round as their names, since they make one function look like another.
struct Escape<'a> {
    out: &'a mut String,
    room: usize,
}

impl Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match self.room {
                0 => return Ok(()),
                1 => {
                    self.out.push('…');
                    self.room = 0;
                    return Ok(());
                }
                _ => self.room -= 1,
            }
            match character {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '"' => self.out.push_str("&quot;"),
                '\'' => self.out.push_str("&#39;"),
                '\n' | '\t' => self.out.push(character),
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}' => {
                    write!(self.out, "[U+{:04X}]", u32::from(character))?;
                }
                control if control.is_control() => self.out.push('\u{fffd}'),
                other => self.out.push(other),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut html = Html::default();
        html.text(text);
        html.finish()
    }

    #[test]
    fn no_text_becomes_markup() {
        assert_eq!(escaped("<script>alert('x')</script>"), "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;");
        assert_eq!(escaped("\" onload=\"x"), "&quot; onload=&quot;x");
        assert_eq!(escaped("a&lt;b"), "a&amp;lt;b");
        assert_eq!(escaped("std::vec<T, A>::push"), "std::vec&lt;T, A&gt;::push");
    }

    #[test]
    fn characters_that_deceive_are_shown_as_what_they_are() {
        assert_eq!(escaped("a\u{202e}b\0\x1b\u{85}\n"), "a[U+202E]b\u{fffd}\u{fffd}\u{fffd}\n");
    }

    #[test]
    fn text_without_an_end_is_cut() {
        assert_eq!(escaped(&"x".repeat(MAX_TEXT + 10)).chars().count(), MAX_TEXT);
        assert!(escaped(&"<".repeat(MAX_TEXT + 10)).ends_with("&lt;…"));
    }
}
