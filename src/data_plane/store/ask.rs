//! What the engine asks, as commands of Redis. Arguments are those in the heads of `engine/lua/*.lua`.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use gyre_engine::scripts::{Envelope, Key, Keys, Script};
use gyre_engine::{StoreCall, StorePublish, StoreRead, StoreReply, Ticket};
use gyre_io::redis::{Command, Script as Lua, SendError, Shard};
use gyre_proto::client::ClientInfo;

use super::{Presence, Store};

/// What an answer is the answer to: the lowest bits of a token. The others are a ticket of the engine, if not said
/// otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any answer but an error will do.
    Done,
    /// Of a publication that nothing is kept of.
    Told,
    Publish,
    Read,
    Members,
    Counts,
    /// Counted here, of all members.
    CountMembers,
    /// To other nodes, with the number that their sender gave it.
    Nodes,
    /// Of a batch of subscriptions, with its number.
    Heard,
    /// Of a message that is to show whether messages come, with the number of its shard.
    Probe,
    /// Of a client of a channel whose state is told.
    Entered,
    /// Of the worker of channel states, with the number that it gave; so are the next.
    Lease,
    Step,
    Expired,
    Vacated,
    Forgotten,
    /// Of whoever borrowed a shard, with a number of theirs.
    Lent,
    /// Of the server's memory, with the number of its shard.
    Policy,
}

const KINDS: [Kind; 18] = [
    Kind::Done,
    Kind::Told,
    Kind::Publish,
    Kind::Read,
    Kind::Members,
    Kind::Counts,
    Kind::CountMembers,
    Kind::Nodes,
    Kind::Heard,
    Kind::Probe,
    Kind::Entered,
    Kind::Lease,
    Kind::Step,
    Kind::Expired,
    Kind::Vacated,
    Kind::Forgotten,
    Kind::Lent,
    Kind::Policy,
];
const KIND_BITS: u32 = 5;

pub(super) fn token(number: u64, kind: Kind) -> u64 {
    number << KIND_BITS | kind as u64
}

/// For commands about something else than channels.
pub(in crate::data_plane) fn lent(number: u64) -> u64 {
    token(number, Kind::Lent)
}

/// `None` = not one of [`token`].
pub(super) fn parts_of(token: u64) -> Option<(u64, Kind)> {
    let kind = KINDS.get((token & ((1 << KIND_BITS) - 1)) as usize)?;
    Some((token >> KIND_BITS, *kind))
}

/// Seconds that an idempotency key is remembered (engines.md section 2).
const RESULT_TTL_S: i64 = 300;

impl Store {
    /// Sends what was asked. False = it cannot go out now.
    pub(in crate::data_plane) fn ask(
        &mut self,
        ticket: Ticket,
        channel: &str,
        call: StoreCall<'_>,
        now_ms: u64,
    ) -> bool {
        self.payload.clear();
        let is_taken = match call {
            StoreCall::Enter(_, _, Some(_))
            | StoreCall::Exit(_, _, Some(_))
            | StoreCall::Members(Some(_))
            | StoreCall::Counts(Some(_))
                if self.state.is_some() =>
            {
                self.ask_states_presence(ticket, channel, call, now_ms)
            }
            StoreCall::Enter(..) | StoreCall::Exit(..) | StoreCall::Members(_) | StoreCall::Counts(_) => {
                self.ask_presence(ticket, channel, call, now_ms)
            }
            call => self.ask_broker(ticket, channel, call, now_ms),
        };
        self.stats.not_taken += u64::from(!is_taken);
        is_taken
    }

    fn ask_broker(&mut self, ticket: Ticket, channel: &str, call: StoreCall<'_>, now_ms: u64) -> bool {
        let at = self.broker.of(channel);
        let (first, name) = (&mut self.first, &mut self.name);
        let mut desk = Desk { shard: &mut self.shards[at], keys: &self.keys[at], channel, first, name, now_ms };
        let payload = &mut self.payload;
        let sent = match call {
            StoreCall::Hear => desk.hear(token(ticket, Kind::Done), true),
            StoreCall::Unhear => desk.hear(token(ticket, Kind::Done), false),
            StoreCall::Join(info) => {
                Envelope::Join(&encoded(info)).encode(payload);
                desk.publish(token(ticket, Kind::Done), payload)
            }
            StoreCall::Leave(info) => {
                Envelope::Leave(&encoded(info)).encode(payload);
                desk.publish(token(ticket, Kind::Done), payload)
            }
            StoreCall::Publish(call) => {
                call.publication.write(payload);
                match (call.history.is_on(), call.idempotency_key.is_empty()) {
                    (true, _) => desk.publish_with_history(ticket, payload, &call),
                    (false, true) => desk.publish(token(ticket, Kind::Told), payload),
                    (false, false) => desk.publish_once(ticket, payload, call.idempotency_key),
                }
            }
            StoreCall::Read(read) => desk.read(ticket, &read),
            StoreCall::RemoveHistory => desk.remove_history(ticket),
            StoreCall::Enter(..) | StoreCall::Exit(..) | StoreCall::Members(_) | StoreCall::Counts(_) => Ok(()),
        };
        sent.is_ok()
    }

