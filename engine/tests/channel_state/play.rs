//! What happens in the world: who comes and goes, what breaks.

use gyre_engine::StateReply;

use crate::link::Command;
use crate::node::{Client, Node};
use crate::sim::{CHANNELS, PROXIES, RENEW_MS, Sim, partition_of};

impl Sim {
    pub(crate) fn play(&mut self) {
        for _ in 0..self.rng.u32(20..150) {
            self.act();
            let pause_ms = match self.rng.u32(..10) {
                0 => self.rng.u64(..20_000),
                1..5 => self.rng.u64(..3_000),
                _ => self.rng.u64(..200),
            };
            self.run(self.now_ms + pause_ms);
        }
    }

    pub(crate) fn act(&mut self) {
        match self.rng.u32(..40) {
            0..14 => self.join(),
            14..26 => self.leave(),
            26..29 => {
                for _ in 0..self.rng.u32(1..30) {
                    if self.rng.bool() { self.join() } else { self.leave() }
                }
            }
            29 if self.nodes.len() < 4 => self.start_node(),
            30 => self.stop_node(),
            31 if self.mix.deaths => self.kill_node(),
            32 | 33 if self.mix.breaks => {
                if let Some(uid) = self.any_node() {
                    let down_ms = if self.rng.bool() { 0 } else { self.rng.u64(..30_000) };
                    self.break_link(&uid, down_ms, true);
                }
            }
            34 if self.mix.outages && self.now_ms > self.last_outage_ms + 120_000 => self.break_store(),
            35..38 if self.mix.backend_fails => {
                let proxy = self.rng.usize(..usize::from(PROXIES));
                let down_ms = if self.rng.bool() { self.rng.u64(..2_000) } else { self.rng.u64(..60_000) };
                self.note(|| format!("backend {proxy} fails for {down_ms}"));
                self.backend_down_until_ms[proxy] = self.now_ms + down_ms;
            }
            _ => {}
        }
    }

    pub(crate) fn any_node(&mut self) -> Option<String> {
        let uids: Vec<String> =
            self.nodes.iter().filter(|(_, node)| !node.is_stopping).map(|(uid, _)| uid.clone()).collect();
        self.rng.choice(uids)
    }

    pub(crate) fn join(&mut self) {
        let Some(uid) = self.any_node() else { return };
        self.next_id += 1;
        let (channel, client) = (format!("c{}", self.rng.u32(..CHANNELS)), format!("k{}", self.next_id));
        self.note(|| format!("{uid}: {client} joins {channel}"));
        let renew_ms = self.now_ms + self.rng.u64(1_000..RENEW_MS + 1_000);
        let node = self.nodes.get_mut(&uid).expect("alive");
        node.clients.insert((channel.clone(), client.clone()), Client { renew_ms, is_in: false });
        self.send(&uid, Command::Enter(partition_of(&channel), channel, client));
    }

    pub(crate) fn leave(&mut self) {
        let Some(uid) = self.any_node() else { return };
        let keys: Vec<_> = self.nodes[&uid].clients.keys().cloned().collect();
        let Some((channel, client)) = self.rng.choice(keys) else { return };
        self.note(|| format!("{uid}: {client} leaves {channel}"));
        self.nodes.get_mut(&uid).expect("alive").clients.remove(&(channel.clone(), client.clone()));
        self.send(&uid, Command::Exit(partition_of(&channel), channel, client));
    }

    pub(crate) fn start_node(&mut self) {
        self.next_id += 1;
        let (uid, seed) = (format!("n{}", self.next_id), self.rng.u64(..));
        self.note(|| format!("{uid} starts"));
        self.nodes.insert(uid.clone(), Node::new(&uid, seed, self.now_ms));
        self.spread_rumour(..2_000);
    }

    pub(crate) fn stop_node(&mut self) {
        let Some(uid) = self.any_node() else { return };
        self.note(|| format!("{uid} stops"));
        let node = self.nodes.get_mut(&uid).expect("alive");
        node.is_stopping = true;
        let clients: Vec<_> = std::mem::take(&mut node.clients).into_keys().collect();
        let clock_ms = node.clock_ms(self.now_ms);
        for (channel, client) in clients {
            self.send(&uid, Command::Exit(partition_of(&channel), channel, client));
        }
        self.nodes.get_mut(&uid).expect("alive").workers.stop(clock_ms);
        self.spread_rumour(..500);
    }

    pub(crate) fn kill_node(&mut self) {
        let Some(uid) = self.any_node() else { return };
        self.note(|| format!("{uid} dies"));
        let mut node = self.nodes.remove(&uid).expect("alive");
        node.link.break_off(self.now_ms, &mut self.rng);
        for (_, command) in node.link.zombies {
            self.carry_out(&uid, command);
        }
        self.deliveries.retain(|delivery| delivery.node != uid || delivery.arrives_ms.is_some());
        self.spread_rumour(7_000..16_000);
    }

    pub(crate) fn spread_rumour(&mut self, after_ms: impl std::ops::RangeBounds<u64> + Clone) {
        let count = self.nodes.values().filter(|node| !node.is_stopping).count() as u32;
        let uids: Vec<String> = self.nodes.keys().cloned().collect();
        for uid in uids {
            let at_ms = self.now_ms + self.rng.u64(after_ms.clone());
            self.rumours.push((at_ms, uid, count));
        }
    }

    pub(crate) fn break_store(&mut self) {
        let down_ms = match self.rng.u32(..3) {
            0 => self.rng.u64(..10_000),
            1 => self.rng.u64(..30_000),
            _ => self.rng.u64(60_000..100_000),
        };
        self.note(|| format!("store down for {down_ms}"));
        self.last_outage_ms = self.now_ms + down_ms;
        self.store_down_until_ms = self.now_ms + down_ms;
        let uids: Vec<String> = self.nodes.keys().cloned().collect();
        for uid in uids {
            self.break_link(&uid, down_ms, false);
        }
    }

    pub(crate) fn break_link(&mut self, uid: &str, down_ms: u64, is_own: bool) {
        self.note(|| format!("{uid}: link breaks for {down_ms}"));
        let node = self.nodes.get_mut(uid).expect("alive");
        let failed = node.link.break_off(self.now_ms, &mut self.rng);
        // What was on its way to a store that is down is lost.
        if !is_own {
            node.link.zombies.clear();
        }
        node.link.down_until_ms = node.link.down_until_ms.max(self.now_ms + down_ms);
        if is_own {
            node.cut_off_ms = Some(self.now_ms + down_ms);
        }
        let clock_ms = node.clock_ms(self.now_ms);
        for ticket in failed {
            node.workers.answered(ticket, StateReply::Failed, clock_ms, &mut node.effects);
        }
        self.carry_effects(uid);
    }
}
