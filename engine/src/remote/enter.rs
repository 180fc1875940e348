//! Subscribers on their way in: first the channel is heard, then presence and position are asked for together, then what
//! was heard meanwhile is joined on. The other way round a publication between the read and the first message is lost.

use std::collections::VecDeque;
use std::sync::Arc;

use gyre_proto::client::{ClientInfo, Publication};

use super::hearing::Hearing;
use super::{Asked, HeardPublication, Remote, RemoteChannel, Resolutions, Resolved};
use crate::latest::recover_latest;
use crate::limits::{HEARD_MEANWHILE_MAX, READS_PER_SUBSCRIBE_MAX};
use crate::message::{Caller, HistoryFacts, HomeReply, PositionCall, SubscribeCall, SubscribeFacts};
use crate::outlet::Outlet;
use crate::position::{Epoch, Position};
use crate::rules::RecoveryMode;
use crate::session::ClientId;
use crate::store::{StoreCall, StoreRead, StoreReply};

/// A subscriber that waits for the store.
#[derive(Debug)]
pub(super) struct Entering {
    caller: Caller,
    channel: Box<str>,
    member: Option<(ClientId, Arc<ClientInfo>)>,
    position: Option<PositionCall>,
    /// Answers that are missing.
    steps: u8,
    reads: u8,
    /// Number of the first publication that the read under way may not know; see [`AtTheDoor::first`].
    unread_from: u64,
    has_failed: bool,
    facts: Option<HistoryFacts>,
}

/// Those of one channel, and what they must not miss.
#[derive(Debug, Default)]
pub(super) struct AtTheDoor {
    /// Not before the channel is heard.
    waiting: Vec<u32>,
    /// Reads of the position on their way.
    reading: u32,
    /// Heard while there were any, the latest of them.
    meanwhile: VecDeque<HeardPublication>,
    /// Number of the first one kept.
    first: u64,
}

impl AtTheDoor {
    /// A publication was heard.
    pub(super) fn note(&mut self, at: Position, publication: &Arc<Publication>) {
        if self.reading == 0 || at.offset == 0 {
            return;
        }
        self.meanwhile.push_back((at, Arc::clone(publication)));
        if self.meanwhile.len() > HEARD_MEANWHILE_MAX {
            self.meanwhile.pop_front();
            self.first += 1;
        }
    }

    /// A read begins. Returns the number of the first publication that it may not know.
    fn begin_reading(&mut self) -> u64 {
        self.reading += 1;
        self.first + self.meanwhile.len() as u64
    }

    fn end_reading(&mut self) {
        self.reading -= 1;
        if self.reading == 0 {
            self.first += self.meanwhile.len() as u64;
            self.meanwhile = VecDeque::new();
        }
    }

    /// What was heard from this number on. `None` = too much.
    fn heard_from(&self, number: u64) -> Option<impl Iterator<Item = &HeardPublication>> {
        let skip = usize::try_from(number.checked_sub(self.first)?).ok()?;
        Some(self.meanwhile.iter().skip(skip))
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.reading == 0
    }
}

impl Remote {
    pub(super) fn enter(
        &mut self,
        caller: Caller,
        name: &str,
        call: SubscribeCall,
        out: &mut dyn Outlet,
        resolved: &mut Resolutions,
    ) {
        let id = self.channels.find_or_insert(name, || RemoteChannel::new(name));
        let number = self.entering.insert(Entering {
            caller,
            channel: name.into(),
            member: call.member,
            position: call.position,
            steps: 0,
            reads: 0,
            unread_from: 0,
            has_failed: false,
            facts: None,
        });
        let channel = &mut self.channels[id];
        self.interesting += u64::from(channel.interest.masks().is_empty());
        channel.interest.add(call.core, call.encoding);
        match channel.hearing {
            Hearing::Yes => self.begin_steps(number, out, resolved),
            Hearing::Lingering { .. } => {
                channel.hearing = Hearing::Yes;
                self.begin_steps(number, out, resolved);
            }
            Hearing::Asked | Hearing::Ending => channel.entering.get_or_insert_default().waiting.push(number),
            Hearing::No | Hearing::Unsure { .. } => {
                channel.entering.get_or_insert_default().waiting.push(number);
                self.hear(id, out, resolved);
            }
        }
    }

    /// The channel is heard, or cannot be: those who waited for it go on.
    pub(super) fn let_in(&mut self, id: u32, is_heard: bool, out: &mut dyn Outlet, resolved: &mut Resolutions) {
        let Some(door) = self.channels.get_mut(id).and_then(|channel| channel.entering.as_mut()) else { return };
        for number in std::mem::take(&mut door.waiting) {
            if is_heard {
                self.begin_steps(number, out, resolved);
            } else if let Some(entering) = self.entering.remove(number) {
                resolved.extend(Resolved::new(entering.caller, entering.channel, HomeReply::Unavailable));
            }
        }
        self.close_door(id);
    }

    /// Whoever waits under this client id has gone: it must not be entered after it was taken out.
    pub(super) fn turn_away(&mut self, id: u32, client: ClientId) {
        let Some(door) = &mut self.channels[id].entering else { return };
        let entering = &mut self.entering;
        door.waiting.retain(|&number| {
            let is_gone = entering[number].member.as_ref().is_some_and(|(member, _)| *member == client);
            if is_gone {
                entering.remove(number);
            }
            !is_gone
        });
        self.close_door(id);
    }

