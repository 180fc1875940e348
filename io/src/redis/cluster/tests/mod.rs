//! Tests of what goes where in a cluster: single stories, and a model of a cluster whose slots move under load.
//!
//! No socket and no clock.

mod model;
mod stories;
mod subscribing;

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::SlotMap;
use super::router::Router;
use super::slots::Outgoing;
use crate::redis::reply::Decoded;
use crate::redis::{Endpoint, Event, Reply, ReplyError};

const IO_TIMEOUT_MS: u64 = 4_000;

pub(super) fn error(text: &[u8]) -> ReplyError {
    let line = [b"-", text, b"\r\n"].concat();
    match Decoded::new(line.into()).and_then(Decoded::into_reply) {
        Ok(Reply::Error(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn at(port: u16) -> Endpoint {
    Endpoint::Internet(([127, 0, 0, 1], port).into())
}

fn map(ranges: &[(RangeInclusive<u16>, u16)]) -> Arc<SlotMap> {
    Arc::new(SlotMap::new(ranges.iter().map(|(range, port)| (range.clone(), at(*port)))).unwrap())
}

/// The number by which the router knows a node.
fn number(router: &Router, port: u16) -> u16 {
    let known = router.nodes().iter().find(|(_, endpoint, _)| **endpoint == at(port));
    known.map(|(number, ..)| number).unwrap()
}

fn port(router: &Router, node: u16) -> u16 {
    match router.nodes().endpoint(node) {
        Some(Endpoint::Internet(address)) => address.port(),
        other => panic!("{other:?}"),
    }
}

/// An event in few words.
fn short(event: Event) -> String {
    match event {
        Event::Reply(token, Reply::Error(error)) => format!("{token}:{}", error.code()),
        Event::Reply(token, _) => format!("{token}"),
        Event::Failed(token, was_sent) => format!("{token}{}", if was_sent { "!" } else { "?" }),
        other => panic!("{other:?}"),
    }
}
