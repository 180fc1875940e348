//! The events of one partition for one backend: read in batches, told, removed, one batch after another.
//!
//! What the backend did not take is told again, the same events, until it does; meanwhile nothing behind them is. A batch
//! whose removal is not known to have succeeded is removed again and not told again.

use crate::backend::StateEvent;
use crate::limits::{STATE_RETRY_MAX_MS, STATE_RETRY_MIN_MS};
use crate::state_store::{EventId, QueuedEvent};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    stage: Stage,
    /// Older readings may hold what has been removed since.
    read_after: u64,
    /// When the oldest event was queued, and the time of the store at the latest reading.
    lag: Option<Lag>,
}

#[derive(Debug, Default)]
enum Stage {
    /// Nothing is known to wait.
    #[default]
    Idle,
    /// To be told, after `at_ms`, as soon as there is room.
    Ready { batch: Batch, at_ms: u64, failures: u32 },
    /// The backend has it before it.
    Telling { batch: Batch, number: u64, failures: u32 },
    /// The backend has taken it. `asked` = its removal is under way.
    Told { ids: Vec<EventId>, at_ms: u64, asked: bool },
}

#[derive(Debug)]
struct Batch {
    ids: Vec<EventId>,
    events: Vec<StateEvent>,
}

#[derive(Debug)]
struct Lag {
    oldest_ms: u64,
    /// Of the store and of this node, at the same moment.
    store_ms: u64,
    read_ms: u64,
}

/// What a queue needs next.
#[derive(Debug, PartialEq)]
pub(super) enum Need {
    /// Nothing before this time.
    Wait(u64),
    /// Permission to tell a batch.
    Tell,
    /// These removed.
    Remove,
}

