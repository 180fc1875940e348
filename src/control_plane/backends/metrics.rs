//! Numbers of calls to backends, for the metrics page (observability.md 2.5).

use std::collections::BTreeSet;
use std::time::Duration;

use gyre_engine::backend::ProxyId;
use gyre_engine::rules::{ChannelOptions, Rules};
use gyre_proto::proxy::Request;

use super::Backends;
use crate::control_plane::metrics::Page;
use crate::settings::proxies::{Endpoint, Proxy};

/// What is asked, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Connect,
    Refresh,
    Subscribe,
    Publish,
    SubRefresh,
    Rpc,
    CacheEmpty,
    State,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Connect,
        Self::Refresh,
        Self::Subscribe,
        Self::Publish,
        Self::SubRefresh,
        Self::Rpc,
        Self::CacheEmpty,
        Self::State,
    ];

    pub(super) fn of(request: &Request) -> Self {
        match request {
            Request::Connect(_) => Self::Connect,
            Request::Refresh(_) => Self::Refresh,
            Request::Subscribe(_) => Self::Subscribe,
            Request::Publish(_) => Self::Publish,
            Request::Rpc(_) => Self::Rpc,
            Request::SubRefresh(_) => Self::SubRefresh,
            Request::CacheEmpty(_) => Self::CacheEmpty,
            Request::State(_) => Self::State,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Refresh => "refresh",
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::SubRefresh => "sub_refresh",
            Self::Rpc => "rpc",
            Self::CacheEmpty => "cache_empty",
            Self::State => "state",
        }
    }
}

/// Calls of one proxy.
#[derive(Debug, Default)]
pub(super) struct Stats {
    kinds: [Calls; Kind::ALL.len()],
    /// Because too many were waiting.
    pub(super) rejected: u64,
}

/// Those of one kind.
#[derive(Debug, Default)]
struct Calls {
    in_flight: u64,
    errors: u64,
    count: u64,
    sum: Duration,
    /// How many took at most as long as the bound says and longer than the bound before.
    buckets: [u64; Self::BOUNDS_MS.len()],
}

impl Calls {
    /// Default bounds of Prometheus.
    const BOUNDS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];
}

impl Stats {
    pub(super) fn began(&mut self, kind: Kind) {
        self.kinds[kind as usize].in_flight += 1;
    }

    pub(super) fn ended(&mut self, kind: Kind, duration: Duration, has_failed: bool) {
        let calls = &mut self.kinds[kind as usize];
        calls.in_flight -= 1;
        calls.count += 1;
        calls.errors += u64::from(has_failed);
        calls.sum += duration;
        if let Some(at) = Calls::BOUNDS_MS.iter().position(|bound| duration <= Duration::from_millis(*bound)) {
            calls.buckets[at] += 1;
        }
    }
}

#[cfg(test)]
impl Stats {
    pub(super) fn errors(&self, kind: Kind) -> u64 {
        self.kinds[kind as usize].errors
    }

    pub(super) fn in_flight(&self, kind: Kind) -> u64 {
        self.kinds[kind as usize].in_flight
    }
}

/// A sample of one series.
type Sample<'a> = (&'a Calls, [(&'static str, &'a str); 3]);

/// Adds the families to a page. `rules` say what each proxy is used for, so that a series is there before its first call.
pub(in crate::control_plane) fn add(page: &mut Page, backends: &Backends, rules: &Rules) {
    let used = uses(rules);
    let stats: Vec<_> = backends.list.iter().map(|backend| (backend.proxy(), backend.stats.borrow())).collect();
    let mut samples: Vec<Sample<'_>> = Vec::new();
    for (at, (proxy, stats)) in stats.iter().enumerate() {
        for kind in Kind::ALL {
            let calls = &stats.kinds[kind as usize];
            if calls.count + calls.in_flight > 0 || used.contains(&(ProxyId(at as u16), kind)) {
                let labels = [("protocol", protocol(proxy)), ("type", kind.name()), ("name", &*proxy.name)];
                samples.push((calls, labels));
            }
        }
    }
    // Without quantiles, which could not be added up over nodes anyway.
    let name = "centrifugo_proxy_duration_seconds";
    page.family(name, "summary", "How long calls to backends took.");
    for (calls, labels) in &samples {
        page.sample(&format!("{name}_sum"), labels, calls.sum.as_secs_f64());
        page.sample(&format!("{name}_count"), labels, calls.count);
    }
    let name = "centrifugo_proxy_duration_seconds_histogram";
    page.family(name, "histogram", "How long calls to backends took.");
    for (calls, labels @ [protocol, kind, proxy]) in &samples {
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (bound_ms, count) in Calls::BOUNDS_MS.into_iter().zip(calls.buckets) {
            below += count;
            let bound = (bound_ms as f64 / 1000.0).to_string();
            page.sample(&bucket, &[*protocol, *kind, *proxy, ("le", &bound)], below);
        }
        page.sample(&bucket, &[*protocol, *kind, *proxy, ("le", "+Inf")], calls.count);
        page.sample(&format!("{name}_sum"), labels, calls.sum.as_secs_f64());
        page.sample(&format!("{name}_count"), labels, calls.count);
    }
    let name = "centrifugo_proxy_errors";
    page.family(name, "counter", "Calls to backends without an answer that could be understood.");
    samples.iter().for_each(|(calls, labels)| page.sample(name, labels, calls.errors));
    let name = "centrifugo_proxy_inflight_requests";
    page.family(name, "gauge", "Calls to backends that wait for their answer.");
    samples.iter().for_each(|(calls, labels)| page.sample(name, labels, calls.in_flight));
    let name = "gyre_proxy_rejected_total";
    page.family(name, "counter", "Calls not made because too many of their proxy were waiting.");
    // Unnamed ones are told apart by what they are for.
    for (proxy, stats) in &stats {
        page.sample(name, &[("protocol", protocol(proxy)), ("proxy", &proxy.path)], stats.rejected);
    }
}

fn protocol(proxy: &Proxy) -> &'static str {
    match proxy.endpoint {
        Endpoint::Http { .. } => "http",
        Endpoint::Grpc { .. } => "grpc",
    }
}

/// What each proxy is asked.
fn uses(rules: &Rules) -> BTreeSet<(ProxyId, Kind)> {
    let mut uses = BTreeSet::new();
    let mut add = |proxy: Option<ProxyId>, kind| uses.extend(proxy.map(|proxy| (proxy, kind)));
    add(rules.proxies.connect, Kind::Connect);
    add(rules.proxies.refresh, Kind::Refresh);
    add(rules.rpc.without_namespace, Kind::Rpc);
    rules.rpc.namespaces.values().for_each(|proxy| add(*proxy, Kind::Rpc));
    let mut channels = |options: &ChannelOptions| {
        add(options.proxies.subscribe, Kind::Subscribe);
        add(options.proxies.publish, Kind::Publish);
        add(options.proxies.sub_refresh, Kind::SubRefresh);
        add(options.proxies.cache_empty, Kind::CacheEmpty);
        add(options.state.as_ref().map(|state| state.proxy), Kind::State);
    };
    channels(&rules.without_namespace);
    rules.namespaces.iter().for_each(|(_, options)| channels(options));
    uses
}
