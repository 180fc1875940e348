//! Seats: `user_connection_limit` over all cores of the node.
//!
//! The home core of a user gives out its seats one after the other, so that connections which come on several cores at
//! once never take more than there are. A connect asks for one before it is let in; on another core it is parked until
//! the answer is there. A seat that is granted to a connection which has gone meanwhile is given back by the core that
//! asked. Nothing is asked, counted or sent for the anonymous user, or while the limit is off; but for a connection that
//! replaces the others of its user, which leave before it is answered.

use foldhash::fast::FixedState;
use gyre_proto::codes::Disconnect;
use gyre_proto::ids::{ConnId, CoreId};
use hashbrown::HashMap;

use crate::engine::{Engine, home_of};
use crate::limits::SEAT_LOG_MS;
use crate::message::Message;
use crate::outlet::Outlet;
use crate::session::{ClientId, Entering, Work};

/// A connect that asks the home core of its user.
#[derive(Debug)]
pub struct SeatRequest {
    pub(crate) core: CoreId,
    pub(crate) conn: ConnId,
    /// Generation of the reservation.
    pub(crate) seq: u32,
    pub(crate) user: Box<str>,
    /// Set for a connection that replaces the others of its user (`alone`).
    pub(crate) replacing: Option<ClientId>,
}

/// What the home core says to that.
#[derive(Debug)]
pub struct SeatAnswer {
    pub(crate) conn: ConnId,
    pub(crate) seq: u32,
    pub(crate) user: Box<str>,
    pub(crate) is_granted: bool,
}

/// Taken seats of the users whose home is this core.
#[derive(Debug)]
pub(crate) struct Seats {
    taken: HashMap<Box<str>, usize, FixedState>,
    next_log_ms: u64,
}

impl Seats {
    pub(crate) fn new(seed: u64) -> Self {
        Self { taken: HashMap::with_hasher(FixedState::with_seed(seed)), next_log_ms: 0 }
    }

    fn take(&mut self, user: &str, limit: usize) -> bool {
        match self.taken.get_mut(user) {
            Some(taken) if *taken >= limit => false,
            Some(taken) => {
                *taken += 1;
                true
            }
            None if limit == 0 => false,
            None => {
                self.taken.insert(user.into(), 1);
                true
            }
        }
    }

    fn free(&mut self, user: &str) {
        if let Some(taken) = self.taken.get_mut(user) {
            *taken -= 1;
            if *taken == 0 {
                self.taken.remove(user);
            }
        }
    }
}

impl Engine {
    /// Lets a connection in when its user has a seat for it.
    pub(crate) fn ask_for_seat(&mut self, conn: ConnId, mut entering: Entering, out: &mut dyn Outlet) {
        let user = &*entering.token.user;
        let has_limit = entering.is_replacing || self.rules.client.user_connection_limit != usize::MAX;
        if !has_limit || user.is_empty() {
            return self.enter(conn, entering, out);
        }
        let Some(session) = self.sessions.of(conn) else { return };
        let replacing = entering.is_replacing.then_some(session.client);
        let home = home_of(user, self.cores);
        if home == self.core {
            entering.has_seat = self.seat_for(user, replacing, out);
            return self.enter_seated(conn, entering, out);
        }
        let user = user.into();
        let seq = self.next_seq(conn);
        let request = SeatRequest { core: self.core, conn, seq, user, replacing };
        out.send(home, Message::TakeSeat(Box::new(request)));
        self.park(conn, seq, Work::Enter(Box::new(entering)));
    }

    /// On the home core of the user.
    pub(crate) fn take_seat(&mut self, request: SeatRequest, out: &mut dyn Outlet) {
        let SeatRequest { core, conn, seq, user, replacing } = request;
        let is_granted = self.seat_for(&user, replacing, out);
        out.send(core, Message::Seat(Box::new(SeatAnswer { conn, seq, user, is_granted })));
    }

    /// The limit is that of now: a reload may have changed or removed it. Who replaces others does not wait until their seats
    /// have come back: refused, it would be gone, and they too.
    fn seat_for(&mut self, user: &str, replacing: Option<ClientId>, out: &mut dyn Outlet) -> bool {
        let limit = match replacing {
            None => self.rules.client.user_connection_limit,
            Some(client) => {
                self.send_others_away(user, client, out);
                usize::MAX
            }
        };
        self.seats.take(user, limit)
    }

    /// Back on the core of the connection.
    pub(crate) fn seat_answered(&mut self, answer: SeatAnswer, out: &mut dyn Outlet) {
        let SeatAnswer { conn, seq, user, is_granted } = answer;
        let session = self.sessions.of_mut(conn);
        let Some(mut parked) = session.and_then(|s| s.pending.take_if(|pending| pending.seq == seq)) else {
            if is_granted {
                self.give_seat_back(&user, out);
            }
            return;
        };
        let Work::Enter(entering) = &mut parked.work else { return };
        let entering = Entering { has_seat: is_granted, ..std::mem::take(&mut **entering) };
        self.enter_seated(conn, entering, out);
        self.resume(conn, *parked, out);
    }

    fn enter_seated(&mut self, conn: ConnId, entering: Entering, out: &mut dyn Outlet) {
        if entering.has_seat {
            return self.enter(conn, entering, out);
        }
        // One user with a wrong client could fill the disk.
        if self.now.mono_ms >= self.seats.next_log_ms {
            self.seats.next_log_ms = self.now.after(SEAT_LOG_MS);
            let (user, limit) = (&*entering.token.user, self.rules.client.user_connection_limit);
            tracing::warn!(user, limit, "connection refused: the user has client.user_connection_limit connections");
        }
        self.disconnect(conn, &Disconnect::CONNECTION_LIMIT, out);
    }

    /// The connection that had a seat is gone.
    pub(crate) fn give_seat_back(&mut self, user: &str, out: &mut dyn Outlet) {
        let home = home_of(user, self.cores);
        match home == self.core {
            true => self.seats.free(user),
            false => out.send(home, Message::GiveSeatBack(user.into())),
        }
    }

    pub(crate) fn free_seat(&mut self, user: &str) {
        self.seats.free(user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seat too few locks a user out for good, one too many is a limit that is none.
    #[test]
    fn seats_are_taken_up_to_the_limit_and_come_back() {
        let mut seats = Seats::new(1);
        assert!(seats.take("42", 2) && seats.take("42", 2) && !seats.take("42", 2));
        assert!(seats.take("43", 2));
        seats.free("42");
        assert!(seats.take("42", 2) && !seats.take("42", 2));
        // A reload has lowered the limit.
        seats.free("42");
        assert!(!seats.take("42", 1));
        for user in ["42", "43", "nobody"] {
            seats.free(user);
        }
        assert!(seats.taken.is_empty());
    }
}
