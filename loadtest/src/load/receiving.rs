//! What a core does with what the server sends: replies, pings, and every delivery past the checker.
//!
//! The hot path of the generator: no allocation per delivery, no lock, and one histogram entry.

use gyre_io::{Driver, FrameKind};
use gyre_proto::ws::encode_client_frame;

use super::checker::{Seen, Verdict};
use super::clients::{Position, State};
use super::core::Core;
use super::publish;
use super::tally::Sample;
use super::wire::{self, Message, Publication, Subscribed, command, payload};

impl Core {
    pub(super) fn on_client_frame(&mut self, driver: &mut Driver, client: usize, data: &[u8]) {
        if matches!(self.clients.each[client].state, State::Leaving | State::Returning) {
            return;
        }
        let now_us = self.shared.now_us();
        wire::each_message(self.shared.spec.wire, data, |message| match message {
            Some(Message::Publication { channel, publication }) => {
                self.on_delivery(client, channel, &publication, now_us);
            }
            Some(Message::Ping) => self.on_ping(driver, client),
            Some(message) => self.on_reply(driver, client, message, now_us),
            None => self.tally.borrow_mut().error("unreadable message"),
        });
    }

    fn on_delivery(&mut self, client: usize, name: &[u8], publication: &Publication<'_>, now_us: u64) {
        let layout = &self.shared.spec.layout;
        let channel = layout.parse_name(name);
        let slot = channel.and_then(|channel| layout.slot(self.clients.first + client, channel));
        let Some(slot) = slot else {
            return self.tally.borrow_mut().error("publication of a channel that was not subscribed to");
        };
        self.take_publication(client, slot, publication, now_us);
    }

    /// Checks one publication of a client's subscription, pushed or recovered.
    fn take_publication(&mut self, client: usize, slot: usize, publication: &Publication<'_>, now_us: u64) {
        let mut tally = self.tally.borrow_mut();
        let layout = &self.shared.spec.layout;
        let Some(payload) = payload::read(publication.data) else {
            return tally.error("publication of somebody else, or damaged");
        };
        if layout.channel(self.clients.first + client, slot)
            != super::layout::Channel::Numbered(payload.channel as usize)
        {
            return tally.error("publication of another channel");
        }
        match self.clients.seen(client, slot).take(payload.sequence) {
            Verdict::InOrder => {}
            Verdict::Gap(missing) => tally.counts.lost += u64::from(missing),
            Verdict::Late => {
                tally.counts.lost -= 1;
                tally.counts.disordered += 1;
            }
            Verdict::Duplicate => {
                tally.counts.duplicated += 1;
                tally.dirty = true;
                return;
            }
        }
        tally.delivered(now_us);
        tally.sample(Sample::Delivery, payload.intended_us, now_us);
        if publication.offset > 0
            && let Some(position) = self.clients.position(client, slot)
        {
            position.offset = publication.offset;
        }
    }

    fn on_ping(&mut self, driver: &mut Driver, client: usize) {
        let entry = &mut self.clients.each[client];
        entry.pings = entry.pings.saturating_add(1);
        let conn = entry.conn;
        let mut tally = self.tally.borrow_mut();
        tally.counts.pings += 1;
        tally.dirty = true;
        if !self.wants_pong {
            return;
        }
        let (wire, mask) = (self.shared.spec.wire, self.mask);
        let pong = *self.pong.get_or_insert_with(|| {
            driver.frame_with(FrameKind::Raw, |out| encode_client_frame(wire.opcode_byte(), wire.pong(), mask, out))
        });
        driver.push(conn, pong);
    }

    fn on_reply(&mut self, driver: &mut Driver, client: usize, message: Message<'_>, now_us: u64) {
        self.tally.borrow_mut().dirty = true;
        match message {
            Message::Connected { id: command::CONNECT_ID, pong } => {
                if self.clients.each[client].state != State::Dialling {
                    return self.tally.borrow_mut().error("reply to nothing");
                }
                self.wants_pong = pong;
                self.clients.each[client].state = State::Connected;
                let since_us = full_time(self.clients.each[client].since_us, now_us);
                let mut tally = self.tally.borrow_mut();
                tally.counts.open += 1;
                if !self.clients.each[client].returns {
                    tally.sample(Sample::Connect, since_us, now_us);
                }
                drop(tally);
                self.check_ready(driver, client, now_us);
            }
            Message::Subscribed { id, result } => self.on_subscribed(driver, client, id, &result, now_us),
            Message::Failed { id, code } => {
                let what = if id == command::CONNECT_ID { "connect" } else { "subscribe" };
                self.tally.borrow_mut().error(&format!("{what}: error {code}"));
                driver.abort(self.clients.each[client].conn);
            }
            Message::Unsubscribed { code } => {
                self.tally.borrow_mut().error(&format!("unsubscribed {code}"));
            }
            // Joins and leaves, and replies to nothing we asked.
            _ => {}
        }
    }

