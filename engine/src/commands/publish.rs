//! `publish` by a client.

use std::collections::VecDeque;

use bytes::Bytes;
use gyre_proto::client::{Publication, PublishRequest};
use gyre_proto::codes::{Disconnect, Error};
use gyre_proto::ids::ConnId;

use crate::engine::Engine;
use crate::message::{Caller, HistoryOptions, HomeCall, HomeReply, PublishCall};
use crate::outlet::Outlet;
use crate::replies::Refused;
use crate::rules;
use crate::session::{Lane, Session, Work};

impl Engine {
    pub(super) fn publish(&mut self, conn: ConnId, id: u32, request: PublishRequest, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        if request.channel.is_empty() {
            return self.disconnect(conn, &Disconnect::BAD_REQUEST, out);
        }
        if out.is_congested() {
            return self.refuse_in_turn(conn, id, &request.channel, Error::INTERNAL, out);
        }
        if let Err(error) = self.publish_check(session, &request) {
            return self.refuse_in_turn(conn, id, &request.channel, error, out);
        }
        let info = session.client_info(&self.channel_info(session, &request.channel));
        let history = HistoryOptions::of(&self.rules, &request.channel);
        let call = HomeCall::Publish(PublishCall {
            publication: Publication { data: request.data, info: Some(info), ..Publication::default() },
            history,
            idempotency_key: "".into(),
            version: 0,
            version_epoch: "".into(),
        });
        let joined = session.pending.as_ref().map(|pending| pending.seq);
        let seq = joined.unwrap_or_else(|| self.next_seq(conn));
        let caller = Caller::Session { core: self.core, conn, seq };
        match self.call_home(caller, &request.channel, call, out) {
            Some(HomeReply::Unavailable) => {
                return self.refuse_in_turn(conn, id, &request.channel, Error::INTERNAL, out);
            }
            Some(_) => return self.published(conn, id, out),
            None => {}
        }
        match self.sessions.of_mut(conn).and_then(|session| session.pending.as_mut()) {
            None => {
                let lane = Lane::of(&request.channel, self.cores, self.is_stored);
                self.park(conn, seq, Work::Publish { lane, ids: VecDeque::from([(id, None)]) });
            }
            Some(pending) => {
                if let Work::Publish { ids, .. } = &mut pending.work {
                    ids.push_back((id, None));
                }
            }
        }
    }

    /// Replies come in the order of the commands: behind the publications that wait, if any.
    fn refuse_in_turn(&mut self, conn: ConnId, id: u32, channel: &str, error: Error, out: &mut dyn Outlet) {
        self.log_refusal(conn, Refused { command: "publish", channel }, error);
        let pending = self.sessions.of_mut(conn).and_then(|session| session.pending.as_mut());
        match pending.map(|pending| &mut pending.work) {
            Some(Work::Publish { ids, .. }) => ids.push_back((id, Some(error))),
            _ => self.reply_error(conn, id, error, out),
        }
    }

    /// client-protocol.md section 12: the data is looked at before the permission.
    fn publish_check(&self, session: &Session, request: &PublishRequest) -> Result<(), Error> {
        let rules = &*self.rules;
        let channel = &*request.channel;
        let resolved = rules.resolve(channel).ok_or(Error::UNKNOWN_CHANNEL)?;
        if !rules.name_is_valid(channel, &resolved) {
            return Err(Error::BAD_REQUEST);
        }
        if !rules::check_data_format(resolved.options.publication_data_format, &request.data) {
            return Err(Error::BAD_REQUEST);
        }
        let subscribed = self.is_subscribed(session, channel);
        if !rules::may_publish(rules, resolved.options, &session.user, subscribed) {
            return Err(Error::PERMISSION_DENIED);
        }
        Ok(())
    }

    pub(super) fn is_subscribed(&self, session: &Session, channel: &str) -> bool {
        self.hub.find(channel).is_some_and(|id| session.subscription(id).is_some())
    }

    /// Channel info of the session's own subscription, if any.
    fn channel_info(&self, session: &Session, channel: &str) -> Bytes {
        let extra = self
            .hub
            .find(channel)
            .and_then(|id| session.subscription(id))
            .and_then(|slot| session.subscriptions[slot].extra.as_deref());
        extra.map_or(Bytes::new(), |extra| extra.info.clone())
    }
}
