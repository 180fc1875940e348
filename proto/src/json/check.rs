//! Finds the end of a JSON value and proves on the way that it is one.
//!
//! Every payload byte passes here at least once, on the cores, so long strings go 32 bytes at a time and short ones
//! eight: 10 KB of plain text cost about 1 us (2026-11). It never recurses and never
//! allocates: what is open is one bit per level.

/// Deepest nesting accepted: far beyond real data, and shallow enough for readers that recurse, ours and those of the
/// SDKs (Python stops at about 1000 levels). Measured 2026-11: the deepest text costs sonic-rs at most 128 KiB of stack
/// in a release build. (Unoptimized, its frames take 60 KiB per level.)
const NESTING_MAX: u32 = u128::BITS;

/// Where the first JSON value of `text` ends (offset of the byte after it), or `None` if there is no valid value.
///
/// White space before the value is skipped; what follows it is not looked at. Strings are not checked for UTF-8.
pub(crate) fn value_end(text: &[u8]) -> Option<usize> {
    let mut open = Open::default();
    let mut at = skip_space(text, 0);
    loop {
        // A value begins at `at`.
        at = match *text.get(at)? {
            b'"' => string_end(text, at + 1)?,
            b'-' | b'0'..=b'9' => number_end(text, at)?,
            b'{' => {
                let first = skip_space(text, at + 1);
                if *text.get(first)? == b'}' {
                    first + 1
                } else {
                    open.push(true)?;
                    at = key_end(text, first)?;
                    continue;
                }
            }
            b'[' => {
                let first = skip_space(text, at + 1);
                if *text.get(first)? == b']' {
                    first + 1
                } else {
                    open.push(false)?;
                    at = first;
                    continue;
                }
            }
            b't' => literal_end(text, at, b"true")?,
            b'f' => literal_end(text, at, b"false")?,
            b'n' => literal_end(text, at, b"null")?,
            _ => return None,
        };
        // A value has ended at `at`.
        loop {
            let Some(in_object) = open.innermost() else { return Some(at) };
            at = skip_space(text, at);
            match *text.get(at)? {
                b',' => {
                    at = skip_space(text, at + 1);
                    if in_object {
                        at = key_end(text, at)?;
                    }
                    break;
                }
                b'}' if in_object => open.pop(),
                b']' if !in_object => open.pop(),
                _ => return None,
            }
            at += 1;
        }
    }
}

/// Whether `text` is one JSON value in UTF-8, at most 128 levels deep, with nothing but white space around it.
pub fn is_value(text: &[u8]) -> bool {
    value_end(text).is_some_and(|end| skip_space(text, end) == text.len()) && simdutf8::basic::from_utf8(text).is_ok()
}

/// Offset of the first byte at or after `at` that is not white space.
pub(super) fn skip_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

/// The brackets that are open: bit set = object.
#[derive(Default)]
struct Open {
    bits: u128,
    depth: u32,
}

impl Open {
    fn push(&mut self, object: bool) -> Option<()> {
        if self.depth == NESTING_MAX {
            return None;
        }
        self.bits = self.bits << 1 | u128::from(object);
        self.depth += 1;
        Some(())
    }

    fn pop(&mut self) {
        self.bits >>= 1;
        self.depth -= 1;
    }

    fn innermost(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.bits & 1 == 1)
    }
}

/// Passes `"key" :` and the white space after it.
fn key_end(text: &[u8], at: usize) -> Option<usize> {
    if *text.get(at)? != b'"' {
        return None;
    }
    let colon = skip_space(text, string_end(text, at + 1)?);
    (*text.get(colon)? == b':').then(|| skip_space(text, colon + 1))
}

/// Passes the rest of a string whose opening quote is just before `at`.
fn string_end(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        while text.get(at..at + 32).is_some_and(is_ordinary) {
            at += 32;
        }
        while let Some(chunk) = text.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()) {
            let ordinary = leading_ordinary_bytes(u64::from_le_bytes(chunk));
            at += ordinary;
            if ordinary < 8 {
                break;
            }
        }
        match *text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => {
                at += match *text.get(at + 1)? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                    b'u' if text.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => 6,
                    _ => return None,
                }
            }
            0..0x20 => return None,
            _ => at += 1,
        }
    }
}

/// Whether none of the bytes is quote, backslash or control. Without a way out of the loop it compiles to vector
/// instructions.
fn is_ordinary(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |special, &byte| special | (byte == b'"') | (byte == b'\\') | (byte < 0x20))
}

/// How many of the eight bytes, from the lowest, are neither quote, backslash nor control.
///
/// The usual "find a zero byte" arithmetic: a borrow may mark a byte wrongly, but only above a byte that is marked
/// rightly, and only the lowest mark counts.
fn leading_ordinary_bytes(chunk: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let quotes = zero_bytes(chunk ^ (ONES * b'"' as u64));
    let backslashes = zero_bytes(chunk ^ (ONES * b'\\' as u64));
    let controls = chunk.wrapping_sub(ONES * 0x20) & !chunk & HIGH;
    (quotes | backslashes | controls).trailing_zeros() as usize / 8
}