    fn ask_presence(&mut self, ticket: Ticket, channel: &str, call: StoreCall<'_>, now_ms: u64) -> bool {
        let (shards, ttl_s, has_users) = match &mut self.presence {
            Presence::Stored { shards, ttl_s, has_user_mapping } => (*shards, *ttl_s as i64, *has_user_mapping),
            Presence::Here(members) => {
                let reply = match call {
                    StoreCall::Members(_) => members.all(channel),
                    StoreCall::Counts(_) => members.counts(channel),
                    StoreCall::Enter(client, info, _) => {
                        members.enter(channel, client, info);
                        StoreReply::Done
                    }
                    StoreCall::Exit(client, ..) => {
                        members.exit(channel, client);
                        StoreReply::Done
                    }
                    _ => return false,
                };
                self.own.push((ticket, reply));
                return true;
            }
        };
        let at = shards.of(channel);
        let (first, name) = (&mut self.first, &mut self.name);
        let mut desk = Desk { shard: &mut self.shards[at], keys: &self.keys[at], channel, first, name, now_ms };
        let payload = &mut self.payload;
        let done = token(ticket, Kind::Done);
        let sent = match call {
            StoreCall::Enter(client, info, _) => {
                info.write(payload);
                desk.script(done, Script::PresenceAdd, presence_keys(has_users), 5, |out, _| {
                    out.int(ttl_s).int(unix_s() + ttl_s).arg(client.to_string().as_bytes());
                    out.arg(payload).arg(info.user.as_bytes());
                })
            }
            StoreCall::Exit(client, user, _) => {
                desk.script(done, Script::PresenceRemove, presence_keys(has_users), 2, |out, _| {
                    out.arg(client.to_string().as_bytes()).arg(user.as_bytes());
                })
            }
            StoreCall::Counts(_) if has_users => {
                let token = token(ticket, Kind::Counts);
                desk.script(token, Script::PresenceStats, presence_keys(true), 1, |out, _| _ = out.int(unix_s()))
            }
            _ => {
                let kind = if matches!(call, StoreCall::Members(_)) { Kind::Members } else { Kind::CountMembers };
                let token = token(ticket, kind);
                desk.script(token, Script::Presence, presence_keys(false), 1, |out, _| _ = out.int(unix_s()))
            }
        };
        sent.is_ok()
    }
}

/// What a command about one channel is written with.
struct Desk<'a> {
    shard: &'a mut Shard,
    keys: &'a Keys,
    channel: &'a str,
    /// The first key, which decides where a command goes.
    first: &'a mut Vec<u8>,
    /// Another that is being written.
    name: &'a mut Vec<u8>,
    now_ms: u64,
}

