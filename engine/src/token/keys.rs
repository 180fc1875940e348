//! HMAC keys, expanded once on the control thread, used on every core. Comparison takes the same time wherever the
//! signatures differ.

use ring::hmac;

/// Algorithms that a token may be signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
}

impl Algorithm {
    /// `alg` of a header; case matters.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hs256),
            "HS384" => Some(Self::Hs384),
            "HS512" => Some(Self::Hs512),
            _ => None,
        }
    }
}

/// One secret, ready for each algorithm.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    hs256: hmac::Key,
    hs384: hmac::Key,
    hs512: hmac::Key,
}

impl Keys {
    /// `None` for an empty secret, with which anybody could sign.
    pub(super) fn new(secret: &str) -> Option<Self> {
        let key = |algorithm| hmac::Key::new(algorithm, secret.as_bytes());
        (!secret.is_empty()).then(|| Self {
            hs256: key(hmac::HMAC_SHA256),
            hs384: key(hmac::HMAC_SHA384),
            hs512: key(hmac::HMAC_SHA512),
        })
    }

    /// Whether `signature` was made with this secret.
    pub(super) fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let key = match algorithm {
            Algorithm::Hs256 => &self.hs256,
            Algorithm::Hs384 => &self.hs384,
            Algorithm::Hs512 => &self.hs512,
        };
        hmac::verify(key, signed, signature).is_ok()
    }
}
