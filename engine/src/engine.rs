//! The engine of one core: its sessions, its subscribers, and the channels whose home it is.
//!
//! Entry points: a connection opens, sends a frame, is timed out, goes away; a message arrives from another core; the
//! server API asks. Each works to the end without waiting: what another core must do first is sent off, the command is
//! parked under a generation number, and the reply message takes it up again.

use std::collections::VecDeque;
use std::sync::Arc;

use gyre_proto::Encoding;
use gyre_proto::client::{self, Command};
use gyre_proto::codes::Disconnect;
use gyre_proto::ids::{ConnId, CoreId};
use std::hash::BuildHasher;
use std::ops::ControlFlow;

use crate::acts::Acts;
use crate::asking::Context;
use crate::calls::Homes;
use crate::counters::Counters;
use crate::home::Home;
use crate::hub::{ChannelId, Hub};
use crate::limits::{CORES_MAX, PENDING_COMMANDS_BYTES_MAX};
use crate::message::{Caller, HomeCall, HomeReply, HomeRequest, HomeResponse, Message};
use crate::now::Now;
use crate::outlet::Outlet;
use crate::remote::Remote;
use crate::rules::Rules;
use crate::seats::Seats;
use crate::session::{ClientId, Handshake, Heartbeat, Pending, Phase, Session, Work};
use crate::sessions::Sessions;
use crate::users::Users;

/// See the module.
#[derive(Debug)]
pub struct Engine {
    pub(crate) core: CoreId,
    pub(crate) cores: u16,
    pub(crate) rules: Arc<Rules>,
    /// Shown to clients in the connect reply.
    pub(crate) version: Arc<str>,
    pub(crate) now: Now,
    pub(crate) rng: fastrand::Rng,
    pub(crate) sessions: Sessions,
    pub(crate) hub: Hub,
    pub(crate) home: Homes,
    /// Channels with a fan-out in progress.
    pub(crate) fan_outs: VecDeque<ChannelId>,
    /// Whose home is this core.
    pub(crate) users: Users,
    pub(crate) seats: Seats,
    pub(crate) acts: Acts,
    pub(crate) counters: Counters,
    pub(crate) is_shutting_down: bool,
    /// Connections that a shutdown has still to close.
    pub(crate) to_shut_down: Vec<ConnId>,
}

/// What an engine needs to know from the start.
#[derive(Debug)]
pub struct EngineOptions {
    /// Which core this is.
    pub core: CoreId,
    /// Number of cores of the node, at most [`CORES_MAX`].
    pub cores: u16,
    /// What the operator allows.
    pub rules: Arc<Rules>,
    /// As clients see it.
    pub version: Arc<str>,
    /// Channels are kept in a store outside of the process ([`Outlet::store`]), not in memory.
    pub is_stored: bool,
    /// Feeds epochs, ping jitter and hash tables; different on every core and start.
    pub seed: u64,
}

/// Whether this is an answer to a ping, whatever else is inside (client-protocol.md 5).
pub(crate) fn is_pong(command: &Command) -> bool {
    command.id == 0 && command.send.is_none()
}

/// The home core of a name, the same on every core.
pub(crate) fn home_of(name: &str, cores: u16) -> CoreId {
    // Fixed: all cores of a node must agree, and nothing outside a node depends on it.
    let hash = foldhash::quality::FixedState::with_seed(0x6779_7265).hash_one(name);
    CoreId(((u128::from(hash) * u128::from(cores)) >> 64) as u16)
}

impl Engine {
    /// An engine without sessions.
    ///
    /// # Panics
    /// With more cores than [`CORES_MAX`], which the configuration refuses.
    pub fn new(options: EngineOptions) -> Self {
        assert!(usize::from(options.cores) <= CORES_MAX, "too many cores");
        let hasher = foldhash::fast::FixedState::with_seed(options.seed);
        Self {
            core: options.core,
            cores: options.cores,
            version: options.version,
            now: Now::default(),
            rng: fastrand::Rng::with_seed(options.seed),
            sessions: Sessions::new(options.seed),
            hub: Hub::new(options.seed),
            home: match options.is_stored {
                true => Homes::Store(Box::new(Remote::new(options.seed, Arc::clone(&options.rules)))),
                false => Homes::Memory(Box::new(Home::new(options.seed))),
            },
            rules: options.rules,
            fan_outs: VecDeque::new(),
            users: Users::new(hasher),
            seats: Seats::new(options.seed),
            acts: Acts::default(),
            counters: Counters::default(),
            is_shutting_down: false,
            to_shut_down: Vec::new(),
        }
    }

