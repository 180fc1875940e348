//! The receiving half of a connection: which command a reply belongs to, and what is no reply at all.
//!
//! On a core's thread. RESP3 marks what is no reply; under RESP2 an array may be either, so it counts as a message only
//! from the first subscription on, when Redis sends no other arrays. A subscription has no reply of its own but as many
//! confirmations as channels, or one error; until then it is the oldest waiting command like any other. Must never keep
//! what it hands out: whoever gets a reply owns it.

use bytes::{Buf, Bytes, BytesMut};
use redis_protocol::resp3::types::RangeFrame;

use super::{Connection, Kind, State, Waiting};
use crate::limits::{REDIS_INPUT_BYTES, REDIS_KEEP_BYTES, REDIS_KEEP_COMMANDS};
use crate::redis::failure::Failure;
use crate::redis::pubsub::{Push, push};
use crate::redis::reply::{Decoded, Reply};
use crate::redis::scan::{Malformed, Scan, Scanner};

/// What the bytes from Redis, or their end, mean.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// The answer to a command. A subscription is answered with the number of its channels once all are confirmed.
    Reply {
        /// Of the command.
        token: u64,
        /// What Redis says; an error of it is a reply too.
        reply: Reply,
    },
    /// Somebody published into a channel.
    Message {
        /// Where.
        channel: Bytes,
        /// What.
        payload: Bytes,
        /// Published with `SPUBLISH`.
        sharded: bool,
    },
    /// Messages of the channel arrive from here on.
    Subscribed {
        /// Which.
        channel: Bytes,
        /// Of the sharded kind.
        sharded: bool,
    },
    /// No more messages of the channel arrive. Nobody has to have asked for it: a slot of a cluster that moves away takes
    /// its subscriptions with it.
    Unsubscribed {
        /// Which.
        channel: Bytes,
        /// Of the sharded kind.
        sharded: bool,
    },
    /// The connection has failed, and with it this command.
    Failed {
        /// Of the command.
        token: u64,
        /// False if it certainly had no effect, because it was still here.
        sent: bool,
        /// Why the connection has failed.
        why: Failure,
    },
}

impl Connection {
    /// Takes what arrived, in pieces of any size, and says what it means.
    pub fn received(&mut self, data: &[u8], now_ms: u64, sink: &mut impl FnMut(Incoming)) {
        if matches!(self.state, State::Failed(_)) {
            return;
        }
        self.heard_ms = now_ms;
        if self.input.capacity() - self.input.len() < data.len() {
            self.input.reserve(data.len().max(REDIS_INPUT_BYTES));
        }
        self.input.extend_from_slice(data);
        let large = self.input.capacity() > REDIS_KEEP_BYTES;
        loop {
            let taken = match self.next() {
                Ok(None) => break,
                Ok(Some(decoded)) => self.take(decoded, sink),
                Err(what) => Err(Failure::Malformed(what)),
            };
            if let Err(why) = taken {
                return self.end(why, sink);
            }
        }
        if large && self.input.len() <= REDIS_INPUT_BYTES {
            let rest = std::mem::replace(&mut self.input, BytesMut::with_capacity(REDIS_INPUT_BYTES));
            self.input.extend_from_slice(&rest);
        }
        if self.waiting.is_empty() {
            self.waiting.shrink_to(REDIS_KEEP_COMMANDS);
        }
    }

    /// The next complete reply or push.
    fn next(&mut self) -> Result<Option<Decoded>, Malformed> {
        loop {
            match self.scanner.scan(&mut self.input)? {
                Scan::Incomplete => return Ok(None),
                Scan::Skip(bytes) => self.input.advance(bytes),
                Scan::Frame(bytes) => return Decoded::new(self.input.split_to(bytes).freeze()).map(Some),
            }
        }
    }

    fn take(&mut self, decoded: Decoded, sink: &mut impl FnMut(Incoming)) -> Result<(), Failure> {
        if let Some(push) = self.push_in(&decoded) {
            self.pushed(push, sink);
            return Ok(());
        }
        let reply = decoded.into_reply().map_err(Failure::Malformed)?;
        let State::Opening(opening) = &mut self.state else { return self.answered(reply, sink) };
        let is_over = opening.answer(reply)?;
        if opening.resp3 != self.resp3 {
            self.resp3 = opening.resp3;
            self.scanner = Scanner::new(self.resp3);
        }
        if is_over {
            self.greeting = std::mem::take(&mut opening.greeting);
            self.state = State::Ready;
        }
        Ok(())
    }

