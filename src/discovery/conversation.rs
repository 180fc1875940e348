//! A conversation with one Redis or Sentinel, in which each question waits for its answer.
//!
//! On the threads of discovery, which may block: connecting takes at most `connect_timeout`, an answer `io_timeout`. The
//! protocol is the one of the cores, `io::redis::Connection`. Nothing is repeated and nothing reconnects: whoever holds a
//! conversation that has failed begins another one, perhaps with somebody else.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gyre_io::redis::{Command, Endpoint, Failure, Greeting, Handshake, Incoming, Reply, ReplyError, Tls, Wire};

use super::stream::Stream;
use super::trouble::{Trouble, What};

/// How servers of one kind are spoken to.
#[derive(Clone)]
pub(super) struct Reach {
    pub(super) what: What,
    pub(super) handshake: Handshake,
    pub(super) connect_timeout: Duration,
    pub(super) tls: Option<Tls>,
}

/// Longest wait for an answer while there is another time to ask. Whoever hangs may be the very server that was replaced, and
/// its Sentinel with it: both together may not hide the new one for longer than 2 s.
const HURRY_MS: u64 = 1000;

impl Reach {
    /// From here on somebody who does not answer is left for others soon.
    pub(super) fn hurry(&mut self) {
        self.handshake.io_timeout_ms = self.handshake.io_timeout_ms.min(HURRY_MS);
        self.connect_timeout = self.connect_timeout.min(Duration::from_millis(HURRY_MS));
    }
}

/// See the module.
pub(super) struct Conversation {
    what: What,
    place: Endpoint,
    stream: Stream,
    wire: Wire,
    began: Instant,
    io_timeout: Duration,
    answers: Vec<Reply>,
    messages: Vec<Bytes>,
}

impl Conversation {
    /// Connects and gets through the handshake.
    pub(super) fn begin(reach: &Reach, place: Endpoint) -> Result<Self, Trouble> {
        let io_timeout = Duration::from_millis(reach.handshake.io_timeout_ms.max(1));
        let connected = Stream::connect(&place, reach.connect_timeout)
            .and_then(|stream| stream.write_at_most(io_timeout).map(|()| stream));
        let stream = match connected {
            Ok(stream) => stream,
            Err(cause) => return Err(Trouble::Unreachable { what: reach.what, at: place.to_string(), cause }),
        };
        let mut conversation = Self {
            what: reach.what,
            wire: Wire::new(reach.handshake.clone(), 0, reach.tls.as_ref(), &place),
            place,
            stream,
            began: Instant::now(),
            io_timeout,
            answers: Vec::new(),
            messages: Vec::new(),
        };
        conversation.judge()?;
        while !conversation.wire.connection().is_ready() {
            conversation.send()?;
            conversation.receive()?;
        }
        Ok(conversation)
    }

    /// With whom.
    pub(super) fn place(&self) -> &Endpoint {
        &self.place
    }

    /// What the server said about itself.
    pub(super) fn greeting(&self) -> &Greeting {
        self.wire.connection().greeting()
    }

    /// One command and its answer. The inner error is the server's.
    pub(super) fn call(&mut self, parts: &[&str]) -> Result<Result<Reply, ReplyError>, Trouble> {
        let deadline_ms = self.now_ms() + self.io_timeout.as_millis() as u64;
        let sent = self.wire.connection_mut().send(0, deadline_ms, |out| {
            let mut command = Command::new(out, parts.len());
            for part in parts {
                command.arg(part.as_bytes());
            }
        });
        sent.map_err(|error| self.trouble(io::Error::other(error)))?;
        self.answer().map(Reply::into_result)
    }

    /// From here on messages of `channel` arrive.
    pub(super) fn subscribe(&mut self, channel: &str) -> Result<Result<Reply, ReplyError>, Trouble> {
        let deadline_ms = self.now_ms() + self.io_timeout.as_millis() as u64;
        let sent = self.wire.connection_mut().subscribe(0, &[channel.as_bytes()], false, deadline_ms);
        sent.map_err(|error| self.trouble(io::Error::other(error)))?;
        self.answer().map(Reply::into_result)
    }

