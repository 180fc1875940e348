//! What Redis says, as the engine and the control thread understand it.
//!
//! On a core's thread, once per turn, after the connections have taken in what there is.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use gyre_engine::scripts::{Envelope, offset_of};
use gyre_engine::{ClientId, Engine, Epoch, Heard, HistoryFacts, Position, StateReply, StoreReply};
use gyre_io::redis::{Event, Reply, ReplyError, Use};
use gyre_proto::client::{ClientInfo, Publication};

use super::ask::{self, Kind};
use super::hearing::hear_on;
use super::{Store, state};
use crate::data_plane::hands::Hands;
use crate::data_plane::user_status;

/// Something for the control thread.
#[derive(Debug)]
pub(in crate::data_plane) enum ForControl {
    /// A message of another node, or of this one.
    Said(Bytes),
    /// Whether Redis took what was to be told, by its number.
    Told(u64, bool),
    /// Messages of other nodes come from now on, for the first time or again.
    Hears,
}

/// Hands the engine what has come since the last turn, in order.
pub(in crate::data_plane) fn hand_over(engine: &mut Engine, hands: &mut Hands<'_>, control: &mut Vec<ForControl>) {
    hand_events_over(engine, hands, control);
    hear_on(engine, hands);
}

fn hand_events_over(engine: &mut Engine, hands: &mut Hands<'_>, control: &mut Vec<ForControl>) {
    let Some(store) = hands.store.as_deref_mut() else { return };
    if store.events.is_empty() && store.own.is_empty() {
        return;
    }
    let mut events = std::mem::take(&mut store.events);
    let own = std::mem::take(&mut store.own);
    let keys = std::rc::Rc::clone(&store.keys);
    for (ticket, reply) in own {
        engine.stored(ticket, reply, hands);
    }
    for (shard, event) in events.drain(..) {
        match event {
            Event::Message(name, payload) => {
                let now_ms = hands.driver.now_ms();
                let channel = keys[shard].channel_of(&name);
                // Messages of slots come on other connections than those that are watched for silence.
                let is_watched = channel.is_none() || !keys[shard].is_sharded();
                if is_watched && let Some(store) = hands.store.as_deref_mut() {
                    store.silences[shard].heard(now_ms);
                }
                match channel {
                    Some(channel) => match heard(&payload) {
                        Some(heard) => engine.heard(channel, heard, hands),
                        None => {
                            let store = hands.store.as_deref_mut();
                            if let Some(count) = store.and_then(|store| store.malformed.note(now_ms)) {
                                let bytes = payload.len();
                                tracing::warn!(channel, bytes, count, "a message in redis that is none of ours");
                            }
                        }
                    },
                    None if hands.store.as_deref().is_some_and(|store| store.hearing.is_of_nodes(&name)) => {
                        control.push(ForControl::Said(Bytes::copy_from_slice(&payload)));
                    }
                    None => {}
                }
            }
            Event::Reply(token, reply) => answered(engine, hands, control, token, Some(reply)),
            Event::Failed(token, _) => answered(engine, hands, control, token, None),
            Event::Up(Use::Messages) => {
                let now_ms = hands.driver.now_ms();
                if let Some(store) = hands.store.as_deref_mut() {
                    store.hear_anew(shard, engine, now_ms);
                }
            }
            Event::Down(what) => {
                if let Some(store) = hands.store.as_deref_mut() {
                    store.stats.lost(what);
                    if what == Use::Messages {
                        store.messages_down(shard);
                    }
                }
            }
            Event::Unheard(slot) => {
                if let Some(store) = hands.store.as_deref_mut() {
                    store.unheard(shard, slot);
                }
            }
            Event::Up(_) | Event::Subscribed(_) | Event::Unsubscribed(_) => {}
        }
    }
    if let Some(store) = hands.store.as_deref_mut() {
        store.hear_unheard(engine);
        if store.events.is_empty() {
            store.events = events;
        }
    }
}

/// `None` = the command failed with its connection.
fn answered(
    engine: &mut Engine,
    hands: &mut Hands<'_>,
    control: &mut Vec<ForControl>,
    token: u64,
    reply: Option<Reply>,
) {
    let now_ms = hands.driver.now_ms();
    let Some(store) = hands.store.as_deref_mut() else { return };
    let Some((number, kind)) = ask::parts_of(token) else { return };
    if kind == Kind::Policy {
        return store.policy_is(number, reply);
    }
    let is_lost = reply.is_none();
    store.stats.failed += u64::from(is_lost);
    let reply = reply.and_then(|reply| {
        let logged = |error: &ReplyError| {
            if let Some(count) = store.refusals.note(now_ms) {
                tracing::error!(error = %error.message(), count, "redis refused commands of this core");
            }
        };
        reply.into_result().inspect_err(logged).ok()
    });
    match kind {
        Kind::Nodes => control.push(ForControl::Told(number, reply.is_some())),
        Kind::Lent => user_status::answered(engine, hands, number, reply),
        Kind::Probe => store.silences[number as usize].probed(reply.is_some(), now_ms),
        Kind::Heard => {
            store.stats.subscriptions_refused += u64::from(reply.is_none() && !is_lost);
            let Some(batch) = store.batch_answered(number, reply.is_some(), now_ms) else { return };
            if batch.channels.is_empty() && store.hearing.hears_nodes() {
                control.push(ForControl::Hears);
            }
            store.batch_heard(batch);
        }
        kind @ (Kind::Lease | Kind::Step | Kind::Expired | Kind::Vacated | Kind::Forgotten) => {
            let was_lost = reply.is_none();
            let proxies = store.asked_queues.remove(&number).unwrap_or_default();
            let answer = reply.and_then(|reply| state::understood(kind, reply, &proxies));
            if answer.is_none() && !was_lost {
                store.note_not_understood(kind, now_ms);
            }
            store.state_answers.push((number, answer.unwrap_or(StateReply::Failed)));
        }
        kind => {
            if let (Kind::Entered, Some(reply)) = (kind, &reply) {
                store.note_entered(reply, now_ms);
            }
            let reply = reply.map_or(StoreReply::Failed, |reply| {
                understood(kind, reply).unwrap_or_else(|| {
                    store.note_not_understood(kind, now_ms);
                    StoreReply::Failed
                })
            });
            engine.stored(number, reply, hands);
        }
    }
}