    fn on_subscribed(&mut self, driver: &mut Driver, client: usize, id: u32, result: &Subscribed<'_>, now_us: u64) {
        let slot = id.wrapping_sub(command::SUBSCRIBE_ID) as usize;
        if slot >= self.shared.spec.layout.slots() || self.clients.each[client].state != State::Connected {
            return self.tally.borrow_mut().error("reply to nothing");
        }
        let returns = self.clients.each[client].returns;
        if returns && !result.recovered {
            // What was missed is missed: nobody promised to keep it.
            if self.clients.position(client, slot).is_some_and(|position| position.epoch > 0) {
                self.tally.borrow_mut().error("not recovered");
            }
            *self.clients.seen(client, slot) = Seen::UNKNOWN;
        } else if !returns && now_us >= self.orders.publish_from_us {
            *self.clients.seen(client, slot) = Seen::UNKNOWN;
        }
        if result.recovered {
            let wire = self.shared.spec.wire;
            let is_readable = wire::each_recovered(wire, result.publications, |publication| {
                self.take_publication(client, slot, &publication, now_us);
            });
            if !is_readable {
                self.tally.borrow_mut().error("unreadable message");
            }
        }
        if self.shared.spec.recover {
            if !result.recoverable {
                self.tally.borrow_mut().error("subscription is not recoverable");
            }
            let epoch = self.clients.epochs.number(result.epoch);
            if let Some(position) = self.clients.position(client, slot) {
                // A recovered result repeats the offset asked for; its publications have moved ours on.
                let offset = if result.recovered { position.offset } else { result.offset };
                *position = Position { offset, epoch };
            }
        }
        self.clients.each[client].subscribed += 1;
        self.tally.borrow_mut().counts.subscribed += 1;
        self.check_ready(driver, client, now_us);
    }

    /// Whether the client has all its replies now.
    fn check_ready(&mut self, driver: &mut Driver, client: usize, now_us: u64) {
        let slots = self.shared.spec.layout.slots();
        let entry = &mut self.clients.each[client];
        if entry.state != State::Connected || usize::from(entry.subscribed) < slots {
            return;
        }
        let had_failed = entry.attempts > 0;
        (entry.state, entry.attempts) = (State::Ready, 0);
        if std::mem::replace(&mut entry.returns, true) {
            let since_us = full_time(entry.since_us, now_us);
            self.tally.borrow_mut().sample(Sample::Recovery, since_us, now_us);
        } else {
            self.status.ever_ready += 1;
            self.status.never_ready -= u64::from(had_failed);
        }
        driver.clear_timer(entry.conn);
        self.connecting.in_flight -= 1;
        self.status.ready += 1;
    }

    pub(super) fn on_publisher_frame(&mut self, driver: &mut Driver, at: usize, data: &[u8]) {
        let now_us = self.shared.now_us();
        let wire = self.shared.spec.wire;
        let (_, publisher) = &self.publishers[at];
        let mut publisher = publisher.borrow_mut();
        let mut pongs = 0;
        wire::each_message(wire, data, |message| match message {
            Some(Message::Ping) => pongs += 1,
            Some(Message::Connected { .. }) => publisher.state = publish::State::Ready,
            Some(Message::Done { id }) if id >= command::PUBLISH_ID => publisher.replied(None, now_us),
            Some(Message::Failed { id, code }) if id >= command::PUBLISH_ID => publisher.replied(Some(code), now_us),
            Some(Message::Failed { code, .. }) => {
                self.tally.borrow_mut().error(&format!("publish: connect: error {code}"));
            }
            Some(_) => {}
            None => self.tally.borrow_mut().error("unreadable message"),
        });
        for _ in 0..pongs {
            let mask = self.mask;
            let write = |out: &mut Vec<u8>| encode_client_frame(wire.opcode_byte(), wire.pong(), mask, out);
            let pong = driver.frame_with(FrameKind::Raw, write);
            driver.push(publisher.conn, pong);
        }
    }
}

/// The full time of which only the low 32 bits were kept, 71 minutes at most before `now_us`.
fn full_time(low_us: u32, now_us: u64) -> u64 {
    now_us - u64::from((now_us as u32).wrapping_sub(low_us))
}
