//! Several engines in one thread, joined by rings that deliver when told to, with the clients' ends in plain vectors.

#![allow(dead_code, reason = "each test uses its own part of the world")]

pub(crate) mod by_hand;
pub(crate) mod kept;
pub(crate) mod store;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use gyre_engine::backend::{BackendAsker, BackendCall};
use gyre_engine::rules::Rules;
use gyre_engine::{
    Act, CallId, ClientId, Engine, EngineOptions, FrameId, Handshake, HomeCall, HomeReply, Message, Now, Outlet,
    StoreCall, SurveyReply, SurveyWhat, Ticket,
};
use gyre_proto::Encoding;
use gyre_proto::codes::Disconnect;
use gyre_proto::ids::{ConnId, CoreId};

use store::{Arrival, Call, Lane, Store};

/// Something that reached a client's end.
#[derive(Debug)]
pub(crate) enum Told {
    Message(Vec<u8>),
    Closed(Disconnect),
}

/// What one core's engine asked for.
#[derive(Default)]
pub(crate) struct Hands {
    palette: Vec<Vec<u8>>,
    /// Messages to each connection, and its end.
    pub(crate) said: BTreeMap<u32, Vec<Vec<u8>>>,
    pub(crate) closed: BTreeMap<u32, Disconnect>,
    /// Both of these in the order in which they happened, for who wants it.
    pub(crate) told: Vec<(ConnId, Told)>,
    pub(crate) timers: BTreeMap<u32, (ConnId, u64)>,
    pub(crate) is_congested: bool,
    sent: Vec<(CoreId, Message)>,
    pub(crate) answers: Vec<(CallId, HomeReply)>,
    pub(crate) surveyed: Vec<(CallId, SurveyReply)>,
    asked: Vec<(Ticket, String, Call)>,
    /// The store takes calls of this core.
    pub(crate) has_store: bool,
    /// The connection for messages is down.
    pub(crate) is_deaf: bool,
    /// Calls to backends that nobody has answered.
    pub(crate) backend_calls: Vec<(BackendAsker, BackendCall)>,
    /// Users who were renewed as online, with the time in unix s.
    pub(crate) online: Vec<(String, i64)>,
    /// Users who are active, until somebody says what came of it.
    pub(crate) active: Vec<(BackendAsker, String, i64)>,
    /// The store of user status cannot be reached.
    pub(crate) has_lost_status: bool,
    /// What the other nodes are to be told.
    pub(crate) for_nodes: Vec<(BackendAsker, Arc<Act>)>,
    /// They cannot be told.
    pub(crate) is_cut_off: bool,
}

impl Outlet for Hands {
    fn frame(&mut self, _encoding: Encoding, message: &[u8]) -> FrameId {
        self.palette.push(message.to_vec());
        FrameId(self.palette.len() as u32 - 1)
    }

    fn push(&mut self, conn: ConnId, frame: FrameId) {
        let message = &self.palette[frame.0 as usize];
        self.said.entry(conn.index).or_default().push(message.clone());
        self.told.push((conn, Told::Message(message.clone())));
    }

    fn unsent(&mut self, _conn: ConnId) -> usize {
        0
    }

    fn close(&mut self, conn: ConnId, why: &Disconnect) {
        self.closed.insert(conn.index, why.clone());
        self.told.push((conn, Told::Closed(why.clone())));
    }

    fn set_timer(&mut self, conn: ConnId, deadline_ms: u64) {
        self.timers.insert(conn.index, (conn, deadline_ms));
    }

    fn send(&mut self, to: CoreId, message: Message) {
        self.sent.push((to, message));
    }

    fn answer(&mut self, call: CallId, reply: HomeReply) {
        self.answers.push((call, reply));
    }

    fn surveyed(&mut self, call: CallId, reply: SurveyReply) {
        self.surveyed.push((call, reply));
    }

    fn store(&mut self, ticket: Ticket, channel: &str, call: StoreCall<'_>) -> bool {
        let is_taken = self.has_store && !(self.is_deaf && matches!(call, StoreCall::Hear | StoreCall::Unhear));
        if is_taken {
            self.asked.push((ticket, channel.to_owned(), Call::of(call)));
        }
        is_taken
    }

    fn backend(&mut self, asker: BackendAsker, call: Box<BackendCall>) {
        self.backend_calls.push((asker, *call));
    }

    fn tell_nodes(&mut self, asker: BackendAsker, act: Arc<Act>) -> bool {
        if self.has_store {
            self.for_nodes.push((asker, act));
        }
        self.has_store
    }

