//! What the server says, taken apart by hand in both encodings.

use gyre_proto::Encoding;
use sonic_rs::{JsonContainerTrait as _, JsonValueTrait as _, Value};

use crate::wire::{Granted, Heard, Pub, number_of};

pub(crate) fn understand(encoding: Encoding, message: &[u8]) -> Heard {
    match encoding {
        Encoding::Json => understand_json(&sonic_rs::from_slice(message).expect("the server speaks JSON")),
        Encoding::Protobuf => {
            let mut rest = message;
            let length = varint(&mut rest) as usize;
            assert_eq!(rest.len(), length, "one message a push");
            understand_protobuf(&Fields::of(rest))
        }
    }
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(|v| v.as_u64()).unwrap_or_default()
}

fn truth(value: &Value, key: &str) -> bool {
    value.get(key).and_then(|v| v.as_bool()).unwrap_or_default()
}

fn json_publications(value: &Value) -> Vec<Pub> {
    let list = value.get("publications").and_then(|list| list.as_array());
    list.map_or(Vec::new(), |list| list.iter().map(json_publication).collect())
}

fn json_publication(value: &Value) -> Pub {
    let client = value.get("info").map_or(String::new(), |info| text(info, "client"));
    Pub { n: number(value, "data"), offset: number(value, "offset"), epoch: text(value, "epoch"), client }
}

fn json_granted(value: &Value) -> Granted {
    Granted {
        recoverable: truth(value, "recoverable"),
        positioned: truth(value, "positioned"),
        recovered: truth(value, "recovered"),
        was_recovering: truth(value, "was_recovering"),
        epoch: text(value, "epoch"),
        offset: number(value, "offset"),
        publications: json_publications(value),
    }
}

fn understand_json(message: &Value) -> Heard {
    let id = number(message, "id") as u32;
    if let Some(push) = message.get("push") {
        let channel = text(push, "channel");
        let client = |body: &Value| body.get("info").map_or(String::new(), |info| text(info, "client"));
        return if let Some(body) = push.get("pub") {
            Heard::Publication { channel, publication: json_publication(body) }
        } else if let Some(body) = push.get("join") {
            Heard::Join { channel, client: client(body) }
        } else if let Some(body) = push.get("leave") {
            Heard::Leave { channel, client: client(body) }
        } else if let Some(body) = push.get("unsubscribe") {
            Heard::Unsubscribed { channel, code: number(body, "code") as u32 }
        } else if let Some(body) = push.get("subscribe") {
            Heard::Given { channel, granted: json_granted(body) }
        } else {
            panic!("unknown push {message:?}")
        };
    }
    if let Some(error) = message.get("error") {
        Heard::Error { id, code: number(error, "code") as u32 }
    } else if let Some(body) = message.get("connect") {
        let subs = body.get("subs").and_then(|subs| subs.as_object());
        let subs = subs.map_or(Vec::new(), |subs| subs.iter().map(|(k, v)| (k.to_owned(), json_granted(v))).collect());
        Heard::Connect { id, client: text(body, "client"), subs }
    } else if let Some(body) = message.get("subscribe") {
        Heard::Subscribe { id, granted: json_granted(body) }
    } else if message.get("unsubscribe").is_some() {
        Heard::Unsubscribe { id }
    } else if message.get("publish").is_some() {
        Heard::Publish { id }
    } else if message.get("rpc").is_some() {
        Heard::Rpc { id }
    } else if message.get("presence").is_some() {
        Heard::Presence { id }
    } else if let Some(body) = message.get("presence_stats") {
        Heard::PresenceStats { id, clients: number(body, "num_clients"), users: number(body, "num_users") }
    } else if let Some(body) = message.get("history") {
        let top = (number(body, "offset"), text(body, "epoch"));
        Heard::History { id, publications: json_publications(body), top }
    } else {
        assert!(id == 0 && message.as_object().is_some_and(|o| o.is_empty()), "unknown reply {message:?}");
        Heard::Ping
    }
}

