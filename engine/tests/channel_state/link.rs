//! A node's connection to the store: commands arrive in order and late, answers as well. When it breaks, whoever waits is told
//! so, and what was on its way may still be carried out.

use std::collections::VecDeque;

use fastrand::Rng;
use gyre_engine::channel_state::Ask;

/// What goes over it.
#[derive(Debug)]
pub(crate) enum Command {
    Ask(Ask),
    /// Partition, channel, client.
    Enter(u32, String, String),
    Exit(u32, String, String),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Not carried out: when they arrive.
    pub(crate) on_the_way: VecDeque<(u64, Command)>,
    /// Answers: when they arrive.
    pub(crate) back: VecDeque<(u64, u64, gyre_engine::StateReply)>,
    /// Of connections that are gone; may still be carried out.
    pub(crate) zombies: VecDeque<(u64, Command)>,
    last_out_ms: u64,
    last_back_ms: u64,
    /// It does not connect before.
    pub(crate) down_until_ms: u64,
    /// Nothing is late any more.
    pub(crate) is_fast: bool,
}

impl Link {
    pub(crate) fn send(&mut self, command: Command, now_ms: u64, rng: &mut Rng) {
        self.last_out_ms = self.last_out_ms.max(now_ms + self.late_ms(rng));
        self.on_the_way.push_back((self.last_out_ms, command));
    }

    pub(crate) fn answer(&mut self, ticket: u64, reply: gyre_engine::StateReply, now_ms: u64, rng: &mut Rng) {
        self.last_back_ms = self.last_back_ms.max(now_ms + self.late_ms(rng));
        self.back.push_back((self.last_back_ms, ticket, reply));
    }

    /// The tickets that have failed with it.
    pub(crate) fn break_off(&mut self, now_ms: u64, rng: &mut Rng) -> Vec<u64> {
        let mut failed: Vec<u64> = self.back.drain(..).map(|(_, ticket, _)| ticket).collect();
        let late = rng.u64(..20_000);
        for (at_ms, command) in self.on_the_way.drain(..) {
            if let Command::Ask(ask) = &command {
                failed.push(ask.ticket);
            }
            if rng.bool() {
                self.zombies.push_back((at_ms.max(now_ms) + late, command));
            }
        }
        self.zombies.make_contiguous().sort_by_key(|(at_ms, _)| *at_ms);
        (self.last_out_ms, self.last_back_ms) = (0, 0);
        failed
    }

    fn late_ms(&self, rng: &mut Rng) -> u64 {
        match rng.u32(..100) {
            0 if !self.is_fast => rng.u64(..3_000),
            1..10 => rng.u64(..50),
            _ => rng.u64(..2),
        }
    }

    pub(crate) fn next_ms(&self) -> u64 {
        let first = |at_ms: Option<u64>| at_ms.unwrap_or(u64::MAX);
        let out_ms = first(self.on_the_way.front().map(|(at_ms, _)| *at_ms));
        let back_ms = first(self.back.front().map(|(at_ms, ..)| *at_ms));
        let zombie_ms = first(self.zombies.front().map(|(at_ms, _)| *at_ms));
        out_ms.min(back_ms).min(zombie_ms)
    }
}
