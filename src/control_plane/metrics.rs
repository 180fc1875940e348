//! The metrics page: totals of all cores under the names that existing dashboards know, and a few of our own per core.
//!
//! Written by hand in the text format 0.0.4: the client library writes OpenMetrics, which appends `_total` to counters
//! and would rename the series.

mod states;

use std::fmt::{Display, Write as _};

use super::backends::{self, Backends};
use super::nodes::Traffic;
use crate::data_plane::{Durations, Snapshot, StoreStats};
use crate::settings::Settings;

/// What a sample shows of one core.
type Value = fn(&Snapshot) -> u64;

/// One family: head lines once, then its samples.
pub(super) struct Page {
    text: String,
}

impl Page {
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{label}=\"{value}\"", if index == 0 { '{' } else { ',' });
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

/// The page for one scrape. `nodes`: how many others there are, and what was said among them.
pub(super) fn page<'a>(
    settings: &Settings,
    snapshots: impl Iterator<Item = &'a Snapshot>,
    (other_nodes, traffic): (usize, Traffic),
    backends: &Backends,
) -> String {
    let mut cores: Vec<&Snapshot> = snapshots.collect();
    cores.sort_unstable_by_key(|snapshot| snapshot.core);
    let sum = |of: Value| cores.iter().map(|snapshot| of(snapshot)).sum::<u64>();
    let mut page = Page { text: String::with_capacity(8 * 1024) };

    let gauge = "gauge";
    page.single("centrifugo_node_num_clients", gauge, "Connected clients.", sum(|s| s.counts.clients));
    page.single("centrifugo_node_num_users", gauge, "Distinct users.", sum(|s| s.counts.users));
    let help = "Subscriptions of all clients.";
    page.single("centrifugo_node_num_subscriptions", gauge, help, sum(|s| s.counts.subscriptions));
    let help = "Channels with at least one subscriber.";
    page.single("centrifugo_node_num_channels", gauge, help, sum(|s| s.counts.channels));
    page.single(
        "centrifugo_node_num_nodes",
        gauge,
        "Nodes known to this one, itself included.",
        1 + other_nodes as u64,
    );
    page.family("centrifugo_node_build", gauge, "Constant 1, labelled with the version.");
    page.sample("centrifugo_node_build", &[("version", &settings.version)], 1);
    node_counters(&mut page, sum, traffic);
    surveys(&mut page, &cores);
    client_counters(&mut page, &cores, sum);
    api_counters(&mut page, &cores);
    backends::metrics::add(&mut page, backends, &settings.rules);
    per_core(&mut page, &cores);
    if cores.iter().any(|core| core.store.is_some()) {
        redis_messages(&mut page, &cores);
        states::states(&mut page, &cores);
    }
    redis(&mut page, &cores);
    process(&mut page);
    page.text
}

fn node_counters(page: &mut Page, sum: impl Fn(Value) -> u64, traffic: Traffic) {
    const ACTIONS: [(&str, Value); 14] = [
        ("add_client", |s| s.counters.connects),
        ("remove_client", |s| s.counters.connects - s.counters.connected),
        ("add_subscription", |s| s.counters.subscribes),
        ("remove_subscription", |s| s.counters.subscribes - s.counts.subscriptions),
        ("add_presence", |s| s.counters.presence_adds),
        ("remove_presence", |s| s.counters.presence_removes),
        ("presence", |s| s.counters.presences),
        ("presence_stats", |s| s.counters.presence_stats),
        ("history", |s| s.counters.histories),
        ("history_recover", |s| s.counters.recovered + s.counters.unrecovered - s.counters.cache_recoveries),
        ("history_recover_cache", |s| s.counters.cache_recoveries),
        ("history_remove", |s| s.counters.history_removes),
        ("history_stream_top", |s| s.counters.position_checks),
        ("survey", |s| s.api.surveys.count),
    ];
    let name = "centrifugo_node_action_count";
    page.family(name, "counter", "Internal actions.");
    for (action, of) in ACTIONS {
        page.sample(name, &[("action", action), ("channel_namespace", "")], sum(of));
    }
    for (name, help, control) in [
        ("centrifugo_node_messages_sent_count", "Messages handed to the broker.", traffic.sent),
        ("centrifugo_node_messages_received_count", "Messages that came back from the broker.", traffic.received),
    ] {
        page.family(name, "counter", help);
        let mut sample = |kind, value| page.sample(name, &[("type", kind), ("channel_namespace", "")], value);
        sample("publication", sum(|s| s.counters.publishes));
        sample("join", sum(|s| s.counters.joins));
        sample("leave", sum(|s| s.counters.leaves));
        sample("control", control);
    }
}

