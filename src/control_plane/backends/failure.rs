//! Why a call came to nothing, in words for the log. None of them may hold an address with its password, a header or a
//! payload.

use std::error::Error;
use std::fmt::Write as _;

use gyre_proto::client::InappropriateJson;
use gyre_proto::proxy::DecodeError;

/// Longest text that another program may add to a log line, in bytes.
const FOREIGN_TEXT_MAX: usize = 200;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Connecting, waiting for others and reading included.
    #[error("no answer in time")]
    Timeout,
    #[error("{0}")]
    Connection(String),
    /// Of HTTP; none that stands for something.
    #[error("status {0}")]
    Status(u16),
    /// Of gRPC.
    #[error("status {0}")]
    GrpcStatus(String),
    #[error("redirected more than {} times", crate::limits::BACKEND_REDIRECTS_MAX)]
    Redirects,
    #[error("redirected to what is no HTTP address")]
    Redirect,
    #[error("answer is longer than {} bytes", crate::limits::BACKEND_ANSWER_BYTES_MAX)]
    TooLong,
    #[error("answer is not a JSON object of the expected shape")]
    Answer,
    #[error("{0} in the answer is not base64")]
    Base64(&'static str),
    /// Where no client could be told.
    #[error("backend answered error {code}: {message}")]
    Refused { code: u32, message: String },
    /// The client's doing.
    #[error("data is not JSON; set binary_encoding to send any data")]
    Unwritable,
}

impl Failure {
    /// An error of a library, with what has led to it.
    pub(super) fn connection(error: &dyn Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        Self::Connection(shortened(text))
    }
}

impl From<DecodeError> for Failure {
    fn from(_: DecodeError) -> Self {
        Self::Answer
    }
}

impl From<InappropriateJson> for Failure {
    fn from(_: InappropriateJson) -> Self {
        Self::Unwritable
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let mut text = format!("{:?}: {}", status.code(), status.message());
        let mut cause = status.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        Self::GrpcStatus(shortened(text))
    }
}

/// What others say, at a length that fits a log line.
pub(super) fn shortened(mut text: String) -> String {
    if text.len() > FOREIGN_TEXT_MAX {
        text.truncate(text.floor_char_boundary(FOREIGN_TEXT_MAX));
        text.push_str(" ...");
    }
    text
}
