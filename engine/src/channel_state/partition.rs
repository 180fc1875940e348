//! One partition, as this node stands to it.

use std::rc::Rc;

use fastrand::Rng;

use super::queue::{Need, Queue};
use crate::limits::{
    STATE_GIVEN_BACK_MS, STATE_LEASE_MS, STATE_LEASE_TRUST_MS, STATE_OVERDUE_MS, STATE_POLL_FAILED_MS,
    STATE_POLL_GROUPS, STATE_POLL_MS, STATE_SPACING_MS, STATE_TAKE_MS, STATE_TELL_WITHIN_MS, STATE_TICK_AGE_MAX_MS,
};
use crate::state_store::StateStep;

/// See the module.
pub(super) struct Partition {
    pub(super) stand: Stand,
    /// Answers to what was asked in another term are nobody's.
    pub(super) term: u64,
    /// Of the lease. A new one after each release: what was sent before must not release it again.
    pub(super) token: Rc<str>,
    pub(super) queues: Vec<Queue>,
    /// Channels being expired or vacated.
    pub(super) chores: usize,
    /// To be released as soon as nothing is under way.
    pub(super) gives_back: bool,
    /// Nobody could reach the store for a while: until then nothing expires.
    grace_until_ms: Option<u64>,
    /// When the last look that found events was sent.
    found_ms: u64,
}

pub(super) enum Stand {
    /// Somebody else's or nobody's.
    Away {
        /// To be taken if this node has less than its share.
        at_ms: u64,
        /// To be taken in any case, as nobody else seems to.
        overdue_ms: u64,
        /// An answer is awaited.
        asks: bool,
    },
    Mine {
        /// When the last step that succeeded was sent.
        renewed_ms: u64,
        poll_at_ms: u64,
        /// An answer is awaited.
        steps: bool,
    },
}

impl Partition {
    pub(super) fn new(queues: usize, token: Rc<str>, now_ms: u64, rng: &mut Rng) -> Self {
        // Nodes that start together hear of each other meanwhile.
        let at_ms = now_ms + rng.u64(200..500);
        Self {
            stand: Stand::Away { at_ms, overdue_ms: at_ms + STATE_LEASE_MS + STATE_OVERDUE_MS, asks: false },
            term: 0,
            token,
            queues: (0..queues).map(|_| Queue::default()).collect(),
            chores: 0,
            gives_back: false,
            grace_until_ms: None,
            found_ms: 0,
        }
    }

    pub(super) fn is_mine(&self) -> bool {
        matches!(self.stand, Stand::Mine { .. })
    }

    /// Whether the lease may be somebody else's by now.
    pub(super) fn has_run_out(&self, now_ms: u64) -> bool {
        matches!(self.stand, Stand::Mine { renewed_ms, .. } if now_ms >= renewed_ms + STATE_LEASE_TRUST_MS)
    }

    /// Whether a delivery may begin.
    pub(super) fn may_tell(&self, now_ms: u64) -> bool {
        let Stand::Mine { renewed_ms, .. } = self.stand else { return false };
        !self.gives_back && now_ms < renewed_ms + STATE_TELL_WITHIN_MS
    }

    /// Whether it is to be released, and nothing is under way.
    pub(super) fn may_be_released(&self) -> bool {
        self.gives_back && self.is_mine() && !self.queues.iter().any(Queue::is_under_way)
    }

    pub(super) fn may_step(&self, now_ms: u64) -> bool {
        matches!(self.stand, Stand::Mine { poll_at_ms, steps: false, .. } if now_ms >= poll_at_ms)
    }

    /// A step is sent; how old the last tick may be for it.
    pub(super) fn steps(&mut self, number: u32, now_ms: u64) -> Option<u64> {
        if let Stand::Mine { poll_at_ms, steps, .. } = &mut self.stand {
            *steps = true;
            *poll_at_ms = next_poll_ms(number, now_ms);
        }
        let is_over = self.grace_until_ms.is_some_and(|until_ms| now_ms >= until_ms);
        (!is_over).then_some(STATE_TICK_AGE_MAX_MS)
    }

