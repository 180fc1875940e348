//! What Redis answers, as one enum for both of its protocols.
//!
//! Converted on a core's thread from what redis-protocol found in a complete reply (`scan.rs` says what is complete).
//! Strings are not copied: they are parts of the receive buffer and keep all of it, some 16 KiB, so whoever stores one
//! for long copies it. Must never recurse deeper than the scanner allows.

use std::borrow::Cow;

use bytes::Bytes;
use redis_protocol::resp3::decode::complete::decode_range;
use redis_protocol::resp3::types::RangeFrame;

use super::scan::Malformed;

/// A reply, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// There is no such thing.
    Nil,
    /// A number.
    Int(i64),
    /// A floating-point number; RESP3 only.
    Double(f64),
    /// A truth value; RESP3 only.
    Bool(bool),
    /// A string of any sort: simple, of given length, verbatim (without its format), or a number of very many digits.
    Bytes(Bytes),
    /// An array or a set.
    Array(Vec<Self>),
    /// A map in the order in which Redis sent it; RESP3 only, RESP2 has arrays instead.
    Map(Vec<(Self, Self)>),
    /// The command failed, or this part of it.
    Error(ReplyError),
}

/// The line with which Redis refuses a command.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplyError(Bytes);

impl Reply {
    /// A number, also where it comes as a string (fields of hashes, results of scripts).
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            Self::Bytes(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// A floating-point number, also where it comes as a string, as all of them do in RESP2.
    pub fn as_double(&self) -> Option<f64> {
        match self {
            Self::Double(value) => Some(*value),
            Self::Int(value) => Some(*value as f64),
            Self::Bytes(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// A string.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The string itself.
    pub fn into_bytes(self) -> Option<Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The elements. Those of a map are key, value, key, value and so on: what RESP2 sends for it.
    pub fn into_array(self) -> Option<Vec<Self>> {
        match self {
            Self::Array(elements) => Some(elements),
            Self::Map(pairs) => Some(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()),
            _ => None,
        }
    }

    /// Splits off that the command failed.
    pub fn into_result(self) -> Result<Self, ReplyError> {
        match self {
            Self::Error(error) => Err(error),
            reply => Ok(reply),
        }
    }
}

impl ReplyError {
    /// The word that says what it is about, such as `NOSCRIPT`, `MOVED` or `ERR`; empty if there is none, as with errors
    /// that scripts make up.
    pub fn code(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == b' ').unwrap_or(self.0.len());
        let word = &self.0[..end];
        let is_code = word.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_');
        std::str::from_utf8(word).ok().filter(|_| is_code).unwrap_or_default()
    }

    /// What follows the word: prose, or after `MOVED` and `ASK` the slot and the address.
    pub fn message(&self) -> Cow<'_, str> {
        let message = &self.0[self.code().len()..];
        String::from_utf8_lossy(message.trim_ascii())
    }

    /// The whole line.
    pub fn text(&self) -> &Bytes {
        &self.0
    }
}

/// One reply with its bytes.
pub(super) struct Decoded {
    pub(super) frame: RangeFrame,
    pub(super) bytes: Bytes,
}

impl Decoded {
    /// `bytes` are exactly one reply, as the scanner cut it.
    pub(super) fn new(bytes: Bytes) -> Result<Self, Malformed> {
        match decode_range(&bytes) {
            Ok(Some((frame, used))) if used == bytes.len() => Ok(Self { frame, bytes }),
            _ => Err("a value that cannot be read"),
        }
    }

    pub(super) fn into_reply(self) -> Result<Reply, Malformed> {
        reply(self.frame, &self.bytes)
    }
}

/// The string that `frame` is, if it is one.
pub(super) fn string(frame: &RangeFrame, bytes: &Bytes) -> Option<Bytes> {
    match frame {
        RangeFrame::BlobString { data, .. }
        | RangeFrame::SimpleString { data, .. }
        | RangeFrame::BigNumber { data, .. }
        | RangeFrame::VerbatimString { data, .. } => Some(bytes.slice(data.0..data.1)),
        _ => None,
    }
}

fn reply(frame: RangeFrame, bytes: &Bytes) -> Result<Reply, Malformed> {
    if let Some(string) = string(&frame, bytes) {
        return Ok(Reply::Bytes(string));
    }
    Ok(match frame {
        RangeFrame::Null => Reply::Nil,
        RangeFrame::Number { data, .. } => Reply::Int(data),
        RangeFrame::Double { data, .. } => Reply::Double(data),
        RangeFrame::Boolean { data, .. } => Reply::Bool(data),
        RangeFrame::SimpleError { data, .. } | RangeFrame::BlobError { data, .. } => {
            Reply::Error(ReplyError(bytes.slice(data.0..data.1)))
        }
        RangeFrame::Array { data, .. } => {
            Reply::Array(data.into_iter().map(|element| reply(element, bytes)).collect::<Result<_, _>>()?)
        }
        // The decoder fills its map from the end.
        RangeFrame::Map { data, .. } => {
            let pairs = data.into_iter().rev().map(|(key, value)| Ok((reply(key, bytes)?, reply(value, bytes)?)));
            Reply::Map(pairs.collect::<Result<_, Malformed>>()?)
        }
        // Not let through by the scanner, or handled before as a push.
        _ => return Err("a kind of value that is no reply"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::scan::{Scan, Scanner};
    use super::*;

    fn decode(resp3: bool, text: &str) -> Result<Reply, Malformed> {
        let mut bytes = text.as_bytes().to_vec();
        match Scanner::new(resp3).scan(&mut bytes)? {
            Scan::Frame(length) if length == bytes.len() => Decoded::new(bytes.into())?.into_reply(),
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn bytes(text: &'static str) -> Reply {
        Reply::Bytes(Bytes::from_static(text.as_bytes()))
    }

    fn error(text: &'static str) -> Reply {
        Reply::Error(ReplyError(Bytes::from_static(text.as_bytes())))
    }

    /// Each kind of value of either protocol means the same to the engine; a kind read wrongly is a wrong offset, a lost
    /// publication or an error taken for data.
    #[test]
    fn every_kind_of_reply() {
        let both = [
            ("+OK\r\n", bytes("OK")),
            ("+\r\n", bytes("")),
            ("-NOSCRIPT No matching script.\r\n", error("NOSCRIPT No matching script.")),
            (":-9223372036854775808\r\n", Reply::Int(i64::MIN)),
            ("$5\r\na\r\nb\0\r\n", bytes("a\r\nb\0")),
            ("$0\r\n\r\n", bytes("")),
            ("$-1\r\n", Reply::Nil),
            ("*-1\r\n", Reply::Nil),
            ("*0\r\n", Reply::Array(vec![])),
            (
                "*4\r\n:1\r\n$-1\r\n*-1\r\n*1\r\n-ERR part\r\n",
                Reply::Array(vec![Reply::Int(1), Reply::Nil, Reply::Nil, Reply::Array(vec![error("ERR part")])]),
            ),
        ];
        for (text, reply) in both {
            assert_eq!(decode(false, text), Ok(reply.clone()), "RESP2 {text:?}");
            assert_eq!(decode(true, text), Ok(reply), "RESP3 {text:?}");
        }
        let resp3 = [
            ("_\r\n", Reply::Nil),
            ("#t\r\n", Reply::Bool(true)),
            ("#f\r\n", Reply::Bool(false)),
            (",1.5\r\n", Reply::Double(1.5)),
            (",-inf\r\n", Reply::Double(f64::NEG_INFINITY)),
            ("(3492890328409238509324850943850943825024385\r\n", bytes("3492890328409238509324850943850943825024385")),
            ("=7\r\ntxt:abc\r\n", bytes("abc")),
            ("=4\r\nmkd:\r\n", bytes("")),
            ("!9\r\nERR a\r\nbc\r\n", error("ERR a\r\nbc")),
            ("~2\r\n*0\r\n:1\r\n", Reply::Array(vec![Reply::Array(vec![]), Reply::Int(1)])),
            (
                "%3\r\n+b\r\n:1\r\n+a\r\n%1\r\n:5\r\n_\r\n:5\r\n:5\r\n",
                Reply::Map(vec![
                    (bytes("b"), Reply::Int(1)),
                    (bytes("a"), Reply::Map(vec![(Reply::Int(5), Reply::Nil)])),
                    (Reply::Int(5), Reply::Int(5)),
                ]),
            ),
            ("*2\r\n|1\r\n+ttl\r\n*1\r\n:3600\r\n:7\r\n+a\r\n", Reply::Array(vec![Reply::Int(7), bytes("a")])),
        ];
        for (text, reply) in resp3 {
            assert_eq!(decode(true, text), Ok(reply), "{text:?}");
            assert!(decode(false, text).is_err(), "not RESP2: {text:?}");
        }
        assert!(matches!(decode(true, ",nan\r\n"), Ok(Reply::Double(value)) if value.is_nan()));
    }

    /// Values that only the decoder can judge end the connection too.
    #[test]
    fn unreadable_values_are_refused() {
        for text in
            [":\r\n", ":1a\r\n", ":9223372036854775808\r\n", ",a\r\n", "=7\r\nabc:abc\r\n", "%1\r\n*0\r\n+a\r\n"]
        {
            assert!(decode(true, text).is_err(), "{text:?}");
        }
    }

    /// An error that repeats an argument of ours repeats any bytes of it. It must reach the caller as an error, and not
    /// end the connection with everybody else's commands.
    #[test]
    fn an_error_may_hold_any_bytes() {
        let Ok(Reply::Error(error)) = Decoded::new(Bytes::from_static(b"-ERR no \xff\xfe\r\n")).unwrap().into_reply()
        else {
            panic!("an error");
        };
        assert_eq!((error.code(), &*error.message()), ("ERR", "no \u{fffd}\u{fffd}"));
    }

    /// Scripts are loaded again on `NOSCRIPT`, the cluster map follows `MOVED`: the word must be found, and not invented.
    #[test]
    fn the_word_of_an_error() {
        let table = [
            ("NOSCRIPT No matching script. Please use EVAL.", "NOSCRIPT", "No matching script. Please use EVAL."),
            ("MOVED 3999 127.0.0.1:6381", "MOVED", "3999 127.0.0.1:6381"),
            ("OOM", "OOM", ""),
            ("my own error of a script", "", "my own error of a script"),
            ("", "", ""),
        ];
        for (text, code, message) in table {
            let error = ReplyError(Bytes::from_static(text.as_bytes()));
            assert_eq!((error.code(), &*error.message()), (code, message));
        }
    }

    /// The engine reads a history or a presence the same way whatever the protocol.
    #[test]
    fn both_protocols_read_alike() {
        let map = decode(true, "%1\r\n$1\r\na\r\n:1\r\n").unwrap();
        let array = decode(false, "*2\r\n$1\r\na\r\n:1\r\n").unwrap();
        assert_eq!(map.into_array(), array.into_array());
        assert_eq!(bytes("12").as_int(), Some(12));
        assert_eq!(bytes("12a").as_int(), None);
        assert_eq!(bytes("1.5").as_double(), Reply::Double(1.5).as_double());
        assert!(error("ERR x").into_result().is_err());
        assert_eq!(bytes("x").into_bytes().as_deref(), Some(b"x".as_slice()));
    }
}
