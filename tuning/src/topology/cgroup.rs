//! What the control groups of this process leave it: a set of CPUs, a share of their time, memory.
//!
//! In both versions and the hybrid of both. In a container the path in /proc/self/cgroup may be the host's while the mount
//! shows only what is below, so every ancestor is looked at, the root of the mount included; what is not there does not limit.

use crate::Host;

use super::cpu_list;

const MOUNT: &str = "/sys/fs/cgroup";

/// The set of CPUs; `None` = not limited, or not shown.
pub(super) fn cpu_set(host: &Host) -> Option<Vec<usize>> {
    // The nearest one: it is within those above it.
    let read = |folder: &String, name: &str| cpu_list::parse(&host.read(&format!("{folder}/{name}")).ok()?);
    let unified = unified(host).iter().find_map(|folder| read(folder, "cpuset.cpus.effective"));
    unified.or_else(|| {
        let folders = controller(host, "cpuset");
        folders.iter().find_map(|folder| read(folder, "cpuset.effective_cpus").or_else(|| read(folder, "cpuset.cpus")))
    })
}

/// The tightest quota on the way up, in CPUs.
pub(super) fn quota(host: &Host) -> Option<f64> {
    let unified = unified(host).into_iter().filter_map(|folder| {
        let text = host.read(&format!("{folder}/cpu.max")).ok()?;
        let (quota, period) = text.split_once(' ')?;
        ratio(quota, period)
    });
    let controller = controller(host, "cpu").into_iter().filter_map(|folder| {
        let quota = host.read(&format!("{folder}/cpu.cfs_quota_us")).ok()?;
        ratio(&quota, &host.read(&format!("{folder}/cpu.cfs_period_us")).ok()?)
    });
    unified.chain(controller).min_by(f64::total_cmp)
}

/// The tightest memory bound on the way up, in bytes. `max` is no number and no bound.
pub(crate) fn memory_max(host: &Host) -> Option<u64> {
    let bound = |folders: Vec<String>, name: &str| {
        folders.into_iter().filter_map(|folder| host.number(&format!("{folder}/{name}"))).min()
    };
    let unified = bound(unified(host), "memory.max");
    unified.into_iter().chain(bound(controller(host, "memory"), "memory.limit_in_bytes")).min()
}

/// `max` and `-1` are no quota.
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// Folders of the process in version 2, nearest first.
fn unified(host: &Host) -> Vec<String> {
    let path = path(host, |line| line.strip_prefix("0::").map(str::to_owned));
    ["", "/unified"].iter().flat_map(|mount| upwards(&format!("{MOUNT}{mount}"), path.as_deref())).collect()
}

/// Folders of the process in a hierarchy of version 1, nearest first. The mount has the name of the controller, by a link
/// if it shares the hierarchy with others.
fn controller(host: &Host, name: &str) -> Vec<String> {
    let path = path(host, |line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let is_it = parts.next()?.split(',').any(|controller| controller == name);
        parts.next().filter(|_| is_it).map(str::to_owned)
    });
    upwards(&format!("{MOUNT}/{name}"), path.as_deref())
}

fn path(host: &Host, of_line: impl Fn(&str) -> Option<String>) -> Option<String> {
    host.read("/proc/self/cgroup").ok()?.lines().find_map(of_line)
}

fn upwards(mount: &str, path: Option<&str>) -> Vec<String> {
    let mut path = path.unwrap_or_default().trim_end_matches('/');
    let mut folders = vec![format!("{mount}{path}")];
    while let Some((above, _)) = path.rsplit_once('/') {
        folders.push(format!("{mount}{above}"));
        path = above;
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A quota set on the pod would be missed when only the container's own group is read.
    #[test]
    fn all_groups_above_count() {
        assert_eq!(upwards("/m", Some("/a/b")), ["/m/a/b", "/m/a", "/m"]);
        assert_eq!(upwards("/m", Some("/")), ["/m"]);
        assert_eq!(upwards("/m", None), ["/m"]);
    }

    /// "No quota" is written differently in each version; taken for a number it would warn on every machine.
    #[test]
    fn quotas() {
        assert_eq!(ratio("150000", "100000"), Some(1.5));
        assert_eq!(ratio("max", "100000"), None);
        assert_eq!(ratio("-1", "100000"), None);
        assert_eq!(ratio("1", "0"), None);
    }
}
