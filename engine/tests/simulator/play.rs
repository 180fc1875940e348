//! What happens in a simulated world, drawn at random: clients come, talk and go, the server API calls, rings deliver
//! late, time passes.

use bytes::Bytes;
use gyre_engine::{
    Act, ActWhat, ClientId, Handshake, HistoryOptions, HomeCall, PublishCall, RecoverFrom, SubscribeAct,
};
use gyre_proto::Encoding;
use gyre_proto::client::Publication;
use gyre_proto::codes::{Disconnect, Unsubscribe};
use gyre_proto::ids::ConnId;

use crate::given::since;
use crate::peer::{Agent, Asked, Conn, Key};
use crate::sim::Sim;
use crate::wire::{Say, frame};

impl Sim {
    pub(crate) fn play(&mut self) {
        let users = self.rng.usize(1..6);
        for _ in 0..self.setup.agents {
            let user = match self.rng.usize(..users) {
                0 => String::new(),
                n => format!("u{n}"),
            };
            let encoding = if self.rng.bool() { Encoding::Json } else { Encoding::Protobuf };
            self.agents.push(Agent { user, encoding, seen: Default::default(), key: None });
        }
        if self.setup.is_crowd {
            for agent in 0..self.agents.len() {
                self.connect(agent);
            }
            if self.rng.bool() {
                self.settle();
            }
        }
        for _ in 0..self.setup.actions {
            self.action();
        }
        self.settle();
        self.check();
    }

    fn action(&mut self) {
        if self.setup.is_crowd && self.rng.u32(..3) == 0 {
            self.turn(0);
        }
        if self.rng.u32(..100) < self.setup.ring_share {
            let busy = self.world.busy_rings();
            if let Some(&(from, to)) = self.rng.choice(&busy) {
                for _ in 0..self.rng.usize(1..4) {
                    self.step(from, to);
                }
                return;
            }
        }
        if !self.questions.is_empty() && self.rng.u32(..4) == 0 {
            return self.answer_any();
        }
        let agent = self.rng.usize(..self.agents.len());
        let key = self.agents[agent].key;
        match self.rng.u32(..100) {
            0..50 => match key {
                None => self.connect(agent),
                Some(key) => self.talk(key),
            },
            50..65 => self.api_publish(),
            65..70 => self.api_act(agent),
            70..72 => {
                let (core, channel) = (self.any_core(), self.any_channel());
                self.note(|| format!("history_remove {core} {channel}"));
                self.call(core, channel, HomeCall::HistoryRemove);
            }
            72..78 => {
                if let Some(key) = key {
                    self.hang_up(key);
                }
            }
            78..84 => self.answer_pings(),
            84..92 => {
                let ms = match self.rng.u32(..10) {
                    0..6 => self.rng.u64(1..50),
                    6..9 => self.rng.u64(50..3_000),
                    _ => self.rng.u64(3_000..30_000),
                };
                self.answer_pings();
                self.advance(ms);
            }
            92..95 => _ = self.turn_any(),
            95..97 => self.stale_calls(),
            _ => {
                self.settle();
                self.check();
            }
        }
    }

    fn turn_any(&mut self) -> bool {
        let core = self.any_core();
        self.turn(core)
    }

    fn any_core(&mut self) -> usize {
        self.rng.usize(..self.world.sites.len())
    }

    pub(crate) fn any_channel(&mut self) -> usize {
        if self.setup.is_crowd && self.rng.u32(..4) > 0 {
            return 0;
        }
        self.rng.usize(..self.model.channels.len())
    }

    /// A new connection of a client, mostly with its connect and often with more in the same frame.
    fn connect(&mut self, agent: usize) {
        let core = if self.setup.is_crowd && self.rng.u32(..10) > 0 { 0 } else { self.any_core() };
        let at = self.rng.usize(..self.free[core].len() + 1);
        let id = match self.free[core].get(at) {
            Some(_) => self.free[core].swap_remove(at),
            None => {
                let used = self.conns.keys().chain(&self.zombies).filter(|key| key.0 == core).count();
                ConnId { index: (used + self.free[core].len()) as u32, generation: 1 }
            }
        };
        self.next_uuid += 1;
        let client = ClientId::from_entropy(self.next_uuid.to_be_bytes());
        let (user, encoding) = (self.agents[agent].user.clone(), self.agents[agent].encoding);
        let conn = Conn {
            core,
            id,
            uuid: client.to_string(),
            agent,
            user,
            encoding,
            opened_ms: self.world.now.mono_ms,
            next_id: 1,
            asked: Default::default(),
            plan: Vec::new(),
            has_said_connect: false,
            is_admitted: false,
            is_connected: false,
            is_refused: false,
            told: None,
            must_expire: false,
            has_misbehaved: false,
            is_lazy: self.rng.u32(..20) == 0,
            pinged_ms: None,
            owes_pong: false,
            starts: Default::default(),
            page: None,
            joined: Default::default(),
            subs: Default::default(),
            gifts: Default::default(),
        };
        let key = conn.key();
        self.agents[agent].key = Some(key);
        self.conns.insert(key, conn);
        self.prepare();
        self.note(|| format!("open {key:?} {client} {encoding:?}"));
        self.on(core, |engine, hands| engine.open(id, encoding, client, Handshake::default(), hands));
        if self.rng.u32(..20) > 0 {
            self.talk(key);
        }
    }

