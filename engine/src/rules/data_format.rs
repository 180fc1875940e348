//! What publications of a namespace must look like (channels.md section 3.3), and the guard that every parse of foreign
//! JSON in this package goes through first. Runs on every core, on bytes straight from a peer.

use sonic_rs::{JsonValueTrait, LazyValue};

/// Arrays and objects inside each other in JSON that is looked at here. The parser calls itself once per level, so a
/// bound is what keeps a peer from exhausting the stack (64 KiB of `[` did); 512 levels need well below 256 KiB of it,
/// and payloads in the field stay below ten.
const NESTING_MAX: usize = 512;

/// What publications must look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataFormat {
    /// Anything but nothing.
    #[default]
    NotEmpty,
    /// One JSON value.
    Json,
    /// One JSON object.
    JsonObject,
    /// Anything.
    Binary,
}

impl DataFormat {
    /// Reads the configured word; `None` = unknown.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "" => Some(Self::NotEmpty),
            "json" => Some(Self::Json),
            "json_object" => Some(Self::JsonObject),
            "binary" => Some(Self::Binary),
            _ => None,
        }
    }
}

/// Whether a publication with this data is accepted (107 otherwise).
pub fn check_data_format(format: DataFormat, data: &[u8]) -> bool {
    match format {
        DataFormat::NotEmpty => !data.is_empty(),
        DataFormat::Json => json_value(data).is_some(),
        DataFormat::JsonObject => json_value(data).is_some_and(|value| value.is_object()),
        DataFormat::Binary => true,
    }
}

/// The one JSON value that `data` consists of, checked to its end.
fn json_value(data: &[u8]) -> Option<LazyValue<'_>> {
    if nests_too_deep(data) {
        return None;
    }
    sonic_rs::from_slice(data).ok()
}

/// Whether parsing `data` as JSON might need more stack than we give it.
pub(crate) fn nests_too_deep(data: &[u8]) -> bool {
    let is_opening = |byte: u8| matches!(byte, b'[' | b'{');
    // Nearly all JSON has fewer brackets in all than may be nested; counting them is one vectorized pass.
    if data.iter().filter(|&&byte| is_opening(byte)).count() <= NESTING_MAX {
        return false;
    }
    let (mut depth, mut in_string, mut is_escaped) = (0usize, false, false);
    for &byte in data {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b']' | b'}' => depth = depth.saturating_sub(1),
            byte if is_opening(byte) => {
                depth += 1;
                if depth > NESTING_MAX {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Subscribers rely on the promised form; publishers on being told when they break it.
    #[test]
    fn formats() {
        use DataFormat::{Binary, Json, JsonObject, NotEmpty};
        let table: [(&[u8], [bool; 4]); 24] = [
            // NotEmpty, Json, JsonObject, Binary
            (b"", [false, false, false, true]),
            (b" ", [true, false, false, true]),
            (b"hello", [true, false, false, true]),
            (b"\xff\x00", [true, false, false, true]),
            (b"1", [true, true, false, true]),
            (b"-0.5e+3", [true, true, false, true]),
            (b"01", [true, false, false, true]),
            (b"1.", [true, false, false, true]),
            (b"NaN", [true, false, false, true]),
            (b"null", [true, true, false, true]),
            (b"nul", [true, false, false, true]),
            (b"\"a\\u00e9\"", [true, true, false, true]),
            (b"\"a\\x\"", [true, false, false, true]),
            (b"\"a\nb\"", [true, false, false, true]),
            (b"\"\xff\"", [true, false, false, true]),
            (b"[1,{}]", [true, true, false, true]),
            (b"[1,]", [true, false, false, true]),
            (b"[tru]", [true, false, false, true]),
            (b"{}", [true, true, true, true]),
            (b" \r\n\t{\"a\":[1]} \n", [true, true, true, true]),
            (b"{\"a\":1,}", [true, false, false, true]),
            (b"{\"a\" 1}", [true, false, false, true]),
            (b"{} {}", [true, false, false, true]),
            (b"{\"a\":1}x", [true, false, false, true]),
        ];
        for (data, expected) in table {
            let found = [NotEmpty, Json, JsonObject, Binary].map(|format| check_data_format(format, data));
            assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(data));
        }
    }

    /// One frame of brackets must not take the node down.
    #[test]
    fn deep_nesting_is_refused() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert!(check_data_format(DataFormat::Json, nested(NESTING_MAX).as_bytes()));
        assert!(check_data_format(DataFormat::JsonObject, objects(NESTING_MAX).as_bytes()));
        assert!(!check_data_format(DataFormat::Json, nested(NESTING_MAX + 1).as_bytes()));
        assert!(!check_data_format(DataFormat::JsonObject, objects(1_000_000).as_bytes()));
        assert!(!check_data_format(DataFormat::Json, "[".repeat(10_000_000).as_bytes()));
        let wide = format!("[{}[]]", "[],{},\"\\\"[[[\",".repeat(10_000));
        assert!(check_data_format(DataFormat::Json, wide.as_bytes()), "wide is not deep");
    }

    /// The bound leaves room on the smallest stack that we run on.
    #[test]
    fn allowed_nesting_fits_a_small_stack() {
        let deepest = format!("{}{}", "[".repeat(NESTING_MAX), "]".repeat(NESTING_MAX));
        let thread = std::thread::Builder::new().stack_size(512 * 1024);
        let parse = move || check_data_format(DataFormat::Json, deepest.as_bytes());
        assert!(thread.spawn(parse).unwrap().join().unwrap());
    }
}
