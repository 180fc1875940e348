//! Asking the application's backend, and taking its answers to where they belong. Runs on the core of the session.
//!
//! A call is made for a parked command, or by the clock (`prolonging`); both take their generation from the session, so
//! that an answer finds what it was asked for, or nothing: the command has ended with its connection, the server API has
//! decided meanwhile. Nothing here waits, and nothing is reserved while a backend is asked.

use std::sync::Arc;

use bytes::Bytes;
use gyre_proto::ids::ConnId;

use crate::backend::{BackendAsker, BackendCall, BackendClient, BackendEvent, BackendReply, ClientHeaders, ProxyId};
use crate::engine::Engine;
use crate::hub::ChannelId;
use crate::outlet::Outlet;
use crate::session::{Handshake, Session, Work};

/// What a session keeps for backends, and what it has asked them by the clock.
#[derive(Debug, Default)]
pub(crate) struct Context {
    headers: Option<Arc<ClientHeaders>>,
    /// Until it is known who connects: see [`Handshake::user`].
    user: Option<Box<str>>,
    /// JSON that came with its credentials; empty = none.
    meta: Bytes,
    /// Calls under way that no command waits for.
    questions: Vec<Question>,
}

/// See [`Context`].
#[derive(Debug)]
struct Question {
    seq: u32,
    about: About,
}

/// What a backend is asked by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// Whether the connection goes on.
    Connection,
    /// Whether a subscription does.
    Subscription(ChannelId),
}

impl Context {
    pub(crate) fn of(handshake: Handshake) -> Option<Box<Self>> {
        let Handshake { headers, user } = handshake;
        (headers.is_some() || user.is_some()).then(|| Box::new(Self { headers, user, ..Self::default() }))
    }

    /// Headers that the client says it has, in lower case.
    pub(crate) fn set_emulated(&mut self, emulated: Vec<(Box<str>, Box<str>)>) {
        Arc::make_mut(self.headers.get_or_insert_default()).emulated = emulated;
    }

    fn take_question(&mut self, seq: u32) -> Option<About> {
        let at = self.questions.iter().position(|it| it.seq == seq)?;
        let about = self.questions.swap_remove(at).about;
        // Asked once in hours; what it took must not stay until then.
        if self.questions.is_empty() {
            self.questions = Vec::new();
        }
        Some(about)
    }

    fn is_empty(&self) -> bool {
        self.headers.is_none() && self.user.is_none() && self.meta.is_empty() && self.questions.is_empty()
    }
}

impl Session {
    /// Keeps what the application says of this connection, or forgets it.
    pub(crate) fn set_meta(&mut self, meta: Bytes) {
        match &mut self.context {
            Some(context) => context.meta = meta,
            None if meta.is_empty() => {}
            None => self.context = Some(Box::new(Context { meta, ..Context::default() })),
        }
    }

    /// Who the client is by a header of its handshake.
    pub(crate) fn user_of_handshake(&self) -> Option<&str> {
        self.context.as_ref()?.user.as_deref()
    }

    /// It is known who this is.
    pub(crate) fn forget_user_of_handshake(&mut self) {
        if let Some(context) = &mut self.context {
            context.user = None;
        }
        self.context.take_if(|context| context.is_empty());
    }

    pub(crate) fn has_asked(&self, about: About) -> bool {
        self.context.as_ref().is_some_and(|context| context.questions.iter().any(|it| it.about == about))
    }

    /// The answer, if there is still one to come, is of no interest.
    pub(crate) fn forget_question(&mut self, about: About) {
        if let Some(context) = &mut self.context {
            context.questions.retain(|it| it.about != about);
        }
    }

    fn take_question(&mut self, seq: u32) -> Option<About> {
        let about = self.context.as_mut()?.take_question(seq);
        self.context.take_if(|context| context.is_empty());
        about
    }