    /// Tells the time; called at least once per turn, before anything else.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    /// Drops what has expired and continues fan-outs; called every turn. `true` = there is more to do at once.
    pub fn turn(&mut self, out: &mut dyn Outlet) -> bool {
        self.sweep_homes(out);
        let is_closing = self.continue_shutdown(out);
        self.answer_acts(out);
        let is_renewing = self.renew_users(out);
        self.continue_fan_outs(out) || is_closing || is_renewing
    }

    /// Frees what is kept for the next session or channel. To be called after a peak: an allocator cannot give back the
    /// pages around one live block.
    pub fn give_back_memory(&mut self) {
        self.sessions.give_back_memory();
        self.hub.give_back_memory();
        self.home.give_back_memory();
        self.users.give_back_memory();
    }

    /// Running totals since start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The rules in force.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// A connection is ready for its first command.
    pub fn open(
        &mut self,
        conn: ConnId,
        encoding: Encoding,
        client: ClientId,
        handshake: Handshake,
        out: &mut dyn Outlet,
    ) {
        if self.is_shutting_down {
            out.close(conn, &Disconnect::SHUTDOWN);
            return;
        }
        // The end of the connection that had this index before may still be on its way here.
        if let Some(before) = self.sessions.at(conn.index) {
            self.closed(before, out);
        }
        let deadline_ms = self.now.after(self.rules.client.stale_close_delay_ms);
        self.sessions.insert(Session {
            conn,
            encoding,
            phase: Phase::Connecting,
            heartbeat: Heartbeat::Deadline,
            is_listed: false,
            has_seat: false,
            seq: 0,
            client,
            user: "".into(),
            info: Box::default(),
            subscriptions: smallvec::SmallVec::new(),
            pending: None,
            context: Context::of(handshake),
            heartbeat_at_ms: deadline_ms,
            tick_at_ms: u64::MAX,
            expire_at_ms: u64::MAX,
            next_of_user: u32::MAX,
            previous_of_user: u32::MAX,
        });
        out.set_timer(conn, deadline_ms);
    }

