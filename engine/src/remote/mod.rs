//! Channels whose truth is in a store outside (Redis) and whose home in this node is this core.
//!
//! The home core is the only one of the node that talks to the store about a channel: it hears the channel's messages
//! for all of them, keeps who is interested, and refreshes the presence of the node's members. A call is answered when
//! the store has answered; deliveries begin when the store hands the message back. Nothing here knows sessions.

mod enter;
mod hearing;
mod leavers;
mod members;
mod roster;

use std::sync::Arc;

use foldhash::fast::FixedState;
use gyre_proto::client::Publication;
use gyre_proto::ids::CoreId;
use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::by_name::{ByName, Named};
use crate::chunks::Chunks;
use crate::delivery::Delivery;
use crate::home::{Interest, Interested};
use crate::message::{
    Caller, HistoryCall, HomeCall, HomeReply, HomeResponse, PublishCall, Unrecoverable, UnsubscribeCall,
};
use crate::outlet::Outlet;
use crate::position::{Epoch, Position};
use crate::rules::Rules;
use crate::store::{Heard, Layout, StoreCall, StorePublish, StoreRead, StoreReply, Ticket};
use enter::Entering;
use hearing::Hearing;
use leavers::{Leaver, Leavers};
use roster::Roster;

/// A channel with subscribers on this node, or with calls on their way.
#[derive(Debug)]
struct RemoteChannel {
    name: Box<str>,
    interest: Interested,
    hearing: Hearing,
    /// Of the last publication with history that was heard.
    heard: Position,
    /// Subscribers on their way in, and what was heard meanwhile.
    entering: Option<Box<enter::AtTheDoor>>,
    /// Members of this node.
    members: Option<Box<Roster>>,
}

impl Named for RemoteChannel {
    fn name(&self) -> &str {
        &self.name
    }
}

impl RemoteChannel {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            interest: Interested::default(),
            hearing: Hearing::No,
            heard: Position::NONE,
            entering: None,
            members: None,
        }
    }

    fn is_unused(&self) -> bool {
        self.hearing == Hearing::No
            && self.entering.is_none()
            && self.members.is_none()
            && self.interest.masks().is_empty()
    }
}

/// What a ticket was given out for.
#[derive(Debug)]
enum Asked {
    Hear(Box<str>),
    Unhear(Box<str>),
    /// A step of the subscriber with this number.
    Step(u32),
    Publish(Caller, Box<str>),
    History(Caller, Box<str>, HistoryCheck),
    /// For this core, whose subscribers hold this position.
    Position(CoreId, Box<str>, Position),
    /// The channel is heard again, after this was the last publication heard.
    Anew(Box<str>, Position),
    Reply(Caller, Box<str>),
    /// A presence entry in the channel with this index.
    Renewal(u32),
    /// The removal of one.
    Exit(Box<Leaver>),
    /// Nobody waits: the data plane has logged what failed.
    Nothing,
}

/// The epoch that a history call demands.
type HistoryCheck = Option<Box<str>>;

/// A reply, and the core it goes to.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) core: CoreId,
    pub(crate) response: HomeResponse,
}

impl Resolved {
    /// `None` = nobody waits.
    fn new(caller: Caller, channel: Box<str>, reply: HomeReply) -> Option<Self> {
        let core = match caller {
            Caller::None => return None,
            Caller::Session { core, .. } | Caller::Api { core, .. } => core,
        };
        Some(Self { core, response: HomeResponse { caller, channel, reply } })
    }
}

/// Mostly none or one.
pub(crate) type Resolutions = SmallVec<[Resolved; 1]>;

#[derive(Debug)]
pub(crate) struct Remote {
    channels: ByName<RemoteChannel>,
    entering: Chunks<Entering>,
    asked: HashMap<Ticket, Asked, FixedState>,
    next_ticket: Ticket,
    /// As told with the last call; monotonic.
    now_ms: u64,
    hasher: FixedState,
    rng: fastrand::Rng,
    lingering: hearing::Lingering,
    refresh: members::Refresh,
    leavers: Leavers,
    /// Channels with subscribers on some core.
    interesting: u64,
    /// Those in force: they say how presence of a channel is kept.
    rules: Arc<Rules>,
}