    fn push_in(&self, decoded: &Decoded) -> Option<Push> {
        match &decoded.frame {
            RangeFrame::Push { data, .. } => Some(push(data, &decoded.bytes)),
            RangeFrame::Array { data, .. } if !self.resp3 && self.is_ready() => {
                let awaits = matches!(self.oldest_sent(), Some(Kind::Subscription { .. } | Kind::Ending { .. }));
                let may_be = self.subscribed || awaits;
                Some(push(data, &decoded.bytes)).filter(|push| may_be && *push != Push::Other)
            }
            _ => None,
        }
    }

    fn pushed(&mut self, push: Push, sink: &mut impl FnMut(Incoming)) {
        match push {
            Push::Message { channel, payload, sharded } => sink(Incoming::Message { channel, payload, sharded }),
            Push::Changed { subscribed, sharded, channel } => {
                self.subscribed |= subscribed;
                match channel {
                    Some(channel) if subscribed => sink(Incoming::Subscribed { channel, sharded }),
                    Some(channel) => sink(Incoming::Unsubscribed { channel, sharded }),
                    None => {}
                }
                self.confirmed(subscribed, sharded, sink);
            }
            Push::Other => {}
        }
    }

    /// Counts a confirmation for the subscription that is next to be answered, if it is one for it.
    fn confirmed(&mut self, subscribed: bool, of_shard: bool, sink: &mut impl FnMut(Incoming)) {
        if self.oldest_sent().is_none() {
            return;
        }
        let Some(Waiting { token, kind: Kind::Subscription { begins, sharded, channels, left }, .. }) =
            self.waiting.front_mut()
        else {
            return;
        };
        if (*begins, *sharded) != (subscribed, of_shard) {
            return;
        }
        *left -= 1;
        if *left == 0 {
            let reply = Reply::Int(i64::from(*channels));
            sink(Incoming::Reply { token: *token, reply });
            self.waiting.pop_front();
        }
    }

    fn answered(&mut self, reply: Reply, sink: &mut impl FnMut(Incoming)) -> Result<(), Failure> {
        if self.oldest_sent().is_none() {
            return Err(Failure::Malformed("a reply to no command"));
        }
        let Some(waiting) = self.waiting.pop_front() else { return Ok(()) };
        match waiting.kind {
            Kind::Ping => {}
            Kind::Ending { channels, refusal } => match (reply, refusal) {
                (Reply::Error(error), None) => {
                    let kind = Kind::Ending { channels, refusal: Some(Box::new(error)) };
                    self.waiting.push_front(Waiting { kind, ..waiting });
                }
                (_, Some(error)) => sink(Incoming::Reply { token: waiting.token, reply: Reply::Error(*error) }),
                (_, None) => {
                    sink(Incoming::Reply { token: waiting.token, reply: Reply::Int(i64::from(channels)) });
                }
            },
            Kind::Subscription { .. } if !matches!(reply, Reply::Error(_)) => {
                self.waiting.push_front(waiting);
                return Err(Failure::Malformed("a reply instead of a confirmation"));
            }
            Kind::Script(call) => match reply {
                Reply::Error(error) if error.code() == "NOSCRIPT" => {
                    let mut kept = std::mem::take(&mut self.arguments);
                    let again = Waiting { kind: Kind::Command, ..waiting };
                    let sent = self.enqueue(again, |out| kept.repeat(call, out));
                    if sent.is_err() {
                        kept.forget(call);
                        sink(Incoming::Reply { token: waiting.token, reply: Reply::Error(error) });
                    }
                    self.arguments = kept;
                }
                reply => {
                    self.arguments.forget(call);
                    sink(Incoming::Reply { token: waiting.token, reply });
                }
            },
            Kind::Command | Kind::Subscription { .. } => sink(Incoming::Reply { token: waiting.token, reply }),
        }
        Ok(())
    }

    /// What the next reply is for: the oldest command, unless it never left.
    fn oldest_sent(&self) -> Option<&Kind> {
        let oldest = self.waiting.front()?;
        (self.waiting.len() > self.unsent).then_some(&oldest.kind)
    }
}
