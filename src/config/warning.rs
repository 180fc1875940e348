//! What an operator should know about a configuration that is nevertheless used.
//!
//! Collected while loading, when there is no logger yet; the node logs them at the end of its start.

use std::fmt;

/// One warning. `Display` is a line for a terminal, [`Warning::log`] the same as a log record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Warning {
    /// The configuration file does not exist.
    FileMissing {
        /// As given by the operator.
        path: String,
    },
    /// A key in the file that no option has.
    UnknownKey {
        /// Dotted, with array items as `.[0]`.
        key: String,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// An environment variable with our prefix that no option has.
    UnknownVariable {
        /// Its name; for a key inside a JSON value, name and key.
        variable: String,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// An option of older versions, honoured under its present name.
    OldKey {
        /// As written.
        key: String,
        /// Present name.
        modern: &'static str,
    },
    /// A key that older versions or documents have, and that nothing replaces one to one. It is ignored.
    GoneKey {
        /// As written.
        key: String,
        /// What to do instead.
        advice: &'static str,
    },
    /// A known option that this version does not honour.
    NotSupported {
        /// Its path.
        key: String,
    },
    /// A setting that opens the node to everyone.
    Insecure {
        /// Option that does it.
        key: &'static str,
        /// What it opens.
        effect: &'static str,
    },
    /// Anything else.
    Note(String),
}

impl Warning {
    /// Writes the warning to the log.
    pub(crate) fn log(&self) {
        match self {
            Self::FileMissing { path } => {
                tracing::warn!(path, "config file not found, continue using environment and flag options");
            }
            Self::UnknownKey { key, meant } => {
                tracing::warn!(key, hint = hint(meant), "unknown key in configuration file");
            }
            Self::UnknownVariable { variable, meant } => {
                tracing::warn!(var = variable, hint = hint(meant), "unknown var in environment");
            }
            Self::OldKey { key, modern } => tracing::warn!(key, use_instead = modern, "old name of an option"),
            Self::GoneKey { key, advice } => tracing::warn!(key, advice, "key in configuration file is ignored"),
            Self::NotSupported { .. } | Self::Insecure { .. } | Self::Note(_) => tracing::warn!("{self}"),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileMissing { path } => {
                write!(f, "config file not found, continue using environment and flag options: {path}")
            }
            Self::UnknownKey { key, meant } => {
                write!(f, "unknown key in configuration file: {key}")?;
                write_hint(f, meant)
            }
            Self::UnknownVariable { variable, meant } => {
                write!(f, "unknown var in environment: {variable}")?;
                write_hint(f, meant)
            }
            Self::OldKey { key, modern } => write!(f, "{key} is an old name of an option; use {modern}"),
            Self::GoneKey { key, advice } => write!(f, "{key} is ignored: {advice}"),
            Self::NotSupported { key } => {
                write!(f, "{key} is not supported yet by gyre {} and is ignored", env!("CARGO_PKG_VERSION"))
            }
            Self::Insecure { key, effect } => write!(f, "INSECURE: {key} is on: {effect}"),
            Self::Note(text) => f.write_str(text),
        }
    }
}

fn write_hint(f: &mut fmt::Formatter<'_>, meant: &Option<String>) -> fmt::Result {
    if meant.is_some() { write!(f, "; {}", hint(meant)) } else { Ok(()) }
}

fn hint(meant: &Option<String>) -> String {
    meant.as_ref().map(|meant| format!("did you mean {meant}?")).unwrap_or_default()
}
