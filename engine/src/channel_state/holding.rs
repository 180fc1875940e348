//! How partitions become this node's and stop being it.

use super::effects::{AskWhat, Effect};
use super::partition::Partition;
use super::{What, Workers};
use crate::limits::{STATE_LEASE_MS, STATE_LEASE_TRUST_MS};
use crate::state_store::StateReply;

impl Workers {
    pub(super) fn take_answered(&mut self, number: u32, reply: &StateReply, sent_ms: u64, now_ms: u64) {
        let partition = &mut self.partitions[number as usize];
        match *reply {
            StateReply::Lease { is_held: true, .. } if now_ms < sent_ms + STATE_LEASE_TRUST_MS => {
                self.leases.taken(number);
                partition.taken(sent_ms, now_ms);
                partition.gives_back = self.stops_since_ms.is_some();
            }
            StateReply::Lease { is_held: false, left_ms, .. } => {
                self.leases.left(number);
                partition.not_taken(left_ms, now_ms, &mut self.rng);
            }
            _ => {
                self.leases.left(number);
                partition.not_taken(STATE_LEASE_MS, now_ms, &mut self.rng);
            }
        }
    }

    pub(super) fn release(&mut self, number: u32, now_ms: u64, out: &mut Vec<Effect>) {
        self.ask(number, now_ms, What::Release, AskWhat::Release, out);
        self.leave(number, now_ms);
        self.partitions[number as usize].given_back(now_ms);
    }

    pub(super) fn give_one_back(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        let leases = &self.leases;
        let may_go = |(partition, number): &(&Partition, u32)| {
            partition.is_mine() && !partition.gives_back && !leases.is_kept(*number)
        };
        let own: Vec<u32> = self.partitions.iter().zip(0..).filter(may_go).map(|(_, number)| number).collect();
        if let Some(number) = self.rng.choice(own) {
            self.partitions[number as usize].gives_back = true;
            self.leases.gives_back(number);
            self.visit(number, now_ms, out);
        }
    }

    /// Has the lease no more.
    pub(super) fn leave(&mut self, number: u32, now_ms: u64) {
        self.leases.left(number);
        self.last += 1;
        let partition = &mut self.partitions[number as usize];
        partition.leave(self.last, now_ms, &mut self.rng);
        partition.token = format!("{}.{}", self.node_uid, self.last).into();
    }

    /// Once for all partitions: they go together.
    pub(super) fn log_grace(&self, partition: u32) {
        if self.partitions.iter().filter(|partition| partition.is_in_grace()).count() == 1 {
            tracing::info!(
                partition,
                grace_ms = self.grace_ms,
                "channel state was not looked after for a while; nothing expires until clients had time to come back"
            );
        }
    }
}
