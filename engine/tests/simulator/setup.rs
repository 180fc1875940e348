//! Random rules for a world, such that everything a simulated client does is permitted.

use fastrand::Rng;
use gyre_engine::backend::ProxyId;
use gyre_engine::rules::{ChannelOptions, ChannelProxies, Rules};
use gyre_engine::token::{TokenOptions, Verifier};

/// What differs from seed to seed beside the rules.
pub(crate) struct Setup {
    pub(crate) rules: Rules,
    pub(crate) cores: u16,
    pub(crate) channels: Vec<(String, ChannelOptions)>,
    pub(crate) agents: usize,
    pub(crate) actions: usize,
    /// Chance in percent that an action is the delivery of a ring message.
    pub(crate) ring_share: u32,
    /// Payloads may be something else than JSON.
    pub(crate) is_binary: bool,
    /// So many subscribers of one channel that fan-outs take several turns.
    pub(crate) is_crowd: bool,
}

pub(crate) fn draw(rng: &mut Rng, is_crowd: bool) -> Setup {
    let mut rules = Rules::default();
    let client = &mut rules.client;
    client.allow_anonymous_connect_without_token = true;
    client.recovery_max_publication_limit = if rng.bool() { 300 } else { rng.usize(1..6) };
    client.history_max_publication_limit = if rng.bool() { 300 } else { rng.usize(1..6) };
    if rng.u32(..4) == 0 {
        client.channel_limit = rng.usize(3..6);
    }
    if rng.u32(..4) == 0 {
        client.ping_interval_ms = 0;
    }
    let options = TokenOptions { insecure_skip_signature_verify: true, ..TokenOptions::default() };
    rules.tokens.connection = Verifier::new(options).expect("good options");
    let is_asked = !is_crowd && rng.u32(..2) == 0;
    let asked = |rng: &mut Rng, n| (is_asked && rng.bool()).then_some(ProxyId(n));
    rules.proxies.connect = asked(rng, 0);
    rules.proxies.refresh = asked(rng, 1);
    rules.rpc.without_namespace = asked(rng, 2);
    let meta_ttl_s = if rng.bool() { 100_000 } else { rng.u64(2..60) };
    let mut channels = Vec::new();
    for n in 0..rng.usize(1..5) {
        let has_history = rng.u32(..3) > 0;
        let options = ChannelOptions {
            proxies: ChannelProxies {
                subscribe: asked(rng, 3),
                publish: asked(rng, 4),
                sub_refresh: asked(rng, 5),
                cache_empty: None,
            },
            presence: rng.bool(),
            join_leave: rng.bool(),
            force_push_join_leave: rng.u32(..4) == 0,
            history_size: if has_history { rng.usize(1..12) } else { 0 },
            history_ttl_s: if rng.u32(..3) == 0 { rng.u64(1..5) } else { 10_000 },
            history_meta_ttl_s: meta_ttl_s,
            force_positioning: rng.u32(..4) == 0,
            force_recovery: has_history && rng.bool(),
            allow_subscribe_for_client: true,
            allow_subscribe_for_anonymous: true,
            allow_publish_for_client: true,
            allow_publish_for_anonymous: true,
            allow_presence_for_client: true,
            allow_presence_for_anonymous: true,
            allow_history_for_client: true,
            allow_history_for_anonymous: true,
            ..ChannelOptions::default()
        };
        let name = format!("n{n}");
        rules.namespaces.insert(&*name, options.clone());
        for m in 0..rng.usize(1..4) {
            channels.push((format!("{name}:c{m}"), options.clone()));
        }
    }
    if is_crowd {
        rules.client.ping_interval_ms = 0;
    }
    Setup {
        rules,
        cores: if is_crowd { rng.u16(1..3) } else { rng.u16(1..6) },
        channels,
        agents: if is_crowd { rng.usize(1_200..2_500) } else { rng.usize(2..30) },
        actions: if is_crowd { rng.usize(40..120) } else { rng.usize(50..600) },
        ring_share: rng.u32(20..80),
        is_binary: rng.u32(..5) == 0,
        is_crowd,
    }
}
