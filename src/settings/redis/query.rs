//! The parameters behind the `?` of an address. What they do not say stays `None`, for the options.
//!
//! As with addresses, no error text quotes anything that was written.

use crate::config::duration;
use crate::config::nearest::nearest;
use crate::config::types::Secret;

use super::decode::decoded_in_query;
use super::limits::timeout_ms;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Query {
    /// Seeds or Sentinels beside those in front of the query.
    pub(super) more_hosts: Vec<String>,
    pub(super) connect_timeout_ms: Option<u64>,
    pub(super) io_timeout_ms: Option<u64>,
    /// Towards Redis.
    pub(super) tls: Option<bool>,
    pub(super) force_resp2: Option<bool>,
    /// Not empty.
    pub(super) sentinel_master_name: Option<String>,
    pub(super) sentinel_user: Option<String>,
    pub(super) sentinel_password: Option<Secret>,
    pub(super) sentinel_tls: Option<bool>,
    pub(super) replica_client: Option<bool>,
}

const PARAMETERS: [&str; 10] = [
    "addr",
    "connect_timeout",
    "io_timeout",
    "tls_enabled",
    "force_resp2",
    "sentinel_master_name",
    "sentinel_user",
    "sentinel_password",
    "sentinel_tls_enabled",
    "replica_client_enabled",
];

impl Query {
    /// # Errors
    /// The parameter and what was expected of it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut query = Self::default();
        let mut seen = Vec::new();
        for (index, pair) in text.split('&').enumerate().filter(|(_, pair)| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded_in_query(name)?;
            let Some(known) = PARAMETERS.into_iter().find(|known| *known == name) else {
                return Err(unknown(index + 1, &name));
            };
            if known != "addr" && seen.contains(&known) {
                return Err(format!("{known} is there twice; remove one"));
            }
            seen.push(known);
            query.set(known, decoded_in_query(value)?).map_err(|what| format!("{known}: {what}"))?;
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            "addr" => self.more_hosts.push(value),
            "connect_timeout" => self.connect_timeout_ms = time(&value)?,
            "io_timeout" => self.io_timeout_ms = time(&value)?,
            "tls_enabled" => self.tls = Some(switch(&value)?),
            "force_resp2" => self.force_resp2 = Some(switch(&value)?),
            "sentinel_master_name" => self.sentinel_master_name = Some(value).filter(|name| !name.is_empty()),
            "sentinel_user" => self.sentinel_user = Some(value),
            "sentinel_password" => self.sentinel_password = Some(Secret::new(value)),
            "sentinel_tls_enabled" => self.sentinel_tls = Some(switch(&value)?),
            _ => self.replica_client = Some(switch(&value)?),
        }
        Ok(())
    }

    /// Beside the name of the primary, which makes it one.
    pub(super) fn is_about_sentinel(&self) -> bool {
        self.sentinel_user.is_some() || self.sentinel_password.is_some() || self.sentinel_tls.is_some()
    }
}

/// By its place: the name might be a piece of a password that has a `?` or a `&` in it.
fn unknown(number: usize, name: &str) -> String {
    match nearest(name, PARAMETERS) {
        Some(meant) => format!("parameter {number} is unknown; did you mean {meant}?"),
        None => format!("parameter {number} is unknown; there are {}", PARAMETERS.join(", ")),
    }
}

fn time(text: &str) -> Result<Option<u64>, String> {
    let nanos = duration::parse(text).map_err(|_| "expected a duration such as 300ms or 4s".to_owned())?;
    timeout_ms(nanos)
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}