/// A summary without quantiles, which could not be added up over nodes anyway, and its histogram.
fn surveys(page: &mut Page, cores: &[&Snapshot]) {
    const OP: (&str, &str) = ("op", "channels");
    let of = |value: fn(&Durations) -> f64| cores.iter().map(|s| value(&s.api.surveys)).sum::<f64>();
    let (count, sum) = (of(|d| d.count as f64), of(|d| d.sum.as_secs_f64()));
    let name = "centrifugo_node_survey_duration_seconds";
    page.family(name, "summary", "Questions to all cores and all nodes.");
    let _ = writeln!(page.text, "{name}_sum{{op=\"channels\"}} {sum}\n{name}_count{{op=\"channels\"}} {count}");
    let name = "centrifugo_node_survey_duration_seconds_histogram";
    page.family(name, "histogram", "Questions to all cores and all nodes.");
    let mut below = 0;
    for (at, bound_ms) in Durations::BOUNDS_MS.into_iter().enumerate() {
        below += cores.iter().map(|s| s.api.surveys.buckets[at]).sum::<u64>();
        let bound = (bound_ms as f64 / 1000.0).to_string();
        page.sample(&format!("{name}_bucket"), &[OP, ("le", &bound)], below);
    }
    page.sample(&format!("{name}_bucket"), &[OP, ("le", "+Inf")], count as u64);
    let _ = writeln!(page.text, "{name}_sum{{op=\"channels\"}} {sum}\n{name}_count{{op=\"channels\"}} {count}");
}

fn client_counters(page: &mut Page, cores: &[&Snapshot], sum: impl Fn(Value) -> u64) {
    let help = "Connections refused because of client.connection_limit.";
    page.single("centrifugo_node_client_connection_limit", "counter", help, sum(|s| s.api.refused_by_limit));
    let help = "Connections refused because of client.connection_rate_limit.";
    page.single("gyre_connection_rate_limited_total", "counter", help, sum(|s| s.api.refused_by_rate));
    let name = "centrifugo_client_recover";
    page.family(name, "counter", "Recovery attempts.");
    // What could not be recovered brings no publications.
    let counts = [
        ("yes", "yes", sum(|s| s.counters.recovered_publications)),
        ("yes", "no", sum(|s| s.counters.recovered - s.counters.recovered_publications)),
        ("no", "no", sum(|s| s.counters.unrecovered)),
    ];
    for (recovered, brought, value) in counts {
        let labels = [("recovered", recovered), ("channel_namespace", ""), ("has_recovered_publications", brought)];
        page.sample(name, &labels, value);
    }
    let name = "centrifugo_client_num_server_disconnects";
    page.family(name, "counter", "Disconnects by the server.");
    let mut codes = std::collections::BTreeMap::<u32, u64>::new();
    for (code, count) in cores.iter().flat_map(|s| &s.counters.disconnects) {
        *codes.entry(*code).or_default() += count;
    }
    for (code, count) in codes {
        page.sample(name, &[("code", &code.to_string())], count);
    }
}

fn api_counters(page: &mut Page, cores: &[&Snapshot]) {
    let name = "centrifugo_api_command_errors_total";
    page.family(name, "counter", "Server API calls answered with an error.");
    let mut errors = std::collections::BTreeMap::<_, u64>::new();
    for (which, count) in cores.iter().flat_map(|s| &s.api.errors) {
        *errors.entry(which).or_default() += count;
    }
    for ((protocol, method, code), count) in errors {
        let code = code.to_string();
        page.sample(name, &[("protocol", protocol.name()), ("method", method), ("error", &code)], count);
    }
    let name = "gyre_api_calls_total";
    page.family(name, "counter", "Server API calls, commands of batches included.");
    let mut calls = std::collections::BTreeMap::<_, u64>::new();
    for (which, count) in cores.iter().flat_map(|s| &s.api.calls) {
        *calls.entry(which).or_default() += count;
    }
    for ((protocol, method), count) in calls {
        page.sample(name, &[("protocol", protocol.name()), ("method", method)], count);
    }
}