    fn user_online(&mut self, user: &str, now_s: i64) {
        self.online.push((user.to_owned(), now_s));
    }

    fn user_active(&mut self, asker: BackendAsker, user: &str, now_s: i64) -> bool {
        if !self.has_lost_status {
            self.active.push((asker, user.to_owned(), now_s));
        }
        !self.has_lost_status
    }

    fn is_congested(&self) -> bool {
        self.is_congested
    }
}

/// One core of the world.
pub(crate) struct Site {
    pub(crate) engine: Engine,
    pub(crate) hands: Hands,
}

/// See the module. Cores of several nodes, one node's after the other's; rings join those of one node.
pub(crate) struct World {
    pub(crate) sites: Vec<Site>,
    /// Of one node.
    pub(crate) cores: usize,
    pub(crate) store: Option<Store>,
    /// Index = from * cores + to. Each message with the beat in which it was sent.
    rings: Vec<VecDeque<(u64, Message)>>,
    /// By ring: the beat of the last message delivered.
    served: Vec<u64>,
    /// Counts the calls of engines.
    pub(crate) beat: u64,
    pub(crate) now: Now,
    next_conn: u32,
    next_call: CallId,
}

impl World {
    /// One node that keeps its channels in memory.
    pub(crate) fn new(cores: u16, rules: Rules, seed: u64) -> Self {
        Self::of(1, cores, rules, seed, false)
    }

    /// Nodes that keep their channels in one store.
    pub(crate) fn stored(nodes: u16, cores: u16, rules: Rules, seed: u64) -> Self {
        Self::of(nodes, cores, rules, seed, true)
    }

    fn of(nodes: u16, cores: u16, rules: Rules, seed: u64, is_stored: bool) -> Self {
        let rules = Arc::new(rules);
        let count = usize::from(nodes * cores);
        let site = |at: u16| Site {
            engine: Engine::new(EngineOptions {
                core: CoreId(at % cores),
                cores,
                rules: Arc::clone(&rules),
                version: "test".into(),
                is_stored,
                seed: seed ^ u64::from(at) << 32,
            }),
            hands: Hands { has_store: is_stored, ..Hands::default() },
        };
        Self {
            sites: (0..nodes * cores).map(site).collect(),
            cores: cores.into(),
            store: is_stored.then(|| Store::new(count)),
            rings: (0..count.pow(2)).map(|_| VecDeque::new()).collect(),
            served: vec![0; count.pow(2)],
            beat: 0,
            now: Now { mono_ms: 1_000_000, unix_ms: 1_700_000_000_000 },
            next_conn: 0,
            next_call: 0,
        }
    }

    /// Runs something on the engine of a core and puts what it sends into the rings.
    pub(crate) fn on<T>(&mut self, core: usize, act: impl FnOnce(&mut Engine, &mut Hands) -> T) -> T {
        let cores = self.sites.len();
        self.beat += 1;
        let site = &mut self.sites[core];
        // Frames are good for one turn; here a turn is one call.
        site.hands.palette.clear();
        site.engine.set_now(self.now);
        let result = act(&mut site.engine, &mut site.hands);
        let node = core - core % self.cores;
        for (to, message) in site.hands.sent.drain(..) {
            self.rings[core * cores + node + usize::from(to.0)].push_back((self.beat, message));
        }
        if let Some(store) = &mut self.store {
            store.now_ms = self.now.mono_ms;
            for (ticket, channel, call) in site.hands.asked.drain(..) {
                store.take(core, ticket, channel, call);
            }
        }
        result
    }

    pub(crate) fn open(&mut self, core: usize, encoding: Encoding) -> ConnId {
        self.open_with(core, encoding, Handshake::default())
    }

    pub(crate) fn open_with(&mut self, core: usize, encoding: Encoding, handshake: Handshake) -> ConnId {
        let conn = ConnId { index: self.next_conn, generation: 1 };
        self.next_conn += 1;
        let mut id = [0; 16];
        id[12..].copy_from_slice(&conn.index.to_be_bytes());
        self.on(core, |engine, hands| engine.open(conn, encoding, ClientId::from_entropy(id), handshake, hands));
        conn
    }

    pub(crate) fn call(&mut self, core: usize, channel: &str, call: HomeCall) -> (CallId, Option<HomeReply>) {
        self.next_call += 1;
        let number = self.next_call;
        (number, self.on(core, |engine, hands| engine.api_call(number, channel, call, hands)))
    }

    /// The server API does something with the sessions of the node that a core is of. Each core answers in
    /// [`Hands::surveyed`].
    pub(crate) fn api_act(&mut self, core: usize, act: Arc<Act>) -> CallId {
        self.next_call += 1;
        let number = self.next_call;
        self.on(core, |engine, hands| engine.api_survey(number, &SurveyWhat::Act(act), hands));
        number
    }

