//! Calls to the home core of a channel, and what comes back: from this core, from another one, or from the store.

use std::sync::Arc;

use crate::delivery::Delivery;
use crate::engine::{Engine, home_of};
use crate::home::{Home, Interest, Outcome};
use crate::message::{Caller, HistoryOptions, HomeCall, HomeReply, HomeRequest, HomeResponse, Message};
use crate::outlet::Outlet;
use crate::remote::{Remote, Resolutions};
use crate::rules::Rules;
use crate::store::{Heard, StoreReply, Ticket};

/// The channels whose home this core is, by where their truth is kept.
#[derive(Debug)]
pub(crate) enum Homes {
    /// Here.
    Memory(Box<Home>),
    /// In a store outside of the process.
    Store(Box<Remote>),
}

impl Homes {
    pub(crate) fn interesting_channels(&self) -> u64 {
        match self {
            Self::Memory(home) => home.interesting_channels(),
            Self::Store(remote) => remote.interesting_channels(),
        }
    }

    /// Other rules are in force.
    pub(crate) fn follow(&mut self, rules: &Arc<Rules>) {
        match self {
            Self::Memory(_) => {}
            Self::Store(remote) => remote.follow(rules),
        }
    }

    pub(crate) fn give_back_memory(&mut self) {
        match self {
            Self::Memory(home) => home.give_back_memory(),
            Self::Store(remote) => remote.give_back_memory(),
        }
    }
}

impl Engine {
    /// Asks the home core of a channel. `None` = the answer comes later, or there is none.
    pub(crate) fn call_home(
        &mut self,
        caller: Caller,
        channel: &str,
        call: HomeCall,
        out: &mut dyn Outlet,
    ) -> Option<HomeReply> {
        let home = home_of(channel, self.cores);
        if home == self.core {
            return self.home_call(caller, channel, call, out);
        }
        out.send(home, Message::Call(Box::new(HomeRequest { caller, channel: channel.into(), call })));
        None
    }

    /// Runs a call on a channel whose home this core is.
    pub(crate) fn home_call(
        &mut self,
        caller: Caller,
        channel: &str,
        call: HomeCall,
        out: &mut dyn Outlet,
    ) -> Option<HomeReply> {
        self.counters.count_call(&call);
        let home = match &mut self.home {
            Homes::Memory(home) => home,
            Homes::Store(remote) => {
                let mut resolutions = remote.call(caller, channel, call, self.now.mono_ms, out);
                let own = resolutions.iter().position(|resolved| resolved.response.caller == caller);
                let own = own.map(|at| resolutions.swap_remove(at).response.reply);
                self.resolve(resolutions, out);
                return own;
            }
        };
        let asker = match &call {
            HomeCall::CheckPosition { core, .. } => Some(*core),
            _ => None,
        };
        let Outcome { reply, delivery } = home.call(channel, call, self.now.mono_ms);
        if let Some((delivery, interest)) = delivery {
            self.hand_out(delivery, interest, out);
        }
        // Nobody waits for a lost position: it is told to the core that asked, or acted on right here.
        if let (Some(HomeReply::PositionLost(held)), Some(asker)) = (&reply, asker) {
            let response =
                HomeResponse { caller: Caller::None, channel: channel.into(), reply: HomeReply::PositionLost(*held) };
            self.reply_to(asker, response, out);
            return None;
        }
        reply
    }

    /// The store has answered.
    pub fn stored(&mut self, ticket: Ticket, reply: StoreReply, out: &mut dyn Outlet) {
        if let Homes::Store(remote) = &mut self.home {
            let resolutions = remote.stored(ticket, reply, self.now.mono_ms, out);
            self.resolve(resolutions, out);
        }
    }

    /// A message of a channel whose home this core is came from the store.
    pub fn heard(&mut self, channel: &str, heard: Heard, out: &mut dyn Outlet) {
        if let Homes::Store(remote) = &mut self.home
            && let Some((delivery, interest)) = remote.heard(channel, heard)
        {
            self.hand_out(delivery, interest, out);
        }
    }

    /// A channel of [`Self::channels_heard`] is heard again: subscribers that have missed something meanwhile are told.
    pub fn heard_anew(&mut self, channel: &str, out: &mut dyn Outlet) {
        let history = HistoryOptions::of(&self.rules, channel);
        if let Homes::Store(remote) = &mut self.home
            && history.is_on()
        {
            let resolutions = remote.heard_anew(channel, history.meta_ttl_ms, out);
            self.resolve(resolutions, out);
        }
    }

    /// Entries in the tables of channels kept in a store: calls under way, channels, subscribers on their way in.
    #[doc(hidden)]
    pub fn store_entries(&self) -> usize {
        match &self.home {
            Homes::Memory(_) => 0,
            Homes::Store(remote) => remote.entries(),
        }
    }

    /// Channels whose messages this core needs from the store: what to ask for again after the connection for messages
    /// was lost. Calls that it took with it are answered first, with [`StoreReply::Failed`]; [`Self::heard_anew`] follows
    /// for each channel as soon as it is heard.
    pub fn channels_heard(&self) -> Vec<Box<str>> {
        match &self.home {
            Homes::Memory(_) => Vec::new(),
            Homes::Store(remote) => remote.channels_heard().map(Into::into).collect(),
        }
    }

    /// Whether a channel is one of [`Self::channels_heard`].
    pub fn hears(&self, channel: &str) -> bool {
        match &self.home {
            Homes::Memory(_) => false,
            Homes::Store(remote) => remote.hears(channel),
        }
    }

    /// What the channels of this core have to do by the clock.
    pub(crate) fn sweep_homes(&mut self, out: &mut dyn Outlet) {
        let now_ms = self.now.mono_ms;
        match &mut self.home {
            Homes::Memory(home) => home.sweep(now_ms),
            Homes::Store(remote) => {
                let resolutions = remote.turn(now_ms, self.rules.client.presence_update_interval_ms, out);
                self.resolve(resolutions, out);
            }
        }
    }

    /// Sends a delivery to the cores with subscribers.
    fn hand_out(&mut self, delivery: Arc<Delivery>, interest: Interest, out: &mut dyn Outlet) {
        // Here last: it may end subscriptions, and the others must not hear of that first.
        let mut is_for_here = false;
        for core in interest.cores() {
            match core == self.core {
                true => is_for_here = true,
                false => out.send(core, Message::Deliver(Arc::clone(&delivery))),
            }
        }
        if is_for_here {
            self.deliver(delivery, out);
        }
    }

    fn resolve(&mut self, resolutions: Resolutions, out: &mut dyn Outlet) {
        for resolved in resolutions {
            self.reply_to(resolved.core, resolved.response, out);
        }
    }

    fn reply_to(&mut self, core: gyre_proto::ids::CoreId, response: HomeResponse, out: &mut dyn Outlet) {
        match core == self.core {
            true => self.replied(response, out),
            false => out.send(core, Message::Reply(Box::new(response))),
        }
    }

    /// A reply of a home core for somebody on this one.
    pub(crate) fn replied(&mut self, response: HomeResponse, out: &mut dyn Outlet) {
        let HomeResponse { caller, channel, reply } = response;
        match (caller, reply) {
            (Caller::None, HomeReply::PositionLost(held)) => self.position_lost(&channel, held, out),
            (Caller::None, HomeReply::TopIs(top)) => self.top_is(&channel, top, out),
            (Caller::None, _) => {}
            (Caller::Session { conn, seq, .. }, reply) => self.facts(conn, seq, &channel, reply, out),
            (Caller::Api { call, .. }, reply) => out.answer(call, reply),
        }
    }
}
