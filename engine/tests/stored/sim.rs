//! The world under test with the clients' view of it.

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;
use gyre_engine::backend::ProxyId;
use gyre_engine::rules::{ChannelOptions, ChannelProxies, RecoveryMode, Rules};
use gyre_engine::token::{TokenOptions, Verifier};
use gyre_engine::{CallId, Engine};
use gyre_proto::Encoding;
use gyre_proto::ids::ConnId;

use crate::backend::{Question, Questioned};
use crate::faults::Mix;
use crate::wire::{Say, Seen};
use crate::world::kept::{Kept, What};
use crate::world::store::Lane;
use crate::world::{Hands, World};

/// A client application: it outlives its connections and remembers what it has seen.
pub(crate) struct Agent {
    pub(crate) user: String,
    pub(crate) encoding: Encoding,
    pub(crate) seen: BTreeMap<String, Seen>,
    pub(crate) conn: Option<u32>,
}

/// A command that was sent and not yet answered.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) id: u32,
    pub(crate) say: Say,
    /// How far the logs had reached the node when it was sent.
    pub(crate) since: BTreeMap<String, usize>,
    pub(crate) questions: Questioned,
}

/// A channel that a connection holds.
#[derive(Debug)]
pub(crate) struct Sub {
    /// Next entry of the channel's log.
    pub(crate) cursor: usize,
    /// From this entry on it must be told everything.
    pub(crate) must_from: usize,
    /// Set when positioned.
    pub(crate) pos: Option<Seen>,
    pub(crate) pushes_join_leave: bool,
    pub(crate) is_server_side: bool,
}

impl Sub {
    /// Whether this is a publication above the position held.
    pub(crate) fn is_behind(&self, what: &What) -> bool {
        let What::Publication(_, at) = what else { return false };
        self.pos.as_ref().is_some_and(|pos| at.epoch.as_str() == pos.1 && at.offset > pos.0)
    }
}

pub(crate) struct Conn {
    pub(crate) site: usize,
    pub(crate) id: ConnId,
    pub(crate) uuid: String,
    pub(crate) agent: usize,
    pub(crate) encoding: Encoding,
    pub(crate) opened_ms: u64,
    pub(crate) next_id: u32,
    pub(crate) asked: VecDeque<Asked>,
    /// Channels of the connection token, with the positions to recover from.
    pub(crate) plan: Vec<(String, Option<Seen>)>,
    pub(crate) is_connected: bool,
    /// Its connect was answered with an error.
    pub(crate) is_refused: bool,
    pub(crate) subs: BTreeMap<String, Sub>,
}

pub(crate) struct Sim {
    pub(crate) world: World,
    pub(crate) rng: Rng,
    pub(crate) mix: Mix,
    pub(crate) channels: Vec<(String, ChannelOptions)>,
    pub(crate) rules: Rules,
    pub(crate) agents: Vec<Agent>,
    pub(crate) conns: BTreeMap<u32, Conn>,
    /// Publications of the server API that wait, with whether each must be in the log once it is confirmed.
    pub(crate) calls: BTreeMap<CallId, (String, u64, bool)>,
    /// Questions to the backend.
    pub(crate) questions: Vec<Question>,
    /// By node and channel: entries of the log before this one may have been lost on the way.
    pub(crate) excused: BTreeMap<(usize, String), usize>,
    /// By site: channels that were heard when the connection broke.
    pub(crate) deaf: BTreeMap<usize, Vec<String>>,
    /// Faults so far, of the kind that makes calls fail.
    pub(crate) failures: u64,
    /// Times that the connection for messages of some core broke.
    pub(crate) breaks: u64,
    /// Times that the data was lost.
    pub(crate) data_losses: u64,
    pub(crate) next_n: u64,
    pub(crate) trace: Option<VecDeque<String>>,
}

