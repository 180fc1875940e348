//! A connection as hyper sees it: `Stream`, and the driver's side of it.
//!
//! Runs in tasks of the connection's core; borrows the driver only inside a poll. Reading is on demand: a single
//! receive is armed when hyper wants bytes and there are none, so a peer cannot make us buffer more than one receive
//! buffer. Writing copies into the palette; the flush at the end of the turn sends it together with everything else.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use gyre_proto::ids::ConnId;
use hyper::rt::{Read, ReadBufCursor, Write};

use crate::driver::{Closed, Driver, Phase, TimerUse};
use crate::limits::{STREAM_UNSENT_MAX, UNCLAIMED_MS};
use crate::palette::FrameKind;

/// What a connection in stream mode has beyond its slot.
#[derive(Default)]
pub(crate) struct StreamState {
    received: Vec<u8>,
    taken: usize,
    /// The peer's direction has ended.
    pub(crate) ended: bool,
    /// The connection broke: neither direction works.
    pub(crate) broken: bool,
    /// The deadline of `Driver::stream_deadline` passed.
    timed_out: bool,
    /// A `Stream` exists or existed.
    claimed: bool,
    /// Somebody waits for bytes, so a receive must be armed.
    wanted: bool,
    /// Bytes were read since `stream_heard` was last asked.
    heard: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    watcher: Option<Waker>,
}

