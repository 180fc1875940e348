//! Payloads as base64, as server API calls and answers of backends carry them.
//!
//! Standard alphabet and padding, read as leniently as upstream does: `base64`, Ruby and MIME encoders break lines after 60
//! or 76 characters, and some leave bits in the last one that mean nothing. Runs on cores and on the control thread, blocks
//! on nothing.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The bytes; `None` = it is not base64.
pub(crate) fn decoded(text: &str) -> Option<Bytes> {
    let bytes = match text.contains(['\r', '\n']) {
        true => LENIENT.decode(text.replace(['\r', '\n'], "")),
        false => LENIENT.decode(text),
    };
    bytes.ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a usual encoder made would be refused, or garbage published.
    #[test]
    fn encoders() {
        for text in ["aGk=", "aGk=\n", "aG\r\nk=\r\n", "aGl="] {
            assert_eq!(decoded(text).as_deref(), Some(b"hi".as_slice()), "{text:?}");
        }
        for text in ["aGk", "a Gk=", "_-8=", "====", "aGk=aGk=", "aGk=\u{85}"] {
            assert_eq!(decoded(text), None, "{text:?}");
        }
    }
}
