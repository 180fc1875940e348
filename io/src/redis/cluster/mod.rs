//! Redis Cluster, as a core speaks to it: a lane for commands to each primary, and one for messages to one of them, since
//! what is published at any node of a cluster reaches all. What is published in a slot (sharded Pub/Sub) is heard at its
//! primary only, on lanes of their own (`messages`).
//!
//! On a core's thread. `map` says which primary has which slot, and is found out elsewhere; `router` decides what is sent
//! where and when; here it meets the driver. A redirection is followed at once and raises doubt about the map.
//! Must never send a command that may have had an effect once more: only what a node has refused goes elsewhere.

use std::sync::Arc;
use std::time::Duration;

use gyre_proto::ids::ConnId;

use super::client::{Event, NOBODY, event};
use super::command::Command;
use super::connection::{Incoming, SendError};
use super::lane::{Endpoint, Lane, Told, Use};
use super::script::Script;
use super::shard::{Messages, ShardOptions};
use super::wire::Wire;
use crate::driver::{Closed, Driver};

mod commands;
mod map;
mod messages;
mod nodes;
mod redirection;
mod router;
mod slots;
mod subscriptions;
#[cfg(test)]
mod tests;

pub use map::{SLOTS, SlotMap, SlotMapError, slot_of};

use messages::SlotMessages;
use nodes::Link;
use router::Router;
use slots::Outgoing;

/// See the module.
pub(super) struct Cluster {
    options: ShardOptions,
    router: Router,
    /// By number of the node.
    commands: Vec<Option<Lane>>,
    messages: Lane,
    /// Whom `messages` is to. None: there is nobody.
    messages_at: Option<Endpoint>,
    /// With sharded Pub/Sub.
    of_slots: Option<SlotMessages>,
}

impl Cluster {
    pub(super) fn new(options: ShardOptions, map: Arc<SlotMap>) -> Self {
        let messages_at = chosen(&map, &options);
        let messages = Lane::new(options.seed.rotate_left(32), Arc::clone(&options.outages));
        let of_slots = (options.messages == Messages::Slots).then(SlotMessages::default);
        Self { options, router: Router::new(map), commands: Vec::new(), messages, messages_at, of_slots }
    }

    pub(super) fn has(&self, conn: ConnId) -> bool {
        let is_of_slots = || self.of_slots.as_ref().is_some_and(|of_slots| of_slots.has(conn));
        self.messages.has(conn) || self.commands.iter().flatten().any(|lane| lane.has(conn)) || is_of_slots()
    }

    /// Of commands and messages of slots: whether all primaries are connected.
    pub(super) fn is_up(&self, what: Use) -> bool {
        match what {
            Use::Messages => self.messages.is_up() || self.options.messages == Messages::None,
            Use::SlotMessages => self.of_slots.as_ref().is_none_or(|of_slots| of_slots.is_up(&self.router)),
            Use::Commands => {
                let mut nodes = self.router.nodes().iter().peekable();
                nodes.peek().is_some() && nodes.all(|(_, _, link)| link == Link::Up)
            }
        }
    }

    pub(super) fn takes_commands_of(&self, slot: u16) -> bool {
        self.router.nodes().link(self.router.slots()[slot].primary) == Some(Link::Up)
    }

    pub(super) fn takes_commands(&self) -> bool {
        self.router.nodes().iter().any(|(_, _, link)| link == Link::Up)
    }

    /// Makes the connection for messages anew, to another node if there is one.
    pub(super) fn restart_messages(&mut self, driver: &mut Driver, events: &mut impl FnMut(Event)) {
        self.messages.end(driver, &mut |told| events(event(Use::Messages, told)));
        self.messages = Lane::new(self.options.seed ^ driver.now_ms(), Arc::clone(&self.options.outages));
        self.look_for_another(true);
    }

    pub(super) fn connections(&self) -> usize {
        let lanes = self.commands.iter().flatten().chain([&self.messages]);
        let of_slots = self.of_slots.as_ref().map_or(0, SlotMessages::connections);
        lanes.filter(|lane| lane.has_connection()).count() + of_slots
    }

    pub(super) fn in_flight(&self) -> usize {
        let of_slots = self.of_slots.as_ref().map_or(0, SlotMessages::in_flight);
        self.router.in_flight() + self.messages.in_flight() + of_slots
    }

