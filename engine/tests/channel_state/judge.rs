//! What the backends were told, against what was queued.

use std::collections::BTreeMap;

use gyre_engine::backend::{StateEvent, StateEventKind};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    channels: BTreeMap<String, Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// Times of events that were queued.
    queued: Vec<u64>,
    /// Each once, as it first came.
    told: Vec<StateEvent>,
    /// A full queue took no more.
    dropped: u64,
}

impl Judge {
    pub(crate) fn queued(&mut self, channel: &str, now_ms: u64) {
        self.channels.entry(channel.to_owned()).or_default().queued.push(now_ms);
    }

    pub(crate) fn dropped(&mut self, channel: &str, is_dropped: bool) {
        self.channels.entry(channel.to_owned()).or_default().dropped += u64::from(is_dropped);
    }

    pub(crate) fn told(&mut self, events: &[StateEvent]) {
        for event in events {
            let known = self.channels.get_mut(&*event.channel).expect("something was queued");
            if known.told.contains(event) {
                continue;
            }
            if let Some(last) = known.told.last() {
                assert!(last.time_ms <= event.time_ms, "{}: {event:?} after {last:?}", event.channel);
                assert!(last.kind != event.kind || known.dropped > 0, "{}: {event:?} after {last:?}", event.channel);
            } else if known.dropped == 0 {
                assert_eq!(event.kind, StateEventKind::Occupied, "{}: the first of all", event.channel);
            }
            known.told.push(event.clone());
        }
    }

    /// Nothing is left to be told.
    pub(crate) fn rest(&self, occupied: &[String]) {
        for (channel, known) in &self.channels {
            let told: Vec<u64> = known.told.iter().map(|event| event.time_ms).collect();
            assert_eq!(told, known.queued, "{channel}: what was told and what was queued");
            let last = known.told.last().map(|event| event.kind);
            let is_occupied = occupied.contains(channel);
            assert!(
                known.dropped > 0 || (last == Some(StateEventKind::Occupied)) == is_occupied,
                "{channel}: {last:?} is the last, and there are clients: {is_occupied}"
            );
        }
    }
}
