//! Noise: random bytes, damaged conversations, and a model of Redis that answers at random moments in random pieces.

use std::collections::VecDeque;

use super::*;
use crate::limits::REDIS_KEEP_BYTES;

/// Tokens that were given out and not handed back yet.
#[derive(Default)]
struct Ledger {
    open: Vec<bool>,
}

impl Ledger {
    fn token(&mut self) -> u64 {
        self.open.push(true);
        self.open.len() as u64 - 1
    }

    fn refused(&mut self) {
        self.open.pop();
    }

    fn note(&mut self, event: &Incoming) {
        if let Incoming::Reply { token, .. } | Incoming::Failed { token, .. } = event {
            assert!(std::mem::take(&mut self.open[*token as usize]), "token {token} twice");
        }
    }

    fn end(self, mut connection: Connection) {
        let mut ledger = self;
        connection.closed(&mut |event| ledger.note(&event));
        assert!(ledger.open.iter().all(|is_open| !is_open), "a token was never handed back");
    }
}

/// One of the things that a core may ask for.
fn ask(connection: &mut Connection, ledger: &mut Ledger, dice: &mut Dice) {
    let token = ledger.token();
    let channels: [&[u8]; 3] = [b"a", b"{b}", b"c\r\n"];
    let channels = &channels[dice.roll(3)..];
    let sharded = dice.roll(2) == 0;
    let asked = match dice.roll(4) {
        0 => connection.subscribe(token, channels, sharded, IO_TIMEOUT_MS),
        1 => connection.unsubscribe(token, channels, sharded, IO_TIMEOUT_MS),
        _ => connection.send(token, IO_TIMEOUT_MS, |out| _ = Command::new(out, 2).arg(b"GET").int(token as i64)),
    };
    if asked.is_err() {
        ledger.refused();
    }
}

/// Whatever arrives, a core goes on, holds little, and tells everybody who waits.
#[test]
fn noise_neither_panics_nor_loses_a_token() {
    const PARTS: [&[u8]; 24] = [
        b"+OK\r\n",
        b"-ERR x\r\n",
        b":1\r\n",
        b"$3\r\nabc\r\n",
        b"$-1\r\n",
        b"*2\r\n",
        b"*-1\r\n",
        b"%1\r\n",
        b"~2\r\n",
        b"|1\r\n",
        b">3\r\n",
        b"$7\r\nmessage\r\n",
        b"$9\r\nsubscribe\r\n",
        b"$12\r\nsunsubscribe\r\n",
        b"_\r\n",
        b"#t\r\n",
        b",1\r\n",
        b"(1\r\n",
        b"=5\r\ntxt:a\r\n",
        b"!1\r\na\r\n",
        b"$1\r\na\r\n",
        b"*99999\r\n",
        b"$99999\r\n",
        b"\r\n",
    ];
    for seed in 0..30_000 {
        let mut dice = Dice(seed);
        let force_resp2 = dice.roll(2) == 0;
        let mut connection =
            if dice.roll(4) == 0 { Connection::new(plain(force_resp2), 0) } else { ready(force_resp2) };
        let mut ledger = Ledger::default();
        for _ in 0..dice.roll(40) {
            ask(&mut connection, &mut ledger, &mut dice);
            if dice.roll(2) == 0 {
                connection.clear_output();
            }
            let mut piece = Vec::new();
            for _ in 0..dice.roll(4) {
                piece.extend_from_slice(PARTS[dice.roll(PARTS.len())]);
            }
            if !piece.is_empty() && dice.roll(8) == 0 {
                let at = dice.roll(piece.len());
                piece[at] = dice.roll(256) as u8;
            }
            connection.received(&piece, 0, &mut |event| ledger.note(&event));
            assert!(connection.memory() < REDIS_KEEP_BYTES);
        }
        ledger.end(connection);
    }
}

/// A Redis that knows GET and subscriptions.
struct Model {
    resp3: bool,
    /// Parts of the command that is being read.
    unread: Vec<u8>,
    said: VecDeque<u8>,
    subscriptions: Vec<(bool, Vec<u8>)>,
}

impl Model {
    fn say(&mut self, text: &[u8]) {
        self.said.extend(text);
    }

    fn push(&mut self, kind: &str, channel: &[u8], last: &str) {
        let mark = if self.resp3 { '>' } else { '*' };
        let head = format!("{mark}3\r\n${}\r\n{kind}\r\n${}\r\n", kind.len(), channel.len());
        self.say(&[head.as_bytes(), channel, b"\r\n", last.as_bytes(), b"\r\n"].concat());
    }

