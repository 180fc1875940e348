//! What a run does, from the workload and the common options: plain data that every core reads.
//!
//! Made once on the main thread. The differences between the workloads end here and in `phases`: cores know clients,
//! channels, publications and orders, not workloads.

use std::net::IpAddr;

use anyhow::{Result, ensure};

use super::layout::Layout;
use super::token::Tokens;
use super::wire::Wire;
use crate::options::{Common, Protocol, Via, Workload};
use crate::plan::{Endpoint, Plan};

/// One run.
pub(crate) struct Spec {
    pub(crate) wire: Wire,
    pub(crate) layout: Layout,
    pub(crate) tokens: Tokens,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) seed: u64,
    /// Connections begun per second, over all cores.
    pub(crate) connect_rate: f64,
    /// Connections without a ready client, over all cores.
    pub(crate) handshakes: usize,
    pub(crate) connect_timeout_us: u64,
    /// Whether subscriptions ask for a position, to recover from it when the client comes back.
    pub(crate) recover: bool,
    /// Clients that leave and come back per second.
    pub(crate) reconnect_rate: f64,
    /// Whether the number of deliveries follows from the publications: not if clients miss some while they are away.
    pub(crate) deliveries_known: bool,
    pub(crate) publishing: Option<Publishing>,
    /// Subscribers beyond those of the layout that stop reading.
    pub(crate) stalled: usize,
}

/// Who publishes, how and how much.
pub(crate) struct Publishing {
    pub(crate) via: Via,
    pub(crate) pace: Pace,
    /// Publications per call.
    pub(crate) batch: usize,
    /// Whether all publications of a call go to one channel.
    pub(crate) burst: bool,
    pub(crate) connections: usize,
    /// Calls in flight per connection.
    pub(crate) pipeline: usize,
    /// Whether somebody checks the order, so that a channel belongs to one connection.
    pub(crate) ordered: bool,
    pub(crate) size: usize,
    pub(crate) api: Endpoint,
    pub(crate) api_key: Option<String>,
}

/// When publications are sent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Pace {
    /// So many per second, over all connections.
    Rate(f64),
    /// The next one when an answer has come.
    FlatOut,
    /// Only when ordered.
    Ordered,
}

/// Calls in flight per connection, where the workload does not say: enough to hide the round trip.
const PIPELINE: usize = 16;
/// Publications per second that one connection is trusted with.
const RATE_PER_CONNECTION: u64 = 2_000;
/// Handshakes in flight over all cores: more would only wait in the accept queue of the server, which is often 4096.
const HANDSHAKES_MAX: usize = 2_048;

