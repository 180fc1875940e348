//! Where each command of a cluster goes, and when: by slot, through redirections, in order.
//!
//! On a core's thread, without connections: it is told what nodes answer and says what to send (`outgoing`). Invariants:
//! all commands of a slot that are under way are at one node; while some are there that may not stay there (redirected, or
//! the slot has moved), newer ones of the slot wait here behind them; so commands about a slot have their effects in
//! the order in which they were made. After a redirection the oldest goes first and alone, to see whether the node agrees.
//! Must never wait for longer than a command's deadline, counted from when it was made.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::commands::{Commands, Kept};
use super::map::{SLOTS, SlotMap};
use super::nodes::{Link, NO_NODE, Nodes};
use super::redirection::{self, Says};
use super::slots::{Outgoing, Queue, Slot, Slots};
use crate::limits::{REDIS_REDIRECTIONS_MAX, REDIS_SLOT_WAITING_MAX, REDIS_TRY_AGAIN_MS};
use crate::redis::{Endpoint, Event, Reply, Script, SendError};

/// See the module.
pub(super) struct Router {
    told: Arc<SlotMap>,
    nodes: Nodes,
    slots: Slots,
    commands: Commands,
    /// Of slots that are not at rest; usually there are none.
    queues: BTreeMap<u16, Queue>,
    /// Deadlines of commands that have waited, or were sent more than once.
    watched: BTreeSet<(u64, u32)>,
    outgoing: VecDeque<Outgoing>,
    has_doubt: bool,
}

impl Router {
    pub(super) fn new(told: Arc<SlotMap>) -> Self {
        let mut router = Self {
            told: Arc::clone(&told),
            nodes: Nodes::default(),
            slots: Slots::default(),
            commands: Commands::default(),
            queues: BTreeMap::new(),
            watched: BTreeSet::new(),
            outgoing: VecDeque::new(),
            has_doubt: false,
        };
        router.follow(&told);
        router
    }

    pub(super) fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    pub(super) fn told(&self) -> &Arc<SlotMap> {
        &self.told
    }

    pub(super) fn command(&self, place: u32) -> Option<&Kept> {
        self.commands.at(place)
    }

    pub(super) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// A node says, to something else than a command, that it does not have a slot, and perhaps who does.
    pub(super) fn is_elsewhere(&mut self, slot: u16, at: Option<&Endpoint>) {
        self.has_doubt = true;
        let node = at.map_or(NO_NODE, |endpoint| self.nodes.take_up_named(endpoint));
        if node != NO_NODE {
            self.slots.move_to(slot, node);
        }
    }

    /// The next command to be sent, if it can be.
    pub(super) fn next_outgoing(&mut self) -> Option<Outgoing> {
        self.outgoing.pop_front()
    }

    /// Commands that are not answered.
    pub(super) fn in_flight(&self) -> usize {
        self.commands.len()
    }

    pub(super) fn takes_doubt(&mut self) -> bool {
        std::mem::take(&mut self.has_doubt)
    }

