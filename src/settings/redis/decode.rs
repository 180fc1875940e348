//! Percent-encoding of URLs. Error texts never quote what was written.

/// Of user, password and path.
pub(super) fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, after @ ..] = after else { return Err(BAD_ESCAPE.to_owned()) };
        let (Some(high), Some(low)) = (hex(*high), hex(*low)) else { return Err(BAD_ESCAPE.to_owned()) };
        bytes.push(high * 16 + low);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| "percent-encoded bytes must be UTF-8".to_owned())
}

/// Of a value in the query, where a plus is a space.
pub(super) fn decoded_in_query(text: &str) -> Result<String, String> {
    decoded(&text.replace('+', " "))
}

const BAD_ESCAPE: &str = "a % must be followed by two hexadecimal digits; write % itself as %25";

fn hex(digit: u8) -> Option<u8> {
    // Below 16.
    char::from(digit).to_digit(16).map(|value| value as u8)
}
