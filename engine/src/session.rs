//! One client's protocol state on this core, kept small: most sessions are idle, and there are very many of them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use gyre_proto::Encoding;
use gyre_proto::client::{ClientInfo, Command, ConnectRequest, PublishRequest, SubscribeRequest, SubscribeResult};
use gyre_proto::codes::Error;
use gyre_proto::ids::{ConnId, CoreId};
use smallvec::SmallVec;

use crate::acts::Act;
use crate::asking::Context;
use crate::backend::ClientHeaders;
use crate::delivery::Delivery;
use crate::engine::home_of;
use crate::hub::ChannelId;
use crate::limits::PUBLISHES_IN_FLIGHT_MAX;
use crate::rules::Rules;
use crate::subscription::{Plan, WhenEmpty};
use crate::token::ConnectionToken;

/// The id of a connection that clients see: a UUID, version 4.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub [u8; 16]);

impl ClientId {
    /// Makes a version 4 UUID of 16 random bytes.
    pub fn from_entropy(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }
}

impl ClientId {
    /// Reads the text form.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        let mut digits = text.iter().filter(|&&byte| byte != b'-').map(|&byte| (byte as char).to_digit(16));
        for byte in &mut bytes {
            *byte = (digits.next()?? * 16 + digits.next()??) as u8;
        }
        let id = Self(bytes);
        (digits.next().is_none() && id.to_string().as_bytes() == text).then_some(id)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 36];
        let mut at = 0;
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                at += 1;
            }
            text[at] = HEX[usize::from(byte >> 4)];
            text[at + 1] = HEX[usize::from(byte & 15)];
            at += 2;
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the request that a connection began with said of its client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// Headers that backends are told, if any.
    pub headers: Option<Arc<ClientHeaders>>,
    /// Who the client is when nobody else says so, by a header of a trusted proxy; `None` = it said nothing, never empty.
    pub user: Option<Box<str>>,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No credentials yet; ends in 3502 when it takes too long.
    Connecting,
    /// Credentials were accepted, server-side subscriptions are being set up.
    Joining,
    Connected,
    /// `connect` was answered with an error: input is ignored until the peer leaves.
    Refused,
}

/// What the heartbeat deadline of a session stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heartbeat {
    /// Close the connection: never authenticated, or lingering after a refusal.
    Deadline,
    /// Send a ping.
    Ping,
    /// The pong is overdue. The next ping is due at the remembered time.
    Pong,
    /// Pings are switched off.
    Off,
}

/// One channel of a session.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) channel: ChannelId,
    /// Place in the channel's subscriber list.
    pub(crate) index: u32,
    /// Only for subscriptions with something to remember.
    pub(crate) extra: Option<Box<SubscriptionExtra>>,
}

/// Rare properties of a subscription.
#[derive(Debug, Default)]
pub(crate) struct SubscriptionExtra {
    /// Channel info of presence entries and publications.
    pub(crate) info: Bytes,
    /// Unix seconds; 0 = never.
    pub(crate) expire_at_s: i64,
    /// Came with a connection token, which a refresh may withdraw.
    pub(crate) from_connection_token: bool,
}

/// A command that waits for home cores, and what came in behind it.
#[derive(Debug)]
pub(crate) struct Pending {
    /// Generation of the reservation; replies carry it back. Publications have one each.
    pub(crate) seq: u32,
    pub(crate) work: Work,
    /// Commands that arrived meanwhile, in order, each with the bytes it is charged with.
    pub(crate) queue: VecDeque<(Command, usize)>,
    /// Sum of these.
    pub(crate) queue_bytes: usize,
    /// Acts of the server API that wait for the work, each with its number, in order.
    pub(crate) acts: Vec<(Arc<Act>, u32)>,
}

impl Pending {
    /// Which of the results that are waited for a reply of this generation is. `None` = it is stale.
    pub(crate) fn awaits(&self, seq: u32) -> Option<usize> {
        match &self.work {
            // In order but for refusals, so nearly always the first one.
            Work::Publish { waiting, .. } => waiting.iter().position(|it| it.result.is_none() && it.seq == seq),
            _ => (self.seq == seq).then_some(0),
        }
    }

    /// Whether the command may run although this one waits: a publication behind others to the same core keeps its
    /// place by the order of the ring. One that a backend is asked about keeps none.
    pub(crate) fn is_joined_by(&self, command: &Command, cores: u16, rules: &Rules) -> bool {
        match (&self.work, &command.publish) {
            (Work::Publish { home, waiting }, Some(request)) => {
                self.queue.is_empty()
                    && self.acts.is_empty()
                    && waiting.len() < PUBLISHES_IN_FLIGHT_MAX
                    && command.id != 0
                    && home_of(&request.channel, cores) == *home
                    && rules.resolve(&request.channel).is_none_or(|it| it.options.proxies.publish.is_none())
            }
            _ => false,
        }
    }
}

/// A publication on its way.
#[derive(Debug)]
pub(crate) struct PublishInFlight {
    /// Of the command.
    pub(crate) id: u32,
    /// Generation that its reply carries back.
    pub(crate) seq: u32,
    /// Once there is one; told in its turn.
    pub(crate) result: Option<Result<(), Error>>,
}

