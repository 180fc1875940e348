//! The language of the scenarios: a transcript per behaviour. Lines that act are run, what follows from them is written in between, and the
//! whole must come out as it stands.
//!
//! ```text
//! open a [protobuf|as USER]     a connection; by its handshake it is this user
//! a > {…}                       it sends a frame (`\n` separates commands)
//! close a                       its socket is gone
//! publish CHANNEL JSON          server API
//! publish! CHANNEL TEXT         the same with data that is no JSON
//! history_remove CHANNEL
//! disconnect USER / unsubscribe USER CHANNEL / refresh USER +25s / refresh USER expired|never
//! subscribe USER CHANNEL [since:OFFSET:EPOCH] [expire:+25s] [data:JSON] [info:JSON] [OPTION=true|false]
//! answer a NAME                the backend answers the oldest call about this connection
//! answer a/CHANNEL NAME        the same about this channel
//! wait 25s
//! ? a 0 rpc m {…}               proxy 0 is called about a connection
//! a < {…}                       what a connection is told
//! a x 3501 bad request          how it ends
//! = …                           what the API answers
//! ```
//! Epochs are written as `E1`, `E2` … in the order they appear; client ids as `<a>`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use gyre_engine::backend::{BackendAsker, BackendCall, BackendEvent, BackendReply};
use gyre_engine::rules::Rules;
use gyre_engine::{
    Act, ActWhat, CallId, Handshake, HistoryOptions, HomeCall, HomeReply, PublishCall, RefreshAct, SubscribeAct,
    SurveyReply,
};
use gyre_proto::Encoding;
use gyre_proto::client::Publication;
use gyre_proto::codes::{Disconnect, Unsubscribe};
use gyre_proto::ids::ConnId;

use crate::world::World;

/// What a backend says, by the name of the answer, and the Unix time in seconds.
pub(crate) type Backend = fn(&str, i64) -> BackendReply;

struct Script {
    world: World,
    backend: Backend,
    /// Calls to backends without an answer, and whether they have been reported.
    calls: Vec<(usize, BackendAsker, BackendCall)>,
    clients: BTreeMap<String, (usize, ConnId)>,
    epochs: Vec<String>,
    out: String,
    /// Acts of the server API by core and number, and how many cores have not answered.
    acts: BTreeMap<(usize, CallId), usize>,
    has_failed: bool,
}

#[allow(dead_code, reason = "some tests always have a backend")]
/// Runs `script` on one core and on three, then on nodes with a store, and compares the transcripts.
pub(crate) fn check(rules: fn() -> Rules, script: &str) {
    check_asked(rules, |_, _| panic!("no backend"), script);
}

/// The same with a backend.
pub(crate) fn check_asked(rules: fn() -> Rules, backend: Backend, script: &str) {
    for (nodes, cores) in [(0, 1), (0, 3), (1, 1), (1, 3), (2, 1), (2, 2)] {
        let mut run = Script {
            world: match nodes {
                0 => World::new(cores, rules(), 7),
                _ => World::stored(nodes, cores, rules(), 7),
            },
            backend,
            calls: Vec::new(),
            clients: BTreeMap::new(),
            epochs: Vec::new(),
            out: String::new(),
            acts: BTreeMap::new(),
            has_failed: false,
        };
        let lines: Vec<&str> = script.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        for line in &lines {
            if !line.contains(" < ") && !line.contains(" x ") && !line.starts_with(['=', '?']) {
                let _ = writeln!(run.out, "{line}");
                run.act(line);
                run.world.settle();
                run.report();
            }
        }
        assert!(run.acts.values().all(|left| *left == 0), "a core has not answered: {:?}", run.acts);
        let expected = lines.join("\n");
        assert_eq!(
            run.out.trim(),
            expected,
            "\n--- came out ({nodes} nodes with a store, {cores} cores) ---\n{}",
            run.out
        );
    }
}

