//! Masking and unmasking of payloads (RFC 6455 section 5.3), the only work per payload byte on the receive path.
//!
//! Pure; runs on the core that owns the connection. Must stay free of a per-byte branch or index: whole words are
//! combined with the repeated mask, which the compiler turns into the widest vector instructions of the target.

/// A masking key, kept aligned with the next payload byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mask([u8; 4]);

impl Mask {
    pub(super) const fn new(key: [u8; 4]) -> Self {
        Self(key)
    }

    /// Applies the mask to the next `data` of a payload, in place. Applying it twice restores the data.
    pub(super) fn apply(self, data: &mut [u8]) {
        // A key of zeros changes nothing: unmasked frames, and clients that mask only formally.
        if self.0 == [0; 4] {
            return;
        }
        let [a, b, c, d] = self.0;
        let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
        let (words, tail) = data.as_chunks_mut::<8>();
        for bytes in words {
            *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
        }
        // The words covered a multiple of four bytes, so the key starts over here.
        for (byte, key) in tail.iter_mut().zip(word.to_ne_bytes()) {
            *byte ^= key;
        }
    }

    /// The mask for what follows after `bytes` more bytes of the payload.
    pub(super) fn after(self, bytes: usize) -> Self {
        let mut key = self.0;
        key.rotate_left(bytes % 4);
        Self(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// Commands of some length or some position in the receive buffer would arrive as garbage.
    #[test]
    fn every_length_and_alignment_matches_the_definition() {
        let source: Vec<u8> = (0..120u8).map(|i| i.wrapping_mul(151)).collect();
        for start in 0..16 {
            for end in start..source.len() {
                let mut data = source.clone();
                Mask::new(KEY).apply(&mut data[start..end]);
                for (i, byte) in data.iter().enumerate() {
                    let inside = (start..end).contains(&i);
                    let expected = if inside { source[i] ^ KEY[(i - start) % 4] } else { source[i] };
                    assert_eq!(*byte, expected, "byte {i} of {start}..{end}");
                }
            }
        }
    }

    /// A payload that arrives in pieces would be unmasked with a shifted key.
    #[test]
    fn pieces_equal_the_whole() {
        let source: Vec<u8> = (0..77u8).collect();
        let mut whole = source.clone();
        Mask::new(KEY).apply(&mut whole);
        for first in 0..source.len() {
            for second in first..source.len() {
                let mut pieces = source.clone();
                let mut mask = Mask::new(KEY);
                for range in [0..first, first..second, second..source.len()] {
                    let len = range.len();
                    mask.apply(&mut pieces[range]);
                    mask = mask.after(len);
                }
                assert_eq!(pieces, whole);
            }
        }
    }

    #[test]
    fn example_of_the_rfc() {
        let mut data = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        Mask::new(KEY).apply(&mut data);
        assert_eq!(&data, b"Hello");
    }
}
