//! Whether the node hears a channel's messages. The first subscriber of the node begins it, the last one ends it, after a
//! delay that spares the store a flapping client, and the two never cross: each waits for the answer to the other.

use std::collections::VecDeque;

use super::{Asked, Remote, Resolutions};
use crate::limits::HEARING_LINGER_MS;
use crate::outlet::Outlet;
use crate::store::StoreCall;

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
}

/// Channels in the order in which their delay ends.
#[derive(Debug, Default)]
pub(super) struct Lingering(VecDeque<(u64, Box<str>)>);

impl Remote {
    /// Channels that messages are needed of: all of them are asked for anew when the store's side was lost.
    pub(crate) fn channels_heard(&self) -> impl Iterator<Item = &str> {
        let is_heard = |hearing| matches!(hearing, Hearing::Asked | Hearing::Yes | Hearing::Lingering { .. });
        self.channels.iter().filter(move |channel| is_heard(channel.hearing)).map(|channel| &*channel.name)
    }

    pub(super) fn hear(&mut self, id: u32, out: &mut dyn Outlet, resolved: &mut Resolutions) {
        let channel = &mut self.channels[id];
        channel.hearing = Hearing::Asked;
        let name = channel.name.clone();
        self.ask(&name.clone(), Asked::Hear(name), StoreCall::Hear, out, resolved);
    }

    pub(super) fn hearing_answered(
        &mut self,
        name: &str,
        is_heard: bool,
        now_ms: u64,
        out: &mut dyn Outlet,
        resolved: &mut Resolutions,
    ) {
        let Some(id) = self.channels.find(name) else { return };
        let channel = &mut self.channels[id];
        channel.hearing = if is_heard { Hearing::Yes } else { Hearing::No };
        if is_heard && channel.interest.masks().is_empty() {
            // Whoever asked has gone meanwhile.
            self.linger(id, now_ms);
        }
        self.let_in(id, is_heard, out, resolved);
    }

    /// The last one who was interested has gone.
    pub(super) fn linger(&mut self, id: u32, now_ms: u64) {
        let channel = &mut self.channels[id];
        if channel.hearing == Hearing::Yes {
            let until_ms = now_ms + HEARING_LINGER_MS;
            channel.hearing = Hearing::Lingering { until_ms };
            self.lingering.0.push_back((until_ms, channel.name.clone()));
        }
    }

    pub(super) fn stop_hearing(&mut self, now_ms: u64, out: &mut dyn Outlet, resolved: &mut Resolutions) {
        while let Some((at_ms, _)) = self.lingering.0.front()
            && *at_ms <= now_ms
            && let Some((_, name)) = self.lingering.0.pop_front()
        {
            let Some(id) = self.channels.find(&name) else { continue };
            let channel = &mut self.channels[id];
            // Somebody may have come, and gone again: then there is a later entry.
            if matches!(channel.hearing, Hearing::Lingering { until_ms } if until_ms <= now_ms) {
                channel.hearing = Hearing::Ending;
                self.ask(&name.clone(), Asked::Unhear(name), StoreCall::Unhear, out, resolved);
            }
        }
    }

    pub(super) fn unhearing_answered(&mut self, name: &str, out: &mut dyn Outlet, resolved: &mut Resolutions) {
        let Some(id) = self.channels.find(name) else { return };
        let channel = &mut self.channels[id];
        channel.hearing = Hearing::No;
        if channel.entering.is_some() {
            self.hear(id, out, resolved);
        } else {
            self.trim(id);
        }
    }
}
