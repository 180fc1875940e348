//! Values of one option: the small types, and how each is read from the normalised tree, where a duration is an
//! integer of nanoseconds and every type mistake has been reported already.

use crate::config::cores;
use serde::{Deserialize, Deserializer, de::Error};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A key or password. `Debug` shows only whether it is set.
#[derive(Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    /// From a text that holds more than the secret, such as a URL.
    pub(crate) fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself: for comparing and signing, never for printing.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Not configured.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret(unset)" } else { "Secret(set)" })
    }
}

/// `gyre.cores`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cores {
    /// One core on each CPU of these NUMA nodes (none named = any), or on one hardware thread of each physical core.
    Every {
        /// No repeats.
        nodes: Vec<usize>,
        /// One hardware thread per physical core.
        no_smt: bool,
    },
    /// So many, on CPUs of the node's choice. At least 1.
    Count(usize),
    /// One core on each of these CPUs; not empty, no repeats, in the operator's order.
    Cpus(Vec<usize>),
}

impl Cores {
    /// One core on each CPU that the process may use.
    pub(crate) const AUTO: Self = Self::Every { nodes: Vec::new(), no_smt: false };
}

impl<'de> Deserialize<'de> for Cores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        cores::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// `log.level`; `None` writes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogLevel {
    None,
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

impl LogLevel {
    /// Any letter case; `None` for a word that is no level.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "none" => Self::None,
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" => Self::Warn,
            "error" => Self::Error,
            "fatal" => Self::Fatal,
            _ => return None,
        })
    }
}

impl<'de> Deserialize<'de> for LogLevel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // An unknown word has been warned about; the rule is to fall back, not to fail.
        Ok(Self::parse(&String::deserialize(deserializer)?).unwrap_or(Self::Info))
    }
}

/// `publication_data_format`: what publication data must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum DataFormat {
    /// Anything but empty.
    #[serde(rename = "")]
    NotEmpty,
    /// Valid JSON.
    #[serde(rename = "json")]
    Json,
    /// A JSON object.
    #[serde(rename = "json_object")]
    JsonObject,
    /// Anything, empty too.
    #[serde(rename = "binary")]
    Binary,
}

/// `force_recovery_mode`: what recovery hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum RecoveryMode {
    /// What was missed.
    #[serde(rename = "stream", alias = "")]
    Stream,
    /// The latest publication.
    #[serde(rename = "cache")]
    Cache,
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Ok(switch(deserializer)?.unwrap_or_default())
}

/// Zero and negative durations switch off.
pub(super) fn switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let nanos = i64::deserialize(deserializer)?;
    Ok(u64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos))
}

pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    Ok(limit(deserializer)?.unwrap_or_default())
}

/// Zero and negative numbers mean no limit; where zero means the default, that was replaced before.
pub(super) fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    Ok(usize::try_from(i64::deserialize(deserializer)?).ok().filter(|count| *count > 0))
}

pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Some(String::deserialize(deserializer)?).filter(|text| !text.is_empty()))
}

pub(super) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(text(deserializer)?.map(PathBuf::from))
}

/// A URL path: no trailing slash, but never empty.
pub(super) fn prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let mut path = String::deserialize(deserializer)?;
    path.truncate(path.trim_end_matches('/').len());
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    Ok(path)
}