    /// A step has succeeded.
    pub(super) fn stepped(&mut self, sent_ms: u64, is_any_age: bool, step: &StateStep, grace_ms: u64, now_ms: u64) {
        if let Stand::Mine { renewed_ms, steps, .. } = &mut self.stand {
            (*renewed_ms, *steps) = (sent_ms, false);
        }
        if step.events.iter().any(|(_, queued)| !queued.is_empty()) {
            self.found_ms = sent_ms;
        }
        // Without any tick it is the first one ever, or the data were lost: then nothing can have expired yet.
        let is_late = match step.ticked_ms {
            Some(ticked_ms) => step.now_ms.saturating_sub(ticked_ms) > STATE_TICK_AGE_MAX_MS,
            None => !step.expired.is_empty(),
        };
        if is_any_age {
            self.grace_until_ms = None;
        } else if is_late && self.grace_until_ms.is_none() {
            self.grace_until_ms = Some(now_ms.saturating_add(grace_ms));
        }
    }

    pub(super) fn is_in_grace(&self) -> bool {
        self.grace_until_ms.is_some()
    }

    pub(super) fn step_failed(&mut self, now_ms: u64) {
        if let Stand::Mine { poll_at_ms, steps, .. } = &mut self.stand {
            (*poll_at_ms, *steps) = (now_ms + STATE_POLL_FAILED_MS, false);
        }
    }

    /// Read it as soon as possible.
    pub(super) fn poll_soon(&mut self, now_ms: u64) {
        if let Stand::Mine { poll_at_ms, .. } = &mut self.stand {
            *poll_at_ms = now_ms;
        }
    }

    /// Something has come: read it at once after a while without events, otherwise so that several go together.
    pub(super) fn poll_spaced(&mut self, now_ms: u64) {
        if let Stand::Mine { poll_at_ms, .. } = &mut self.stand {
            *poll_at_ms = (*poll_at_ms).min(now_ms.max(self.found_ms + STATE_SPACING_MS));
        }
    }

    /// An attempt to take it is sent.
    pub(super) fn asks(&mut self) {
        if let Stand::Away { asks, .. } = &mut self.stand {
            *asks = true;
        }
    }

    /// It is this node's from now on.
    pub(super) fn taken(&mut self, sent_ms: u64, now_ms: u64) {
        self.stand = Stand::Mine { renewed_ms: sent_ms, poll_at_ms: now_ms, steps: false };
    }

    /// Somebody has it for so long, as far as is known.
    pub(super) fn not_taken(&mut self, left_ms: u64, now_ms: u64, rng: &mut Rng) {
        let at_ms = now_ms + STATE_TAKE_MS + rng.u64(..STATE_TAKE_MS / 2);
        let late_ms = STATE_OVERDUE_MS / 2 + rng.u64(..STATE_OVERDUE_MS / 2);
        let overdue_ms = now_ms + left_ms.min(STATE_LEASE_MS) + late_ms;
        self.stand = Stand::Away { at_ms, overdue_ms, asks: false };
    }

    /// This node has its share; look at that again later.
    pub(super) fn not_now(&mut self, now_ms: u64) {
        if let Stand::Away { at_ms, .. } = &mut self.stand {
            *at_ms = now_ms + STATE_TAKE_MS;
        }
    }

    /// The node stops.
    pub(super) fn never_again(&mut self) {
        self.stand = Stand::Away { at_ms: u64::MAX, overdue_ms: u64::MAX, asks: false };
    }

    /// There may be room for it.
    pub(super) fn try_soon(&mut self, now_ms: u64, rng: &mut Rng) {
        if let Stand::Away { at_ms, .. } = &mut self.stand {
            *at_ms = (*at_ms).min(now_ms + rng.u64(..STATE_TAKE_MS));
        }
    }

