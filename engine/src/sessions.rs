//! The sessions of this core: by connection, and by user for the server API.
//!
//! Sessions of one user form a list through the sessions themselves; the table of users only knows the first one.

use foldhash::fast::FixedState;
use gyre_proto::ids::ConnId;
use hashbrown::HashTable;
use std::hash::BuildHasher;

use crate::by_name::shrink_if_sparse;
use crate::chunks::Chunks;
use crate::session::Session;

const NOBODY: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Sessions {
    /// By index of the connection.
    slots: Chunks<Session>,
    first_of_user: HashTable<u32>,
    hasher: FixedState,
}

impl Sessions {
    pub(crate) fn new(seed: u64) -> Self {
        Self { slots: Chunks::new(), first_of_user: HashTable::new(), hasher: FixedState::with_seed(seed) }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// After a peak: see [`crate::Engine::give_back_memory`].
    pub(crate) fn give_back_memory(&mut self) {
        self.slots.forget_spare();
    }

    pub(crate) fn insert(&mut self, session: Session) {
        self.slots.put(session.conn.index, session);
    }

    pub(crate) fn of(&self, conn: ConnId) -> Option<&Session> {
        self.slots.get(conn.index).filter(|s| s.conn == conn)
    }

    pub(crate) fn of_mut(&mut self, conn: ConnId) -> Option<&mut Session> {
        self.slots.get_mut(conn.index).filter(|s| s.conn == conn)
    }

    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<Session> {
        self.of(conn)?;
        self.slots.remove(conn.index)
    }

    /// The connection of the session at an index.
    pub(crate) fn at(&self, index: u32) -> Option<ConnId> {
        self.slots.get(index).map(|session| session.conn)
    }

    /// Every session's connection.
    pub(crate) fn conns(&self) -> Vec<ConnId> {
        self.slots.iter().map(|s| s.conn).collect()
    }

    /// Puts a session into the list of its user. `true` = it is the first one there.
    pub(crate) fn list(&mut self, conn: ConnId) -> bool {
        let (slots, hasher) = (&mut self.slots, &self.hasher);
        let Some(session) = slots.get(conn.index) else { return false };
        let hash = hasher.hash_one(&*session.user);
        let same_user = |index: &u32| slots.get(*index).is_some_and(|other| other.user == session.user);
        let first = match self.first_of_user.find_mut(hash, same_user) {
            Some(first) => std::mem::replace(first, conn.index),
            None => {
                let rehash = |index: &u32| slots.get(*index).map_or(0, |s| hasher.hash_one(&*s.user));
                self.first_of_user.insert_unique(hash, conn.index, rehash);
                NOBODY
            }
        };
        if let Some(next) = self.slots.get_mut(first) {
            next.previous_of_user = conn.index;
        }
        if let Some(session) = self.slots.get_mut(conn.index) {
            (session.next_of_user, session.previous_of_user, session.is_listed) = (first, NOBODY, true);
        }
        first == NOBODY
    }

    /// Takes a session, already removed from the table, out of the list of its user. `true` = it was the last one.
    pub(crate) fn unlist(&mut self, session: &Session) -> bool {
        if !session.is_listed {
            return false;
        }
        let (next, previous) = (session.next_of_user, session.previous_of_user);
        if let Some(next) = self.slots.get_mut(next) {
            next.previous_of_user = previous;
        }
        if previous != NOBODY {
            if let Some(previous) = self.slots.get_mut(previous) {
                previous.next_of_user = next;
            }
            return false;
        }
        let hash = self.hasher.hash_one(&*session.user);
        if let Ok(mut entry) = self.first_of_user.find_entry(hash, |&index| index == session.conn.index) {
            if next != NOBODY {
                *entry.get_mut() = next;
                return false;
            }
            entry.remove();
        }
        let (slots, hasher) = (&self.slots, &self.hasher);
        let rehash = |index: &u32| slots.get(*index).map_or(0, |s| hasher.hash_one(&*s.user));
        shrink_if_sparse(&mut self.first_of_user, rehash);
        true
    }

    /// The connections of a user, newest first.
    pub(crate) fn of_user(&self, user: &str) -> Vec<ConnId> {
        let slots = &self.slots;
        let is_user = |index: &u32| slots.get(*index).is_some_and(|session| *session.user == *user);
        let first = self.first_of_user.find(self.hasher.hash_one(user), is_user).copied();
        let mut next = first.unwrap_or(NOBODY);
        let walk = std::iter::from_fn(|| {
            let session = slots.get(next)?;
            next = session.next_of_user;
            Some(session.conn)
        });
        walk.collect()
    }
}
