//! What one connection is told: replies, pushes, refusals. Runs on the core of the connection.

use gyre_proto::client::{self, ErrorBody, Push, Reply};
use gyre_proto::codes::{Disconnect, Error};
use gyre_proto::ids::ConnId;

use crate::backend::{BackendError, BackendReply};
use crate::engine::Engine;
use crate::outlet::Outlet;

/// A command that is refused.
#[derive(Clone, Copy)]
pub(crate) struct Refused<'a> {
    /// As in the protocol.
    pub(crate) command: &'static str,
    /// Empty when the command has none.
    pub(crate) channel: &'a str,
}

impl Engine {
    /// Sends a reply to one connection.
    pub(crate) fn reply(&mut self, conn: ConnId, reply: Reply, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        let mut message = Vec::with_capacity(128);
        match client::encode_reply(session.encoding, &reply, &mut message) {
            Ok(()) => {
                let frame = out.frame(session.encoding, &message);
                out.push(conn, frame);
            }
            Err(client::InappropriateJson) => self.disconnect(conn, &Disconnect::INAPPROPRIATE_PROTOCOL, out),
        }
    }

    /// Sends a push to one connection.
    pub(crate) fn push(&mut self, conn: ConnId, push: Push, out: &mut dyn Outlet) {
        self.reply(conn, Reply::push(push), out);
    }

    /// Answers a command with an error, and tells the operator. `channel` is empty for commands without one.
    pub(crate) fn refuse(&mut self, conn: ConnId, id: u32, what: Refused<'_>, error: Error, out: &mut dyn Outlet) {
        self.log_refusal(conn, what, error);
        self.reply_error(conn, id, error, out);
    }

    /// One line for one refused command.
    pub(crate) fn log_refusal(&self, conn: ConnId, Refused { command, channel }: Refused<'_>, error: Error) {
        let Some(session) = self.sessions.of(conn) else { return };
        let (client, user, code) = (&session.client, &*session.user, error.code);
        if error == Error::PERMISSION_DENIED {
            tracing::info!(%client, user, channel, code, "attempt to {command} without sufficient permission");
        } else {
            tracing::info!(%client, user, channel, command, code, error = error.message, "client command error");
        }
    }

    /// Ends a command that a backend was asked about: by what it says, or with error 100 when it says nothing of use.
    pub(crate) fn backend_refused(
        &mut self,
        conn: ConnId,
        id: u32,
        what: Refused<'_>,
        reply: BackendReply,
        out: &mut dyn Outlet,
    ) {
        match reply {
            BackendReply::Disconnect(why) => self.disconnect(conn, &why, out),
            BackendReply::Error(error) => self.reply_application_error(conn, id, what, error, out),
            BackendReply::Failed | BackendReply::Busy | BackendReply::NoResult | BackendReply::Result(_) => {
                self.refuse(conn, id, what, Error::INTERNAL, out);
            }
        }
    }

    /// Answers a command with an error of the application, as it is.
    pub(crate) fn reply_application_error(
        &mut self,
        conn: ConnId,
        id: u32,
        Refused { command, channel }: Refused<'_>,
        error: BackendError,
        out: &mut dyn Outlet,
    ) {
        let BackendError { code, message, temporary } = error;
        if let Some(session) = self.sessions.of(conn) {
            let (client, user) = (&session.client, &*session.user);
            tracing::info!(%client, user, channel, command, code, error = message, "refused by the application");
        }
        self.counters.reply_errors += 1;
        let error = Some(ErrorBody { code, message, temporary });
        self.reply(conn, Reply { id, error, ..Reply::default() }, out);
    }

    /// Answers a command with an error that has had its log line.
    pub(crate) fn reply_error(&mut self, conn: ConnId, id: u32, error: Error, out: &mut dyn Outlet) {
        self.counters.reply_errors += 1;
        self.reply(conn, Reply::error(id, error), out);
    }
}
