//! Reads single JSON values the way Go does: `null` for "absent", dates as numbers or texts. Runs on a peer's bytes, so
//! the strict walk of `gyre_proto::json` goes before every parse.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use gyre_proto::json;
use sonic_rs::{JsonValueTrait, LazyValue};

use super::TokenError;

/// Padded, as Go reads it: forgiving about the unused bits of the last character.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

const MALFORMED: TokenError = TokenError::Invalid("malformed JSON, or a claim of the wrong type");

/// The object that `text` consists of, checked to its end.
pub(super) fn document(text: &[u8]) -> Result<LazyValue<'_>, TokenError> {
    // The parser recurses without a bound and takes escapes on trust; this walk does neither.
    if !json::is_value(text) {
        return Err(MALFORMED);
    }
    let value: LazyValue<'_> = sonic_rs::from_slice(text).map_err(|_| MALFORMED)?;
    if value.is_object() { Ok(value) } else { Err(MALFORMED) }
}

/// `null` has no fields.
pub(super) fn each_field<'a>(
    object: LazyValue<'a>,
    mut each: impl FnMut(&str, &LazyValue<'a>) -> Result<(), TokenError>,
) -> Result<(), TokenError> {
    if object.is_null() {
        return Ok(());
    }
    for field in object.into_object_iter().ok_or(MALFORMED)? {
        let (name, value) = field.map_err(|_| MALFORMED)?;
        each(&name, &value)?;
    }
    Ok(())
}

/// `null` is `None`.
pub(super) fn typed<T: serde::de::DeserializeOwned>(value: &LazyValue<'_>) -> Result<Option<T>, TokenError> {
    sonic_rs::from_str(value.as_raw_str()).map_err(|_| MALFORMED)
}

pub(super) fn text(value: &LazyValue<'_>) -> Result<String, TokenError> {
    Ok(typed(value)?.unwrap_or_default())
}

pub(super) fn raw(value: &LazyValue<'_>) -> Bytes {
    Bytes::copy_from_slice(value.as_raw_str().as_bytes())
}

/// A date in whole seconds: a number, or a text that holds one.
pub(super) fn date(value: &LazyValue<'_>) -> Result<Option<i64>, TokenError> {
    let seconds: Option<f64> = if value.is_str() {
        let number = text(value)?;
        // Nothing has walked the inside of this text, and brackets are not for the parser to find.
        if !number.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            return Err(MALFORMED);
        }
        sonic_rs::from_str(&number).map(Some).map_err(|_| MALFORMED)?
    } else {
        typed(value)?
    };
    match seconds {
        // The cast saturates, and centuries are as good as for ever.
        Some(seconds) if seconds.is_finite() => Ok(Some(seconds.floor() as i64)),
        Some(_) => Err(MALFORMED),
        None => Ok(None),
    }
}

/// A text, or an array of nothing but texts.
pub(super) fn audiences(value: &LazyValue<'_>) -> Result<Vec<String>, TokenError> {
    if value.is_str() {
        return Ok(vec![text(value)?]);
    }
    typed(value)?.ok_or(MALFORMED)
}

/// A user's id in a claim of any type. Whole numbers keep their digits, other numbers lose their exponent.
pub(super) fn id_text(value: &LazyValue<'_>) -> Result<String, TokenError> {
    if value.is_str() || value.is_null() {
        return text(value);
    }
    let source = value.as_raw_str();
    let is_whole = source.strip_prefix('-').unwrap_or(source).bytes().all(|b| b.is_ascii_digit());
    if !value.is_number() || is_whole {
        return Ok(source.to_owned());
    }
    match typed::<f64>(value)? {
        Some(number) if number.is_finite() => Ok(number.to_string()),
        _ => Err(MALFORMED),
    }
}

/// `None` = broken base64. Line breaks are skipped: MIME encoders in backends add them.
pub(super) fn prefer_base64(encoded: &str, json: Option<Bytes>) -> Option<Option<Bytes>> {
    if encoded.is_empty() {
        return Some(json);
    }
    let lines: String = encoded.split(['\r', '\n']).collect();
    Some(Some(BASE64.decode(lines).ok()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Binary payloads of all base64 encoders in the field.
    #[test]
    fn base64_goes_first() {
        let json = || Some(Bytes::from_static(b"{}"));
        for (encoded, expected) in [
            ("", Some(json())),
            ("aGk=", Some(Some("hi".into()))),
            ("aG\r\nk=\n", Some(Some("hi".into()))),
            ("aGl=", Some(Some("hi".into()))),
            ("+/+/", Some(Some(Bytes::from_static(&[0xfb, 0xff, 0xbf])))),
            ("aGk", None),
            ("a", None),
            ("-_-_", None),
            ("aGk= ", None),
        ] {
            assert_eq!(prefer_base64(encoded, json()), expected, "{encoded:?}");
        }
    }
}
