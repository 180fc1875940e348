//! Running totals of one core: plain integers, summed over the cores when somebody looks.

use std::collections::BTreeMap;

use crate::message::HomeCall;

/// See the module. Names follow the Prometheus series that they feed (observability.md 2.1-2.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sessions that passed `connect`; a gauge.
    pub connected: u64,
    /// Sessions that passed `connect` so far.
    pub connects: u64,
    /// Subscriptions made.
    pub subscribes: u64,
    /// Subscriptions ended by the client.
    pub unsubscribes: u64,
    /// Recoveries that proved continuity.
    pub recovered: u64,
    /// Those of them that brought publications.
    pub recovered_publications: u64,
    /// Recoveries that could not.
    pub unrecovered: u64,
    /// Recoveries in cache mode, successful or not.
    pub cache_recoveries: u64,
    /// Publications on channels whose home is this core, as all calls below.
    pub publishes: u64,
    /// Joins told.
    pub joins: u64,
    /// Leaves told.
    pub leaves: u64,
    /// History pages read.
    pub histories: u64,
    /// Histories removed.
    pub history_removes: u64,
    /// Presence lists read.
    pub presences: u64,
    /// Presence sizes read.
    pub presence_stats: u64,
    /// Members added to presence.
    pub presence_adds: u64,
    /// Members removed from presence.
    pub presence_removes: u64,
    /// Held positions compared with the top.
    pub position_checks: u64,
    /// Prepared pushes that reached this core.
    pub deliveries_received: u64,
    /// Pushes to single subscribers that came of them.
    pub deliveries_sent: u64,
    /// Commands answered with an error.
    pub reply_errors: u64,
    /// Disconnects by the server, by code.
    pub disconnects: BTreeMap<u32, u64>,
}

impl Counters {
    pub(crate) fn count_disconnect(&mut self, code: u32) {
        *self.disconnects.entry(code).or_default() += 1;
    }

    pub(crate) fn count_call(&mut self, call: &HomeCall) {
        match call {
            HomeCall::Subscribe(call) => self.presence_adds += u64::from(call.member.is_some()),
            HomeCall::Unsubscribe(call) => {
                self.presence_removes += u64::from(call.client.is_some());
                self.leaves += u64::from(call.leave.is_some());
            }
            HomeCall::Join(_) => self.joins += 1,
            HomeCall::Renew(..) => {}
            HomeCall::Publish(_) => self.publishes += 1,
            HomeCall::History(_) => self.histories += 1,
            HomeCall::HistoryRemove => self.history_removes += 1,
            HomeCall::Presence => self.presences += 1,
            HomeCall::PresenceStats => self.presence_stats += 1,
            HomeCall::CheckPosition { .. } => self.position_checks += 1,
        }
    }
}
