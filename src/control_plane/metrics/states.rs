//! Channel state on the metrics page: what was queued and told, and how long backends are behind.

use super::Page;
use crate::data_plane::{Snapshot, StoreStats};

/// Nothing unless some core carries the workers.
pub(super) fn states(page: &mut Page, cores: &[&Snapshot]) {
    let Some(states) = cores.iter().find_map(|core| core.states.as_ref()) else { return };
    let stats = &states.stats;
    let sum = |of: fn(&StoreStats) -> u64| cores.iter().filter_map(|core| core.store.as_ref()).map(of).sum::<u64>();

    let name = "centrifugo_channel_state_events_queue_consuming_lag_milliseconds";
    page.family(name, "gauge", "Age of the oldest event that waits, in partitions of this node.");
    for (backend, partition, lag_ms) in &states.lags {
        page.sample(name, &[("name", backend), ("partition", &partition.to_string())], *lag_ms);
    }
    let name = "gyre_channel_state_events_total";
    page.family(name, "counter", "Changes of channels, and what became of their events.");
    for (kind, outcome, value) in [
        ("occupied", "appended", sum(|s| s.state_appended)),
        ("occupied", "cancelled", sum(|s| s.state_cancelled)),
        ("occupied", "delivered", stats.delivered[0]),
        ("vacated", "appended", stats.vacated),
        ("vacated", "delivered", stats.delivered[1]),
    ] {
        page.sample(name, &[("type", kind), ("outcome", outcome)], value);
    }
    let name = "gyre_channel_state_events_dropped_total";
    page.family(name, "counter", "Events that there was no room for in their queue.");
    for (kind, value) in [("occupied", sum(|s| s.state_dropped)), ("vacated", stats.dropped)] {
        page.sample(name, &[("type", kind)], value);
    }
    let help = "Batches of channel state events that their backend did not take; they are sent again.";
    page.single("gyre_channel_state_deliveries_failed_total", "counter", help, stats.failed);
    let help = "Partitions of channel state that this node looks after.";
    page.single("gyre_channel_state_partitions", "gauge", help, stats.held as u64);
    let help = "Those of them in which nothing expires for a while, after an outage.";
    page.single("gyre_channel_state_partitions_in_grace", "gauge", help, stats.in_grace as u64);
    let help = "Partitions of channel state that this node lost.";
    page.single("gyre_channel_state_leases_lost_total", "counter", help, stats.lost);
}