fn number_end(text: &[u8], mut at: usize) -> Option<usize> {
    if text[at] == b'-' {
        at += 1;
    }
    at = match *text.get(at)? {
        b'0' => at + 1,
        b'1'..=b'9' => digits_end(text, at)?,
        _ => return None,
    };
    if text.get(at) == Some(&b'.') {
        at = digits_end(text, at + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = text.get(at) {
            at += 1;
        }
        at = digits_end(text, at)?;
    }
    Some(at)
}

/// Passes one or more digits.
fn digits_end(text: &[u8], at: usize) -> Option<usize> {
    let count = text.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then_some(at + count)
}

fn literal_end(text: &[u8], at: usize, literal: &[u8]) -> Option<usize> {
    text[at..].starts_with(literal).then_some(at + literal.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A payload accepted wrongly disconnects every JSON subscriber; one refused wrongly its publisher.
    #[test]
    fn accepts_json_and_nothing_else() {
        #[rustfmt::skip]
        let good = [
            "0", "-0", "1", "-12.50e+3", "1E5", "1e-05", "0.0", "true", "false", "null", r#""""#, r#""a""#, "[]", "{}",
            " [ ] ", "\t{ }\r\n", "[[],[{}]]", r#"{"a":{"b":[1,2,{"c":null}]},"d":""}"#, "[1 , 2]",
            r#"{ "a" : 1 , "b" : [ true ] }"#, r#""\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00""#, "\"\u{7f}żółć\u{2028}\"",
            r#""1234567""#, r#""12345678""#, r#""123456789012345\n678""#, "12345678901234567890123456789012345678901.5",
        ];
        for text in good {
            assert!(is_value(text.as_bytes()), "{text}");
        }
        #[rustfmt::skip]
        let bad = [
            "", " ", "-", "01", "1.", ".5", "1e", "1e+", "+1", "--1", "tru", "True", "nul", "NaN", "'a'", "\"", "\"a",
            r#""\x""#, r#""\u12""#, r#""\u12G4""#, r#""\uzzzz""#, r#""\"#, "\"\n\"", "\"1234567\u{1}\"", "\"\0\"", "[",
            "]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "{", "}", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":1,}"#, "{a:1}",
            r#"{"a" 1}"#, "{1:1}", "[}", "{]", r#"{"a":[}"#, "1 2", "{}{}", "[]]", "\u{feff}1", "/**/1", "{,}",
        ];
        for text in bad {
            assert!(!is_value(text.as_bytes()), "{text}");
        }
    }

    /// The rest of a line after its first value is ignored, so the end has to be exact.
    #[test]
    fn tells_where_the_value_ends() {
        assert_eq!(value_end(br#" {"a":1} x"#), Some(8));
        assert_eq!(value_end(b"12,"), Some(2));
        assert_eq!(value_end(br#""a"b"#), Some(3));
        assert_eq!(value_end(b"truex"), Some(4));
    }

    /// Every byte value at every place of a chunk, against the plain definition.
    #[test]
    fn chunks_agree_with_single_bytes() {
        for place in 0..70 {
            for byte in 0..=255u8 {
                for fill in [b'a', b'!', b'#', b'[', b']', 0x20, 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
                    let mut text = [fill; 72];
                    (text[0], text[71]) = (b'"', b'"');
                    text[place + 1] = byte;
                    let expected = match byte {
                        b'"' => Some(place + 2),
                        b'\\' => continue,
                        0..0x20 => None,
                        _ => Some(72),
                    };
                    assert_eq!(value_end(&text), expected, "{byte} at {place} in {fill}");
                }
            }
        }
    }

    /// Hostile nesting must end in an error, not in a stack overflow.
    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat().into_bytes();
        // The innermost pair is empty and is not counted.
        assert!(is_value(&nested(NESTING_MAX as usize + 1)));
        assert!(!is_value(&nested(NESTING_MAX as usize + 2)));
        assert!(!is_value(&nested(1 << 20)));
        assert!(!is_value("[".repeat(1 << 20).as_bytes()));
        assert!(!is_value(r#"{"a":"#.repeat(1 << 20).as_bytes()));
        assert!(is_value(format!("[{}[]]", r#"[{"a":[{}]}],"#.repeat(10_000)).as_bytes()));
        let alternating = |close: &str| [r#"[{"a":"#.repeat(60), "1".into(), close.repeat(60)].concat();
        assert!(is_value(alternating("}]").as_bytes()));
        assert!(!is_value(alternating("]}").as_bytes()));
    }
}
