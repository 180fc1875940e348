//! Presence without a store: entries of this node's own members, for a node whose presence manager is `memory` while its
//! broker is not. They need no time to live: whoever leaves is taken out, and the process takes all with it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use gyre_engine::{ClientId, StoreReply};
use gyre_proto::client::ClientInfo;

/// On a core's thread: of the channels whose home it is.
#[derive(Default)]
pub(super) struct Members(HashMap<Box<str>, HashMap<ClientId, Arc<ClientInfo>>>);

impl Members {
    pub(super) fn enter(&mut self, channel: &str, client: ClientId, info: &ClientInfo) {
        match self.0.get_mut(channel) {
            Some(members) => members.insert(client, Arc::new(info.clone())),
            None => self.0.entry(channel.into()).or_default().insert(client, Arc::new(info.clone())),
        };
    }

    pub(super) fn exit(&mut self, channel: &str, client: ClientId) {
        if let Some(members) = self.0.get_mut(channel) {
            members.remove(&client);
            if members.is_empty() {
                self.0.remove(channel);
            }
        }
    }

    pub(super) fn all(&self, channel: &str) -> StoreReply {
        let members = self.0.get(channel).into_iter().flatten();
        StoreReply::Members(members.map(|(client, info)| (*client, Arc::clone(info))).collect())
    }

    pub(super) fn counts(&self, channel: &str) -> StoreReply {
        let members = self.0.get(channel);
        let users: HashSet<&str> = members.into_iter().flatten().map(|(_, info)| &*info.user).collect();
        StoreReply::Counts(members.map_or(0, |members| members.len() as u32), users.len() as u32)
    }
}
