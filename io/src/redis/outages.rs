//! Servers that cannot be reached, in the log: a line when the first connection to one is lost, by whichever core, one
//! more if the server then answers and refuses us, which waiting does not heal, and a line when the last one is back.
//!
//! Shared by all cores of a process. Locked when a connection is lost or comes back after that, never in between.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::failure::Failure;
use super::lane::Endpoint;

/// What is missing, by server.
#[derive(Debug, Default)]
pub struct Outages(Mutex<HashMap<Endpoint, Missing>>);

#[derive(Debug, Default)]
struct Missing {
    connections: usize,
    /// It was said that the server refuses us.
    is_refused: bool,
}

impl Outages {
    /// A connection is lost, or could not be made for the first time.
    pub(super) fn begin(&self, endpoint: &Endpoint, why: &str) {
        let mut missing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = missing.entry(endpoint.clone()).or_default();
        of.connections += 1;
        if of.connections == 1 {
            tracing::error!(redis = %endpoint, why, "no connection to redis; it is tried again until there is one");
        }
    }

    /// A connection that is missing was answered, and refused. Whether that is said now, the first time.
    pub(super) fn refused(&self, endpoint: &Endpoint, why: &Failure) -> bool {
        let mut missing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of) = missing.get_mut(endpoint) else { return false };
        let is_new = !std::mem::replace(&mut of.is_refused, true);
        if is_new {
            tracing::error!(redis = %endpoint, %why, "redis is there and refuses the connection");
        }
        is_new
    }

    /// It is back, or not needed any more.
    pub(super) fn end(&self, endpoint: &Endpoint, is_back: bool) {
        let mut missing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of) = missing.get_mut(endpoint) else { return };
        of.connections -= 1;
        if of.connections == 0 {
            missing.remove(endpoint);
            if is_back {
                tracing::info!(redis = %endpoint, "connected to redis again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Redis that comes back with another password: the log would only ever say that it closed the connection.
    #[test]
    fn a_refusal_is_said_once_per_outage() {
        let (outages, at) = (Outages::default(), Endpoint::Unix("/redis".into()));
        assert!(!outages.refused(&at, &Failure::Password), "nothing is missing");
        for _ in 0..2 {
            outages.begin(&at, "closed");
            outages.begin(&at, "closed");
            assert!(outages.refused(&at, &Failure::Password));
            assert!(!outages.refused(&at, &Failure::Password));
            outages.end(&at, true);
            outages.end(&at, true);
        }
    }
}
