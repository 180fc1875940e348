//! Whether the node hears a channel's messages. The first subscriber of the node begins it, the last one ends it, after a
//! delay that spares the store a flapping client, and the two never cross: each waits for the answer to the other.

use std::collections::VecDeque;

use super::{Asked, Remote, Resolutions, Resolved};
use crate::limits::HEARING_LINGER_MS;
use crate::message::{Caller, HomeReply, HomeResponse};
use crate::outlet::Outlet;
use crate::position::{Epoch, Position};
use crate::store::{StoreCall, StoreRead};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hearing {
    No,
    /// Asked for, not confirmed.
    Asked,
    Yes,
    /// Nobody is interested; it ends at this time unless somebody comes.
    Lingering {
        until_ms: u64,
    },
    /// Ending was asked for, not confirmed.
    Ending,
    /// Beginning or ending failed, and whether it had an effect is not known. Ending is tried (again) at this time.
    Unsure {
        until_ms: u64,
    },
}

impl Hearing {
    fn is_heard(self) -> bool {
        matches!(self, Self::Asked | Self::Yes | Self::Lingering { .. })
    }
}

/// Channels in the order in which their delay ends.
#[derive(Debug, Default)]
pub(super) struct Lingering(VecDeque<(u64, Box<str>)>);

impl Remote {
    /// Channels that messages are needed of: all of them are asked for anew when the store's side was lost.
    pub(crate) fn channels_heard(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().filter(|channel| channel.hearing.is_heard()).map(|channel| &*channel.name)
    }

    /// Whether a channel is one of those.
    pub(crate) fn hears(&self, name: &str) -> bool {
        self.channels.find(name).is_some_and(|id| self.channels[id].hearing.is_heard())
    }

    /// A channel is heard again after messages may have been lost: the position tells whether there were any.
    pub(crate) fn heard_anew(&mut self, name: &str, meta_ttl_ms: u64, out: &mut dyn Outlet) -> Resolutions {
        let mut resolved = Resolutions::new();
        if let Some(id) = self.channels.find(name)
            && !self.channels[id].interest.masks().is_empty()
        {
            let new_epoch = Epoch::random(&mut self.rng);
            let read = StoreRead { limit: 0, since: None, reverse: false, meta_ttl_ms, new_epoch };
            let asked = Asked::Anew(name.into(), self.channels[id].heard);
            self.ask(name, asked, StoreCall::Read(read), out, &mut resolved);
        }
        resolved
    }

    /// The answer. Should something have been heard since, subscribers have found a gap themselves.
    pub(super) fn read_anew(&mut self, name: Box<str>, before: Position, top: Position, resolved: &mut Resolutions) {
        let Some(id) = self.channels.find(&name) else { return };
        let channel = &self.channels[id];
        if channel.heard != before {
            return;
        }
        // A message may be just behind this reply: those subscribers ask again for nothing, which does no harm.
        for core in channel.interest.masks().cores() {
            let response = HomeResponse { caller: Caller::None, channel: name.clone(), reply: HomeReply::TopIs(top) };
            resolved.push(Resolved { core, response });
        }
    }

    pub(super) fn hear(&mut self, id: u32, out: &mut dyn Outlet, resolved: &mut Resolutions) {
        let name = self.channels[id].name.clone();
        match self.try_ask(&name, Asked::Hear(name.clone()), StoreCall::Hear, out) {
            Ok(()) => self.channels[id].hearing = Hearing::Asked,
            // What there was to end has still to be ended.
            Err(_) => self.let_in(id, false, out, resolved),
        }
    }

    pub(super) fn hearing_answered(
        &mut self,
        name: &str,
        is_heard: bool,
        out: &mut dyn Outlet,
        resolved: &mut Resolutions,
    ) {
        let Some(id) = self.channels.find(name) else { return };
        if is_heard {
            self.channels[id].hearing = Hearing::Yes;
            if self.channels[id].interest.masks().is_empty() {
                // Whoever asked has gone meanwhile.
                self.linger(id);
            }
        } else {
            // It may have begun all the same.
            self.be_unsure(id);
        }
        self.let_in(id, is_heard, out, resolved);
    }

    /// The last one who was interested has gone.
    pub(super) fn linger(&mut self, id: u32) {
        if self.channels[id].hearing == Hearing::Yes {
            let until_ms = self.end_later(id);
            self.channels[id].hearing = Hearing::Lingering { until_ms };
        }
    }

    fn end_later(&mut self, id: u32) -> u64 {
        let until_ms = self.now_ms + HEARING_LINGER_MS;
        self.lingering.0.push_back((until_ms, self.channels[id].name.clone()));
        until_ms
    }

    pub(super) fn stop_hearing(&mut self, out: &mut dyn Outlet, resolved: &mut Resolutions) {
        while let Some((at_ms, _)) = self.lingering.0.front()
            && *at_ms <= self.now_ms
            && let Some((_, name)) = self.lingering.0.pop_front()
        {
            let Some(id) = self.channels.find(&name) else { continue };
            let channel = &mut self.channels[id];
            // Somebody may have come, and gone again: then there is a later entry.
            if let Hearing::Lingering { until_ms } | Hearing::Unsure { until_ms } = channel.hearing
                && until_ms <= self.now_ms
            {
                channel.hearing = Hearing::Ending;
                self.ask(&name.clone(), Asked::Unhear(name), StoreCall::Unhear, out, resolved);
            }
        }
    }

    pub(super) fn unhearing_answered(
        &mut self,
        name: &str,
        is_done: bool,
        out: &mut dyn Outlet,
        resolved: &mut Resolutions,
    ) {
        let Some(id) = self.channels.find(name) else { return };
        match is_done {
            true => self.channels[id].hearing = Hearing::No,
            false => self.be_unsure(id),
        }
        if self.channels[id].entering.as_ref().is_some_and(|door| door.has_waiting()) {
            self.hear(id, out, resolved);
        } else {
            self.trim(id);
        }
    }

    fn be_unsure(&mut self, id: u32) {
        let until_ms = self.end_later(id);
        self.channels[id].hearing = Hearing::Unsure { until_ms };
    }
}

impl Lingering {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }
}
