//! Payload of close frames (RFC 6455 sections 5.5.1 and 7.4), both directions.
//!
//! Pure; runs on the core that owns the connection, once per connection. Must never hand out a code that may not be
//! sent: callers echo what they got.

use tungstenite::protocol::frame::coding::CloseCode;

use super::{Frame, Violation};

/// Longest reason in bytes: a control frame carries 125, the code takes two.
const REASON_BYTES_MAX: usize = 123;

/// Payload of a close frame with `code` and `reason`; a reason over 123 bytes is cut at a character boundary.
///
/// To answer a close frame that carried no code, send an empty payload instead.
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(reason.as_bytes());
    payload
}

/// Reads the payload of a received close frame.
pub(super) fn parse(payload: &[u8]) -> Result<Frame<'_>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(Frame::Close { code: None, reason: "" }),
            _ => Err(Violation::protocol("close frame with half a status code")),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(Violation::protocol("status code not allowed in a close frame"));
    }
    let reason = core::str::from_utf8(reason).map_err(|_| Violation::protocol("close reason is not valid utf-8"))?;
    Ok(Frame::Close { code: Some(code), reason })
}

fn may_be_sent(code: u16) -> bool {
    // 1014 (bad gateway) is registered with IANA but missing in tungstenite's table.
    CloseCode::from(code).is_allowed() || code == 1014
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client would see a broken close frame, or none, instead of the disconnect code that tells it what to do.
    #[test]
    fn long_reasons_are_cut_between_characters() {
        assert_eq!(close_payload(3000, ""), [0x0b, 0xb8]);
        assert_eq!(close_payload(1000, "ok"), b"\x03\xe8ok");
        let reason = "é".repeat(100);
        let payload = close_payload(3501, &reason);
        assert_eq!(payload.len(), 2 + 122);
        assert_eq!(parse(&payload), Ok(Frame::Close { code: Some(3501), reason: &reason[..122] }));
    }

    /// Conformance suites send each of these codes.
    #[test]
    fn codes() {
        for code in 0..=u16::MAX {
            let good = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            assert_eq!(parse(&code.to_be_bytes()).is_ok(), good, "{code}");
        }
        assert_eq!(parse(b""), Ok(Frame::Close { code: None, reason: "" }));
        assert_eq!(parse(b"\x03").unwrap_err().code, 1002);
        assert_eq!(parse(b"\x03\xe8\xff").unwrap_err().code, 1002);
    }
}
