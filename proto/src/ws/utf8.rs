//! UTF-8 validation of text that arrives in pieces, for deployments that switch on validation of text messages.
//!
//! Pure; runs on the core that owns the connection. Pieces may end anywhere, also inside a character; a byte that can
//! belong to no valid text is refused with the piece that brings it, never later, so that a peer cannot keep a doomed
//! message growing. What "can belong" means (no overlong forms, no surrogates, at most U+10FFFF) is `core::str`'s.

/// The text so far was not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid;

/// Whether `text` as a whole is UTF-8.
pub(super) fn check(text: &[u8]) -> Result<(), Invalid> {
    // The flavour of simdutf8 without an error position: fastest for text that is valid, and nearly all is.
    simdutf8::basic::from_utf8(text).map(drop).map_err(|_| Invalid)
}

/// State between two pieces of one text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Utf8 {
    /// The bytes of a character of which the rest is missing: the first `len` are used.
    pending: [u8; 3],
    len: u8,
}

impl Utf8 {
    /// Checks the next piece.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<(), Invalid> {
        while self.len > 0 {
            let Some((&byte, rest)) = piece.split_first() else {
                return Ok(());
            };
            self.complete(byte)?;
            piece = rest;
        }
        let Err(error) = simdutf8::compat::from_utf8(piece) else {
            return Ok(());
        };
        if error.error_len().is_some() {
            return Err(Invalid);
        }
        // At most 3 bytes: a character has 4, and this one is not complete.
        for &byte in &piece[error.valid_up_to()..] {
            self.pending[usize::from(self.len)] = byte;
            self.len += 1;
        }
        Ok(())
    }

    /// Checks that the text does not end inside a character.
    pub(super) fn finish(self) -> Result<(), Invalid> {
        if self.len == 0 { Ok(()) } else { Err(Invalid) }
    }

    /// Adds one byte to the pending character.
    fn complete(&mut self, byte: u8) -> Result<(), Invalid> {
        let len = usize::from(self.len);
        let mut character = [0; 4];
        character[..len].copy_from_slice(&self.pending[..len]);
        character[len] = byte;
        match core::str::from_utf8(&character[..=len]) {
            Ok(_) => self.len = 0,
            // Still a prefix of a character, so `len` is 1 or 2 here: with 4 bytes it would be complete or wrong.
            Err(error) if error.error_len().is_none() => {
                self.pending[len] = byte;
                self.len += 1;
            }
            Err(_) => return Err(Invalid),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Random;
    use super::*;

    /// What `core::str` says about a prefix of a text: `Err` if nothing can make it valid any more.
    fn model(text: &[u8]) -> Result<bool, Invalid> {
        match core::str::from_utf8(text) {
            Ok(_) => Ok(true),
            Err(error) if error.error_len().is_none() => Ok(false),
            Err(_) => Err(Invalid),
        }
    }

    /// Valid text would be refused, or invalid text accepted or noticed late, depending on how TCP cut it.
    #[test]
    fn random_text_in_random_pieces_matches_core() {
        let mut random = Random::new(7);
        let alphabet: [&[u8]; 14] = [
            b"a",
            b"plain ascii that is longer than one vector register, so that simd paths run too. ",
            "ß".as_bytes(),
            "€".as_bytes(),
            "\u{7ff}\u{800}".as_bytes(),
            "\u{d7ff}\u{e000}\u{ffff}".as_bytes(),
            "\u{10000}\u{10ffff}".as_bytes(),
            "😀".as_bytes(),
            b"\x80",
            b"\xc0\xaf",
            b"\xe0\x80\x80",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xf5",
        ];
        let (mut valid, mut invalid) = (0, 0);
        for _ in 0..20_000 {
            let mut text = Vec::new();
            // Half of the texts draw from the valid part only.
            let choices = if random.below(2) == 0 { 8 } else { alphabet.len() };
            for _ in 0..random.below(8) {
                text.extend_from_slice(alphabet[random.below(choices)]);
            }
            if random.below(4) == 0 && !text.is_empty() {
                text.truncate(random.below(text.len()));
            }
            let mut state = Utf8::default();
            let mut end = 0;
            loop {
                let start = end;
                end = (start + random.below(6)).min(text.len());
                let result = state.push(&text[start..end]);
                assert_eq!(result.is_err(), model(&text[..end]).is_err(), "{text:x?} at {end}");
                if result.is_err() {
                    invalid += 1;
                    break;
                }
                assert_eq!(state.finish().is_ok(), model(&text[..end]) == Ok(true), "{text:x?} at {end}");
                if end == text.len() {
                    valid += 1;
                    break;
                }
            }
            assert_eq!(check(&text).is_ok(), model(&text) == Ok(true));
        }
        assert!(valid > 5_000 && invalid > 2_000, "{valid} {invalid}");
    }

    /// All first two bytes, so that no range of the table of well-formed sequences is forgotten.
    #[test]
    fn every_pair_byte_by_byte() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let mut state = Utf8::default();
                let text = [first, second];
                let result = state.push(&text[..1]).and_then(|()| state.push(&text[1..]));
                assert_eq!(result, model(&text).map(|_| ()), "{text:x?}");
            }
        }
    }
}