impl Store {
    fn note_not_understood(&mut self, kind: Kind, now_ms: u64) {
        if let Some(count) = self.not_understood.note(now_ms) {
            tracing::error!(?kind, count, "redis answered in a way that is not understood");
        }
    }
}

/// `None` = that is no answer to this.
fn understood(kind: Kind, reply: Reply) -> Option<StoreReply> {
    Some(match kind {
        Kind::Done | Kind::Nodes | Kind::Heard | Kind::Probe | Kind::Entered | Kind::Lent => StoreReply::Done,
        // Answered to the worker.
        Kind::Lease | Kind::Step | Kind::Expired | Kind::Vacated | Kind::Forgotten | Kind::Policy => return None,
        Kind::Told => StoreReply::Published(Position::NONE),
        Kind::Publish => {
            let [offset, epoch, ..] = <[Reply; 4]>::try_from(reply.into_array()?).ok()?;
            StoreReply::Published(position(&offset, epoch)?)
        }
        Kind::Read => {
            let [offset, epoch, items] = <[Reply; 3]>::try_from(reply.into_array()?).ok()?;
            let top = position(&offset, epoch)?;
            let publications = items.into_array()?.into_iter().map(item).collect::<Option<_>>()?;
            StoreReply::Read(HistoryFacts { top, publications })
        }
        Kind::Members => StoreReply::Members(members(reply)?),
        Kind::Counts => {
            let [clients, users] = <[Reply; 2]>::try_from(reply.into_array()?).ok()?;
            StoreReply::Counts(clients.as_int()?.try_into().ok()?, users.as_int()?.try_into().ok()?)
        }
        Kind::CountMembers => {
            let members = members(reply)?;
            let users: HashSet<&str> = members.iter().map(|(_, info)| &*info.user).collect();
            StoreReply::Counts(members.len() as u32, users.len() as u32)
        }
    })
}

fn position(offset: &Reply, epoch: Reply) -> Option<Position> {
    let offset = offset.as_int()?.try_into().ok()?;
    let epoch = Epoch::parse(&epoch.into_bytes()?)?;
    Some(Position { offset, epoch })
}

/// An entry of the stream, as XRANGE gives it.
fn item(entry: Reply) -> Option<Arc<Publication>> {
    let [id, fields] = <[Reply; 2]>::try_from(entry.into_array()?).ok()?;
    let [_, payload] = <[Reply; 2]>::try_from(fields.into_array()?).ok()?;
    let mut publication = Publication::read(&owned(&payload.into_bytes()?))?;
    publication.offset = offset_of(&id.into_bytes()?)?;
    Some(Arc::new(publication))
}

/// Without entries of somebody else's making.
fn members(reply: Reply) -> Option<Vec<(ClientId, Arc<ClientInfo>)>> {
    let mut parts = reply.into_array()?.into_iter();
    let mut members = Vec::with_capacity(parts.len() / 2);
    while let (Some(client), Some(info)) = (parts.next(), parts.next()) {
        let (client, info) = (ClientId::parse(&client.into_bytes()?), ClientInfo::read(&owned(&info.into_bytes()?)));
        members.extend(client.zip(info.map(Arc::new)));
    }
    Some(members)
}

fn heard(payload: &[u8]) -> Option<Heard> {
    Some(match Envelope::decode(payload)? {
        // Without data, which no node publishes: clients would have to make something of nothing.
        Envelope::Bare(b"") => return None,
        Envelope::Bare(publication) => Heard::Publication(read(publication)?, Position::NONE),
        Envelope::Positioned { offset, epoch, payload, .. } => {
            Heard::Publication(read(payload)?, Position { offset, epoch: Epoch::parse(epoch.as_bytes())? })
        }
        Envelope::Join(info) => Heard::Join(ClientInfo::read(&Bytes::copy_from_slice(info))?),
        Envelope::Leave(info) => Heard::Leave(ClientInfo::read(&Bytes::copy_from_slice(info))?),
    })
}

fn read(publication: &[u8]) -> Option<Publication> {
    Publication::read(&Bytes::copy_from_slice(publication))
}

/// A copy: a part of a receive buffer that is kept would keep all of it.
fn owned(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
