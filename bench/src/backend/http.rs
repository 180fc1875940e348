//! The application's backend: HTTP/1.1 with kept connections, one blocking thread for each, answers that are ready
//! before they are asked for.
//!
//! Its threads inherit the CPU of who started it, and end with their connection; the one that accepts ends with the
//! process. What it does not understand it counts, and closes the connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// Namespace of the channels whose state is told; the rest of a name is its number.
pub(super) const STATE_PREFIX: &str = "state:";

pub(super) struct Backend {
    pub(super) port: u16,
    pub(super) told: Arc<Told>,
}

/// What the backend has seen.
pub(super) struct Told {
    pub(super) calls: AtomicU64,
    /// How often each channel was said to be occupied. The 255th time is enough.
    occupied: Vec<AtomicU8>,
    pub(super) events: AtomicU64,
    broken: AtomicU64,
}

impl Backend {
    /// Starts one that knows so many channels.
    pub(super) fn start(channels: usize) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("the backend finds no port")?;
        let port = listener.local_addr()?.port();
        let told = Arc::new(Told::new(channels));
        let shared = Arc::clone(&told);
        thread::Builder::new().name("backend".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let told = Arc::clone(&shared);
                thread::spawn(move || {
                    if serve(stream, &told).is_err() {
                        told.broken.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        })?;
        Ok(Self { port, told })
    }

    /// Fails when some request was not understood.
    pub(super) fn check(&self) -> Result<()> {
        let broken = self.told.broken.load(Ordering::Relaxed);
        ensure!(broken == 0, "the backend did not understand {broken} connections of the node");
        Ok(())
    }
}

impl Told {
    fn new(channels: usize) -> Self {
        let occupied = (0..channels).map(|_| AtomicU8::new(0)).collect();
        Self { calls: AtomicU64::new(0), occupied, events: AtomicU64::new(0), broken: AtomicU64::new(0) }
    }

    fn take_events(&self, body: &[u8]) -> Result<()> {
        let batch: Batch<'_> = serde_json::from_slice(body)?;
        for event in &batch.events {
            ensure!(event.kind == "occupied", "{} of a channel that nobody left", event.kind);
            let number: Option<usize> = event.channel.strip_prefix(STATE_PREFIX).and_then(|rest| rest.parse().ok());
            let Some(times) = number.and_then(|number| self.occupied.get(number)) else {
                bail!("an event of the unknown channel {}", event.channel)
            };
            times.fetch_add(1, Ordering::Relaxed);
        }
        self.events.fetch_add(batch.events.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Channels of the first `count` that were never told of, and those told of several times.
    pub(super) fn missing_and_repeated(&self, count: usize) -> (usize, usize) {
        let times = || self.occupied.iter().take(count).map(|times| times.load(Ordering::Relaxed));
        (times().filter(|times| *times == 0).count(), times().filter(|times| *times > 1).count())
    }
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    events: Vec<Event<'a>>,
}

#[derive(Deserialize)]
struct Event<'a> {
    channel: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
}

/// Answers the requests of a connection until it ends.
fn serve(stream: TcpStream, told: &Told) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    let (mut line, mut body) = (String::new(), Vec::new());
    // A node that is killed resets its connections: no request was lost on us.
    while let Ok(Some(path)) = request(&mut reader, &mut line, &mut body) {
        let answer = match path {
            Path::Connect => r#"{"result":{"user":"42"}}"#,
            Path::Rpc => r#"{"result":{"data":{"ok":true}}}"#,
            Path::State => {
                told.take_events(&body)?;
                r#"{"result":{}}"#
            }
        };
        told.calls.fetch_add(1, Ordering::Relaxed);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
        let text = format!("{head}{}\r\n\r\n{answer}", answer.len());
        if reader.get_mut().write_all(text.as_bytes()).is_err() {
            break;
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Connect,
    Rpc,
    State,
}

/// The next request; its body replaces what is in `body`. `None` = there is none.
fn request(reader: &mut impl BufRead, line: &mut String, body: &mut Vec<u8>) -> Result<Option<Path>> {
    line.clear();
    if reader.read_line(line)? == 0 {
        return Ok(None);
    }
    let path = match line.split(' ').nth(1) {
        Some("/connect") => Path::Connect,
        Some("/rpc") => Path::Rpc,
        Some("/state") => Path::State,
        _ => bail!("not for us: {line}"),
    };
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
    }
    body.clear();
    reader.take(length).read_to_end(body)?;
    ensure!(body.len() as u64 == length, "the body ended early");
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The second request of a kept connection would be read from the middle of the first.
    #[test]
    fn requests_follow_each_other() {
        let mut bytes: &[u8] = b"POST /connect HTTP/1.1\r\nhost: x:1\r\ncontent-length: 2\r\n\r\n{}\
            POST /state HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcPOST /rpc HTTP/1.1\r\nContent-Length: 9\r\n\r\nshort";
        let (mut line, mut body) = (String::new(), Vec::new());
        assert_eq!(request(&mut bytes, &mut line, &mut body).unwrap(), Some(Path::Connect));
        assert_eq!(body, b"{}");
        assert_eq!(request(&mut bytes, &mut line, &mut body).unwrap(), Some(Path::State));
        assert_eq!(body, b"abc");
        assert!(request(&mut bytes, &mut line, &mut body).is_err());
        assert_eq!(request(&mut bytes, &mut line, &mut body).unwrap(), None);
    }

    // A lost event, or one that came twice, would not be noticed.
    #[test]
    fn events_are_counted_by_channel() {
        let told = Told::new(3);
        let event = |number: u32| format!(r#"{{"channel":"state:{number}","type":"occupied","time_ms":1}}"#);
        let batch = |numbers: &[u32]| {
            let events: Vec<String> = numbers.iter().copied().map(event).collect();
            format!(r#"{{"events":[{}]}}"#, events.join(",")).into_bytes()
        };
        told.take_events(&batch(&[0, 2])).unwrap();
        told.take_events(&batch(&[2])).unwrap();
        assert_eq!(told.missing_and_repeated(3), (1, 1));
        assert_eq!(told.missing_and_repeated(1), (0, 0));
        assert_eq!(told.events.load(Ordering::Relaxed), 3);
        assert!(told.take_events(&batch(&[3])).is_err());
        assert!(told.take_events(br#"{"events":[{"channel":"state:0","type":"vacated"}]}"#).is_err());
    }
}