    /// Takes a command. It is to be sent at once, or waits here.
    pub(super) fn accept(
        &mut self,
        token: u64,
        slot: u16,
        deadline_ms: u64,
        script: Option<(&'static Script, u32)>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Option<Outgoing>, SendError> {
        let Slot { in_flight, at, primary } = self.slots[slot];
        let link = self.nodes.link(primary);
        let waiting = if self.queues.is_empty() { None } else { self.queues.get(&slot) };
        let is_moving = waiting.is_some() || (in_flight > 0 && at != primary);
        match link {
            Some(Link::Up | Link::New) => {}
            Some(Link::Down) | None => {
                self.has_doubt |= link.is_none();
                return Err(SendError::Failed);
            }
        }
        if waiting.is_some_and(|queue| queue.waiting.len() >= REDIS_SLOT_WAITING_MAX) {
            return Err(SendError::Full);
        }
        let place = self.commands.add(token, slot, deadline_ms, script, write)?;
        if is_moving || link == Some(Link::New) {
            self.wait(place);
            return Ok(None);
        }
        let slot = &mut self.slots[slot];
        slot.in_flight += 1;
        slot.at = primary;
        Ok(Some(Outgoing { node: primary, asking: false, place }))
    }

    /// A command that `accept` wanted to be sent at once could not be, and the caller will know without an event.
    pub(super) fn withdraw(&mut self, place: u32) {
        if let Some(kept) = self.commands.at(place) {
            self.slots[kept.slot].in_flight -= 1;
            self.remove(place);
        }
    }

    /// A command has an answer.
    pub(super) fn answered(&mut self, place: u32, reply: Reply, now_ms: u64, events: &mut impl FnMut(Event)) {
        let Some(kept) = self.commands.at(place) else { return };
        let slot = kept.slot;
        self.slots[slot].in_flight -= 1;
        let was_tried_alone = kept.is_alone && kept.asking.is_none();
        let is_again = match &reply {
            Reply::Error(error) => {
                let at = self.slots[slot].at;
                let from = self.nodes.endpoint(at);
                let says = from.map_or(Says::Nothing, |from| redirection::read(error, slot, from, &self.nodes));
                self.is_again(place, says, now_ms)
            }
            _ => false,
        };
        if is_again {
            self.wait(place);
            self.queues.entry(slot).or_default().one_by_one = true;
        } else {
            self.finish(place, |token| Event::Reply(token, reply), events);
            if was_tried_alone && let Some(queue) = self.queues.get_mut(&slot) {
                queue.one_by_one = false;
            }
        }
        self.pump(slot, now_ms, events);
    }

    /// A command was lost with its connection, or could not be sent.
    pub(super) fn failed(&mut self, place: u32, was_sent: bool, now_ms: u64, events: &mut impl FnMut(Event)) {
        let Some(slot) = self.commands.at(place).map(|kept| kept.slot) else { return };
        self.slots[slot].in_flight -= 1;
        self.finish(place, |token| Event::Failed(token, was_sent), events);
        self.pump(slot, now_ms, events);
    }

    /// A node takes commands.
    pub(super) fn up(&mut self, node: u16, now_ms: u64, events: &mut impl FnMut(Event)) {
        self.nodes.set_link(node, Link::Up);
        self.pump_all(now_ms, events);
    }

    /// A node takes commands no more; those it had were handed back before. True: it is none of the nodes that there are
    /// said to be, and is forgotten.
    pub(super) fn down(&mut self, node: u16, now_ms: u64, events: &mut impl FnMut(Event)) -> bool {
        self.nodes.set_link(node, Link::Down);
        self.has_doubt = true;
        let is_told = self.nodes.endpoint(node).is_some_and(|endpoint| self.told.primaries().contains(endpoint));
        if !is_told {
            // A redirection led there, and to nothing. What the cluster said as a whole is the better guess.
            for slot in self.slots.of(node) {
                let told = self.told.primary_of(slot);
                self.slots.move_to(slot, told.map_or(NO_NODE, |endpoint| self.nodes.take_up(endpoint)));
            }
            self.ask_no_more(&[node]);
            self.nodes.remove(node);
        }
        self.pump_all(now_ms, events);
        !is_told
    }

    /// Takes up a new map. The nodes that are not in it any more are returned: their connections are to be ended, and then
    /// they are `gone`.
    pub(super) fn map_is(&mut self, told: Arc<SlotMap>) -> Vec<u16> {
        let gone = self.follow(&told);
        self.told = told;
        for node in &gone {
            self.nodes.set_link(*node, Link::Down);
        }
        gone
    }

    /// What was under way to these nodes has been handed back.
    pub(super) fn gone(&mut self, nodes: &[u16], now_ms: u64, events: &mut impl FnMut(Event)) {
        for node in nodes {
            self.nodes.remove(*node);
        }
        self.pump_all(now_ms, events);
    }

    /// Once per turn: what is overdue fails, what is to be tried again is.
    pub(super) fn turn(&mut self, now_ms: u64, events: &mut impl FnMut(Event)) {
        while let Some(&(deadline_ms, place)) = self.watched.first()
            && deadline_ms <= now_ms
        {
            self.watched.pop_first();
            self.overdue(place, events);
        }
        self.pump_all(now_ms, events);
    }

    /// When to call `turn` at the latest.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let overdue_ms = self.watched.first().map(|(deadline_ms, _)| *deadline_ms);
        let waits = |queue: &&Queue| queue.not_before_ms > 0 && !queue.waiting.is_empty();
        let again_ms = self.queues.values().filter(waits).map(|queue| queue.not_before_ms).min();
        overdue_ms.into_iter().chain(again_ms).min()
    }

    /// Each slot goes where the map says; nodes that are new to us are made. Returns those that have no slot in it.
    fn follow(&mut self, map: &SlotMap) -> Vec<u16> {
        let is_gone = |(_, endpoint, _): &(u16, &Endpoint, Link)| !map.primaries().contains(endpoint);
        let gone: Vec<u16> = self.nodes.iter().filter(is_gone).map(|(number, ..)| number).collect();
        let places: Vec<u16> = map.primaries().iter().map(|endpoint| self.nodes.take_up(endpoint)).collect();
        for slot in 0..SLOTS {
            self.slots.move_to(slot, map.place_of(slot).map_or(NO_NODE, |place| places[place]));
        }
        self.ask_no_more(&gone);
        gone
    }

    /// These nodes are none any more: what waits to be asked of them begins anew.
    fn ask_no_more(&mut self, nodes: &[u16]) {
        for queue in self.queues.values() {
            for place in &queue.waiting {
                if let Some(kept) = self.commands.at_mut(*place) {
                    kept.asking = kept.asking.filter(|node| !nodes.contains(node));
                }
            }
        }
    }

