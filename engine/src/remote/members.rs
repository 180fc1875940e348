//! The node's own members: their presence entries are renewed well before they run out, spread over the interval, and
//! taken out when they leave. Those of a node that died run out by themselves.

use std::sync::Arc;

use gyre_proto::client::ClientInfo;
use hashbrown::HashMap;

use super::{Remote, UnsubscribeCall};
use crate::outlet::Outlet;
use crate::session::ClientId;
use crate::store::StoreCall;

/// Where the round through all channels stands.
#[derive(Debug, Default)]
pub(super) struct Refresh {
    last_ms: u64,
    /// Index of the channel that comes next.
    cursor: u32,
}

/// Between two slices of the round, at least.
const SLICE_MS: u64 = 1000;

impl Remote {
    pub(super) fn add_member(&mut self, name: &str, client: ClientId, info: Arc<ClientInfo>) {
        let Some(id) = self.channels.find(name) else { return };
        let hasher = &self.hasher;
        let members = &mut self.channels[id].members;
        members.get_or_insert_with(|| Box::new(HashMap::with_hasher(hasher.clone()))).insert(client, info);
    }

    /// A member has other info from now on.
    pub(super) fn renew(&mut self, name: &str, client: ClientId, info: Arc<ClientInfo>, out: &mut dyn Outlet) {
        let Some(id) = self.channels.find(name) else { return };
        let known = self.channels[id].members.as_mut().and_then(|members| members.get_mut(&client));
        let Some(known) = known else { return };
        *known = Arc::clone(&info);
        self.tell(name, StoreCall::Enter(client, &info), out);
    }

    /// A subscriber has gone, or will not come after all.
    pub(super) fn leave(&mut self, name: &str, call: UnsubscribeCall, out: &mut dyn Outlet) {
        let Some(id) = self.channels.find(name) else { return };
        if let Some(client) = call.client {
            self.turn_away(id, client);
        }
        let Some(id) = self.channels.find(name) else { return };
        let channel = &mut self.channels[id];
        if let (Some(client), Some(members)) = (call.client, &mut channel.members)
            && let Some(info) = members.remove(&client)
        {
            channel.members.take_if(|members| members.is_empty());
            self.tell(name, StoreCall::Exit(client, &info.user), out);
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

    /// A slice of the round that renews every entry once per `interval_ms`.
    pub(super) fn refresh_members(&mut self, interval_ms: u64, out: &mut dyn Outlet) {
        let elapsed_ms = self.now_ms - self.refresh.last_ms;
        if elapsed_ms < SLICE_MS {
            return;
        }
        self.refresh.last_ms = self.now_ms;
        let bound = self.channels.bound();
        // By the time that has passed: a core that was held up makes good for it.
        let interval_ms = interval_ms.max(SLICE_MS);
        let slice = (u64::from(bound) * elapsed_ms.min(interval_ms)).div_ceil(interval_ms) as u32;
        for _ in 0..slice {
            let at = if self.refresh.cursor < bound { self.refresh.cursor } else { 0 };
            self.refresh.cursor = at + 1;
            let Some(channel) = self.channels.get(at) else { continue };
            let Some(members) = &channel.members else { continue };
            for (client, info) in members.iter() {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                // Not taken: the next round tries again, and entries live for more than one.
                out.store(ticket, &channel.name, StoreCall::Enter(*client, info));
            }
        }
    }
}