impl Spec {
    pub(crate) fn new(plan: &Plan, workload: &Workload, common: &Common) -> Result<Self> {
        let wire = match common.protocol {
            Protocol::Json => Wire::Json,
            Protocol::Protobuf => Wire::Protobuf,
        };
        let prefix = prefix(&common.prefix)?;
        let layout = |clients: u64, channels: u64, per_client: u64| Layout {
            prefix: prefix.clone(),
            clients: clients as usize,
            channels: channels as usize,
            per_client: per_client as usize,
            personal: false,
        };
        let mut spec = Self {
            wire,
            layout: layout(0, 0, 0),
            tokens: match (&common.token, &common.token_key) {
                (Some(token), _) => Tokens::Fixed(token.clone()),
                (None, Some(secret)) => Tokens::signed(secret),
                (None, None) => Tokens::None,
            },
            endpoints: plan.targets.clone(),
            sources: plan.sources.clone(),
            seed: common.seed,
            connect_rate: common.connect_rate as f64,
            handshakes: (common.handshakes as usize).saturating_mul(plan.cores).min(HANDSHAKES_MAX),
            connect_timeout_us: common.connect_timeout.as_micros() as u64,
            recover: false,
            reconnect_rate: 0.0,
            deliveries_known: true,
            publishing: None,
            stalled: 0,
        };
        match workload {
            Workload::Idle(idle) => {
                // A channel that all are in is one group.
                let groups = if idle.broadcast { idle.groups.max(1) } else { idle.groups };
                spec.layout = layout(idle.clients, groups, groups.min(1));
                spec.layout.personal = idle.channels_personal;
                if idle.broadcast {
                    spec.publishing = Some(Publishing::new(plan, common, Pace::Ordered, groups, 1_000, 128));
                }
            }
            Workload::Fanout(fanout) => {
                let clients = fanout.channels * fanout.subscribers;
                ensure!(fanout.stalled < clients, "--stalled {} leaves no subscriber that reads", fanout.stalled);
                spec.layout = layout(clients - fanout.stalled, fanout.channels, 1);
                spec.stalled = fanout.stalled as usize;
                let pace = Pace::Rate(fanout.publish_rate as f64);
                let mut publishing =
                    Publishing::new(plan, common, pace, fanout.channels, fanout.publish_rate, fanout.size);
                (publishing.batch, publishing.burst) = (fanout.burst as usize, fanout.burst > 1);
                spec.publishing = Some(publishing);
            }
            Workload::Mesh(mesh) => {
                let channels = mesh.channel_count();
                ensure!(
                    mesh.channels_per_client <= channels,
                    "--channels-per-client {} exceeds --channels {channels}",
                    mesh.channels_per_client
                );
                spec.layout = layout(mesh.clients, channels, mesh.channels_per_client);
                let pace = Pace::Rate(mesh.publish_rate as f64);
                let mut publishing = Publishing::new(plan, common, pace, channels, mesh.publish_rate, mesh.size);
                publishing.via = mesh.via;
                spec.publishing = Some(publishing);
            }
            Workload::Churn(churn) => {
                spec.layout = layout(churn.clients, churn.channels, 1);
                spec.comes_back(plan, common, churn.recover, churn.publish_rate, churn.size);
                spec.reconnect_rate = churn.reconnect_rate as f64;
            }
            Workload::Storm(storm) => {
                spec.layout = layout(storm.clients, storm.channels, 1);
                spec.comes_back(plan, common, storm.recover, storm.publish_rate, storm.size);
            }
            Workload::Publish(publish) => {
                spec.layout = layout(0, publish.channels, 1);
                let pace = if publish.rate == 0 { Pace::FlatOut } else { Pace::Rate(publish.rate as f64) };
                let mut publishing = Publishing::new(plan, common, pace, publish.channels, publish.rate, publish.size);
                publishing.via = publish.via;
                publishing.batch = publish.batch as usize;
                publishing.connections = publish.connections as usize;
                publishing.pipeline = publish.pipeline as usize;
                publishing.ordered = false;
                spec.publishing = Some(publishing);
            }
        }
        Ok(spec)
    }

    fn comes_back(&mut self, plan: &Plan, common: &Common, recover: bool, publish_rate: u64, size: u64) {
        self.recover = recover;
        self.deliveries_known = recover;
        if publish_rate > 0 {
            let pace = Pace::Rate(publish_rate as f64);
            let channels = self.layout.channels as u64;
            self.publishing = Some(Publishing::new(plan, common, pace, channels, publish_rate, size));
        }
    }

    /// The longest message a client accepts: a damaged server must not fill the memory of the host. A server joins
    /// up to some hundred publications in one message; a recovery brings a whole history, whose length nobody tells.
    pub(crate) fn message_size_max(&self) -> usize {
        const MIB: usize = 1 << 20;
        let size = self.publishing.as_ref().map_or(0, |publishing| publishing.size);
        let usual = if self.recover { 16 * MIB } else { (size * 256).clamp(MIB, 16 * MIB) };
        // One publication and what is around it has to fit, however large it is.
        usual.max(size + MIB)
    }

    /// The clients of a core: the first, and how many.
    pub(crate) fn share(&self, core: usize, cores: usize) -> (usize, usize) {
        let first = self.layout.clients * core / cores;
        (first, self.layout.clients * (core + 1) / cores - first)
    }

    /// A core wakes up for its dials no more often than this, so that sixty of them do not do little else.
    pub(crate) fn connect_tick_us(&self, cores: usize) -> u64 {
        (cores as u64 * 250).clamp(1, 20_000)
    }
}

impl Publishing {
    fn new(plan: &Plan, common: &Common, pace: Pace, channels: u64, rate: u64, size: u64) -> Self {
        let mut api = plan.api.clone();
        api.path.truncate(api.path.trim_end_matches('/').len());
        Self {
            via: Via::Http,
            pace,
            batch: 1,
            burst: false,
            connections: rate.div_ceil(RATE_PER_CONNECTION).clamp(1, 64).min(channels.max(1)) as usize,
            pipeline: PIPELINE,
            ordered: true,
            size: size as usize,
            api,
            api_key: common.api_key.clone(),
        }
    }
}

/// The first part of every channel name, with what separates it from the number.
fn prefix(prefix: &str) -> Result<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    ensure!(
        prefix.bytes().all(is_plain) && prefix.len() <= 100,
        "--prefix {prefix:?}: only letters, digits and -_.: are spelt alike in all encodings; at most 100 of them"
    );
    Ok(if prefix.is_empty() || prefix.ends_with(':') { prefix.to_owned() } else { format!("{prefix}-") })
}
