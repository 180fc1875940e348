//! Calls of the server API over one kept-alive connection, several in flight.
//!
//! A task per connection on the core's thread, over the driver's stream. Requests are written and answers read by hand:
//! the generator shares the CPUs with the server, and a full HTTP client costs more than the call it makes.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use gyre_io::{Driver, Stream};
use gyre_proto::ids::ConnId;
use hyper::rt::{Read, ReadBuf, Write};

use super::answer::{self, Step};
use super::{Publisher, Publishing, State};

/// Bytes read at once: some fifty answers.
const READ_BYTES: usize = 16 * 1024;

/// Publishes over a connection that was dialled, until it ends or the publisher leaves.
pub(crate) async fn run(driver: Rc<RefCell<Driver>>, conn: ConnId, publisher: Rc<RefCell<Publisher>>) {
    let Some(stream) = Stream::claim(&driver, conn) else { return };
    publisher.borrow_mut().state = State::Ready;
    let mut pipe = Pipe { stream, outgoing: Vec::new(), written: 0, incoming: Vec::new(), taken: 0 };
    poll_fn(|context| pipe.poll(&publisher, context)).await;
    // Dropping the stream ends the connection; `Handler::closed` follows.
}

struct Pipe {
    stream: Stream,
    outgoing: Vec<u8>,
    written: usize,
    incoming: Vec<u8>,
    taken: usize,
}

impl Pipe {
    fn poll(&mut self, publisher: &RefCell<Publisher>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut publisher = publisher.borrow_mut();
            if publisher.state == State::Leaving {
                return Poll::Ready(());
            }
            let now_us = publisher.shared.now_us();
            while publisher.write_request(&mut self.outgoing, now_us) {}
            if self.write(context).is_err() {
                return Poll::Ready(());
            }
            match self.read(context) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(()),
                Poll::Pending => {
                    publisher.waker = Some(context.waker().clone());
                    return Poll::Pending;
                }
            }
            if !self.take_answers(&mut publisher) {
                return Poll::Ready(());
            }
        }
    }

    /// Hands over as much as the stream takes; the rest when it wakes the task.
    fn write(&mut self, context: &mut Context<'_>) -> Result<(), ()> {
        while self.written < self.outgoing.len() {
            match Pin::new(&mut self.stream).poll_write(context, &self.outgoing[self.written..]) {
                Poll::Ready(Ok(count)) => self.written += count,
                Poll::Ready(Err(_)) => return Err(()),
                Poll::Pending => return Ok(()),
            }
        }
        self.outgoing.clear();
        self.written = 0;
        Ok(())
    }

    /// Ready(false) at the end of the connection.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let start = self.incoming.len();
        self.incoming.resize(start + READ_BYTES, 0);
        let mut buffer = ReadBuf::new(&mut self.incoming[start..]);
        let result = Pin::new(&mut self.stream).poll_read(context, buffer.unfilled());
        let count = buffer.filled().len();
        self.incoming.truncate(start + count);
        match result {
            Poll::Ready(Ok(())) => Poll::Ready(count > 0),
            Poll::Ready(Err(_)) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    }

    /// False if the peer does not speak HTTP.
    fn take_answers(&mut self, publisher: &mut Publisher) -> bool {
        let now_us = publisher.shared.now_us();
        loop {
            let bytes = &self.incoming[self.taken..];
            match answer::step(bytes) {
                Step::Answer { status, body, used } => {
                    let errors = answer::errors(&bytes[body]);
                    if !publisher.answered(status, &errors, now_us) {
                        return false;
                    }
                    self.taken += used;
                }
                Step::Partial => break,
                Step::Junk => {
                    publisher.tally.borrow_mut().error("publish: answer is not http with a length");
                    return false;
                }
            }
        }
        self.incoming.drain(..self.taken);
        self.taken = 0;
        true
    }
}

impl Publisher {
    /// Appends the requests of the next call. False if none is due.
    fn write_request(&mut self, out: &mut Vec<u8>, now_us: u64) -> bool {
        let Some((intended_us, first, count)) = self.take_call(now_us) else { return false };
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        if count == 1 || self.publishing().burst {
            for number in first..first + count as u64 {
                self.write_publish(&mut body, number, intended_us);
                self.publishing().write_post("/publish", &body, out);
                body.clear();
            }
        } else {
            body.extend_from_slice(b"{\"commands\":[");
            for number in first..first + count as u64 {
                body.extend_from_slice(if number == first { b"{\"publish\":" } else { b",{\"publish\":" });
                self.write_publish(&mut body, number, intended_us);
                body.push(b'}');
            }
            body.extend_from_slice(b"]}");
            self.publishing().write_post("/batch", &body, out);
        }
        self.body = body;
        true
    }

    fn write_publish(&mut self, body: &mut Vec<u8>, number: u64, intended_us: u64) {
        self.prepare(number, intended_us);
        body.extend_from_slice(b"{\"channel\":\"");
        body.extend_from_slice(&self.name);
        body.extend_from_slice(b"\",\"data\":");
        body.extend_from_slice(&self.data);
        body.push(b'}');
    }
}

impl Publishing {
    /// Appends a call of the server API.
    pub(super) fn write_post(&self, method: &str, body: &[u8], out: &mut Vec<u8>) {
        let mut write = |parts: &[&str]| parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        write(&["POST ", &self.api.path, method, " HTTP/1.1\r\nHost: ", &self.api.authority]);
        if let Some(key) = &self.api_key {
            write(&["\r\nX-API-Key: ", key]);
        }
        let mut number = itoa::Buffer::new();
        write(&["\r\nContent-Type: application/json\r\nContent-Length: ", number.format(body.len()), "\r\n\r\n"]);
        out.extend_from_slice(body);
    }
}
