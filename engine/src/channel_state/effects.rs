//! What the workers of channel state want done: plain values for the data plane, which knows the store and the way to the
//! backends.

use std::rc::Rc;

use crate::backend::{ProxyId, StateEvent};
use crate::limits::{STATE_BATCH_MAX, STATE_CHORES_MAX, STATE_LEASE_MS};
use crate::state_store::{EventId, StateCall, StateWhat};
use crate::store::Ticket;

/// Something to be done outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the store. [`Workers::answered`](super::Workers::answered) with the ticket follows, always, exactly once.
    Ask(Ask),
    /// Tell a backend. [`Workers::told`](super::Workers::told) with the number follows, always, exactly once.
    Notify {
        /// Of this delivery.
        number: u64,
        /// The backend.
        proxy: ProxyId,
        /// In order.
        events: Vec<StateEvent>,
    },
}

/// A call that outlives the turn in which it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Of this call.
    pub ticket: Ticket,
    /// What it is about.
    pub partition: u32,
    /// Of the lease.
    pub token: Rc<str>,
    /// What is wanted.
    pub what: AskWhat,
}

/// See [`StateWhat`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskWhat {
    /// See [`StateWhat::Take`].
    Take,
    /// See [`StateWhat::Release`].
    Release,
    /// See [`StateWhat::Step`].
    Step {
        /// How old the last tick may be.
        tick_age_max_ms: Option<u64>,
        /// Backends whose events are wanted.
        proxies: Vec<ProxyId>,
    },
    /// See [`StateWhat::Expire`].
    Expire(Box<str>),
    /// See [`StateWhat::Vacate`].
    Vacate(Box<str>),
    /// See [`StateWhat::Forget`].
    Forget {
        /// The backend.
        proxy: ProxyId,
        /// Of its events.
        ids: Vec<EventId>,
    },
}

impl Ask {
    /// As the store is asked. `proxy_of` says who is to be told that a channel is vacated.
    pub fn call(&self, proxy_of: impl FnOnce(&str) -> Option<ProxyId>) -> StateCall<'_> {
        let what = match &self.what {
            AskWhat::Take => StateWhat::Take { life_ms: STATE_LEASE_MS },
            AskWhat::Release => StateWhat::Release,
            AskWhat::Step { tick_age_max_ms, proxies } => StateWhat::Step {
                life_ms: STATE_LEASE_MS,
                tick_age_max_ms: *tick_age_max_ms,
                channels_max: STATE_CHORES_MAX as u32,
                events_max: STATE_BATCH_MAX as u32,
                proxies,
            },
            AskWhat::Expire(channel) => StateWhat::Expire(channel),
            AskWhat::Vacate(channel) => StateWhat::Vacate { channel, proxy: proxy_of(channel) },
            AskWhat::Forget { proxy, ids } => StateWhat::Forget { proxy: *proxy, ids },
        };
        StateCall { partition: self.partition, token: &self.token, what }
    }
}