/// Fields of a Protobuf message by tag.
struct Fields<'a>(Vec<(u64, u64, &'a [u8])>);

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, tail) = rest.split_first().expect("a whole number");
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

impl<'a> Fields<'a> {
    fn of(mut rest: &'a [u8]) -> Self {
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let key = varint(&mut rest);
            let value = varint(&mut rest);
            let bytes = match key & 7 {
                0 => &rest[..0],
                2 => {
                    let (bytes, tail) = rest.split_at(value as usize);
                    rest = tail;
                    bytes
                }
                other => panic!("unexpected wire type {other}"),
            };
            fields.push((key >> 3, value, bytes));
        }
        Self(fields)
    }

    fn number(&self, tag: u64) -> u64 {
        self.0.iter().find(|field| field.0 == tag).map_or(0, |field| field.1)
    }

    fn all(&self, tag: u64) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |field| field.0 == tag).map(|field| field.2)
    }

    fn message(&self, tag: u64) -> Option<Self> {
        self.all(tag).next().map(Fields::of)
    }

    fn text(&self, tag: u64) -> String {
        self.all(tag).next().map_or(String::new(), |bytes| String::from_utf8(bytes.to_vec()).expect("UTF-8"))
    }
}

fn pb_publication(bytes: &[u8]) -> Pub {
    let fields = Fields::of(bytes);
    let client = fields.message(5).map_or(String::new(), |info| info.text(2));
    let n = number_of(fields.all(4).next().expect("data"));
    Pub { n, offset: fields.number(6), epoch: fields.text(14), client }
}

fn pb_granted(fields: &Fields<'_>) -> Granted {
    Granted {
        recoverable: fields.number(3) != 0,
        positioned: fields.number(10) != 0,
        recovered: fields.number(8) != 0,
        was_recovering: fields.number(12) != 0,
        epoch: fields.text(6),
        offset: fields.number(9),
        publications: fields.all(7).map(pb_publication).collect(),
    }
}

fn understand_protobuf(reply: &Fields<'_>) -> Heard {
    let id = reply.number(1) as u32;
    if let Some(push) = reply.message(4) {
        let channel = push.text(2);
        let client = |body: Fields<'_>| body.message(1).map_or(String::new(), |info| info.text(2));
        return if let Some(body) = push.all(4).next() {
            Heard::Publication { channel, publication: pb_publication(body) }
        } else if let Some(body) = push.message(5) {
            Heard::Join { channel, client: client(body) }
        } else if let Some(body) = push.message(6) {
            Heard::Leave { channel, client: client(body) }
        } else if let Some(body) = push.message(9) {
            let (recoverable, positioned) = (body.number(1) != 0, body.number(6) != 0);
            let (epoch, offset) = (body.text(4), body.number(5));
            Heard::Given { channel, granted: Granted { recoverable, positioned, epoch, offset, ..Granted::default() } }
        } else {
            let body = push.message(7).expect("a known push");
            Heard::Unsubscribed { channel, code: body.number(2) as u32 }
        };
    }
    let Some((tag, _, bytes)) = reply.0.iter().find(|(tag, ..)| *tag != 1) else { return Heard::Ping };
    let body = Fields::of(bytes);
    match tag {
        2 => Heard::Error { id, code: body.number(1) as u32 },
        5 => {
            let sub = |entry| {
                let entry = Fields::of(entry);
                (entry.text(1), entry.message(2).map_or_else(Granted::default, |sub| pb_granted(&sub)))
            };
            Heard::Connect { id, client: body.text(1), subs: body.all(6).map(sub).collect() }
        }
        6 => Heard::Subscribe { id, granted: pb_granted(&body) },
        7 => Heard::Unsubscribe { id },
        8 => Heard::Publish { id },
        9 => Heard::Presence { id },
        10 => Heard::PresenceStats { id, clients: body.number(1), users: body.number(2) },
        11 => {
            let publications = body.all(1).map(pb_publication).collect();
            Heard::History { id, publications, top: (body.number(3), body.text(2)) }
        }
        13 => Heard::Rpc { id },
        other => panic!("unknown reply {other}"),
    }
}
