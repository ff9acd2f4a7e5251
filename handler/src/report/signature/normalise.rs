//! One name for a function, whatever it was instantiated with and whichever compiler demangles it.

/// Longest name that is looked at, in bytes. Demangled C++ templates can be megabytes long.
const MAX_NAME: usize = 4096;

/// A function's name without template arguments, parameter lists, return types, hashes, and the numbers of closures and clones.
pub(in crate::report) fn normalise(name: &str) -> String {
    let name = name.trim();
    // Objective-C methods have none of it.
    if name.starts_with("-[") || name.starts_with("+[") {
        return truncated(name).to_owned();
    }
    // glibc's own names for functions that others call without it.
    let name = name.strip_prefix("__GI_").unwrap_or(name);
    let name = without_hash(without_clone(truncated(name)));
    let plain = without_return_type(&without_arguments(name)).to_owned();
    if plain.is_empty() { name.to_owned() } else { plain }
}

fn truncated(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME)]
}

/// GCC and LLVM make copies of functions: "f.cold", "f.part.0", "f [clone .isra.0]", "f.llvm.123".
fn without_clone(name: &str) -> &str {
    let name = name.split(" [clone").next().unwrap_or(name);
    let clones = [".llvm.", ".cold", ".part.", ".constprop.", ".isra.", ".lto_priv."];
    let end = clones.iter().filter_map(|clone| name.find(clone)).min().unwrap_or(name.len());
    if end == 0 { name } else { &name[..end] }
}

/// Rust's legacy mangling ends in "::h" and 16 hexadecimal digits.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((rest, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => rest,
        _ => name,
    }
}

/// Replaces template arguments by "T", drops parameter lists, and drops what numbers closures.
fn without_arguments(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(next) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("operator").filter(|_| starts_word(&plain)) {
            // operator<, operator<<, operator->, operator(), operator new[]: its symbol is no bracket.
            let symbol = operator_symbol(after);
            plain.push_str("operator");
            plain.push_str(symbol);
            rest = &after[symbol.len()..];
            continue;
        }
        let length = match next {
            '<' | '(' | '{' | '[' => group(rest),
            _ => next.len_utf8(),
        };
        let (part, after) = rest.split_at(length);
        match next {
            // "<A as B>::f", "<impl A for B>::f" are names; their own arguments go.
            '<' if starts_path(&plain) && after.starts_with("::") => {
                plain.push('<');
                plain.push_str(&without_arguments(inner(part)));
                plain.push('>');
            }
            // Rust's "f::<T>": the function f.
            '<' if plain.ends_with("::") => plain.truncate(plain.len() - 2),
            '<' => plain.push_str("<T>"),
            '(' if part == "(anonymous namespace)" => plain.push_str(part),
            '(' => {
                // After the parameters come "const", "&" and the like, or "::" and what is inside the function.
                if !after.starts_with("::") && !plain.is_empty() {
                    return plain;
                }
            }
            '{' => {
                // "{{closure}}", "{closure#3}", "{lambda(int)#1}"
                let word = part.trim_matches(['{', '}']);
                plain.push('{');
                plain.push_str(word.split(['#', '(']).next().unwrap_or(word));
                plain.push('}');
            }
            // "[abi:cxx11]", and the hash that tells crates of one name apart, belong to the build; in "<impl A for [T]>" it
            // is a type.
            '[' if part.starts_with("[abi:") || (!starts_word(&plain) && is_hash(part)) => {}
            _ => plain.push_str(part),
        }
        rest = after;
    }
    plain
}

/// Bytes of the bracketed group that `text` starts with; all of it if the bracket never closes.
fn group(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut previous = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'<' | b'(' | b'{' | b'[' => depth += 1,
            // The arrow of a function type closes nothing.
            b'>' if previous == b'-' => {}
            b'>' | b')' | b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        previous = byte;
    }
    text.len()
}

fn inner(group: &str) -> &str {
    group.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(group)
}

fn is_hash(group: &str) -> bool {
    group.len() > 2 && group[1..].trim_end_matches(']').bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn starts_path(before: &str) -> bool {
    before.is_empty() || before.ends_with("::")
}

fn starts_word(before: &str) -> bool {
    !before.ends_with(|last: char| last.is_alphanumeric() || last == '_')
}

/// The symbol that follows "operator".
fn operator_symbol(after: &str) -> &str {
    const SYMBOLS: [&str; 12] = ["()", "[]", "<=>", "<<=", ">>=", "->*", "<<", ">>", "<=", ">=", "->", " new[]"];
    const MORE: [&str; 5] = [" delete[]", " new", " delete", "<", ">"];
    let known = SYMBOLS.iter().chain(&MORE).find(|symbol| after.starts_with(**symbol));
    known.map_or("", |symbol| &after[..symbol.len()])
}

/// Demangled C++ templates start with what they return. What is left has no brackets but those of names.
fn without_return_type(name: &str) -> &str {
    if let Some(at) = name.find("operator ") {
        // "operator new", "operator bool": the space belongs to the name.
        let start = name[..at].rfind(' ').map_or(0, |space| space + 1);
        return &name[start..];
    }
    let mut depth = 0_usize;
    let mut start = 0;
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'<' | b'(' | b'{' | b'[' => depth += 1,
            b'>' | b')' | b'}' | b']' => depth = depth.saturating_sub(1),
            b' ' if depth == 0 => start = at + 1,
            _ => {}
        }
    }
    &name[start..]
}
