//! Commands of a client, appended to a buffer that becomes one WebSocket frame.
//!
//! Connect and all subscribes of a client travel in one frame, as the official clients send them; the server answers
//! in order. Ids: 1 is connect, 2 + n the n-th subscribe, publishes count on from [`PUBLISH_ID`].

use super::Wire;

/// Id of the connect command.
pub(crate) const CONNECT_ID: u32 = 1;
/// Id of the first subscribe command.
pub(crate) const SUBSCRIBE_ID: u32 = 2;
/// Id of the first publish command of a connection.
pub(crate) const PUBLISH_ID: u32 = 1 << 16;

/// From where a subscription goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Position<'a> {
    /// No recovery wanted.
    None,
    /// Ask for a position to recover from later.
    Wanted,
    /// Recover what came after this.
    After { epoch: &'a [u8], offset: u64 },
}

/// Begins a frame with the connect command.
pub(crate) fn connect(wire: Wire, out: &mut Vec<u8>, token: &[u8]) {
    match wire {
        Wire::Json if token.is_empty() => out.extend_from_slice(b"{\"id\":1,\"connect\":{}}"),
        Wire::Json => {
            out.extend_from_slice(b"{\"id\":1,\"connect\":{\"token\":\"");
            out.extend_from_slice(token);
            out.extend_from_slice(b"\"}}");
        }
        Wire::Protobuf => {
            let token_len = if token.is_empty() { 0 } else { 1 + varint_len(token.len()) + token.len() };
            begin_command(out, CONNECT_ID, 4, token_len);
            if token_len > 0 {
                field(out, 1, token);
            }
        }
    }
}

/// Adds a subscribe command to a frame.
pub(crate) fn subscribe(wire: Wire, out: &mut Vec<u8>, id: u32, channel: &[u8], position: Position<'_>) {
    match wire {
        Wire::Json => {
            json_head(out, id, b"subscribe", channel);
            match position {
                Position::None => {}
                Position::Wanted => out.extend_from_slice(b",\"recoverable\":true"),
                Position::After { epoch, offset } => {
                    out.extend_from_slice(b",\"recoverable\":true,\"recover\":true,\"epoch\":\"");
                    out.extend_from_slice(epoch);
                    out.extend_from_slice(b"\",\"offset\":");
                    out.extend_from_slice(itoa::Buffer::new().format(offset).as_bytes());
                }
            }
            out.extend_from_slice(b"}}");
        }
        Wire::Protobuf => {
            let channel_len = 1 + varint_len(channel.len()) + channel.len();
            let position_len = match position {
                Position::None => 0,
                Position::Wanted => 2,
                Position::After { epoch, offset } => {
                    4 + 1 + varint_len(epoch.len()) + epoch.len() + 1 + varint_len(offset as usize)
                }
            };
            begin_command(out, id, 5, channel_len + position_len);
            field(out, 1, channel);
            if let Position::After { epoch, offset } = position {
                out.extend_from_slice(&[3 << 3, 1]);
                field(out, 6, epoch);
                out.push(7 << 3);
                varint(out, offset as usize);
            }
            if position != Position::None {
                out.extend_from_slice(&[10 << 3, 1]);
            }
        }
    }
}

/// Adds a publish command to a frame; `data` is JSON.
pub(crate) fn publish(wire: Wire, out: &mut Vec<u8>, id: u32, channel: &[u8], data: &[u8]) {
    match wire {
        Wire::Json => {
            json_head(out, id, b"publish", channel);
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(data);
            out.extend_from_slice(b"}}");
        }
        Wire::Protobuf => {
            let len = 2 + varint_len(channel.len()) + channel.len() + varint_len(data.len()) + data.len();
            begin_command(out, id, 7, len);
            field(out, 1, channel);
            field(out, 2, data);
        }
    }
}

fn json_head(out: &mut Vec<u8>, id: u32, kind: &[u8], channel: &[u8]) {
    if !out.is_empty() {
        out.push(b'\n');
    }
    out.extend_from_slice(b"{\"id\":");
    out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
    out.extend_from_slice(b",\"");
    out.extend_from_slice(kind);
    out.extend_from_slice(b"\":{\"channel\":\"");
    out.extend_from_slice(channel);
    out.push(b'"');
}

/// Length, id and the tag and length of the request that follows.
fn begin_command(out: &mut Vec<u8>, id: u32, request: u8, request_len: usize) {
    let id = id as usize;
    varint(out, 1 + varint_len(id) + 1 + varint_len(request_len) + request_len);
    out.push(1 << 3);
    varint(out, id);
    out.push(request << 3 | 2);
    varint(out, request_len);
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: usize) -> usize {
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use gyre_proto::Encoding;
    use gyre_proto::client::decode_commands;
    use std::ops::ControlFlow;

    /// A command that a server does not understand would make every run fail against it.
    #[test]
    fn a_node_reads_what_we_write() {
        for (wire, encoding) in [(Wire::Json, Encoding::Json), (Wire::Protobuf, Encoding::Protobuf)] {
            let mut frame = Vec::new();
            let long = [b'c'; 200];
            let data = *br#"{"s":1}"#;
            connect(wire, &mut frame, b"to.ke.n");
            subscribe(wire, &mut frame, 2, b"lt:c1", Position::None);
            subscribe(wire, &mut frame, 3, b"lt:c2", Position::Wanted);
            subscribe(wire, &mut frame, 300, &long, Position::After { epoch: b"abcd", offset: 70_000 });
            publish(wire, &mut frame, PUBLISH_ID, b"lt:c1", &data);
            let mut commands = Vec::new();
            let read = decode_commands(encoding, &frame, |command| {
                commands.push(command);
                ControlFlow::Continue(())
            });
            assert!(read.is_ok(), "{wire:?} {frame:?}");
            let [connect, first, second, third, publish] = &commands[..] else { panic!("{commands:?}") };
            assert_eq!((connect.id, connect.connect.as_ref().unwrap().token.as_str()), (1, "to.ke.n"));
            let first = first.subscribe.as_ref().unwrap();
            assert_eq!((first.channel.as_str(), first.recoverable, first.recover), ("lt:c1", false, false));
            assert!(second.subscribe.as_ref().unwrap().recoverable);
            assert_eq!(third.id, 300);
            let third = third.subscribe.as_ref().unwrap();
            assert_eq!((third.channel.as_bytes(), third.epoch.as_str(), third.offset), (&long[..], "abcd", 70_000));
            assert!(third.recover && third.recoverable);
            let request = publish.publish.as_ref().unwrap();
            assert_eq!((publish.id, request.channel.as_str(), &request.data[..]), (PUBLISH_ID, "lt:c1", &data[..]));
        }
    }
}
