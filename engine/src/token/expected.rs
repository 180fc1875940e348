//! The comparison of `aud` and `iss` with what the operator expects.

use regex::Regex;

use crate::rules::go_regex;

/// What `aud` or `iss` must be.
#[derive(Clone, Debug, Default)]
pub(super) enum Expected {
    #[default]
    Anything,
    Exactly(String),
    Matching(Regex),
}

impl Expected {
    /// `option` is the name of the exact one, for errors.
    pub(super) fn new(option: &str, exactly: String, pattern: &str) -> Result<Self, String> {
        match (exactly.is_empty(), pattern.is_empty()) {
            (true, true) => Ok(Self::Anything),
            (false, true) => Ok(Self::Exactly(exactly)),
            (true, false) => match go_regex(pattern) {
                Ok(regex) => Ok(Self::Matching(regex)),
                Err(error) => Err(format!("{option}_regex: {error}")),
            },
            (false, false) => Err(format!("{option} and {option}_regex exclude each other, remove one of them")),
        }
    }

    /// Whether one of the texts found is an expected one.
    pub(super) fn is_met_by(&self, found: &[String]) -> bool {
        match self {
            Self::Anything => true,
            Self::Exactly(expected) => found.contains(expected),
            Self::Matching(regex) => found.iter().any(|text| regex.is_match(text)),
        }
    }
}
