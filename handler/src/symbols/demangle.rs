//! Names as people wrote them.

use std::fmt::{self, Write};

/// Bytes of a mangled name. Heavily generic code reaches some thousand.
const MANGLED: usize = 32_768;
/// Bytes of a demangled name. Substitutions can make it grow without bound.
const DEMANGLED: usize = 16_384;

/// The name as it is in the source: Rust (legacy and v0) and C++ (Itanium ABI) are demangled, others stay.
///
/// `macho` takes off the underscore that Mach-O symbols have in front.
pub(super) fn demangle(name: &str, macho: bool) -> String {
    let name = if macho { name.strip_prefix('_').unwrap_or(name) } else { name };
    if name.len() > MANGLED {
        return cut(name);
    }
    if let Ok(demangled) = rustc_demangle::try_demangle(name) {
        // The alternative form leaves out the hash.
        return bounded(format_args!("{demangled:#}"));
    }
    if (name.starts_with("_Z") || name.starts_with("__Z"))
        && let Ok(symbol) = cpp_demangle::Symbol::new(name)
    {
        let options = cpp_demangle::DemangleOptions::new();
        let mut text = Bounded(String::new());
        if symbol.structured_demangle(&mut text, &options).is_ok() || text.0.len() >= DEMANGLED {
            return text.0;
        }
    }
    cut(name)
}

fn cut(name: &str) -> String {
    bounded(format_args!("{name}"))
}

fn bounded(arguments: fmt::Arguments<'_>) -> String {
    let mut text = Bounded(String::new());
    // An error only says that the limit was reached.
    let _ = text.write_fmt(arguments);
    text.0
}

/// A string that refuses to grow past [`DEMANGLED`], which ends the demangler as well.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = DEMANGLED.saturating_sub(self.0.len());
        if part.len() > room {
            let end = (0..=room).rev().find(|end| part.is_char_boundary(*end)).unwrap_or(0);
            self.0.push_str(&part[..end]);
            return Err(fmt::Error);
        }
        self.0.push_str(part);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_each_language_are_as_in_the_source() {
        // Mangled names as rustc 1.95 and GCC 12 emit them.
        assert_eq!(demangle("_ZN4core9panicking5panic17h1c3a0b5c2f1d4e6aE", false), "core::panicking::panic");
        assert_eq!(demangle("_RNvCs1234_7mycrate3foo", false), "mycrate::foo");
        assert_eq!(demangle("_ZN3foo3barEi", false), "foo::bar(int)");
        assert_eq!(demangle("__ZN3foo3barEi", true), "foo::bar(int)");
        assert_eq!(demangle("_main", true), "main");
        assert_eq!(demangle("_start", false), "_start");
        assert_eq!(demangle("_Znonsense", false), "_Znonsense");
    }

    #[test]
    fn a_name_that_would_grow_without_bound_is_cut() {
        // Each level doubles what S0_, S1_, ... stand for.
        let mut name = String::from("_Z1fI1aE");
        for _ in 0..64 {
            name = format!("_Z1f{}", "I1aS_S_E".repeat(64));
        }
        assert!(demangle(&name, false).len() <= DEMANGLED);
        assert!(demangle(&"x".repeat(100_000), false).len() <= DEMANGLED);
    }
}