    /// One frame of commands.
    fn talk(&mut self, key: Key) {
        if self.conns[&key].is_refused {
            return self.hang_up(key);
        }
        if self.rng.u32(..300) == 0 {
            return self.talk_nonsense(key);
        }
        let mut says = Vec::new();
        if !self.conns[&key].has_said_connect {
            says.push(self.say_connect(key));
        }
        if self.setup.is_crowd && !says.is_empty() {
            says.push(self.say_subscribe(key, 0));
        } else {
            for _ in 0..self.rng.usize(usize::from(says.is_empty())..5) {
                says.push(self.say_something(key));
            }
        }
        self.send(key, says);
    }

    fn talk_nonsense(&mut self, key: Key) {
        let conn = self.conns.get_mut(&key).expect("open");
        conn.has_misbehaved = true;
        let id = conn.id;
        self.prepare();
        self.note(|| format!("nonsense {key:?}"));
        self.on(key.0, |engine, hands| engine.receive(id, b"\xff\xff\xff", hands));
        assert!(!self.conns.contains_key(&key), "nonsense is not tolerated");
    }

    fn send(&mut self, key: Key, says: Vec<Say>) {
        self.prepare();
        let conn = self.conns.get_mut(&key).expect("open");
        let commands: Vec<(u32, Say)> = says.into_iter().zip(conn.next_id..).map(|(say, id)| (id, say)).collect();
        conn.next_id += commands.len() as u32;
        let asked = |(id, say): &(u32, Say)| Asked { id: *id, say: say.clone(), is_revoked: false };
        conn.asked.extend(commands.iter().map(asked));
        let (core, id, bytes) = (conn.core, conn.id, frame(conn.encoding, &commands));
        self.note(|| format!("say {key:?} {commands:?}"));
        let is_connect = matches!(&commands[0].1, Say::Connect { token, .. } if !token.is_empty());
        if is_connect {
            self.foresee_connect(key);
        }
        self.on(core, |engine, hands| engine.receive(id, &bytes, hands));
        if is_connect {
            self.be_lenient(key);
        }
    }

    /// A connect has just been let in, by a token or by the backend.
    pub(crate) fn be_lenient(&mut self, key: Key) {
        if let Some(conn) = self.conns.get_mut(&key) {
            // Whether a leave in the very call of the connect was before or after does not show.
            for (channel, start) in &mut conn.starts {
                start.lenient_until = self.model.channels[*channel].log.len();
            }
            for (channel, sub) in &mut conn.subs {
                sub.lenient_until = self.model.channels[*channel].log.len();
            }
        }
    }

    /// Home channels of the same core are looked at in the call of the connect itself.
    pub(crate) fn foresee_connect(&mut self, key: Key) {
        let conn = self.conns.get_mut(&key).expect("open");
        let limit = self.setup.rules.client.recovery_max_publication_limit;
        for planned in &conn.plan {
            let it = &self.model.channels[planned.channel];
            if it.home == conn.core {
                let options = &it.options;
                let from = planned.recover.as_ref().filter(|_| options.force_recovery);
                let mode = options.recovery_mode;
                let from =
                    from.map(|(offset, epoch)| RecoverFrom { offset: *offset, epoch: (**epoch).into(), limit, mode });
                let is_positioned = options.force_recovery || options.force_positioning;
                let mut start = self.model.start(planned.channel, is_positioned.then_some(from.as_ref()));
                start.lenient_until = usize::MAX;
                conn.starts.insert(planned.channel, start);
            }
        }
    }

    fn api_publish(&mut self) {
        let (core, channel) = (self.any_core(), self.any_channel());
        let name = self.model.channels[channel].name.clone();
        let data = self.data(false);
        let idempotency_key = if self.rng.u32(..8) == 0 { format!("k{}", self.rng.u32(..4)) } else { String::new() };
        let call = HomeCall::Publish(PublishCall {
            publication: Publication { data: Bytes::from(data.clone()), ..Publication::default() },
            history: HistoryOptions::of(&self.setup.rules, &name),
            idempotency_key: idempotency_key.into(),
            version: if self.rng.u32(..8) == 0 { self.rng.u64(1..50) } else { 0 },
            version_epoch: "".into(),
        });
        self.note(|| format!("api publish on {core} {call:?} to {name}"));
        self.call(core, channel, call);
    }