impl Remote {
    pub(crate) fn new(seed: u64, rules: Arc<Rules>) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            channels: ByName::new(hasher.clone()),
            entering: Chunks::new(),
            asked: HashMap::with_hasher(hasher.clone()),
            next_ticket: 0,
            now_ms: 0,
            leavers: Leavers::new(&hasher),
            hasher,
            rng: fastrand::Rng::with_seed(seed),
            lingering: hearing::Lingering::default(),
            refresh: members::Refresh::default(),
            interesting: 0,
            rules,
        }
    }

    /// Others are in force. Entries kept in another way than from now on run out by themselves.
    pub(crate) fn follow(&mut self, rules: &Arc<Rules>) {
        self.rules = Arc::clone(rules);
    }

    fn layout(&self, name: &str) -> Layout {
        self.rules.resolve(name)?.options.state
    }

    pub(crate) fn interesting_channels(&self) -> u64 {
        self.interesting
    }

    /// Everything that is kept for somebody: nothing when nobody is there and the delays are over.
    pub(crate) fn entries(&self) -> usize {
        self.channels.len() + self.entering.len() + self.asked.len() + self.lingering.len() + self.leavers.len()
    }

    /// After a peak: see [`crate::Engine::give_back_memory`].
    pub(crate) fn give_back_memory(&mut self) {
        self.channels.forget_spare();
        self.entering.forget_spare();
        self.asked.shrink_to_fit();
        self.lingering.shrink();
    }

    /// Begins a call. What could be answered at once is in the resolutions, in most cases only a failure.
    pub(crate) fn call(
        &mut self,
        caller: Caller,
        name: &str,
        call: HomeCall,
        now_ms: u64,
        out: &mut dyn Outlet,
    ) -> Resolutions {
        self.now_ms = now_ms;
        let mut resolved = Resolutions::new();
        match call {
            HomeCall::Subscribe(call) => self.enter(caller, name, call, out, &mut resolved),
            HomeCall::Unsubscribe(call) => self.leave(name, call, out),
            HomeCall::Join(info) => self.tell(name, StoreCall::Join(&info), out),
            HomeCall::Renew(client, info) => self.renew(name, client, &info, out),
            HomeCall::Publish(call) => self.publish(caller, name, &call, out, &mut resolved),
            HomeCall::History(call) => self.history(caller, name, &call, out, &mut resolved),
            HomeCall::HistoryRemove => {
                self.ask(name, Asked::Reply(caller, name.into()), StoreCall::RemoveHistory, out, &mut resolved);
            }
            HomeCall::Presence => {
                let call = StoreCall::Members(self.layout(name));
                self.ask(name, Asked::Reply(caller, name.into()), call, out, &mut resolved);
            }
            HomeCall::PresenceStats => {
                let call = StoreCall::Counts(self.layout(name));
                self.ask(name, Asked::Reply(caller, name.into()), call, out, &mut resolved);
            }
            HomeCall::CheckPosition { core, held, meta_ttl_ms } => {
                let new_epoch = Epoch::random(&mut self.rng);
                let read = StoreRead { limit: 0, since: None, reverse: false, meta_ttl_ms, new_epoch };
                self.ask(name, Asked::Position(core, name.into(), held), StoreCall::Read(read), out, &mut resolved);
            }
        }
        resolved
    }

    /// The reply to a call of [`Outlet::store`].
    pub(crate) fn stored(
        &mut self,
        ticket: Ticket,
        reply: StoreReply,
        now_ms: u64,
        out: &mut dyn Outlet,
    ) -> Resolutions {
        self.now_ms = now_ms;
        let mut resolved = Resolutions::new();
        if let Some(asked) = self.asked.remove(&ticket) {
            self.answered(asked, reply, out, &mut resolved);
        }
        resolved
    }

    /// A message of a channel. `None` = nobody here wants it any more.
    pub(crate) fn heard(&mut self, name: &str, heard: Heard) -> Option<(Arc<Delivery>, Interest)> {
        let id = self.channels.find(name)?;
        let channel = &mut self.channels[id];
        let interest = channel.interest.masks();
        let delivery = match heard {
            Heard::Publication(mut publication, at) => {
                publication.offset = at.offset;
                if at.offset > 0 {
                    channel.heard = at;
                }
                let publication = Arc::new(publication);
                if let Some(door) = &mut channel.entering {
                    door.note(at, &publication);
                }
                (!interest.is_empty()).then(|| Delivery::publication(name, &publication, at, interest))
            }
            Heard::Join(info) => (!interest.is_empty()).then(|| Delivery::join(name, &info, interest)),
            Heard::Leave(info) => (!interest.is_empty()).then(|| Delivery::leave(name, &info, interest)),
        };
        Some((Arc::new(delivery?), interest))
    }

    /// Once a turn: what is due by the clock. Presence entries are renewed every `refresh_ms`.
    pub(crate) fn turn(&mut self, now_ms: u64, refresh_ms: u64, out: &mut dyn Outlet) -> Resolutions {
        self.now_ms = now_ms;
        let mut resolved = Resolutions::new();
        self.stop_hearing(out, &mut resolved);
        self.refresh_members(refresh_ms, out);
        resolved
    }

    fn answered(&mut self, asked: Asked, reply: StoreReply, out: &mut dyn Outlet, resolved: &mut Resolutions) {
        let (caller, channel, reply) = match (asked, reply) {
            (Asked::Hear(name), reply) => {
                let is_heard = matches!(reply, StoreReply::Done);
                return self.hearing_answered(&name, is_heard, out, resolved);
            }
            (Asked::Unhear(name), reply) => {
                let is_done = matches!(reply, StoreReply::Done);
                return self.unhearing_answered(&name, is_done, out, resolved);
            }
            (Asked::Step(number), reply) => return self.step_answered(number, reply, out, resolved),
            (Asked::Renewal(id), reply) => return self.renewal_answered(id, matches!(reply, StoreReply::Done)),
            (Asked::Exit(leaver), reply) => return self.exit_answered(leaver, &reply),
            (Asked::Nothing, _) => return,
            (Asked::Publish(caller, channel), StoreReply::Published(at)) => (caller, channel, HomeReply::Published(at)),
            (Asked::History(caller, channel, epoch), StoreReply::Read(facts)) => {
                let is_same = epoch.is_none_or(|epoch| epoch.is_empty() || *epoch == *facts.top.epoch.as_str());
                (caller, channel, HomeReply::History(if is_same { Ok(facts) } else { Err(Unrecoverable) }))
            }
            (Asked::Position(core, channel, held), StoreReply::Read(facts)) => {
                // What was published while the read was on its way is no loss: it has been heard since.
                let heard = self.channels.find(&channel).map(|id| self.channels[id].heard);
                if facts.top != held && Some(facts.top) != heard {
                    let reply = HomeReply::PositionLost(held);
                    let response = HomeResponse { caller: Caller::None, channel, reply };
                    resolved.push(Resolved { core, response });
                }
                return;
            }
            (Asked::Anew(channel, before), StoreReply::Read(facts)) => {
                return self.read_anew(channel, before, facts.top, resolved);
            }
            // The next check will tell.
            (Asked::Position(..) | Asked::Anew(..), _) => return,
            (Asked::Reply(caller, channel), StoreReply::Done) => (caller, channel, HomeReply::Done),
            (Asked::Reply(caller, channel), StoreReply::Members(members)) => {
                (caller, channel, HomeReply::Presence(members))
            }
            (Asked::Reply(caller, channel), StoreReply::Counts(clients, users)) => {
                (caller, channel, HomeReply::PresenceStats { clients, users })
            }
            (
                Asked::Publish(caller, channel) | Asked::History(caller, channel, _) | Asked::Reply(caller, channel),
                _,
            ) => (caller, channel, HomeReply::Unavailable),
        };
        resolved.extend(Resolved::new(caller, channel, reply));
    }

    fn publish(
        &mut self,
        caller: Caller,
        name: &str,
        call: &PublishCall,
        out: &mut dyn Outlet,
        resolved: &mut Resolutions,
    ) {
        let publish = StorePublish {
            publication: &call.publication,
            history: call.history,
            new_epoch: Epoch::random(&mut self.rng),
            idempotency_key: &call.idempotency_key,
            version: call.version,
            version_epoch: &call.version_epoch,
        };
        self.ask(name, Asked::Publish(caller, name.into()), StoreCall::Publish(publish), out, resolved);
    }

    fn history(
        &mut self,
        caller: Caller,
        name: &str,
        call: &HistoryCall,
        out: &mut dyn Outlet,
        resolved: &mut Resolutions,
    ) {
        let read = StoreRead {
            limit: call.limit,
            since: call.since.as_ref().map(|(offset, _)| *offset),
            reverse: call.reverse,
            meta_ttl_ms: call.meta_ttl_ms,
            new_epoch: Epoch::random(&mut self.rng),
        };
        let epoch = call.since.as_ref().map(|(_, epoch)| epoch.clone());
        self.ask(name, Asked::History(caller, name.into(), epoch), StoreCall::Read(read), out, resolved);
    }

    /// Says something to all nodes, without waiting.
    fn tell(&mut self, name: &str, call: StoreCall<'_>, out: &mut dyn Outlet) {
        self.ask(name, Asked::Nothing, call, out, &mut Resolutions::new());
    }

    /// Asks the store; what it refuses to take fails at once.
    fn ask(&mut self, name: &str, asked: Asked, call: StoreCall<'_>, out: &mut dyn Outlet, resolved: &mut Resolutions) {
        if let Err(asked) = self.try_ask(name, asked, call, out) {
            self.answered(asked, StoreReply::Failed, out, resolved);
        }
    }

    /// `Err` = the store refused to take it.
    fn try_ask(&mut self, name: &str, asked: Asked, call: StoreCall<'_>, out: &mut dyn Outlet) -> Result<(), Asked> {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if !out.store(ticket, name, call) {
            return Err(asked);
        }
        if !matches!(asked, Asked::Nothing) {
            self.asked.insert(ticket, asked);
        }
        Ok(())
    }

    fn trim(&mut self, id: u32) {
        if self.channels.get(id).is_some_and(RemoteChannel::is_unused) {
            self.channels.remove(id);
        }
    }
}

/// A publication with its place, as it was heard.
type HeardPublication = (Position, Arc<Publication>);