    /// Sends a command about a key, or keeps it until it can be. `script`: what `write` writes are its arguments, of that
    /// number.
    pub(super) fn send(
        &mut self,
        token: u64,
        now_ms: u64,
        key: &[u8],
        script: Option<(&'static Script, u32)>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), SendError> {
        let deadline_ms = now_ms + self.options.handshake.io_timeout_ms;
        let Some(outgoing) = self.router.accept(token, slot_of(key), deadline_ms, script, write)? else {
            return Ok(());
        };
        let sent = self.pass_on(outgoing, now_ms);
        if sent.is_err() {
            self.router.withdraw(outgoing.place);
        }
        sent
    }

    pub(super) fn subscribe(&mut self, token: u64, now_ms: u64, channels: &[&[u8]]) -> Result<(), SendError> {
        let deadline_ms = now_ms + self.options.handshake.io_timeout_ms;
        self.messages.open().ok_or(SendError::Failed)?.subscribe(token, channels, false, deadline_ms)
    }

    pub(super) fn unsubscribe(&mut self, token: u64, now_ms: u64, channels: &[&[u8]]) -> Result<(), SendError> {
        let deadline_ms = now_ms + self.options.handshake.io_timeout_ms;
        self.messages.open().ok_or(SendError::Failed)?.unsubscribe(token, channels, false, deadline_ms)
    }

    /// Begins or ends the subscriptions to channels of one slot.
    pub(super) fn ask_slot(
        &mut self,
        token: u64,
        now_ms: u64,
        channels: &[&[u8]],
        begins: bool,
    ) -> Result<(), SendError> {
        let deadline_ms = now_ms + self.options.handshake.io_timeout_ms;
        let of_slots = self.of_slots.as_mut().ok_or(SendError::Failed)?;
        of_slots.ask(token, deadline_ms, channels, begins, &self.router)
    }

    pub(super) fn takes_doubt(&mut self) -> bool {
        self.router.takes_doubt()
    }

    /// Takes up a new map. Nodes that are in both notice nothing of it.
    pub(super) fn map_is(&mut self, driver: &mut Driver, map: Arc<SlotMap>, events: &mut impl FnMut(Event)) {
        if *map == **self.router.told() {
            return;
        }
        let now_ms = driver.now_ms();
        let is_left = self.messages_at.as_ref().is_none_or(|at| !map.primaries().contains(at));
        let gone = self.router.map_is(Arc::clone(&map));
        for node in &gone {
            self.end_node(driver, *node, events);
        }
        self.router.gone(&gone, now_ms, events);
        if let Some(of_slots) = &mut self.of_slots {
            of_slots.retire(driver, &mut self.router, events);
        }
        if is_left {
            self.messages.end(driver, &mut |told| events(event(Use::Messages, told)));
            self.messages = Lane::new(self.options.seed.rotate_left(32) ^ now_ms, Arc::clone(&self.options.outages));
            self.messages_at = chosen(&map, &self.options);
        }
        self.pass_all_on(now_ms, events);
    }

    /// Gives up all connections.
    pub(super) fn end(&mut self, driver: &mut Driver, events: &mut impl FnMut(Event)) {
        self.map_is(driver, Arc::new(SlotMap::default()), events);
    }

    pub(super) fn turn(&mut self, driver: &mut Driver, events: &mut impl FnMut(Event)) {
        let now_ms = driver.now_ms();
        // Those of the map, and those that redirections have named since the last turn.
        self.meet();
        for number in 0..self.commands.len() {
            let connect_timeout_ms = self.options.connect_timeout_ms;
            self.with_lane(number, now_ms, events, |lane, endpoint, tell| {
                lane.turn(driver, endpoint, connect_timeout_ms, tell);
            });
        }
        if let Some(at) = self.messages_at.clone() {
            let mut is_down = false;
            let timeout_ms = self.options.connect_timeout_ms;
            self.messages.turn(driver, &at, timeout_ms, &mut telling(&mut is_down, events));
            self.look_for_another(is_down);
        }
        if let Some(of_slots) = &mut self.of_slots {
            of_slots.turn(driver, &mut self.router, &self.options, events);
        }
        self.router.turn(now_ms, events);
        self.pass_all_on(now_ms, events);
        if let Some(at_ms) = self.router.next_ms() {
            driver.wake_within(Duration::from_millis(at_ms.saturating_sub(now_ms)));
        }
    }

    pub(super) fn dialled(&mut self, driver: &mut Driver, conn: ConnId) {
        if let Some(of_slots) = self.of_slots.as_mut().filter(|of_slots| of_slots.has(conn)) {
            return of_slots.dialled(driver, conn, &self.options);
        }
        let (lane, endpoint) = if self.messages.has(conn) {
            (Some(&mut self.messages), self.messages_at.as_ref())
        } else {
            let number = self.number_of(conn).unwrap_or(usize::MAX);
            let lane = self.commands.get_mut(number).and_then(Option::as_mut);
            (lane, self.router.nodes().endpoint(number as u16))
        };
        if let (Some(lane), Some(endpoint)) = (lane, endpoint) {
            let handshake = self.options.handshake.clone();
            lane.dialled(conn, Wire::new(handshake, driver.now_ms(), self.options.tls.as_ref(), endpoint));
        }
    }

    pub(super) fn bytes(&mut self, driver: &mut Driver, conn: ConnId, data: &[u8], events: &mut impl FnMut(Event)) {
        let now_ms = driver.now_ms();
        if self.messages.has(conn) {
            let Some(at) = self.messages_at.clone() else { return };
            let mut is_down = false;
            self.messages.bytes(driver, &at, data, &mut telling(&mut is_down, events));
            return self.look_for_another(is_down);
        }
        if let Some(of_slots) = self.of_slots.as_mut().filter(|of_slots| of_slots.has(conn)) {
            return of_slots.bytes(driver, conn, data, &mut self.router, events);
        }
        let Some(number) = self.number_of(conn) else { return };
        self.with_lane(number, now_ms, events, |lane, endpoint, tell| lane.bytes(driver, endpoint, data, tell));
        self.pass_all_on(now_ms, events);
    }

    pub(super) fn closed(&mut self, driver: &mut Driver, conn: ConnId, why: Closed, events: &mut impl FnMut(Event)) {
        let now_ms = driver.now_ms();
        if self.messages.has(conn) {
            let Some(at) = self.messages_at.clone() else { return };
            let mut is_down = false;
            self.messages.closed(&at, why, now_ms, &mut telling(&mut is_down, events));
            return self.look_for_another(is_down);
        }
        if let Some(of_slots) = self.of_slots.as_mut().filter(|of_slots| of_slots.has(conn)) {
            return of_slots.closed(driver, conn, why, &mut self.router, events);
        }
        let Some(number) = self.number_of(conn) else { return };
        self.with_lane(number, now_ms, events, |lane, endpoint, tell| lane.closed(endpoint, why, now_ms, tell));
        self.pass_all_on(now_ms, events);
        // The slots of a node that is forgotten go back to one that may have no lane yet.
        driver.wake_within(Duration::ZERO);
    }

    pub(super) fn flush(&mut self, driver: &mut Driver) {
        self.commands.iter_mut().flatten().for_each(|lane| lane.flush(driver));
        self.messages.flush(driver);
        if let Some(of_slots) = &mut self.of_slots {
            of_slots.flush(driver);
        }
    }

    /// Sends what the router wants to be sent.
    fn pass_all_on(&mut self, now_ms: u64, events: &mut impl FnMut(Event)) {
        while let Some(outgoing) = self.router.next_outgoing() {
            if self.pass_on(outgoing, now_ms).is_err() {
                self.router.failed(outgoing.place, false, now_ms, events);
            }
        }
    }

    fn pass_on(&mut self, outgoing: Outgoing, now_ms: u64) -> Result<(), SendError> {
        let Outgoing { node, asking, place } = outgoing;
        let lane = self.commands.get_mut(usize::from(node)).and_then(Option::as_mut);
        let connection = lane.and_then(Lane::open).ok_or(SendError::Failed)?;
        let kept = self.router.command(place).ok_or(SendError::Failed)?;
        // The connection is given its full time; the command's own, if it was sent before, is watched by the router.
        let deadline_ms = now_ms + self.options.handshake.io_timeout_ms;
        if asking {
            connection.send(NOBODY, deadline_ms, |out| _ = Command::new(out, 1).arg(b"ASKING"))?;
        }
        connection.send(u64::from(place), deadline_ms, |out| kept.write(out))
    }

    /// Each node has a lane.
    fn meet(&mut self) {
        for (number, ..) in self.router.nodes().iter() {
            let place = usize::from(number);
            if self.commands.len() <= place {
                self.commands.resize_with(place + 1, || None);
            }
            self.commands[place].get_or_insert_with(|| {
                Lane::new(self.options.seed.rotate_left(u32::from(number)), Arc::clone(&self.options.outages))
            });
        }
    }

    fn number_of(&self, conn: ConnId) -> Option<usize> {
        self.commands.iter().position(|lane| lane.as_ref().is_some_and(|lane| lane.has(conn)))
    }

    /// Does something with the lane of a node, and with what it has to tell. A node that is new, or was a replica, knows no
    /// script: it gets all of them before the first call, since a call that is refused is overtaken by those behind it.
    fn with_lane(
        &mut self,
        number: usize,
        now_ms: u64,
        events: &mut impl FnMut(Event),
        act: impl FnOnce(&mut Lane, &Endpoint, &mut &mut dyn FnMut(Told)),
    ) {
        let Some(Some(lane)) = self.commands.get_mut(number) else { return };
        let node = number as u16;
        let Some(endpoint) = self.router.nodes().endpoint(node).cloned() else { return };
        let router = &mut self.router;
        let (mut is_up, mut is_forgotten) = (false, false);
        let mut tell: &mut dyn FnMut(Told) = &mut |told| match told {
            Told::Up => {
                is_up = true;
                router.up(node, now_ms, events);
                events(Event::Up(Use::Commands));
            }
            Told::Down => {
                is_forgotten = router.down(node, now_ms, events);
                events(Event::Down(Use::Commands));
            }
            Told::Heard(incoming) => heard(router, incoming, now_ms, events),
        };
        act(lane, &endpoint, &mut tell);
        if is_up && let Some(connection) = lane.open() {
            let deadline_ms = now_ms + self.options.handshake.io_timeout_ms;
            for script in self.options.scripts {
                // If it is not taken, the script is still called by its text.
                let _ = connection.send(NOBODY, deadline_ms, |out| script.load(out));
            }
        }
        if is_forgotten {
            self.commands[number] = None;
        }
    }

    /// Ends the lane of a node that the router does not use any more.
    fn end_node(&mut self, driver: &mut Driver, node: u16, events: &mut impl FnMut(Event)) {
        let Some(mut lane) = self.commands.get_mut(usize::from(node)).and_then(Option::take) else { return };
        let now_ms = driver.now_ms();
        lane.end(driver, &mut |told| match told {
            Told::Up => {}
            Told::Down => events(Event::Down(Use::Commands)),
            Told::Heard(incoming) => heard(&mut self.router, incoming, now_ms, events),
        });
    }

    /// The node that sends the messages is not to be reached; another may be.
    fn look_for_another(&mut self, is_down: bool) {
        if !is_down {
            return;
        }
        let primaries = self.router.told().primaries();
        let place = self.messages_at.as_ref().and_then(|at| primaries.iter().position(|primary| primary == at));
        self.messages_at = place.map(|place| primaries[(place + 1) % primaries.len()].clone());
    }
}

/// Who sends the messages, at first: cores and nodes are spread over the primaries.
fn chosen(map: &SlotMap, options: &ShardOptions) -> Option<Endpoint> {
    let primaries = if options.messages == Messages::None { &[] } else { map.primaries() };
    primaries.get(options.seed.checked_rem(primaries.len() as u64)? as usize).cloned()
}

fn heard(router: &mut Router, incoming: Incoming, now_ms: u64, events: &mut impl FnMut(Event)) {
    match incoming {
        Incoming::Reply { token: NOBODY, .. } | Incoming::Failed { token: NOBODY, .. } => {}
        Incoming::Reply { token, reply } => router.answered(token as u32, reply, now_ms, events),
        Incoming::Failed { token, sent, .. } => router.failed(token as u32, sent, now_ms, events),
        // Nothing is subscribed on these connections.
        Incoming::Message { .. } | Incoming::Subscribed { .. } | Incoming::Unsubscribed { .. } => {}
    }
}

/// Passes on what the lane of messages tells, and notices its end.
fn telling<'a>(is_down: &'a mut bool, events: &'a mut impl FnMut(Event)) -> impl FnMut(Told) + 'a {
    move |told| {
        *is_down |= matches!(told, Told::Down);
        events(event(Use::Messages, told));
    }
}