impl Queue {
    /// A batch is under way; what else waits need not be read.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.stage, Stage::Idle)
    }

    /// The backend or the store has something of it before it.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.stage, Stage::Telling { .. } | Stage::Told { .. })
    }

    /// The store was read by the call with this ticket. `true` = there is a batch.
    pub(super) fn read(&mut self, ticket: u64, queued: Vec<QueuedEvent>, store_ms: u64, now_ms: u64) -> bool {
        if self.is_busy() || ticket < self.read_after {
            return false;
        }
        let oldest_ms = queued.iter().find_map(|queued| queued.event.as_ref()).map(|event| event.time_ms);
        self.lag = oldest_ms.map(|oldest_ms| Lag { oldest_ms, store_ms, read_ms: now_ms });
        if queued.is_empty() {
            return false;
        }
        let mut batch = Batch { ids: Vec::with_capacity(queued.len()), events: Vec::with_capacity(queued.len()) };
        for QueuedEvent { id, event } in queued {
            batch.ids.push(id);
            batch.events.extend(event);
        }
        self.stage = match batch.events.is_empty() {
            true => Stage::Told { ids: batch.ids, at_ms: now_ms, asked: false },
            false => Stage::Ready { batch, at_ms: now_ms, failures: 0 },
        };
        true
    }

    pub(super) fn need(&self, now_ms: u64) -> Need {
        match &self.stage {
            Stage::Ready { at_ms, .. } if now_ms >= *at_ms => Need::Tell,
            Stage::Told { at_ms, asked: false, .. } if now_ms >= *at_ms => Need::Remove,
            Stage::Ready { at_ms, .. } | Stage::Told { at_ms, asked: false, .. } => Need::Wait(*at_ms),
            Stage::Idle | Stage::Telling { .. } | Stage::Told { .. } => Need::Wait(u64::MAX),
        }
    }

    /// Permission for [`Need::Tell`]: what to tell.
    pub(super) fn tell(&mut self, number: u64) -> Vec<StateEvent> {
        match std::mem::take(&mut self.stage) {
            Stage::Ready { batch, failures, .. } => {
                let events = batch.events.clone();
                self.stage = Stage::Telling { batch, number, failures };
                events
            }
            other => {
                self.stage = other;
                Vec::new()
            }
        }
    }

    /// What came of telling. `None` = nobody waits for that. Else the number of events, by kind: occupied, vacated.
    pub(super) fn told(&mut self, number: u64, ok: bool, now_ms: u64, draw: f64) -> Option<[u64; 2]> {
        match std::mem::take(&mut self.stage) {
            Stage::Telling { batch, number: own, failures } if own == number => {
                let vacated = batch.events.iter().filter(|event| event.kind.is_vacated()).count() as u64;
                let counts = [batch.events.len() as u64 - vacated, vacated];
                self.stage = match ok {
                    true => Stage::Told { ids: batch.ids, at_ms: now_ms, asked: false },
                    false => {
                        let at_ms = now_ms + retry_delay_ms(failures, draw);
                        Stage::Ready { batch, at_ms, failures: failures.saturating_add(1) }
                    }
                };
                Some(counts)
            }
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// For [`Need::Remove`]: what to remove.
    pub(super) fn remove(&mut self) -> Vec<EventId> {
        match &mut self.stage {
            Stage::Told { ids, asked, .. } => {
                *asked = true;
                ids.clone()
            }
            _ => Vec::new(),
        }
    }

    /// What came of removing; calls from `next_ticket` on see it. How many are gone.
    pub(super) fn removed(&mut self, ok: bool, next_ticket: u64, now_ms: u64) -> usize {
        let Stage::Told { ids, at_ms, asked } = &mut self.stage else { return 0 };
        if !ok {
            *asked = false;
            *at_ms = now_ms + STATE_RETRY_MIN_MS;
            return 0;
        }
        let gone = ids.len();
        self.stage = Stage::Idle;
        self.read_after = next_ticket;
        self.lag = None;
        gone
    }

    /// Age of the oldest event; 0 = none waits.
    pub(super) fn lag_ms(&self, now_ms: u64) -> u64 {
        self.lag
            .as_ref()
            .map_or(0, |lag| (lag.store_ms + now_ms.saturating_sub(lag.read_ms)).saturating_sub(lag.oldest_ms))
    }
}

/// How long to wait after so many failures before this one: doubling, up to a tenth longer by `draw` (0 to 1), so that the
/// queues of all partitions do not come back together.
fn retry_delay_ms(failures: u32, draw: f64) -> u64 {
    let delay_ms = STATE_RETRY_MIN_MS.saturating_mul(1 << failures.min(16));
    let delay_ms = delay_ms.min(STATE_RETRY_MAX_MS);
    (delay_ms + (delay_ms as f64 * draw / 10.0) as u64).min(STATE_RETRY_MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::StateEventKind;

    fn queued(id: u64, kind: StateEventKind) -> QueuedEvent {
        QueuedEvent { id: EventId(id, 0), event: Some(StateEvent { time_ms: 1_000, channel: "c".into(), kind }) }
    }

    /// A backend that is down would be hammered, or left alone for ever.
    #[test]
    fn waits_double_up_to_a_bound() {
        let waits: Vec<u64> = (0..10).map(|failures| retry_delay_ms(failures, 0.0)).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 20_000, 20_000]);
        assert_eq!(retry_delay_ms(0, 1.0), 110);
        assert_eq!(retry_delay_ms(u32::MAX, 1.0), 20_000);
    }

    /// Events would be told twice without need, in another order, or lost.
    #[test]
    fn a_batch_is_told_until_it_is_taken_and_removed_until_it_is_gone() {
        let mut queue = Queue::default();
        let batch = vec![queued(1, StateEventKind::Occupied), queued(2, StateEventKind::Vacated)];
        assert!(queue.read(1, batch.clone(), 5_000, 10));
        assert_eq!((queue.need(10), queue.lag_ms(20)), (Need::Tell, 4_010));
        let events = queue.tell(7);
        assert_eq!(events.len(), 2);
        assert_eq!(queue.told(6, true, 11, 0.0), None, "another delivery's answer");
        assert_eq!(queue.told(7, false, 11, 0.0), Some([1, 1]));
        assert_eq!(queue.need(11), Need::Wait(111));
        assert!(!queue.read(2, vec![queued(3, StateEventKind::Occupied)], 5_000, 11), "nothing passes it");
        assert_eq!(queue.tell(8), events, "the same batch");
        assert_eq!(queue.told(8, true, 120, 0.0), Some([1, 1]));
        assert_eq!((queue.need(120), queue.remove().len()), (Need::Remove, 2));
        assert_eq!(queue.removed(false, 20, 130), 0);
        assert_eq!(queue.need(130), Need::Wait(230));
        assert_eq!(queue.remove().len(), 2);
        assert_eq!(queue.removed(true, 20, 240), 2);
        assert_eq!((queue.need(240), queue.lag_ms(250)), (Need::Wait(u64::MAX), 0));
        assert!(!queue.read(19, batch.clone(), 5_000, 241), "read before they were removed");
        assert!(queue.read(20, batch, 5_000, 241));
    }

    /// One entry of somebody else's making would stop the queue for ever.
    #[test]
    fn unknown_events_are_removed_untold() {
        let mut queue = Queue::default();
        assert!(queue.read(1, vec![QueuedEvent { id: EventId(1, 0), event: None }], 5_000, 10));
        assert_eq!(queue.need(10), Need::Remove);
    }
}
