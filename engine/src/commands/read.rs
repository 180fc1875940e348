//! Reading commands: `history`, `presence`, `presence_stats`.

use std::sync::Arc;

use gyre_proto::client::{ClientInfo, HistoryRequest, HistoryResult, PresenceResult, PresenceStatsResult, Reply};
use gyre_proto::codes::{Disconnect, Error};
use gyre_proto::ids::ConnId;

use crate::engine::Engine;
use crate::message::{Caller, HistoryCall, HistoryFacts, HistoryOptions, HomeCall, HomeReply, Unrecoverable};
use crate::outlet::Outlet;
use crate::replies::Refused;
use crate::rules;
use crate::session::{ClientId, Work};

impl Engine {
    pub(super) fn history(&mut self, conn: ConnId, id: u32, request: HistoryRequest, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        if request.channel.is_empty() {
            return self.disconnect(conn, &Disconnect::BAD_REQUEST, out);
        }
        let checked = self.readable(&request.channel, |engine, resolved| {
            if !HistoryOptions::of(&engine.rules, &request.channel).is_on() {
                return Err(Error::NOT_AVAILABLE);
            }
            let subscribed = engine.is_subscribed(session, &request.channel);
            Ok(rules::may_read_history(&engine.rules, resolved.options, &session.user, subscribed))
        });
        let at_the_start = request.since.as_ref().is_some_and(|since| since.offset == 0);
        let checked = checked.and(if request.reverse && at_the_start { Err(Error::BAD_REQUEST) } else { Ok(()) });
        if let Err(error) = checked {
            let what = Refused { command: "history", channel: &request.channel };
            return self.refuse(conn, id, what, error, out);
        }
        let most = i64::try_from(self.rules.client.history_max_publication_limit).unwrap_or(i64::MAX);
        let limit = match i64::from(request.limit) {
            limit if most > 0 && (limit < 0 || limit > most) => most,
            limit => limit,
        };
        let call = HomeCall::History(HistoryCall {
            limit,
            since: request.since.map(|since| (since.offset, since.epoch.into())),
            reverse: request.reverse,
            meta_ttl_ms: HistoryOptions::of(&self.rules, &request.channel).meta_ttl_ms,
        });
        self.ask(conn, &request.channel, call, Work::History { id }, out);
    }

    pub(super) fn presence(&mut self, conn: ConnId, id: u32, channel: &str, out: &mut dyn Outlet) {
        if self.presence_is_readable(conn, id, channel, out) {
            self.ask(conn, channel, HomeCall::Presence, Work::Presence { id }, out);
        }
    }

    pub(super) fn presence_stats(&mut self, conn: ConnId, id: u32, channel: &str, out: &mut dyn Outlet) {
        if self.presence_is_readable(conn, id, channel, out) {
            self.ask(conn, channel, HomeCall::PresenceStats, Work::PresenceStats { id }, out);
        }
    }

    fn presence_is_readable(&mut self, conn: ConnId, id: u32, channel: &str, out: &mut dyn Outlet) -> bool {
        if channel.is_empty() {
            self.disconnect(conn, &Disconnect::BAD_REQUEST, out);
            return false;
        }
        let checked = self.readable(channel, |engine, resolved| {
            if !resolved.options.presence {
                return Err(Error::NOT_AVAILABLE);
            }
            let Some(session) = engine.sessions.of(conn) else { return Ok(false) };
            let subscribed = engine.is_subscribed(session, channel);
            Ok(rules::may_read_presence(&engine.rules, resolved.options, &session.user, subscribed))
        });
        if let Err(error) = checked {
            self.refuse(conn, id, Refused { command: "presence", channel }, error, out);
            return false;
        }
        true
    }

    /// The ladder that both kinds of reading share: namespace 102, name 107, feature 108, permission 103.
    fn readable(
        &self,
        channel: &str,
        permitted: impl FnOnce(&Self, &rules::Resolved<'_>) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let resolved = self.rules.resolve(channel).ok_or(Error::UNKNOWN_CHANNEL)?;
        if !self.rules.name_is_valid(channel, &resolved) {
            return Err(Error::BAD_REQUEST);
        }
        if permitted(self, &resolved)? {
            return Ok(());
        }
        Err(Error::PERMISSION_DENIED)
    }

    /// Asks the home core; answers at once when that is here.
    fn ask(&mut self, conn: ConnId, channel: &str, call: HomeCall, work: Work, out: &mut dyn Outlet) {
        let seq = self.next_seq(conn);
        let caller = Caller::Session { core: self.core, conn, seq };
        match (self.call_home(caller, channel, call, out), work) {
            (Some(HomeReply::History(facts)), Work::History { id }) => {
                self.history_read(conn, id, facts, out);
            }
            (Some(HomeReply::Presence(members)), Work::Presence { id }) => {
                self.presence_read(conn, id, &members, out);
            }
            (Some(HomeReply::PresenceStats { clients, users }), Work::PresenceStats { id }) => {
                self.presence_stats_read(conn, id, clients, users, out);
            }
            (
                Some(HomeReply::Unavailable),
                Work::History { id } | Work::Presence { id } | Work::PresenceStats { id },
            ) => self.reply_error(conn, id, Error::INTERNAL, out),
            (_, work) => self.park(conn, seq, work),
        }
    }

    pub(super) fn history_read(
        &mut self,
        conn: ConnId,
        id: u32,
        facts: Result<HistoryFacts, Unrecoverable>,
        out: &mut dyn Outlet,
    ) {
        let Ok(facts) = facts else {
            return self.refuse(
                conn,
                id,
                Refused { command: "history", channel: "" },
                Error::UNRECOVERABLE_POSITION,
                out,
            );
        };
        let result = HistoryResult {
            publications: facts.publications.iter().map(|p| (**p).clone()).collect(),
            epoch: facts.top.epoch.as_str().into(),
            offset: facts.top.offset,
        };
        self.reply(conn, Reply::history(id, result), out);
    }

    pub(super) fn presence_read(
        &mut self,
        conn: ConnId,
        id: u32,
        members: &[(ClientId, Arc<ClientInfo>)],
        out: &mut dyn Outlet,
    ) {
        let presence = members.iter().map(|(client, info)| (client.to_string(), (**info).clone())).collect();
        self.reply(conn, Reply::presence(id, PresenceResult { presence }), out);
    }

    pub(super) fn presence_stats_read(
        &mut self,
        conn: ConnId,
        id: u32,
        clients: u32,
        users: u32,
        out: &mut dyn Outlet,
    ) {
        let result = PresenceStatsResult { num_clients: clients, num_users: users };
        self.reply(conn, Reply::presence_stats(id, result), out);
    }
}
