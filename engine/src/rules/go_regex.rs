//! Operators bring regular expressions that were written for Go. Both engines descend from RE2 and agree on nearly
//! everything; where the same text means something else here it is rewritten, since a pattern that silently matches
//! more guards less. Runs on the control thread, at start and on reload.
//!
//! Left as they are: `\B` (differs only beside letters outside ASCII), octal escapes and other forms that are errors.

use std::iter::Peekable;
use std::str::Chars;

use regex::Regex;

/// Compiles a pattern in Go's syntax. Matching is unanchored.
pub fn go_regex(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&translate(pattern))
}

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => outer_escape(&mut rest, &mut out),
            '[' => class(&mut rest, &mut out),
            // Go takes a brace that opens no repetition for itself.
            '{' if !opens_repetition(&rest) => out.push_str("\\{"),
            c => out.push(c),
        }
    }
    out
}

fn outer_escape(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    match rest.next() {
        Some('Q') => quoted(rest, out),
        // Go's boundaries are of ASCII words.
        Some('b') => out.push_str(r"(?-u:\b)"),
        Some(c @ ('p' | 'P' | 'x')) => {
            out.extend(['\\', c]);
            braced(rest, out);
        }
        escaped => escape(escaped, out),
    }
}

/// `\Q...\E`: everything between stands for itself.
fn quoted(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    let mut literal = String::new();
    while let Some(c) = rest.next() {
        if c == '\\' && rest.next_if_eq(&'E').is_some() {
            break;
        }
        literal.push(c);
    }
    out.push_str(&regex::escape(&literal));
}

/// The `{...}` that may follow `\p` and `\x`.
fn braced(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    if rest.peek() == Some(&'{') {
        for c in rest.by_ref() {
            out.push(c);
            if c == '}' {
                break;
            }
        }
    }
}

/// An escape that means the same inside and outside of brackets.
fn escape(escaped: Option<char>, out: &mut String) {
    match escaped {
        // ASCII in Go, all of Unicode here.
        Some('d') => out.push_str("[0-9]"),
        Some('D') => out.push_str("[^0-9]"),
        Some('s') => out.push_str(r"[\t\n\f\r ]"),
        Some('S') => out.push_str(r"[^\t\n\f\r ]"),
        Some('w') => out.push_str("[0-9A-Za-z_]"),
        Some('W') => out.push_str("[^0-9A-Za-z_]"),
        // Themselves in Go, ends of words here.
        Some(c @ ('<' | '>')) => out.push(c),
        Some(c) => out.extend(['\\', c]),
        None => out.push('\\'),
    }
}

/// `[...]`, in which `[`, `&&`, `--` and `~~` are ordinary in Go and operators here.
fn class(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    out.extend(rest.next_if_eq(&'^'));
    // A bracket that closes at once stands for itself.
    if rest.next_if_eq(&']').is_some() {
        out.push_str(r"\]");
    }
    while let Some(c) = rest.next() {
        match c {
            ']' => {
                out.push(']');
                return;
            }
            '[' if rest.peek() == Some(&':') => posix(rest, out),
            '[' | '&' | '~' => out.extend(['\\', c]),
            '-' if rest.peek() == Some(&'-') => {
                rest.next();
                out.push_str(r"-\-");
            }
            '\\' => match rest.next() {
                Some(c @ ('p' | 'P' | 'x')) => {
                    out.extend(['\\', c]);
                    braced(rest, out);
                }
                escaped => escape(escaped, out),
            },
            c => out.push(c),
        }
    }
}

/// `[:alpha:]` inside of brackets; its own closing bracket does not end the class.
fn posix(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    let ahead = rest.clone().collect::<String>();
    match ahead.find(":]") {
        Some(end) => {
            out.push('[');
            out.extend(rest.by_ref().take(ahead[..end].chars().count() + 2));
        }
        None => out.push_str(r"\["),
    }
}

/// Whether the text after `{` makes it a repetition: `n}`, `n,}` or `n,m}`.
fn opens_repetition(rest: &Peekable<Chars<'_>>) -> bool {
    let inner: String = rest.clone().take_while(|&c| c != '}').collect();
    let is_closed = rest.clone().nth(inner.chars().count()) == Some('}');
    let (low, high) = inner.split_once(',').unwrap_or((&inner, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    is_closed && !low.is_empty() && is_number(low) && is_number(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A channel rule that matches more than it did before the move to Gyre lets names through that it should stop.
    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, text, expected) in [
            (r"^\w+$", "abc_9", true),
            (r"^\w+$", "канал", false),
            (r"^\d+$", "٣", false),
            (r"^[\d.]+$", "1.5", true),
            (r"^[^\d]+$", "٣", true),
            (r"^[\W]$", "é", true),
            (r"^[^\W]+$", "abc", true),
            (r"^\S$", "\u{a0}", true),
            (r"^\s$", "\u{b}", false),
            (r"\bword\b", "a word", true),
            (r"\bword\b", "éword", true),
            (r"\bword\b", "aword", false),
            (r"^\Qa.b[\E+$", "a.b[[[", true),
            (r"^\Qa.b", "axb", false),
            (r"^[a&&b]+$", "a&b", true),
            (r"^[a~~b]+$", "a~b", true),
            (r"^[+--]$", ",", true),
            (r"^[[a]+$", "[a[", true),
            (r"^[]a]+$", "a]", true),
            (r"^[^]a]+$", "b", true),
            (r"^[[:alpha:]_-]+$", "ab_-", true),
            (r"^[[:alpha:]]+$", "a1", false),
            (r"^\<a\>$", "<a>", true),
            (r"^[\<\]]+$", "<]", true),
            (r"^{a}$", "{a}", true),
            (r"^a{,2}$", "a{,2}", true),
            (r"^a{2}b{1,}c{1,2}$", "aabbcc", true),
            (r"^\x{43a}\x41$", "кA", true),
            (r"^[\x{43a}-\x{43c}]$", "л", true),
            (r"^\p{Greek}+\pL$", "λλa", true),
            (r"^(?P<name>a|b)(?i)C$", "bc", true),
            (r"a.c", "xxabcxx", true),
            (r"a.c", "a\nc", false),
            (r"^$", "", true),
            (r"c$", "abc\n", false),
        ] {
            let regex = go_regex(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(regex.is_match(text), expected, "{pattern} on {text:?} as {regex}");
        }
    }

    /// The operator must hear about a broken pattern instead of running without it.
    #[test]
    fn broken_patterns_are_errors() {
        for pattern in ["(", "[a", "[", "[^", "[]", "*", r"\", r"[\", r"\8", r"\p{Nope}", r"\p{", "(?=a)"] {
            assert!(go_regex(pattern).is_err(), "{pattern}");
        }
    }
}
