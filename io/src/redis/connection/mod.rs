//! One connection to Redis: commands in, replies in their order out, and messages of channels in between.
//!
//! On a core's thread, called from its turn. Everything that is asked for lands in one output buffer, sent once per turn,
//! and waits in one queue; Redis answers in order, so the oldest waiting command is the one a reply belongs to.
//! Invariants: each token is handed back exactly once, with its reply or with the end of the connection; a connection that
//! has failed stays failed and says nothing more; buffers and queue are bounded and a command costs no allocation but
//! its reply. Must never guess: a reply that nobody waits for ends the connection.

use std::collections::VecDeque;

use bytes::BytesMut;
use thiserror::Error;

use super::command::Command;
use super::failure::Failure;
use super::handshake::{Greeting, Handshake, Opening};
use super::reply::ReplyError;
use super::scan::{Scan, Scanner};
use super::script::{Arguments, Call, Script};
use crate::limits::{
    REDIS_IN_FLIGHT_MAX, REDIS_INPUT_BYTES, REDIS_KEEP_ALIVE_MS, REDIS_KEEP_BYTES, REDIS_OUTPUT_BYTES_MAX,
};

mod receive;

pub use receive::Incoming;

/// The state of one connection to Redis.
pub struct Connection {
    state: State,
    resp3: bool,
    input: BytesMut,
    scanner: Scanner,
    /// Commands that are not sent yet; kept back until the handshake has succeeded.
    output: Vec<u8>,
    waiting: VecDeque<Waiting>,
    /// How many of the waiting, counted from the youngest, still lie in `output`.
    unsent: usize,
    /// Somebody asked for a subscription.
    subscribing: bool,
    /// Of the script calls among the waiting.
    arguments: Arguments,
    /// Redis confirmed one, so under RESP2 an array may be a message.
    subscribed: bool,
    heard_ms: u64,
    io_timeout_ms: u64,
    greeting: Greeting,
}

/// Why a command was not taken. Nothing has happened then.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
pub enum SendError {
    /// Too many commands wait, or too many bytes.
    #[error("too many commands wait for redis")]
    Full,
    /// The connection has failed.
    #[error("the connection to redis has failed")]
    Failed,
    /// It has subscriptions, and RESP2 then allows nothing else; nor is anything else taken while the protocol is not
    /// known yet.
    #[error("the connection to redis is used for subscriptions")]
    Subscribing,
    /// A subscription to nothing.
    #[error("a subscription names no channel")]
    NoChannels,
}

enum State {
    Opening(Box<Opening>),
    Ready,
    Failed(Failure),
}

struct Waiting {
    token: u64,
    deadline_ms: u64,
    kind: Kind,
}

enum Kind {
    Command,
    Script(Call),
    /// Of channels that begin or end. Redis confirms each of them with a push of its own; only a refusal of them all is
    /// a reply.
    Subscription {
        begins: bool,
        sharded: bool,
        channels: u32,
        left: u32,
    },
    /// Of so many sharded channels that end, and a `PING` behind it. Redis also ends such by itself, with the same push, so
    /// pushes answer nothing here: the pong does, and a refusal is kept for it.
    Ending {
        channels: u32,
        refusal: Option<Box<ReplyError>>,
    },
    /// Our own sign of life, which nobody asked for.
    Ping,
}

impl Connection {
    /// A connection that was just established. Its first output is there at once.
    pub fn new(handshake: Handshake, now_ms: u64) -> Self {
        let io_timeout_ms = handshake.io_timeout_ms;
        let opening = Opening::new(handshake, now_ms);
        Self {
            resp3: opening.resp3,
            scanner: Scanner::new(opening.resp3),
            state: State::Opening(Box::new(opening)),
            input: BytesMut::with_capacity(REDIS_INPUT_BYTES),
            output: Vec::new(),
            waiting: VecDeque::new(),
            unsent: 0,
            subscribing: false,
            arguments: Arguments::default(),
            subscribed: false,
            heard_ms: now_ms,
            io_timeout_ms,
            greeting: Greeting::default(),
        }
    }

