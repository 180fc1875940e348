//! What the server API does to sessions, and what it asks every core.

use gyre_proto::codes::Unsubscribe;
use gyre_proto::ids::{ConnId, CoreId};

use crate::engine::Engine;
use crate::message::{
    Act, ActWhat, CallId, Caller, Counts, HomeCall, HomeReply, Message, Survey, SurveyReply, SurveyWhat,
};
use crate::outlet::Outlet;
use crate::session::{Session, Work};
use crate::subscription::unsubscribe_push;

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
        let reply = self.survey_here(what);
        out.surveyed(call, reply);
    }

    /// Does something with the sessions of a user, on every core.
    pub fn api_act(&mut self, act: std::sync::Arc<Act>, out: &mut dyn Outlet) {
        for core in (0..self.cores).map(CoreId).filter(|core| *core != self.core) {
            out.send(core, Message::Act(std::sync::Arc::clone(&act)));
        }
        self.act(&act, out);
    }

    pub(crate) fn survey(&mut self, survey: Survey, out: &mut dyn Outlet) {
        let reply = self.survey_here(&survey.what);
        out.send(survey.core, Message::Surveyed(survey.call, Box::new(reply)));
    }

    /// This core's share of an answer.
    fn survey_here(&self, what: &SurveyWhat) -> SurveyReply {
        match what {
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

    pub(crate) fn act(&mut self, act: &Act, out: &mut dyn Outlet) {
        for conn in self.sessions.of_user(&act.user) {
            let Some(session) = self.sessions.of(conn) else { continue };
            let client = session.client.to_string();
            let is_other = !act.client.is_empty() && *act.client != *client;
            if is_other || act.whitelist.iter().any(|spared| **spared == *client) {
                continue;
            }
            match &act.what {
                ActWhat::Disconnect(why) => self.disconnect(conn, why, out),
                ActWhat::Unsubscribe { channel, why } => self.unsubscribe_by_server(conn, channel, why, out),
            }
        }
    }

    /// Pushed even to a client that is not subscribed, as upstream does.
    fn unsubscribe_by_server(&mut self, conn: ConnId, channel: &str, why: &Unsubscribe, out: &mut dyn Outlet) {
        let id = self.hub.find(channel);
        let Some(session) = self.sessions.of_mut(conn) else { return };
        if is_being_set_up(session, channel)
            && let Some(pending) = &mut session.pending
        {
            pending.revoked.push((channel.into(), why.clone()));
            return;
        }
        if let Some(slot) = id.and_then(|id| session.subscription(id)) {
            return self.unsubscribe_with_push(conn, slot, why, out);
        }
        self.push(conn, unsubscribe_push(channel.to_owned(), why), out);
    }
}

fn is_being_set_up(session: &Session, channel: &str) -> bool {
    match session.pending.as_deref().map(|pending| &pending.work) {
        Some(Work::Subscribe { plan, .. }) => *plan.channel == *channel,
        // Nothing is told before the connect reply, of channels that are ready neither.
        Some(Work::Connect(_)) => true,
        _ => false,
    }
}
