//! The host against the node that is about to start. On the main thread, before anything listens; reads some dozens of
//! small files of /proc and /sys.

use anyhow::bail;
use gyre_tuning::knob::Severity;
use gyre_tuning::{Host, Target};

use crate::layout::Layout;

/// What cannot work stops the start. The rest is one line: nobody planned a load here, and a laptop's log need not begin
/// with a page of advice for a million connections.
///
/// # Errors
/// The first fatal finding. io_uring has been tried by then, which says more than its settings.
pub(crate) fn at_start(layout: &Layout) -> anyhow::Result<()> {
    let mut report = gyre_tuning::check(&Host::real(), &target(layout));
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

/// The node that a layout describes, as the host has to carry it.
pub(crate) fn target(layout: &Layout) -> Target {
    let cores = usize::from(layout.cores());
    let pinned = (0..cores).map(|core| match &layout.core_cpus(core)[..] {
        [cpu] => Some(*cpu),
        _ => None,
    });
    Target { cpus: pinned.collect::<Option<Vec<_>>>().unwrap_or_default(), ..Target::server(cores) }
}
