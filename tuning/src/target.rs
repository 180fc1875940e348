//! What the host is measured against: how many cores and connections, and on which side of them.

/// Connections assumed where nobody planned a number: what a small production node holds.
pub const CONNECTIONS_ASSUMED: u64 = 100_000;

/// Most connections that can be planned: beyond it the arithmetic (times bytes of each) would not fit into 64 bits.
pub const CONNECTIONS_MAX: u64 = 1_000_000_000_000;

/// Which program will run here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Gyre: takes connections.
    Server,
    /// A load generator: opens them, which needs source ports.
    Generator,
}

impl Role {
    /// As on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Generator => "generator",
        }
    }
}

/// The load that the host has to carry.
#[derive(Debug, Clone)]
pub struct Target {
    /// Cores (pinned threads), at least 1.
    pub cores: usize,
    /// CPUs they are pinned to; empty where the scheduler chooses.
    pub cpus: Vec<usize>,
    /// Connections held at a time, at most [`CONNECTIONS_MAX`].
    pub connections: u64,
    /// Files that the process may open beside those connections: its own to other servers, those of other listeners.
    pub other_files: u64,
    /// Did somebody ask for this number? Then not being able to hold it is fatal; an assumed number only warns, or a
    /// laptop could not start a server at all.
    pub is_planned: bool,
    /// Which side of the connections.
    pub role: Role,
}

impl Target {
    /// A server of so many cores with nothing planned.
    #[must_use]
    pub fn server(cores: usize) -> Self {
        Self {
            cores: cores.max(1),
            cpus: Vec::new(),
            connections: CONNECTIONS_ASSUMED,
            other_files: 0,
            is_planned: false,
            role: Role::Server,
        }
    }

    /// Connections of each core when they spread evenly.
    #[must_use]
    pub fn connections_per_core(&self) -> u64 {
        self.connections.div_ceil(self.cores.max(1) as u64)
    }

    /// How to ask for another number of cores on this side.
    pub(crate) fn cores_remedy(&self, cores: usize) -> String {
        match self.role {
            Role::Server => format!("gyre.cores = {cores}"),
            Role::Generator => format!("--cores {cores}"),
        }
    }
}
