//! Nodes, and a bus between them: late, out of order over two shards, with cuts, stops and deaths.

use std::collections::BTreeMap;

use gyre_engine::ActWhat;
use gyre_proto::codes::Unsubscribe;
use gyre_proto::ids::CoreId;

use super::super::survey;
use super::*;

/// Nodes.
pub(super) const COUNT: usize = 4;

/// See the module.
pub(super) struct World {
    rng: u64,
    pub(super) now_ms: u64,
    /// `None` = dead or stopped.
    pub(super) nodes: Vec<Option<Nodes>>,
    /// When a node is reached: not while it is cut off, and it does not run while it is paused.
    pub(super) is_cut_off: [bool; COUNT],
    pub(super) is_paused: [bool; COUNT],
    /// This one sends and hears nothing.
    pub(super) is_deaf: Option<usize>,
    /// Starts so far; a node id is not used again.
    starts: usize,
    /// In flight: due time, receiver, bytes.
    bus: Vec<(u64, usize, Vec<u8>)>,
    calls: u64,
    /// Who waits for what, since when.
    pub(super) waiting: BTreeMap<u64, (usize, u64)>,
    /// By call: what came.
    pub(super) told: BTreeMap<u64, bool>,
    pub(super) found: BTreeMap<u64, Option<Found>>,
    /// By node: channels of the acts that were done.
    pub(super) acts: Vec<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: seed,
            now_ms: 0,
            nodes: Vec::new(),
            is_cut_off: [false; COUNT],
            is_paused: [false; COUNT],
            is_deaf: None,
            starts: 0,
            bus: Vec::new(),
            calls: 0,
            waiting: BTreeMap::new(),
            told: BTreeMap::new(),
            found: BTreeMap::new(),
            acts: vec![Vec::new(); COUNT],
        };
        for at in 0..COUNT {
            let node = world.started(at);
            world.nodes.push(Some(node));
        }
        world
    }

    /// SplitMix64.
    pub(super) fn random(&mut self, below: u64) -> u64 {
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.rng;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    pub(super) fn started(&mut self, at: usize) -> Nodes {
        self.starts += 1;
        let name = format!("node{at}");
        let own = NodeInfo { uid: format!("{name}-{}", self.starts), name, ..NodeInfo::default() };
        Nodes::new(own, self.now_ms)
    }

    pub(super) fn runs(&self, at: usize) -> bool {
        self.nodes[at].is_some() && !self.is_paused[at]
    }

    /// Lets time pass in steps of `step_ms`.
    pub(super) fn pass(&mut self, ms: u64, step_ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms += step_ms;
            let now_ms = self.now_ms;
            // What is due arrives in any order: there are two shards.
            let (mut due, late) = std::mem::take(&mut self.bus).into_iter().partition::<Vec<_>, _>(|m| m.0 <= now_ms);
            self.bus = late;
            while !due.is_empty() {
                let pick = self.random(due.len() as u64) as usize;
                let (_, at, bytes) = due.swap_remove(pick);
                if self.is_paused[at] {
                    self.bus.push((now_ms + 1, at, bytes));
                } else if let Some(node) = &mut self.nodes[at] {
                    node.heard(&bytes, now_ms);
                }
                self.deeds(at);
            }
            for at in 0..COUNT {
                if self.runs(at)
                    && let Some(node) = &mut self.nodes[at]
                {
                    if node.takes_announcement(now_ms) {
                        let own = NodeInfo { uptime_s: (now_ms / 1000) as u32, ..node.own.clone() };
                        node.announce(own, now_ms);
                    }
                    node.turn(now_ms);
                }
                self.deeds(at);
            }
        }
    }

    pub(super) fn deeds(&mut self, at: usize) {
        if !self.runs(at) {
            return;
        }
        while let Some(node) = &mut self.nodes[at] {
            let deeds = node.take_deeds();
            if deeds.is_empty() {
                return;
            }
            for deed in deeds {
                self.carry_out(at, deed);
            }
        }
    }

    fn carry_out(&mut self, at: usize, deed: Deed) {
        let now_ms = self.now_ms;
        match deed {
            Deed::Publish { number, to, bytes } => {
                let ok = !self.is_cut_off[at];
                for receiver in (0..COUNT).filter(|_| ok) {
                    let Some(node) = &self.nodes[receiver] else { continue };
                    let hears = !self.is_cut_off[receiver] && self.is_deaf != Some(receiver);
                    if hears && to.as_ref().is_none_or(|to| *to == node.own.uid) {
                        let due_ms = now_ms + self.random(40);
                        self.bus.push((due_ms, receiver, bytes.clone()));
                    }
                }
                if let Some(node) = &mut self.nodes[at] {
                    node.published(number, ok, now_ms);
                }
            }
            Deed::Told { asker, ok } => {
                self.answered(at, asker);
                self.told.insert(asker.call, ok);
            }
            Deed::Surveyed { asker, found } => {
                self.answered(at, asker);
                self.found.insert(asker.call, found);
            }
            Deed::Act(act) => {
                let ActWhat::Unsubscribe { channel, .. } = &act.what else { return };
                self.acts[at].push(channel.to_string());
            }
            Deed::Ask { number, what } => {
                let SurveyWhat::Channels(Some(pattern)) = what else { panic!("nobody asks for that") };
                assert_eq!(pattern.glob().glob(), "chat:*");
                // Each core of each node has a subscriber of the common channel, and one of the node's.
                let share = || SurveyReply::Channels(vec![("chat:all".into(), 1), (format!("chat:{at}").into(), 1)]);
                if let Some(node) = &mut self.nodes[at] {
                    node.shares(number, Some(vec![share(), share()]), now_ms);
                }
            }
        }
    }

    fn answered(&mut self, at: usize, asker: Asker) {
        let (node, since_ms) = self.waiting.remove(&asker.call).expect("one answer for each call");
        assert_eq!((node, CoreId(at as u16)), (at, asker.core));
        // A paused node notices when it runs again.
        assert!(self.now_ms - since_ms <= survey::TIMEOUT_MS + 20_000, "an answer in bounded time");
    }

    pub(super) fn hears(&mut self, at: usize) {
        let now_ms = self.now_ms;
        self.node(at).hears(now_ms);
    }

    fn call(&mut self, at: usize) -> Asker {
        self.calls += 1;
        self.waiting.insert(self.calls, (at, self.now_ms));
        Asker { core: CoreId(at as u16), call: self.calls }
    }

    pub(super) fn survey(&mut self, at: usize) -> u64 {
        let asker = self.call(at);
        let now_ms = self.now_ms;
        if let Some(node) = &mut self.nodes[at] {
            node.survey(asker, &Question::Channels("chat:*".into()), now_ms);
        }
        self.deeds(at);
        asker.call
    }

    pub(super) fn unsubscribe(&mut self, at: usize, channel: &str) -> u64 {
        let asker = self.call(at);
        let now_ms = self.now_ms;
        let what = ActWhat::Unsubscribe { channel: channel.into(), why: Unsubscribe::SERVER };
        let act = Act { user: "u".into(), client: "".into(), whitelist: Vec::new(), what };
        if let Some(node) = &mut self.nodes[at] {
            node.act(asker, &act, now_ms);
        }
        self.deeds(at);
        asker.call
    }

    /// The calls that waited on a node die with it.
    pub(super) fn die(&mut self, at: usize) {
        self.nodes[at] = None;
        self.is_paused[at] = false;
        self.bus.retain(|(_, receiver, _)| *receiver != at);
        self.waiting.retain(|_, (node, _)| *node != at);
    }

    pub(super) fn known(&self, at: usize) -> Vec<&str> {
        let mut known: Vec<&str> = self.nodes[at].iter().flat_map(Nodes::others).map(|node| &*node.name).collect();
        known.sort_unstable();
        known
    }

    pub(super) fn node(&mut self, at: usize) -> &mut Nodes {
        self.nodes[at].as_mut().expect("a node that runs")
    }
}
