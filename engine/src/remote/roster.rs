//! The node's own members of one channel, as small as they can be kept: there are as many as subscriptions, most channels
//! of presence have one, and all that is ever done with them is to renew their entries.
//!
//! On the channel's home core. Nothing here talks to the store.

use bytes::Bytes;
use foldhash::fast::FixedState;
use gyre_proto::client::ClientInfo;
use hashbrown::HashMap;
use smallvec::{SmallVec, smallvec};

use crate::session::ClientId;

/// Looked through from one end up to so many; a table is twice as large.
const FEW: usize = 8;

/// Never empty.
#[derive(Debug)]
pub(super) enum Roster {
    Few(SmallVec<[(ClientId, Member); 1]>),
    Many(HashMap<ClientId, Member, FixedState>),
}

/// A [`ClientInfo`] without the id, which is written out from the key: 48 bytes instead of 112 and a text of 36.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) user: Box<str>,
    conn_info: Box<[u8]>,
    chan_info: Box<[u8]>,
}

impl Member {
    pub(super) fn new(info: &ClientInfo) -> Self {
        Self { user: (*info.user).into(), conn_info: (*info.conn_info).into(), chan_info: (*info.chan_info).into() }
    }

    fn info(&self, client: ClientId) -> ClientInfo {
        ClientInfo {
            user: self.user.to_string(),
            client: client.to_string(),
            conn_info: Bytes::copy_from_slice(&self.conn_info),
            chan_info: Bytes::copy_from_slice(&self.chan_info),
        }
    }
}

impl Roster {
    /// Adds a member, or what is known of it is replaced. Whether it is new.
    pub(super) fn enter(slot: &mut Option<Box<Self>>, client: ClientId, member: Member, hasher: &FixedState) -> bool {
        match slot.as_deref_mut() {
            None => *slot = Some(Box::new(Self::Few(smallvec![(client, member)]))),
            Some(Self::Many(all)) => return all.insert(client, member).is_none(),
            Some(roster @ Self::Few(_)) => {
                let Self::Few(few) = roster else { return false };
                if let Some((_, known)) = few.iter_mut().find(|(known, _)| *known == client) {
                    *known = member;
                    return false;
                }
                if few.len() < FEW {
                    few.reserve_exact(1);
                    few.push((client, member));
                } else {
                    let mut all = HashMap::with_capacity_and_hasher(2 * FEW, hasher.clone());
                    all.extend(few.drain(..));
                    all.insert(client, member);
                    *roster = Self::Many(all);
                }
            }
        }
        true
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(all) => all.len(),
        }
    }

    pub(super) fn has(&self, client: ClientId) -> bool {
        match self {
            Self::Few(few) => few.iter().any(|(known, _)| *known == client),
            Self::Many(all) => all.contains_key(&client),
        }
    }

    pub(super) fn find(&self, client: ClientId) -> Option<ClientInfo> {
        let member = match self {
            Self::Few(few) => few.iter().find(|(known, _)| *known == client).map(|(_, member)| member),
            Self::Many(all) => all.get(&client),
        };
        member.map(|member| member.info(client))
    }

    /// Takes a member out, and the roster with the last one.
    pub(super) fn leave(slot: &mut Option<Box<Self>>, client: ClientId) -> Option<Member> {
        let (gone, is_empty) = match slot.as_deref_mut()? {
            Self::Few(few) => {
                let at = few.iter().position(|(known, _)| *known == client)?;
                let (_, gone) = few.swap_remove(at);
                few.shrink_to_fit();
                (gone, few.is_empty())
            }
            Self::Many(all) => (all.remove(&client)?, all.is_empty()),
        };
        if is_empty {
            *slot = None;
        }
        Some(gone)
    }

    /// So many after the first ones. The order stays as it is until somebody comes or goes.
    pub(super) fn each(&self, skipped: usize, count: usize, mut tell: impl FnMut(ClientId, &ClientInfo)) {
        let mut tell = |client: &ClientId, member: &Member| tell(*client, &member.info(*client));
        match self {
            Self::Few(few) => few.iter().skip(skipped).take(count).for_each(|(client, member)| tell(client, member)),
            Self::Many(all) => all.iter().skip(skipped).take(count).for_each(|(client, member)| tell(client, member)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn info(client: ClientId, number: u32) -> ClientInfo {
        ClientInfo {
            user: format!("user{number}"),
            client: client.to_string(),
            conn_info: Bytes::from(format!("{{\"n\":{number}}}")),
            chan_info: Bytes::from(if number.is_multiple_of(2) { String::new() } else { number.to_string() }),
        }
    }

    /// A member who is still there would run out of presence, or one who left would be renewed for ever; with half of its
    /// info, others would see it change after the first interval.
    #[test]
    fn behaves_like_a_map() {
        let mut rng = fastrand::Rng::with_seed(5);
        let hasher = FixedState::with_seed(1);
        let (mut slot, mut model) = (None, BTreeMap::new());
        for step in 0..4000u32 {
            let client = ClientId([rng.u8(..16); 16]);
            // Few, then many, then few again.
            if rng.u8(..10) < if step % 1000 < 500 { 2 } else { 8 } {
                let is_new = Roster::enter(&mut slot, client, Member::new(&info(client, step)), &hasher);
                assert_eq!(is_new, model.insert(client, info(client, step)).is_none());
            } else {
                let gone = Roster::leave(&mut slot, client);
                let known = model.remove(&client);
                assert_eq!(gone.map(|member| member.info(client)), known);
            }
            let mut all = BTreeMap::new();
            if let Some(roster) = &slot {
                roster.each(0, usize::MAX, |client, info| _ = all.insert(client, info.clone()));
            }
            assert_eq!((&all, slot.as_ref().map_or(0, |roster| roster.len())), (&model, model.len()));
            assert_eq!(slot.is_none(), model.is_empty(), "an empty roster would keep the channel");
        }
    }
}
