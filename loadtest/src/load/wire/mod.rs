//! What the generator reads and writes of the client protocol, in both encodings.
//!
//! Readers written for this purpose alone: they find the few fields a witness needs (id, error code, channel, offset,
//! data), allocate nothing and leave everything else unread. They share no code with the node, so a fault of its
//! encoder is not repeated here. Run on a generator core for every frame; never panic, whatever arrives.

pub(crate) mod command;
mod json;
pub(crate) mod payload;
mod protobuf;

use memchr::memchr;

/// Encoding of the connection, chosen by the subprotocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wire {
    Json,
    Protobuf,
}

impl Wire {
    /// Value of `Sec-WebSocket-Protocol`; JSON is what a server speaks without any.
    pub(crate) fn subprotocol(self) -> Option<&'static str> {
        match self {
            Self::Json => None,
            Self::Protobuf => Some("centrifuge-protobuf"),
        }
    }

    /// First byte of the WebSocket frame of a command.
    pub(crate) fn opcode_byte(self) -> u8 {
        match self {
            Self::Json => 0x81,
            Self::Protobuf => 0x82,
        }
    }

    /// The answer to a ping of the server.
    pub(crate) fn pong(self) -> &'static [u8] {
        match self {
            Self::Json => b"{}",
            Self::Protobuf => &[0],
        }
    }
}

/// One message of the server, as far as the generator looks at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Message<'a> {
    /// To be answered with a pong.
    Ping,
    /// The connect reply; whether the server wants its pings answered.
    Connected { id: u32, pong: bool },
    /// The subscribe reply.
    Subscribed { id: u32, result: Subscribed<'a> },
    /// Any other reply without an error.
    Done { id: u32 },
    /// A reply with an error code.
    Failed { id: u32, code: u32 },
    /// A publication pushed to a channel's subscriber.
    Publication { channel: &'a [u8], publication: Publication<'a> },
    /// The server took a subscription away.
    Unsubscribed { code: u32 },
    /// Join, leave and whatever else a witness does not count.
    Other,
}

/// A subscribe result.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Subscribed<'a> {
    pub(crate) recoverable: bool,
    pub(crate) recovered: bool,
    pub(crate) epoch: &'a [u8],
    pub(crate) offset: u64,
    /// The recovered publications as they were sent; read them with [`each_recovered`].
    pub(crate) publications: &'a [u8],
}

/// One publication.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Publication<'a> {
    pub(crate) offset: u64,
    pub(crate) data: &'a [u8],
}

/// Calls `each` for every message of a WebSocket frame, with None for one that cannot be read.
pub(crate) fn each_message<'a>(wire: Wire, frame: &'a [u8], mut each: impl FnMut(Option<Message<'a>>)) {
    match wire {
        Wire::Json => {
            let mut rest = frame;
            // A server drops line feeds inside payloads, so each of them separates two messages.
            while let Some(end) = memchr(b'\n', rest) {
                each(json::message(&rest[..end]));
                rest = &rest[end + 1..];
            }
            if !rest.is_empty() || frame.is_empty() {
                each(json::message(rest));
            }
        }
        Wire::Protobuf => {
            let mut rest = frame;
            while !rest.is_empty() {
                match protobuf::split_length(rest) {
                    Some((message, tail)) => {
                        each(protobuf::message(message));
                        rest = tail;
                    }
                    None => return each(None),
                }
            }
        }
    }
}

