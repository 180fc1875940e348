//! Random streams against tungstenite, an implementation that conformance suites have gone over.

use std::io::{self, Cursor, Read, Write};

use tungstenite::error::ProtocolError;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use super::{LIMITS, Outcome, Random, Seen, decode, stream};

/// A peer that has sent everything already and takes every answer.
struct Peer(Cursor<Vec<u8>>);

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A peer that conforms would be refused, or one that does not accepted, where other servers do it right.
#[test]
fn random_streams_match_tungstenite() {
    let mut random = Random::new(3);
    let (mut frames, mut codes, mut closes) = (0, [0; 3], 0);
    for _ in 0..20_000 {
        let bytes = random_stream(&mut random);
        let (seen, code) = reference(&bytes);
        frames += seen.len();
        for (count, each) in codes.iter_mut().zip([1002, 1007, 1009]) {
            *count += usize::from(code == Some(each));
        }
        closes += usize::from(matches!(seen.last(), Some(Seen::Close(..))));
        let mut cuts: Vec<usize> = (0..random.below(6)).map(|_| random.below(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        assert_eq!(decode(&bytes, &cuts, &LIMITS), (seen, code), "{bytes:x?} cut at {cuts:?}");
    }
    // Otherwise the streams have become too dull to prove anything.
    assert!(frames > 40_000 && closes > 500, "{frames} {closes}");
    assert!(codes.iter().all(|&count| count > 300), "{codes:?}");
}

/// Frames of which most make sense where they stand.
fn random_stream(random: &mut Random) -> Vec<u8> {
    const TEXTS: [&[u8]; 8] = [b"", b"a", b"{}", "ü".as_bytes(), "€😀".as_bytes(), b"\xe2\x82", b"\xac", b"\xff"];
    let mut frames: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut in_message = false;
    for _ in 0..random.below(12) {
        let first = if random.below(12) == 0 { 0x88 } else { 0x89 + random.below(2) as u8 };
        frames.push(match random.below(40) {
            // Anything at all, most of it wrong.
            0 => (random.below(256) as u8, vec![b'?'; random.below(300)]),
            1..10 => {
                let payload = match (first, random.below(4)) {
                    (0x88, 0) => vec![],
                    (0x88, 1) => vec![3],
                    (0x88, _) => [&[3, 0xe8 + random.below(5) as u8], "grüße".as_bytes()].concat(),
                    _ => vec![0x80; random.below(126)],
                };
                (first, payload)
            }
            choice => {
                let opcode = match (in_message, choice % 2) {
                    (true, _) => 0,
                    (false, 0) => 1,
                    (false, _) => 2,
                };
                let is_last = random.below(3) > 0;
                in_message = !is_last;
                let payload = match random.below(10) {
                    0 => vec![b'x'; random.below(1500)],
                    // Invalid ones are rare, so that some streams survive.
                    1 => TEXTS[random.below(TEXTS.len())].to_vec(),
                    _ => TEXTS[random.below(5)].repeat(1 + random.below(30)),
                };
                (if is_last { 0x80 | opcode } else { opcode }, payload)
            }
        });
    }
    let frames: Vec<(u8, &[u8])> = frames.iter().map(|(first, payload)| (*first, &payload[..])).collect();
    stream(&frames)
}

/// What tungstenite makes of `bytes`.
fn reference(bytes: &[u8]) -> Outcome {
    let config = WebSocketConfig::default().max_message_size(Some(LIMITS.message_size_max));
    let peer = Peer(Cursor::new(bytes.to_vec()));
    let mut socket = WebSocket::from_raw_socket(peer, Role::Server, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match socket.read() {
            Ok(Message::Text(text)) => Seen::Text(text.as_bytes().to_vec()),
            Ok(Message::Binary(data)) => Seen::Binary(data.to_vec()),
            Ok(Message::Ping(data)) => Seen::Ping(data.to_vec()),
            Ok(Message::Pong(data)) => Seen::Pong(data.to_vec()),
            Ok(Message::Close(frame)) => {
                let Some(frame) = frame else {
                    seen.push(Seen::Close(None, String::new()));
                    return (seen, None);
                };
                // It turns a code that may not be sent into this close frame.
                if frame.reason == "Protocol violation" {
                    return (seen, Some(1002));
                }
                seen.push(Seen::Close(Some(frame.code.into()), frame.reason.to_string()));
                return (seen, None);
            }
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return (seen, None),
            Err(Error::Protocol(_)) => return (seen, Some(1002)),
            Err(Error::Utf8(_)) => return (seen, Some(1007)),
            Err(Error::Capacity(_)) => return (seen, Some(1009)),
            other => panic!("{other:?}"),
        });
    }
}
