//! What one core has to one shard: a client of each server that it uses there.
//!
//! On a core's thread. Which servers there are is found out elsewhere, by whoever may block ([`Servers`]); the shard says
//! when it doubts what it was told ([`Shard::takes_doubt`]). All about one key goes to one server, in order.

use std::sync::Arc;

use gyre_proto::ids::ConnId;

use super::client::{Client, ClientOptions, Event};
use super::cluster::{Cluster, SlotMap};
use super::command::Command;
use super::connection::SendError;
use super::handshake::Handshake;
use super::lane::{Endpoint, Use};
use super::outages::Outages;
use super::reply::Reply;
use super::script::Script;
use super::tls::Tls;
use crate::driver::{Closed, Driver};
use crate::limits::{REDIS_CLUSTER_CONNECTIONS_MAX, REDIS_CLUSTER_NODES_MAX};

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
    /// What is heard there.
    pub messages: Messages,
}

/// What comes from a shard besides answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Messages {
    /// Nothing, and no connection is made for it.
    None,
    /// Messages of channels.
    Channels,
    /// And those of slots of a cluster; see [`Shard::subscribe_in_slot`].
    Slots,
}

/// See the module.
pub struct Shard {
    options: ShardOptions,
    servers: Arc<Servers>,
    way: Way,
    has_doubt: bool,
}

/// How the servers are talked to.
enum Way {
    One(Box<Client>),
    Cluster(Box<Cluster>),
}

impl Shard {
    /// A shard that connects in its first turn.
    pub fn new(options: ShardOptions, servers: Arc<Servers>) -> Self {
        let way = Way::new(&options, &servers);
        Self { options, servers, way, has_doubt: false }
    }

    /// Whether a connection of the driver is this shard's.
    pub fn has(&self, conn: ConnId) -> bool {
        match &self.way {
            Way::One(client) => client.has(conn),
            Way::Cluster(cluster) => cluster.has(conn),
        }
    }

    /// Connections there are, or will be in a moment.
    pub fn connections(&self) -> usize {
        match &self.way {
            Way::One(client) => client.connections(),
            Way::Cluster(cluster) => cluster.connections(),
        }
    }

    /// Commands and subscriptions that wait for their answer.
    pub fn in_flight(&self) -> usize {
        match &self.way {
            Way::One(client) => client.in_flight(),
            Way::Cluster(cluster) => cluster.in_flight(),
        }
    }

    /// Connections to such servers at a time. To a cluster: however many primaries it will have.
    pub fn connections_max(servers: &Servers, messages: Messages) -> usize {
        match (servers, messages) {
            (Servers::One(_), Messages::None) => 1,
            (Servers::One(_), _) => 2,
            (Servers::Cluster(_), Messages::Slots) => REDIS_CLUSTER_CONNECTIONS_MAX + REDIS_CLUSTER_NODES_MAX,
            (Servers::Cluster(_), Messages::Channels) => REDIS_CLUSTER_CONNECTIONS_MAX,
            (Servers::Cluster(_), Messages::None) => REDIS_CLUSTER_NODES_MAX,
        }
    }

    /// Sends one command about `key`. Its answer, or its failure, comes as an event with `token`. While a cluster moves the
    /// slot of the key, or connects to its new primary, the command waits for that.
    ///
    /// # Errors
    /// Not connected, or too much waits. Nothing was sent.
    pub fn send(
        &mut self,
        token: u64,
        now_ms: u64,
        key: &[u8],
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), SendError> {
        match &mut self.way {
            Way::One(client) => client.send(token, now_ms, write),
            Way::Cluster(cluster) => cluster.send(token, now_ms, key, None, write),
        }
    }