impl Desk<'_> {
    fn hear(&mut self, token: u64, begins: bool) -> Result<(), SendError> {
        let name = named(self.name, self.keys, Key::Messages, self.channel);
        match (begins, self.keys.is_sharded()) {
            (true, false) => self.shard.subscribe(token, self.now_ms, &[name]),
            (false, false) => self.shard.unsubscribe(token, self.now_ms, &[name]),
            (true, true) => self.shard.subscribe_in_slot(token, self.now_ms, &[name]),
            (false, true) => self.shard.unsubscribe_in_slot(token, self.now_ms, &[name]),
        }
    }

    fn publish(&mut self, token: u64, payload: &[u8]) -> Result<(), SendError> {
        let name = named(self.name, self.keys, Key::Messages, self.channel);
        self.shard.send(token, self.now_ms, name, |out| {
            Command::new(out, 3).arg(verb(self.keys)).arg(name).arg(payload);
        })
    }

    fn remove_history(&mut self, ticket: Ticket) -> Result<(), SendError> {
        let name = named(self.name, self.keys, Key::Stream, self.channel);
        self.shard.send(token(ticket, Kind::Done), self.now_ms, name, |out| {
            Command::new(out, 2).arg(b"DEL").arg(name);
        })
    }

    fn publish_once(&mut self, ticket: Ticket, payload: &[u8], idempotency_key: &str) -> Result<(), SendError> {
        let (keys, channel) = (self.keys, self.channel);
        self.script(
            token(ticket, Kind::Publish),
            Script::PublishOnce,
            &[Key::Result(idempotency_key)],
            4,
            |out, name| {
                out.arg(payload).arg(named(name, keys, Key::Messages, channel)).arg(verb(keys)).int(RESULT_TTL_S);
            },
        )
    }

    fn publish_with_history(
        &mut self,
        ticket: Ticket,
        payload: &[u8],
        call: &StorePublish<'_>,
    ) -> Result<(), SendError> {
        let all = [Key::Stream, Key::Meta, Key::Result(call.idempotency_key)];
        let used = if call.idempotency_key.is_empty() { &all[..2] } else { &all[..] };
        let (keys, channel) = (self.keys, self.channel);
        self.script(token(ticket, Kind::Publish), Script::Publish, used, 11, |out, name| {
            out.arg(payload).int(call.history.size as i64).int(seconds(call.history.ttl_ms));
            out.arg(named(name, keys, Key::Messages, channel)).int(seconds(call.history.meta_ttl_ms));
            out.arg(call.new_epoch.as_str().as_bytes()).arg(verb(keys)).int(RESULT_TTL_S).int(0);
            out.arg(call.version.to_string().as_bytes()).arg(call.version_epoch.as_bytes());
        })
    }

    fn read(&mut self, ticket: Ticket, read: &StoreRead) -> Result<(), SendError> {
        self.script(token(ticket, Kind::Read), Script::History, &[Key::Stream, Key::Meta], 5, |out, _| {
            out.int(seconds(read.meta_ttl_ms)).arg(read.new_epoch.as_str().as_bytes()).int(read.limit.max(-1));
            match read.since {
                Some(offset) => out.arg(offset.to_string().as_bytes()),
                None => out.arg(b""),
            };
            out.int(read.reverse.into());
        })
    }

    /// Calls a script with keys of this channel. `write` writes its `values`; it gets a place to put a name together.
    fn script(
        &mut self,
        token: u64,
        script: Script,
        keys: &[Key<'_>],
        values: u32,
        write: impl FnOnce(&mut Command<'_>, &mut Vec<u8>),
    ) -> Result<(), SendError> {
        let Self { shard, keys: names, channel, first, name, now_ms } = self;
        let arguments = 1 + keys.len() as u32 + values;
        let first = named(first, names, keys[0], channel);
        shard.send_script(token, *now_ms, first, &scripts()[script as usize], arguments, |out| {
            out.int(keys.len() as i64).arg(first);
            for key in &keys[1..] {
                out.arg(named(name, names, *key, channel));
            }
            write(out, name);
        })
    }
}

/// What messages of channels are published with.
fn verb(keys: &Keys) -> &'static [u8] {
    if keys.is_sharded() { b"spublish" } else { b"publish" }
}

fn named<'a>(name: &'a mut Vec<u8>, keys: &Keys, key: Key<'_>, channel: &str) -> &'a [u8] {
    name.clear();
    keys.write(name, key, channel);
    name
}

fn presence_keys(has_users: bool) -> &'static [Key<'static>] {
    const KEYS: [Key<'static>; 4] = [Key::Clients, Key::ClientExpiry, Key::Users, Key::UserExpiry];
    if has_users { &KEYS } else { &KEYS[..2] }
}

/// Whole seconds: less than one would delete the key at once, and the configuration allows none.
fn seconds(ms: u64) -> i64 {
    i64::try_from(ms / 1000).unwrap_or(i64::MAX)
}

/// Presence entries end by the clocks of the nodes (engines.md section 9.4).
fn unix_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64)
}

fn encoded(info: &ClientInfo) -> Vec<u8> {
    let mut bytes = Vec::new();
    info.write(&mut bytes);
    bytes
}

/// All of them, in the order of [`Script::ALL`].
pub(crate) fn scripts() -> &'static [Lua] {
    static ALL: LazyLock<Vec<Lua>> =
        LazyLock::new(|| Script::ALL.map(|script| Lua { sha1: script.sha1(), text: script.text() }).into());
    &ALL
}
