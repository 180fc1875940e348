//! How connections of a core begin: the ramp, coming back, and everything that goes wrong on the way.
//!
//! Part of the core's turn. A client whose connection does not come about is dialled again a second later, three times
//! in all; then it is given up, which the run reports as a violation.

use std::rc::Rc;
use std::sync::Arc;

use gyre_io::{Closed, Dial, Driver, FrameKind, Target, Then, WebSocketOptions, spawn};
use gyre_proto::ids::ConnId;
use gyre_proto::ws::{Role, encode_client_frame};

use super::clients::State;
use super::core::{Core, Owner};
use super::leaving::{ended, errno_name};
use super::publish::{self, http};
use super::spec::Spec;
use super::wire::command::{self, Position};
use crate::codes::explained;
use crate::options::Via;

/// Connections in a row that may fail before a client is given up.
const ATTEMPTS_MAX: u8 = 3;
/// Pause before the next of them.
const RETRY_US: u64 = 1_000_000;

/// What a client accepts. Text must be UTF-8, which the readers do not notice: they look at a few bytes of it.
fn options(spec: &Spec) -> WebSocketOptions {
    WebSocketOptions { message_size_max: spec.message_size_max(), validate_utf8: true, role: Role::Client }
}

impl Core {
    /// Whose connection this is. A slot may be in use again before the end of its last connection was reported.
    pub(super) fn owner(&self, conn: ConnId) -> Owner {
        let owner = self.owners.get(conn.index as usize).copied().unwrap_or(Owner::None);
        if self.conn_of(owner) == Some(conn) {
            return owner;
        }
        self.displaced.get(&(conn.index, conn.generation)).copied().unwrap_or(Owner::None)
    }

    fn conn_of(&self, owner: Owner) -> Option<ConnId> {
        match owner {
            Owner::None => None,
            Owner::Client(client) => Some(self.clients.each[client as usize].conn),
            Owner::Publisher(at) => Some(self.publishers[at as usize].1.borrow().conn),
        }
    }

    /// Call before the owner learns of its new connection.
    fn set_owner(&mut self, conn: ConnId, owner: Owner) {
        let index = conn.index as usize;
        if self.owners.len() <= index {
            self.owners.resize(index + 1, Owner::None);
        }
        let before = std::mem::replace(&mut self.owners[index], owner);
        if let Some(earlier) = self.conn_of(before)
            && earlier.index == conn.index
            && earlier != conn
        {
            self.displaced.insert((earlier.index, earlier.generation), before);
        }
    }

    fn forget_owner(&mut self, conn: ConnId) {
        let index = conn.index as usize;
        if self.displaced.remove(&(conn.index, conn.generation)).is_none() && index < self.owners.len() {
            self.owners[index] = Owner::None;
        }
    }

    /// Whether clients wait for their dial and may be dialled.
    pub(super) fn has_dials(&self) -> bool {
        let connecting = &self.connecting;
        connecting.in_flight < connecting.in_flight_max
            && (connecting.first_dials < self.clients.each.len() || !connecting.queue.is_empty())
    }

    /// Before when there is nothing to dial: all that is left are clients that wait for their next attempt.
    pub(super) fn retry_us(&self) -> u64 {
        let is_first = self.connecting.first_dials < self.clients.each.len();
        self.connecting.queue.front().filter(|_| !is_first).map_or(0, |(_, from_us)| *from_us)
    }

    /// Dials what is due. The rate bounds all dials; the intended time of a return is when its connection ended.
    pub(super) fn dial_due(&mut self, driver: &mut Driver, now_us: u64) {
        while self.has_dials() {
            let is_first = self.connecting.first_dials < self.clients.each.len();
            if !is_first && self.connecting.queue.front().is_some_and(|(_, from_us)| *from_us > now_us) {
                break;
            }
            let Some(schedule) = &mut self.connecting.schedule else { break };
            if schedule.take(now_us).is_none() {
                break;
            }
            if is_first {
                let client = self.connecting.first_dials;
                self.connecting.first_dials += 1;
                self.clients.each[client].since_us = now_us as u32;
                self.dial_client(driver, client);
            } else if let Some((client, _)) = self.connecting.queue.pop_front() {
                self.dial_client(driver, client as usize);
            }
        }
    }

