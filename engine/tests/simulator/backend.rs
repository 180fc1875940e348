//! The application's backend: it answers late, in any order, with whatever it pleases, or not in time.

use std::collections::BTreeMap;
use std::mem;

use gyre_engine::backend::{
    BackendAsker, BackendCall, BackendError, BackendEvent, BackendReply, BackendResult, ConnectAnswer, PublishAnswer,
    RefreshAnswer, SubRefreshAnswer, SubscribeAnswer,
};
use gyre_engine::rules::ChannelOptions;
use gyre_proto::Encoding;
use gyre_proto::codes::Disconnect;

use crate::peer::{Conn, Key};
use crate::sim::Sim;
use crate::wire::Say;

/// What the backend has made of the command that a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Granted,
    Error,
    Disconnect,
    Failed,
}

/// A call that has no answer yet.
pub(crate) struct Question {
    pub(crate) key: Key,
    asker: BackendAsker,
    call: BackendCall,
    /// Whoever made it waits no longer than this.
    until_ms: u64,
}

impl Sim {
    /// What an engine has asked in a call that has been judged.
    pub(crate) fn take_questions(&mut self, core: usize) {
        for (asker, call) in mem::take(&mut self.world.sites[core].hands.backend_calls) {
            let key = (core, asker.conn.index, asker.conn.generation);
            self.note(|| format!("    {key:?} asks {call:?}"));
            // It may have ended in the same call.
            if let Some(conn) = self.conns.get_mut(&key) {
                let client = call.client.as_ref().expect("on behalf of a client");
                let user = if conn.is_admitted { &*conn.user } else { "" };
                assert_eq!((client.client.to_string(), &*client.user), (conn.uuid.clone(), user), "{call:?}");
                let is_due = match (&call.event, conn.front()) {
                    (BackendEvent::Refresh, _) => true,
                    (BackendEvent::SubRefresh { channel }, _) => {
                        let sub = conn.subs.get_mut(&self.model.find(channel)).expect("subscribed");
                        sub.asked.replace(asker.seq).is_none()
                    }
                    (BackendEvent::Connect { .. }, Some(Say::Connect { token, .. })) => token.is_empty(),
                    (BackendEvent::Subscribe { channel, .. }, Some(Say::Subscribe { channel: said, .. })) => {
                        **channel == **said
                    }
                    (BackendEvent::Publish { channel, data }, Some(Say::Publish { channel: said, data: sent })) => {
                        **channel == **said && *data == sent.as_bytes()
                    }
                    (BackendEvent::Rpc { .. }, Some(Say::Rpc)) => true,
                    _ => false,
                };
                assert!(is_due, "{key:?} asks {call:?} and waits for {:?}", conn.front());
            }
            let until_ms = self.world.now.mono_ms + self.rng.u64(1..15_000);
            self.questions.push(Question { key, asker, call, until_ms });
        }
    }

    /// The backend answers some call.
    pub(crate) fn answer_any(&mut self) {
        if !self.questions.is_empty() {
            let at = self.rng.usize(..self.questions.len());
            self.answer(at, false);
        }
    }

    /// Whoever made them gives up on calls that took too long.
    pub(crate) fn give_up_on_overdue(&mut self) {
        let now_ms = self.world.now.mono_ms;
        while let Some(at) = self.questions.iter().position(|question| question.until_ms <= now_ms) {
            self.answer(at, true);
        }
    }

