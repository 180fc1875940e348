//! Servers that cannot be reached, in the log: a line when the first connection to one is lost, by whichever core, and a
//! line when the last one is back.
//!
//! Shared by all cores of a process. Locked when a connection is lost or comes back after that, never in between.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::lane::Endpoint;

/// Connections that are missing, by server.
#[derive(Debug, Default)]
pub struct Outages(Mutex<HashMap<Endpoint, usize>>);

impl Outages {
    /// A connection is lost, or could not be made for the first time.
    pub(super) fn begin(&self, endpoint: &Endpoint, why: &str) {
        let mut missing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = missing.entry(endpoint.clone()).or_default();
        *count += 1;
        if *count == 1 {
            tracing::error!(redis = %endpoint, why, "no connection to redis; it is tried again until there is one");
        }
    }

    /// It is back, or not needed any more.
    pub(super) fn end(&self, endpoint: &Endpoint, is_back: bool) {
        let mut missing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = missing.get_mut(endpoint) else { return };
        *count -= 1;
        if *count == 0 {
            missing.remove(endpoint);
            if is_back {
                tracing::info!(redis = %endpoint, "connected to redis again");
            }
        }
    }
}