    /// Whether a command is to be sent once more, after what a node said to it; where to is noted.
    fn is_again(&mut self, place: u32, says: Says, now_ms: u64) -> bool {
        let Some(kept) = self.commands.at_mut(place) else { return false };
        let is_too_often = kept.redirections >= REDIS_REDIRECTIONS_MAX;
        let (is_ask, endpoint) = match says {
            Says::Nothing => return false,
            Says::Doubtful => {
                self.has_doubt = true;
                return false;
            }
            Says::NoScript => {
                let is_known = std::mem::replace(&mut kept.by_text, true);
                return kept.script.is_some() && !is_known && !kept.abandoned;
            }
            Says::Later => {
                // A slot may take long to move. The deadline bounds this.
                (kept.asking, kept.redirections) = (None, 0);
                let is_again = !kept.abandoned;
                let slot = kept.slot;
                if is_again {
                    self.queues.entry(slot).or_default().not_before_ms = now_ms + REDIS_TRY_AGAIN_MS;
                }
                return is_again;
            }
            Says::Moved(endpoint) => (false, endpoint),
            Says::Ask(endpoint) => (true, endpoint),
        };
        self.has_doubt |= !is_ask;
        let node = self.nodes.take_up_named(&endpoint);
        if node == NO_NODE {
            self.has_doubt = true;
            return false;
        }
        kept.asking = is_ask.then_some(node);
        kept.redirections += 1;
        if !is_ask {
            self.slots.move_to(kept.slot, node);
        }
        !is_too_often && !kept.abandoned
    }

    /// Puts a command where it belongs among those of its slot that wait.
    fn wait(&mut self, place: u32) {
        let Some(kept) = self.commands.at_mut(place) else { return };
        kept.waits = true;
        if !std::mem::replace(&mut kept.watched, true) {
            self.watched.insert((kept.deadline_ms, place));
        }
        let (slot, sequence) = (kept.slot, kept.sequence);
        let queue = self.queues.entry(slot).or_default();
        let index = queue.waiting.partition_point(|other| self.commands.is_older(*other, sequence));
        queue.waiting.insert(index, place);
    }

    fn overdue(&mut self, place: u32, events: &mut impl FnMut(Event)) {
        let Some(kept) = self.commands.at_mut(place) else { return };
        kept.watched = false;
        if !kept.waits {
            kept.abandoned = true;
            return events(Event::Failed(kept.token, true));
        }
        let (slot, sequence) = (kept.slot, kept.sequence);
        if let Some(queue) = self.queues.get_mut(&slot) {
            let index = queue.waiting.partition_point(|other| self.commands.is_older(*other, sequence));
            queue.waiting.remove(index);
        }
        self.finish(place, |token| Event::Failed(token, false), events);
    }

    fn pump_all(&mut self, now_ms: u64, events: &mut impl FnMut(Event)) {
        let slots: Vec<u16> = self.queues.keys().copied().collect();
        for slot in slots {
            self.pump(slot, now_ms, events);
        }
    }

    /// Sends what may be sent of the commands of a slot that wait.
    fn pump(&mut self, number: u16, now_ms: u64, events: &mut impl FnMut(Event)) {
        if self.queues.is_empty() || self.slots[number].in_flight > 0 {
            return;
        }
        let Some(mut queue) = self.queues.remove(&number) else { return };
        if queue.not_before_ms > now_ms {
            self.queues.insert(number, queue);
            return;
        }
        queue.not_before_ms = 0;
        let Slot { primary, .. } = self.slots[number];
        let mut was_by_text = true;
        while let Some(&place) = queue.waiting.front() {
            let (asking, by_text) = self.commands.at(place).map_or((None, false), |kept| (kept.asking, kept.by_text));
            let node = asking.unwrap_or(primary);
            let Slot { in_flight, at, .. } = self.slots[number];
            // A call by text behind one by digest would make a script known too late for the latter.
            let is_apart = at != node || queue.one_by_one || (by_text && !was_by_text);
            match self.nodes.link(node) {
                Some(Link::New) => break,
                Some(Link::Up) if in_flight > 0 && is_apart => break,
                Some(Link::Up) => {
                    let slot = &mut self.slots[number];
                    (slot.in_flight, slot.at) = (slot.in_flight + 1, node);
                    if let Some(kept) = self.commands.at_mut(place) {
                        (kept.waits, kept.is_alone) = (false, queue.one_by_one);
                    }
                    self.outgoing.push_back(Outgoing { node, asking: asking.is_some(), place });
                }
                Some(Link::Down) | None => self.finish(place, |token| Event::Failed(token, false), events),
            }
            was_by_text = by_text;
            queue.waiting.pop_front();
        }
        let is_watched = queue.one_by_one && self.slots[number].in_flight > 0;
        if !queue.waiting.is_empty() || is_watched {
            self.queues.insert(number, queue);
        }
    }

    /// Tells the caller, who is told once, and forgets the command.
    fn finish(&mut self, place: u32, event: impl FnOnce(u64) -> Event, events: &mut impl FnMut(Event)) {
        let Some(kept) = self.commands.at(place) else { return };
        if !kept.abandoned {
            events(event(kept.token));
        }
        self.remove(place);
    }

    fn remove(&mut self, place: u32) {
        if let Some(kept) = self.commands.at(place).filter(|kept| kept.watched) {
            self.watched.remove(&(kept.deadline_ms, place));
        }
        self.commands.remove(place);
    }
}
