//! The data of a publication: what the checker needs, padded to the size asked for.
//!
//! `{"s":<sequence>,"t":<intended time, us>,"c":<channel number>,"p":"xxxx"}`. Servers pass it on as it is spelt, so it
//! is read in exactly this form; anything else counts as damaged.

use memchr::memchr;

/// What a publication says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Payload {
    /// Position in its channel, from 1.
    pub(crate) sequence: u32,
    /// When it was to be sent, in microseconds of the run's clock.
    pub(crate) intended_us: u64,
    pub(crate) channel: u32,
}

const PADDING: &[u8] = &[b'x'; 4096];

/// `,"p":""` and the closing brace.
const PADDING_FRAME: usize = 8;

/// Appends the payload, of exactly `size` bytes if they suffice for it and its frame of padding.
pub(crate) fn write(out: &mut Vec<u8>, payload: Payload, size: usize) {
    let start = out.len();
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(b"{\"s\":");
    out.extend_from_slice(number.format(payload.sequence).as_bytes());
    out.extend_from_slice(b",\"t\":");
    out.extend_from_slice(number.format(payload.intended_us).as_bytes());
    out.extend_from_slice(b",\"c\":");
    out.extend_from_slice(number.format(payload.channel).as_bytes());
    if let Some(mut padding) = (start + size).checked_sub(out.len() + PADDING_FRAME) {
        out.extend_from_slice(b",\"p\":\"");
        while padding > 0 {
            let part = padding.min(PADDING.len());
            out.extend_from_slice(&PADDING[..part]);
            padding -= part;
        }
        out.push(b'"');
    }
    out.push(b'}');
}

/// Reads a payload; None if it is not one of ours or was damaged.
pub(crate) fn read(data: &[u8]) -> Option<Payload> {
    let rest = data.strip_prefix(b"{\"s\":")?;
    let (sequence, rest) = digits(rest)?;
    let (intended_us, rest) = digits(rest.strip_prefix(b",\"t\":")?)?;
    let (channel, rest) = digits(rest.strip_prefix(b",\"c\":")?)?;
    let payload =
        Payload { sequence: u32::try_from(sequence).ok()?, intended_us, channel: u32::try_from(channel).ok()? };
    if rest != b"}" {
        let padding = rest.strip_prefix(b",\"p\":\"")?;
        let end = memchr(b'"', padding)?;
        let is_whole = padding[..end].chunks(PADDING.len()).all(|part| part == &PADDING[..part.len()]);
        if !is_whole || &padding[end..] != b"\"}" {
            return None;
        }
    }
    Some(payload)
}

fn digits(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    let mut at = 0;
    while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        at += 1;
    }
    (at > 0).then_some((value, &bytes[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A size that is not what was asked for makes a comparison of two servers worthless.
    #[test]
    fn has_the_size_asked_for_and_reads_back() {
        let payload = Payload { sequence: 12, intended_us: 3_456_789, channel: 7 };
        for size in [0, 10, 36, 37, 64, 128, 4096, 70_000] {
            let mut out = b"before".to_vec();
            write(&mut out, payload, size);
            let data = &out[6..];
            assert_eq!(read(data), Some(payload));
            if size >= 40 {
                assert_eq!(data.len(), size);
            }
        }
    }

    /// A byte that changed on the way must not pass as a delivery.
    #[test]
    fn damage_is_noticed() {
        let payload = Payload { sequence: 12, intended_us: 3_456_789, channel: 7 };
        let mut out = Vec::new();
        write(&mut out, payload, 128);
        for at in 0..out.len() {
            let mut damaged = out.clone();
            damaged[at] ^= 0x40;
            assert_ne!(read(&damaged), Some(payload), "byte {at}");
            assert_ne!(read(&out[..at]), Some(payload));
        }
    }
}
