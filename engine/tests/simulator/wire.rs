//! The client's end of the protocol, written apart from `gyre-proto` so that the simulator is a witness of its own:
//! commands to bytes, bytes to what a client understands of them.

use gyre_proto::Encoding;

/// Offset and epoch of the last publication seen.
pub(crate) type Seen = (u64, String);

/// A command.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    Connect { token: String, subs: Vec<(String, Seen)> },
    Subscribe { channel: String, recover: Option<Seen>, wishes: Wishes },
    Unsubscribe(String),
    Publish { channel: String, data: String },
    Presence(String),
    PresenceStats(String),
    History { channel: String, limit: i32, since: Option<Seen>, reverse: bool },
    Rpc,
    Pong,
}

/// What a subscribe asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) positioned: bool,
    pub(crate) recoverable: bool,
    pub(crate) join_leave: bool,
    /// Error 112 rather than an unrecovered success.
    pub(crate) reject: bool,
}

/// A message from the server, or the end of the connection.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    Ping,
    Error { id: u32, code: u32 },
    Connect { id: u32, client: String, subs: Vec<(String, Granted)> },
    Subscribe { id: u32, granted: Granted },
    Unsubscribe { id: u32 },
    Rpc { id: u32 },
    Publish { id: u32 },
    Presence { id: u32 },
    PresenceStats { id: u32, clients: u64, users: u64 },
    History { id: u32, publications: Vec<Pub>, top: Seen },
    Publication { channel: String, publication: Pub },
    Join { channel: String, client: String },
    Leave { channel: String, client: String },
    Unsubscribed { channel: String, code: u32 },
    Given { channel: String, granted: Granted },
    Closed(u32),
}

impl Heard {
    /// Id of the command answered.
    pub(crate) fn id(&self) -> Option<u32> {
        match self {
            Self::Error { id, .. }
            | Self::Connect { id, .. }
            | Self::Subscribe { id, .. }
            | Self::Unsubscribe { id }
            | Self::Publish { id }
            | Self::Rpc { id }
            | Self::Presence { id, .. }
            | Self::PresenceStats { id, .. }
            | Self::History { id, .. } => Some(*id),
            _ => None,
        }
    }
}

/// A publication as a client sees it. Data is a number, after a `!` when it is not JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pub {
    pub(crate) n: u64,
    pub(crate) offset: u64,
    pub(crate) epoch: String,
    /// The publishing client; empty = the server API.
    pub(crate) client: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Granted {
    pub(crate) recoverable: bool,
    pub(crate) positioned: bool,
    pub(crate) recovered: bool,
    pub(crate) was_recovering: bool,
    pub(crate) epoch: String,
    pub(crate) offset: u64,
    pub(crate) publications: Vec<Pub>,
}

pub(crate) fn number_of(data: &[u8]) -> u64 {
    let text = std::str::from_utf8(data).expect("data is a number");
    text.trim_start_matches('!').parse().expect("data is a number")
}

/// One frame of commands with their ids.
pub(crate) fn frame(encoding: Encoding, commands: &[(u32, Say)]) -> Vec<u8> {
    match encoding {
        Encoding::Json => {
            let lines: Vec<String> = commands.iter().map(|(id, say)| json(*id, say)).collect();
            lines.join("\n").into_bytes()
        }
        Encoding::Protobuf => {
            let mut out = Vec::new();
            for (id, say) in commands {
                let command = protobuf(*id, say);
                varint(&mut out, command.len() as u64);
                out.extend(command);
            }
            out
        }
    }
}

