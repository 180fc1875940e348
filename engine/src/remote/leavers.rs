//! Members that have left while the store was away: their presence entries are taken out as soon as it works again, spread.
//! Otherwise others would see them, and their channels count as occupied, until the entries run out.
//!
//! On the channel's home core, which alone of all talks about its members to the store: whoever is not in its roster now is
//! not there. That an entry is taken out twice has no effect, so what may have had its effect is repeated as well.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use super::roster::Roster;
use super::{Asked, Remote, Resolutions};
use crate::limits::{LEAVERS_MAX, LEAVERS_SLICE};
use crate::outlet::Outlet;
use crate::session::ClientId;
use crate::store::{StoreCall, StoreReply};

/// A member that has left.
#[derive(Debug)]
pub(super) struct Leaver {
    pub(super) channel: Box<str>,
    pub(super) client: ClientId,
    pub(super) user: Box<str>,
}

/// Those whose entries may still be there. Empty but for outages.
#[derive(Debug)]
pub(super) struct Leavers {
    /// First the one that was tried the longest time ago.
    waiting: VecDeque<Box<Leaver>>,
    /// Digests of them: one that comes and goes throughout an outage waits once.
    known: HashSet<u64, FixedState>,
    hasher: FixedState,
    /// There were more than are kept, and the log says so.
    is_over: bool,
}

impl Leavers {
    pub(super) fn new(hasher: &FixedState) -> Self {
        let known = HashSet::with_hasher(hasher.clone());
        Self { waiting: VecDeque::new(), known, hasher: hasher.clone(), is_over: false }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn add(&mut self, leaver: Box<Leaver>) {
        if !self.known.insert(self.digest(&leaver)) {
            return;
        }
        self.waiting.push_back(leaver);
        if self.waiting.len() <= LEAVERS_MAX {
            return;
        }
        // Its entry is about the next that runs out by itself.
        self.take_first();
        if !self.is_over {
            self.is_over = true;
            tracing::warn!(
                max = LEAVERS_MAX,
                "redis cannot be told who leaves, and more do than are remembered; the others stay in presence until presence_ttl"
            );
        }
    }

    fn take_first(&mut self) -> Option<Box<Leaver>> {
        let first = self.waiting.pop_front()?;
        self.known.remove(&self.digest(&first));
        if self.waiting.is_empty() {
            *self = Self::new(&self.hasher);
        }
        Some(first)
    }

    fn digest(&self, leaver: &Leaver) -> u64 {
        self.hasher.hash_one((&leaver.channel, leaver.client))
    }
}

impl Remote {
    /// Takes out the entry of a member that has left.
    pub(super) fn take_out(&mut self, leaver: Box<Leaver>, out: &mut dyn Outlet) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let call = StoreCall::Exit(leaver.client, &leaver.user, self.layout(&leaver.channel));
        match out.store(ticket, &leaver.channel, call) {
            true => _ = self.asked.insert(ticket, Asked::Exit(leaver)),
            false => self.leavers.add(leaver),
        }
    }

    pub(super) fn exit_answered(&mut self, leaver: Box<Leaver>, reply: &StoreReply) {
        if !matches!(reply, StoreReply::Done) {
            self.leavers.add(leaver);
        }
    }

    /// Some of those that wait; to be called once a second. Calls about one channel keep their order, so an entry that is
    /// taken out is none of somebody who comes after.
    pub(super) fn take_out_some(&mut self, out: &mut dyn Outlet) {
        for _ in 0..self.leavers.len().min(LEAVERS_SLICE) {
            let Some(leaver) = self.leavers.take_first() else { return };
            let id = self.channels.find(&leaver.channel);
            let members = id.and_then(|id| self.channels[id].members.as_deref());
            match id.zip(members.and_then(|members| Roster::find(members, leaver.client))) {
                None => self.take_out(leaver, out),
                // Is back. What failed may reach the store only now, from a connection that was given up, and take out the
                // entry that is meant to be there.
                Some((id, info)) => {
                    let call = StoreCall::Enter(leaver.client, &info, self.layout(&leaver.channel));
                    self.ask(&leaver.channel, Asked::Renewal(id), call, out, &mut Resolutions::new());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaver(number: usize) -> Box<Leaver> {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(number as u64 / 2).to_be_bytes());
        Box::new(Leaver { channel: format!("c{}", number % 2).into(), client: ClientId(bytes), user: "u".into() })
    }

    /// An outage in which clients come and go all the time would fill the memory of the node; and it must have it back.
    #[test]
    fn bounded_each_once_and_the_latest() {
        let mut leavers = Leavers::new(&FixedState::with_seed(1));
        for number in 0..LEAVERS_MAX + 10 {
            leavers.add(leaver(number));
            leavers.add(leaver(number));
            leavers.add(leaver(number.saturating_sub(5)));
            assert_eq!(leavers.len(), (number + 1).min(LEAVERS_MAX));
        }
        assert!(leavers.is_over);
        for number in 10..LEAVERS_MAX + 10 {
            let (first, expected) = (leavers.take_first().expect("waits"), leaver(number));
            assert_eq!((first.client, &first.channel), (expected.client, &expected.channel));
        }
        assert!(leavers.take_first().is_none() && !leavers.is_over);
        assert_eq!((leavers.waiting.capacity(), leavers.known.capacity()), (0, 0));
    }
}
