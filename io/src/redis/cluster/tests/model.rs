//! A model of a cluster whose slots move, whose scripts are forgotten and whose nodes die, all under load.
//!
//! Checked: each command is answered once; what is said to have had no effect had none; commands about a key have their
//! effects in the order in which they were made, and where the key is; everything is at rest in the end.

use std::collections::VecDeque;

use super::*;
use crate::redis::Script;
use crate::redis::cluster::nodes::Link;
use crate::redis::tests::Dice;

/// Slots 0 to 2 are asked for, each with keys that go together, as those of a history do, and one that is alone. Were
/// they mixed, a pipeline would have the one refused and the other not, whatever the client does.
const SLOTS_USED: usize = 3;
const KEYS: usize = 3;

static SCRIPT: Script = Script { sha1: "0123456789012345678901234567890123456789", text: "return 1" };

struct World {
    dice: Dice,
    now_ms: u64,
    router: Router,
    servers: Vec<Server>,
    slots: [Moving; SLOTS_USED],
    /// By token.
    commands: Vec<Made>,
    /// By slot and key, the last that had an effect.
    last: [[Option<u64>; KEYS]; SLOTS_USED],
    redirected: usize,
}

/// A node; its port is its place plus one.
struct Server {
    is_alive: bool,
    knows_script: bool,
    /// Whose it believes each slot to be.
    belief: [usize; SLOTS_USED],
    pipeline: VecDeque<Outgoing>,
}

