//! Several nodes over a bus of this test: late, out of order over two shards, with cuts, stops and deaths.

use std::collections::BTreeMap;

use gyre_engine::ActWhat;
use gyre_proto::codes::{Disconnect, Unsubscribe};
use gyre_proto::ids::CoreId;

use super::*;

const COUNT: usize = 4;

struct World {
    rng: u64,
    now_ms: u64,
    /// `None` = dead or stopped.
    nodes: Vec<Option<Nodes>>,
    /// When a node is reached: not while it is cut off, and it does not run while it is paused.
    is_cut_off: [bool; COUNT],
    is_paused: [bool; COUNT],
    /// This one sends and hears nothing.
    is_deaf: Option<usize>,
    /// Starts so far; a node id is not used again.
    starts: usize,
    /// In flight: due time, receiver, bytes.
    bus: Vec<(u64, usize, Vec<u8>)>,
    calls: u64,
    /// Who waits for what, since when.
    waiting: BTreeMap<u64, (usize, u64)>,
    /// By call: what came.
    told: BTreeMap<u64, bool>,
    found: BTreeMap<u64, Option<Found>>,
    /// By node: channels of the acts that were done.
    acts: Vec<Vec<String>>,
}

impl World {
    fn new(seed: u64) -> Self {
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
    fn random(&mut self, below: u64) -> u64 {
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.rng;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn started(&mut self, at: usize) -> Nodes {
        self.starts += 1;
        let name = format!("node{at}");
        let own = NodeInfo { uid: format!("{name}-{}", self.starts), name, ..NodeInfo::default() };
        Nodes::new(own, self.now_ms)
    }

    fn runs(&self, at: usize) -> bool {
        self.nodes[at].is_some() && !self.is_paused[at]
    }

    /// Lets time pass in steps of `step_ms`.
    fn pass(&mut self, ms: u64, step_ms: u64) {
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

    fn deeds(&mut self, at: usize) {
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

    fn hears(&mut self, at: usize) {
        let now_ms = self.now_ms;
        self.node(at).hears(now_ms);
    }

    fn call(&mut self, at: usize) -> Asker {
        self.calls += 1;
        self.waiting.insert(self.calls, (at, self.now_ms));
        Asker { core: CoreId(at as u16), call: self.calls }
    }

    fn survey(&mut self, at: usize) -> u64 {
        let asker = self.call(at);
        let now_ms = self.now_ms;
        if let Some(node) = &mut self.nodes[at] {
            node.survey(asker, &Question::Channels("chat:*".into()), now_ms);
        }
        self.deeds(at);
        asker.call
    }

    fn unsubscribe(&mut self, at: usize, channel: &str) -> u64 {
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
    fn die(&mut self, at: usize) {
        self.nodes[at] = None;
        self.is_paused[at] = false;
        self.bus.retain(|(_, receiver, _)| *receiver != at);
        self.waiting.retain(|_, (node, _)| *node != at);
    }

    fn known(&self, at: usize) -> Vec<&str> {
        let mut known: Vec<&str> = self.nodes[at].iter().flat_map(Nodes::others).map(|node| &*node.name).collect();
        known.sort_unstable();
        known
    }

    fn node(&mut self, at: usize) -> &mut Nodes {
        self.nodes[at].as_mut().expect("a node that runs")
    }
}

/// `info` would be incomplete, or show the dead; commands would not reach who they are for.
#[test]
fn nodes_find_each_other_and_notice_who_is_gone() {
    let mut world = World::new(1);
    world.pass(200, 10);
    assert_eq!(world.known(0), ["node1", "node2", "node3"]);
    assert_eq!(world.known(3), ["node0", "node1", "node2"]);

    let now_ms = world.now_ms;
    world.node(3).leave(now_ms);
    world.deeds(3);
    assert!(world.node(3).has_left());
    world.pass(100, 10);
    assert_eq!(world.known(0), ["node1", "node2"], "it said so");
    world.die(3);

    world.die(2);
    world.pass(6_900, 10);
    assert_eq!(world.known(0), ["node1", "node2"], "not dropped yet");
    world.pass(9_300, 10);
    assert_eq!(world.known(0), ["node1"], "dropped in 16 s");

    world.is_cut_off[1] = true;
    world.pass(17_000, 10);
    assert_eq!((world.known(0), world.known(1)), (vec![], vec![]));
    world.is_cut_off[1] = false;
    world.pass(400, 10);
    assert_eq!((world.known(0), world.known(1)), (vec!["node1"], vec!["node0"]), "soon after it is back");

    // Messages to it may have been lost although its own were heard.
    world.is_cut_off[0] = true;
    world.pass(17_000, 10);
    world.is_cut_off[0] = false;
    world.is_deaf = Some(1);
    world.pass(3_100, 10);
    assert_eq!(world.known(1), [""; 0]);
    world.is_deaf = None;
    world.hears(1);
    world.pass(100, 10);
    assert_eq!(world.known(1), ["node0"], "it asks who is there");
}

/// The caller would believe a kick or a count that has not happened.
#[test]
fn calls_end_with_what_has_happened() {
    let mut world = World::new(2);
    world.pass(200, 10);
    let (survey, act) = (world.survey(0), world.unsubscribe(1, "chat:x"));
    assert_eq!(world.told.get(&act), Some(&true), "told is enough");
    world.pass(200, 10);
    let found = world.found[&survey].clone().expect("all have answered");
    assert_eq!(found.get("chat:all"), Some(&6), "three nodes of two cores");
    assert_eq!((found.get("chat:0"), found.get("chat:3")), (None, Some(&2)), "the own cores are asked elsewhere");
    assert_eq!(world.acts, [vec!["chat:x".to_owned()], vec![], vec!["chat:x".to_owned()], vec!["chat:x".to_owned()]]);

    world.is_paused[2] = true;
    let survey = world.survey(0);
    world.pass(survey::TIMEOUT_MS - 100, 10);
    if !world.found.contains_key(&survey) {
        world.pass(200, 10);
    }
    assert_eq!(world.found.get(&survey), Some(&None), "one did not answer");
    world.is_paused[2] = false;

    world.is_cut_off[0] = true;
    let (survey, act) = (world.survey(0), world.unsubscribe(0, "chat:y"));
    assert_eq!((world.found.get(&survey), world.told.get(&act)), (Some(&None), Some(&false)), "at once");
}

/// A command of somebody else could do anything to anybody here, or its own be done twice.
#[test]
fn strange_messages_do_nothing() {
    let own = NodeInfo { uid: "own".to_owned(), ..NodeInfo::default() };
    let mut nodes = Nodes::new(own, 0);
    let disconnect = ActWhat::Disconnect(Disconnect::FORCE_DISCONNECT);
    let act = Act { user: "u".into(), client: "".into(), whitelist: Vec::new(), what: disconnect };
    nodes.heard(&NodeMessage::encode("own", What::act(&act)), 0);
    nodes.heard(&NodeMessage::encode("", What::act(&act)), 0);
    nodes.heard(b"", 0);
    nodes.heard(b"\x0a\x05other", 0);
    let part = Answered { survey: 1, part: 7, parts: 8, channels: Vec::new() };
    nodes.heard(&NodeMessage::encode("other", What::Answered(part)), 0);
    assert!(nodes.take_deeds().is_empty());
    assert_eq!(nodes.traffic(), Traffic { sent: 0, received: 5 });
    nodes.heard(&NodeMessage::encode("other", What::act(&act)), 0);
    assert!(matches!(nodes.take_deeds()[..], [Deed::Act(_)]));
    let bad_pattern = What::question(5, &Question::Channels("[".into()));
    nodes.heard(&NodeMessage::encode("other", bad_pattern), 0);
    let deeds = nodes.take_deeds();
    let [Deed::Publish { to, bytes, .. }] = &deeds[..] else { panic!("an answer at once: {deeds:?}") };
    let refusal = Answered { survey: 5, ..Answered::default() };
    assert_eq!((to.as_deref(), bytes), (Some("other"), &NodeMessage::encode("own", What::Answered(refusal))));
}

/// One bad message on the Redis would stop every node.
#[test]
fn changed_messages_are_no_panic() {
    let act =
        Act { user: "u".into(), client: "".into(), whitelist: Vec::new(), what: ActWhat::Disconnect(Disconnect::SLOW) };
    let info = NodeInfo { name: "n".to_owned(), ..NodeInfo::default() };
    let channel = message::Channel { name: "chat:1".to_owned(), clients: 3 };
    let answer = Answered { survey: 1, part: 0, parts: 3, channels: vec![channel] };
    let question = Question::Channels("chat:[a-z]{a,b}*".into());
    let every = [What::info(&info, true), What::act(&act), What::question(1, &question), What::Answered(answer)];
    for what in every {
        let bytes = NodeMessage::encode("x", what);
        for at in 0..bytes.len() {
            let mut nodes = Nodes::new(NodeInfo { uid: "own".to_owned(), ..NodeInfo::default() }, 0);
            nodes.heard(&NodeMessage::encode("x", What::info(&info, true)), 0);
            nodes.survey(Asker { core: CoreId(0), call: 1 }, &question, 0);
            for other in 0..=u8::MAX {
                let mut changed = bytes.clone();
                changed[at] = other;
                nodes.heard(&changed, 0);
            }
            nodes.heard(&bytes[..at], 0);
            nodes.turn(60_000);
        }
    }
}

/// Whatever happens in whatever order, in the end all nodes know each other, every call was answered, nothing is kept.
#[test]
fn any_history_ends_well() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..40 {
            let at = world.random(COUNT as u64) as usize;
            match world.random(10) {
                0 if world.runs(at) => {
                    let now_ms = world.now_ms;
                    world.node(at).leave(now_ms);
                    world.deeds(at);
                    world.die(at);
                }
                1 => world.die(at),
                2 => world.is_cut_off[at] ^= true,
                8 if world.runs(at) && !world.is_cut_off[at] => world.hears(at),
                3 if world.nodes[at].is_some() => world.is_paused[at] ^= true,
                4 | 5 if world.nodes[at].is_none() => {
                    let node = world.started(at);
                    world.nodes[at] = Some(node);
                }
                6 if world.runs(at) => _ = world.survey(at),
                7 if world.runs(at) => _ = world.unsubscribe(at, "chat:z"),
                _ => {}
            }
            let ms = [10, 100, 1_000, 4_000, 12_000][world.random(5) as usize];
            world.pass(ms, 50);
        }
        world.is_paused = [false; COUNT];
        world.is_cut_off = [false; COUNT];
        for at in 0..COUNT {
            if world.nodes[at].is_none() {
                let node = world.started(at);
                world.nodes[at] = Some(node);
            }
        }
        world.pass(17_000, 50);
        let last = world.survey(0);
        world.pass(200, 50);
        assert!(world.waiting.is_empty(), "seed {seed}: {:?}", world.waiting);
        assert_eq!(world.found[&last].as_ref().and_then(|found| found.get("chat:all")), Some(&6), "seed {seed}");
        let names = ["node0", "node1", "node2", "node3"];
        for at in 0..COUNT {
            let others: Vec<_> = names.into_iter().filter(|name| *name != names[at]).collect();
            assert_eq!(world.known(at), others, "seed {seed}, node {at}");
            let node = world.node(at);
            assert_eq!((node.sends.len(), node.asked.len()), (0, 0), "seed {seed}, node {at}");
        }
    }
}