    /// Rings with something in them, as (from, to).
    pub(crate) fn busy_rings(&self) -> Vec<(usize, usize)> {
        let cores = self.sites.len();
        let busy = self.rings.iter().enumerate().filter(|(_, ring)| !ring.is_empty());
        busy.map(|(at, _)| (at / cores, at % cores)).collect()
    }

    /// Delivers the oldest message of one ring.
    pub(crate) fn step(&mut self, from: usize, to: usize) {
        let cores = self.sites.len();
        if let Some((beat, message)) = self.rings[from * cores + to].pop_front() {
            self.served[from * cores + to] = beat;
            self.on(to, |engine, hands| engine.message(message, hands));
        }
    }

    /// The message that [`Self::step`] would deliver.
    pub(crate) fn next_message(&self, from: usize, to: usize) -> Option<&Message> {
        self.rings[from * self.sites.len() + to].front().map(|(_, message)| message)
    }

    /// What core `from` sent before this beat has reached core `to`.
    pub(crate) fn served(&self, from: usize, to: usize) -> u64 {
        if from == to { self.beat } else { self.served[from * self.sites.len() + to] }
    }

    /// Moves the oldest thing on a lane between a core and the store.
    pub(crate) fn store_step(&mut self, core: usize, lane: Lane) {
        let Some(store) = &mut self.store else { return };
        store.now_ms = self.now.mono_ms;
        match store.step(core, lane) {
            Some(Arrival::Reply(ticket, reply)) => self.on(core, |engine, hands| engine.stored(ticket, reply, hands)),
            Some(Arrival::Message(channel, heard, _)) => {
                self.on(core, |engine, hands| engine.heard(&channel, heard, hands));
            }
            Some(Arrival::Anew(channel)) => self.on(core, |engine, hands| engine.heard_anew(&channel, hands)),
            None => {}
        }
    }

    /// Lanes with something on them, as (core, lane).
    pub(crate) fn busy_lanes(&self) -> Vec<(usize, Lane)> {
        self.store.as_ref().map_or(Vec::new(), Store::busy_lanes)
    }

    /// Turns every core and empties every ring and lane until nothing moves.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut is_busy = false;
            for core in 0..self.sites.len() {
                is_busy |= self.on(core, |engine, hands| engine.turn(hands));
            }
            let busy = self.busy_rings();
            for (from, to) in &busy {
                self.step(*from, *to);
            }
            let lanes = self.busy_lanes();
            for (core, lane) in &lanes {
                self.store_step(*core, *lane);
            }
            is_busy |= self.tell_nodes();
            if !is_busy && busy.is_empty() && lanes.is_empty() {
                return;
            }
        }
    }

    /// Hands what nodes have to tell each other over. True = there was something.
    pub(crate) fn tell_nodes(&mut self) -> bool {
        let mut is_busy = false;
        for teller in 0..self.sites.len() {
            for (asker, act) in std::mem::take(&mut self.sites[teller].hands.for_nodes) {
                is_busy = true;
                let is_told = !self.sites[teller].hands.is_cut_off;
                let others = (0..self.sites.len()).filter(|core| core / self.cores != teller / self.cores && is_told);
                for core in others.collect::<Vec<_>>() {
                    let act = Message::Act(Arc::clone(&act));
                    self.on(core, |engine, hands| engine.message(act, hands));
                }
                self.on(teller, |engine, hands| engine.nodes_told(asker, is_told, hands));
            }
        }
        is_busy
    }

    /// Lets time pass in steps, firing timers.
    pub(crate) fn wait(&mut self, ms: u64) {
        let until = self.now.mono_ms + ms;
        while self.now.mono_ms < until {
            let step = (until - self.now.mono_ms).min(100);
            self.now.mono_ms += step;
            self.now.unix_ms += step as i64;
            for core in 0..self.sites.len() {
                for conn in self.due(core) {
                    self.on(core, |engine, hands| engine.timeout(conn, hands));
                }
            }
            self.settle();
        }
    }

    /// Takes out the timers of a core that have run off.
    pub(crate) fn due(&mut self, core: usize) -> Vec<ConnId> {
        let now_ms = self.now.mono_ms;
        let timers = &mut self.sites[core].hands.timers;
        let due: Vec<ConnId> = timers.values().filter(|(_, at)| *at <= now_ms).map(|(conn, _)| *conn).collect();
        for conn in &due {
            timers.remove(&conn.index);
        }
        due
    }
}
