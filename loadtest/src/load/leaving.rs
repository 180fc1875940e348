//! How connections of a core end because the workload wants it: churn, storm, and everybody's leave at the end.
//!
//! Part of the core's turn. What the server ends is told apart by the client's state and counted in `connecting`.

use gyre_io::{Closed, Driver};

use super::clients::State;
use super::core::Core;
use super::publish;

impl Core {
    /// Makes clients leave that are to come back: half of them say goodbye, half of them just end.
    pub(super) fn churn_due(&mut self, driver: &mut Driver, now_us: u64) {
        let count = self.clients.each.len();
        while let Some(churn) = &mut self.churn
            && churn.next_us() < self.orders.churn_until_us
            && count > 0
            && churn.take(now_us).is_some()
        {
            // Clients take turns, so each has been back for as long as possible.
            let client = self.next_churned % count;
            self.next_churned += 1;
            if self.clients.each[client].state == State::Ready {
                self.send_away(client, State::Returning);
                let conn = self.clients.each[client].conn;
                if client.is_multiple_of(2) { driver.close(conn, 1000, "") } else { driver.abort(conn) }
            }
        }
    }

    /// Ends all connections at once; everybody comes back.
    pub(super) fn drop_all(&mut self, driver: &mut Driver) {
        for client in 0..self.clients.each.len() {
            if self.clients.each[client].state == State::Ready {
                self.send_away(client, State::Returning);
                driver.abort(self.clients.each[client].conn);
            }
        }
    }

    fn send_away(&mut self, client: usize, state: State) {
        let was_connected = matches!(self.clients.each[client].state, State::Connected | State::Ready);
        self.uncount(client, was_connected);
        let entry = &mut self.clients.each[client];
        if entry.state == State::Ready {
            self.status.ready -= 1;
        }
        if matches!(entry.state, State::Dialling | State::Connected) {
            self.connecting.in_flight -= 1;
        }
        (entry.state, entry.since_us) = (state, self.shared.now_us() as u32);
    }

    /// Lets clients go, at a bounded rate; publishers with the first of them.
    pub(super) fn leave_due(&mut self, driver: &mut Driver, now_us: u64) {
        let Some(mut leave) = self.leave else { return };
        if leave.next_us() <= now_us && self.next_leaving == 0 {
            self.leave_publishers(driver);
        }
        while self.next_leaving < self.clients.each.len() && leave.take(now_us).is_some() {
            let client = self.next_leaving;
            self.next_leaving += 1;
            match self.clients.each[client].state {
                State::Ready => {
                    self.send_away(client, State::Leaving);
                    driver.close(self.clients.each[client].conn, 1000, "");
                }
                State::Dialling | State::Connected => {
                    self.send_away(client, State::Leaving);
                    driver.abort(self.clients.each[client].conn);
                }
                State::Returning => self.clients.each[client].state = State::Leaving,
                State::Out | State::Leaving | State::Gone => {}
            }
        }
        self.leave = Some(leave);
    }

    fn leave_publishers(&mut self, driver: &mut Driver) {
        for (_, publisher) in &self.publishers {
            let mut publisher = publisher.borrow_mut();
            publisher.state = publish::State::Leaving;
            match publisher.waker.take() {
                Some(waker) => waker.wake(),
                None => driver.close(publisher.conn, 1000, ""),
            }
        }
    }
}

/// How a connection ended, as it is counted.
pub(super) fn ended(why: Closed) -> String {
    match why {
        Closed::PeerClosed { code } => format!("disconnect {code}"),
        Closed::PeerEof => "connection ended without a close frame".to_owned(),
        Closed::PeerReset => "connection reset".to_owned(),
        Closed::Violation(code) => format!("server broke the websocket protocol: code {code}"),
        Closed::Local => "connection ended here".to_owned(),
        Closed::Unreachable(code) => format!("connect: {}", errno_name(code)),
        Closed::Refused(0) => "upgrade: answer is not http".to_owned(),
        Closed::Refused(101) => {
            let what = "wrong accept key, or an extension or subprotocol that was not offered";
            format!("server broke the websocket handshake: {what}")
        }
        Closed::Refused(status) => format!("upgrade: http {status}"),
        Closed::DialTimeout => "connect: timed out".to_owned(),
    }
}

pub(super) fn errno_name(code: i32) -> String {
    let name = match code {
        4 => "EINTR",
        11 => "EAGAIN",
        12 => "ENOMEM",
        13 => "EACCES",
        22 => "EINVAL",
        23 => "ENFILE (files of the system)",
        24 => "EMFILE (open files of this process)",
        98 => "EADDRINUSE (ports of this address are used up)",
        99 => "EADDRNOTAVAIL (no free port, or not an address of this host)",
        101 => "ENETUNREACH",
        103 => "ECONNABORTED",
        104 => "ECONNRESET",
        105 => "ENOBUFS",
        110 => "ETIMEDOUT",
        111 => "ECONNREFUSED",
        113 => "EHOSTUNREACH",
        _ => return format!("errno {code}"),
    };
    name.to_owned()
}