    fn begin_steps(&mut self, number: u32, out: &mut dyn Outlet, resolved: &mut Resolutions) {
        let entering = &mut self.entering[number];
        let name = entering.channel.clone();
        let member = entering.member.clone();
        entering.steps = u8::from(member.is_some()) + u8::from(entering.position.is_some());
        if entering.steps == 0 {
            return self.finish(number, out, resolved);
        }
        let is_positioned = entering.position.is_some();
        if let Some((client, info)) = member {
            self.add_member(&name, client, &info);
            let call = StoreCall::Enter(client, &info, self.layout(&name));
            self.ask(&name, Asked::Step(number), call, out, resolved);
        }
        if is_positioned {
            self.begin_read(number, &name, out, resolved);
        }
    }

    fn begin_read(&mut self, number: u32, name: &str, out: &mut dyn Outlet, resolved: &mut Resolutions) {
        let new_epoch = Epoch::random(&mut self.rng);
        let Some(entering) = self.entering.get_mut(number) else { return };
        let Some(position) = &entering.position else { return };
        entering.reads += 1;
        let (limit, since, reverse) = match &position.recover {
            None => (0, None, false),
            Some(from) if from.mode == RecoveryMode::Cache => (1, None, true),
            Some(from) if from.limit == 0 => (-1, Some(from.offset), false),
            Some(from) => (i64::try_from(from.limit).unwrap_or(-1), Some(from.offset), false),
        };
        let read = StoreRead { limit, since, reverse, meta_ttl_ms: position.meta_ttl_ms, new_epoch };
        if let Some(id) = self.channels.find(name) {
            entering.unread_from = self.channels[id].entering.get_or_insert_default().begin_reading();
        }
        self.ask(name, Asked::Step(number), StoreCall::Read(read), out, resolved);
    }

    pub(super) fn step_answered(
        &mut self,
        number: u32,
        reply: StoreReply,
        out: &mut dyn Outlet,
        resolved: &mut Resolutions,
    ) {
        let Some(entering) = self.entering.get_mut(number) else { return };
        entering.steps -= 1;
        match reply {
            StoreReply::Done => {}
            StoreReply::Read(facts) => entering.facts = Some(facts),
            _ => entering.has_failed = true,
        }
        if entering.steps == 0 {
            self.finish(number, out, resolved);
        }
    }

    /// All answers are there.
    fn finish(&mut self, number: u32, out: &mut dyn Outlet, resolved: &mut Resolutions) {
        let Some(mut entering) = self.entering.remove(number) else { return };
        let id = self.channels.find(&entering.channel);
        let door = id.and_then(|id| self.channels[id].entering.as_mut());
        let mut reply = HomeReply::Unavailable;
        let mut reads_again = false;
        if !entering.has_failed {
            match (&entering.position, entering.facts.take()) {
                (None, _) => reply = HomeReply::Subscribed(SubscribeFacts::default()),
                (Some(position), Some(facts)) => {
                    let meanwhile = door.as_ref().and_then(|door| door.heard_from(entering.unread_from));
                    match meanwhile.and_then(|meanwhile| joined_on(position, facts, meanwhile)) {
                        Some(facts) => reply = HomeReply::Subscribed(facts),
                        None => reads_again = entering.reads < READS_PER_SUBSCRIBE_MAX,
                    }
                }
                (Some(_), None) => {}
            }
        }
        if let Some(door) = door
            && entering.reads > 0
        {
            door.end_reading();
        }
        if reads_again {
            let name = entering.channel.clone();
            entering.steps = 1;
            let number = self.entering.insert(entering);
            return self.begin_read(number, &name, out, resolved);
        }
        resolved.extend(Resolved::new(entering.caller, entering.channel, reply));
        if let Some(id) = id {
            self.close_door(id);
        }
    }

    fn close_door(&mut self, id: u32) {
        if let Some(channel) = self.channels.get_mut(id) {
            channel.entering.take_if(|door| door.is_empty());
            self.trim(id);
        }
    }
}

/// What was read and what was heard since, without a gap and without doubles. `None` = they do not meet: the read is too
/// old, or the stream began anew meanwhile.
fn joined_on<'a>(
    position: &PositionCall,
    facts: HistoryFacts,
    meanwhile: impl Iterator<Item = &'a HeardPublication>,
) -> Option<SubscribeFacts> {
    let HistoryFacts { mut top, mut publications } = facts;
    let cache = position.recover.as_ref().filter(|from| from.mode == RecoveryMode::Cache);
    // Of what was read alone: a page that the limit cut short has a gap before what was heard.
    let recovered = position.recover.as_ref().is_some_and(|from| {
        let is_same_epoch = from.epoch.is_empty() || *from.epoch == *top.epoch.as_str();
        let reaches_top = match (publications.first(), publications.last()) {
            (Some(first), Some(last)) => from.offset.checked_add(1) == Some(first.offset) && last.offset == top.offset,
            _ => from.offset == top.offset,
        };
        is_same_epoch && reaches_top
    });
    if !recovered && cache.is_none() {
        publications.clear();
    }
    for (at, publication) in meanwhile {
        if at.epoch != top.epoch {
            return None;
        }
        if at.offset <= top.offset {
            continue;
        }
        if at.offset - 1 != top.offset {
            return None;
        }
        top = *at;
        if cache.is_some() {
            publications.clear();
        }
        if recovered || cache.is_some() {
            publications.push(Arc::clone(publication));
        }
    }
    Some(match cache {
        Some(from) => recover_latest(from, top, publications.pop()),
        None => SubscribeFacts { top: Some(top), publications, recovered, is_cache_empty: false },
    })
}
