//! What simulated clients say, drawn at random.

use base64::Engine as _;
use gyre_proto::Encoding;

use crate::peer::{Key, Planned};
use crate::sim::Sim;
use crate::wire::{Say, Seen, Wishes};

impl Sim {
    pub(crate) fn say_connect(&mut self, key: Key) -> Say {
        let agent = self.conns[&key].agent;
        let mut plan: Vec<Planned> = Vec::new();
        if self.rng.u32(..3) == 0 && !self.agents[agent].user.is_empty() {
            for _ in 0..self.rng.usize(1..3) {
                let channel = self.any_channel();
                if plan.iter().all(|planned| planned.channel != channel) {
                    let seen = self.agents[agent].seen.get(&channel).cloned();
                    let recover = seen.filter(|_| self.rng.u32(..5) > 0);
                    plan.push(Planned { channel, recover, is_revoked: false });
                }
            }
        }
        let name = |channel: usize| self.model.channels[channel].name.clone();
        let known = plan.iter().filter_map(|p| Some((name(p.channel), p.recover.clone()?)));
        let subs: Vec<(String, Seen)> = known.collect();
        let names: Vec<String> = plan.iter().map(|p| format!("{:?}", name(p.channel))).collect();
        let claims = format!(r#"{{"sub":"{}","channels":[{}]}}"#, self.agents[agent].user, names.join(","));
        let base64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let token = match self.setup.rules.proxies.connect {
            Some(_) if self.rng.bool() => String::new(),
            _ => format!("{}.{}.AAAA", base64.encode(r#"{"alg":"HS256"}"#), base64.encode(claims)),
        };
        let conn = self.conns.get_mut(&key).expect("open");
        conn.plan = plan;
        (conn.has_said_connect, conn.is_admitted) = (true, !token.is_empty());
        Say::Connect { token, subs }
    }

    pub(crate) fn say_subscribe(&mut self, key: Key, channel: usize) -> Say {
        let seen = self.agents[self.conns[&key].agent].seen.get(&channel).cloned();
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
            reject: self.rng.u32(..4) == 0,
        };
        Say::Subscribe { channel: self.model.channels[channel].name.clone(), recover, wishes }
    }

    pub(crate) fn say_something(&mut self, key: Key) -> Say {
        let channel = self.any_channel();
        let name = self.model.channels[channel].name.clone();
        let has_it = self.conns[&key].subs.contains_key(&channel);
        match self.rng.u32(..100) {
            0..40 if !has_it || self.rng.u32(..10) == 0 => self.say_subscribe(key, channel),
            0..25 => Say::Unsubscribe(name),
            25..75 => {
                let is_json = self.conns[&key].encoding == Encoding::Json;
                let data = self.data(is_json);
                Say::Publish { channel: name, data }
            }
            75..88 => {
                let limit = self.rng.i32(-1..10);
                let seen = self.agents[self.conns[&key].agent].seen.get(&channel).cloned();
                let since = match self.rng.u32(..6) {
                    0 => Some((self.rng.u64(..20), String::new())),
                    1 => Some((self.rng.u64(..20), "abcdefgh".to_owned())),
                    2..4 => seen,
                    _ => None,
                };
                Say::History { channel: name, limit, since, reverse: self.rng.bool() }
            }
            88..93 => Say::Presence(name),
            93..98 => Say::PresenceStats(name),
            _ => Say::Rpc,
        }
    }

    pub(crate) fn data(&mut self, is_json: bool) -> String {
        self.next_n += 1;
        let is_odd = self.setup.is_binary && !is_json && self.rng.u32(..8) == 0;
        format!("{}{}", if is_odd { "!" } else { "" }, self.next_n)
    }
}