impl Script {
    fn act(&mut self, line: &str) {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (second, third) = rest.split_once(' ').unwrap_or((rest, ""));
        match first {
            "open" => {
                let core = self.clients.len() % self.world.sites.len();
                let encoding = if third == "protobuf" { Encoding::Protobuf } else { Encoding::Json };
                let user = third.strip_prefix("as ").map(Into::into);
                let conn = self.world.open_with(core, encoding, Handshake { user, ..Handshake::default() });
                self.clients.insert(second.to_owned(), (core, conn));
            }
            "answer" => {
                let (name, channel) = second.split_once('/').unwrap_or((second, ""));
                let (core, conn) = self.clients[name];
                let is_it = |(at, asker, call): &(usize, BackendAsker, BackendCall)| {
                    *at == core && asker.conn == conn && described(call).ends_with(channel)
                };
                let at = self.calls.iter().position(is_it).expect("a call about this connection");
                let (_, asker, _) = self.calls.remove(at);
                let reply = (self.backend)(third, self.world.now.unix_s());
                self.world.on(core, |engine, hands| engine.backend_answered(asker, reply, hands));
            }
            "close" => {
                let (core, conn) = self.clients[second];
                self.world.on(core, |engine, hands| engine.closed(conn, hands));
            }
            "publish" | "publish!" => {
                let publication =
                    Publication { data: Bytes::copy_from_slice(third.as_bytes()), ..Publication::default() };
                let history = HistoryOptions::of(self.world.sites[0].engine.rules(), second);
                let call = HomeCall::Publish(PublishCall {
                    publication,
                    history,
                    idempotency_key: "".into(),
                    version: 0,
                    version_epoch: "".into(),
                });
                self.api(second, call);
            }
            "history_remove" => self.api(second, HomeCall::HistoryRemove),
            "disconnect" => self.do_to(second, ActWhat::Disconnect(Disconnect::FORCE_DISCONNECT)),
            "unsubscribe" => {
                self.do_to(second, ActWhat::Unsubscribe { channel: third.into(), why: Unsubscribe::SERVER })
            }
            "subscribe" => {
                let what = self.subscribe_act(third);
                self.do_to(second, ActWhat::Subscribe(what));
            }
            "refresh" => {
                let (when, info) = third.split_once(' ').unwrap_or((third, ""));
                let expire_at_s = when.strip_prefix('+').map_or(0, |delay| self.in_seconds(delay));
                let info = Bytes::copy_from_slice(info.as_bytes());
                self.do_to(second, ActWhat::Refresh(RefreshAct { is_expired: when == "expired", expire_at_s, info }));
            }
            "wait" => {
                let ms = match second.strip_suffix("ms") {
                    Some(ms) => ms.parse().expect("milliseconds"),
                    None => second.trim_end_matches('s').parse::<u64>().expect("seconds") * 1000,
                };
                self.world.wait(ms);
            }
            name => {
                let (core, conn) = self.clients[name];
                let frame = third.replace("\\n", "\n");
                let frame = self.epochs.iter().enumerate().fold(frame, |frame, (n, epoch)| {
                    frame.replace(&format!("\"E{}\"", n + 1), &format!("\"{epoch}\""))
                });
                self.world.on(core, |engine, hands| engine.receive(conn, frame.as_bytes(), hands));
            }
        }
    }

    fn api(&mut self, channel: &str, call: HomeCall) {
        let (number, at_once) = self.world.call(0, channel, call);
        self.world.settle();
        let answers = &mut self.world.sites[0].hands.answers;
        let later = answers.iter().position(|(call, _)| *call == number).map(|at| answers.remove(at).1);
        let text = match at_once.or(later) {
            Some(HomeReply::Published(at)) => format!("= {} {}", at.offset, self.named(at.epoch.as_str())),
            other => format!("= {other:?}"),
        };
        self.report();
        let _ = writeln!(self.out, "{}", text.trim());
    }

    fn subscribe_act(&mut self, text: &str) -> SubscribeAct {
        let mut words = text.split(' ');
        let mut act = SubscribeAct { channel: words.next().unwrap_or_default().into(), ..SubscribeAct::default() };
        for word in words {
            let (key, value) = word.split_once([':', '=']).expect("KEY:VALUE or OPTION=BOOL");
            let on = Some(value == "true");
            match key {
                "since" => {
                    let (offset, epoch) = value.split_once(':').expect("OFFSET:EPOCH");
                    let known = epoch.strip_prefix('E').and_then(|n| self.epochs.get(n.parse::<usize>().ok()? - 1));
                    let epoch = known.map_or(epoch, |known| known.as_str());
                    act.recover_since = Some((offset.parse().expect("an offset"), epoch.into()));
                }
                "expire" => act.expire_at_s = self.in_seconds(value),
                "data" => act.data = Bytes::copy_from_slice(value.as_bytes()),
                "info" => act.info = Bytes::copy_from_slice(value.as_bytes()),
                "presence" => act.overrides.presence = on,
                "join_leave" => act.overrides.join_leave = on,
                "force_push_join_leave" => act.overrides.force_push_join_leave = on,
                "force_positioning" => act.overrides.force_positioning = on,
                "force_recovery" => act.overrides.force_recovery = on,
                _ => panic!("no option {key}"),
            }
        }
        act
    }