fn per_core(page: &mut Page, cores: &[&Snapshot]) {
    const SERIES: [(&str, &str, &str, Value); 9] = [
        ("gyre_core_connections", "gauge", "Open connections, those to Redis included.", |s| {
            (s.driver.accepted + s.driver.dials).saturating_sub(s.driver.closed)
        }),
        ("gyre_core_turns_total", "counter", "Turns of the driver.", |s| s.driver.turns),
        ("gyre_core_sends_total", "counter", "Sends submitted.", |s| s.driver.sends),
        ("gyre_core_sends_blocked_total", "counter", "Sends that met a full socket.", |s| s.driver.sends_blocked),
        ("gyre_core_deliveries_total", "counter", "Pushes queued to subscribers.", |s| s.counters.deliveries_sent),
        ("gyre_core_accept_errors_total", "counter", "Connections that could not be accepted.", |s| {
            s.driver.accept_errors
        }),
        ("gyre_core_refused_origins_total", "counter", "Upgrades refused for their origin.", |s| s.api.refused_origins),
        ("gyre_slow_disconnects_total", "counter", "Connections over their queue bound.", |s| s.driver.slow),
        ("gyre_ring_backlog", "gauge", "Messages that wait for a full ring.", |s| s.backlog as u64),
    ];
    for (name, kind, help, of) in SERIES {
        page.family(name, kind, help);
        for snapshot in cores {
            page.sample(name, &[("core", &snapshot.core.to_string())], of(snapshot));
        }
    }
}

/// What a sample shows of one store.
type StoreValue = fn(&StoreStats) -> u64;

fn redis_messages(page: &mut Page, cores: &[&Snapshot]) {
    const ERRORS: [(&str, StoreValue); 4] = [
        ("connection", |s| s.lost_for_messages),
        ("silence", |s| s.silences),
        ("subscribe", |s| s.subscriptions_refused),
        ("handle_client_message", |s| s.malformed),
    ];
    let stores = || cores.iter().filter_map(|core| core.store.as_ref());
    let name = "centrifugo_broker_redis_pub_sub_errors";
    page.family(name, "counter", "What went wrong with messages from Redis.");
    for (error, of) in ERRORS {
        page.sample(name, &[("broker_name", ""), ("error", error)], stores().map(of).sum::<u64>());
    }
}

/// Connections of the engine, which user status may share, and those that user status has for itself.
fn redis(page: &mut Page, cores: &[&Snapshot]) {
    const SERIES: [(&str, &str, &str, StoreValue); 6] = [
        ("gyre_redis_up", "gauge", "1 = all connections of the core to Redis are ready.", |s| s.is_up.into()),
        ("gyre_redis_in_flight", "gauge", "Commands that wait for their answer.", |s| s.in_flight as u64),
        ("gyre_redis_connections_lost_total", "counter", "Connections for commands lost, or not made.", |s| {
            s.lost_for_commands
        }),
        ("gyre_redis_commands_refused_total", "counter", "Commands answered with an error.", |s| s.refused),
        ("gyre_redis_commands_failed_total", "counter", "Commands lost with their connection.", |s| s.failed),
        (
            "gyre_redis_commands_not_taken_total",
            "counter",
            "Commands refused here: no connection, or too many wait.",
            |s| s.not_taken,
        ),
    ];
    let all = cores.iter().flat_map(|core| {
        let both = [("engine", &core.store), ("user_status", &core.user_status)];
        both.into_iter().filter_map(|(used_by, stats)| Some((core.core.to_string(), used_by, stats.as_ref()?)))
    });
    let all: Vec<_> = all.collect();
    for (name, kind, help, of) in SERIES.into_iter().filter(|_| !all.is_empty()) {
        page.family(name, kind, help);
        for (core, used_by, stats) in &all {
            page.sample(name, &[("core", core), ("used_by", used_by)], of(stats));
        }
    }
}

/// The usual `process_*` families, from procfs.
fn process(page: &mut Page) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields count from behind the command name, which may hold blanks: the first one there is number 3.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let field = |number: usize| fields.get(number - 3).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    let page_bytes = rustix::param::page_size() as u64;
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1) as f64;
    let name = "process_cpu_seconds_total";
    page.family(name, "counter", "User and system CPU time.");
    let _ = writeln!(page.text, "{name} {:.2}", (field(14) + field(15)) as f64 / ticks_per_second);
    let help = "Resident memory.";
    page.single("process_resident_memory_bytes", "gauge", help, field(24) * page_bytes);
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    page.single("process_open_fds", "gauge", "Open file descriptors.", open);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    page.single("process_max_fds", "gauge", "Limit of open file descriptors.", limit.unwrap_or(u64::MAX));
}
