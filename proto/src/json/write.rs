//! Appending JSON text to a buffer of the caller's.

use super::check;
use crate::client::InappropriateJson;

/// Appends `text` as a JSON string.
///
/// `<`, `>`, `&`, U+2028 and U+2029 are escaped too: messages may end up inside HTML or be evaluated as JavaScript.
pub(crate) fn string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if !SPECIAL[byte as usize] {
            continue;
        }
        let mut short = [b'\\', 0];
        let (escape, length): (&[u8], usize) = match byte {
            b'"' | b'\\' => {
                short[1] = byte;
                (&short, 1)
            }
            b'\n' => (b"\\n", 1),
            b'\r' => (b"\\r", 1),
            b'\t' => (b"\\t", 1),
            0xe2 if bytes[at..].starts_with("\u{2028}".as_bytes()) => (b"\\u2028", 3),
            0xe2 if bytes[at..].starts_with("\u{2029}".as_bytes()) => (b"\\u2029", 3),
            0xe2 => continue,
            _ => {
                out.extend_from_slice(&bytes[written..at]);
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]]);
                written = at + 1;
                continue;
            }
        };
        out.extend_from_slice(&bytes[written..at]);
        out.extend_from_slice(escape);
        written = at + length;
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

/// Bytes that [`string`] has to look at: all that are escaped, and the first byte of U+2028 and U+2029.
const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let mut control = 0;
    while control < 0x20 {
        special[control] = true;
        control += 1;
    }
    special[b'"' as usize] = true;
    special[b'\\' as usize] = true;
    special[b'<' as usize] = true;
    special[b'>' as usize] = true;
    special[b'&' as usize] = true;
    special[0xe2] = true;
    special
};

/// Appends an integer.
pub(crate) fn number(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `payload` as it is, save for LF bytes, which would end the message.
///
/// LF occurs in JSON only as white space between tokens, where it is never needed. Fails, with `out` untouched, if
/// `payload` is not exactly one JSON value in UTF-8: a text frame with anything else would end the connection.
pub(crate) fn raw(payload: &[u8], out: &mut Vec<u8>) -> Result<(), InappropriateJson> {
    if !check::is_value(payload) {
        return Err(InappropriateJson);
    }
    out.reserve(payload.len());
    let mut written = 0;
    for line_end in memchr::memchr_iter(b'\n', payload) {
        out.extend_from_slice(&payload[written..line_end]);
        written = line_end + 1;
    }
    out.extend_from_slice(&payload[written..]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        string(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// A string that ends early is a way to inject keys into messages of others.
    #[test]
    fn strings_are_escaped() {
        assert_eq!(written(""), r#""""#);
        assert_eq!(written("news:żółć 😀"), r#""news:żółć 😀""#);
        assert_eq!(written("a\"b\\c"), r#""a\"b\\c""#);
        assert_eq!(written("\n\r\t\u{0}\u{8}\u{1f}\u{7f}"), "\"\\n\\r\\t\\u0000\\u0008\\u001f\u{7f}\"");
        assert_eq!(written("<a>&"), r#""\u003ca\u003e\u0026""#);
        assert_eq!(written("x\u{2028}\u{2029}\u{202a}\u{2013}y"), "\"x\\u2028\\u2029\u{202a}\u{2013}y\"");
    }

    /// What we escape, any reader must get back unchanged.
    #[test]
    fn strings_survive_a_reader() {
        for code in (0..0x3000).chain(0x1f600..0x1f610) {
            let text = format!("a{}b", char::from_u32(code).unwrap_or(' '));
            assert_eq!(serde_json::from_str::<String>(&written(&text)).unwrap(), text);
        }
    }

    /// A line feed inside a payload would split the message; a broken payload must not reach a JSON client.
    #[test]
    fn payloads_are_checked_and_kept_on_one_line() {
        let mut out = b"x".to_vec();
        assert_eq!(raw(b"{\n\t\"a\": [1,\r\n 2]\n}\n", &mut out), Ok(()));
        assert_eq!(out, b"x{\t\"a\": [1,\r 2]}");
        for bad in [&b""[..], b"\n", b"{", b"\"\xff\"", b"\xff", b"\"\\uzzzz\"", b"1,\"admin\":true"] {
            assert_eq!(raw(bad, &mut out), Err(InappropriateJson));
        }
        assert_eq!(out, b"x{\t\"a\": [1,\r 2]}");
        number(u64::MAX, &mut out);
        number(i64::MIN, &mut out);
        assert!(out.ends_with(b"18446744073709551615-9223372036854775808"));
    }
}
