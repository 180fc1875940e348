//! What happens, drawn at random: clients come, talk and go, the server API publishes, everything on its way moves when
//! it likes, time passes, things go wrong. And what must hold when nothing moves any more.

use std::collections::BTreeSet;

use base64::Engine as _;
use bytes::Bytes;
use gyre_engine::{ClientId, HistoryOptions, HomeCall, PublishCall};
use gyre_proto::Encoding;
use gyre_proto::client::Publication;

use crate::sim::{Agent, Asked, Conn, Sim};
use crate::wire::{Say, Wishes, frame};

impl Sim {
    pub(crate) fn play(&mut self) {
        let users = self.rng.usize(1..5);
        for _ in 0..self.rng.usize(2..12) {
            let user = format!("u{}", self.rng.usize(..users));
            let encoding = if self.rng.bool() { Encoding::Json } else { Encoding::Protobuf };
            self.agents.push(Agent { user, encoding, seen: Default::default(), conn: None });
        }
        let (move_share, actions) = (self.rng.u32(30..85), self.rng.usize(50..400));
        for _ in 0..actions {
            if self.rng.u32(..100) >= move_share || !self.move_something() {
                self.action();
            }
            if self.rng.u32(..30) == 0 {
                self.answer_question();
            }
        }
        self.mend_all();
        self.settle();
        self.check();
    }

    /// One thing that is on its way.
    fn move_something(&mut self) -> bool {
        let (rings, lanes) = (self.world.busy_rings(), self.world.busy_lanes());
        if rings.is_empty() && lanes.is_empty() {
            return false;
        }
        let at = self.rng.usize(..rings.len() + lanes.len());
        for _ in 0..self.rng.usize(1..4) {
            match rings.get(at) {
                Some(&(from, to)) => self.ring(from, to),
                None => {
                    let (site, lane) = lanes[at - rings.len()];
                    self.lane(site, lane);
                }
            }
        }
        true
    }

    fn action(&mut self) {
        let agent = self.rng.usize(..self.agents.len());
        let conn = self.agents[agent].conn;
        match self.rng.u32(..100) {
            0..55 => match conn {
                None => self.connect(agent),
                Some(conn) => self.talk(conn),
            },
            55..70 => self.api_publish(),
            70..78 => {
                if let Some(conn) = conn {
                    self.hang_up(conn);
                }
            }
            78..85 => {
                let ms = match self.rng.u32(..10) {
                    0..5 => self.rng.u64(1..50),
                    5..9 => self.rng.u64(50..1_500),
                    _ => self.rng.u64(1_500..30_000),
                };
                self.advance(ms);
            }
            85..89 => self.turn(),
            89..91 => _ = self.answer_question(),
            91..97 => self.fault(),
            _ => {
                self.mend_all();
                self.settle();
                self.check();
            }
        }
    }

    fn any_channel(&mut self) -> String {
        let at = self.rng.usize(..self.channels.len());
        self.channels[at].0.clone()
    }

    fn connect(&mut self, agent: usize) {
        let site = self.rng.usize(..self.world.sites.len());
        let encoding = self.agents[agent].encoding;
        let id = self.world.open(site, encoding);
        let mut bytes = [0; 16];
        bytes[12..].copy_from_slice(&id.index.to_be_bytes());
        let conn = Conn {
            site,
            id,
            uuid: ClientId::from_entropy(bytes).to_string(),
            agent,
            encoding,
            opened_ms: self.world.now.mono_ms,
            next_id: 1,
            asked: Default::default(),
            plan: Vec::new(),
            is_connected: false,
            is_refused: false,
            subs: Default::default(),
        };
        self.note(|| format!("open {} on {site} {encoding:?} {}", id.index, conn.uuid));
        self.conns.insert(id.index, conn);
        self.agents[agent].conn = Some(id.index);
        let mut says = vec![self.say_connect(id.index)];
        for _ in 0..self.rng.usize(..3) {
            says.push(self.say_something(id.index));
        }
        self.send(id.index, says);
    }

    fn talk(&mut self, conn: u32) {
        let count = self.rng.usize(1..5);
        let says = (0..count).map(|_| self.say_something(conn)).collect();
        self.send(conn, says);
    }

