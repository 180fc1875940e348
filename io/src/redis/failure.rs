//! Why a connection to Redis ended, in words for whoever operates it.
//!
//! Made once per connection, on a core's thread; handed out with each command that the end took with it, so it is cheap to
//! clone. Must never hold a password: Redis repeats arguments in some of its errors.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::reply::ReplyError;

/// Why a connection ended. Which Redis it was says the caller.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Failure {
    /// Redis, or something on the way, closed it.
    #[error("redis closed the connection")]
    Closed,
    /// As `Closed`, before anything was heard.
    #[error("redis closed the connection without an answer; it may expect TLS (rediss://, tls.enabled)")]
    ClosedUnanswered,
    /// What answers speaks TLS and we do not.
    #[error("redis expects TLS; write rediss:// or set tls.enabled")]
    ExpectsTls,
    /// TLS failed, in words for the operator.
    #[error("{0}")]
    Tls(Arc<str>),
    /// No answer in time.
    #[error("redis did not answer in time (io_timeout)")]
    TimedOut,
    /// What arrived is not Redis' protocol, or is beyond our bounds.
    #[error("redis sent {0}; check that the address is that of a redis server")]
    Malformed(&'static str),
    /// Redis will take commands later.
    #[error("redis is not ready: {}", shown(.0))]
    NotReady(Bytes),
    /// Redis asks for a password and we have none.
    #[error("redis requires a password; set user and password in its address or options")]
    NoPassword,
    /// Redis does not accept user or password.
    #[error("redis refused user or password; check them in its address or options")]
    Password,
    /// Redis refused something else that a connection begins with.
    #[error("redis refused {command}: {}", shown(.answer))]
    Refused {
        /// The command that it refused.
        command: &'static str,
        /// Its words, or only the first if the others could hold the password.
        answer: Bytes,
    },
}

/// Errors that say that Redis will take commands later.
const NOT_READY: [&str; 4] = ["LOADING", "MASTERDOWN", "BUSY", "TRYAGAIN"];

impl Failure {
    /// The server is there and does not take us: that takes somebody who changes a configuration.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::ExpectsTls | Self::NoPassword | Self::Password | Self::Refused { .. })
    }

    /// What an error means that answers `command`, one of those that a connection begins with.
    pub(super) fn of(command: &'static str, error: &ReplyError) -> Self {
        match error.code() {
            code if NOT_READY.contains(&code) => Self::NotReady(error.text().clone()),
            "ERR" if error.text().starts_with(b"ERR max number of clients") => Self::NotReady(error.text().clone()),
            "NOAUTH" => Self::NoPassword,
            "WRONGPASS" => Self::Password,
            "ERR" if error.text().starts_with(b"ERR invalid password") => Self::Password,
            _ if matches!(command, "HELLO" | "AUTH") && repeats_arguments(error) => {
                Self::Refused { command, answer: error.text().slice(..error.code().len()) }
            }
            _ => Self::Refused { command, answer: error.text().clone() },
        }
    }
}

/// Redis knows the command by another name, or not at all, and may say with what it was called. Everything that Redis is
/// known to say otherwise about these two commands has none of these characters.
fn repeats_arguments(error: &ReplyError) -> bool {
    error.text().iter().any(|byte| matches!(byte, b'\'' | b'`' | b'"' | b':'))
}

/// Redis' words for a log line: not too many, and none that break it.
fn shown(text: &Bytes) -> String {
    /// Longest text that is shown. The longest known, about protected mode, is a page of advice after its first sentence.
    const SHOWN: usize = 200;
    let text = String::from_utf8_lossy(text);
    text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::reply::{Decoded, Reply};
    use super::*;

    fn of(command: &'static str, text: &str) -> String {
        let line = Bytes::from(format!("-{text}\r\n"));
        let Ok(Reply::Error(error)) = Decoded::new(line).and_then(Decoded::into_reply) else { panic!("an error") };
        Failure::of(command, &error).to_string()
    }

    /// The operator reads this line in the log when nothing works, and must see what to change; others read logs too.
    #[test]
    fn failures_say_what_to_do_and_hide_the_password() {
        let table = [
            ("AUTH", "WRONGPASS invalid username-password pair or user is disabled.", "check them"),
            ("AUTH", "ERR invalid password", "check them"),
            ("PING", "NOAUTH Authentication required.", "requires a password"),
            ("HELLO", "ERR max number of clients reached", "not ready: ERR max number of clients"),
            ("PING", "LOADING Redis is loading the dataset in memory", "not ready: LOADING Redis is loading"),
            ("SELECT", "ERR DB index is out of range", "refused SELECT: ERR DB index is out of range"),
            (
                "AUTH",
                "ERR AUTH <password> called without any password configured for the default user. Are you sure \
              your configuration is correct?",
                "refused AUTH: ERR AUTH <password> called without",
            ),
        ];
        for (command, text, expected) in table {
            let shown = of(command, text);
            assert!(shown.contains(expected), "{shown}");
        }
        let shown = of("AUTH", "ERR unknown command 'AUTH', with args beginning with: 'hunter2' ");
        assert!(shown.contains("refused AUTH") && !shown.contains("hunter2"), "{shown}");
    }
}
