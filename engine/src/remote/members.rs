//! The node's own members: their presence entries are renewed well before they run out, spread over the interval, and
//! taken out when they leave (`leavers.rs`). Those of a node that died run out by themselves.
//!
//! A renewal that failed is repeated until it has not, a second later and besides the round: entries live for little more
//! than two rounds, so two short outages could meet both renewals of one.

use std::collections::BTreeSet;

use gyre_proto::client::ClientInfo;

use super::leavers::Leaver;
use super::roster::{Member, Roster};
use super::{Asked, Remote, Resolutions, UnsubscribeCall};
use crate::outlet::Outlet;
use crate::session::ClientId;
use crate::store::StoreCall;

/// Where renewing stands.
#[derive(Debug, Default)]
pub(super) struct Refresh {
    last_ms: u64,
    /// The round through all members.
    round: Hand,
    /// Renewals that are due in it, times the interval in ms.
    owed: u64,
    /// Members of all channels.
    members: u64,
    /// Channels with a renewal that failed, by index. Empty but for outages; one that is another channel's by now is renewed
    /// once more than needed.
    late: BTreeSet<u32>,
    /// Goes through those.
    catching_up: Hand,
}

/// How far a way through channels and their members has come.
#[derive(Debug, Clone, Copy, Default)]
struct Hand {
    /// Index of the channel that is next.
    channel: u32,
    /// Members of that channel that were renewed. As they are in no order, some may be passed over once when others come
    /// meanwhile; entries live for two rounds.
    renewed: usize,
}

/// Between two slices of the round, at least.
const SLICE_MS: u64 = 1000;

/// A slice looks at no more than so many times its share of the channels, since most may have no members; and at so many
/// in any case, which takes some microseconds.
const LOOKS_FACTOR: u64 = 4;
const LOOKS_MIN: u64 = 1024;

/// What is late is renewed so many times as fast as the round: what an outage of 15 s met, the longest after which entries
/// that have run out count as gone (`STATE_TICK_AGE_MAX_MS`), within 4 s, and the store has five times its usual load of
/// renewals meanwhile.
const CATCH_UP_FACTOR: u64 = 4;

/// And so many in a slice in any case, which is no load.
const CATCH_UP_MIN: u64 = 64;

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
            let call = StoreCall::Enter(client, info, self.layout(name));
            self.ask(name, Asked::Renewal(id), call, out, &mut Resolutions::new());
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
            self.take_out(Box::new(Leaver { channel: name.into(), client, user: member.user }), out);
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
    /// channel or in thousands. And some of those that are late.
    pub(super) fn refresh_members(&mut self, interval_ms: u64, out: &mut dyn Outlet) {
        let elapsed_ms = self.now_ms - self.refresh.last_ms;
        if elapsed_ms < SLICE_MS {
            return;
        }
        self.refresh.last_ms = self.now_ms;
        let interval_ms = interval_ms.max(SLICE_MS);
        // By the time that has passed: a core that was held up makes good for it.
        let elapsed_ms = elapsed_ms.min(interval_ms);
        self.catch_up(elapsed_ms, interval_ms, out);
        self.go_round(elapsed_ms, interval_ms, out);
        // Those who stay first: a channel must not look empty because its entries have run out.
        self.take_out_some(out);
    }

    fn go_round(&mut self, elapsed_ms: u64, interval_ms: u64, out: &mut dyn Outlet) {
        let bound = self.channels.bound();
        let all = self.refresh.members.saturating_mul(interval_ms);
        self.refresh.owed = (self.refresh.owed + self.refresh.members * elapsed_ms).min(all);
        let mut due = (self.refresh.owed / interval_ms) as usize;
        self.refresh.owed -= due as u64 * interval_ms;
        let looks = (u64::from(bound) * elapsed_ms * LOOKS_FACTOR).div_ceil(interval_ms).max(LOOKS_MIN);
        let mut hand = self.refresh.round;
        for _ in 0..looks.min(u64::from(bound)) {
            if due == 0 {
                break;
            }
            if hand.channel >= bound {
                hand = Hand::default();
            }
            due -= self.renew_some(&mut hand, due, out);
        }
        self.refresh.round = hand;
        self.refresh.owed += due as u64 * interval_ms;
    }

    /// Once through what is late at most: what fails again has to wait for the next slice.
    fn catch_up(&mut self, elapsed_ms: u64, interval_ms: u64, out: &mut dyn Outlet) {
        let share = CATCH_UP_FACTOR * self.refresh.members * elapsed_ms / interval_ms;
        let mut due = share.max(CATCH_UP_MIN) as usize;
        let mut hand = self.refresh.catching_up;
        for _ in 0..self.refresh.late.len() + usize::from(hand.renewed > 0) {
            if due == 0 {
                break;
            }
            if hand.renewed == 0 {
                let late = &mut self.refresh.late;
                let Some(next) = late.range(hand.channel..).next().or(late.first()).copied() else { break };
                late.remove(&next);
                hand.channel = next;
            }
            due -= self.renew_some(&mut hand, due, out);
        }
        self.refresh.catching_up = hand;
    }

    /// Renews up to so many members of the channel that a hand is at, which goes on when all of them are. Returns how many.
    fn renew_some(&mut self, hand: &mut Hand, due: usize, out: &mut dyn Outlet) -> usize {
        let mut renewed = 0;
        let channel = self.channels.get(hand.channel);
        if let Some((channel, members)) = channel.and_then(|channel| Some((channel, channel.members.as_ref()?))) {
            let layout = self.layout(&channel.name);
            members.each(hand.renewed, due, |client, info| {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                if out.store(ticket, &channel.name, StoreCall::Enter(client, info, layout)) {
                    self.asked.insert(ticket, Asked::Renewal(hand.channel));
                } else {
                    self.refresh.late.insert(hand.channel);
                }
                renewed += 1;
            });
            hand.renewed += renewed;
            if hand.renewed < members.len() {
                return renewed;
            }
        }
        *hand = Hand { channel: hand.channel + 1, renewed: 0 };
        renewed
    }

    /// What came of a renewal in a channel.
    pub(super) fn renewal_answered(&mut self, channel: u32, is_done: bool) {
        if !is_done {
            self.refresh.late.insert(channel);
        }
    }
}
