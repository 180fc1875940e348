//! Subscribers that stop reading: what a mobile client does in a tunnel, and what a server must not let others feel.
//!
//! On a thread of their own over plain blocking sockets, because they are few and because a ring that has armed a
//! receive goes on reading. Until the measuring begins they read and answer pings like others; nothing is checked. How
//! each of them ended (3008: the server called it slow) is told at the end.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gyre_proto::ws::{Decoder, DecoderLimits, Frame, Role, encode_client_frame};

use super::spec::Spec;
use super::wire::command::{self, Position};
use super::wire::{self, Message, Wire};
use crate::codes::explained;

const READ: u8 = 0;
const STALL: u8 = 1;
const END: u8 = 2;

/// Silence after which those that have not ended count as alive: a close frame is behind what was not read.
const ENDING: Duration = Duration::from_secs(1);

/// The thread with these subscribers.
pub(super) struct Stalled {
    mode: Arc<AtomicU8>,
    thread: JoinHandle<String>,
}

impl Stalled {
    /// Connects and subscribes all of them, one after the other.
    pub(super) fn connect(spec: &Spec) -> Result<Self> {
        let timeout = Duration::from_micros(spec.connect_timeout_us);
        let mut subscribers = Vec::with_capacity(spec.stalled);
        for at in 0..spec.stalled {
            subscribers.push(Subscriber::connect(spec, spec.layout.clients + at, timeout)?);
        }
        let mode = Arc::new(AtomicU8::new(READ));
        let (seen, wire) = (Arc::clone(&mode), spec.wire);
        let thread = std::thread::Builder::new()
            .name("stalled".to_owned())
            .spawn(move || live(subscribers, wire, &seen))
            .context("cannot start a thread")?;
        Ok(Self { mode, thread })
    }

    /// From here on they read nothing and answer nothing.
    pub(super) fn stop_reading(&self) {
        self.mode.store(STALL, Ordering::Relaxed);
    }

    /// Reads what there is up to the end of each; returns a line about it.
    pub(super) fn end(self) -> String {
        self.mode.store(END, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or_else(|_| "the stalled subscribers failed".to_owned())
    }
}

fn live(mut subscribers: Vec<Subscriber>, wire: Wire, mode: &AtomicU8) -> String {
    while mode.load(Ordering::Relaxed) == READ {
        for subscriber in &mut subscribers {
            subscriber.read(wire, true);
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    while mode.load(Ordering::Relaxed) == STALL {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let mut heard = Instant::now();
    while heard.elapsed() < ENDING && subscribers.iter().any(|one| one.ended.is_none()) {
        for subscriber in &mut subscribers {
            if subscriber.read(wire, false) {
                heard = Instant::now();
            }
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let mut ends = std::collections::BTreeMap::new();
    for subscriber in &subscribers {
        *ends.entry(subscriber.ended.as_deref().unwrap_or("still connected")).or_insert(0) += 1;
    }
    let ends: Vec<_> = ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
    format!("{} stalled subscribers: {}", subscribers.len(), ends.join(", "))
}

struct Subscriber {
    socket: TcpStream,
    decoder: Decoder,
    ended: Option<String>,
}

impl Subscriber {
    fn connect(spec: &Spec, number: usize, timeout: Duration) -> Result<Self> {
        let endpoint = &spec.endpoints[number % spec.endpoints.len()];
        let mut socket = TcpStream::connect_timeout(&endpoint.address, timeout)
            .with_context(|| format!("cannot connect to {}", endpoint.address))?;
        socket.set_read_timeout(Some(timeout))?;
        let protocol =
            spec.wire.subprotocol().map_or_else(String::new, |name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
        write!(
            socket,
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}\r\n",
            endpoint.path, endpoint.authority
        )?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            ensure!(socket.read(&mut byte)? == 1 && head.len() < 16 * 1024, "the upgrade was not answered");
            head.push(byte[0]);
        }
        ensure!(head.starts_with(b"HTTP/1.1 101"), "the upgrade was refused");
        let (mut token, mut commands, mut name) = (String::new(), Vec::new(), Vec::new());
        spec.tokens.write(number as u64, &mut token);
        command::connect(spec.wire, &mut commands, token.as_bytes());
        for slot in 0..spec.layout.slots() {
            name.clear();
            spec.layout.write_name(spec.layout.channel(number, slot), &mut name);
            command::subscribe(spec.wire, &mut commands, command::SUBSCRIBE_ID + slot as u32, &name, Position::None);
        }
        let mut frame = Vec::new();
        encode_client_frame(spec.wire.opcode_byte(), &commands, [1, 2, 3, 4], &mut frame);
        socket.write_all(&frame)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, decoder: Decoder::default(), ended: None })
    }

    /// Reads what there is. True if there was something.
    fn read(&mut self, wire: Wire, answers: bool) -> bool {
        let limits = DecoderLimits { message_size_max: 16 << 20, validate_utf8: true, role: Role::Client };
        let mut buffer = vec![0; 64 * 1024];
        let mut heard = false;
        while self.ended.is_none() {
            let count = match self.socket.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return heard,
                Ok(0) | Err(_) => {
                    self.ended = Some("cut".to_owned());
                    return true;
                }
                Ok(count) => count,
            };
            heard = true;
            let mut pongs = Vec::new();
            let mut ended = None;
            let result = self.decoder.feed(&mut buffer[..count], &limits, &mut |frame| {
                match frame {
                    Frame::Message { data, .. } => wire::each_message(wire, data, |message| {
                        if answers && message == Some(Message::Ping) {
                            encode_client_frame(wire.opcode_byte(), wire.pong(), [1, 2, 3, 4], &mut pongs);
                        }
                    }),
                    Frame::Close { code, .. } => {
                        // 1005 stands for a close frame without a code.
                        ended = Some(explained(&format!("ended by disconnect {}", code.unwrap_or(1005))));
                    }
                    Frame::Ping(_) | Frame::Pong(_) => {}
                }
                ControlFlow::Continue(())
            });
            self.ended = ended.or_else(|| result.is_err().then(|| "broken".to_owned()));
            // A few bytes into an empty socket: never blocks in practice, and what fails shows as an end.
            let _ = self.socket.write(&pongs);
        }
        heard
    }
}
