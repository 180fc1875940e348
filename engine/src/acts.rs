//! What the server API does to sessions, and what it asks every core.
//!
//! An act reaches every core; each does it to its own sessions and answers when they are through with it, which for a
//! subscribe takes an answer of the channel's home core. Runs on every core; never waits.

use std::sync::Arc;

use bytes::Bytes;
use gyre_proto::codes::{Disconnect, Unsubscribe};
use gyre_proto::ids::{ConnId, CoreId};

use crate::engine::Engine;
use crate::limits::PENDING_ACTS_MAX;
use crate::message::{CallId, Caller, Counts, HomeCall, HomeReply, Message, Survey, SurveyReply, SurveyWhat};
use crate::outlet::Outlet;
use crate::rules::Overrides;
use crate::session::{Pending, Phase, Session, Work};
use crate::subscription::unsubscribe_push;

/// Something the server API wants done to sessions.
#[derive(Debug)]
pub struct Act {
    /// `""` = anonymous connections.
    pub user: Box<str>,
    /// Restricts to one connection; empty = all of the user's.
    pub client: Box<str>,
    /// Connections spared.
    pub whitelist: Vec<Box<str>>,
    /// What is done to them.
    pub what: ActWhat,
}

/// See [`Act`].
#[derive(Debug)]
pub enum ActWhat {
    /// The connections are closed.
    Disconnect(Disconnect),
    /// They lose a channel.
    Unsubscribe {
        /// Full name.
        channel: Box<str>,
        /// What they are told.
        why: Unsubscribe,
    },
    /// They get a channel.
    Subscribe(SubscribeAct),
    /// They expire at another time.
    Refresh(RefreshAct),
}

/// See [`ActWhat::Subscribe`].
#[derive(Debug, Default)]
pub struct SubscribeAct {
    /// Full name.
    pub channel: Box<str>,
    /// Unix seconds; 0 = never.
    pub expire_at_s: i64,
    /// Channel info.
    pub info: Bytes,
    /// For the clients.
    pub data: Bytes,
    /// Offset and epoch of the last publication that the clients have seen.
    pub recover_since: Option<(u64, Box<str>)>,
    /// Instead of the options of the namespace.
    pub overrides: Overrides,
}

/// See [`ActWhat::Refresh`].
#[derive(Debug, Default)]
pub struct RefreshAct {
    /// They expire now.
    pub is_expired: bool,
    /// Unix seconds; 0 = never.
    pub expire_at_s: i64,
    /// Connection info from now on; empty = what it was. Of no effect without expiry, as upstream has it.
    pub info: Bytes,
}

/// Acts that sessions of this core are not through with.
#[derive(Debug, Default)]
pub(crate) struct Acts {
    last: u32,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    number: u32,
    /// Who waits, and its number there.
    core: CoreId,
    call: CallId,
    /// Sessions that may not be through with it.
    left: Vec<ConnId>,
    has_failed: bool,
}

impl Engine {
    /// Calls the home core of a channel for the server API. `None` = [`Outlet::answer`] follows.
    pub fn api_call(&mut self, call: CallId, channel: &str, what: HomeCall, out: &mut dyn Outlet) -> Option<HomeReply> {
        let caller = Caller::Api { core: self.core, call };
        self.call_home(caller, channel, what, out)
    }

    /// Asks every core, this one included; [`Outlet::surveyed`] follows once for each.
    pub fn api_survey(&mut self, call: CallId, what: &SurveyWhat, out: &mut dyn Outlet) {
        for core in (0..self.cores).map(CoreId).filter(|core| *core != self.core) {
            out.send(core, Message::Survey(Box::new(Survey { core: self.core, call, what: what.clone() })));
        }
        self.survey(Survey { core: self.core, call, what: what.clone() }, out);
    }

    pub(crate) fn survey(&mut self, survey: Survey, out: &mut dyn Outlet) {
        let Survey { core, call, what } = survey;
        let reply = match what {
            SurveyWhat::Counts => SurveyReply::Counts(self.counts()),
            SurveyWhat::Channels(pattern) => {
                let channels = self
                    .hub
                    .iter()
                    .filter(|channel| !channel.subscribers.is_empty())
                    .filter(|channel| pattern.as_ref().is_none_or(|p| p.is_match(&*channel.name)))
                    .map(|channel| (channel.name.clone(), channel.subscribers.len() as u32));
                SurveyReply::Channels(channels.collect())
            }
            SurveyWhat::Act(act) => return self.act(&act, Some((core, call)), out),
        };
        self.survey_reply(core, call, reply, out);
    }

    fn survey_reply(&self, core: CoreId, call: CallId, reply: SurveyReply, out: &mut dyn Outlet) {
        match core == self.core {
            true => out.surveyed(call, reply),
            false => out.send(core, Message::Surveyed(call, Box::new(reply))),
        }
    }

    /// Sizes of this core's tables.
    pub fn counts(&self) -> Counts {
        Counts {
            clients: self.counters.connected,
            users: self.users.len() as u64,
            channels: self.home.interesting_channels(),
            subscriptions: self.hub.subscriptions(),
        }
    }

