//! `publish` by a client.

use std::collections::VecDeque;

use bytes::Bytes;
use gyre_proto::client::{Publication, PublishRequest};
use gyre_proto::codes::{Disconnect, Error};
use gyre_proto::ids::ConnId;

use crate::engine::{Engine, home_of};
use crate::message::{Caller, HistoryOptions, HomeCall, HomeReply, PublishCall};
use crate::outlet::Outlet;
use crate::replies::Refused;
use crate::rules;
use crate::session::{PublishesInFlight, Session, Work};

impl Engine {
    pub(super) fn publish(&mut self, conn: ConnId, id: u32, request: PublishRequest, out: &mut dyn Outlet) {
        // Each publication takes one, refused ones too: those that wait are told apart by it.
        let seq = self.next_seq(conn);
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
        let caller = Caller::Session { core: self.core, conn, seq };
        match self.call_home(caller, &request.channel, call, out) {
            Some(HomeReply::Unavailable) => {
                return self.refuse_in_turn(conn, id, &request.channel, Error::INTERNAL, out);
            }
            Some(_) => return self.reply_in_turn(conn, id, Ok(()), out),
            None => {}
        }
        match self.publications_that_wait(conn) {
            Some(ids) => ids.push_back((id, None)),
            None => {
                let home = home_of(&request.channel, self.cores);
                self.park(conn, seq, Work::Publish { home, ids: VecDeque::from([(id, None)]) });
            }
        }
    }

    fn refuse_in_turn(&mut self, conn: ConnId, id: u32, channel: &str, error: Error, out: &mut dyn Outlet) {
        self.log_refusal(conn, Refused { command: "publish", channel }, error);
        self.reply_in_turn(conn, id, Err(error), out);
    }

    /// Replies come in the order of the commands: behind the publications that wait, if any.
    fn reply_in_turn(&mut self, conn: ConnId, id: u32, result: Result<(), Error>, out: &mut dyn Outlet) {
        match self.publications_that_wait(conn) {
            Some(ids) => ids.push_back((id, Some(result))),
            None => self.publish_reply(conn, id, result, out),
        }
    }

    fn publications_that_wait(&mut self, conn: ConnId) -> Option<&mut PublishesInFlight> {
        match &mut self.sessions.of_mut(conn)?.pending.as_mut()?.work {
            Work::Publish { ids, .. } => Some(ids),
            _ => None,
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

    pub(crate) fn is_subscribed(&self, session: &Session, channel: &str) -> bool {
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
