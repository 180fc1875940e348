//! The workloads and their own options. What each does is told in `docs/operate/loadtest.md`.
//!
//! Plain data: the generator's cores read it, nothing here changes during a run.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::values::{self, at_least_one, count, duration};

/// What a run does.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    Idle(Idle),
    Fanout(Fanout),
    Mesh(Mesh),
    Churn(Churn),
    Storm(Storm),
    Publish(Publish),
}

impl Workload {
    /// Name of the command.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle(_) => "idle",
            Self::Fanout(_) => "fanout",
            Self::Mesh(_) => "mesh",
            Self::Churn(_) => "churn",
            Self::Storm(_) => "storm",
            Self::Publish(_) => "publish",
        }
    }

    /// Client connections open at the same time: what ports, files and memory are planned for.
    #[must_use]
    pub fn connections(&self) -> u64 {
        match self {
            Self::Idle(idle) => idle.clients,
            Self::Fanout(fanout) => fanout.subscribers * fanout.channels,
            Self::Mesh(mesh) => mesh.clients,
            Self::Churn(churn) => churn.clients,
            Self::Storm(storm) => storm.clients,
            Self::Publish(publish) => publish.connections,
        }
    }
}

/// Open connections and hold them.
#[derive(Debug, Clone, Args, Serialize)]
#[group(skip)]
pub struct Idle {
    /// Connections to hold
    #[arg(long, value_parser = at_least_one, default_value = "1k", value_name = "N")]
    pub clients: u64,
    /// Subscribe each client to a channel of its own
    #[arg(long = "personal")]
    pub channels_personal: bool,
    /// Subscribe each client to one of so many group channels
    #[arg(long, value_parser = count, default_value = "0", value_name = "N")]
    pub groups: u64,
    /// How long to hold the connections
    #[arg(long, value_parser = duration, default_value = "1m", value_name = "TIME")]
    #[serde(serialize_with = "values::as_millis")]
    pub hold: Duration,
    /// At the end of the hold publish once to every channel and check that every client receives it; needs --api-key
    #[arg(long)]
    pub broadcast: bool,
}

/// Few channels with many subscribers each.
#[derive(Debug, Clone, Args, Serialize)]
#[group(skip)]
pub struct Fanout {
    /// Channels
    #[arg(long, value_parser = at_least_one, default_value = "1", value_name = "N")]
    pub channels: u64,
    /// Subscribers of each channel
    #[arg(long, value_parser = at_least_one, default_value = "1k", value_name = "N")]
    pub subscribers: u64,
    /// Publications per second, over all channels
    #[arg(long, value_parser = at_least_one, default_value = "50", value_name = "RATE")]
    pub publish_rate: u64,
    /// Bytes of a publication's data
    #[arg(long, value_parser = values::size, default_value = "128", value_name = "BYTES")]
    pub size: u64,
    /// Publications of a channel that are sent at once: shows whether a server puts several into one write
    #[arg(long, value_parser = values::batch, default_value = "1", value_name = "N")]
    pub burst: u64,
    /// So many subscribers stop reading once the measuring begins; they are not checked
    #[arg(long, value_parser = count, default_value = "0", value_name = "N")]
    pub stalled: u64,
}

/// Many channels with few subscribers each.
#[derive(Debug, Clone, Args, Serialize)]
#[group(skip)]
pub struct Mesh {
    /// Clients
    #[arg(long, value_parser = at_least_one, default_value = "1k", value_name = "N")]
    pub clients: u64,
    /// Channels [default: so many that each has 10 subscribers]
    #[arg(long, value_parser = at_least_one, value_name = "N")]
    pub channels: Option<u64>,
    /// Subscriptions of each client
    #[arg(long, value_parser = values::subscriptions, default_value = "1", value_name = "N")]
    pub channels_per_client: u64,
    /// Publications per second, over all channels
    #[arg(long, value_parser = at_least_one, default_value = "1k", value_name = "RATE")]
    pub publish_rate: u64,
    /// Bytes of a publication's data
    #[arg(long, value_parser = values::size, default_value = "128", value_name = "BYTES")]
    pub size: u64,
    /// How publications reach the server
    #[arg(long, value_enum, default_value_t = Via::Http)]
    pub via: Via,
}

