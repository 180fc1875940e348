//! For races told step by step: clients, publications of the server API, and lanes that move when told to.

use std::ops::Range;

use gyre_engine::limits::HEARING_LINGER_MS;
use gyre_engine::rules::{ChannelOptions, Rules};
use gyre_engine::token::{TokenOptions, Verifier};
use gyre_engine::{CallId, HistoryOptions, HomeCall, HomeReply, PublishCall};
use gyre_proto::Encoding;
use gyre_proto::client::Publication;
use gyre_proto::ids::ConnId;

use super::World;
use super::store::{Lane, Store};

/// A client: its core and its connection.
pub(crate) type Client = (usize, ConnId);

/// A world in which everything that travels is moved by hand.
pub(crate) struct Play(pub(crate) World);

impl Play {
    pub(crate) fn new(nodes: u16, cores: u16) -> Self {
        let mut rules = Rules::default();
        rules.client.allow_anonymous_connect_without_token = true;
        rules.client.insecure = true;
        rules.client.ping_interval_ms = 0;
        let options = TokenOptions { insecure_skip_signature_verify: true, ..TokenOptions::default() };
        rules.tokens.connection = Verifier::new(options).expect("good options");
        let kept = ChannelOptions {
            history_size: 10_000,
            history_ttl_s: 600,
            force_recovery: true,
            ..ChannelOptions::default()
        };
        rules.namespaces.insert("live", ChannelOptions { presence: true, ..ChannelOptions::default() });
        rules.namespaces.insert("kept", kept);
        Self::with(nodes, cores, rules)
    }

    pub(crate) fn with(nodes: u16, cores: u16, rules: Rules) -> Self {
        Self(World::stored(nodes, cores, rules, 5))
    }

    pub(crate) fn store(&mut self) -> &mut Store {
        self.0.store.as_mut().expect("stored")
    }

    pub(crate) fn connected(&mut self, site: usize) -> Client {
        let conn = self.0.open(site, Encoding::Json);
        self.say((site, conn), r#"{"id":1,"connect":{}}"#);
        self.0.settle();
        self.told((site, conn));
        (site, conn)
    }

    pub(crate) fn say(&mut self, (site, conn): Client, text: &str) {
        self.0.on(site, |engine, hands| engine.receive(conn, text.as_bytes(), hands));
    }

    pub(crate) fn subscribe(&mut self, client: Client, channel: &str) {
        self.say(client, &format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#));
    }

    pub(crate) fn unsubscribe(&mut self, client: Client, channel: &str) {
        self.say(client, &format!(r#"{{"id":3,"unsubscribe":{{"channel":"{channel}"}}}}"#));
    }

    pub(crate) fn gone(&mut self, (site, conn): Client) {
        self.0.on(site, |engine, hands| engine.closed(conn, hands));
    }

    /// What a client was told, without the epochs.
    pub(crate) fn told(&mut self, (site, conn): Client) -> Vec<String> {
        let hands = &mut self.0.sites[site].hands;
        let said = hands.said.remove(&conn.index).unwrap_or_default().into_iter();
        let said = said.map(|message| String::from_utf8(message).expect("JSON")).map(|text| {
            let Some((head, tail)) = text.split_once(r#""epoch":""#) else { return text };
            format!("{head}{}", tail.split_once("\",").map_or(tail, |(_, tail)| tail))
        });
        said.chain(hands.closed.remove(&conn.index).map(|why| format!("closed {}", why.code))).collect()
    }

    /// Moves so many things along a lane.
    pub(crate) fn lane(&mut self, site: usize, lane: Lane, count: usize) {
        (0..count).for_each(|_| self.0.store_step(site, lane));
    }

    pub(crate) fn publish_as(
        &mut self,
        site: usize,
        channel: &str,
        key: &str,
        version: u64,
    ) -> (CallId, Option<HomeReply>) {
        let history = HistoryOptions::of(self.0.sites[0].engine.rules(), channel);
        let publication = Publication { data: "1".into(), ..Publication::default() };
        let call = PublishCall { publication, history, idempotency_key: key.into(), version, version_epoch: "".into() };
        self.0.call(site, channel, HomeCall::Publish(call))
    }

    pub(crate) fn publish(&mut self, site: usize, channel: &str) {
        self.publish_as(site, channel, "", 0);
    }

    /// Publishes and waits for the offset.
    pub(crate) fn offset(&mut self, site: usize, channel: &str, key: &str, version: u64) -> u64 {
        let (number, at_once) = self.publish_as(site, channel, key, version);
        assert!(at_once.is_none());
        self.0.settle();
        let answers = &mut self.0.sites[site].hands.answers;
        let at = answers.iter().position(|(call, _)| *call == number).expect("an answer");
        match answers.remove(at).1 {
            HomeReply::Published(at) => at.offset,
            other => panic!("{other:?}"),
        }
    }

    /// Everybody has gone: nothing is left in any table, in presence, or heard.
    pub(crate) fn assert_empty(&mut self) {
        self.0.wait(2 * HEARING_LINGER_MS + 100);
        for site in &self.0.sites {
            assert_eq!(site.engine.store_entries(), 0, "{:?}", site.engine);
            assert_eq!(site.engine.counts(), Default::default());
        }
        assert!(self.store().heard().is_empty());
        assert!(self.store().present("live:x").is_empty());
    }
}

/// What a subscriber of `kept:x` is told of these publications.
pub(crate) fn pushes(offsets: Range<u64>) -> Vec<String> {
    offsets.map(|n| format!(r#"{{"push":{{"channel":"kept:x","pub":{{"data":1,"offset":{n}}}}}}}"#)).collect()
}