    fn send(&mut self, index: u32, says: Vec<Say>) {
        let since = self.served(self.conns[&index].site);
        let conn = self.conns.get_mut(&index).expect("open");
        let commands: Vec<(u32, Say)> = says.into_iter().zip(conn.next_id..).map(|(say, id)| (id, say)).collect();
        conn.next_id += commands.len() as u32;
        let asked = |(id, say): &(u32, Say)| Asked {
            id: *id,
            say: say.clone(),
            since: since.clone(),
            questions: Default::default(),
        };
        conn.asked.extend(commands.iter().map(asked));
        let (site, id, bytes) = (conn.site, conn.id, frame(conn.encoding, &commands));
        self.note(|| format!("say {index} {commands:?}"));
        self.on(site, |engine, hands| engine.receive(id, &bytes, hands));
    }

    fn say_connect(&mut self, conn: u32) -> Say {
        let agent = self.conns[&conn].agent;
        let mut plan = Vec::new();
        for _ in 0..self.rng.usize(..3).saturating_sub(1) * 2 {
            let channel = self.any_channel();
            if plan.iter().all(|(planned, _)| *planned != channel) {
                let seen = self.agents[agent].seen.get(&channel).cloned();
                plan.push((channel, seen.filter(|_| self.rng.u32(..5) > 0)));
            }
        }
        let subs = plan.iter().filter_map(|(channel, seen)| Some((channel.clone(), seen.clone()?))).collect();
        let names: Vec<String> = plan.iter().map(|(channel, _)| format!("{channel:?}")).collect();
        let claims = format!(r#"{{"sub":"{}","channels":[{}]}}"#, self.agents[agent].user, names.join(","));
        let base64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let token = format!("{}.{}.AAAA", base64.encode(r#"{"alg":"HS256"}"#), base64.encode(claims));
        self.conns.get_mut(&conn).expect("open").plan = plan;
        Say::Connect { token, subs }
    }

    fn say_something(&mut self, conn: u32) -> Say {
        let channel = self.any_channel();
        let seen = self.agents[self.conns[&conn].agent].seen.get(&channel).cloned();
        let has_it = self.conns[&conn].subs.contains_key(&channel);
        match self.rng.u32(..100) {
            0..45 if !has_it => {
                let recover = match self.rng.u32(..20) {
                    0 => Some((self.rng.u64(..20), String::new())),
                    1 => Some((self.rng.u64(..20), "abcdefgh".to_owned())),
                    2..5 => None,
                    _ => seen,
                };
                let wishes = Wishes {
                    positioned: self.rng.bool(),
                    recoverable: recover.is_some() || self.rng.bool(),
                    join_leave: self.rng.bool(),
                    reject: self.rng.u32(..5) == 0,
                };
                Say::Subscribe { channel, recover, wishes }
            }
            0..25 => Say::Unsubscribe(channel),
            25..80 => {
                self.next_n += 1;
                Say::Publish { channel, data: self.next_n.to_string() }
            }
            80..90 => {
                let limit = self.rng.i32(-1..10);
                let since = seen.filter(|_| self.rng.bool());
                Say::History { channel, limit, since, reverse: false }
            }
            90..95 => Say::Presence(channel),
            _ => Say::PresenceStats(channel),
        }
    }

    fn api_publish(&mut self) {
        let (site, channel) = (self.rng.usize(..self.world.sites.len()), self.any_channel());
        self.next_n += 1;
        let n = self.next_n;
        let key = if self.rng.u32(..8) == 0 { format!("k{}", self.rng.u32(..4)) } else { String::new() };
        let version = if self.rng.u32(..8) == 0 { self.rng.u64(1..50) } else { 0 };
        let is_always_new = key.is_empty() && version == 0;
        let call = HomeCall::Publish(PublishCall {
            publication: Publication { data: Bytes::from(n.to_string()), ..Publication::default() },
            history: HistoryOptions::of(&self.rules, &channel),
            idempotency_key: key.into(),
            version,
            version_epoch: "".into(),
        });
        self.note(|| format!("api publish on {site} {call:?} to {channel}"));
        let (number, reply) = self.world.call(site, &channel, call);
        self.calls.insert(number, (channel, n, is_always_new));
        if let Some(reply) = reply {
            self.judge_answer(number, reply);
        }
        self.digest(site);
    }

    /// The peer goes without a word.
    pub(crate) fn hang_up(&mut self, index: u32) {
        self.note(|| format!("hang up {index}"));
        let Some(conn) = self.conns.remove(&index) else { return };
        self.agents[conn.agent].conn = None;
        self.on(conn.site, |engine, hands| engine.closed(conn.id, hands));
    }

    fn turn(&mut self) {
        for site in 0..self.world.sites.len() {
            self.on(site, |engine, hands| engine.turn(hands));
        }
    }

    /// Time passes; nothing else but timers.
    fn advance(&mut self, ms: u64) {
        self.note(|| format!("wait {ms} ms"));
        self.world.now.mono_ms += ms;
        self.world.now.unix_ms += ms as i64;
        for site in 0..self.world.sites.len() {
            for id in self.world.due(site) {
                self.on(site, |engine, hands| engine.timeout(id, hands));
            }
        }
    }

    /// Moves everything that is on its way, in any order.
    fn settle(&mut self) {
        loop {
            self.turn();
            while self.move_something() {}
            self.turn();
            let is_quiet = self.world.busy_rings().is_empty() && self.world.busy_lanes().is_empty();
            if is_quiet && !self.answer_question() {
                return;
            }
        }
    }

    fn rest(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.advance(1_000);
            self.settle();
        }
    }

    /// Everybody goes; nothing may stay.
    pub(crate) fn end(&mut self) {
        if self.rng.u32(..3) == 0 {
            // A tick every 27 s, a check when the last one was 40 s ago; presence entries last for 60 s.
            self.rest(130);
            self.note(|| "check after a rest".to_owned());
            self.check_positions(true, false);
            self.check_presence();
        }
        let conns: Vec<u32> = self.conns.keys().copied().collect();
        for conn in conns {
            self.hang_up(conn);
            if self.rng.bool() {
                self.move_something();
            }
        }
        self.settle();
        // Ending to hear is tried again until it succeeds.
        self.rest(4);
        // So is taking out those who have gone.
        self.check_presence();
        assert!(self.calls.is_empty(), "calls without an answer: {:?}", self.calls);
        for site in &self.world.sites {
            assert_eq!(site.engine.store_entries(), 0, "left in the tables of a core: {:?}", site.engine);
            assert_eq!(site.engine.counts(), Default::default(), "somebody is still there");
            assert_eq!(site.engine.sessions(), 0, "sessions");
        }
        let heard = self.world.store.as_ref().expect("stored").heard();
        assert!(heard.is_empty(), "still heard: {heard:?}");
    }

    /// Everybody has been told everything.
    fn check(&mut self) {
        self.note(|| "check".to_owned());
        assert!(self.calls.is_empty(), "calls without an answer: {:?}", self.calls);
        for (index, conn) in &self.conns {
            assert!(conn.asked.is_empty(), "{index} waits for {:?}", conn.asked);
            assert!(conn.is_connected, "{index} is connected");
        }
        let is_sure = self.mix.tells_losses();
        self.check_positions(is_sure, self.data_losses > 0);
        for site in 0..self.world.sites.len() {
            let subscriptions: usize = self.conns.values().filter(|c| c.site == site).map(|c| c.subs.len()).sum();
            assert_eq!(self.world.sites[site].engine.counts().subscriptions, subscriptions as u64, "subscriptions");
        }
        for node in 0..self.world.sites.len() / self.world.cores {
            let cores = node * self.world.cores..(node + 1) * self.world.cores;
            let channels: u64 = cores.clone().map(|site| self.world.sites[site].engine.counts().channels).sum();
            let conns = self.conns.values().filter(|conn| cores.contains(&conn.site));
            let expected: BTreeSet<&String> = conns.flat_map(|conn| conn.subs.keys()).collect();
            assert_eq!(channels, expected.len() as u64, "channels of node {node}");
        }
        if self.data_losses == 0 {
            if self.failures > 0 {
                // What failed is made good for: entries of who is there, and removals of who has gone.
                self.rest(3);
            }
            self.check_presence();
        }
    }

    fn check_presence(&mut self) {
        for (channel, options) in self.channels.clone() {
            let store = self.world.store.as_mut().expect("stored");
            store.now_ms = self.world.now.mono_ms;
            let present: BTreeSet<String> = store.present(&channel).iter().map(ToString::to_string).collect();
            let members = self.conns.values().filter(|c| options.presence && c.subs.contains_key(&channel));
            let expected: BTreeSet<String> = members.map(|conn| conn.uuid.clone()).collect();
            assert_eq!(present, expected, "presence of {channel}");
        }
    }
}