    /// Does something to the sessions of this core that are meant. `asker` is answered when they are through with it.
    pub(crate) fn act(&mut self, act: &Arc<Act>, asker: Option<(CoreId, CallId)>, out: &mut dyn Outlet) {
        let mut conns = self.sessions.of_user(&act.user);
        conns.retain(|conn| self.sessions.of(*conn).is_some_and(|session| act.is_meant_for(session)));
        self.acts.last = self.acts.last.wrapping_add(1);
        let number = self.acts.last;
        if let Some((core, call)) = asker {
            self.acts.waiting.push(Waiting { number, core, call, left: conns.clone(), has_failed: false });
        }
        for conn in conns {
            self.act_on(conn, act, number, out);
        }
        self.answer_acts(out);
    }

    /// Does it to one session, now or as soon as that is ready for it.
    fn act_on(&mut self, conn: ConnId, act: &Arc<Act>, number: u32, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of_mut(conn) else { return };
        if let Some(pending) = &mut session.pending
            && must_wait(act, pending)
        {
            pending.acts.push((Arc::clone(act), number));
            if pending.acts.len() > PENDING_ACTS_MAX {
                tracing::error!(client = %session.client, user = &*session.user, "too many server API calls wait");
                self.disconnect(conn, &Disconnect::INTERNAL, out);
            }
            return;
        }
        match &act.what {
            ActWhat::Disconnect(why) => self.disconnect(conn, why, out),
            ActWhat::Unsubscribe { channel, why } => {
                if !self.take_away(conn, channel, why, out) {
                    // Pushed even to a client that is not subscribed, as upstream does.
                    self.push(conn, unsubscribe_push(channel.to_string(), why), out);
                }
            }
            ActWhat::Subscribe(act) => self.subscribe_by_server(conn, act, number, out),
            ActWhat::Refresh(act) => self.refresh_by_server(conn, act, out),
        }
    }

    /// The session is ready for an act that has waited.
    pub(crate) fn catch_up(&mut self, conn: ConnId, act: &Arc<Act>, number: u32, out: &mut dyn Outlet) {
        match &act.what {
            // Of a channel that it did not get there is nothing to tell.
            ActWhat::Unsubscribe { channel, why } => drop(self.take_away(conn, channel, why, out)),
            _ => self.act_on(conn, act, number, out),
        }
    }

    /// False = the session does not have the channel.
    fn take_away(&mut self, conn: ConnId, channel: &str, why: &Unsubscribe, out: &mut dyn Outlet) -> bool {
        let id = self.hub.find(channel);
        let Some(slot) = id.and_then(|id| self.sessions.of(conn)?.subscription(id)) else { return false };
        self.unsubscribe_with_push(conn, slot, why, out);
        true
    }

    /// An act could not be done to a session. One of another node has nobody to tell but the operator.
    pub(crate) fn act_failed(&mut self, number: u32) {
        if let Some(waiting) = self.acts.waiting.iter_mut().find(|waiting| waiting.number == number) {
            waiting.has_failed = true;
        }
    }

    /// Answers those acts that all sessions are through with, or gone. Looked up rather than counted, so that no way in
    /// which a session ends can be forgotten; a session is looked at once, and then once a turn until it is through.
    pub(crate) fn answer_acts(&mut self, out: &mut dyn Outlet) {
        let mut at = 0;
        while let Some(waiting) = self.acts.waiting.get_mut(at) {
            let sessions = &self.sessions;
            let is_through =
                |conn: ConnId| !sessions.of(conn).is_some_and(|session| waits_for(session, waiting.number));
            while waiting.left.last().is_some_and(|conn| is_through(*conn)) {
                waiting.left.pop();
            }
            if !waiting.left.is_empty() {
                at += 1;
                continue;
            }
            let Waiting { core, call, has_failed, .. } = self.acts.waiting.swap_remove(at);
            self.survey_reply(core, call, SurveyReply::Done(!has_failed), out);
        }
    }
}

impl Act {
    fn is_meant_for(&self, session: &Session) -> bool {
        if session.phase == Phase::Refused {
            return false;
        }
        if self.client.is_empty() && self.whitelist.is_empty() {
            return true;
        }
        let client = session.client.to_string();
        (self.client.is_empty() || *self.client == *client) && self.whitelist.iter().all(|spared| **spared != *client)
    }
}

/// Whether an act has to wait for what a session is about.
fn must_wait(act: &Act, pending: &Pending) -> bool {
    match &act.what {
        ActWhat::Disconnect(_) => false,
        // Nothing is told before the connect reply.
        ActWhat::Refresh(_) => matches!(pending.work, Work::Connect(_)),
        // One reservation at a time.
        ActWhat::Subscribe(_) => true,
        ActWhat::Unsubscribe { channel, .. } => {
            let is_being_set_up = match &pending.work {
                Work::Subscribe { plan, .. } | Work::ServerSide { plan, .. } => plan.channel == *channel,
                Work::AskSubscribe { request, .. } => *request.channel == **channel,
                Work::Connect(_) => true,
                _ => false,
            };
            is_being_set_up || pending.acts.iter().any(|(earlier, _)| gives(earlier, channel))
        }
    }
}

fn gives(act: &Act, channel: &str) -> bool {
    matches!(&act.what, ActWhat::Subscribe(subscribe) if *subscribe.channel == *channel)
}

/// Not while the session waits for a backend, which may be the one that has made the call: its answer would wait for itself.
/// The act is done all the same, when the backend has answered.
fn waits_for(session: &Session, number: u32) -> bool {
    let Some(pending) = session.pending.as_deref() else { return false };
    match pending.work {
        Work::ServerSide { act, .. } if act == number => true,
        ref work => !work.waits_for_backend() && pending.acts.iter().any(|(_, waiting)| *waiting == number),
    }
}