    /// Calls a script about `key`; see `Connection::send_script`.
    ///
    /// # Errors
    /// As `send`.
    pub fn send_script(
        &mut self,
        token: u64,
        now_ms: u64,
        key: &[u8],
        script: &'static Script,
        arguments: u32,
        write: impl FnOnce(&mut Command<'_>),
    ) -> Result<(), SendError> {
        match &mut self.way {
            Way::One(client) => client.send_script(token, now_ms, script, arguments, write),
            Way::Cluster(cluster) => cluster.send(token, now_ms, key, Some((script, arguments)), |out| {
                write(&mut Command::rest(out, arguments as usize));
            }),
        }
    }

    /// Subscribes to channels, with one command.
    ///
    /// # Errors
    /// As `send`.
    pub fn subscribe(&mut self, token: u64, now_ms: u64, channels: &[&[u8]]) -> Result<(), SendError> {
        match &mut self.way {
            Way::One(client) => client.subscribe(token, now_ms, channels),
            Way::Cluster(cluster) => cluster.subscribe(token, now_ms, channels),
        }
    }

    /// Ends subscriptions, with one command.
    ///
    /// # Errors
    /// As `send`.
    pub fn unsubscribe(&mut self, token: u64, now_ms: u64, channels: &[&[u8]]) -> Result<(), SendError> {
        match &mut self.way {
            Way::One(client) => client.unsubscribe(token, now_ms, channels),
            Way::Cluster(cluster) => cluster.unsubscribe(token, now_ms, channels),
        }
    }

    /// Sharded Pub/Sub of a cluster: begins the subscriptions to channels that are all of one slot. While the slot moves, or
    /// its primary is being connected to, this waits. Messages published with `SPUBLISH` come; after a loss
    /// [`Event::Unheard`] says which slots are to be subscribed to again.
    ///
    /// # Errors
    /// As `send`. The shard is none of a cluster, or not `sharded`.
    pub fn subscribe_in_slot(&mut self, token: u64, now_ms: u64, channels: &[&[u8]]) -> Result<(), SendError> {
        self.ask_slot(token, now_ms, channels, true)
    }

    /// Ends such subscriptions to channels that are all of one slot.
    ///
    /// # Errors
    /// As `subscribe_in_slot`.
    pub fn unsubscribe_in_slot(&mut self, token: u64, now_ms: u64, channels: &[&[u8]]) -> Result<(), SendError> {
        self.ask_slot(token, now_ms, channels, false)
    }

    fn ask_slot(&mut self, token: u64, now_ms: u64, channels: &[&[u8]], begins: bool) -> Result<(), SendError> {
        match &mut self.way {
            Way::One(_) => Err(SendError::Failed),
            Way::Cluster(cluster) => cluster.ask_slot(token, now_ms, channels, begins),
        }
    }

    /// Takes up what was found out about the servers. Those that stay are not disturbed.
    pub fn servers_are(&mut self, driver: &mut Driver, servers: Arc<Servers>, events: &mut impl FnMut(Event)) {
        if self.servers == servers {
            return;
        }
        self.servers = servers;
        match (&mut self.way, &*self.servers) {
            (Way::Cluster(cluster), Servers::Cluster(map)) => {
                return cluster.map_is(driver, Arc::clone(map), events);
            }
            (Way::One(client), _) => client.end(driver, events),
            (Way::Cluster(cluster), _) => cluster.end(driver, events),
        }
        self.way = Way::new(&self.options, &self.servers);
    }

    /// Makes the connection for messages anew: it answers, but messages do not come.
    pub fn restart_messages(&mut self, driver: &mut Driver, events: &mut impl FnMut(Event)) {
        self.has_doubt = true;
        match &mut self.way {
            Way::One(client) => client.restart_messages(driver, events),
            Way::Cluster(cluster) => cluster.restart_messages(driver, events),
        }
    }

    /// Whether something has happened, since this was asked last, by which the servers may be others than is believed.
    pub fn takes_doubt(&mut self) -> bool {
        let is_cluster_in_doubt = match &mut self.way {
            Way::One(_) => false,
            Way::Cluster(cluster) => cluster.takes_doubt(),
        };
        std::mem::take(&mut self.has_doubt) | is_cluster_in_doubt
    }

    /// Once per turn, before anything is sent: connects, and notices what is overdue.
    pub fn turn(&mut self, driver: &mut Driver, events: &mut impl FnMut(Event)) {
        let events = &mut noticing(&mut self.has_doubt, events);
        match &mut self.way {
            Way::One(client) => client.turn(driver, events),
            Way::Cluster(cluster) => cluster.turn(driver, events),
        }
    }

    /// `Handler::dialled`, for a connection of this shard.
    pub fn dialled(&mut self, driver: &mut Driver, conn: ConnId) {
        match &mut self.way {
            Way::One(client) => client.dialled(driver, conn),
            Way::Cluster(cluster) => cluster.dialled(driver, conn),
        }
    }

    /// `Handler::bytes`.
    pub fn bytes(&mut self, driver: &mut Driver, conn: ConnId, data: &[u8], events: &mut impl FnMut(Event)) {
        let events = &mut noticing(&mut self.has_doubt, events);
        match &mut self.way {
            Way::One(client) => client.bytes(driver, conn, data, events),
            Way::Cluster(cluster) => cluster.bytes(driver, conn, data, events),
        }
    }

    /// `Handler::closed`. Nothing for a connection that was given up already.
    pub fn closed(&mut self, driver: &mut Driver, conn: ConnId, why: Closed, events: &mut impl FnMut(Event)) {
        let events = &mut noticing(&mut self.has_doubt, events);
        match &mut self.way {
            Way::One(client) => client.closed(driver, conn, why, events),
            Way::Cluster(cluster) => cluster.closed(driver, conn, why, events),
        }
    }

    /// Once per turn, after everything was sent: one send for each connection.
    pub fn flush(&mut self, driver: &mut Driver) {
        match &mut self.way {
            Way::One(client) => client.flush(driver),
            Way::Cluster(cluster) => cluster.flush(driver),
        }
    }

    /// Whether commands get through, to a cluster: to one of its primaries at least.
    pub fn takes_commands(&self) -> bool {
        match &self.way {
            Way::One(client) => client.is_up(Use::Commands),
            Way::Cluster(cluster) => cluster.takes_commands(),
        }
    }

    /// Whether commands about keys of a slot get through.
    pub fn takes_commands_of(&self, slot: u16) -> bool {
        match &self.way {
            Way::One(client) => client.is_up(Use::Commands),
            Way::Cluster(cluster) => cluster.takes_commands_of(slot),
        }
    }

    /// Whether commands and messages get through, by lane. Commands to a cluster, and messages of slots: to and from all of
    /// its primaries.
    pub fn is_up(&self, what: Use) -> bool {
        match &self.way {
            Way::One(client) => client.is_up(what),
            Way::Cluster(cluster) => cluster.is_up(what),
        }
    }
}

impl Way {
    fn new(options: &ShardOptions, servers: &Servers) -> Self {
        match servers {
            Servers::One(endpoint) => Self::One(Box::new(Client::new(ClientOptions {
                endpoint: endpoint.clone(),
                tls: options.tls.clone(),
                handshake: options.handshake.clone(),
                connect_timeout_ms: options.connect_timeout_ms,
                seed: options.seed,
                scripts: options.scripts,
                outages: Arc::clone(&options.outages),
                hears: options.messages != Messages::None,
            }))),
            Servers::Cluster(map) => Self::Cluster(Box::new(Cluster::new(options.clone(), Arc::clone(map)))),
        }
    }
}

/// A server that is gone, or that takes no writes any more, may have been replaced by another.
fn noticing<'a>(doubt: &'a mut bool, events: &'a mut impl FnMut(Event)) -> impl FnMut(Event) + 'a {
    move |event| {
        *doubt |= match &event {
            Event::Down(_) => true,
            Event::Reply(_, Reply::Error(error)) => matches!(error.code(), "READONLY" | "MASTERDOWN"),
            _ => false,
        };
        events(event);
    }
}
