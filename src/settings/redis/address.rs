//! One entry of `address`: `host:port` or a URL, taken apart. What the URL does not say stays `None`, for the options.
//!
//! The entry may hold a password, and a mistake can put parts of it anywhere: no error text quotes anything of the entry.

use crate::config::types::Secret;

use super::decode::decoded;
use super::endpoint::Endpoint;
use super::limits::database;
use super::query::Query;

/// IANA's for Redis, and what Sentinels listen on unless told otherwise.
const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

const FORMS: &str = "expected host:port or a URL that starts with redis://, rediss://, redis+sentinel://, \
                     redis+cluster:// or unix:///";
const SHARDS: &str = "several hosts: give each shard an entry of its own, or write redis+cluster:// for the seeds of one \
                      cluster";

/// How many servers there are behind the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Standalone,
    Sentinel,
    Cluster,
}

/// What an entry says.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) kind: Kind,
    /// Not empty; one for `Standalone`.
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) db: Option<u32>,
    /// Towards Redis.
    pub(super) tls: Option<bool>,
    pub(super) query: Query,
}

impl Address {
    /// # Errors
    /// What was expected.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("is empty; remove the entry or write host:port".to_owned());
        }
        if text.contains(char::is_whitespace) {
            return Err(
                "has a space in it; give each shard an entry of its own, and write a space itself as %20".to_owned()
            );
        }
        match text.split_once("://") {
            Some((scheme, rest)) => url(&scheme.to_ascii_lowercase(), rest),
            None => bare(text),
        }
    }

    /// An entry of `cluster_address` or `sentinel_address`: `host:port`, more of them behind commas.
    ///
    /// # Errors
    /// What was expected of which.
    pub(super) fn seeds(kind: Kind, text: &str) -> Result<Self, String> {
        let seed = |(index, seed): (usize, &str)| {
            let seed = seed.trim();
            let endpoint = match seed.contains(['/', '@']) {
                true => Err("expected host:port; URLs are for the option address".to_owned()),
                false => Endpoint::host(seed, None),
            };
            endpoint.map_err(|what| match text.contains(',') {
                true => format!("host {}: {what}", index + 1),
                false => what,
            })
        };
        Ok(Self::of(kind, text.split(',').enumerate().map(seed).collect::<Result<_, _>>()?))
    }

    fn of(kind: Kind, endpoints: Vec<Endpoint>) -> Self {
        Self { kind, endpoints, user: None, password: None, db: None, tls: None, query: Query::default() }
    }
}

fn bare(text: &str) -> Result<Address, String> {
    if text.starts_with('/') {
        return Err("a Unix socket is written with unix:// in front of its path".to_owned());
    }
    if text.contains(['@', '/', '?', '#']) {
        return Err(
            "user, password, database and parameters need a URL; write redis:// in front of the host".to_owned()
        );
    }
    if text.contains(',') {
        return Err(SHARDS.to_owned());
    }
    Ok(Address::of(Kind::Standalone, vec![Endpoint::host(text, None)?]))
}

fn url(scheme: &str, rest: &str) -> Result<Address, String> {
    let (is_tls, kind) = match scheme {
        "tcp" | "redis" => (false, Some(Kind::Standalone)),
        "rediss" => (true, Some(Kind::Standalone)),
        "redis+sentinel" => (false, Some(Kind::Sentinel)),
        "rediss+sentinel" => (true, Some(Kind::Sentinel)),
        "redis+cluster" => (false, Some(Kind::Cluster)),
        "rediss+cluster" => (true, Some(Kind::Cluster)),
        "unix" => (false, None),
        _ => return Err(FORMS.to_owned()),
    };
    if rest.contains('#') {
        return Err("has a # in it, which ends a URL; write it as %23".to_owned());
    }
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = &before[..before.find('/').unwrap_or(before.len())];
    let parts = Parts { authority, path: &before[authority.len()..], query };
    let address = match kind {
        Some(kind) => parts.network(kind, is_tls),
        None => parts.unix(),
    };
    address.map_err(|what| match rest[authority.len()..].contains('@') {
        true => format!("{what}; if the password has a character such as / ? or @ in it, write that percent-encoded"),
        false => what,
    })
}

