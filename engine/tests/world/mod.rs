//! Several engines in one thread, joined by rings that deliver when told to, with the clients' ends in plain vectors.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use gyre_engine::rules::Rules;
use gyre_engine::{
    CallId, ClientId, Engine, EngineOptions, FrameId, HomeCall, HomeReply, Message, Now, Outlet, SurveyReply,
};
use gyre_proto::Encoding;
use gyre_proto::codes::Disconnect;
use gyre_proto::ids::{ConnId, CoreId};

/// What one core's engine asked for.
#[derive(Default)]
pub(crate) struct Hands {
    palette: Vec<Vec<u8>>,
    /// Messages to each connection, and its end.
    pub(crate) said: BTreeMap<u32, Vec<Vec<u8>>>,
    pub(crate) closed: BTreeMap<u32, Disconnect>,
    pub(crate) timers: BTreeMap<u32, u64>,
    sent: Vec<(CoreId, Message)>,
    pub(crate) answers: Vec<(CallId, HomeReply)>,
    pub(crate) surveyed: Vec<(CallId, SurveyReply)>,
}

impl Outlet for Hands {
    fn frame(&mut self, _encoding: Encoding, message: &[u8]) -> FrameId {
        self.palette.push(message.to_vec());
        FrameId(self.palette.len() as u32 - 1)
    }

    fn push(&mut self, conn: ConnId, frame: FrameId) {
        self.said.entry(conn.index).or_default().push(self.palette[frame.0 as usize].clone());
    }

    fn close(&mut self, conn: ConnId, why: &Disconnect) {
        self.closed.insert(conn.index, why.clone());
    }

    fn set_timer(&mut self, conn: ConnId, deadline_ms: u64) {
        self.timers.insert(conn.index, deadline_ms);
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

    fn is_congested(&self) -> bool {
        false
    }
}

/// One core of the world.
pub(crate) struct Site {
    pub(crate) engine: Engine,
    pub(crate) hands: Hands,
}

/// See the module.
pub(crate) struct World {
    pub(crate) sites: Vec<Site>,
    /// Index = from * cores + to.
    rings: Vec<VecDeque<Message>>,
    pub(crate) now: Now,
    next_conn: u32,
    next_call: CallId,
}

impl World {
    pub(crate) fn new(cores: u16, rules: Rules, seed: u64) -> Self {
        let rules = Arc::new(rules);
        let site = |core: u16| Site {
            engine: Engine::new(EngineOptions {
                core: CoreId(core),
                cores,
                rules: Arc::clone(&rules),
                version: "test".into(),
                seed: seed ^ u64::from(core) << 32,
            }),
            hands: Hands::default(),
        };
        Self {
            sites: (0..cores).map(site).collect(),
            rings: (0..usize::from(cores).pow(2)).map(|_| VecDeque::new()).collect(),
            now: Now { mono_ms: 1_000_000, unix_ms: 1_700_000_000_000 },
            next_conn: 0,
            next_call: 0,
        }
    }

    /// Runs something on the engine of a core and puts what it sends into the rings.
    pub(crate) fn on<T>(&mut self, core: usize, act: impl FnOnce(&mut Engine, &mut Hands) -> T) -> T {
        let cores = self.sites.len();
        let site = &mut self.sites[core];
        site.engine.set_now(self.now);
        let result = act(&mut site.engine, &mut site.hands);
        for (to, message) in site.hands.sent.drain(..) {
            self.rings[core * cores + usize::from(to.0)].push_back(message);
        }
        result
    }

    pub(crate) fn open(&mut self, core: usize, encoding: Encoding) -> ConnId {
        let conn = ConnId { index: self.next_conn, generation: 1 };
        self.next_conn += 1;
        let mut id = [0; 16];
        id[12..].copy_from_slice(&conn.index.to_be_bytes());
        self.on(core, |engine, hands| engine.open(conn, encoding, ClientId::from_entropy(id), hands));
        conn
    }

    pub(crate) fn call(&mut self, core: usize, channel: &str, call: HomeCall) -> (CallId, Option<HomeReply>) {
        self.next_call += 1;
        let number = self.next_call;
        (number, self.on(core, |engine, hands| engine.api_call(number, channel, call, hands)))
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
        if let Some(message) = self.rings[from * cores + to].pop_front() {
            self.on(to, |engine, hands| engine.message(message, hands));
        }
    }

    /// Turns every core and empties every ring until nothing moves.
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
            if !is_busy && busy.is_empty() {
                return;
            }
        }
    }

    /// Lets time pass in steps, firing timers.
    pub(crate) fn wait(&mut self, ms: u64) {
        let until = self.now.mono_ms + ms;
        while self.now.mono_ms < until {
            let step = (until - self.now.mono_ms).min(100);
            self.now.mono_ms += step;
            self.now.unix_ms += step as i64;
            for core in 0..self.sites.len() {
                let due: Vec<u32> = self.sites[core]
                    .hands
                    .timers
                    .iter()
                    .filter(|(_, at)| **at <= self.now.mono_ms)
                    .map(|(conn, _)| *conn)
                    .collect();
                for index in due {
                    self.sites[core].hands.timers.remove(&index);
                    let conn = ConnId { index, generation: 1 };
                    self.on(core, |engine, hands| engine.timeout(conn, hands));
                }
            }
            self.settle();
        }
    }
}
