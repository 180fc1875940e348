//! Protobuf messages, read field by field. The numbers are those of the public protocol definition.

use super::{Message, Publication, Subscribed};

/// Reads one message (without its length); None if it is not one.
pub(super) fn message(bytes: &[u8]) -> Option<Message<'_>> {
    if bytes.is_empty() {
        return Some(Message::Ping);
    }
    let mut id = 0;
    let mut found = None;
    let mut failed = None;
    fields(bytes, |field| {
        match field {
            (1, Value::Number(number)) => id = u32::try_from(number).ok()?,
            (2, Value::Bytes(error)) => failed = Some(number_of(error, 1)? as u32),
            (4, Value::Bytes(bytes)) => found = Some(push(bytes)?),
            (5, Value::Bytes(connect)) => found = Some(Message::Connected { id: 0, pong: number_of(connect, 8)? != 0 }),
            (6, Value::Bytes(bytes)) => found = Some(Message::Subscribed { id: 0, result: subscribed(bytes)? }),
            _ => {}
        }
        Some(())
    })?;
    if let Some(code) = failed {
        return Some(Message::Failed { id, code });
    }
    Some(match found {
        Some(Message::Connected { pong, .. }) => Message::Connected { id, pong },
        Some(Message::Subscribed { result, .. }) => Message::Subscribed { id, result },
        Some(push) => push,
        None => Message::Done { id },
    })
}

/// Reads the publications of a subscribe result, given as a whole.
pub(super) fn publications<'a>(result: &'a [u8], mut each: impl FnMut(Publication<'a>)) -> Option<()> {
    fields(result, |field| {
        if let (7, Value::Bytes(bytes)) = field {
            each(publication(bytes)?);
        }
        Some(())
    })
}

/// Splits what a length in front announces from what follows it.
pub(super) fn split_length(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = varint(bytes)?;
    rest.split_at_checked(usize::try_from(len).ok()?)
}

fn push(bytes: &[u8]) -> Option<Message<'_>> {
    let mut channel: &[u8] = b"";
    let mut found = Message::Other;
    fields(bytes, |field| {
        match field {
            (2, Value::Bytes(name)) => channel = name,
            (4, Value::Bytes(bytes)) => {
                found = Message::Publication { channel: b"", publication: publication(bytes)? };
            }
            (7, Value::Bytes(bytes)) => {
                found = Message::Unsubscribed { code: number_of(bytes, 2)? as u32 };
            }
            _ => {}
        }
        Some(())
    })?;
    Some(match found {
        Message::Publication { publication, .. } => Message::Publication { channel, publication },
        other => other,
    })
}

fn publication(bytes: &[u8]) -> Option<Publication<'_>> {
    let mut found = Publication::default();
    fields(bytes, |field| {
        match field {
            (4, Value::Bytes(data)) => found.data = data,
            (6, Value::Number(offset)) => found.offset = offset,
            _ => {}
        }
        Some(())
    })?;
    Some(found)
}

fn subscribed(bytes: &[u8]) -> Option<Subscribed<'_>> {
    let mut found = Subscribed { publications: bytes, ..Subscribed::default() };
    fields(bytes, |field| {
        match field {
            (3, Value::Number(flag)) => found.recoverable = flag != 0,
            (6, Value::Bytes(epoch)) => found.epoch = epoch,
            (8, Value::Number(flag)) => found.recovered = flag != 0,
            (9, Value::Number(offset)) => found.offset = offset,
            _ => {}
        }
        Some(())
    })?;
    Some(found)
}

/// The number in a field of a message; 0 if it is absent.
fn number_of(bytes: &[u8], wanted: u64) -> Option<u64> {
    let mut found = 0;
    fields(bytes, |field| {
        if let (number, Value::Number(value)) = field
            && number == wanted
        {
            found = value;
        }
        Some(())
    })?;
    Some(found)
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Fixed 32 or 64 bits: none of the fields we read.
    Fixed,
}

fn fields<'a>(bytes: &'a [u8], mut each: impl FnMut((u64, Value<'a>)) -> Option<()>) -> Option<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (tag, tail) = varint(rest)?;
        let value;
        (value, rest) = match tag & 7 {
            0 => varint(tail).map(|(number, tail)| (Value::Number(number), tail))?,
            1 => (Value::Fixed, tail.get(8..)?),
            2 => split_length(tail).map(|(bytes, tail)| (Value::Bytes(bytes), tail))?,
            5 => (Value::Fixed, tail.get(4..)?),
            _ => return None,
        };
        each((tag >> 3, value))?;
    }
    Some(())
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    // Ten groups of seven bits hold 64 bits.
    for (at, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}
