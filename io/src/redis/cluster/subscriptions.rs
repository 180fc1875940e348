//! Which slots of a cluster are heard where: the subscriptions of sharded Pub/Sub, each at the primary of its slot.
//!
//! On a core's thread, without connections: it is told what nodes say, and says what to send. Invariants: the subscriptions
//! of a slot are at one node, and what another one sends is passed on only until the first of them is confirmed, so that
//! nothing comes twice; when those of a slot are lost (the connection is gone, the slot has moved, or the node has ended
//! them), the owner is told as soon as it can ask for them anew (`Event::Unheard`). Must never keep what could not be
//! sent for longer than its deadline.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use super::map::slot_of;
use super::nodes::Link;
use super::redirection::{self, Says};
use super::router::Router;
use crate::limits::{REDIS_IN_FLIGHT_MAX, REDIS_REDIRECTIONS_MAX};
use crate::redis::{Endpoint, Event, Incoming, Reply, SendError};

/// See the module.
#[derive(Default)]
pub(super) struct Subscriptions {
    /// Those that were ever subscribed to.
    slots: BTreeMap<u16, Hears>,
    /// Of the connections for messages, by number of the node. None: there is no connection.
    links: Vec<Option<Link>>,
    /// What is not answered, by number, in the order in which it was asked.
    asks: HashMap<u64, Ask>,
    next: u64,
    /// Those of them that are not sent.
    waiting: BTreeSet<u64>,
    outgoing: VecDeque<(u16, u64)>,
    /// Channels whose end was asked for.
    ending: HashSet<Box<[u8]>>,
    /// How often slots had moved when this was last looked at.
    moves: u64,
    /// There may be something to be done in the next turn.
    is_stirred: bool,
}

/// What is heard of a slot.
#[derive(Default)]
struct Hears {
    /// Where.
    at: Option<u16>,
    /// Where before.
    before: Option<u16>,
    /// Something was confirmed there.
    is_heard: bool,
    /// What was subscribed to is not any more, and the owner does not know.
    is_lost: bool,
}

impl Hears {
    fn lose(&mut self) {
        self.before = self.at.take().or(self.before);
        (self.is_heard, self.is_lost) = (false, true);
    }
}

/// Channels of one slot that are to be subscribed to, or no more.
pub(super) struct Ask {
    token: u64,
    slot: u16,
    pub(super) names: Box<[Box<[u8]>]>,
    pub(super) begins: bool,
    deadline_ms: u64,
    redirections: u8,
}

impl Subscriptions {
    pub(super) fn in_flight(&self) -> usize {
        self.asks.len()
    }

    pub(super) fn link(&self, node: u16) -> Option<Link> {
        *self.links.get(usize::from(node))?
    }

    /// What has become of the connection to a node; what it had under way was handed back before.
    pub(super) fn link_is(&mut self, node: u16, link: Option<Link>) {
        let place = usize::from(node);
        if self.links.len() <= place {
            self.links.resize(place + 1, None);
        }
        self.links[place] = link;
        self.is_stirred = true;
        if link == Some(Link::Up) {
            return;
        }
        for hears in self.slots.values_mut() {
            if hears.at == Some(node) {
                hears.lose();
            }
            hears.before = hears.before.filter(|before| *before != node);
        }
    }

    /// Takes channels, all of one slot. They are to be sent at once, or wait here.
    pub(super) fn accept(
        &mut self,
        token: u64,
        deadline_ms: u64,
        channels: &[&[u8]],
        begins: bool,
        router: &Router,
    ) -> Result<Option<(u16, u64)>, SendError> {
        let slot = slot_of(channels.first().ok_or(SendError::NoChannels)?);
        debug_assert!(channels.iter().all(|channel| slot_of(channel) == slot), "a node refuses those of several slots");
        if self.asks.len() >= REDIS_IN_FLIGHT_MAX {
            return Err(SendError::Full);
        }
        let primary = router.slots()[slot].primary;
        let link = self.link(primary);
        let hears = self.slots.entry(slot).or_default();
        if hears.at.is_none() {
            match link {
                Some(Link::Up) if !hears.is_lost && self.waiting.is_empty() => hears.at = Some(primary),
                Some(Link::Up | Link::New) => self.is_stirred = true,
                Some(Link::Down) | None => return Err(SendError::Failed),
            }
        }
        let at = hears.at;
        let number = self.next;
        self.next += 1;
        if !begins {
            self.ending.extend(channels.iter().map(|channel| Box::from(*channel)));
        }
        let names = channels.iter().map(|channel| Box::from(*channel)).collect();
        self.asks.insert(number, Ask { token, slot, names, begins, deadline_ms, redirections: 0 });
        if at.is_none() {
            self.waiting.insert(number);
        }
        Ok(at.map(|node| (node, number)))
    }

    /// What `accept` wanted to be sent at once could not be, and the owner will know without an event.
    pub(super) fn withdraw(&mut self, number: u64) {
        self.forget(number);
    }

    pub(super) fn ask(&self, number: u64) -> Option<&Ask> {
        self.asks.get(&number)
    }

    /// The next of what is to be sent, by node and number.
    pub(super) fn next_outgoing(&mut self) -> Option<(u16, u64)> {
        self.outgoing.pop_front()
    }