/// What a pending command does when its facts are there.
#[derive(Debug)]
pub(crate) enum Work {
    /// Waits for the number of those who are in the personal channel of its user.
    CountOthers(Box<Entering>),
    /// Waits until the other nodes have been told to close the other connections of its user.
    SendOthersAway(Box<Entering>),
    /// Waits for the home core of its user.
    Enter(Box<Entering>),
    Connect(Box<Joining>),
    Subscribe {
        id: u32,
        plan: Box<Plan>,
    },
    /// The server API gives the session a channel; number of the act.
    ServerSide {
        act: u32,
        plan: Box<Plan>,
    },
    /// Publications on their way to one core, or further to a store, in order. Their results may come in any order: a
    /// refusal overtakes what is with the store.
    Publish {
        home: CoreId,
        waiting: VecDeque<PublishInFlight>,
    },
    History {
        id: u32,
    },
    Presence {
        id: u32,
    },
    PresenceStats {
        id: u32,
    },
    /// Waits for the store of user status.
    UserStatus {
        id: u32,
    },
    /// A backend is asked who this is.
    AskConnect {
        id: u32,
        request: Box<ConnectRequest>,
    },
    /// A backend is asked whether it may subscribe.
    AskSubscribe {
        id: u32,
        request: Box<SubscribeRequest>,
    },
    /// A backend is asked whether it may publish, and what.
    AskPublish {
        id: u32,
        request: PublishRequest,
    },
    /// A backend is asked on behalf of the client.
    AskRpc {
        id: u32,
    },
}

impl Work {
    /// It takes as long as a backend, which may be waiting itself for what it has asked of the server API.
    pub(crate) fn waits_for_backend(&self) -> bool {
        let is_asked = |plan: &Plan| matches!(plan.when_empty, WhenEmpty::Asked(_));
        match self {
            Self::AskSubscribe { .. } | Self::AskPublish { .. } | Self::AskRpc { .. } => true,
            Self::Subscribe { plan, .. } | Self::ServerSide { plan, .. } => is_asked(plan),
            Self::Connect(joining) => joining.waiting.iter().any(is_asked),
            _ => false,
        }
    }
}

/// A connect whose credentials and channels are in order.
#[derive(Debug, Default)]
pub(crate) struct Entering {
    pub(crate) id: u32,
    pub(crate) token: ConnectionToken,
    /// For the connect reply; empty = none.
    pub(crate) data: Bytes,
    /// Server-side subscriptions to set up.
    pub(crate) plans: Vec<Plan>,
    /// It takes the place of the other connections of its user.
    pub(crate) is_replacing: bool,
    pub(crate) has_seat: bool,
}

/// A connect whose server-side subscriptions are being set up.
#[derive(Debug, Default)]
pub(crate) struct Joining {
    pub(crate) id: u32,
    /// Seconds to expiry that the client is told; 0 = none.
    pub(crate) ttl_s: u32,
    /// For the client; empty = none.
    pub(crate) data: Bytes,
    /// Not yet answered by their home cores.
    pub(crate) waiting: Vec<Plan>,
    pub(crate) done: Vec<(Box<str>, SubscribeResult)>,
    /// Joins to tell after the reply.
    pub(crate) joins: Vec<(Box<str>, Arc<ClientInfo>)>,
    /// Arrived for channels already set up; delivered after the reply.
    pub(crate) held_back: Vec<Arc<Delivery>>,
    /// What they will be to the connection.
    pub(crate) held_back_bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) conn: ConnId,
    pub(crate) encoding: Encoding,
    pub(crate) phase: Phase,
    pub(crate) heartbeat: Heartbeat,
    /// The session is in the list of its user.
    pub(crate) is_listed: bool,
    /// It holds one of its user's seats (`seats`).
    pub(crate) has_seat: bool,
    /// Generation of the latest reservation.
    pub(crate) seq: u32,
    pub(crate) client: ClientId,
    pub(crate) user: Box<str>,
    /// Connection info of presence entries and publications; empty = none.
    pub(crate) info: Box<[u8]>,
    pub(crate) subscriptions: SmallVec<[Subscription; 1]>,
    pub(crate) pending: Option<Box<Pending>>,
    /// Only for sessions with something that backends are told, or asked by the clock.
    pub(crate) context: Option<Box<Context>>,
    /// Monotonic ms; see [`Heartbeat`].
    pub(crate) heartbeat_at_ms: u64,
    /// Monotonic ms at which positions and subscription expiry are looked at; `u64::MAX` = nothing to look at.
    pub(crate) tick_at_ms: u64,
    /// Monotonic ms at which the expired connection is closed, or a backend is asked to prolong it; `u64::MAX` = never, or
    /// it is being asked.
    pub(crate) expire_at_ms: u64,
    /// Neighbours in the list of the user's sessions.
    pub(crate) next_of_user: u32,
    pub(crate) previous_of_user: u32,
}

impl Session {
    /// The next time that something is due.
    pub(crate) fn next_deadline_ms(&self) -> u64 {
        self.heartbeat_at_ms.min(self.tick_at_ms).min(self.expire_at_ms)
    }

    /// Client info as presence, joins and publications show it.
    pub(crate) fn client_info(&self, channel_info: &Bytes) -> ClientInfo {
        ClientInfo {
            user: self.user.to_string(),
            client: self.client.to_string(),
            conn_info: Bytes::copy_from_slice(&self.info),
            chan_info: channel_info.clone(),
        }
    }

    pub(crate) fn subscription(&self, channel: ChannelId) -> Option<usize> {
        self.subscriptions.iter().position(|s| s.channel == channel)
    }
}