fn json(id: u32, say: &Say) -> String {
    let recover = |seen: &Option<Seen>| match seen {
        Some((offset, epoch)) => format!(r#","recover":true,"offset":{offset},"epoch":"{epoch}""#),
        None => String::new(),
    };
    let body = match say {
        Say::Connect { token, subs } => {
            let sub = |(channel, seen): &(String, Seen)| {
                format!(r#""{channel}":{{"channel":"{channel}"{}}}"#, recover(&Some(seen.clone())))
            };
            let subs: Vec<String> = subs.iter().map(sub).collect();
            format!(r#""connect":{{"token":"{token}","subs":{{{}}}}}"#, subs.join(","))
        }
        Say::Subscribe { channel, recover: seen, wishes } => format!(
            r#""subscribe":{{"channel":"{channel}","positioned":{},"recoverable":{},"join_leave":{},"flag":{}{}}}"#,
            wishes.positioned,
            wishes.recoverable,
            wishes.join_leave,
            if wishes.reject { 2 } else { 0 },
            recover(seen)
        ),
        Say::Unsubscribe(channel) => format!(r#""unsubscribe":{{"channel":"{channel}"}}"#),
        Say::Publish { channel, data } => format!(r#""publish":{{"channel":"{channel}","data":{data}}}"#),
        Say::Presence(channel) => format!(r#""presence":{{"channel":"{channel}"}}"#),
        Say::PresenceStats(channel) => format!(r#""presence_stats":{{"channel":"{channel}"}}"#),
        Say::History { channel, limit, since, reverse } => {
            let since = since.as_ref().map_or(String::new(), |(offset, epoch)| {
                format!(r#","since":{{"offset":{offset},"epoch":"{epoch}"}}"#)
            });
            format!(r#""history":{{"channel":"{channel}","limit":{limit},"reverse":{reverse}{since}}}"#)
        }
        Say::Rpc => r#""rpc":{"method":"m"}"#.to_owned(),
        Say::Pong => return "{}".to_owned(),
    };
    format!(r#"{{"id":{id},{body}}}"#)
}

fn protobuf(id: u32, say: &Say) -> Vec<u8> {
    let mut out = Vec::new();
    let mut body = Vec::new();
    let recover = |body: &mut Vec<u8>, seen: &Option<Seen>| {
        if let Some((offset, epoch)) = seen {
            int(body, 3, 1);
            bytes(body, 6, epoch.as_bytes());
            int(body, 7, *offset);
        }
    };
    let tag = match say {
        Say::Connect { token, subs } => {
            bytes(&mut body, 1, token.as_bytes());
            for (channel, seen) in subs {
                let mut sub = Vec::new();
                recover(&mut sub, &Some(seen.clone()));
                let mut entry = Vec::new();
                bytes(&mut entry, 1, channel.as_bytes());
                bytes(&mut entry, 2, &sub);
                bytes(&mut body, 3, &entry);
            }
            4
        }
        Say::Subscribe { channel, recover: seen, wishes } => {
            bytes(&mut body, 1, channel.as_bytes());
            recover(&mut body, seen);
            int(&mut body, 9, wishes.positioned.into());
            int(&mut body, 10, wishes.recoverable.into());
            int(&mut body, 11, wishes.join_leave.into());
            int(&mut body, 14, if wishes.reject { 2 } else { 0 });
            5
        }
        Say::Unsubscribe(channel) => {
            bytes(&mut body, 1, channel.as_bytes());
            6
        }
        Say::Publish { channel, data } => {
            bytes(&mut body, 1, channel.as_bytes());
            bytes(&mut body, 2, data.as_bytes());
            7
        }
        Say::Presence(channel) => {
            bytes(&mut body, 1, channel.as_bytes());
            8
        }
        Say::PresenceStats(channel) => {
            bytes(&mut body, 1, channel.as_bytes());
            9
        }
        Say::History { channel, limit, since, reverse } => {
            bytes(&mut body, 1, channel.as_bytes());
            int(&mut body, 7, i64::from(*limit) as u64);
            if let Some((offset, epoch)) = since {
                let mut position = Vec::new();
                int(&mut position, 1, *offset);
                bytes(&mut position, 2, epoch.as_bytes());
                bytes(&mut body, 8, &position);
            }
            int(&mut body, 9, (*reverse).into());
            10
        }
        Say::Rpc => {
            bytes(&mut body, 2, b"m");
            13
        }
        Say::Pong => return out,
    };
    int(&mut out, 1, id.into());
    bytes(&mut out, tag, &body);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn int(out: &mut Vec<u8>, tag: u64, value: u64) {
    varint(out, tag << 3);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, tag: u64, value: &[u8]) {
    varint(out, tag << 3 | 2);
    varint(out, value.len() as u64);
    out.extend(value);
}
