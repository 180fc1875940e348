//! What one core has to one shard: a client of each server that it uses there.
//!
//! On a core's thread. Which servers there are is found out elsewhere, by whoever may block ([`Servers`]); the shard says
//! when it doubts what it was told ([`Shard::takes_doubt`]). All about one key goes to one server, in order.

use std::sync::Arc;

use gyre_proto::ids::ConnId;

use super::client::{Client, ClientOptions, Event};
use super::cluster::SlotMap;
use super::command::Command;
use super::connection::SendError;
use super::handshake::Handshake;
use super::lane::{Endpoint, Use};
use super::script::Script;
use crate::driver::{Closed, Driver};

/// Which servers a shard has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// One, or the primary of several.
    One(Endpoint),
    /// The primaries of a cluster, by slot.
    Cluster(Arc<SlotMap>),
}

/// How a shard is reached.
#[derive(Clone)]
pub struct ShardOptions {
    /// What a connection begins with.
    pub handshake: Handshake,
    /// Time for a connection to be made.
    pub connect_timeout_ms: u64,
    /// Spreads the attempts to connect again; different on every core and node.
    pub seed: u64,
}

/// See the module.
pub struct Shard {
    options: ShardOptions,
    servers: Arc<Servers>,
    client: Client,
    has_doubt: bool,
}

impl Shard {
    /// A shard that connects in its first turn.
    pub fn new(options: ShardOptions, servers: Arc<Servers>) -> Self {
        let client = client(&options, &servers);
        Self { options, servers, client, has_doubt: false }
    }

    /// Whether a connection of the driver is this shard's.
    pub fn has(&self, conn: ConnId) -> bool {
        self.client.has(conn)
    }

    /// Connections there are, or will be in a moment.
    pub fn connections(&self) -> usize {
        self.client.connections()
    }

    /// Commands and subscriptions that wait for their answer.
    pub fn in_flight(&self) -> usize {
        self.client.in_flight()
    }

    /// Connections it may have at a time.
    pub fn connections_max(_servers: &Servers) -> usize {
        2
    }

    /// Sends one command about `key`. Its answer, or its failure, comes as an event with `token`.
    ///
    /// # Errors
    /// Not connected, or too much waits. Nothing was sent.
    pub fn send(
        &mut self,
        token: u64,
        now_ms: u64,
        _key: &[u8],
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), SendError> {
        self.client.send(token, now_ms, write)
    }

    /// Calls a script about `key`; see `Connection::send_script`.
    ///
    /// # Errors
    /// As `send`.
    pub fn send_script(
        &mut self,
        token: u64,
        now_ms: u64,
        _key: &[u8],
        script: &'static Script,
        arguments: u32,
        write: impl FnOnce(&mut Command<'_>),
    ) -> Result<(), SendError> {
        self.client.send_script(token, now_ms, script, arguments, write)
    }

    /// Subscribes to channels, with one command.
    ///
    /// # Errors
    /// As `send`.
    pub fn subscribe(&mut self, token: u64, now_ms: u64, channels: &[&[u8]]) -> Result<(), SendError> {
        self.client.subscribe(token, now_ms, channels)
    }

    /// Ends subscriptions, with one command.
    ///
    /// # Errors
    /// As `send`.
    pub fn unsubscribe(&mut self, token: u64, now_ms: u64, channels: &[&[u8]]) -> Result<(), SendError> {
        self.client.unsubscribe(token, now_ms, channels)
    }

    /// Takes up what was found out about the servers.
    pub fn servers_are(&mut self, driver: &mut Driver, servers: Arc<Servers>, events: &mut impl FnMut(Event)) {
        if self.servers != servers {
            self.servers = servers;
            self.client.end(driver, events);
            self.client = client(&self.options, &self.servers);
        }
    }

    /// Whether something has happened, since this was asked last, by which the servers may be others than is believed.
    pub fn takes_doubt(&mut self) -> bool {
        std::mem::take(&mut self.has_doubt)
    }

    /// Once per turn, before anything is sent: connects, and notices what is overdue.
    pub fn turn(&mut self, driver: &mut Driver, events: &mut impl FnMut(Event)) {
        let doubt = &mut self.has_doubt;
        self.client.turn(driver, &mut noticing(doubt, events));
    }

    /// `Handler::dialled`, for a connection of this shard.
    pub fn dialled(&mut self, driver: &mut Driver, conn: ConnId) {
        self.client.dialled(driver, conn);
    }

    /// `Handler::bytes`.
    pub fn bytes(&mut self, driver: &mut Driver, conn: ConnId, data: &[u8], events: &mut impl FnMut(Event)) {
        let doubt = &mut self.has_doubt;
        self.client.bytes(driver, conn, data, &mut noticing(doubt, events));
    }

    /// `Handler::closed`. Nothing for a connection that was given up already.
    pub fn closed(&mut self, driver: &mut Driver, conn: ConnId, why: Closed, events: &mut impl FnMut(Event)) {
        let doubt = &mut self.has_doubt;
        self.client.closed(driver, conn, why, &mut noticing(doubt, events));
    }

    /// Once per turn, after everything was sent: one send for each connection.
    pub fn flush(&mut self, driver: &mut Driver) {
        self.client.flush(driver);
    }

    /// Whether commands and messages get through, by lane.
    pub fn is_up(&self, what: Use) -> bool {
        self.client.is_up(what)
    }
}

/// A server that is gone may have been replaced by another.
fn noticing<'a>(doubt: &'a mut bool, events: &'a mut impl FnMut(Event)) -> impl FnMut(Event) + 'a {
    move |event| {
        *doubt |= matches!(event, Event::Down(_));
        events(event);
    }
}

fn client(options: &ShardOptions, servers: &Servers) -> Client {
    let Servers::One(endpoint) = servers else { todo!() };
    Client::new(ClientOptions {
        endpoint: endpoint.clone(),
        handshake: options.handshake.clone(),
        connect_timeout_ms: options.connect_timeout_ms,
        seed: options.seed,
    })
}
