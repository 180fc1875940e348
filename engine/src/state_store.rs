//! What the worker of channel states asks the store about one partition, and what comes back. Each is one script of
//! `engine/lua/state_*.lua`, whose head is its contract.
//!
//! The worker (`channel_state/`) names what is wanted; the data plane turns it into a command and the reply into these
//! values; the simulator has a model. Nothing here waits.

use crate::backend::{ProxyId, StateEvent};

/// One question about a partition, on behalf of whoever holds its lease by `token`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateCall<'a> {
    /// Which one.
    pub partition: u32,
    /// The node's id and a number: no other taking of a lease has the same.
    pub token: &'a str,
    /// What is wanted.
    pub what: StateWhat<'a>,
}

/// See [`StateCall`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateWhat<'a> {
    /// The lease, for so long; or to keep it. Answered by [`StateReply::Lease`].
    Take {
        /// Above 0.
        life_ms: u64,
    },
    /// No lease any more. Answered by [`StateReply::Lease`].
    Release,
    /// What there is to do. Renews the lease. Answered by [`StateReply::Step`].
    Step {
        /// Of the lease.
        life_ms: u64,
        /// If the last tick is older, this is none, and it names no channels; `None` = of any age.
        tick_age_max_ms: Option<u64>,
        /// Of [`StateStep::expired`] and [`StateStep::due`], each.
        channels_max: u32,
        /// Of each backend; above 0.
        events_max: u32,
        /// Backends whose events are wanted.
        proxies: &'a [ProxyId],
    },
    /// A live channel may have lost its clients. Answered by [`StateReply::Expired`].
    Expire(&'a str),
    /// A pending channel's time has come. Answered by [`StateReply::Vacated`].
    Vacate {
        /// Full name.
        channel: &'a str,
        /// Whom to tell; `None` = nobody.
        proxy: Option<ProxyId>,
    },
    /// The backend has taken these. Answered by [`StateReply::Forgotten`].
    Forget {
        /// The backend.
        proxy: ProxyId,
        /// Of its events, at least one.
        ids: &'a [EventId],
    },
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateReply {
    /// Of [`StateWhat::Take`] and [`StateWhat::Release`].
    Lease {
        /// By the caller.
        is_held: bool,
        /// From now on, ms.
        left_ms: u64,
        /// Token of the holder; empty = free.
        token: Box<str>,
    },
    /// Of [`StateWhat::Step`].
    Step(Box<StateStep>),
    /// Of [`StateWhat::Expire`].
    Expired(Expired),
    /// Of [`StateWhat::Vacate`].
    Vacated(Vacated),
    /// How many of [`StateWhat::Forget`] there were.
    Forgotten(u32),
    /// The caller does not hold the lease. Nothing was changed.
    Lost,
    /// The store could not be asked, or did not answer as it should; the data plane has logged why. Whether the call had
    /// an effect is not known.
    Failed,
}

/// See [`StateWhat::Step`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateStep {
    /// The store's clock, unix ms.
    pub now_ms: u64,
    /// The tick before this one; `None` = there has been none.
    pub ticked_ms: Option<u64>,
    /// Live channels whose clients should all have expired, the earliest first.
    pub expired: Vec<Box<str>>,
    /// Pending channels whose time has come, the earliest first.
    pub due: Vec<Box<str>>,
    /// The oldest events, by backend as asked.
    pub events: Vec<(ProxyId, Vec<QueuedEvent>)>,
}

/// An event that waits for its backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedEvent {
    /// Its place in the queue.
    pub id: EventId,
    /// `None` = not of our making: to be forgotten.
    pub event: Option<StateEvent>,
}

/// See [`QueuedEvent::id`]: that of an entry of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub u64, pub u64);

/// See [`StateWhat::Expire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// Not live, or not yet.
    No,
    /// It has clients.
    Occupied,
    /// It has none: pending from now on.
    Pending,
}

/// See [`StateWhat::Vacate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vacated {
    /// Not pending, or not yet.
    No,
    /// It has clients: live again.
    Occupied,
    /// With an event.
    Told,
    /// Without, since the queue is full.
    Dropped,
    /// Without, since none was wanted.
    Silently,
}

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl EventId {
    /// Reads an id as the store writes it.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (ms, seq) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Self(ms.parse().ok()?, seq.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event that cannot be forgotten is told for ever.
    #[test]
    fn event_ids() {
        for text in ["1700000000123-0", "0-1", "18446744073709551615-18446744073709551615"] {
            assert_eq!(EventId::parse(text.as_bytes()).map(|id| id.to_string()).as_deref(), Some(text));
        }
        for text in ["", "-", "1", "1-", "-1", "a-1", "1-18446744073709551616", "1-2-3"] {
            assert_eq!(EventId::parse(text.as_bytes()), None, "{text}");
        }
    }
}