    /// What was published since it was asked last; does not wait. A server that has been silent for long is asked for a sign
    /// of life, and given up when there was none by the time of a later call.
    pub(super) fn messages(&mut self) -> Result<Vec<Bytes>, Trouble> {
        let now_ms = self.now_ms();
        self.wait_at_most(Duration::ZERO)?;
        while self.read()? {}
        self.expire(now_ms);
        self.judge()?;
        self.wait_at_most(self.io_timeout)?;
        self.send()?;
        Ok(std::mem::take(&mut self.messages))
    }

    fn answer(&mut self) -> Result<Reply, Trouble> {
        loop {
            if let Some(reply) = self.answers.pop() {
                return Ok(reply);
            }
            self.send()?;
            self.receive()?;
        }
    }

    fn send(&mut self) -> Result<(), Trouble> {
        loop {
            let output = self.wire.output();
            if output.is_empty() {
                return Ok(());
            }
            let length = output.len();
            if let Err(cause) = self.stream.write_all(output) {
                return Err(self.trouble(cause));
            }
            self.wire.output_taken(length);
        }
    }

    /// Waits until something has come, but not longer than the connection allows.
    fn receive(&mut self) -> Result<(), Trouble> {
        let now_ms = self.now_ms();
        let left_ms = self.wire.next_deadline().unwrap_or(now_ms).saturating_sub(now_ms);
        self.wait_at_most(Duration::from_millis(left_ms.max(1)))?;
        self.read()?;
        let now_ms = self.now_ms();
        self.expire(now_ms);
        self.judge()
    }

    /// One read. False: there was nothing.
    fn read(&mut self) -> Result<bool, Trouble> {
        /// The map of a large cluster takes two.
        const READ_BYTES: usize = 16 * 1024;
        let mut buffer = [0; READ_BYTES];
        let now_ms = self.now_ms();
        let (answers, messages) = (&mut self.answers, &mut self.messages);
        match self.stream.read(&mut buffer) {
            Ok(0) => self.wire.closed(&mut |incoming| sort(incoming, answers, messages)),
            Ok(length) => {
                self.wire.received(&buffer[..length], now_ms, &mut |incoming| sort(incoming, answers, messages));
            }
            Err(cause) => match cause.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => return Ok(false),
                ErrorKind::Interrupted => {}
                // The protocol above may know what is behind it.
                ErrorKind::ConnectionReset => self.wire.closed(&mut |incoming| sort(incoming, answers, messages)),
                _ => return Err(self.trouble(cause)),
            },
        }
        Ok(self.wire.failure().is_none())
    }

    fn expire(&mut self, now_ms: u64) {
        let (answers, messages) = (&mut self.answers, &mut self.messages);
        self.wire.expire(now_ms, &mut |incoming| sort(incoming, answers, messages));
    }

    fn judge(&self) -> Result<(), Trouble> {
        self.wire.failure().map_or(Ok(()), |why| Err(self.ended(why.clone())))
    }

    fn wait_at_most(&self, time: Duration) -> Result<(), Trouble> {
        self.stream.wait_at_most(time).map_err(|cause| self.trouble(cause))
    }

    fn trouble(&self, cause: io::Error) -> Trouble {
        Trouble::Unreachable { what: self.what, at: self.place.to_string(), cause }
    }

    fn ended(&self, why: Failure) -> Trouble {
        Trouble::Ended { what: self.what, at: self.place.to_string(), why }
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}

/// That the connection ended is seen by its state.
fn sort(incoming: Incoming, answers: &mut Vec<Reply>, messages: &mut Vec<Bytes>) {
    match incoming {
        Incoming::Reply { reply, .. } => answers.push(reply),
        Incoming::Message { payload, .. } => messages.push(payload),
        Incoming::Subscribed { .. } | Incoming::Unsubscribed { .. } | Incoming::Failed { .. } => {}
    }
}

impl AsFd for Conversation {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