    fn answer(&mut self, at: usize, is_overdue: bool) {
        let Question { key, asker, call, .. } = self.questions.swap_remove(at);
        self.prepare();
        let mut conn = self.conns.remove(&key);
        let reply = match &call.event {
            BackendEvent::Refresh => self.refresh_reply(conn.as_mut(), is_overdue),
            BackendEvent::SubRefresh { channel } => {
                let channel = self.model.find(channel);
                self.sub_refresh_reply(conn.as_mut(), channel, asker.seq, is_overdue)
            }
            event => self.command_reply(conn.as_mut(), event, is_overdue),
        };
        let is_connect = matches!(call.event, BackendEvent::Connect { .. });
        let was_there = conn.is_some();
        self.conns.extend(conn.map(|conn| (key, conn)));
        self.note(|| format!("answer {key:?} {call:?} {reply:?}"));
        if is_connect && was_there {
            self.foresee_connect(key);
        }
        let is_refusal = matches!(reply, BackendReply::Error(_) | BackendReply::Failed);
        self.on(key.0, |engine, hands| engine.backend_answered(asker, reply, hands));
        if is_connect {
            self.be_lenient(key);
        }
        match (&call.event, self.conns.get(&key)) {
            (BackendEvent::Refresh, Some(conn)) => assert!(!conn.must_expire, "{key:?} goes on, other than told"),
            (BackendEvent::SubRefresh { channel }, Some(conn)) => {
                let must_expire = conn.subs.get(&self.model.find(channel)).is_some_and(|sub| sub.must_expire);
                assert!(!must_expire, "{key:?} keeps {channel}, other than told");
            }
            (_, Some(conn)) if is_refusal => assert!(conn.told.is_none(), "{key:?} was not told"),
            _ => {}
        }
    }

    fn refresh_reply(&mut self, conn: Option<&mut Conn>, is_overdue: bool) -> BackendReply {
        let now_s = self.world.now.unix_s();
        let refreshed = |answer| BackendReply::Result(Box::new(BackendResult::Refresh(answer)));
        let (is_end, reply) = match self.rng.u32(..if is_overdue { 1 } else { 9 }) {
            0 => (false, BackendReply::Failed),
            8 => (false, BackendReply::Busy),
            1 => (true, BackendReply::NoResult),
            2 => (true, refreshed(RefreshAnswer { is_expired: true, ..RefreshAnswer::default() })),
            3 => (true, refreshed(RefreshAnswer { expire_at_s: now_s, ..RefreshAnswer::default() })),
            _ => {
                let expire_at_s = now_s + self.rng.i64(1..40);
                (false, refreshed(RefreshAnswer { expire_at_s, ..RefreshAnswer::default() }))
            }
        };
        if let Some(conn) = conn {
            conn.must_expire = is_end;
        }
        reply
    }

    fn sub_refresh_reply(
        &mut self,
        conn: Option<&mut Conn>,
        channel: usize,
        seq: u32,
        is_overdue: bool,
    ) -> BackendReply {
        let now_s = self.world.now.unix_s();
        let prolonged = |answer| BackendReply::Result(Box::new(BackendResult::SubRefresh(answer)));
        let (is_end, reply) = match self.rng.u32(..if is_overdue { 1 } else { 9 }) {
            0 => (false, BackendReply::Failed),
            8 => (false, BackendReply::Busy),
            1 => (true, BackendReply::NoResult),
            2 => (true, prolonged(SubRefreshAnswer { is_expired: true, ..SubRefreshAnswer::default() })),
            3 => (false, prolonged(SubRefreshAnswer::default())),
            _ => {
                let expire_at_s = now_s + self.rng.i64(1..40);
                (false, prolonged(SubRefreshAnswer { expire_at_s, ..SubRefreshAnswer::default() }))
            }
        };
        // The subscription asked for may be over, and another one there.
        if let Some(sub) = conn.and_then(|conn| conn.subs.get_mut(&channel))
            && sub.asked == Some(seq)
        {
            (sub.asked, sub.must_expire) = (None, is_end);
        }
        reply
    }