impl StreamState {
    /// Bytes received and not read.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.received[self.taken..]
    }

    /// True if a receive should be armed again after one ended without bytes.
    pub(crate) fn wants_bytes(&self) -> bool {
        self.wanted && !self.ended && !self.broken
    }

    fn wake_all(&mut self) {
        for waker in [self.reader.take(), self.writer.take(), self.watcher.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// One connection in stream mode, for hyper. Dropping it ends the connection politely.
pub struct Stream {
    driver: Rc<RefCell<Driver>>,
    conn: ConnId,
    released: bool,
}

impl Stream {
    /// Takes over a connection that was just accepted. None if it is gone or taken.
    pub fn claim(driver: &Rc<RefCell<Driver>>, conn: ConnId) -> Option<Self> {
        let mut borrowed = driver.borrow_mut();
        let stream = borrowed.table.get(conn)?.stream()?;
        if std::mem::replace(&mut stream.claimed, true) {
            return None;
        }
        borrowed.disarm_timer(conn, TimerUse::Stream);
        drop(borrowed);
        Some(Self { driver: Rc::clone(driver), conn, released: false })
    }

    /// Gives the connection up without ending it: somebody must go on with it soon. False if it is gone.
    pub(crate) fn release(mut self) -> bool {
        self.released = true;
        self.driver.borrow_mut().stream_released(self.conn)
    }

    /// Sends `bytes` as the last ones and ends the connection.
    pub(crate) fn end_with(mut self, bytes: &[u8]) {
        self.released = true;
        let mut driver = self.driver.borrow_mut();
        let frame = driver.frame(FrameKind::Raw, bytes);
        driver.push(self.conn, frame);
        driver.close(self.conn, 0, "");
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        // A task, and with it its stream, is only ever dropped by the executor, when nobody borrows the driver.
        self.driver.borrow_mut().stream_dropped(self.conn);
    }
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut driver = self.driver.borrow_mut();
        let readable = driver.stream_poll_readable(self.conn, context);
        let Poll::Ready(readable) = readable else { return Poll::Pending };
        let Some(stream) = driver.table.get(self.conn).and_then(|slot| slot.stream()) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        };
        if readable {
            let unread = stream.unread();
            let count = unread.len().min(buffer.remaining());
            buffer.put_slice(&unread[..count]);
            stream.taken += count;
            stream.heard = true;
            if stream.unread().is_empty() {
                // An idle connection keeps no buffer.
                stream.received = Vec::new();
                stream.taken = 0;
            }
            return Poll::Ready(Ok(()));
        }
        if stream.broken { Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())) } else { Poll::Ready(Ok(())) }
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.driver.borrow_mut().stream_poll_write(self.conn, context, slices)
    }

    /// The flush at the end of the turn sends; there is nothing to wait for.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// What was written still goes out; the connection ends when the stream is dropped.
    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Driver {
    /// Gives a new connection its stream state.
    pub(crate) fn open_stream(&mut self, conn: ConnId) {
        if let Some(slot) = self.table.get(conn) {
            slot.cold().stream = Some(Box::default());
        }
    }

    fn stream_poll_readable(&mut self, conn: ConnId, context: &mut Context<'_>) -> Poll<bool> {
        let Some(slot) = self.table.get(conn) else { return Poll::Ready(false) };
        let receiving = slot.receiving;
        let Some(stream) = slot.stream() else { return Poll::Ready(false) };
        if !stream.unread().is_empty() {
            return Poll::Ready(true);
        }
        if stream.ended || stream.broken {
            return Poll::Ready(false);
        }
        set_waker(&mut stream.reader, context);
        stream.wanted = true;
        if !receiving {
            slot.receiving = true;
            self.receive_once(conn);
        }
        Poll::Pending
    }

    fn stream_poll_write(
        &mut self,
        conn: ConnId,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let broken_pipe = || Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        let Some(slot) = self.table.get(conn) else { return broken_pipe() };
        let room = STREAM_UNSENT_MAX.saturating_sub(slot.unsent) as usize;
        let Some(stream) = slot.stream() else { return broken_pipe() };
        if stream.broken {
            return broken_pipe();
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        if offered == 0 {
            return Poll::Ready(Ok(0));
        }
        if room == 0 {
            set_waker(&mut stream.writer, context);
            return Poll::Pending;
        }
        let count = offered.min(room);
        let frame = self.frame_with(FrameKind::Raw, |out| {
            let mut left = count;
            for slice in slices {
                let part = slice.len().min(left);
                out.extend_from_slice(&slice[..part]);
                left -= part;
            }
        });
        self.push(conn, frame);
        Poll::Ready(Ok(count))
    }

    /// Bytes arrived in stream mode.
    pub(crate) fn stream_received(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(stream) = self.table.get(conn).and_then(|slot| slot.stream()) else { return };
        stream.wanted = false;
        stream.received.extend_from_slice(bytes);
        if let Some(reader) = stream.reader.take() {
            reader.wake();
        }
    }

    /// The peer's direction ended, or the whole connection if `broken`.
    pub(crate) fn stream_ended(&mut self, conn: ConnId, broken: bool) {
        let Some(stream) = self.table.get(conn).and_then(|slot| slot.stream()) else { return };
        stream.ended = true;
        stream.broken |= broken;
        let unclaimed = !stream.claimed;
        stream.wake_all();
        self.woke_task = true;
        if unclaimed {
            self.finish(conn, stream_end(broken, true));
        }
    }

    /// The frames of a stream were handed to the kernel, or moved to its pending bytes.
    pub(crate) fn stream_flushed(&mut self, conn: ConnId) {
        let Some(slot) = self.table.get(conn) else { return };
        if slot.unsent >= STREAM_UNSENT_MAX {
            return;
        }
        if let Some(writer) = slot.stream().and_then(|stream| stream.writer.take()) {
            writer.wake();
            self.woke_task = true;
        }
    }

    /// Whether bytes were read since the last question.
    pub(crate) fn stream_heard(&mut self, conn: ConnId) -> bool {
        let stream = self.table.get(conn).and_then(|slot| slot.stream());
        stream.is_some_and(|stream| std::mem::take(&mut stream.heard))
    }

    /// Sets or clears the deadline of a stream; when it passes, `stream_timed_out` turns true and the task of `context`
    /// is woken.
    pub(crate) fn stream_deadline(&mut self, conn: ConnId, deadline_ms: Option<u64>) {
        if let Some(stream) = self.table.get(conn).and_then(|slot| slot.stream()) {
            stream.timed_out = false;
        }
        match deadline_ms {
            Some(deadline_ms) => self.arm_timer(conn, TimerUse::Stream, deadline_ms),
            None => self.disarm_timer(conn, TimerUse::Stream),
        }
    }

    /// Whether the deadline has passed; if not, `context` is woken when it does.
    pub(crate) fn stream_timed_out(&mut self, conn: ConnId, context: &Context<'_>) -> bool {
        let Some(stream) = self.table.get(conn).and_then(|slot| slot.stream()) else { return true };
        set_waker(&mut stream.watcher, context);
        stream.timed_out
    }

    /// The deadline of a stream passed.
    pub(crate) fn on_stream_deadline(&mut self, conn: ConnId) {
        let Some(slot) = self.table.get(conn) else { return };
        if slot.phase != Phase::Stream {
            return;
        }
        match slot.stream() {
            Some(stream) if stream.watcher.is_some() => {
                stream.timed_out = true;
                stream.wake_all();
            }
            // Nobody took the connection, or nobody went on with it after an upgrade.
            _ => self.finish(conn, Closed::Local),
        }
    }

    /// Wakes the task of every stream, to look at `is_draining`.
    pub(crate) fn wake_streams(&mut self) {
        self.table.each(|slot| {
            if let Some(watcher) = slot.stream().and_then(|stream| stream.watcher.take()) {
                watcher.wake();
            }
        });
        self.woke_task = true;
    }

    /// The stream is gone and its connection goes on. False if the connection is gone, too.
    fn stream_released(&mut self, conn: ConnId) -> bool {
        let Some(slot) = self.table.get(conn) else { return false };
        if slot.phase != Phase::Stream {
            return false;
        }
        if let Some(stream) = slot.stream() {
            stream.watcher = None;
        }
        self.arm_timer(conn, TimerUse::Stream, self.now_ms() + UNCLAIMED_MS);
        true
    }

    fn stream_dropped(&mut self, conn: ConnId) {
        let Some(slot) = self.table.get(conn) else { return };
        if slot.phase != Phase::Stream {
            return;
        }
        let Some(stream) = slot.stream() else { return };
        let why = stream_end(stream.broken, stream.ended);
        if stream.broken || stream.timed_out {
            self.finish(conn, why);
        } else {
            self.leave(conn, why);
        }
    }
}

fn stream_end(broken: bool, ended: bool) -> Closed {
    match (broken, ended) {
        (true, _) => Closed::PeerReset,
        (false, true) => Closed::PeerEof,
        (false, false) => Closed::Local,
    }
}

fn set_waker(place: &mut Option<Waker>, context: &Context<'_>) {
    match place {
        Some(waker) if waker.will_wake(context.waker()) => {}
        _ => *place = Some(context.waker().clone()),
    }
}