impl Sim {
    pub(crate) fn new(seed: u64, is_traced: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let (rules, channels) = draw(&mut rng);
        let (nodes, cores) = *rng.choice(&[(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1)]).expect("not empty");
        Self {
            world: World::stored(nodes, cores, rules.clone(), seed),
            mix: Mix::draw(&mut rng),
            rng,
            channels,
            rules,
            agents: Vec::new(),
            conns: BTreeMap::new(),
            calls: BTreeMap::new(),
            questions: Vec::new(),
            excused: BTreeMap::new(),
            deaf: BTreeMap::new(),
            failures: 0,
            breaks: 0,
            data_losses: 0,
            next_n: 0,
            trace: is_traced.then(VecDeque::new),
        }
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push_back(what());
            if trace.len() > 600 {
                trace.pop_front();
            }
        }
    }

    pub(crate) fn on<T>(&mut self, site: usize, act: impl FnOnce(&mut Engine, &mut Hands) -> T) -> T {
        let result = self.world.on(site, act);
        self.digest(site);
        result
    }

    pub(crate) fn ring(&mut self, from: usize, to: usize) {
        self.note(|| format!("ring {from}->{to}"));
        self.world.step(from, to);
        self.digest(to);
    }

    pub(crate) fn lane(&mut self, site: usize, lane: Lane) {
        if self.trace.is_some() {
            let text = self.world.store.as_ref().expect("stored").peek(site, lane);
            self.note(|| format!("{lane:?} of {site}: {text}"));
        }
        self.world.store_step(site, lane);
        self.digest(site);
    }

    pub(crate) fn options(&self, channel: &str) -> &ChannelOptions {
        &self.channels.iter().find(|(name, _)| name == channel).expect("a known channel").1
    }

    pub(crate) fn node(&self, site: usize) -> usize {
        site / self.world.cores
    }

    pub(crate) fn kept(&mut self, channel: &str) -> &mut Kept {
        self.world.store.as_mut().expect("stored").channels.entry(channel.to_owned()).or_default()
    }

    /// How far the logs have reached the node of a core.
    pub(crate) fn served(&self, site: usize) -> BTreeMap<String, usize> {
        let (first, store) = (site - site % self.world.cores, self.world.store.as_ref().expect("stored"));
        let served = |name: &String| (name.clone(), store.served(first..first + self.world.cores, name));
        self.channels.iter().map(|(name, _)| served(name)).collect()
    }
}

/// Rules under which everything a simulated client does is permitted.
fn draw(rng: &mut Rng) -> (Rules, Vec<(String, ChannelOptions)>) {
    let mut rules = Rules::default();
    rules.client.allow_anonymous_connect_without_token = true;
    rules.client.recovery_max_publication_limit = if rng.bool() { 300 } else { rng.usize(1..6) };
    rules.client.ping_interval_ms = 0;
    let options = TokenOptions { insecure_skip_signature_verify: true, ..TokenOptions::default() };
    rules.tokens.connection = Verifier::new(options).expect("good options");
    let mut channels = Vec::new();
    for n in 0..rng.usize(1..4) {
        let has_history = rng.u32(..4) > 0;
        let force_recovery = has_history && rng.bool();
        let is_cache = rng.u32(..3) == 0;
        let cache_empty = (is_cache && rng.bool()).then_some(ProxyId(0));
        let options = ChannelOptions {
            recovery_mode: if is_cache { RecoveryMode::Cache } else { RecoveryMode::Stream },
            auto_cache_recover: is_cache && force_recovery && rng.bool(),
            proxies: ChannelProxies { cache_empty, ..ChannelProxies::default() },
            presence: rng.bool(),
            join_leave: rng.bool(),
            force_push_join_leave: rng.u32(..4) == 0,
            history_size: if has_history { rng.usize(1..12) } else { 0 },
            history_ttl_s: if rng.u32(..3) == 0 { rng.u64(1..5) } else { 10_000 },
            history_meta_ttl_s: 100_000,
            force_positioning: rng.u32(..4) == 0,
            force_recovery,
            allow_subscribe_for_client: true,
            allow_subscribe_for_anonymous: true,
            allow_publish_for_client: true,
            allow_publish_for_anonymous: true,
            allow_presence_for_client: true,
            allow_presence_for_anonymous: true,
            allow_history_for_client: true,
            allow_history_for_anonymous: true,
            ..ChannelOptions::default()
        };
        let name = format!("n{n}");
        rules.namespaces.insert(&*name, options.clone());
        for m in 0..rng.usize(1..3) {
            channels.push((format!("{name}:c{m}"), options.clone()));
        }
    }
    (rules, channels)
}
