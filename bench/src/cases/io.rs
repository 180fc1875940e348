//! Palette, outboxes and mesh of `gyre-io`, without sockets.

use std::hint::black_box;

use gyre_io::FrameKind;
use gyre_io::bench::Turn;
use gyre_io::mesh::Mesh;

use super::Case;
use super::codec::payload;

pub(super) const CASES: &[Case] = &[
    Case { name: "turn: 1 push to 1,000", unit: "delivery", operations: 1_000, prepare: || turn(1) },
    Case { name: "turn: 16 pushes to 1,000", unit: "delivery", operations: 16_000, prepare: || turn(16) },
    Case { name: "turn: a push of its own to each of 1,000", unit: "delivery", operations: 1_000, prepare: own_pushes },
    Case { name: "mesh: batches of 64", unit: "message", operations: 64, prepare: || mesh(64) },
    Case { name: "mesh: one by one", unit: "message", operations: 1, prepare: || mesh(1) },
];

const CONNECTIONS: u32 = 1_000;

/// `count` pushes to every connection, joined at the end of the turn.
fn turn(count: usize) -> Box<dyn FnMut()> {
    let message = payload();
    let mut turn = Turn::new(CONNECTIONS as usize);
    Box::new(move || {
        for _ in 0..count {
            let frame = turn.frame(FrameKind::JsonMessage, &message);
            (0..CONNECTIONS).for_each(|connection| turn.push(connection, frame));
        }
        turn.flush(|connection, bytes| {
            black_box((connection, bytes));
        });
    })
}

/// Many small channels: every push has one receiver.
fn own_pushes() -> Box<dyn FnMut()> {
    let message = payload();
    let mut turn = Turn::new(CONNECTIONS as usize);
    Box::new(move || {
        for connection in 0..CONNECTIONS {
            let frame = turn.frame(FrameKind::JsonMessage, &message);
            turn.push(connection, frame);
        }
        turn.flush(|connection, bytes| {
            black_box((connection, bytes));
        });
    })
}

/// Both ends on one thread, the receiver awake: what a message costs when no cache line moves and nobody is woken.
fn mesh(batch: u64) -> Box<dyn FnMut()> {
    let ports = Mesh::new::<[u64; 2]>(2).unwrap_or_else(|error| panic!("cannot make a mesh: {error}"));
    let Ok([mut left, mut right]) = <[_; 2]>::try_from(ports) else { unreachable!("two ports were asked for") };
    Box::new(move || {
        (0..batch).for_each(|message| left.send(1, [message; 2]));
        left.flush();
        black_box(right.drain(|from, message| {
            black_box((from, message));
        }));
    })
}