/// A URL without its scheme: `authority` before the first slash, `path` from there, `query` behind the question mark.
struct Parts<'a> {
    authority: &'a str,
    path: &'a str,
    query: &'a str,
}

impl Parts<'_> {
    fn network(self, kind: Kind, is_tls: bool) -> Result<Address, String> {
        let (user, password, hosts) = self.credentials()?;
        let query = Query::parse(self.query)?;
        let kind = match (kind, &query.sentinel_master_name) {
            (Kind::Cluster, Some(_)) => {
                return Err(
                    "a cluster has no Sentinels; remove sentinel_master_name or write redis+sentinel://".to_owned()
                );
            }
            (Kind::Standalone, Some(_)) => Kind::Sentinel,
            // Without Sentinels, several servers that are one shard can only be a cluster.
            (Kind::Standalone, None) if !query.more_hosts.is_empty() => Kind::Cluster,
            (kind, _) => kind,
        };
        if kind != Kind::Sentinel && query.is_about_sentinel() {
            return Err(
                "has parameters for Sentinels, but no sentinel_master_name that tells which primary they watch"
                    .to_owned(),
            );
        }
        if hosts.contains(',') && kind == Kind::Standalone {
            return Err(SHARDS.to_owned());
        }
        let port = if kind == Kind::Sentinel { SENTINEL_PORT } else { REDIS_PORT };
        let hosts = hosts.split(',').chain(query.more_hosts.iter().map(String::as_str));
        let endpoints = hosts.map(|host| Endpoint::host(host, Some(port))).collect::<Result<_, _>>()?;
        let db = match self.path.strip_prefix('/').unwrap_or_default() {
            "" => None,
            number => Some(database(number).ok_or("expected the number of a database behind the host, such as /0")?),
        };
        if kind == Kind::Cluster && db.is_some_and(|db| db > 0) {
            return Err("a cluster has no other database than 0; remove the number behind the host".to_owned());
        }
        let tls = match (is_tls, query.tls) {
            (true, Some(false)) => {
                return Err("says TLS with rediss and no TLS with tls_enabled; remove one".to_owned());
            }
            (true, None) => Some(true),
            (_, tls) => tls,
        };
        // The hosts that the URL names are the Sentinels.
        let sentinel_tls = query.sentinel_tls.or((is_tls && kind == Kind::Sentinel).then_some(true));
        let query = Query { sentinel_tls, ..query };
        Ok(Address { user, password, db, tls, query, ..Address::of(kind, endpoints) })
    }

    fn unix(self) -> Result<Address, String> {
        let (user, password, host) = self.credentials()?;
        if !host.is_empty() {
            return Err("expected the path of a socket with three slashes: unix:///run/redis.sock".to_owned());
        }
        let query = Query::parse(self.query)?;
        if query.sentinel_master_name.is_some() || query.is_about_sentinel() || !query.more_hosts.is_empty() {
            return Err("a Unix socket leads to one server; Sentinels and seeds need redis:// and a host".to_owned());
        }
        let address = Address::of(Kind::Standalone, vec![Endpoint::unix(self.path)?]);
        Ok(Address { user, password, tls: query.tls, query, ..address })
    }

    /// User, password, and the rest. An empty user is none; an empty password is one, and means to use none.
    fn credentials(&self) -> Result<(Option<String>, Option<Secret>, &str), String> {
        let Some((info, hosts)) = self.authority.rsplit_once('@') else { return Ok((None, None, self.authority)) };
        let (user, password) = info.split_once(':').map_or((info, None), |(user, password)| (user, Some(password)));
        let user = Some(decoded(user)?).filter(|user| !user.is_empty());
        let password = password.map(decoded).transpose()?.map(Secret::new);
        Ok((user, password, hosts))
    }
}
