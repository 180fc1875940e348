//! The node's own members: their presence entries are renewed well before they run out, spread over the interval, and
//! taken out when they leave. Those of a node that died run out by themselves.

use gyre_proto::client::ClientInfo;

use super::roster::{Member, Roster};
use super::{Remote, UnsubscribeCall};
use crate::outlet::Outlet;
use crate::session::ClientId;
use crate::store::StoreCall;

/// Where the round through all members stands.
#[derive(Debug, Default)]
pub(super) struct Refresh {
    last_ms: u64,
    /// Index of the channel that is next.
    cursor: u32,
    /// Members of that channel that were renewed in this round. As they are in no order, some may be passed over once when
    /// others come meanwhile; entries live for two rounds.
    renewed: usize,
    /// Renewals that are due, times the interval in ms.
    owed: u64,
    /// Members of all channels.
    members: u64,
}

/// Between two slices of the round, at least.
const SLICE_MS: u64 = 1000;

/// A slice looks at no more than so many times its share of the channels, since most may have no members; and at so many
/// in any case, which takes some microseconds.
const LOOKS_FACTOR: u64 = 4;
const LOOKS_MIN: u64 = 1024;

impl Remote {
    pub(super) fn add_member(&mut self, name: &str, client: ClientId, info: &ClientInfo) {
        let Some(id) = self.channels.find(name) else { return };
        let is_new = Roster::enter(&mut self.channels[id].members, client, Member::new(info), &self.hasher);
        self.refresh.members += u64::from(is_new);
    }

    /// A member has other info from now on.
    pub(super) fn renew(&mut self, name: &str, client: ClientId, info: &ClientInfo, out: &mut dyn Outlet) {
        let Some(id) = self.channels.find(name) else { return };
        let members = &mut self.channels[id].members;
        if members.as_ref().is_some_and(|members| members.has(client)) {
            Roster::enter(members, client, Member::new(info), &self.hasher);
            self.tell(name, StoreCall::Enter(client, info, self.layout(name)), out);
        }
    }

    /// A subscriber has gone, or will not come after all.
    pub(super) fn leave(&mut self, name: &str, call: UnsubscribeCall, out: &mut dyn Outlet) {
        let Some(id) = self.channels.find(name) else { return };
        if let Some(client) = call.client {
            self.turn_away(id, client);
        }
        let Some(id) = self.channels.find(name) else { return };
        let channel = &mut self.channels[id];
        if let Some(client) = call.client
            && let Some(member) = Roster::leave(&mut channel.members, client)
        {
            self.refresh.members -= 1;
            self.tell(name, StoreCall::Exit(client, &member.user, self.layout(name)), out);
        }
        if let Some(info) = call.leave {
            self.tell(name, StoreCall::Leave(&info), out);
        }
        if let Some((core, encoding)) = call.lost_interest {
            let channel = &mut self.channels[id];
            let was_interesting = !channel.interest.masks().is_empty();
            channel.interest.remove(core, encoding);
            if was_interesting && channel.interest.masks().is_empty() {
                self.interesting -= 1;
                self.linger(id);
            }
        }
        self.trim(id);
    }

    /// A slice of the round that renews every entry once per `interval_ms`: as many in each slice, whether they are in one
    /// channel or in thousands.
    pub(super) fn refresh_members(&mut self, interval_ms: u64, out: &mut dyn Outlet) {
        let elapsed_ms = self.now_ms - self.refresh.last_ms;
        if elapsed_ms < SLICE_MS {
            return;
        }
        self.refresh.last_ms = self.now_ms;
        let bound = self.channels.bound();
        let interval_ms = interval_ms.max(SLICE_MS);
        // By the time that has passed: a core that was held up makes good for it.
        let elapsed_ms = elapsed_ms.min(interval_ms);
        let all = self.refresh.members * interval_ms;
        self.refresh.owed = (self.refresh.owed + self.refresh.members * elapsed_ms).min(all);
        let mut due = (self.refresh.owed / interval_ms) as usize;
        self.refresh.owed -= due as u64 * interval_ms;
        let looks = (u64::from(bound) * elapsed_ms * LOOKS_FACTOR).div_ceil(interval_ms).max(LOOKS_MIN);
        for _ in 0..looks.min(u64::from(bound)) {
            if due == 0 {
                break;
            }
            if self.refresh.cursor >= bound {
                (self.refresh.cursor, self.refresh.renewed) = (0, 0);
            }
            let channel = self.channels.get(self.refresh.cursor);
            if let Some((channel, members)) = channel.and_then(|channel| Some((channel, channel.members.as_ref()?))) {
                let layout = self.layout(&channel.name);
                members.each(self.refresh.renewed, due, |client, info| {
                    let ticket = self.next_ticket;
                    self.next_ticket += 1;
                    // Not taken: the next round tries again, and entries live for more than one.
                    out.store(ticket, &channel.name, StoreCall::Enter(client, info, layout));
                    self.refresh.renewed += 1;
                    due -= 1;
                });
                if self.refresh.renewed < members.len() {
                    continue;
                }
            }
            self.refresh.cursor += 1;
            self.refresh.renewed = 0;
        }
        self.refresh.owed += due as u64 * interval_ms;
    }
}
