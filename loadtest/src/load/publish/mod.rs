//! Publishers: connections over which one core publishes, by calls of the server API or as commands of a client.
//!
//! A publisher's calls follow its schedule and its feed. It is driven by the core's turn (WebSocket) or by its task
//! (HTTP, `http.rs`), always on the core's thread. An answer that is late delays no other publication than those that
//! the pipeline has no room for, and these keep their intended time.

mod answer;
mod feed;
pub(crate) mod http;
pub(crate) mod probe;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use gyre_proto::ids::ConnId;

use super::layout::Channel;
use super::schedule::Schedule;
use super::shared::{Orders, Shared};
use super::spec::{Pace, Publishing};
use super::tally::{Sample, Tally};
use super::wire::payload::{self, Payload};
use super::wire::{Wire, command};
use feed::Feed;

/// Where a publisher is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Out,
    Dialling,
    Ready,
    Leaving,
}

/// A call without its answer.
#[derive(Clone, Copy)]
struct Call {
    intended_us: u64,
    /// First publication.
    first: u64,
    count: u16,
    /// Publications without a reply.
    replies: u16,
    /// Publications refused.
    refused: u16,
}

/// One publishing connection.
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    tally: Rc<RefCell<Tally>>,
    pub(crate) conn: ConnId,
    pub(crate) state: State,
    pub(crate) attempts: u32,
    /// Wakes its HTTP task.
    pub(crate) waker: Option<Waker>,
    feed: Feed,
    work: Work,
    /// Publications so far.
    sent: u64,
    in_flight: VecDeque<Call>,
    /// Since when the pipeline has room: being late because of the server is not the generator's lag.
    room_since_us: u64,
    /// Scratch space.
    name: Vec<u8>,
    data: Vec<u8>,
    body: Vec<u8>,
}

/// What is still to be published.
#[derive(Clone, Copy)]
enum Work {
    None,
    Paced { schedule: Schedule, until_us: u64 },
    FlatOut { from_us: u64, until_us: u64 },
    Counted { intended_us: u64, left: u64 },
}

impl Publisher {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        tally: &Rc<RefCell<Tally>>,
        publishing: &Publishing,
        number: usize,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            tally: Rc::clone(tally),
            conn: ConnId { index: u32::MAX, generation: 0 },
            state: State::Out,
            attempts: 0,
            waker: None,
            feed: Feed::new(publishing, number, shared.spec.layout.channels),
            work: Work::None,
            sent: 0,
            in_flight: VecDeque::new(),
            room_since_us: 0,
            name: Vec::new(),
            data: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Takes over new orders.
    pub(crate) fn obey(&mut self, before: &Orders, now: &Orders, publishing: &Publishing, number: usize) {
        if now.stop || now.publish_until_us == 0 {
            return self.give_up();
        }
        if now.broadcasts != before.broadcasts {
            let left = self.feed.round();
            self.work = Work::Counted { intended_us: self.shared.now_us(), left };
        }
        let (from_us, until_us) = (now.publish_from_us, now.publish_until_us);
        if from_us != before.publish_from_us {
            self.work = match publishing.pace {
                Pace::Rate(rate) => {
                    let calls = rate / publishing.batch as f64;
                    let schedule = Schedule::new(from_us, calls, number, publishing.connections, 1);
                    Work::Paced { schedule, until_us }
                }
                Pace::FlatOut => Work::FlatOut { from_us, until_us },
                Pace::Ordered => self.work,
            };
        } else if until_us != before.publish_until_us {
            match &mut self.work {
                Work::Paced { until_us: until, .. } | Work::FlatOut { until_us: until, .. } => *until = until_us,
                Work::Counted { .. } | Work::None => {}
            }
        }
    }

    /// Nothing is published any more; what was due by then was not made.
    fn give_up(&mut self) {
        let not_made = match std::mem::replace(&mut self.work, Work::None) {
            Work::Paced { schedule, until_us } => schedule.due_before(until_us) * self.publishing().batch as u64,
            Work::Counted { left, .. } => left,
            Work::FlatOut { .. } | Work::None => 0,
        };
        let mut tally = self.tally.borrow_mut();
        tally.counts.not_made += not_made;
        tally.dirty |= not_made > 0;
    }

    /// When it has something to do next by itself; `u64::MAX` if only an answer can bring that about.
    pub(crate) fn next_us(&self) -> u64 {
        let has_room = self.state == State::Ready && self.in_flight.len() < self.pipeline();
        let at = match self.work {
            Work::None => u64::MAX,
            Work::Paced { schedule, until_us } => {
                Some(schedule.next_us()).filter(|at| *at < until_us).unwrap_or(u64::MAX)
            }
            Work::FlatOut { from_us, until_us } if self.shared.now_us() < until_us => from_us,
            Work::FlatOut { .. } => u64::MAX,
            Work::Counted { intended_us, .. } => intended_us,
        };
        if has_room { at } else { u64::MAX }
    }

    /// Whether something is due sooner or later, or unanswered.
    pub(crate) fn is_busy(&self) -> bool {
        let due = match self.work {
            Work::None => false,
            Work::Paced { schedule, until_us } => schedule.next_us() < until_us,
            Work::FlatOut { until_us, .. } => self.shared.now_us() < until_us,
            Work::Counted { .. } => true,
        };
        due || !self.in_flight.is_empty()
    }

    /// Publications without an answer.
    pub(crate) fn unanswered(&self) -> u64 {
        self.in_flight.iter().map(|call| u64::from(call.replies)).sum()
    }