    fn dial_client(&mut self, driver: &mut Driver, client: usize) {
        let shared = Arc::clone(&self.shared);
        let spec = &shared.spec;
        let number = self.clients.first + client;
        let at = number % spec.endpoints.len();
        let source = match &spec.sources[..] {
            [] => None,
            sources => Some(sources[number / spec.endpoints.len() % sources.len()]),
        };
        let request = &self.requests[at];
        let dial = Dial {
            target: Target::Internet(spec.endpoints[at].address),
            source,
            timeout_ms: spec.connect_timeout_us / 1000,
            then: Then::WebSocket { request, options: options(spec) },
        };
        let result = driver.dial(dial);
        let mut tally = self.tally.borrow_mut();
        tally.dirty = true;
        tally.counts.dialled += 1;
        match result {
            Ok(conn) => {
                drop(tally);
                self.set_owner(conn, Owner::Client(client as u32));
                self.connecting.in_flight += 1;
                let entry = &mut self.clients.each[client];
                (entry.conn, entry.state, entry.subscribed) = (conn, State::Dialling, 0);
            }
            Err(error) => {
                tally.counts.connect_failed += 1;
                tally.error(&match error.raw_os_error() {
                    Some(code) => format!("connect: {}", errno_name(code)),
                    None => format!("connect: {error}"),
                });
                drop(tally);
                self.try_again(client);
            }
        }
    }

    /// A connection did not come about.
    fn try_again(&mut self, client: usize) {
        let entry = &mut self.clients.each[client];
        entry.attempts += 1;
        if entry.attempts == 1 && !entry.returns {
            self.status.never_ready += 1;
        }
        if entry.attempts >= ATTEMPTS_MAX {
            entry.state = State::Gone;
            self.status.given_up += 1;
            self.status.not_returned += u64::from(entry.returns);
        } else {
            entry.state = State::Out;
            self.connecting.queue.push_back((client as u32, self.shared.now_us() + RETRY_US));
        }
    }

    pub(super) fn on_dialled(&mut self, driver: &mut Driver, conn: ConnId) {
        self.tally.borrow_mut().dirty = true;
        match self.owner(conn) {
            Owner::Client(client) => {
                self.write_connect(client as usize);
                self.push_scratch(driver, conn);
                let timeout_ms = self.shared.spec.connect_timeout_us / 1000;
                driver.set_timer(conn, driver.now_ms() + timeout_ms);
            }
            Owner::Publisher(at) => {
                let (number, publisher) = &self.publishers[at as usize];
                if self.via == Via::Ws {
                    // Publishers are users of their own, behind the clients.
                    let user = (self.shared.spec.layout.clients + number) as u64;
                    self.shared.spec.tokens.write(user, &mut self.token);
                    self.scratch.clear();
                    command::connect(self.shared.spec.wire, &mut self.scratch, self.token.as_bytes());
                    self.push_scratch(driver, conn);
                } else {
                    spawn(http::run(Rc::clone(&self.driver), conn, Rc::clone(publisher)));
                }
            }
            Owner::None => driver.abort(conn),
        }
    }

    /// Connect and all subscribes of a client, in one frame.
    fn write_connect(&mut self, client: usize) {
        let spec = &self.shared.spec;
        let number = self.clients.first + client;
        spec.tokens.write(number as u64, &mut self.token);
        self.scratch.clear();
        command::connect(spec.wire, &mut self.scratch, self.token.as_bytes());
        let mut name = Vec::with_capacity(64);
        for slot in 0..spec.layout.slots() {
            name.clear();
            spec.layout.write_name(spec.layout.channel(number, slot), &mut name);
            let known = self.clients.position(client, slot).copied();
            let position = match known {
                None => Position::None,
                Some(known) if known.epoch == 0 => Position::Wanted,
                Some(known) => Position::After { epoch: self.clients.epochs.text(known.epoch), offset: known.offset },
            };
            command::subscribe(spec.wire, &mut self.scratch, command::SUBSCRIBE_ID + slot as u32, &name, position);
        }
    }

    fn push_scratch(&mut self, driver: &mut Driver, conn: ConnId) {
        let (opcode, mask, scratch) = (self.shared.spec.wire.opcode_byte(), self.mask, &self.scratch);
        let frame = driver.frame_with(FrameKind::Raw, |out| encode_client_frame(opcode, scratch, mask, out));
        driver.push(conn, frame);
    }

    /// The replies did not come in time.
    pub(super) fn on_timeout(&mut self, driver: &mut Driver, conn: ConnId) {
        self.tally.borrow_mut().error("connect: no reply in time");
        driver.abort(conn);
    }