    /// Reads whole commands, as many as there are.
    fn hear(&mut self, dice: &mut Dice) {
        let input = std::mem::take(&mut self.unread);
        let mut words: VecDeque<Vec<u8>> = VecDeque::new();
        let mut rest = &input[..];
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
            let number: usize = std::str::from_utf8(&rest[1..end]).unwrap().parse().unwrap();
            if rest[0] == b'*' {
                self.obey(std::mem::take(&mut words), dice);
                rest = &rest[end + 2..];
            } else {
                words.push_back(rest[end + 2..end + 2 + number].to_vec());
                rest = &rest[end + 4 + number..];
            }
        }
        self.obey(words, dice);
    }

    fn obey(&mut self, mut words: VecDeque<Vec<u8>>, dice: &mut Dice) {
        let Some(name) = words.pop_front() else { return };
        let name = String::from_utf8(name).unwrap().to_lowercase();
        match name.as_str() {
            "ping" if self.resp3 || self.subscriptions.is_empty() => self.say(b"+PONG\r\n"),
            "ping" => self.say(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
            "get" if !self.resp3 && !self.subscriptions.is_empty() => self.say(b"-ERR only subscriptions\r\n"),
            "get" => self.say(&[b":", &words[0][..], b"\r\n"].concat()),
            "subscribe" | "ssubscribe" | "sunsubscribe" if dice.roll(4) == 0 => self.say(b"-NOPERM no channel\r\n"),
            _ => {
                let sharded = name.starts_with("ss") || name.starts_with("sun");
                let begins = !name.contains("un");
                for channel in words {
                    let entry = (sharded, channel);
                    self.subscriptions.retain(|other| *other != entry);
                    if begins {
                        self.subscriptions.push(entry.clone());
                    }
                    let count = self.subscriptions.iter().filter(|(of, _)| *of == sharded).count();
                    self.push(&name, &entry.1, &format!(":{count}"));
                }
            }
        }
    }

    /// Something that nobody asked for.
    fn act(&mut self, dice: &mut Dice) {
        if self.subscriptions.is_empty() {
            return;
        }
        let index = dice.roll(self.subscriptions.len());
        let (sharded, channel) = self.subscriptions[index].clone();
        let (message, gone) = if sharded { ("smessage", "sunsubscribe") } else { ("message", "unsubscribe") };
        if dice.roll(8) == 0 {
            self.subscriptions.remove(index);
            let count = self.subscriptions.iter().filter(|(of, _)| *of == sharded).count();
            self.push(gone, &channel, &format!(":{count}"));
        } else {
            self.push(message, &channel, "$7\r\nmessage");
        }
    }
}

/// A conversation of any course: each GET gets its own number, what Redis confirmed is what we believe, and nothing is
/// taken for what it is not.
#[test]
fn any_conversation_with_a_model_agrees() {
    let mut messages = 0;
    for seed in 0..3_000 {
        let mut dice = Dice(seed);
        let force_resp2 = dice.roll(2) == 0;
        let (mut connection, mut ledger) = (ready(force_resp2), Ledger::default());
        let mut model =
            Model { resp3: !force_resp2, unread: Vec::new(), said: VecDeque::new(), subscriptions: Vec::new() };
        let mut believed: Vec<(bool, Vec<u8>)> = Vec::new();
        for step in 0..200 {
            if step < 150 && dice.roll(3) == 0 {
                ask(&mut connection, &mut ledger, &mut dice);
            }
            if dice.roll(3) == 0 || step >= 150 {
                model.unread = connection.output().to_vec();
                connection.clear_output();
                model.hear(&mut dice);
            }
            if step < 150 && dice.roll(2) == 0 {
                model.act(&mut dice);
            }
            let piece = if step == 199 { model.said.len() } else { dice.roll(60).min(model.said.len()) };
            let piece: Vec<u8> = model.said.drain(..piece).collect();
            connection.received(&piece, 0, &mut |event| {
                ledger.note(&event);
                match event {
                    Incoming::Reply { token, reply: Reply::Int(value) } => {
                        assert!(value == token as i64 || (1..=3).contains(&value));
                    }
                    Incoming::Reply { reply, .. } => assert!(matches!(reply, Reply::Error(_)), "{reply:?}"),
                    Incoming::Message { channel, payload, sharded } => {
                        assert!(believed.contains(&(sharded, channel.to_vec())) && payload == "message");
                        messages += 1;
                    }
                    Incoming::Subscribed { channel, sharded } => {
                        believed.retain(|entry| *entry != (sharded, channel.to_vec()));
                        believed.push((sharded, channel.to_vec()));
                    }
                    Incoming::Unsubscribed { channel, sharded } => {
                        believed.retain(|entry| *entry != (sharded, channel.to_vec()));
                    }
                    Incoming::Failed { why, .. } => panic!("seed {seed}: {why}"),
                }
            });
        }
        assert!(connection.is_ready(), "seed {seed}: {:?}", connection.failure());
        assert_eq!((connection.in_flight(), &believed), (0, &model.subscriptions), "seed {seed}");
        ledger.end(connection);
    }
    assert!(messages > 10_000, "the model speaks: {messages}");
}