    /// Takes the next call if it is due and there is room for it: when it was intended, its first publication, how many.
    fn take_call(&mut self, now_us: u64) -> Option<(u64, u64, usize)> {
        if self.next_us() > now_us {
            return None;
        }
        let batch = self.publishing().batch;
        let (intended_us, count) = match &mut self.work {
            Work::None => return None,
            Work::Paced { schedule, .. } => (schedule.take(now_us)?, batch),
            Work::FlatOut { .. } => (now_us, batch),
            Work::Counted { intended_us, left } => {
                let (at, count) = (*intended_us, batch.min(*left as usize));
                *left -= count as u64;
                if *left == 0 {
                    self.work = Work::None;
                }
                (at, count)
            }
        };
        let first = self.sent;
        self.sent += count as u64;
        let could_us = intended_us.max(self.room_since_us.min(now_us));
        let lag_us = now_us - could_us;
        self.tally.borrow_mut().sample(Sample::Lag, intended_us, intended_us + lag_us);
        let (count_16, refused) = (count as u16, 0);
        self.in_flight.push_back(Call { intended_us, first, count: count_16, replies: count_16, refused });
        Some((intended_us, first, count))
    }

    /// Puts name and data of a publication into the scratch space.
    fn prepare(&mut self, number: u64, intended_us: u64) {
        let spec = &self.shared.spec;
        let (channel, sequence) = self.feed.at(number, spec.layout.channels);
        self.name.clear();
        spec.layout.write_name(Channel::Numbered(channel), &mut self.name);
        self.data.clear();
        let payload = Payload { sequence, intended_us, channel: channel as u32 };
        let size = self.publishing().size;
        payload::write(&mut self.data, payload, size);
    }

    /// WebSocket: appends the next call as commands of one frame. False if none is due.
    pub(crate) fn write_commands(&mut self, wire: Wire, out: &mut Vec<u8>, now_us: u64) -> bool {
        let Some((intended_us, first, count)) = self.take_call(now_us) else { return false };
        for number in first..first + count as u64 {
            self.prepare(number, intended_us);
            // Replies come in order, so ids only have to be recognisable; they wrap long before u32 does.
            let id = command::PUBLISH_ID + (number % (1 << 30)) as u32;
            command::publish(wire, out, id, &self.name, &self.data);
        }
        true
    }

    /// WebSocket: the reply to the next publication that has none.
    pub(crate) fn replied(&mut self, error: Option<u32>, now_us: u64) {
        let pipeline = self.pipeline();
        let was_full = self.in_flight.len() >= pipeline;
        let Some(call) = self.in_flight.front_mut() else { return };
        call.replies -= 1;
        if let Some(code) = error {
            call.refused += 1;
            self.tally.borrow_mut().error(&format!("publish: error {code}"));
        }
        if call.replies == 0 {
            let call = *call;
            self.in_flight.pop_front();
            self.finish(call, now_us, was_full);
        }
    }

    /// HTTP: the next answer to the oldest call. False if there was none to answer.
    fn answered(&mut self, status: u16, errors: &[u64], now_us: u64) -> bool {
        let was_full = self.in_flight.len() >= self.pipeline();
        let is_burst = self.publishing().burst;
        let Some(call) = self.in_flight.front_mut() else { return false };
        // A burst is one request per publication, any other call is one for all.
        let of_answer = if is_burst { 1 } else { call.count };
        call.replies -= of_answer;
        if status != 200 {
            self.tally.borrow_mut().error(&format!("publish: http {status}"));
            call.refused += of_answer;
        } else {
            call.refused += of_answer.min(errors.len() as u16);
            for code in errors {
                self.tally.borrow_mut().error(&format!("publish: error {code}"));
            }
        }
        if call.replies == 0 {
            let call = *call;
            self.in_flight.pop_front();
            self.finish(call, now_us, was_full);
        }
        true
    }

    fn finish(&mut self, call: Call, now_us: u64, was_full: bool) {
        if was_full {
            self.room_since_us = now_us;
        }
        let mut tally = self.tally.borrow_mut();
        tally.sample(Sample::Publish, call.intended_us, now_us);
        tally.published(u64::from(call.count - call.refused), now_us);
        tally.counts.publish_failed += u64::from(call.refused);
        let spec = &self.shared.spec;
        let is_checked = spec.layout.clients > 0;
        if call.refused > 0 || !is_checked {
            // Which of a call's publications were refused is not known; what arrives of them is checked all the same.
            return;
        }
        for number in call.first..call.first + u64::from(call.count) {
            let (channel, sequence) = self.feed.at(number, spec.layout.channels);
            self.shared.accepted(channel, sequence);
            if spec.deliveries_known {
                tally.counts.expected += spec.layout.subscribers(channel) as u64;
            }
        }
    }

    /// The connection is gone: what was not answered has failed, as far as we know.
    pub(crate) fn lost(&mut self) {
        self.state = State::Out;
        self.waker = None;
        let failed: u64 = self.in_flight.drain(..).map(|call| u64::from(call.count)).sum();
        if failed > 0 {
            let mut tally = self.tally.borrow_mut();
            tally.counts.publish_failed += failed;
            tally.error("publish: connection lost");
        }
    }

    fn publishing(&self) -> &Publishing {
        // Publishers exist only in a run that publishes.
        match &self.shared.spec.publishing {
            Some(publishing) => publishing,
            None => unreachable!("a publisher in a run that publishes nothing"),
        }
    }

    fn pipeline(&self) -> usize {
        self.publishing().pipeline
    }
}
