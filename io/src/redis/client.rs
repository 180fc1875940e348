//! What one core has to one Redis server: a lane for commands and, where messages are heard, one for them.
//!
//! On a core's thread. The owner passes on what the driver reports of connections that are the client's, calls `turn` and
//! `flush` once per turn, and gets events. Commands that cannot go out now are refused at once: nothing is kept for a
//! Redis that is not there, and nothing is repeated, since whether it had an effect is not known.

use std::sync::Arc;

use gyre_proto::ids::ConnId;

use super::command::Command;
use super::connection::{Connection, Incoming, SendError};
use super::handshake::Handshake;
use super::lane::{Endpoint, Lane, Told, Use};
use super::outages::Outages;
use super::reply::Reply;
use super::script::Script;
use super::tls::Tls;
use super::wire::Wire;
use crate::driver::{Closed, Driver};

/// How a server is reached.
#[derive(Clone)]
pub struct ClientOptions {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// None: without. Not on Unix sockets.
    pub tls: Option<Tls>,
    /// What a connection begins with.
    pub handshake: Handshake,
    /// Time for a connection to be made.
    pub connect_timeout_ms: u64,
    /// Spreads the attempts to connect again; different on every core and node.
    pub seed: u64,
    /// Those that will be called.
    pub scripts: &'static [Script],
    /// Of the process.
    pub outages: Arc<Outages>,
    /// Whether there is a lane for messages.
    pub hears: bool,
}

/// Of what is said only to prepare a server for what follows; owners use other tokens.
pub(super) const NOBODY: u64 = u64::MAX;

/// What the owner is told.
#[derive(Debug)]
pub enum Event {
    /// A lane is ready. Of messages: no channel is subscribed yet. Of messages of slots: `Unheard` says which slots had
    /// channels before.
    Up(Use),
    /// A lane has failed. What waited on it was handed back before.
    Down(Use),
    /// The answer to a command, or to a subscription once all of its channels are confirmed.
    Reply(u64, Reply),
    /// The command failed with its lane. False: it certainly had no effect.
    Failed(u64, bool),
    /// Somebody published into a channel.
    Message(bytes::Bytes, bytes::Bytes),
    /// Messages of this channel arrive from here on.
    Subscribed(bytes::Bytes),
    /// Messages of this channel arrive no more, perhaps without anybody having asked for it.
    Unsubscribed(bytes::Bytes),
    /// Sharded Pub/Sub: what was subscribed to of this slot is not any more, and can be from here on. Messages may be
    /// missing.
    Unheard(u16),
}

/// See the module.
pub struct Client {
    options: ClientOptions,
    commands: Lane,
    messages: Lane,
}

impl Client {
    /// A client that connects in its first turn.
    pub fn new(options: ClientOptions) -> Self {
        let commands = Lane::new(options.seed, Arc::clone(&options.outages));
        let messages = Lane::new(options.seed.rotate_left(32), Arc::clone(&options.outages));
        Self { options, commands, messages }
    }

    /// Whether a connection of the driver is this client's.
    pub fn has(&self, conn: ConnId) -> bool {
        self.commands.has(conn) || self.messages.has(conn)
    }

    /// Whether a lane is ready.
    pub fn is_up(&self, what: Use) -> bool {
        match what {
            Use::Commands => self.commands.is_up(),
            Use::Messages => self.messages.is_up() || !self.options.hears,
            // A server for itself has none of these.
            Use::SlotMessages => true,
        }
    }

    /// Makes the connection for messages anew.
    pub fn restart_messages(&mut self, driver: &mut Driver, events: &mut impl FnMut(Event)) {
        self.messages.end(driver, &mut |told| events(event(Use::Messages, told)));
        self.messages = Lane::new(self.options.seed ^ driver.now_ms(), Arc::clone(&self.options.outages));
    }

    /// Connections there are, or will be in a moment.
    pub fn connections(&self) -> usize {
        usize::from(self.commands.has_connection()) + usize::from(self.messages.has_connection())
    }

    /// What waits for an answer.
    pub fn in_flight(&self) -> usize {
        self.commands.in_flight() + self.messages.in_flight()
    }

    /// Gives up both connections: the server is not used any more.
    pub fn end(&mut self, driver: &mut Driver, events: &mut impl FnMut(Event)) {
        for (lane, what) in [(&mut self.commands, Use::Commands), (&mut self.messages, Use::Messages)] {
            lane.end(driver, &mut |told| events(event(what, told)));
        }
    }

    /// Sends one command. Its answer, or its failure, comes as an event with `token`.
    ///
    /// # Errors
    /// Not connected, or too much waits. Nothing was sent.
    pub fn send(&mut self, token: u64, now_ms: u64, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), SendError> {
        let deadline_ms = now_ms + self.options.handshake.io_timeout_ms;
        opened(&mut self.commands)?.send(token, deadline_ms, write)
    }

