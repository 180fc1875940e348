//! Start and end of a node: everything that can fail is tried before the first connection is taken.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use gyre_io::mesh::{Mesh, Port};
use gyre_io::{CoreOptions, Listener};
use gyre_proto::ids::CoreId;
use gyre_tuning::Host;
use gyre_tuning::topology::Topology;

use crate::config::{Warning, types::Config};
use crate::control_plane::{self, ControlOptions, End, GrpcApi};
use crate::data_plane::{Admission, CoreHandler, Parcel, StoreOptions, UserStatusOptions};
use crate::discovery;
use crate::host_check;
use crate::layout::Layout;
use crate::logging;
use crate::placement;
use crate::settings::proxies::Proxies;
use crate::settings::{self, GrpcApiSettings, Settings, StoreSettings, UserStatusSettings};

/// Runs a node until it is told to stop.
pub(crate) fn run(config: &Config, warnings: &[Warning]) -> ExitCode {
    let _lines_are_written_until = match logging::start(config.log.level, config.log.file.as_deref()) {
        Ok(guard) => guard,
        Err(error) => {
            logging::fatal(&format!("{error:#}"));
            return ExitCode::FAILURE;
        }
    };
    match node(config, warnings) {
        Ok(End::Drained) => ExitCode::SUCCESS,
        Ok(End::TimedOut) => {
            tracing::error!(fatal = true, "shutdown.timeout has passed with connections still open");
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!(fatal = true, "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn node(config: &Config, warnings: &[Warning]) -> anyhow::Result<End> {
    let topology = Topology::read(&Host::real(), &placement::affinity());
    let layout = Layout::new(&config.gyre.cores, config.gyre.reserved_cores, &topology)?;
    let proxies = Arc::new(Proxies::new(config)?);
    let rules = Arc::new(settings::rules(config, &proxies)?);
    let settings = Arc::new(Settings::new(config, layout.cores(), rules, &proxies)?);
    let store = StoreSettings::new(config)?;
    let user_status = UserStatusSettings::new(config, store.as_ref())?;
    tracing::info!(
        version = &*settings.version,
        pid = std::process::id(),
        engine = store.as_ref().map_or_else(|| "memory".to_owned(), StoreSettings::mode),
        cores = %layout,
        "starting gyre"
    );
    layout.map().iter().for_each(|line| tracing::info!("{line}"));
    layout.warnings.iter().for_each(|line| tracing::warn!("{line}"));
    place_control(&layout)?;
    if config.sources.file.exists() {
        tracing::info!(path = %config.sources.file.display(), "using configuration file");
    }
    raise_limits();
    use_small_pages();
    gyre_io::probe()?;
    host_check::at_start(&layout, host_check::other_files(config, &proxies))?;
    let (tell, found) = control_plane::finds();
    let of_store: Vec<_> = store.iter().flat_map(StoreSettings::shards).collect();
    let others = of_store.len();
    let of_status = user_status.iter().flat_map(UserStatusSettings::shards);
    let (discovery, servers) = discovery::start(of_store.into_iter().chain(of_status), tell)?;
    let discovery = (!servers.is_empty()).then_some(discovery);
    let (servers, of_status) = servers.split_at(others);
    let store = store.map(|store| store.store(&settings.node_uid, settings.cores, servers, &proxies)).transpose()?;
    let user_status = user_status.map(|status| status.options(settings.cores, of_status, others)).transpose()?;
    let cores = usize::from(layout.cores());
    let listeners = listen(config, cores)?;
    let grpc_api = GrpcApiSettings::new(config)?.map(listen_grpc).transpose()?;
    // Not before: an address that is taken may be that of a node which has this file.
    let _pid_file = config.pid_file.as_deref().map(PidFile::write).transpose()?;
    let mut ports = Mesh::new(cores + 1)?;
    let port = ports.pop().context("the mesh has an end for the control thread")?;
    // A file that was there at the start and is gone at a reload is a mistake, not an empty configuration.
    let mut sources = config.sources.clone();
    sources.is_file_needed |= sources.file.exists();
    let has_user_status = user_status.is_some();
    let options = ControlOptions {
        settings: Arc::clone(&settings),
        proxies: Arc::clone(&proxies),
        port,
        discovery,
        has_nodes: store.is_some(),
        found,
        grpc_api,
        shutdown_timeout: config.shutdown.timeout,
        reload: Box::new(move || {
            let (config, warnings) = Config::load(sources.clone())?;
            warnings.iter().for_each(Warning::log);
            proxies.check_unchanged(&Proxies::new(&config)?)?;
            let mut rules = settings::rules(&config, &proxies)?;
            // Its connections are those of the start.
            rules.rpc.has_user_status = has_user_status;
            Ok(rules)
        }),
    };
    control_plane::run(options, || {
        let receive_buffers = gyre_io::receive_buffers(cores, topology.cpus.len());
        start_cores(config, &settings, &layout, ports, listeners, (store, user_status), receive_buffers)?;
        warnings.iter().for_each(Warning::log);
        Ok(())
    })
}

fn start_cores(
    config: &Config,
    settings: &Arc<Settings>,
    layout: &Layout,
    ports: Vec<Port<Parcel>>,
    listeners: Vec<Listener>,
    (store, user_status): (Option<StoreOptions>, Option<UserStatusOptions>),
    receive_buffers: u16,
) -> anyhow::Result<()> {
    let admission = Arc::new(Admission::new());
    let address = listeners.first().map(Listener::address).transpose()?;
    for (core, (port, listener)) in ports.into_iter().zip(listeners).enumerate() {
        let id = CoreId(core as u16);
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|error| anyhow!("the kernel gives no entropy: {error}"))?;
        let options = CoreOptions {
            listeners: vec![listener],
            outbox_bytes_max: outbox_bytes_max(config),
            dials_max: store.as_ref().map_or(0, StoreOptions::connections_max)
                + user_status.as_ref().map_or(0, UserStatusOptions::connections_max),
            receive_buffers,
            sleeper: Some(port.sleeper()),
            ..CoreOptions::new(id)
        };
        let settings = Arc::clone(settings);
        let admission = Arc::clone(&admission);
        let (store, user_status) = (store.clone(), user_status.clone());
        let seed = u64::from_ne_bytes(seed);
        let start = move || {
            let make =
                move |driver| CoreHandler::new(id, settings, admission, driver, port, (store, user_status), seed);
            gyre_io::spawn_core(options, make).map_err(anyhow::Error::from)
        };
        let started = match &*layout.core_cpus(core) {
            [] => start(),
            cpus => placement::starting_on(cpus, start),
        };
        started.with_context(|| format!("cannot start core {core}"))?;
    }
    if let Some(address) = address {
        tracing::info!("serving {} on {address}", settings.endpoints());
    }
    Ok(())
}

/// The control thread and the log writer: no other thread runs yet. What they start later inherits their CPUs.
fn place_control(layout: &Layout) -> anyhow::Result<()> {
    match &*layout.control_cpus() {
        [] => Ok(()),
        cpus => placement::move_all_threads(cpus),
    }
}

fn outbox_bytes_max(config: &Config) -> u32 {
    config.client.queue_max_size.map_or(u32::MAX, |bytes| u32::try_from(bytes).unwrap_or(u32::MAX))
}

fn listen_grpc(settings: GrpcApiSettings) -> anyhow::Result<GrpcApi> {
    let (address, port) = (&*settings.address, settings.port);
    let bound = match address {
        "" => TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|_| TcpListener::bind(("0.0.0.0", port))),
        address => TcpListener::bind((address.trim_start_matches('[').trim_end_matches(']'), port)),
    };
    let listener = bound.with_context(|| format!("grpc_api: cannot listen on {address}:{port}"))?;
    Ok(GrpcApi { listener, settings })
}

/// An empty address means every one, IPv6 and IPv4 on one socket where the system has IPv6.
fn listen(config: &Config, cores: usize) -> anyhow::Result<Vec<Listener>> {
    let (host, port) = (&*config.http_server.address, config.http_server.port);
    if host.is_empty() {
        let every = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
        return match gyre_io::bind_listeners(every, cores) {
            Err(error) if error.cause.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {
                Ok(gyre_io::bind_listeners(SocketAddr::from(([0, 0, 0, 0], port)), cores)?)
            }
            result => Ok(result?),
        };
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut addresses =
        (host, port).to_socket_addrs().with_context(|| format!("http_server.address: cannot resolve {host}"))?;
    let address = addresses.next().with_context(|| format!("http_server.address: {host} has no address"))?;
    Ok(gyre_io::bind_listeners(address, cores)?)
}

/// Soft limits are defaults for others: of open files for programs that use `select`, of locked memory (what the rings and
/// their buffers are) for everybody. The hard ones are what the operator allows.
pub(crate) fn raise_limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    for (resource, name) in [(Resource::Nofile, "open files"), (Resource::Memlock, "locked memory")] {
        let limit = getrlimit(resource);
        if limit.current == limit.maximum {
            continue;
        }
        // Not fatal: the driver sizes its tables by the limit it finds, and a ring that cannot be set up says so.
        if let Err(error) = setrlimit(resource, Rlimit { current: limit.maximum, ..limit }) {
            tracing::warn!(%error, "cannot raise the limit of {name} to its hard limit");
        }
    }
}

/// The allocator asks for huge pages, and every core that touches a corner of one keeps all of it: 60 cores took 470 MiB
/// to start with in place of 58, and deliveries were no faster for it (2026-11, 10,000 connections).
fn use_small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::warn!(%error, "cannot do without huge pages; expect more memory per core");
    }
}

/// The file with the process id; removed when dropped.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> anyhow::Result<Self> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let written = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| writeln!(file, "{}", std::process::id()));
        written.with_context(|| format!("cannot write pid_file {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let is_ours = |text: String| text.trim() == std::process::id().to_string();
        if !std::fs::read_to_string(&self.0).is_ok_and(is_ours) {
            return;
        }
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove pid_file");
        }
    }
}
