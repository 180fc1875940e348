//! One node: its workers, its clients, its clock.

use std::collections::BTreeMap;

use gyre_engine::backend::ProxyId;
use gyre_engine::channel_state::{Effect, Workers, WorkersOptions};

use crate::link::Link;
use crate::sim::{PARTITIONS, PROXIES};

/// See the module.
pub(crate) struct Node {
    pub(crate) workers: Workers,
    pub(crate) link: Link,
    /// By channel and id: when the entry is renewed next.
    pub(crate) clients: BTreeMap<(String, String), Client>,
    clock_from_ms: u64,
    /// Of its clock, thousandths of the true one.
    pace: u64,
    pub(crate) is_stopping: bool,
    pub(crate) effects: Vec<Effect>,
    /// It alone could not reach the store then, last.
    pub(crate) cut_off_ms: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) renew_ms: u64,
    /// Its entry has been made.
    pub(crate) is_in: bool,
}

impl Node {
    pub(crate) fn new(uid: &str, seed: u64, now_ms: u64) -> Self {
        let backends = (0..PROXIES).map(|at| (ProxyId(at), format!("backend{at}").into())).collect();
        let options =
            WorkersOptions { node_uid: uid.to_owned(), partitions: PARTITIONS, backends, grace_ms: 30_000, seed };
        let workers = Workers::new(options, 0);
        Self {
            workers,
            link: Link::default(),
            clients: BTreeMap::new(),
            clock_from_ms: now_ms,
            pace: 990 + seed % 21,
            is_stopping: false,
            effects: Vec::new(),
            cut_off_ms: None,
        }
    }

    /// Its own clock.
    pub(crate) fn clock_ms(&self, now_ms: u64) -> u64 {
        (now_ms - self.clock_from_ms) * self.pace / 1000
    }

    /// When it has something to do, by the true clock.
    pub(crate) fn next_ms(&self) -> u64 {
        let own_ms = self.workers.next_ms();
        let true_ms = match own_ms {
            u64::MAX => u64::MAX,
            _ => self.clock_from_ms + (own_ms * 1000).div_ceil(self.pace),
        };
        let renew_ms = self.clients.values().map(|client| client.renew_ms).min().unwrap_or(u64::MAX);
        true_ms.min(renew_ms).min(self.link.next_ms())
    }
}
