//! Why a server cannot be used, in words for whoever operates it.
//!
//! On the threads of discovery. Names the server and the remedy; must never hold a password, so it is made of addresses,
//! of the words of the operating system and of what `io::redis::Failure` lets through.

use std::io;

use gyre_io::redis::Failure;
use thiserror::Error;

/// What is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Redis,
    Sentinel,
}

#[derive(Debug, Error)]
pub(super) enum Trouble {
    #[error("cannot resolve the name of {what} at {at}: {}; correct the address", words(.cause))]
    Name { what: What, at: String, cause: io::Error },
    #[error("cannot reach {what} at {at}: {}; start it or correct the address", words(.cause))]
    Unreachable { what: What, at: String, cause: io::Error },
    #[error("cannot use {what} at {at}: {}", remedied(*.what, .why))]
    Ended { what: What, at: String, why: Failure },
    /// It answers, but not as needed.
    #[error("{0}")]
    Unfit(String),
}

impl Trouble {
    /// It will take commands later.
    pub(super) fn will_pass(&self) -> bool {
        matches!(self, Self::Ended { why: Failure::NotReady(_), .. })
    }

    /// Of two servers that cannot be used, the one that says more: one that answers tells more than one that does not.
    /// The `other` was there before.
    pub(super) fn or(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other.rank() >= self.rank() => other,
            _ => self,
        }
    }

    fn rank(&self) -> u8 {
        let (kind, what) = match self {
            Self::Name { what, .. } | Self::Unreachable { what, .. } => (0, *what),
            Self::Ended { what, why: Failure::TimedOut | Failure::Closed, .. } => (0, *what),
            Self::Ended { what, .. } => (1 + u8::from(self.will_pass()), *what),
            Self::Unfit(_) => (1, What::Redis),
        };
        // Of Sentinels there are others.
        2 * kind + u8::from(what == What::Redis)
    }
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Redis => "redis",
            Self::Sentinel => "sentinel",
        })
    }
}

/// Without the number that the standard library puts behind it.
fn words(cause: &io::Error) -> String {
    let text = cause.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// Sentinels have a user and a password of their own.
fn remedied(what: What, why: &Failure) -> String {
    match (what, why) {
        (What::Sentinel, Failure::NoPassword) => {
            "it requires a password; set sentinel_user and sentinel_password".to_owned()
        }
        (What::Sentinel, Failure::Password) => {
            "it refused user or password; check sentinel_user and sentinel_password".to_owned()
        }
        (What::Redis, Failure::Refused { command: "SELECT", answer }) if contains(answer, b"cluster mode") => {
            "it is a node of a cluster, which has no other database than 0; remove db".to_owned()
        }
        (_, why) => why.to_string(),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable() -> Trouble {
        let cause = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
        Trouble::Unreachable { what: What::Redis, at: "127.0.0.1:6379".to_owned(), cause }
    }

    /// The operator sees this line when the node does not start, and nothing else.
    #[test]
    fn texts() {
        assert_eq!(
            unreachable().to_string(),
            "cannot reach redis at 127.0.0.1:6379: Connection refused; start it or correct the address"
        );
        let ended = |what, why| Trouble::Ended { what, at: "a:1".to_owned(), why }.to_string();
        assert!(ended(What::Redis, Failure::NoPassword).contains("set user and password"));
        assert!(ended(What::Sentinel, Failure::NoPassword).contains("set sentinel_user and sentinel_password"));
        let answer = b"ERR SELECT is not allowed in cluster mode"[..].into();
        assert!(ended(What::Redis, Failure::Refused { command: "SELECT", answer }).contains("remove db"));
    }

    /// Of two addresses of a name the one that is not listened on would hide that the other wants a password.
    #[test]
    fn the_one_that_says_more() {
        let ended = |why| Trouble::Ended { what: What::Redis, at: "a:1".to_owned(), why };
        let of = |first: Trouble, second: Trouble| second.or(Some(first)).to_string();
        assert!(of(unreachable(), ended(Failure::NoPassword)).contains("password"));
        assert!(of(ended(Failure::NoPassword), unreachable()).contains("password"));
        let sentinel = Trouble::Ended { what: What::Sentinel, at: "a:1".to_owned(), why: Failure::TimedOut };
        assert!(of(sentinel, unreachable()).contains("cannot reach redis"));
        let loading = ended(Failure::NotReady(b"LOADING"[..].into()));
        assert!(of(loading, ended(Failure::NoPassword)).contains("LOADING"));
    }
}