/// Calls `each` for every publication of a subscribe result, in order. False if they cannot be read.
pub(crate) fn each_recovered<'a>(wire: Wire, publications: &'a [u8], each: impl FnMut(Publication<'a>)) -> bool {
    match wire {
        Wire::Json => json::publications(publications, each).is_some(),
        Wire::Protobuf => protobuf::publications(publications, each).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(wire: Wire, frame: &[u8]) -> Vec<Option<Message<'_>>> {
        let mut found = Vec::new();
        each_message(wire, frame, |message| found.push(message));
        found
    }

    /// A server joins messages for one client in one frame; whoever reads only the first calls the others lost.
    #[test]
    fn several_messages_in_a_frame() {
        let json = br#"{"id":1,"connect":{"client":"a","version":"x","ping":25,"pong":true}}
{"id":2,"subscribe":{}}
{}
{"push":{"channel":"c1","pub":{"data":{"s":1},"offset":7}}}
{"id":3,"error":{"code":105,"message":"already subscribed"}}"#;
        let publication = Publication { offset: 7, data: br#"{"s":1}"# };
        let expected = [
            Message::Connected { id: 1, pong: true },
            Message::Subscribed { id: 2, result: Subscribed::default() },
            Message::Ping,
            Message::Publication { channel: b"c1", publication },
            Message::Failed { id: 3, code: 105 },
        ];
        assert_eq!(read(Wire::Json, json), expected.map(Some));

        // The same, byte by byte from the definition of the protocol.
        let mut protobuf = Vec::new();
        protobuf.extend_from_slice(&[10, 8, 1, 42, 6, 0x12, 1, b'x', 0x40, 1, 0x38]);
        // ... whose last field was cut short on purpose: the whole message is unreadable.
        assert_eq!(read(Wire::Protobuf, &protobuf), [None]);
        protobuf.clear();
        protobuf.extend_from_slice(&[9, 8, 1, 42, 5, 0x12, 1, b'x', 0x40, 1]);
        protobuf.extend_from_slice(&[4, 8, 2, 50, 0]);
        protobuf.push(0);
        protobuf.extend_from_slice(&[19, 34, 17, 18, 2, b'c', b'1', 34, 11, 34, 7]);
        protobuf.extend_from_slice(br#"{"s":1}"#);
        protobuf.extend_from_slice(&[48, 7]);
        protobuf.extend_from_slice(&[6, 8, 3, 18, 2, 8, 105]);
        assert_eq!(read(Wire::Protobuf, &protobuf), expected.map(Some));
    }

    /// Recovery would look like loss if the publications in a subscribe reply were not read.
    #[test]
    fn recovered_publications() {
        let json = br#"{"id":2,"subscribe":{"recoverable":true,"epoch":"ab","publications":[{"data":1,"offset":4},
            {"offset":5,"data":"x]"}],"recovered":true,"offset":3,"positioned":true,"was_recovering":true}}"#;
        let json: Vec<u8> = json.iter().copied().filter(|byte| *byte != b'\n').collect();
        let mut protobuf = vec![0, 8, 2, 50, 0, 0x18, 1, 0x32, 2, b'a', b'b'];
        protobuf.extend_from_slice(&[0x3a, 5, 34, 1, b'1', 48, 4]);
        protobuf.extend_from_slice(&[0x3a, 8, 34, 4, b'"', b'x', b']', b'"', 48, 5]);
        protobuf.extend_from_slice(&[0x40, 1, 0x48, 3, 0x50, 1, 0x60, 1]);
        (protobuf[0], protobuf[4]) = (protobuf.len() as u8 - 1, protobuf.len() as u8 - 5);
        for (wire, frame) in [(Wire::Json, json), (Wire::Protobuf, protobuf)] {
            let found = read(wire, &frame);
            let [Some(Message::Subscribed { id: 2, result })] = found[..] else { panic!("{found:?}") };
            assert!(result.recoverable && result.recovered);
            assert_eq!((result.epoch, result.offset), (&b"ab"[..], 3));
            let mut publications = Vec::new();
            assert!(each_recovered(wire, result.publications, |one| publications.push((one.offset, one.data))));
            assert_eq!(publications, [(4, &b"1"[..]), (5, &b"\"x]\""[..])]);
        }
    }

    /// A broken server must show up as an error of the run, not as a crash or a hang of the generator.
    #[test]
    fn junk_is_reported_and_never_panics() {
        let junk =
            ["", "{", "null", "[1]", "{\"push\":{\"channel\":\"c\",\"pub\":{\"data\":", "{\"id\":\"1\"}", "\u{fffd}"];
        for text in junk {
            assert_eq!(read(Wire::Json, text.as_bytes()), [None], "{text}");
        }
        for bytes in [&[5][..], &[255; 12], &[2, 8], &[1, 7], &[3, 34, 9, 1]] {
            assert_eq!(read(Wire::Protobuf, bytes), [None], "{bytes:?}");
        }
        let good: &[u8] = br#"{"push":{"channel":"c1","pub":{"data":{"s":[1,"]\""]},"offset":7,"tags":{"a":"b"}}}}"#;
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..20_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let mut bytes = good.to_vec();
            let at = random as usize % bytes.len();
            bytes[at] = (random >> 32) as u8;
            bytes.truncate((random >> 40) as usize % good.len() + 1);
            for wire in [Wire::Json, Wire::Protobuf] {
                each_message(wire, &bytes, |message| {
                    if let Some(Message::Subscribed { result, .. }) = message {
                        each_recovered(wire, result.publications, |_| {});
                    }
                });
            }
        }
    }

    /// Servers may order keys as they like and may add some; another order must not hide a publication.
    #[test]
    fn keys_in_any_order_and_unknown_ones() {
        let frame =
            br#" { "x":[{"a":"}"}], "push" : {"pub":{"tags":{"k":"v"},"data":"s","epoch":"e"},"channel":"c"}} "#;
        let publication = Publication { offset: 0, data: b"\"s\"" };
        assert_eq!(read(Wire::Json, frame), [Some(Message::Publication { channel: b"c", publication })]);
        let frame = br#"{"push":{"channel":"c","unsubscribe":{"code":2500,"reason":"x"}}}"#;
        assert_eq!(read(Wire::Json, frame), [Some(Message::Unsubscribed { code: 2500 })]);
        assert_eq!(read(Wire::Json, br#"{"push":{"channel":"c","join":{}}}"#), [Some(Message::Other)]);
        assert_eq!(read(Wire::Json, br#"{"id":4,"publish":{}}"#), [Some(Message::Done { id: 4 })]);
    }
}
