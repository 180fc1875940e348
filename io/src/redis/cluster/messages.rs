//! The lanes for messages of slots: one to each primary of a cluster with sharded Pub/Sub.
//!
//! On a core's thread, beside the lanes for commands, under the same numbers of nodes. What is subscribed to where is
//! decided in `subscriptions`; here it meets the driver.

use std::sync::Arc;
use std::time::Duration;

use gyre_proto::ids::ConnId;

use super::nodes::Link;
use super::router::Router;
use super::subscriptions::Subscriptions;
use crate::driver::{Closed, Driver};
use crate::redis::client::Event;
use crate::redis::connection::SendError;
use crate::redis::lane::{Endpoint, Lane, Told, Use};
use crate::redis::shard::ShardOptions;
use crate::redis::wire::Wire;

/// See the module.
#[derive(Default)]
pub(super) struct SlotMessages {
    /// By number of the node, and to whom.
    lanes: Vec<Option<(Endpoint, Lane)>>,
    subscriptions: Subscriptions,
}

impl SlotMessages {
    pub(super) fn has(&self, conn: ConnId) -> bool {
        self.number_of(conn).is_some()
    }

    /// Whether all primaries are connected.
    pub(super) fn is_up(&self, router: &Router) -> bool {
        let mut nodes = router.nodes().iter().peekable();
        nodes.peek().is_some() && nodes.all(|(number, ..)| self.subscriptions.link(number) == Some(Link::Up))
    }

    pub(super) fn connections(&self) -> usize {
        self.lanes.iter().flatten().filter(|(_, lane)| lane.has_connection()).count()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.subscriptions.in_flight()
    }

    /// Begins or ends the subscriptions to channels of one slot.
    pub(super) fn ask(
        &mut self,
        token: u64,
        deadline_ms: u64,
        channels: &[&[u8]],
        begins: bool,
        router: &Router,
    ) -> Result<(), SendError> {
        let Some((node, number)) = self.subscriptions.accept(token, deadline_ms, channels, begins, router)? else {
            return Ok(());
        };
        let sent = self.pass_on(node, number, deadline_ms);
        if sent.is_err() {
            self.subscriptions.withdraw(number);
        }
        sent
    }

    /// Ends the lanes to nodes that the router does not know any more.
    pub(super) fn retire(&mut self, driver: &mut Driver, router: &mut Router, events: &mut impl FnMut(Event)) {
        for place in 0..self.lanes.len() {
            let number = place as u16;
            let is_gone = |(endpoint, _): &mut (Endpoint, Lane)| router.nodes().endpoint(number) != Some(endpoint);
            let Some((endpoint, mut lane)) = self.lanes[place].take_if(is_gone) else { continue };
            lane.end(driver, &mut telling(&mut self.subscriptions, (number, &endpoint), router, events));
            self.subscriptions.link_is(number, None);
        }
    }

    pub(super) fn turn(
        &mut self,
        driver: &mut Driver,
        router: &mut Router,
        options: &ShardOptions,
        events: &mut impl FnMut(Event),
    ) {
        self.retire(driver, router, events);
        self.meet(router, options);
        for (number, way) in (0..).zip(&mut self.lanes) {
            let Some((endpoint, lane)) = way else { continue };
            let mut tell = telling(&mut self.subscriptions, (number, endpoint), router, events);
            lane.turn(driver, endpoint, options.connect_timeout_ms, &mut tell);
        }
        self.settle(driver, router, options, events);
        if let Some(at_ms) = self.subscriptions.next_ms() {
            driver.wake_within(Duration::from_millis(at_ms.saturating_sub(driver.now_ms())));
        }
    }

    pub(super) fn dialled(&mut self, driver: &mut Driver, conn: ConnId, options: &ShardOptions) {
        let Some(place) = self.number_of(conn) else { return };
        if let Some((endpoint, lane)) = &mut self.lanes[place] {
            let handshake = options.handshake.clone();
            lane.dialled(conn, Wire::new(handshake, driver.now_ms(), options.tls.as_ref(), endpoint));
        }
    }

