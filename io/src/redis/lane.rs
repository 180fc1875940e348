//! One connection to Redis on the driver, for as long as the core lives: dialled, greeted, and made anew when it fails.
//!
//! On a core's thread. The driver tells what happens to the connection; once per turn the lane looks at its deadlines,
//! and what is to be sent goes out in one frame. Failures are in the log by server (`outages`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gyre_proto::ids::ConnId;

use super::connection::{Connection, Incoming};
use super::outages::Outages;
use super::wire::Wire;
use crate::driver::{Closed, Dial, Driver, Target, Then};
use crate::limits::REDIS_RETRY_MS;
use crate::palette::FrameKind;

/// Where a Redis listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// On TCP.
    Internet(SocketAddr),
    /// As `Internet`, at an address that this host name stands for: TLS expects the name in the certificate.
    Named(Arc<str>, SocketAddr),
    /// On a Unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Internet(address) => address.fmt(f),
            Self::Named(name, address) => write!(f, "{name} ({address})"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// What a lane is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Commands and their replies.
    Commands,
    /// Subscriptions and messages.
    Messages,
    /// Subscriptions and messages of sharded Pub/Sub.
    SlotMessages,
}

/// What a lane has to tell.
pub(super) enum Told {
    /// Greeted: it takes commands from here on.
    Up,
    /// It has failed; what waited was handed back before this.
    Down,
    Heard(Incoming),
}

pub(super) struct Lane {
    state: State,
    /// Which server it was to when it failed; until it is up again.
    missing: Option<Endpoint>,
    outages: Arc<Outages>,
    /// Of the delay before the next attempt.
    rng: u64,
}

enum State {
    Down { retry_at_ms: u64 },
    Dialling(ConnId),
    Open { conn: ConnId, wire: Box<Wire>, is_up: bool },
}

impl Lane {
    pub(super) fn new(seed: u64, outages: Arc<Outages>) -> Self {
        Self { state: State::Down { retry_at_ms: 0 }, missing: None, outages, rng: seed | 1 }
    }

    pub(super) fn has(&self, conn: ConnId) -> bool {
        matches!(self.state, State::Dialling(own) | State::Open { conn: own, .. } if own == conn)
    }

    /// The connection, once it takes commands.
    pub(super) fn open(&mut self) -> Option<&mut Connection> {
        match &mut self.state {
            State::Open { wire, is_up: true, .. } => Some(wire.connection_mut()),
            _ => None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Open { is_up: true, .. })
    }

    pub(super) fn has_connection(&self) -> bool {
        !matches!(self.state, State::Down { .. })
    }

    pub(super) fn in_flight(&self) -> usize {
        match &self.state {
            State::Open { wire, .. } => wire.connection().in_flight(),
            _ => 0,
        }
    }

    /// Gives the connection up, without a word in the log.
    pub(super) fn end(&mut self, driver: &mut Driver, tell: &mut impl FnMut(Told)) {
        let was_up = self.is_up();
        match std::mem::replace(&mut self.state, State::Down { retry_at_ms: u64::MAX }) {
            State::Down { .. } => {}
            State::Dialling(conn) => driver.abort(conn),
            State::Open { conn, mut wire, .. } => {
                wire.closed(&mut |incoming| tell(Told::Heard(incoming)));
                driver.abort(conn);
            }
        }
        if was_up {
            tell(Told::Down);
        }
    }

    /// Once per turn: dials when it is time to, and ends a connection that does not answer.
    pub(super) fn turn(
        &mut self,
        driver: &mut Driver,
        endpoint: &Endpoint,
        connect_timeout_ms: u64,
        tell: &mut impl FnMut(Told),
    ) {
        let now_ms = driver.now_ms();
        match &mut self.state {
            State::Down { retry_at_ms } if *retry_at_ms <= now_ms => {
                let target = match endpoint {
                    Endpoint::Internet(address) | Endpoint::Named(_, address) => Target::Internet(*address),
                    Endpoint::Unix(path) => Target::Unix(path),
                };
                match driver.dial(Dial { target, source: None, timeout_ms: connect_timeout_ms, then: Then::Raw }) {
                    Ok(conn) => self.state = State::Dialling(conn),
                    Err(error) => self.failed(endpoint, &error.to_string(), now_ms, tell),
                }
            }
            State::Open { conn, wire, .. } => {
                wire.expire(now_ms, &mut |incoming| tell(Told::Heard(incoming)));
                let conn = *conn;
                self.look(driver, endpoint, conn, tell);
            }
            State::Down { .. } | State::Dialling(_) => {}
        }
        if let Some(at_ms) = self.next_ms() {
            driver.wake_within(Duration::from_millis(at_ms.saturating_sub(now_ms)));
        }
    }

