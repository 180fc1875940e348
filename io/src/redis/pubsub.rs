//! What of the bytes from Redis is no reply: messages of channels, and that a subscription began or ended.
//!
//! RESP3 marks them as pushes; RESP2 sends them as arrays, so there the connection has to know that it subscribed before it
//! looks here: a list that somebody stored may read like a message. Pure functions of a core's thread.

use bytes::Bytes;
use redis_protocol::resp3::types::RangeFrame;

use super::reply::string;

/// One push, or the array of RESP2 that stands for it.
#[derive(Debug, PartialEq)]
pub(super) enum Push {
    Message {
        channel: Bytes,
        payload: Bytes,
        sharded: bool,
    },
    /// A subscription to `channel` began or ended. No channel: all ended, and there were none.
    Changed {
        subscribed: bool,
        sharded: bool,
        channel: Option<Bytes>,
    },
    /// Nothing that we ask for: patterns, invalidations of cached keys, or the answer to a ping.
    Other,
}

pub(super) fn push(parts: &[RangeFrame], bytes: &Bytes) -> Push {
    let part = |index: usize| parts.get(index).and_then(|part| string(part, bytes));
    let Some(kind) = part(0) else { return Push::Other };
    let changed = |subscribed, sharded| Push::Changed { subscribed, sharded, channel: part(1) };
    match &*kind {
        b"message" | b"smessage" => match (part(1), part(2)) {
            (Some(channel), Some(payload)) => Push::Message { channel, payload, sharded: kind[0] == b's' },
            _ => Push::Other,
        },
        b"subscribe" => changed(true, false),
        b"ssubscribe" => changed(true, true),
        b"unsubscribe" => changed(false, false),
        b"sunsubscribe" => changed(false, true),
        _ => Push::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::reply::Decoded;
    use super::*;

    fn read(text: &'static [u8]) -> Push {
        let decoded = Decoded::new(Bytes::from_static(text)).expect("a push");
        match &decoded.frame {
            RangeFrame::Push { data, .. } | RangeFrame::Array { data, .. } => push(data, &decoded.bytes),
            other => panic!("{other:?}"),
        }
    }

    /// A push read wrongly is a publication that no client gets, or a subscription that is never confirmed.
    #[test]
    fn pushes_of_both_protocols() {
        let a = || Bytes::from_static(b"a");
        let message = |sharded| Push::Message { channel: a(), payload: Bytes::from_static(b"x\r\n"), sharded };
        let changed = |subscribed, sharded| Push::Changed { subscribed, sharded, channel: Some(a()) };
        assert_eq!(read(b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$3\r\nx\r\n\r\n"), message(false));
        assert_eq!(read(b"*3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$3\r\nx\r\n\r\n"), message(true));
        assert_eq!(read(b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"), changed(true, false));
        assert_eq!(read(b"*3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:1\r\n"), changed(true, true));
        assert_eq!(read(b">3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n"), changed(false, false));
        assert_eq!(read(b">3\r\n$12\r\nsunsubscribe\r\n$1\r\na\r\n:1\r\n"), changed(false, true));
        let none = Push::Changed { subscribed: false, sharded: false, channel: None };
        assert_eq!(read(b">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n"), none);
        assert_eq!(read(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n"), Push::Other);
        assert_eq!(read(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"), Push::Other);
        assert_eq!(read(b">2\r\n$7\r\nmessage\r\n:1\r\n"), Push::Other);
        assert_eq!(read(b"*0\r\n"), Push::Other);
    }
}