/// Where a slot is.
struct Moving {
    owner: usize,
    to: Option<usize>,
    /// Where each key is.
    keys: [usize; KEYS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Made {
    slot: usize,
    /// Of the keys that it is about.
    keys: [bool; KEYS],
    effects: u32,
    told: u32,
    had_none: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let router = Router::new(map(&[(0..=0, 1), (1..=1, 2), (2..=16383, 3)]));
        let server = || Server { is_alive: true, knows_script: false, belief: [0, 1, 2], pipeline: VecDeque::new() };
        Self {
            dice: Dice(seed),
            now_ms: 1,
            router,
            servers: (0..3).map(|_| server()).collect(),
            slots: [0, 1, 2].map(|owner| Moving { owner, to: None, keys: [owner; KEYS] }),
            commands: Vec::new(),
            last: Default::default(),
            redirected: 0,
        }
    }

    fn step(&mut self, is_load: bool) {
        match self.dice.roll(40) {
            0..=9 if is_load => self.make(),
            10 => self.now_ms += self.dice.roll(20) as u64,
            11 => self.connect(),
            12 => self.gossip(),
            13 if is_load => self.move_slot(),
            14 => self.move_key(),
            15 => self.finish_move(),
            16 => self.discover(),
            17 if is_load && self.dice.roll(8) == 0 => self.die(),
            18 if self.dice.roll(4) == 0 => {
                let server = self.dice.roll(self.servers.len());
                self.servers[server].knows_script = false;
            }
            _ => {
                let server = self.dice.roll(self.servers.len());
                for _ in 0..self.dice.roll(4) {
                    self.serve(server);
                }
            }
        }
        self.tell(|router, now_ms, events| router.turn(now_ms, events));
        self.send();
    }

    fn make(&mut self) {
        let slot = self.dice.roll(SLOTS_USED);
        let keys = [[true, true, false], [false, false, true]][self.dice.roll(2)];
        let token = self.commands.len() as u64;
        let deadline_ms = self.now_ms + IO_TIMEOUT_MS;
        // All about this slot, and none other, so that nobody else can make it known in the midst of a pipeline: then those
        // before would be repeated after those behind.
        let script = (slot == 2).then_some((&SCRIPT, 0));
        let made = Made { slot, keys, ..Made::default() };
        if let Ok(sent) = self.router.accept(token, slot as u16, deadline_ms, script, |_| {}) {
            self.commands.push(made);
            if let Some(sent) = sent {
                self.arrive(sent);
            }
        }
    }

    fn send(&mut self) {
        while let Some(outgoing) = self.router.next_outgoing() {
            self.redirected += 1;
            self.arrive(outgoing);
        }
    }

    fn arrive(&mut self, outgoing: Outgoing) {
        // As the lane does it, if it has gone down meanwhile.
        if self.router.nodes().link(outgoing.node) != Some(Link::Up) {
            return self.tell(|router, now_ms, events| router.failed(outgoing.place, false, now_ms, events));
        }
        let server = usize::from(port(&self.router, outgoing.node)) - 1;
        self.servers[server].pipeline.push_back(outgoing);
    }

    /// A node answers the oldest command that it has.
    fn serve(&mut self, server: usize) {
        let Some(Outgoing { place, asking, .. }) = self.servers[server].pipeline.pop_front() else { return };
        let kept = self.router.command(place).unwrap();
        let (token, by_digest) = (kept.token, kept.script.is_some() && !kept.by_text);
        let made = self.commands[token as usize];
        let slot = &self.slots[made.slot];
        let here = (0..KEYS).filter(|key| made.keys[*key] && slot.keys[*key] == server).count();
        let all = made.keys.iter().filter(|is_in| **is_in).count();
        let belief = self.servers[server].belief[made.slot];
        let is_importing = slot.to == Some(server) && asking;
        let refusal = match slot.to {
            _ if belief != server && !is_importing => Some(format!("MOVED {} 127.0.0.1:{}", made.slot, belief + 1)),
            Some(to) if belief == server && here == 0 => Some(format!("ASK {} 127.0.0.1:{}", made.slot, to + 1)),
            Some(_) if here < all => Some("TRYAGAIN".to_owned()),
            _ if by_digest && !self.servers[server].knows_script => Some("NOSCRIPT".to_owned()),
            _ => None,
        };
        let reply = match refusal {
            Some(text) => Reply::Error(error(text.as_bytes())),
            None => {
                assert_eq!(here, all, "{token}: its keys are elsewhere");
                self.effect(token);
                self.servers[server].knows_script |= made.slot == 2;
                Reply::Nil
            }
        };
        self.tell(|router, now_ms, events| router.answered(place, reply, now_ms, events));
    }

    fn effect(&mut self, token: u64) {
        let made = &mut self.commands[token as usize];
        made.effects += 1;
        assert!(made.effects == 1 && !made.had_none, "{token}: {made:?}");
        for key in (0..KEYS).filter(|key| made.keys[*key]) {
            let before = self.last[made.slot][key].replace(token);
            assert!(before < Some(token), "{token} after {before:?}");
        }
    }

    /// Connections are made, or cannot be.
    fn connect(&mut self) {
        let nodes: Vec<_> = self.router.nodes().iter().map(|(number, _, link)| (number, link)).collect();
        for (number, link) in nodes {
            let is_alive = self.servers[usize::from(port(&self.router, number)) - 1].is_alive;
            match (link, is_alive) {
                (Link::New | Link::Down, true) => self.tell(|router, now_ms, events| router.up(number, now_ms, events)),
                (Link::New, false) => self.tell(|router, now_ms, events| _ = router.down(number, now_ms, events)),
                _ => {}
            }
        }
    }

    /// Somebody learns whose the slots are.
    fn gossip(&mut self) {
        let server = self.dice.roll(self.servers.len());
        for (belief, slot) in self.servers[server].belief.iter_mut().zip(&self.slots) {
            // Who gives a slot away believes in it until the end.
            *belief = slot.owner;
        }
    }

    fn move_slot(&mut self) {
        let (slot, to) = (self.dice.roll(SLOTS_USED), self.dice.roll(self.servers.len()));
        let Moving { owner, to: moving, .. } = &mut self.slots[slot];
        let (from, target) = (&self.servers[*owner], &self.servers[to]);
        if moving.is_none() && to != *owner && target.is_alive && from.is_alive && from.belief[slot] == *owner {
            *moving = Some(to);
        }
    }

    fn move_key(&mut self) {
        let slot = &mut self.slots[self.dice.roll(SLOTS_USED)];
        if let Some(to) = slot.to {
            slot.keys[self.dice.roll(KEYS)] = to;
        }
    }

    /// The target has everything and is told first.
    fn finish_move(&mut self) {
        let number = self.dice.roll(SLOTS_USED);
        let slot = &mut self.slots[number];
        let Some(to) = slot.to.filter(|to| slot.keys == [*to; KEYS]) else { return };
        self.servers[to].belief[number] = to;
        self.servers[slot.owner].belief[number] = to;
        (slot.owner, slot.to) = (to, None);
    }

    /// The map is looked at, by asking somebody who may be behind.
    fn discover(&mut self) {
        let alive: Vec<_> = self.servers.iter().filter(|server| server.is_alive).collect();
        let belief = alive[self.dice.roll(alive.len())].belief;
        let ranges = [(0..=0, belief[0] as u16 + 1), (1..=1, belief[1] as u16 + 1), (2..=16383, belief[2] as u16 + 1)];
        let gone = self.router.map_is(map(&ranges));
        for node in &gone {
            let server = usize::from(port(&self.router, *node)) - 1;
            self.lose(server);
        }
        self.tell(|router, now_ms, events| router.gone(&gone, now_ms, events));
    }

    /// A node dies, and another one has its slots and its keys.
    fn die(&mut self) {
        let dead = self.dice.roll(self.servers.len());
        if !self.servers[dead].is_alive || self.servers.len() > 8 {
            return;
        }
        // Some of what it was sent had an effect of which nobody hears.
        for _ in 0..self.dice.roll(3) {
            let Some(&Outgoing { place, .. }) = self.servers[dead].pipeline.front() else { break };
            let token = self.router.command(place).unwrap().token;
            let made = self.commands[token as usize];
            let slot = &self.slots[made.slot];
            if slot.owner != dead || slot.to.is_some() || self.servers[dead].belief[made.slot] != dead {
                break;
            }
            self.effect(token);
            self.servers[dead].pipeline.pop_front();
            self.tell(|router, now_ms, events| router.failed(place, true, now_ms, events));
        }
        let heir = self.servers.len();
        let belief = self.servers[dead].belief.map(|owner| if owner == dead { heir } else { owner });
        self.servers.push(Server { is_alive: true, knows_script: false, belief, pipeline: VecDeque::new() });
        self.servers[dead].is_alive = false;
        for slot in &mut self.slots {
            for place in slot.keys.iter_mut().chain([&mut slot.owner]).chain(&mut slot.to) {
                *place = if *place == dead { heir } else { *place };
            }
        }
        self.lose(dead);
        let node = self.router.nodes().iter().find(|(_, endpoint, _)| **endpoint == at(dead as u16 + 1));
        if let Some((node, ..)) = node {
            self.tell(|router, now_ms, events| _ = router.down(node, now_ms, events));
        }
    }

    /// Its connection ends. Nothing that lies in it has had an effect here, which the core cannot know.
    fn lose(&mut self, server: usize) {
        for Outgoing { place, .. } in std::mem::take(&mut self.servers[server].pipeline) {
            self.tell(|router, now_ms, events| router.failed(place, true, now_ms, events));
        }
    }

    fn tell(&mut self, act: impl FnOnce(&mut Router, u64, &mut Box<dyn FnMut(Event) + '_>)) {
        let commands = &mut self.commands;
        let mut tell: Box<dyn FnMut(Event)> = Box::new(|event| {
            let (token, had_none) = match event {
                Event::Reply(token, Reply::Error(error)) => {
                    assert!(matches!(error.code(), "MOVED" | "ASK"), "{error:?}");
                    (token, true)
                }
                Event::Reply(token, _) => (token, false),
                Event::Failed(token, was_sent) => (token, !was_sent),
                other => panic!("{other:?}"),
            };
            let made = &mut commands[token as usize];
            made.told += 1;
            made.had_none = had_none;
            assert!(made.told == 1 && !(had_none && made.effects > 0), "{token}: {made:?}");
        });
        act(&mut self.router, self.now_ms, &mut tell);
    }

    /// No more load: everything comes to rest.
    fn settle(&mut self) {
        for _ in 0..600 {
            self.now_ms += 10;
            for _ in 0..5 {
                self.step(false);
            }
            self.connect();
            (0..self.servers.len()).for_each(|server| self.serve(server));
        }
        for (token, made) in self.commands.iter().enumerate() {
            assert_eq!(made.told, 1, "{token}: {made:?}");
        }
        assert_eq!(self.router.next_ms(), None);
    }
}

/// Resharding and failover under load are ordinary days of a cluster: a publication that is lost, made twice or out of
/// order is what nobody would find.
#[test]
fn slots_move_under_load() {
    let (mut made, mut good, mut redirected) = (0, 0, 0);
    for seed in 0..150 {
        let mut world = World::new(seed);
        world.connect();
        for _ in 0..1_500 {
            world.step(true);
        }
        world.settle();
        made += world.commands.len();
        good += world.commands.iter().filter(|made| made.effects == 1).count();
        redirected += world.redirected;
    }
    assert!(good * 10 > made * 6, "{good} of {made}");
    assert!(redirected * 10 > made, "{redirected} of {made}");
    println!("{made} made, {good} with an effect, sent {redirected} times more");
}