    /// Calls a script, as `send`; see `Connection::send_script`.
    ///
    /// # Errors
    /// As `send`.
    pub fn send_script(
        &mut self,
        token: u64,
        now_ms: u64,
        script: &'static Script,
        arguments: u32,
        write: impl FnOnce(&mut Command<'_>),
    ) -> Result<(), SendError> {
        let deadline_ms = now_ms + self.options.handshake.io_timeout_ms;
        opened(&mut self.commands)?.send_script(token, deadline_ms, script, arguments, write)
    }

    /// Subscribes to channels, with one command.
    ///
    /// # Errors
    /// As `send`.
    pub fn subscribe(&mut self, token: u64, now_ms: u64, channels: &[&[u8]]) -> Result<(), SendError> {
        let deadline_ms = now_ms + self.options.handshake.io_timeout_ms;
        opened(&mut self.messages)?.subscribe(token, channels, false, deadline_ms)
    }

    /// Ends subscriptions, with one command.
    ///
    /// # Errors
    /// As `send`.
    pub fn unsubscribe(&mut self, token: u64, now_ms: u64, channels: &[&[u8]]) -> Result<(), SendError> {
        let deadline_ms = now_ms + self.options.handshake.io_timeout_ms;
        opened(&mut self.messages)?.unsubscribe(token, channels, false, deadline_ms)
    }

    /// Once per turn, before anything is sent: connects, and notices what is overdue.
    pub fn turn(&mut self, driver: &mut Driver, events: &mut impl FnMut(Event)) {
        let ClientOptions { endpoint, connect_timeout_ms, hears, .. } = &self.options;
        // A lane that has no turn never connects.
        let messages = hears.then_some((&mut self.messages, Use::Messages));
        for (lane, what) in messages.into_iter().chain([(&mut self.commands, Use::Commands)]) {
            lane.turn(driver, endpoint, *connect_timeout_ms, &mut |told| events(event(what, told)));
        }
    }

    /// `Handler::dialled`, for a connection of this client.
    pub fn dialled(&mut self, driver: &mut Driver, conn: ConnId) {
        let now_ms = driver.now_ms();
        let ClientOptions { endpoint, tls, handshake, .. } = &self.options;
        if let Some((lane, _)) = lane_of(&mut self.commands, &mut self.messages, conn) {
            lane.dialled(conn, Wire::new(handshake.clone(), now_ms, tls.as_ref(), endpoint));
        }
    }

    /// `Handler::bytes`.
    pub fn bytes(&mut self, driver: &mut Driver, conn: ConnId, data: &[u8], events: &mut impl FnMut(Event)) {
        let mut is_new = false;
        if let Some((lane, what)) = lane_of(&mut self.commands, &mut self.messages, conn) {
            lane.bytes(driver, &self.options.endpoint, data, &mut |told| {
                is_new |= matches!((what, &told), (Use::Commands, Told::Up));
                match told {
                    Told::Heard(Incoming::Reply { token: NOBODY, .. }) => {}
                    told => events(event(what, told)),
                }
            });
        }
        if is_new {
            self.load_scripts(driver.now_ms());
        }
    }

    /// A server that was started anew, or was a replica, knows no script: it gets all of them before the first call, since
    /// a call that is refused is overtaken by those behind it.
    fn load_scripts(&mut self, now_ms: u64) {
        let deadline_ms = now_ms + self.options.handshake.io_timeout_ms;
        if let Some(connection) = self.commands.open() {
            for script in self.options.scripts {
                // If it is not taken, the script is still called by its text.
                let _ = connection.send(NOBODY, deadline_ms, |out| script.load(out));
            }
        }
    }

    /// `Handler::closed`. Nothing for a connection that this client has given up already.
    pub fn closed(&mut self, driver: &mut Driver, conn: ConnId, why: Closed, events: &mut impl FnMut(Event)) {
        let now_ms = driver.now_ms();
        if let Some((lane, what)) = lane_of(&mut self.commands, &mut self.messages, conn) {
            lane.closed(&self.options.endpoint, why, now_ms, &mut |told| events(event(what, told)));
        }
    }

    /// Once per turn, after everything was sent: one send for each lane.
    pub fn flush(&mut self, driver: &mut Driver) {
        self.commands.flush(driver);
        self.messages.flush(driver);
    }
}

fn opened(lane: &mut Lane) -> Result<&mut Connection, SendError> {
    lane.open().ok_or(SendError::Failed)
}

fn lane_of<'a>(commands: &'a mut Lane, messages: &'a mut Lane, conn: ConnId) -> Option<(&'a mut Lane, Use)> {
    let lanes = [(commands, Use::Commands), (messages, Use::Messages)];
    lanes.into_iter().find(|(lane, _)| lane.has(conn))
}

/// What a lane tells, as the owner is told.
pub(super) fn event(what: Use, told: Told) -> Event {
    match told {
        Told::Up => Event::Up(what),
        Told::Down => Event::Down(what),
        Told::Heard(Incoming::Reply { token, reply }) => Event::Reply(token, reply),
        // Should it be nobody's, nobody misses it.
        Told::Heard(Incoming::Failed { token, sent, .. }) => Event::Failed(token, sent),
        Told::Heard(Incoming::Message { channel, payload, .. }) => Event::Message(channel, payload),
        Told::Heard(Incoming::Subscribed { channel, .. }) => Event::Subscribed(channel),
        Told::Heard(Incoming::Unsubscribed { channel, .. }) => Event::Unsubscribed(channel),
    }
}