    fn api_act(&mut self, agent: usize) {
        let core = self.any_core();
        let conn = self.agents[agent].key.and_then(|key| self.conns.get(&key));
        let client = conn.filter(|_| self.setup.is_crowd || self.rng.bool()).map_or("", |conn| &conn.uuid).into();
        let user = self.agents[agent].user.as_str().into();
        let channel = self.any_channel();
        let channel = self.model.channels[channel].name.as_str().into();
        let what = match self.rng.u32(..8) {
            0 => ActWhat::Disconnect(Disconnect::FORCE_DISCONNECT),
            // What a client cannot be given of what it missed would end it half-way.
            1..5 if !self.setup.is_binary => {
                let (offset, epoch) = since();
                let recover_since = Some((offset, epoch.into()));
                ActWhat::Subscribe(SubscribeAct { channel, recover_since, ..SubscribeAct::default() })
            }
            _ => ActWhat::Unsubscribe { channel, why: Unsubscribe::SERVER },
        };
        let act = Act { user, client, whitelist: Vec::new(), what };
        self.note(|| format!("api act on {core} {act:?}"));
        self.act(core, act);
    }

    /// The peer goes without a word.
    pub(crate) fn hang_up(&mut self, key: Key) {
        self.prepare();
        self.note(|| format!("hang up {key:?}"));
        let Some(conn) = self.conns.remove(&key) else { return };
        for (channel, sub) in &conn.subs {
            self.judge_end(&conn, *channel, sub, &format!("{key:?} hangs up"));
        }
        self.all_left_here(key.0, &conn);
        self.agents[conn.agent].key = None;
        self.on(key.0, |engine, hands| engine.closed(conn.id, hands));
        self.release_index(key.0, conn.id);
    }

    pub(crate) fn answer_pings(&mut self) {
        let owing = self.conns.values_mut().filter(|conn| conn.owes_pong && !conn.is_lazy);
        let mut frames = Vec::new();
        for conn in owing {
            conn.owes_pong = false;
            conn.pinged_ms = None;
            frames.push((conn.core, conn.id, frame(conn.encoding, &[(0, Say::Pong)])));
        }
        for (core, id, bytes) in frames {
            self.prepare();
            self.on(core, |engine, hands| engine.receive(id, &bytes, hands));
        }
    }

    /// Time passes; nothing else but timers.
    pub(crate) fn advance(&mut self, ms: u64) {
        self.note(|| format!("wait {ms} ms"));
        let until_ms = self.world.now.mono_ms + ms;
        loop {
            let timers = self.world.sites.iter().flat_map(|site| site.hands.timers.values());
            let next_ms = timers.map(|(_, at_ms)| *at_ms).min().unwrap_or(u64::MAX);
            let step_ms = next_ms.min(until_ms).saturating_sub(self.world.now.mono_ms);
            self.world.now.mono_ms += step_ms;
            self.world.now.unix_ms += step_ms as i64;
            for core in 0..self.world.sites.len() {
                for id in self.world.due(core) {
                    self.timeout(core, id);
                }
            }
            self.give_up_on_overdue();
            if next_ms > until_ms {
                return;
            }
        }
    }

    pub(crate) fn turn(&mut self, core: usize) -> bool {
        self.prepare();
        self.on(core, |engine, hands| engine.turn(hands))
    }

    /// What the connection table says of connections that the engine has ended, and what may come after.
    fn stale_calls(&mut self) {
        for key in std::mem::take(&mut self.zombies) {
            let id = ConnId { index: key.1, generation: key.2 };
            self.prepare();
            self.on(key.0, |engine, hands| engine.closed(id, hands));
            self.release_index(key.0, id);
        }
        if let Some(&(core, index, generation)) = self.rng.choice(&self.dead) {
            let id = ConnId { index, generation };
            self.timeout(core, id);
            self.prepare();
            self.on(core, |engine, hands| engine.receive(id, b"{}", hands));
            self.prepare();
            self.on(core, |engine, hands| engine.closed(id, hands));
        }
    }
}

pub(crate) fn shutdown(sim: &mut Sim) {
    sim.is_shutting_down = true;
    for core in 0..sim.world.sites.len() {
        sim.prepare();
        sim.on(core, |engine, hands| engine.shutdown(hands));
    }
}