    fn command_reply(&mut self, conn: Option<&mut Conn>, event: &BackendEvent, is_overdue: bool) -> BackendReply {
        let (verdict, reply) = match self.rng.u32(..if is_overdue { 1 } else { 12 }) {
            0 => (Verdict::Failed, BackendReply::Failed),
            1 => {
                let error = BackendError { code: 1000, message: "no".to_owned(), temporary: false };
                (Verdict::Error, BackendReply::Error(error))
            }
            2 => {
                let why = Disconnect { code: 4501, reason: "no".into() };
                (Verdict::Disconnect, BackendReply::Disconnect(why))
            }
            3..5 => (Verdict::Granted, BackendReply::NoResult),
            _ => (Verdict::Granted, BackendReply::Result(Box::new(BackendResult::Rpc("1".into())))),
        };
        let Some(conn) = conn else { return reply };
        conn.told = Some(verdict);
        let (is_granted, has_result) = (verdict == Verdict::Granted, matches!(reply, BackendReply::Result(_)));
        let result = match event {
            BackendEvent::Connect { .. } => match (is_granted, has_result) {
                (true, true) => BackendResult::Connect(self.welcome(conn)),
                (true, false) => {
                    self.let_in_as_nobody(conn);
                    return reply;
                }
                (false, _) => {
                    conn.plan.clear();
                    return reply;
                }
            },
            BackendEvent::Subscribe { channel, .. } => {
                let channel = self.model.find(channel);
                let may_expire = self.model.channels[channel].options.proxies.sub_refresh.is_some();
                let expires = may_expire && self.rng.bool();
                let expire_at_s = if expires { self.world.now.unix_s() + self.rng.i64(0..60) } else { 0 };
                BackendResult::Subscribe(SubscribeAnswer { expire_at_s, ..SubscribeAnswer::default() })
            }
            BackendEvent::Publish { .. } => {
                let is_other = has_result && self.rng.bool();
                let data = is_other.then(|| self.data(conn.encoding == Encoding::Json));
                if let (Some(front), Some(data)) = (conn.asked.front_mut(), &data)
                    && let Say::Publish { data: sent, .. } = &mut front.say
                {
                    sent.clone_from(data);
                }
                let data = data.map(Into::into);
                BackendResult::Publish(PublishAnswer { data, ..PublishAnswer::default() })
            }
            _ => return reply,
        };
        if has_result { BackendReply::Result(Box::new(result)) } else { reply }
    }

    fn welcome(&mut self, conn: &mut Conn) -> ConnectAnswer {
        conn.is_admitted = true;
        let names = conn.plan.iter().map(|planned| self.model.channels[planned.channel].name.clone());
        let mut answer = ConnectAnswer { user: conn.user.clone(), ..ConnectAnswer::default() };
        for name in names {
            match self.rng.bool() {
                true => answer.channels.push(name),
                false => {
                    answer.subs = mem::take(&mut answer.subs)
                        .into_iter()
                        .chain([(name, Default::default())])
                        .collect::<BTreeMap<_, _>>()
                }
            }
        }
        if self.setup.rules.proxies.refresh.is_some() && self.rng.bool() {
            answer.expire_at_s = self.world.now.unix_s() + self.rng.i64(0..60);
        }
        answer
    }

    /// There is no result: the anonymous user gets those of the channels it has asked for that are open.
    fn let_in_as_nobody(&mut self, conn: &mut Conn) {
        conn.is_admitted = true;
        conn.user.clear();
        let channels = &self.model.channels;
        conn.plan.retain(|planned| {
            planned.recover.is_some() && channels[planned.channel].options.proxies.subscribe.is_none()
        });
    }

    /// Whether the backend decides over a command.
    pub(crate) fn is_asked(&self, say: &Say) -> bool {
        let options = |channel: &str| -> &ChannelOptions { &self.model.channels[self.model.find(channel)].options };
        match say {
            Say::Connect { token, .. } => token.is_empty(),
            Say::Subscribe { channel, .. } => options(channel).proxies.subscribe.is_some(),
            Say::Publish { channel, .. } => options(channel).proxies.publish.is_some(),
            Say::Rpc => self.setup.rules.rpc.without_namespace.is_some(),
            _ => false,
        }
    }
}
