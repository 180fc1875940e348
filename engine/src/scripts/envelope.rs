//! What travels in a Pub/Sub message of a channel: a publication, with its position if it has one, a join or a leave.
//!
//! ```text
//! Publication                                                           no history
//! __p1:offset:epoch__ Publication                                       with position
//! __d1:offset:epoch:length:base:length:Publication                      with position and delta base (may be empty)
//! __j__ ClientInfo            __l__ ClientInfo
//! ```
//!
//! Anybody may publish into a channel of Redis, so whatever does not read back to the same bytes is nothing at all, and
//! never a panic. An encoded Publication cannot begin with `_`: that would be field 11 of wire type 7, which is none.

use super::decimal;

/// A Pub/Sub message, borrowed from the received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope<'a> {
    /// A publication of a channel without history: an encoded Publication.
    Bare(&'a [u8]),
    /// A publication with its place in the stream.
    Positioned {
        /// Its number, 1 or more.
        offset: u64,
        /// Epoch of the stream: ASCII letters and digits, at least one.
        epoch: &'a str,
        /// The encoded Publication before it, if the publisher asked for deltas; empty if there was none.
        base: Option<&'a [u8]>,
        /// The encoded Publication.
        payload: &'a [u8],
    },
    /// Somebody joined: an encoded ClientInfo.
    Join(&'a [u8]),
    /// Somebody left: an encoded ClientInfo.
    Leave(&'a [u8]),
}

impl<'a> Envelope<'a> {
    /// Reads a message; `None` if it is malformed.
    pub fn decode(message: &'a [u8]) -> Option<Self> {
        let Some(rest) = message.strip_prefix(b"__") else {
            return Some(Self::Bare(message));
        };
        match rest.get(..3)? {
            b"p1:" => Self::decode_positioned(&rest[3..]),
            b"d1:" => Self::decode_delta(&rest[3..]),
            b"j__" => Some(Self::Join(&rest[3..])),
            b"l__" => Some(Self::Leave(&rest[3..])),
            _ => None,
        }
    }

    fn decode_positioned(rest: &'a [u8]) -> Option<Self> {
        let (offset, rest) = offset_before_colon(rest)?;
        let (epoch, rest) = epoch_before(b'_', rest)?;
        Some(Self::Positioned { offset, epoch, base: None, payload: rest.strip_prefix(b"_")? })
    }

    fn decode_delta(rest: &'a [u8]) -> Option<Self> {
        let (offset, rest) = offset_before_colon(rest)?;
        let (epoch, rest) = epoch_before(b':', rest)?;
        let (base, rest) = counted(rest)?;
        let (payload, rest) = counted(rest.strip_prefix(b":")?)?;
        rest.is_empty().then_some(Self::Positioned { offset, epoch, base: Some(base), payload })
    }

    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Bare(payload) => out.extend_from_slice(payload),
            Self::Positioned { offset, epoch, base: None, payload } => {
                out.extend_from_slice(format!("__p1:{offset}:{epoch}__").as_bytes());
                out.extend_from_slice(payload);
            }
            Self::Positioned { offset, epoch, base: Some(base), payload } => {
                out.extend_from_slice(format!("__d1:{offset}:{epoch}:{}:", base.len()).as_bytes());
                out.extend_from_slice(base);
                out.extend_from_slice(format!(":{}:", payload.len()).as_bytes());
                out.extend_from_slice(payload);
            }
            Self::Join(info) => out.extend_from_slice(&[b"__j__", info].concat()),
            Self::Leave(info) => out.extend_from_slice(&[b"__l__", info].concat()),
        }
    }
}

/// Splits at the first `end`, which belongs to neither side.
fn split(bytes: &[u8], end: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == end)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

fn offset_before_colon(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (digits, rest) = split(bytes, b':')?;
    let offset = decimal(digits).filter(|offset| *offset > 0)?;
    Some((offset, rest))
}

fn epoch_before(end: u8, bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (epoch, rest) = split(bytes, end)?;
    let is_epoch = !epoch.is_empty() && epoch.iter().all(u8::is_ascii_alphanumeric);
    Some((std::str::from_utf8(epoch).ok().filter(|_| is_epoch)?, rest))
}

/// `length:bytes`
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (digits, rest) = split(bytes, b':')?;
    rest.split_at_checked(usize::try_from(decimal(digits)?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: [Envelope<'static>; 9] = [
        Envelope::Bare(b"\x12\x02{}"),
        Envelope::Bare(b""),
        Envelope::Positioned { offset: 1, epoch: "AbCdEfGh", base: None, payload: b"\x12\x02{}" },
        Envelope::Positioned { offset: u64::MAX, epoch: "x", base: None, payload: b"__:1:__" },
        Envelope::Positioned { offset: 7, epoch: "AbCdEfGh", base: Some(b""), payload: b"\x12\x02{}" },
        Envelope::Positioned { offset: 8, epoch: "AbCdEfGh", base: Some(b":2:_"), payload: b"12:34" },
        Envelope::Positioned { offset: 9, epoch: "AbCdEfGh", base: Some(b"b"), payload: b"" },
        Envelope::Join(b"\x0a\x01u"),
        Envelope::Leave(b""),
    ];

    fn encoded(envelope: &Envelope<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        envelope.encode(&mut out);
        out
    }

    /// Nodes could not read each other, nor the scripts: the texts are what `publish.lua` writes.
    #[test]
    fn reads_what_was_written() {
        for sample in SAMPLES {
            let bytes = encoded(&sample);
            assert_eq!(Envelope::decode(&bytes), Some(sample), "{}", bytes.escape_ascii());
        }
        assert_eq!(encoded(&SAMPLES[2]), b"__p1:1:AbCdEfGh__\x12\x02{}");
        assert_eq!(encoded(&SAMPLES[5]), b"__d1:8:AbCdEfGh:4::2:_:5:12:34");
    }

    /// One stray message would end the core, or reach clients as something that was never published.
    #[test]
    fn cut_and_changed_messages_are_refused_or_exact() {
        let check = |bytes: &[u8]| {
            if let Some(envelope) = Envelope::decode(bytes) {
                assert_eq!(encoded(&envelope), bytes, "{}", bytes.escape_ascii());
            }
        };
        for sample in SAMPLES {
            let bytes = encoded(&sample);
            for at in 0..bytes.len() {
                check(&bytes[..at]);
                check(&bytes[at..]);
                for byte in 0..=u8::MAX {
                    let mut changed = bytes.clone();
                    changed[at] = byte;
                    check(&changed);
                    changed[at] = bytes[at];
                    changed.insert(at, byte);
                    check(&changed);
                }
            }
        }
    }

    /// The same, for what looks nearly right.
    #[test]
    fn malformed_messages_are_nothing() {
        for message in [
            "__",
            "__x__",
            "__j_",
            "__p1:",
            "__p1:1:AbCd",
            "__p1:1:AbCd_x",
            "__p1:1:__x",
            "__p1:0:AbCd__x",
            "__p1:01:AbCd__x",
            "__p1:+1:AbCd__x",
            "__p1:18446744073709551616:AbCd__x",
            "__p1:1:Ab Cd__x",
            "__p2:1:AbCd__x",
            "__d1:1:AbCd:0:1:x",
            "__d1:1:AbCd:0::2:x",
            "__d1:1:AbCd:0::1:xy",
            "__d1:1:AbCd:9:b:1:x",
            "__d1:1:AbCd:18446744073709551615:b:1:x",
            "__d1:1:AbCd:-1:b:1:x",
        ] {
            assert_eq!(Envelope::decode(message.as_bytes()), None, "{message}");
        }
    }
}