    /// Asks for one command, which `write` writes, to be answered until `deadline_ms`. A deadline before that of an
    /// older command counts as that one: Redis answers in order. Before the handshake is over the command is kept.
    pub fn send(&mut self, token: u64, deadline_ms: u64, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), SendError> {
        if self.subscribing && !(self.resp3 && self.is_ready()) {
            return Err(SendError::Subscribing);
        }
        self.enqueue(Waiting { token, deadline_ms, kind: Kind::Command }, write)
    }

    /// As `send`, for a script: `write` writes its `arguments`, the number of keys first. Should Redis not know the script,
    /// it is called once more, with its text.
    pub fn send_script(
        &mut self,
        token: u64,
        deadline_ms: u64,
        script: &'static Script,
        arguments: u32,
        write: impl FnOnce(&mut Command<'_>),
    ) -> Result<(), SendError> {
        if self.arguments.len() >= REDIS_OUTPUT_BYTES_MAX {
            return Err(SendError::Full);
        }
        let mut kept = std::mem::take(&mut self.arguments);
        let mut call = None;
        let sent = self.send(token, deadline_ms, |out| call = Some(kept.call(out, script, arguments, write)));
        self.arguments = kept;
        if let (Ok(()), Some(call), Some(waiting)) = (sent, call, self.waiting.back_mut()) {
            waiting.kind = Kind::Script(call);
        }
        sent
    }

    /// Subscribes to channels with one command.
    pub fn subscribe(
        &mut self,
        token: u64,
        channels: &[&[u8]],
        sharded: bool,
        deadline_ms: u64,
    ) -> Result<(), SendError> {
        let name: &[u8] = if sharded { b"SSUBSCRIBE" } else { b"SUBSCRIBE" };
        self.subscription(token, deadline_ms, name, channels, true, sharded)?;
        self.subscribing = true;
        Ok(())
    }

    /// Ends subscriptions to channels with one command. Of the same kind as they began.
    pub fn unsubscribe(
        &mut self,
        token: u64,
        channels: &[&[u8]],
        sharded: bool,
        deadline_ms: u64,
    ) -> Result<(), SendError> {
        if !sharded {
            return self.subscription(token, deadline_ms, b"UNSUBSCRIBE", channels, false, false);
        }
        if channels.is_empty() {
            return Err(SendError::NoChannels);
        }
        let kind = Kind::Ending { channels: channels.len() as u32, refusal: None };
        self.enqueue(Waiting { token, deadline_ms, kind }, |out| {
            write_names(out, b"SUNSUBSCRIBE", channels);
            Command::new(out, 1).arg(b"PING");
        })
    }

    /// What is to be sent now, in one piece. After it was taken over: `clear_output`.
    pub fn output(&self) -> &[u8] {
        match &self.state {
            State::Opening(opening) => &opening.output,
            State::Ready => &self.output,
            State::Failed(_) => &[],
        }
    }

    /// All of `output` is on its way.
    pub fn clear_output(&mut self) {
        let output = match &mut self.state {
            State::Opening(opening) => &mut opening.output,
            State::Ready => {
                self.unsent = 0;
                &mut self.output
            }
            State::Failed(_) => return,
        };
        output.clear();
        output.shrink_to(REDIS_KEEP_BYTES);
    }

    /// The first `bytes` of `output` are on their way. From here on all commands count as sent.
    pub fn output_taken(&mut self, bytes: usize) {
        if bytes >= self.output().len() {
            return self.clear_output();
        }
        if let State::Ready = self.state {
            self.unsent = 0;
            self.output.drain(..bytes);
        }
    }

    /// When to call `expire` at the latest. None: never.
    pub fn next_deadline(&self) -> Option<u64> {
        let oldest = self.waiting.front().map(|waiting| waiting.deadline_ms);
        match &self.state {
            State::Opening(opening) => {
                Some(oldest.map_or(opening.deadline_ms, |oldest| oldest.min(opening.deadline_ms)))
            }
            // Who waits for a command will notice a stall by it.
            State::Ready => Some(match oldest {
                Some(oldest) => self.given_up_ms(oldest),
                None => self.heard_ms.saturating_add(REDIS_KEEP_ALIVE_MS),
            }),
            State::Failed(_) => None,
        }
    }

    /// When an answer that is due is not waited for any longer: while others arrive, or messages do, it is only late.
    fn given_up_ms(&self, due_ms: u64) -> u64 {
        let is_alive_until_ms = self.heard_ms.saturating_add(REDIS_KEEP_ALIVE_MS);
        is_alive_until_ms.clamp(due_ms, due_ms.saturating_add(self.io_timeout_ms))
    }

    /// Time has passed: fails if an answer is overdue, and asks for a sign of life after a silence.
    pub fn expire(&mut self, now_ms: u64, sink: &mut impl FnMut(Incoming)) {
        if self.next_deadline().is_none_or(|deadline_ms| deadline_ms > now_ms) {
            return;
        }
        if !self.is_ready() || !self.waiting.is_empty() {
            return self.end(Failure::TimedOut, sink);
        }
        let deadline_ms = now_ms.saturating_add(self.io_timeout_ms);
        let ping = self.enqueue(Waiting { token: 0, deadline_ms, kind: Kind::Ping }, |out| {
            Command::new(out, 1).arg(b"PING");
        });
        debug_assert!(ping.is_ok(), "nothing waits, so there is room");
    }

    /// The socket is gone.
    pub fn closed(&mut self, sink: &mut impl FnMut(Incoming)) {
        self.end(Failure::Closed, sink);
    }

    /// It ends for a reason that lies below.
    pub(super) fn fail(&mut self, why: Failure, sink: &mut impl FnMut(Incoming)) {
        self.end(why, sink);
    }

    /// The handshake has succeeded and nothing has failed since.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Why it has failed; then its socket is to be closed.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.state {
            State::Failed(why) => Some(why),
            _ => None,
        }
    }

    /// What Redis said about itself in the handshake.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Commands that wait for their replies.
    pub fn in_flight(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of all its buffers.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let waiting = self.waiting.capacity() * size_of::<Waiting>();
        self.input.capacity() + self.output.capacity() + waiting
    }

    fn subscription(
        &mut self,
        token: u64,
        deadline_ms: u64,
        name: &[u8],
        channels: &[&[u8]],
        begins: bool,
        sharded: bool,
    ) -> Result<(), SendError> {
        // To end none would mean to end all, confirmed nobody knows how often.
        if channels.is_empty() {
            return Err(SendError::NoChannels);
        }
        let count = channels.len() as u32;
        let kind = Kind::Subscription { begins, sharded, channels: count, left: count };
        self.enqueue(Waiting { token, deadline_ms, kind }, |out| write_names(out, name, channels))
    }

    fn enqueue(&mut self, mut waiting: Waiting, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), SendError> {
        if matches!(self.state, State::Failed(_)) {
            return Err(SendError::Failed);
        }
        if self.waiting.len() >= REDIS_IN_FLIGHT_MAX || self.output.len() >= REDIS_OUTPUT_BYTES_MAX {
            return Err(SendError::Full);
        }
        let start = self.output.len();
        write(&mut self.output);
        let written = self.output.len() - start;
        debug_assert!(
            matches!(waiting.kind, Kind::Ending { .. })
                || Scanner::new(false).scan(&mut self.output[start..]) == Ok(Scan::Frame(written)),
            "one command"
        );
        let before_ms = self.waiting.back().map_or(0, |before| before.deadline_ms);
        waiting.deadline_ms = waiting.deadline_ms.max(before_ms);
        self.waiting.push_back(waiting);
        self.unsent += 1;
        Ok(())
    }

    /// Everything that waits is handed back.
    fn end(&mut self, why: Failure, sink: &mut impl FnMut(Incoming)) {
        if matches!(self.state, State::Failed(_)) {
            return;
        }
        self.state = State::Failed(why.clone());
        let mut sent = self.waiting.len() - self.unsent;
        for waiting in std::mem::take(&mut self.waiting) {
            if !matches!(waiting.kind, Kind::Ping) {
                sink(Incoming::Failed { token: waiting.token, sent: sent > 0, why: why.clone() });
            }
            sent = sent.saturating_sub(1);
        }
        self.unsent = 0;
        self.arguments.clear();
        self.output = Vec::new();
        self.input = BytesMut::new();
    }
}

fn write_names(out: &mut Vec<u8>, name: &[u8], channels: &[&[u8]]) {
    let mut command = Command::new(out, 1 + channels.len());
    command.arg(name);
    for channel in channels {
        command.arg(channel);
    }
}