    /// Others get it first.
    pub(super) fn given_back(&mut self, now_ms: u64) {
        let at_ms = now_ms + STATE_GIVEN_BACK_MS;
        self.stand = Stand::Away { at_ms, overdue_ms: at_ms + STATE_GIVEN_BACK_MS, asks: false };
    }

    /// The lease is lost or given back: what was under way is nobody's business any more.
    pub(super) fn leave(&mut self, term: u64, now_ms: u64, rng: &mut Rng) {
        self.term = term;
        self.queues.iter_mut().for_each(|queue| *queue = Queue::default());
        (self.chores, self.gives_back, self.grace_until_ms) = (0, false, None);
        self.not_taken(STATE_LEASE_MS, now_ms, rng);
    }

    /// When there is something to do; `u64::MAX` = once something has come. What could be done by now waits for something
    /// else.
    pub(super) fn next_ms(&self, now_ms: u64) -> u64 {
        let (own_ms, queues) = match &self.stand {
            Stand::Away { at_ms, overdue_ms, asks: false } => (*at_ms.min(overdue_ms), &[][..]),
            Stand::Away { asks: true, .. } => (u64::MAX, &[][..]),
            Stand::Mine { renewed_ms, poll_at_ms, steps } => {
                let poll_at_ms = if *steps { u64::MAX } else { *poll_at_ms };
                (poll_at_ms.min(renewed_ms + STATE_LEASE_TRUST_MS), &self.queues[..])
            }
        };
        let of = |queue: &Queue| match queue.need(now_ms) {
            Need::Wait(at_ms) => at_ms,
            Need::Tell | Need::Remove => u64::MAX,
        };
        queues.iter().map(of).fold(own_ms, u64::min)
    }
}

/// Partitions are looked at in groups.
fn next_poll_ms(number: u32, now_ms: u64) -> u64 {
    let phase_ms = u64::from(number) % STATE_POLL_GROUPS * (STATE_POLL_MS / STATE_POLL_GROUPS);
    let behind_ms = (now_ms + STATE_POLL_MS - phase_ms) % STATE_POLL_MS;
    now_ms + STATE_POLL_MS - behind_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ProxyId;
    use crate::state_store::{EventId, QueuedEvent};

    /// Every partition would wake the core at a time of its own.
    #[test]
    fn polls_come_in_groups() {
        for number in 0..20 {
            let mut now_ms = 12_345;
            for _ in 0..10 {
                let next_ms = next_poll_ms(number, now_ms);
                assert!(next_ms > now_ms && next_ms <= now_ms + STATE_POLL_MS);
                assert_eq!(next_ms % STATE_POLL_MS, u64::from(number) % 5 * 50);
                now_ms = next_ms + 3;
            }
        }
    }

    /// A single event would wait, or each of many would cost a call of the backend.
    #[test]
    fn a_first_event_is_read_at_once_and_those_behind_it_together() {
        let mut partition = Partition::new(1, "token".into(), 0, &mut Rng::with_seed(7));
        partition.taken(1_000, 1_000);
        let mut look = |at_ms: u64, queued: Vec<QueuedEvent>| {
            partition.poll_spaced(at_ms);
            let may_step = [at_ms, at_ms + STATE_SPACING_MS].map(|now_ms| partition.may_step(now_ms));
            partition.steps(0, at_ms);
            let events = vec![(ProxyId(0), queued)];
            let step = StateStep { now_ms: at_ms, ticked_ms: Some(at_ms), expired: vec![], due: vec![], events };
            partition.stepped(at_ms, false, &step, 0, at_ms + 1);
            may_step
        };
        let event = || vec![QueuedEvent { id: EventId(1, 0), event: None }];
        assert_eq!(look(1_001, vec![]), [true, true]);
        assert_eq!(look(1_002, event()), [true, true], "the look before found nothing");
        assert_eq!(look(1_003, event()), [false, true]);
    }
}
