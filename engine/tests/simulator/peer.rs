//! Clients and their connections as the checker sees them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use gyre_proto::Encoding;
use gyre_proto::ids::ConnId;

use crate::backend::Verdict;
use crate::given::Gift;
use crate::model::{Entry, Item, Pos, Start, What};
use crate::wire::{Say, Seen, Wishes};

/// Core, index, generation.
pub(crate) type Key = (usize, u32, u32);

/// A client application: it outlives its connections and remembers what it has seen.
pub(crate) struct Agent {
    pub(crate) user: String,
    pub(crate) encoding: Encoding,
    pub(crate) seen: BTreeMap<usize, Seen>,
    pub(crate) key: Option<Key>,
}

/// A command that was sent and not yet answered.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) id: u32,
    pub(crate) say: Say,
    /// The server API took the channel away while the subscribe was on its way.
    pub(crate) is_revoked: bool,
}

/// A channel that a connection holds.
#[derive(Clone, Debug)]
pub(crate) struct Sub {
    /// Next entry of the channel's log.
    pub(crate) cursor: usize,
    pub(crate) lenient_until: usize,
    /// Set when positioned.
    pub(crate) pos: Option<Pos>,
    pub(crate) pushes_join_leave: bool,
    pub(crate) is_server_side: bool,
    /// Publications that are told before those of the log.
    pub(crate) missed: VecDeque<Item>,
    /// Taken away by the server API; the push must follow.
    pub(crate) must_end: bool,
    /// The backend is being asked whether it goes on, in the call of this number.
    pub(crate) asked: Option<u32>,
    /// It does not.
    pub(crate) must_expire: bool,
    /// It is due what it cannot be given; the end must follow before anything else.
    pub(crate) is_stuck: bool,
}

impl Sub {
    /// Whether this subscriber may go without the entry.
    pub(crate) fn may_skip(&self, at: usize, entry: &Entry) -> bool {
        !matches!(entry.what, What::Pub { .. }) && (!self.pushes_join_leave || at < self.lenient_until)
    }

    /// Whether the entry ends the subscription.
    pub(crate) fn cannot_be_served(&self, encoding: Encoding, entry: &Entry) -> bool {
        let What::Pub { pos, is_json, .. } = &entry.what else { return false };
        let is_lost = matches!((self.pos, pos), (Some(held), Some(pos)) if held.epoch != pos.epoch);
        is_lost || (encoding == Encoding::Json && !is_json)
    }
}

/// A server-side subscription that a connect brings about.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) channel: usize,
    pub(crate) recover: Option<Seen>,
    /// Taken away by the server API before the connect was answered.
    pub(crate) is_revoked: bool,
}

pub(crate) struct Conn {
    pub(crate) core: usize,
    pub(crate) id: ConnId,
    pub(crate) uuid: String,
    pub(crate) agent: usize,
    pub(crate) user: String,
    pub(crate) encoding: Encoding,
    pub(crate) opened_ms: u64,
    pub(crate) next_id: u32,
    pub(crate) asked: VecDeque<Asked>,
    pub(crate) plan: Vec<Planned>,
    pub(crate) has_said_connect: bool,
    /// Its user is known to the server.
    pub(crate) is_admitted: bool,
    pub(crate) is_connected: bool,
    /// The connect was answered with an error.
    pub(crate) is_refused: bool,
    /// What the backend has said of the first command, and was not told yet.
    pub(crate) told: Option<Verdict>,
    /// The backend does not prolong it.
    pub(crate) must_expire: bool,
    pub(crate) has_misbehaved: bool,
    /// Never answers pings.
    pub(crate) is_lazy: bool,
    pub(crate) pinged_ms: Option<u64>,
    pub(crate) owes_pong: bool,
    /// What home cores have decided for subscriptions not yet answered.
    pub(crate) starts: BTreeMap<usize, Start>,
    /// Likewise for a read; `Some(None)` = error 112.
    pub(crate) page: Option<Option<(Pos, Vec<Item>)>>,
    /// Channels held, as far as the log of this call is written.
    pub(crate) joined: BTreeSet<usize>,
    pub(crate) subs: BTreeMap<usize, Sub>,
    /// Channels that the server API gives it, in order.
    pub(crate) gifts: VecDeque<Gift>,
}

impl Conn {
    pub(crate) fn key(&self) -> Key {
        (self.core, self.id.index, self.id.generation)
    }

    /// The command that the connection is waiting for.
    pub(crate) fn front(&self) -> Option<&Say> {
        self.asked.front().map(|asked| &asked.say)
    }

    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.front(), Some(Say::Connect { .. }))
    }
}

/// What a subscription gets.
pub(crate) struct Grants {
    pub(crate) positioned: bool,
    pub(crate) recoverable: bool,
    pub(crate) join_leave: bool,
}

pub(crate) fn grants(options: &gyre_engine::rules::ChannelOptions, wishes: Wishes) -> Grants {
    // Where a backend decides, wishes count for nothing.
    let wishes = if options.proxies.subscribe.is_some() { Wishes::default() } else { wishes };
    let recoverable = options.force_recovery || wishes.recoverable;
    Grants {
        positioned: recoverable || options.force_positioning || wishes.positioned,
        recoverable,
        join_leave: options.force_push_join_leave || (wishes.join_leave && options.join_leave),
    }
}
