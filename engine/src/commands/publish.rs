//! `publish` by a client, on its own or with the leave of a backend. Runs on the core of the connection.

use std::collections::VecDeque;

use bytes::Bytes;
use gyre_proto::client::{Publication, PublishRequest};
use gyre_proto::codes::{Disconnect, Error};
use gyre_proto::ids::ConnId;

use crate::backend::{BackendEvent, BackendReply, BackendResult, ProxyId, PublishAnswer};
use crate::engine::{Engine, home_of};
use crate::message::{Caller, HistoryOptions, HomeCall, HomeReply, PublishCall};
use crate::outlet::Outlet;
use crate::replies::Refused;
use crate::rules;
use crate::session::{PublishInFlight, Session, Work};

impl Engine {
    pub(super) fn publish(&mut self, conn: ConnId, id: u32, request: PublishRequest, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        if request.channel.is_empty() {
            return self.disconnect(conn, &Disconnect::BAD_REQUEST, out);
        }
        if out.is_congested() {
            return self.refuse_in_turn(conn, id, &request.channel, Error::INTERNAL, out);
        }
        match self.publish_check(session, &request) {
            Ok(None) => self.publish_as(conn, id, &request.channel, as_sent(request.data), out),
            Ok(Some(proxy)) => {
                let event =
                    BackendEvent::Publish { channel: request.channel.as_str().into(), data: request.data.clone() };
                self.ask_and_park(conn, proxy, event, Work::AskPublish { id, request }, out);
            }
            Err(error) => self.refuse_in_turn(conn, id, &request.channel, error, out),
        }
    }

    /// The backend has said what to publish, if anything (proxies.md 4.4). What it gives instead of the client's data is
    /// not looked at.
    pub(crate) fn publish_answered(
        &mut self,
        conn: ConnId,
        id: u32,
        request: PublishRequest,
        reply: BackendReply,
        out: &mut dyn Outlet,
    ) {
        let what = Refused { command: "publish", channel: &request.channel };
        let answer = match reply {
            BackendReply::NoResult => PublishAnswer::default(),
            BackendReply::Result(result) => match *result {
                BackendResult::Publish(answer) => answer,
                _ => return self.backend_refused(conn, id, what, BackendReply::Failed, out),
            },
            refusal => return self.backend_refused(conn, id, what, refusal, out),
        };
        if out.is_congested() {
            return self.refuse_in_turn(conn, id, &request.channel, Error::INTERNAL, out);
        }
        let answer = PublishAnswer { data: Some(answer.data.unwrap_or(request.data)), ..answer };
        self.publish_as(conn, id, &request.channel, answer, out);
    }

    /// Publishes in the name of a client.
    fn publish_as(&mut self, conn: ConnId, id: u32, channel: &str, what: PublishAnswer, out: &mut dyn Outlet) {
        let seq = self.next_seq(conn);
        let Some(session) = self.sessions.of(conn) else { return };
        let info = Some(session.client_info(&self.channel_info(session, channel)));
        let mut history = HistoryOptions::of(&self.rules, channel);
        if what.skip_history {
            history.size = 0;
        }
        let PublishAnswer { data, tags, idempotency_key, version, version_epoch, .. } = what;
        let call = HomeCall::Publish(PublishCall {
            publication: Publication { data: data.unwrap_or_default(), info, tags, version, ..Publication::default() },
            history,
            idempotency_key: idempotency_key.into(),
            version,
            version_epoch: version_epoch.into(),
        });
        let caller = Caller::Session { core: self.core, conn, seq };
        match self.call_home(caller, channel, call, out) {
            Some(HomeReply::Unavailable) => return self.refuse_in_turn(conn, id, channel, Error::INTERNAL, out),
            Some(_) => return self.reply_in_turn(conn, id, Ok(()), out),
            None => {}
        }
        let in_flight = PublishInFlight { id, seq, result: None };
        match self.publications_that_wait(conn) {
            Some(waiting) => waiting.push_back(in_flight),
            None => {
                let home = home_of(channel, self.cores);
                self.park(conn, seq, Work::Publish { home, waiting: VecDeque::from([in_flight]) });
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
            Some(waiting) => waiting.push_back(PublishInFlight { id, seq: 0, result: Some(result) }),
            None => self.publish_reply(conn, id, result, out),
        }
    }

    fn publications_that_wait(&mut self, conn: ConnId) -> Option<&mut VecDeque<PublishInFlight>> {
        match &mut self.sessions.of_mut(conn)?.pending.as_mut()?.work {
            Work::Publish { waiting, .. } => Some(waiting),
            _ => None,
        }
    }

    /// client-protocol.md section 12: the data is looked at before the permission. `Some` = whom to ask for that.
    fn publish_check(&self, session: &Session, request: &PublishRequest) -> Result<Option<ProxyId>, Error> {
        let rules = &*self.rules;
        let channel = &*request.channel;
        let resolved = rules.resolve(channel).ok_or(Error::UNKNOWN_CHANNEL)?;
        if !rules.name_is_valid(channel, &resolved) {
            return Err(Error::BAD_REQUEST);
        }
        if !rules::check_data_format(resolved.options.publication_data_format, &request.data) {
            return Err(Error::BAD_REQUEST);
        }
        if let Some(proxy) = resolved.options.proxies.publish {
            return Ok(Some(proxy));
        }
        let subscribed = self.is_subscribed(session, channel);
        if !rules::may_publish(rules, resolved.options, &session.user, subscribed) {
            return Err(Error::PERMISSION_DENIED);
        }
        Ok(None)
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

fn as_sent(data: Bytes) -> PublishAnswer {
    PublishAnswer { data: Some(data), ..PublishAnswer::default() }
}