    /// A node says something.
    pub(super) fn heard(
        &mut self,
        (node, from): (u16, &Endpoint),
        incoming: Incoming,
        router: &mut Router,
        events: &mut impl FnMut(Event),
    ) {
        match incoming {
            Incoming::Reply { token, reply } => self.answered((node, from), token, reply, router, events),
            Incoming::Failed { token, sent, .. } => self.failed(token, sent, events),
            Incoming::Message { channel, payload, .. } => {
                let Some(hears) = self.slots.get(&slot_of(&channel)) else { return };
                if hears.at == Some(node) || (hears.before == Some(node) && !hears.is_heard) {
                    events(Event::Message(channel, payload));
                }
            }
            Incoming::Subscribed { channel, .. } => self.confirmed(slot_of(&channel), node),
            Incoming::Unsubscribed { channel, .. } => {
                let slot = slot_of(&channel);
                let Some(hears) = self.slots.get_mut(&slot).filter(|hears| hears.at == Some(node)) else { return };
                if !self.ending.contains(&*channel) {
                    // The slot has moved away. Where to says the next answer, if not a new map.
                    hears.lose();
                    self.is_stirred = true;
                    router.is_elsewhere(slot, None);
                }
            }
        }
    }

    /// It could not be sent, or was lost with its connection.
    pub(super) fn failed(&mut self, number: u64, was_sent: bool, events: &mut impl FnMut(Event)) {
        if let Some(ask) = self.forget(number) {
            events(Event::Failed(ask.token, was_sent));
        }
    }

    /// Once per turn, and after a node has said something.
    pub(super) fn turn(&mut self, now_ms: u64, router: &Router, events: &mut impl FnMut(Event)) {
        let is_due = |number: &&u64| self.asks.get(number).is_none_or(|ask| ask.deadline_ms <= now_ms);
        let overdue: Vec<u64> = self.waiting.iter().filter(is_due).copied().collect();
        for number in overdue {
            self.waiting.remove(&number);
            self.failed(number, false, events);
        }
        let moves = router.slots().moves();
        if !std::mem::take(&mut self.is_stirred) && self.moves == moves {
            return;
        }
        self.moves = moves;
        for (slot, hears) in &mut self.slots {
            let primary = router.slots()[*slot].primary;
            if hears.at.is_some_and(|at| at != primary) {
                hears.lose();
            }
            if hears.at.is_none() && self.links.get(usize::from(primary)) == Some(&Some(Link::Up)) {
                hears.at = Some(primary);
            }
            if hears.at.is_some() && std::mem::take(&mut hears.is_lost) {
                events(Event::Unheard(*slot));
            }
        }
        let slots = &self.slots;
        let place = |number: &u64| slots.get(&self.asks.get(number)?.slot)?.at;
        self.outgoing.extend(self.waiting.iter().filter_map(|number| Some((place(number)?, *number))));
        self.waiting.retain(|number| place(number).is_none());
    }

    /// When to call `turn` at the latest.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.waiting.iter().filter_map(|number| self.asks.get(number)).map(|ask| ask.deadline_ms).min()
    }

    fn answered(
        &mut self,
        (node, from): (u16, &Endpoint),
        number: u64,
        reply: Reply,
        router: &mut Router,
        events: &mut impl FnMut(Event),
    ) {
        let Some(ask) = self.asks.get_mut(&number) else { return };
        let (token, slot, begins) = (ask.token, ask.slot, ask.begins);
        let says = match &reply {
            Reply::Error(error) => redirection::read(error, slot, from, router.nodes()),
            _ => Says::Nothing,
        };
        let is_refused = matches!(reply, Reply::Error(_));
        let mut reply = reply;
        match says {
            Says::Moved(to) => {
                router.is_elsewhere(slot, Some(&to));
                self.is_stirred = true;
                if let Some(hears) = self.slots.get_mut(&slot).filter(|hears| hears.at == Some(node)) {
                    let was_lost = hears.is_lost || hears.is_heard;
                    hears.lose();
                    // Who has only asked gets the answer from the other node.
                    hears.is_lost = was_lost;
                }
                if begins && ask.redirections < REDIS_REDIRECTIONS_MAX {
                    ask.redirections += 1;
                    self.waiting.insert(number);
                    return;
                }
                if !begins {
                    // It has ended with all others of the slot.
                    reply = Reply::Int(0);
                }
            }
            Says::Doubtful | Says::Ask(_) => router.is_elsewhere(slot, None),
            Says::Later | Says::NoScript | Says::Nothing => {}
        }
        self.forget(number);
        if begins && !is_refused {
            self.confirmed(slot, node);
        }
        events(Event::Reply(token, reply));
    }

    fn forget(&mut self, number: u64) -> Option<Ask> {
        let ask = self.asks.remove(&number)?;
        if !ask.begins {
            ask.names.iter().for_each(|name| _ = self.ending.remove(name));
        }
        Some(ask)
    }

    /// Something of a slot is heard at a node.
    fn confirmed(&mut self, slot: u16, node: u16) {
        let Some(hears) = self.slots.get_mut(&slot) else { return };
        match hears.at == Some(node) {
            true => hears.is_heard = true,
            // Asked for before the slot moved: it counts for nothing.
            false => (hears.is_lost, self.is_stirred) = (true, true),
        }
    }
}