    pub(super) fn on_closed(&mut self, driver: &mut Driver, conn: ConnId, why: Closed) {
        let owner = self.owner(conn);
        self.forget_owner(conn);
        self.tally.borrow_mut().dirty = true;
        match owner {
            Owner::Client(client) => self.on_client_closed(client as usize, why),
            Owner::Publisher(at) => self.on_publisher_closed(driver, at as usize, why),
            Owner::None => {}
        }
    }

    fn on_client_closed(&mut self, client: usize, why: Closed) {
        let entry = &mut self.clients.each[client];
        let state = entry.state;
        let was_connected = state == State::Connected || state == State::Ready;
        self.uncount(client, was_connected);
        match state {
            State::Dialling | State::Connected => {
                self.connecting.in_flight -= 1;
                let mut tally = self.tally.borrow_mut();
                tally.counts.connect_failed += 1;
                if why != Closed::Local {
                    tally.error(&ended(why));
                }
                drop(tally);
                self.try_again(client);
            }
            State::Ready => {
                self.status.ready -= 1;
                let mut tally = self.tally.borrow_mut();
                tally.error(&ended(why));
                tally.counts.closed += 1;
                drop(tally);
                if self.orders.returning {
                    self.clients.each[client].since_us = self.shared.now_us() as u32;
                    self.come_back(client);
                } else {
                    self.clients.each[client].state = State::Gone;
                    self.status.given_up += 1;
                }
            }
            State::Returning => self.come_back(client),
            State::Leaving | State::Out | State::Gone => self.clients.each[client].state = State::Gone,
        }
    }

    fn come_back(&mut self, client: usize) {
        self.clients.each[client].state = State::Out;
        self.connecting.queue.push_back((client as u32, 0));
    }

    /// Takes a client that ends out of the counters of what is open.
    pub(super) fn uncount(&mut self, client: usize, was_connected: bool) {
        if was_connected {
            let mut tally = self.tally.borrow_mut();
            tally.counts.open -= 1;
            tally.counts.subscribed -= u64::from(self.clients.each[client].subscribed);
            tally.dirty = true;
        }
    }

    pub(super) fn dial_publishers(&mut self, driver: &mut Driver) {
        for at in 0..self.publishers.len() {
            self.dial_publisher(driver, at);
        }
    }

    fn dial_publisher(&mut self, driver: &mut Driver, at: usize) {
        let shared = Arc::clone(&self.shared);
        let Some(publishing) = &shared.spec.publishing else { return };
        let timeout_ms = shared.spec.connect_timeout_us / 1000;
        let endpoint = self.publishers[at].0 % shared.spec.endpoints.len();
        let dial = match self.via {
            Via::Http => {
                Dial { target: Target::Internet(publishing.api.address), source: None, timeout_ms, then: Then::Stream }
            }
            Via::Ws => Dial {
                target: Target::Internet(shared.spec.endpoints[endpoint].address),
                source: None,
                timeout_ms,
                then: Then::WebSocket { request: &self.requests[endpoint], options: options(&shared.spec) },
            },
        };
        let result = driver.dial(dial);
        let mut publisher = self.publishers[at].1.borrow_mut();
        publisher.attempts += 1;
        match result {
            Ok(conn) => {
                drop(publisher);
                self.set_owner(conn, Owner::Publisher(at as u32));
                let mut publisher = self.publishers[at].1.borrow_mut();
                (publisher.conn, publisher.state) = (conn, publish::State::Dialling);
            }
            Err(error) => self.tally.borrow_mut().error(&format!("publish: connect: {error}")),
        }
    }

    fn on_publisher_closed(&mut self, driver: &mut Driver, at: usize, why: Closed) {
        let mut publisher = self.publishers[at].1.borrow_mut();
        if publisher.state == publish::State::Leaving || self.leave.is_some() {
            return;
        }
        publisher.lost();
        let attempts = publisher.attempts;
        drop(publisher);
        self.tally.borrow_mut().error(&format!("publish: {}", ended(why)));
        // A server may end a kept-alive connection now and then; one that ends all of them is reported.
        if attempts < 100 && !matches!(why, Closed::Unreachable(_) | Closed::Refused(_) | Closed::DialTimeout) {
            self.dial_publisher(driver, at);
        } else if let Ok(mut failures) = self.shared.failures.lock() {
            failures.push(format!("a publisher cannot connect: {}", explained(&ended(why))));
        }
    }
}
