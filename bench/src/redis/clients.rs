//! A crowd of WebSocket clients that subscribe to many channels each and then listen: JSON protocol, no compression.
//!
//! On the thread of `main`. Subscribing blocks until it is confirmed; between that and the end `pump` must be called every
//! few seconds, because the node expects answers to its pings.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Bench;

/// Commands in a frame: well below the 64 KiB that a message may have.
const BATCH: usize = 200;
/// A node that confirms nothing for so long has failed.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Between two looks at all clients.
const PUMP_INTERVAL: Duration = Duration::from_secs(2);

pub(crate) struct Crowd {
    clients: Vec<Client>,
}

pub(crate) struct Client {
    stream: TcpStream,
    incoming: Vec<u8>,
    /// Bytes of `incoming` that were read as frames.
    taken: usize,
    next_id: u32,
}

/// One line of a message of the node.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default)]
    id: u32,
    error: Option<serde_json::Value>,
    #[serde(borrow)]
    push: Option<Push<'a>>,
}

#[derive(Deserialize)]
struct Push<'a> {
    #[serde(default)]
    channel: &'a str,
    r#pub: Option<IgnoredAny>,
    unsubscribe: Option<serde_json::Value>,
}

impl Crowd {
    pub(crate) fn connect(port: u16, count: usize) -> Result<Self> {
        let clients = (0..count).map(|_| Client::connect(port)).collect::<Result<_>>();
        Ok(Self { clients: clients.context("cannot connect a client")? })
    }

    /// Each of some clients subscribes to the channels with these numbers; `name` gets client and number.
    pub(crate) fn subscribe(
        &mut self,
        bench: &Bench,
        clients: Range<usize>,
        numbers: Range<usize>,
        name: impl Fn(usize, usize) -> String,
    ) -> Result<()> {
        let mut pumped = Instant::now();
        for at in clients {
            let names: Vec<String> = numbers.clone().map(|number| name(at, number)).collect();
            for batch in names.chunks(BATCH) {
                bench.go_on()?;
                self.clients[at].subscribe(batch)?;
                if pumped.elapsed() > PUMP_INTERVAL {
                    self.pump(|_| {})?;
                    pumped = Instant::now();
                }
            }
        }
        Ok(())
    }

    /// Takes in what there is, without waiting, and answers pings. `published` gets the channel of each publication.
    pub(crate) fn pump(&mut self, mut published: impl FnMut(&str)) -> Result<()> {
        self.clients.iter_mut().try_for_each(|client| client.pump(&mut published))
    }

    /// Listens for a while.
    pub(crate) fn rest(&mut self, bench: &Bench, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        loop {
            bench.go_on()?;
            self.pump(|_| {})?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(PUMP_INTERVAL));
        }
    }
}

impl Client {
    pub(crate) fn connect(port: u16) -> Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        // In one piece: the node is not to pay for a request that comes in crumbs.
        let request = format!(
            "GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: Z3lyZS1iZW5jaC1jbGllbg==\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut client = Self { stream, incoming: Vec::new(), taken: 0, next_id: 1 };
        let head = loop {
            if let Some(end) = client.incoming.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            ensure!(client.receive()?, "the node is silent");
        };
        let is_upgraded = client.incoming.starts_with(b"HTTP/1.1 101");
        ensure!(is_upgraded, "{}", String::from_utf8_lossy(&client.incoming));
        client.taken = head;
        client.send("{\"id\":1,\"connect\":{}}")?;
        client.confirm(1)?;
        Ok(client)
    }

    pub(crate) fn subscribe(&mut self, channels: &[String]) -> Result<()> {
        let mut commands = String::new();
        for channel in channels {
            self.next_id += 1;
            // Writing to a string does not fail.
            let _ = writeln!(commands, "{{\"id\":{},\"subscribe\":{{\"channel\":\"{channel}\"}}}}", self.next_id);
        }
        self.send(commands.trim_end())?;
        self.confirm(channels.len())
    }

    /// Calls a method, and waits for its answer.
    pub(crate) fn call(&mut self, method: &str) -> Result<()> {
        self.next_id += 1;
        self.send(&format!("{{\"id\":{},\"rpc\":{{\"method\":\"{method}\",\"data\":{{}}}}}}", self.next_id))?;
        self.confirm(1)
    }

    /// Waits for so many replies.
    fn confirm(&mut self, replies: usize) -> Result<()> {
        let mut missing = replies;
        while missing > 0 {
            ensure!(self.receive()?, "{missing} of {replies} replies did not come within {TIMEOUT:?}");
            self.take_lines(&mut |line| missing -= usize::from(line.id != 0))?;
        }
        Ok(())
    }

    pub(crate) fn pump(&mut self, published: &mut impl FnMut(&str)) -> Result<()> {
        self.stream.set_nonblocking(true)?;
        let received = loop {
            match self.receive() {
                Ok(true) => {}
                other => break other,
            }
        };
        self.stream.set_nonblocking(false)?;
        received?;
        self.take_lines(&mut |line| {
            if let Some(Push { channel, r#pub: Some(_), .. }) = &line.push {
                published(channel);
            }
        })
    }

    /// False = nothing came, in the time there is.
    fn receive(&mut self) -> Result<bool> {
        if self.taken == self.incoming.len() {
            self.incoming.clear();
            self.taken = 0;
        }
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => bail!("the node closed a connection"),
            Ok(count) => {
                self.incoming.extend_from_slice(&bytes[..count]);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Every line of every whole frame; pings are answered.
    fn take_lines(&mut self, each: &mut impl FnMut(Line<'_>)) -> Result<()> {
        let mut pings = 0;
        while let Some((opcode, payload, length)) = frame(&self.incoming[self.taken..]) {
            ensure!(opcode == 1, "the node sent a frame of kind {opcode}: {}", String::from_utf8_lossy(payload));
            for line in std::str::from_utf8(payload)?.lines() {
                if line == "{}" {
                    pings += 1;
                    continue;
                }
                let line: Line<'_> = serde_json::from_str(line).with_context(|| line.to_owned())?;
                ensure!(line.error.is_none(), "the node refused a command: {:?}", line.error);
                if let Some(Push { channel, unsubscribe: Some(why), .. }) = &line.push {
                    bail!("the node ended the subscription to {channel}: {why}");
                }
                each(line);
            }
            self.taken += length;
        }
        for _ in 0..pings {
            self.send("{}")?;
        }
        Ok(())
    }

    fn send(&mut self, text: &str) -> Result<()> {
        let mut frame = vec![0x81];
        match text.len() {
            length if length < 126 => frame.push(0x80 | length as u8),
            length => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&u16::try_from(length)?.to_be_bytes());
            }
        }
        // A mask of zeros leaves the text as it is.
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(text.as_bytes());
        Ok(self.stream.write_all(&frame)?)
    }
}

/// Kind, payload and whole length of the first frame, once all of it is there. A server's frames have no mask.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (head, length): (usize, usize) = match bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(*short)),
    };
    Some((bytes[0] & 0x0F, bytes.get(head..head.checked_add(length)?)?, head + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Replies would be missed, or counted twice.
    #[test]
    fn frames_are_split() {
        let mut bytes = vec![0x81, 2, b'{', b'}', 0x81, 126, 0, 200];
        bytes.resize(8 + 199, b'x');
        assert_eq!(frame(&bytes), Some((1, &b"{}"[..], 4)));
        assert_eq!(frame(&bytes[4..]), None);
        bytes.push(b'x');
        assert_eq!(frame(&bytes[4..]).map(|(_, payload, length)| (payload.len(), length)), Some((200, 204)));
        assert_eq!(frame(&[]), None);
    }
}