    /// The connection is there: the greeting goes out.
    pub(super) fn dialled(&mut self, conn: ConnId, wire: Wire) {
        self.state = State::Open { conn, wire: Box::new(wire), is_up: false };
    }

    pub(super) fn bytes(&mut self, driver: &mut Driver, endpoint: &Endpoint, data: &[u8], tell: &mut impl FnMut(Told)) {
        let State::Open { conn, wire, .. } = &mut self.state else { return };
        wire.received(data, driver.now_ms(), &mut |incoming| tell(Told::Heard(incoming)));
        let conn = *conn;
        self.look(driver, endpoint, conn, tell);
    }

    /// The connection has ended, or never began.
    pub(super) fn closed(&mut self, endpoint: &Endpoint, why: Closed, now_ms: u64, tell: &mut impl FnMut(Told)) {
        let why = match (&mut self.state, why) {
            (State::Open { wire, .. }, _) => {
                wire.closed(&mut |incoming| tell(Told::Heard(incoming)));
                wire.failure().map_or_else(String::new, ToString::to_string)
            }
            (_, Closed::Unreachable(errno)) => std::io::Error::from_raw_os_error(errno).to_string(),
            (_, Closed::DialTimeout) => "no connection in time (connect_timeout)".to_owned(),
            (_, why) => format!("{why:?}"),
        };
        self.failed(endpoint, &why, now_ms, tell);
    }

    /// Hands what is to be sent to the driver, at most so much at a time: what the socket does not take stays here.
    pub(super) fn flush(&mut self, driver: &mut Driver) {
        let State::Open { conn, wire, .. } = &mut self.state else { return };
        if driver.unsent(*conn) > 0 {
            return;
        }
        let output = wire.output();
        let taken = output.len();
        if taken == 0 {
            return;
        }
        let frame = driver.frame(FrameKind::Raw, output);
        driver.push(*conn, frame);
        wire.output_taken(taken);
        if wire.has_output() {
            // Nothing else might begin the turn for the rest.
            driver.wake_within(Duration::ZERO);
        }
    }

    /// What has become of the connection by what it just heard.
    fn look(&mut self, driver: &mut Driver, endpoint: &Endpoint, conn: ConnId, tell: &mut impl FnMut(Told)) {
        let State::Open { wire, is_up, .. } = &mut self.state else { return };
        if let Some(why) = wire.failure() {
            let why = why.clone();
            driver.abort(conn);
            // Otherwise the line that begins the outage says so.
            if why.is_refusal() && self.missing.is_some() {
                self.outages.refused(endpoint, &why);
            }
            return self.failed(endpoint, &why.to_string(), driver.now_ms(), tell);
        }
        if wire.connection().is_ready() && !*is_up {
            *is_up = true;
            if let Some(missing) = self.missing.take() {
                self.outages.end(&missing, true);
            }
            tell(Told::Up);
        }
    }

    fn failed(&mut self, endpoint: &Endpoint, why: &str, now_ms: u64, tell: &mut impl FnMut(Told)) {
        if self.missing.is_none() {
            self.outages.begin(endpoint, why);
            self.missing = Some(endpoint.clone());
        }
        self.state = State::Down { retry_at_ms: now_ms + self.delay_ms() };
        tell(Told::Down);
    }

    /// Between one and two times the least delay: many cores and nodes lose their connections at the same time.
    fn delay_ms(&mut self) -> u64 {
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        REDIS_RETRY_MS + self.rng % REDIS_RETRY_MS
    }

    fn next_ms(&self) -> Option<u64> {
        match &self.state {
            State::Down { retry_at_ms } => Some(*retry_at_ms),
            // The driver watches over the time to connect.
            State::Dialling(_) => None,
            State::Open { wire, .. } => wire.next_deadline(),
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(missing) = self.missing.take() {
            self.outages.end(&missing, false);
        }
    }
}