    fn in_seconds(&self, delay: &str) -> i64 {
        let delay: i64 = delay.trim_start_matches('+').trim_end_matches('s').parse().expect("seconds");
        self.world.now.unix_s() + delay
    }

    fn do_to(&mut self, user: &str, what: ActWhat) {
        let act = Arc::new(Act { user: user.into(), client: "".into(), whitelist: Vec::new(), what });
        // The nodes tell each other; that is not the engine's part.
        for core in (0..self.world.sites.len()).step_by(self.world.cores) {
            let number = self.world.api_act(core, Arc::clone(&act));
            self.world.settle();
            self.acts.insert((core, number), self.world.cores);
        }
        self.report();
    }

    fn named(&mut self, epoch: &str) -> String {
        if epoch.is_empty() {
            return String::new();
        }
        let at = self.epochs.iter().position(|known| known == epoch).unwrap_or_else(|| {
            self.epochs.push(epoch.to_owned());
            self.epochs.len() - 1
        });
        format!("E{}", at + 1)
    }

    /// Cores are through with acts, each once.
    fn take_answers(&mut self) {
        for core in 0..self.world.sites.len() {
            for (call, answer) in std::mem::take(&mut self.world.sites[core].hands.surveyed) {
                let left = self.acts.get_mut(&(core, call)).expect("an act of this core");
                *left = left.checked_sub(1).expect("every core answers once");
                match answer {
                    SurveyReply::Done(true) => {}
                    SurveyReply::Done(false) => self.has_failed = true,
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn report(&mut self) {
        self.take_answers();
        for (name, (core, conn)) in self.clients.clone() {
            let said = self.world.sites[core].hands.said.remove(&conn.index).unwrap_or_default();
            for message in said {
                let text = match String::from_utf8(message) {
                    Ok(text) if text.starts_with('{') => self.tidy(&text),
                    Ok(text) => format!("{} bytes", text.len()),
                    Err(error) => format!("{} bytes", error.as_bytes().len()),
                };
                let _ = writeln!(self.out, "{name} < {text}");
            }
            if let Some(why) = self.world.sites[core].hands.closed.remove(&conn.index) {
                let _ = writeln!(self.out, "{name} x {} {}", why.code, why.reason);
            }
        }
        let mut lines = Vec::new();
        for core in 0..self.world.sites.len() {
            for (asker, call) in std::mem::take(&mut self.world.sites[core].hands.backend_calls) {
                let whose = self.clients.iter().find(|(_, (at, conn))| *at == core && *conn == asker.conn);
                let name = whose.map_or("nobody", |(name, _)| name);
                lines.push(format!("? {name} {}\n", described(&call)));
                self.calls.push((core, asker, call));
            }
        }
        // Those of one command come in the order in which home cores answer.
        lines.sort();
        self.out.extend(lines);
        // What waits for a backend is answered later.
        if std::mem::take(&mut self.has_failed) {
            self.out.push_str("= failed\n");
        }
    }

    /// Replaces what differs from run to run.
    fn tidy(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, (_, conn)) in &self.clients {
            let id = format!("00000000-0000-4000-8000-0000{:08x}", conn.index);
            text = text.replace(&id, &format!("<{name}>"));
        }
        for tail in text.clone().split("\"epoch\":\"").skip(1) {
            let epoch = tail.split('"').next().unwrap_or_default().to_owned();
            let named = self.named(&epoch);
            text = text.replace(&epoch, &named);
        }
        text
    }
}

fn described(call: &BackendCall) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let event = match &call.event {
        BackendEvent::Connect { data, name, version, channels } => {
            format!("connect {} {name}/{version} {}", text(data), channels.join(","))
        }
        BackendEvent::Refresh => "refresh".to_owned(),
        BackendEvent::Subscribe { channel, data } => format!("subscribe {channel} {}", text(data)),
        BackendEvent::Publish { channel, data } => format!("publish {channel} {}", text(data)),
        BackendEvent::SubRefresh { channel } => format!("sub_refresh {channel}"),
        BackendEvent::Rpc { method, data } => format!("rpc {method} {}", text(data)),
        BackendEvent::CacheEmpty { channel } => format!("cache_empty {channel}"),
    };
    let mut line = format!("{} {}", call.proxy.0, event.trim_end());
    if let Some(client) = &call.client {
        let headers = client.headers.as_deref().cloned().unwrap_or_default();
        if !client.user.is_empty() {
            let _ = write!(line, " by {}", client.user);
        }
        if !client.meta.is_empty() {
            let _ = write!(line, " meta {}", text(&client.meta));
        }
        for (name, value) in &headers.emulated {
            let _ = write!(line, " {name}: {value}");
        }
    }
    line
}
