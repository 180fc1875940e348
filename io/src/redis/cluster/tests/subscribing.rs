//! Sharded Pub/Sub in a cluster whose slots move, whose nodes learn of it late, and whose connections break: whatever
//! is lost on the way, the owner is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::redis::cluster::nodes::Link;
use crate::redis::cluster::slot_of;
use crate::redis::cluster::subscriptions::Subscriptions;
use crate::redis::tests::Dice;
use crate::redis::{Failure, Incoming, SendError};

const PORTS: [u16; 3] = [1, 2, 3];
const CHANNELS: [&str; 6] = ["{a}1", "{a}2", "{b}1", "{b}2", "{c}1", "{d}1"];
/// Tokens of batches begin here; those below are of a channel.
const BATCHES: u64 = 1000;

/// What a core wants of a channel.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wish {
    No,
    Asked,
    Yes,
    Ending,
}

#[derive(Default)]
struct Node {
    /// Slots that are elsewhere, and it knows.
    lost: BTreeSet<u16>,
    subscribed: BTreeSet<&'static str>,
    requests: VecDeque<u64>,
    answers: VecDeque<Incoming>,
    is_up: bool,
}

struct World {
    dice: Dice,
    now_ms: u64,
    router: Router,
    subscriptions: Subscriptions,
    /// By port.
    nodes: BTreeMap<u16, Node>,
    owner: BTreeMap<u16, u16>,
    wishes: BTreeMap<&'static str, Wish>,
    published: BTreeMap<&'static str, u64>,
    known: BTreeMap<&'static str, u64>,
    batches: BTreeMap<u64, (u16, Vec<&'static str>)>,
    again: Vec<(u16, Vec<&'static str>)>,
    next_batch: u64,
    unheard: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let owner: BTreeMap<u16, u16> = CHANNELS.iter().map(|channel| (slot_of(channel.as_bytes()), 1)).collect();
        let mut world = Self {
            dice: Dice(seed),
            now_ms: 0,
            router: Router::new(truth(&owner)),
            subscriptions: Subscriptions::default(),
            nodes: PORTS.iter().map(|port| (*port, Node::default())).collect(),
            owner,
            wishes: CHANNELS.iter().map(|channel| (*channel, Wish::No)).collect(),
            published: CHANNELS.iter().map(|channel| (*channel, 0)).collect(),
            known: CHANNELS.iter().map(|channel| (*channel, 0)).collect(),
            batches: BTreeMap::new(),
            again: Vec::new(),
            next_batch: BATCHES,
            unheard: 0,
        };
        for port in PORTS {
            let number = number(&world.router, port);
            world.subscriptions.link_is(number, Some(Link::New));
        }
        world
    }

    fn step(&mut self) {
        self.now_ms += self.dice.roll(20) as u64;
        let port = PORTS[self.dice.roll(3)];
        let channel = CHANNELS[self.dice.roll(CHANNELS.len())];
        match self.dice.roll(24) {
            0 => self.change_wish(channel),
            1 => {
                let slot = slot_of(channel.as_bytes());
                // Who gets a slot knows by then what it has lost before; who had it until now learns that later.
                self.learns(port);
                self.owner.insert(slot, port);
                self.node(port).lost.remove(&slot);
            }
            2 => self.breaks(port),
            3 => self.told(),
            4 => self.asks_again(),
            5 | 6 => self.learns(port),
            7..=9 => self.publish(channel),
            10 => self.connects(port),
            11..=15 => self.serves(port),
            16..=20 => self.reads(port),
            _ => self.turn(),
        }
    }

    /// Nothing moves any more, and everything gets through; but there may be a node that is cut off from the others, and
    /// never learns.
    fn settle(&mut self) {
        let cut_off = self.dice.roll(4);
        for _ in 0..200 {
            self.told();
            for (place, port) in PORTS.into_iter().enumerate() {
                self.connects(port);
                if place != cut_off {
                    self.learns(port);
                }
                self.serves(port);
                self.reads(port);
            }
            self.asks_again();
            self.turn();
        }
    }

    fn node(&mut self, port: u16) -> &mut Node {
        self.nodes.get_mut(&port).unwrap()
    }

    fn change_wish(&mut self, channel: &'static str) {
        let token = CHANNELS.iter().position(|other| *other == channel).unwrap() as u64;
        let (begins, wish) = match self.wishes[channel] {
            Wish::No => (true, Wish::Asked),
            Wish::Yes => (false, Wish::Ending),
            Wish::Asked | Wish::Ending => return,
        };
        if self.ask(token, &[channel], begins) {
            self.wishes.insert(channel, wish);
        }
    }

    fn ask(&mut self, token: u64, channels: &[&'static str], begins: bool) -> bool {
        let names: Vec<&[u8]> = channels.iter().map(|channel| channel.as_bytes()).collect();
        match self.subscriptions.accept(token, self.now_ms + IO_TIMEOUT_MS, &names, begins, &self.router) {
            Ok(Some((node, number))) => {
                let port = port(&self.router, node);
                self.node(port).requests.push_back(number);
                true
            }
            Ok(None) => true,
            Err(error) => {
                assert_eq!(error, SendError::Failed);
                false
            }
        }
    }

    fn told(&mut self) {
        let gone = self.router.map_is(truth(&self.owner));
        assert!(gone.is_empty(), "each has a slot");
    }

    fn connects(&mut self, port: u16) {
        if !std::mem::replace(&mut self.node(port).is_up, true) {
            let number = number(&self.router, port);
            self.subscriptions.link_is(number, Some(Link::Up));
        }
    }

    fn breaks(&mut self, port: u16) {
        let lost = self.node(port).lost.clone();
        let node = std::mem::replace(self.node(port), Node { lost, ..Node::default() });
        if !node.is_up {
            return;
        }
        let answered = node.answers.iter().filter_map(|incoming| match incoming {
            Incoming::Reply { token, .. } => Some(*token),
            _ => None,
        });
        let failed: Vec<u64> = answered.chain(node.requests).collect();
        for token in failed {
            self.hears(port, Incoming::Failed { token, sent: true, why: Failure::Closed });
        }
        let number = number(&self.router, port);
        self.subscriptions.link_is(number, Some(Link::Down));
    }

    /// A node learns which slots it has no more, and ends what was subscribed to of them.
    fn learns(&mut self, port: u16) {
        let lost: BTreeSet<u16> =
            self.owner.iter().filter(|(_, owner)| **owner != port).map(|(slot, _)| *slot).collect();
        let node = self.node(port);
        let ended: Vec<&str> =
            node.subscribed.iter().copied().filter(|channel| lost.contains(&slot_of(channel.as_bytes()))).collect();
        for channel in ended {
            node.subscribed.remove(channel);
            node.answers.push_back(Incoming::Unsubscribed { channel: channel.into(), sharded: true });
        }
        node.lost = lost;
    }

    fn serves(&mut self, port: u16) {
        let Some(number) = self.node(port).requests.pop_front() else { return };
        let Some(ask) = self.subscriptions.ask(number) else { return };
        let (begins, names) = (ask.begins, ask.names.clone());
        let slot = slot_of(&names[0]);
        let owner = self.owner[&slot];
        let node = self.node(port);
        if node.lost.contains(&slot) {
            let reply = Reply::Error(error(format!("MOVED {slot} 127.0.0.1:{owner}").as_bytes()));
            return node.answers.push_back(Incoming::Reply { token: number, reply });
        }
        for name in &names {
            let channel = *CHANNELS.iter().find(|channel| channel.as_bytes() == &**name).unwrap();
            let (channel_bytes, sharded) = (channel.into(), true);
            node.answers.push_back(match begins {
                true => {
                    node.subscribed.insert(channel);
                    Incoming::Subscribed { channel: channel_bytes, sharded }
                }
                false => {
                    node.subscribed.remove(channel);
                    Incoming::Unsubscribed { channel: channel_bytes, sharded }
                }
            });
        }
        node.answers.push_back(Incoming::Reply { token: number, reply: Reply::Int(names.len() as i64) });
    }

    fn publish(&mut self, channel: &'static str) {
        let number = self.published[channel] + 1;
        self.published.insert(channel, number);
        let node = self.node(self.owner[&slot_of(channel.as_bytes())]);
        if node.subscribed.contains(channel) {
            let payload = number.to_string().into();
            node.answers.push_back(Incoming::Message { channel: channel.into(), payload, sharded: true });
        }
    }

    fn reads(&mut self, port: u16) {
        for _ in 0..=self.dice.roll(4) {
            let Some(incoming) = self.node(port).answers.pop_front() else { return };
            self.hears(port, incoming);
        }
    }

    fn hears(&mut self, port: u16, incoming: Incoming) {
        let mut events = Vec::new();
        let from = (number(&self.router, port), &at(port));
        self.subscriptions.heard(from, incoming, &mut self.router, &mut |event| events.push(event));
        self.happens(events);
    }

    fn turn(&mut self) {
        let mut events = Vec::new();
        self.subscriptions.turn(self.now_ms, &self.router, &mut |event| events.push(event));
        while let Some((node, number)) = self.subscriptions.next_outgoing() {
            let port = port(&self.router, node);
            self.node(port).requests.push_back(number);
        }
        self.happens(events);
    }

    /// As the store of a core.
    fn happens(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Unheard(slot) => {
                    self.unheard += 1;
                    self.again.retain(|(of, _)| *of != slot);
                    let is_needed = |channel: &&&str| {
                        slot_of(channel.as_bytes()) == slot && matches!(self.wishes[**channel], Wish::Asked | Wish::Yes)
                    };
                    let channels: Vec<&'static str> = CHANNELS.iter().filter(is_needed).copied().collect();
                    self.again.extend((!channels.is_empty()).then_some((slot, channels)));
                    self.asks_again();
                }
                Event::Reply(token, reply) => self.answered(token, !matches!(reply, Reply::Error(_))),
                Event::Failed(token, _) => self.answered(token, false),
                Event::Message(channel, payload) => {
                    let channel = *CHANNELS.iter().find(|other| other.as_bytes() == channel).unwrap();
                    let number: u64 = std::str::from_utf8(&payload).unwrap().parse().unwrap();
                    // A gap is noticed by it, and filled.
                    self.known.insert(channel, number.max(self.known[channel]));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn answered(&mut self, token: u64, is_done: bool) {
        if let Some((slot, channels)) = self.batches.remove(&token) {
            match is_done {
                true => channels.into_iter().for_each(|channel| self.catches_up(channel)),
                false => self.again.push((slot, channels)),
            }
            return;
        }
        let channel = CHANNELS[token as usize];
        let wish = match self.wishes[channel] {
            Wish::Asked if is_done => {
                self.catches_up(channel);
                Wish::Yes
            }
            Wish::Asked | Wish::Ending => Wish::No,
            wish => panic!("{channel}: {wish:?}"),
        };
        self.wishes.insert(channel, wish);
    }

    /// The position is looked at.
    fn catches_up(&mut self, channel: &'static str) {
        self.known.insert(channel, self.published[channel]);
    }

    fn asks_again(&mut self) {
        for (slot, channels) in std::mem::take(&mut self.again) {
            let token = self.next_batch;
            self.next_batch += 1;
            match self.ask(token, &channels, true) {
                true => _ = self.batches.insert(token, (slot, channels)),
                false => self.again.push((slot, channels)),
            }
        }
    }
}

/// Each node has another slot beside those that move.
fn truth(owner: &BTreeMap<u16, u16>) -> Arc<SlotMap> {
    let own = PORTS.map(|port| (port..=port, at(port)));
    Arc::new(SlotMap::new(own.into_iter().chain(owner.iter().map(|(slot, port)| (*slot..=*slot, at(*port))))).unwrap())
}

/// A channel that stays deaf, or that has missed something of which its subscribers never hear.
#[test]
fn nothing_is_lost_in_silence() {
    let (mut heard, mut unheard) = (0, 0);
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.step();
        }
        world.settle();
        assert_eq!(world.subscriptions.in_flight(), 0, "seed {seed}");
        for (channel, wish) in world.wishes.clone() {
            assert!(matches!(wish, Wish::Yes | Wish::No), "seed {seed}: {channel} {wish:?}");
            if wish == Wish::Yes {
                assert_eq!(
                    world.known[channel], world.published[channel],
                    "seed {seed}: {channel} has missed something"
                );
                world.publish(channel);
                PORTS.iter().for_each(|port| world.reads(*port));
                assert_eq!(world.known[channel], world.published[channel], "seed {seed}: {channel} is deaf");
                heard += 1;
            }
        }
        unheard += world.unheard;
    }
    assert!(heard > 500 && unheard > 500, "{heard} {unheard}");
}

/// A subscriber who arrives while a slot moves waits a moment instead of getting an error; what nobody had is not asked
/// for again.
#[test]
fn who_asks_is_redirected() {
    let mut world = World::new(1);
    PORTS.iter().for_each(|port| world.connects(*port));
    world.turn();
    let slot = slot_of(b"{a}1");
    world.owner.insert(slot, 2);
    world.learns(1);
    world.change_wish("{a}1");
    world.serves(1);
    world.hears_all(1);
    assert!(world.router.takes_doubt());
    world.turn();
    world.serves(2);
    world.hears_all(2);
    assert_eq!((world.wishes["{a}1"], world.unheard), (Wish::Yes, 0));
    // What it has now is taken away: told once, whatever number of channels it were.
    world.change_wish("{a}2");
    world.serves(2);
    world.hears_all(2);
    world.owner.insert(slot, 3);
    world.learns(2);
    world.hears_all(2);
    assert!(world.router.takes_doubt());
    world.told();
    world.turn();
    assert_eq!(world.unheard, 1);
    world.serves(3);
    world.hears_all(3);
    assert!(world.nodes[&3].subscribed.contains("{a}1") && world.nodes[&3].subscribed.contains("{a}2"));
}

impl World {
    fn hears_all(&mut self, port: u16) {
        while let Some(incoming) = self.node(port).answers.pop_front() {
            self.hears(port, incoming);
        }
    }
}