    pub(super) fn bytes(
        &mut self,
        driver: &mut Driver,
        conn: ConnId,
        data: &[u8],
        router: &mut Router,
        events: &mut impl FnMut(Event),
    ) {
        let Some(place) = self.number_of(conn) else { return };
        if let Some((endpoint, lane)) = &mut self.lanes[place] {
            let mut tell = telling(&mut self.subscriptions, (place as u16, endpoint), router, events);
            lane.bytes(driver, endpoint, data, &mut tell);
        }
    }

    pub(super) fn closed(
        &mut self,
        driver: &mut Driver,
        conn: ConnId,
        why: Closed,
        router: &mut Router,
        events: &mut impl FnMut(Event),
    ) {
        let Some(place) = self.number_of(conn) else { return };
        if let Some((endpoint, lane)) = &mut self.lanes[place] {
            let mut tell = telling(&mut self.subscriptions, (place as u16, endpoint), router, events);
            lane.closed(endpoint, why, driver.now_ms(), &mut tell);
        }
    }

    pub(super) fn flush(&mut self, driver: &mut Driver) {
        self.lanes.iter_mut().flatten().for_each(|(_, lane)| lane.flush(driver));
    }

    /// Each node has a lane.
    fn meet(&mut self, router: &Router, options: &ShardOptions) {
        for (number, endpoint, _) in router.nodes().iter() {
            let place = usize::from(number);
            if self.lanes.len() <= place {
                self.lanes.resize_with(place + 1, || None);
            }
            if self.lanes[place].is_none() {
                // Other delays than those of the lane for commands to the same node.
                let seed = options.seed.rotate_left(16) ^ u64::from(number);
                self.lanes[place] = Some((endpoint.clone(), Lane::new(seed, Arc::clone(&options.outages))));
                self.subscriptions.link_is(number, Some(Link::New));
            }
        }
    }

    /// Sees to what has moved, and sends what has waited for that.
    fn settle(&mut self, driver: &Driver, router: &Router, options: &ShardOptions, events: &mut impl FnMut(Event)) {
        self.subscriptions.turn(driver.now_ms(), router, events);
        while let Some((node, number)) = self.subscriptions.next_outgoing() {
            if self.pass_on(node, number, driver.now_ms() + options.handshake.io_timeout_ms).is_err() {
                self.subscriptions.failed(number, false, events);
            }
        }
    }

    fn pass_on(&mut self, node: u16, number: u64, deadline_ms: u64) -> Result<(), SendError> {
        let lane = self.lanes.get_mut(usize::from(node)).and_then(Option::as_mut);
        let connection = lane.and_then(|(_, lane)| lane.open()).ok_or(SendError::Failed)?;
        let ask = self.subscriptions.ask(number).ok_or(SendError::Failed)?;
        let names: Vec<&[u8]> = ask.names.iter().map(|name| &**name).collect();
        match ask.begins {
            true => connection.subscribe(number, &names, true, deadline_ms),
            false => connection.unsubscribe(number, &names, true, deadline_ms),
        }
    }

    fn number_of(&self, conn: ConnId) -> Option<usize> {
        self.lanes.iter().position(|way| way.as_ref().is_some_and(|(_, lane)| lane.has(conn)))
    }
}

fn telling<'a>(
    subscriptions: &'a mut Subscriptions,
    from: (u16, &'a Endpoint),
    router: &'a mut Router,
    events: &'a mut impl FnMut(Event),
) -> impl FnMut(Told) + 'a {
    move |told| match told {
        Told::Up => {
            subscriptions.link_is(from.0, Some(Link::Up));
            events(Event::Up(Use::SlotMessages));
        }
        Told::Down => {
            subscriptions.link_is(from.0, Some(Link::Down));
            events(Event::Down(Use::SlotMessages));
        }
        Told::Heard(incoming) => subscriptions.heard(from, incoming, router, events),
    }
}
