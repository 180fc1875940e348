//! Why a configuration cannot be used. Every text names the place and never shows a secret.

use std::io;
use std::path::PathBuf;

/// A configuration that the node refuses. The operator is at fault, except for `Read`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file exists but cannot be read.
    #[error("{}: cannot read: {cause}", path.display())]
    Read {
        /// As given.
        path: PathBuf,
        /// From the system. Not a `source`, because the text has it already.
        cause: io::Error,
    },
    /// A command that cannot do without the file.
    #[error("config file not found: {}", path.display())]
    FileMissing {
        /// As given.
        path: PathBuf,
    },
    /// The file has an extension that names no format.
    #[error("{}: unknown format; the name must end in .json, .yaml, .yml or .toml", path.display())]
    Format {
        /// As given.
        path: PathBuf,
    },
    /// The file is not what its extension says.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// As given.
        path: PathBuf,
        /// Counted from 1, 0 if unknown.
        line: usize,
        /// Without any part of the file.
        message: String,
    },
    /// A `.env` file that cannot be understood.
    #[error("{}:{line}: {message}", path.display())]
    Dotenv {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Without any part of the file.
        message: &'static str,
    },
    /// A value that its option cannot take.
    #[error("{}: {message}", place(origin, key))]
    Value {
        /// File name, `environment variable X` or `flag --x`.
        origin: String,
        /// Path of the option.
        key: String,
        /// What was expected.
        message: String,
    },
    /// Values that are fine alone but not together, or not allowed at all.
    #[error("{}: {message}", place(origin, key))]
    Invalid {
        /// File name, `environment variable X`, `flag --x`, or `configuration` without a file.
        origin: String,
        /// Path of the option, with the namespace's name where there is one.
        key: String,
        /// What is wrong and what to do.
        message: String,
    },
}

/// Where a value comes from and what it is for: once, where the origin says both, as `flag --http_server.port` does.
fn place(origin: &str, key: &str) -> String {
    if origin.ends_with(key) { origin.to_owned() } else { format!("{origin}: {key}") }
}