    fn as_backends_see_it(&self) -> BackendClient {
        let context = self.context.as_deref();
        BackendClient {
            client: self.client,
            encoding: self.encoding,
            transport: "websocket",
            user: self.user.clone(),
            headers: context.and_then(|context| context.headers.clone()),
            meta: context.map_or(Bytes::new(), |context| context.meta.clone()),
        }
    }
}

impl Engine {
    /// Asks a backend about the current command of a session, which waits for the answer.
    pub(crate) fn ask_and_park(
        &mut self,
        conn: ConnId,
        proxy: ProxyId,
        event: BackendEvent,
        work: Work,
        out: &mut dyn Outlet,
    ) {
        let seq = self.next_seq(conn);
        self.call_backend(conn, seq, proxy, event, out);
        self.park(conn, seq, work);
    }

    /// Asks a backend by the clock; no command waits for it.
    pub(crate) fn ask_aside(
        &mut self,
        conn: ConnId,
        proxy: ProxyId,
        event: BackendEvent,
        about: About,
        out: &mut dyn Outlet,
    ) {
        let seq = self.next_seq(conn);
        let Some(session) = self.sessions.of_mut(conn) else { return };
        session.context.get_or_insert_default().questions.push(Question { seq, about });
        self.call_backend(conn, seq, proxy, event, out);
    }

    fn call_backend(&mut self, conn: ConnId, seq: u32, proxy: ProxyId, event: BackendEvent, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        let call = BackendCall { proxy, client: Some(session.as_backends_see_it()), event };
        out.backend(BackendAsker { conn, seq }, Box::new(call));
    }

    /// A backend has answered. What nobody waits for any more is dropped.
    pub fn backend_answered(&mut self, asker: BackendAsker, reply: BackendReply, out: &mut dyn Outlet) {
        if self.publication_asked_for(asker, &reply, out) {
            return;
        }
        let BackendAsker { conn, seq } = asker;
        let Some(session) = self.sessions.of_mut(conn) else { return };
        match session.take_question(seq) {
            Some(About::Connection) => return self.refresh_answered(conn, reply, out),
            Some(About::Subscription(id)) => return self.sub_refresh_answered(conn, id, reply, out),
            None => {}
        }
        let is_asked = |work: &Work| {
            matches!(
                work,
                Work::AskConnect { .. } | Work::AskSubscribe { .. } | Work::AskPublish { .. } | Work::AskRpc { .. }
            )
        };
        let Some(parked) = session.pending.take_if(|pending| pending.seq == seq && is_asked(&pending.work)) else {
            return;
        };
        let mut parked = *parked;
        // Something that cannot go on stays behind; what came in meanwhile is all that is of use of it.
        match std::mem::replace(&mut parked.work, Work::AskRpc { id: 0 }) {
            Work::AskConnect { id, request } => self.connect_answered(conn, id, &request, reply, out),
            Work::AskSubscribe { id, request } => self.subscribe_answered(conn, id, &request, reply, out),
            Work::AskPublish { id, request } => self.publish_answered(conn, id, request, reply, out),
            Work::AskRpc { id } => self.rpc_answered(conn, id, reply, out),
            work => debug_assert!(false, "no backend was asked for {work:?}"),
        }
        self.resume(conn, parked, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A million connections that were prolonged once would keep a hundred megabytes for it.
    #[test]
    fn what_was_asked_leaves_nothing_behind() {
        let question = |seq| Question { seq, about: About::Connection };
        let mut context = Context { questions: vec![question(1), question(2)], ..Context::default() };
        assert_eq!((context.take_question(3), context.take_question(1)), (None, Some(About::Connection)));
        assert!(!context.is_empty());
        assert_eq!(context.take_question(2), Some(About::Connection));
        assert!(context.is_empty() && context.questions.capacity() == 0);
        context.meta = Bytes::from_static(b"{}");
        assert!(!context.is_empty(), "meta stays");
    }
}
