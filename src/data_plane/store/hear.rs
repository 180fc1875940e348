//! What Redis says, as the engine understands it.

use bytes::Bytes;
use gyre_engine::scripts::{Envelope, offset_of};
use gyre_engine::{ClientId, Epoch, Heard, HistoryFacts, Position, StoreReply, Ticket};
use gyre_io::redis::{Event, Reply, Use};
use gyre_proto::client::{ClientInfo, Publication};
use std::collections::HashSet;
use std::sync::Arc;

use super::Store;
use super::ask::{self, Kind};

/// Something for the engine.
#[derive(Debug)]
pub(in crate::data_plane) enum Happened {
    Stored(Ticket, StoreReply),
    Heard(String, Heard),
    /// The messages of a shard are there again: every channel of it is to be heard anew.
    MessagesUp(usize),
}

impl Store {
    /// What has happened since this was asked last, in order.
    pub(in crate::data_plane) fn happened(&mut self, mut each: impl FnMut(Happened)) {
        for (at, event) in self.events.drain(..) {
            match event {
                Event::Up(Use::Messages) => each(Happened::MessagesUp(at)),
                Event::Up(Use::Commands) | Event::Down(_) | Event::Subscribed(_) | Event::Unsubscribed(_) => {}
                Event::Failed(token, _) => each(Happened::Stored(ask::ticket(token).0, StoreReply::Failed)),
                Event::Reply(token, reply) => {
                    let (ticket, kind) = ask::ticket(token);
                    each(Happened::Stored(ticket, kind.and_then(|kind| answer(kind, reply)).unwrap_or_else(failed)));
                }
                Event::Message(name, payload) => {
                    let Some(channel) = self.keys.channel_of(&name) else { continue };
                    match heard(&payload) {
                        Some(heard) => each(Happened::Heard(channel.to_owned(), heard)),
                        None => tracing::warn!(channel, bytes = payload.len(), "a message in Redis that is none of ours"),
                    }
                }
            }
        }
    }
}

fn failed() -> StoreReply {
    tracing::error!("redis answered in a way that is not understood");
    StoreReply::Failed
}

/// `None` = that is no answer to this.
fn answer(kind: Kind, reply: Reply) -> Option<StoreReply> {
    let reply = match reply.into_result() {
        Ok(reply) => reply,
        Err(error) => {
            tracing::error!(error = %error.message(), "redis refused a command");
            return Some(StoreReply::Failed);
        }
    };
    Some(match kind {
        Kind::Done => StoreReply::Done,
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

fn members(reply: Reply) -> Option<Vec<(ClientId, Arc<ClientInfo>)>> {
    let mut parts = reply.into_array()?.into_iter();
    let mut members = Vec::with_capacity(parts.len() / 2);
    while let (Some(client), Some(info)) = (parts.next(), parts.next()) {
        let client = ClientId::parse(&client.into_bytes()?)?;
        members.push((client, Arc::new(ClientInfo::read(&owned(&info.into_bytes()?))?)));
    }
    Some(members)
}

fn heard(payload: &[u8]) -> Option<Heard> {
    Some(match Envelope::decode(payload)? {
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