    /// A frame of commands arrived.
    pub fn receive(&mut self, conn: ConnId, frame: &[u8], out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        if session.phase == Phase::Refused {
            return;
        }
        // The first command is charged with the whole frame.
        let mut bytes = frame.len();
        let decoded = client::decode_commands(session.encoding, frame, |command| {
            self.accept(conn, command, std::mem::take(&mut bytes), out);
            match self.sessions.of(conn) {
                Some(session) if session.phase != Phase::Refused => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        });
        if let Err(error) = decoded
            && let Some(session) = self.sessions.of(conn)
        {
            tracing::info!(client = %session.client, user = &*session.user, %error, "undecodable frame");
            self.disconnect(conn, &Disconnect::BAD_REQUEST, out);
        }
    }

    /// Runs a command, or puts it behind the one that waits. Publications to the same core need not wait for each other.
    fn accept(&mut self, conn: ConnId, command: Command, bytes: usize, out: &mut dyn Outlet) {
        let cores = self.cores;
        let Some(session) = self.sessions.of_mut(conn) else { return };
        // A pong is no command: it is late if it waits for one.
        if let Some(pending) = &mut session.pending
            && !is_pong(&command)
            && !pending.is_joined_by(&command, cores, &self.rules)
        {
            let charge = bytes + size_of::<Command>();
            pending.queue_bytes += charge;
            pending.queue.push_back((command, charge));
            if pending.queue_bytes > PENDING_COMMANDS_BYTES_MAX {
                let limit = PENDING_COMMANDS_BYTES_MAX;
                tracing::info!(client = %session.client, user = &*session.user, limit, "too many commands wait");
                self.disconnect(conn, &Disconnect::TOO_MANY_REQUESTS, out);
            }
            return;
        }
        self.run_bounded(conn, command, out);
    }

    /// Runs a command unless the replies to earlier ones are too many already: one frame may ask for gigabytes.
    fn run_bounded(&mut self, conn: ConnId, command: Command, out: &mut dyn Outlet) {
        if out.unsent(conn) > self.rules.client.queue_max_size {
            return self.disconnect(conn, &Disconnect::SLOW, out);
        }
        self.run(conn, command, out);
    }

    /// Parks the current command of a session under a new generation.
    pub(crate) fn park(&mut self, conn: ConnId, seq: u32, work: Work) {
        if let Some(session) = self.sessions.of_mut(conn) {
            session.pending =
                Some(Box::new(Pending { seq, work, queue: VecDeque::new(), queue_bytes: 0, acts: Vec::new() }));
        }
    }

    /// The generation for a command that may have to wait.
    pub(crate) fn next_seq(&mut self, conn: ConnId) -> u32 {
        self.sessions.of_mut(conn).map_or(0, |session| {
            session.seq = session.seq.wrapping_add(1);
            session.seq
        })
    }

    /// Runs what came in while a command was parked, acts of the server API first.
    pub(crate) fn resume(&mut self, conn: ConnId, mut parked: Pending, out: &mut dyn Outlet) {
        if let Some(pending) = self.sessions.of_mut(conn).and_then(|session| session.pending.as_mut()) {
            // The command waits on, for somebody else.
            pending.acts = parked.acts;
            (pending.queue, pending.queue_bytes) = (parked.queue, parked.queue_bytes);
            return;
        }
        let mut acts = std::mem::take(&mut parked.acts).into_iter();
        while let Some((act, number)) = acts.next() {
            self.catch_up(conn, &act, number, out);
            if let Some(pending) = self.sessions.of_mut(conn).and_then(|session| session.pending.as_mut()) {
                // The act itself waits now, and the rest waits on.
                pending.acts = acts.collect();
                (pending.queue, pending.queue_bytes) = (parked.queue, parked.queue_bytes);
                return;
            }
        }
        let cores = self.cores;
        while let Some((command, charge)) = parked.queue.pop_front() {
            parked.queue_bytes -= charge;
            let Some(session) = self.sessions.of_mut(conn) else { return };
            if session.phase == Phase::Refused {
                return;
            }
            if let Some(pending) = &mut session.pending
                && !pending.is_joined_by(&command, cores, &self.rules)
            {
                // The rest waits on, as it is: a command that parks costs no look at those behind it.
                parked.queue.push_front((command, charge));
                pending.queue_bytes = parked.queue_bytes + charge;
                pending.queue = parked.queue;
                return;
            }
            self.run_bounded(conn, command, out);
        }
    }

    /// A message from another core.
    pub fn message(&mut self, message: Message, out: &mut dyn Outlet) {
        match message {
            Message::Call(request) => {
                let HomeRequest { caller, channel, call } = *request;
                let is_refused = matches!(call, HomeCall::Publish(_)) && out.is_congested();
                let reply = match is_refused {
                    true => Some(HomeReply::Congested),
                    false => self.home_call(caller, &channel, call, out),
                };
                if let Some(reply) = reply {
                    let core = match caller {
                        Caller::None => return,
                        Caller::Session { core, .. } | Caller::Api { core, .. } => core,
                    };
                    out.send(core, Message::Reply(Box::new(HomeResponse { caller, channel, reply })));
                }
            }
            Message::Reply(response) => self.replied(*response, out),
            Message::Deliver(delivery) => self.deliver(delivery, out),
            Message::Act(act) => self.act(&act, None, out),
            Message::Survey(survey) => self.survey(*survey, out),
            Message::Surveyed(call, reply) => out.surveyed(call, *reply),
            Message::User(user, came) => self.count_user(&user, came, out),
            Message::TakeSeat(request) => self.take_seat(*request, out),
            Message::Seat(answer) => self.seat_answered(*answer, out),
            Message::GiveSeatBack(user) => self.free_seat(&user),
            Message::Rules(rules) => {
                self.home.follow(&rules);
                self.rules = rules;
            }
        }
    }

    /// Sessions of this core, connected or not.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    pub(crate) fn client_of(&self, conn: ConnId) -> String {
        self.sessions.of(conn).map_or_else(String::new, |session| session.client.to_string())
    }

    /// Tells the home core of a user that the first connection on this core came, or the last one went.
    pub(crate) fn tell_user(&mut self, user: &str, came: bool, out: &mut dyn Outlet) {
        let home = home_of(user, self.cores);
        match home == self.core {
            true => self.count_user(user, came, out),
            false => out.send(home, Message::User(user.into(), came)),
        }
    }

    fn count_user(&mut self, user: &str, came: bool, out: &mut dyn Outlet) {
        if !came {
            self.users.went(user);
        } else if self.users.came(user) {
            self.user_came(user, out);
        }
    }
}
