//! What publications of a namespace must look like (channels.md section 3.3). Runs on every core, on bytes straight from
//! a peer.

use gyre_proto::json;

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
        DataFormat::Json => json::is_value(data),
        DataFormat::JsonObject => json::is_value(data) && data.trim_ascii_start().starts_with(b"{"),
        DataFormat::Binary => true,
    }
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
}
