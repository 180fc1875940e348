//! The host against the node that is about to start. On the main thread, before anything listens; reads some dozens of
//! small files of /proc and /sys.

use anyhow::bail;
use gyre_tuning::knob::Severity;
use gyre_tuning::{Host, Target};

use crate::config::types::Config;
use crate::layout::Layout;
use crate::limits::{BACKEND_FILES, GRPC_CONNECTIONS_MAX};
use crate::settings::proxies::{Endpoint, Proxies};

/// What cannot work stops the start. The rest is one line: nobody planned a load here, and a laptop's log need not begin
/// with a page of advice for a million connections.
///
/// # Errors
/// The first fatal finding. io_uring has been tried by then, which says more than its settings.
pub(crate) fn at_start(layout: &Layout, other_files: u64) -> anyhow::Result<()> {
    let mut report = gyre_tuning::check(&Host::real(), &Target { other_files, ..target(layout) });
    report.tried_io_uring(Ok(()));
    if let Some(finding) = report.fatal().next() {
        bail!("{}", finding.error());
    }
    let line = match report.hints() {
        0 => return Ok(()),
        1 => "1 tuning hint, run gyre tune check".to_owned(),
        count => format!("{count} tuning hints, run gyre tune check"),
    };
    if report.count(Severity::Warning) > 0 {
        tracing::warn!("{line}");
    } else {
        tracing::info!("{line}");
    }
    Ok(())
}

/// Files that a node so configured may open beside its own: for calls to backends over HTTP, and callers of the gRPC API.
/// Over gRPC a backend is one connection.
pub(crate) fn other_files(config: &Config, proxies: &Proxies) -> u64 {
    let over_http = proxies.list.iter().filter(|proxy| matches!(proxy.endpoint, Endpoint::Http { .. })).count();
    let callers = if config.grpc_api.enabled { GRPC_CONNECTIONS_MAX } else { 0 };
    (over_http * BACKEND_FILES + callers) as u64
}

/// The node that a layout describes, as the host has to carry it.
pub(crate) fn target(layout: &Layout) -> Target {
    let cores = usize::from(layout.cores());
    let pinned = (0..cores).map(|core| match &layout.core_cpus(core)[..] {
        [cpu] => Some(*cpu),
        _ => None,
    });
    Target { cpus: pinned.collect::<Option<Vec<_>>>().unwrap_or_default(), ..Target::server(cores) }
}