impl Mesh {
    /// Number of channels, given or derived.
    #[must_use]
    pub fn channel_count(&self) -> u64 {
        let derived = self.clients * self.channels_per_client / 10;
        self.channels.unwrap_or(derived).max(1)
    }
}

/// Clients that leave and come back all the time.
#[derive(Debug, Clone, Args, Serialize)]
#[group(skip)]
pub struct Churn {
    /// Clients
    #[arg(long, value_parser = at_least_one, default_value = "1k", value_name = "N")]
    pub clients: u64,
    /// Channels; each client subscribes to one
    #[arg(long, value_parser = at_least_one, default_value = "100", value_name = "N")]
    pub channels: u64,
    /// Clients per second that drop their connection and dial again
    #[arg(long, value_parser = at_least_one, default_value = "100", value_name = "RATE")]
    pub reconnect_rate: u64,
    /// Come back with the last stream position and check that nothing was missed; needs a namespace with recovery
    #[arg(long)]
    pub recover: bool,
    /// Publications per second, over all channels
    #[arg(long, value_parser = count, default_value = "100", value_name = "RATE")]
    pub publish_rate: u64,
    /// Bytes of a publication's data
    #[arg(long, value_parser = values::size, default_value = "128", value_name = "BYTES")]
    pub size: u64,
}

/// All clients come back at once.
#[derive(Debug, Clone, Args, Serialize)]
#[group(skip)]
pub struct Storm {
    /// Clients
    #[arg(long, value_parser = at_least_one, default_value = "1k", value_name = "N")]
    pub clients: u64,
    /// Channels; each client subscribes to one
    #[arg(long, value_parser = at_least_one, default_value = "100", value_name = "N")]
    pub channels: u64,
    /// Drop all connections at once from this side; without it the run waits for the server to end them
    #[arg(long)]
    pub drop_all: bool,
    /// Come back with the last stream position and check that nothing was missed; needs a namespace with recovery
    #[arg(long)]
    pub recover: bool,
    /// Publications per second, over all channels
    #[arg(long, value_parser = count, default_value = "100", value_name = "RATE")]
    pub publish_rate: u64,
    /// Bytes of a publication's data
    #[arg(long, value_parser = values::size, default_value = "128", value_name = "BYTES")]
    pub size: u64,
}

/// How publications reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// Calls of the server API
    Http,
    /// Commands of clients
    Ws,
}

/// Publish as fast as asked for.
#[derive(Debug, Clone, Args, Serialize)]
#[group(skip)]
pub struct Publish {
    /// How publications reach the server
    #[arg(long, value_enum, default_value_t = Via::Http)]
    pub via: Via,
    /// Publications per call (http: the batch method) or per frame (ws)
    #[arg(long, value_parser = values::batch, default_value = "1", value_name = "N")]
    pub batch: u64,
    /// Publications per second; 0: as fast as the connections allow
    #[arg(long, value_parser = count, default_value = "0", value_name = "RATE")]
    pub rate: u64,
    /// Connections to publish over
    #[arg(long, value_parser = at_least_one, default_value = "64", value_name = "N")]
    pub connections: u64,
    /// Calls in flight per connection
    #[arg(long, value_parser = at_least_one, default_value = "1", value_name = "N")]
    pub pipeline: u64,
    /// Channels to publish to, in turn
    #[arg(long, value_parser = at_least_one, default_value = "1", value_name = "N")]
    pub channels: u64,
    /// Bytes of a publication's data
    #[arg(long, value_parser = values::size, default_value = "128", value_name = "BYTES")]
    pub size: u64,
}
