//! Stream positions: what identifies a publication for ever.

use std::fmt;

/// Names one life of a stream: eight ASCII letters, drawn on the first access of the stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch([u8; 8]);

impl Epoch {
    /// The epoch of a channel without a stream; written as an empty string.
    pub const NONE: Self = Self([0; 8]);

    /// Draws a new epoch.
    pub fn random(rng: &mut fastrand::Rng) -> Self {
        Self(std::array::from_fn(|_| rng.alphabetic() as u8))
    }

    /// An epoch that a store kept: at most eight ASCII letters or digits. `None` = it is another thing.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > 8 || !text.iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let mut epoch = [0; 8];
        epoch[..text.len()].copy_from_slice(text);
        Some(Self(epoch))
    }

    /// The epoch as clients see it.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        std::str::from_utf8(&self.0[..end]).unwrap_or_default()
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An offset inside an epoch. Offset 0 with [`Epoch::NONE`] stands for "no stream".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Number of the last publication; the first one is 1.
    pub offset: u64,
    /// The life of the stream that the offset belongs to.
    pub epoch: Epoch,
}

impl Position {
    /// The position of a channel without history.
    pub const NONE: Self = Self { offset: 0, epoch: Epoch::NONE };
}
