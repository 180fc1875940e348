//! What the control groups of this process leave of their memory.
//!
//! Every group on the way up bounds it, so the tightest one counts. In a container the path in `/proc/self/cgroup` may be
//! the host's while the mount shows only what is below: what is not there does not limit. Version 2, and version 1 where a
//! host still has its memory controller there. Reads a few small files.

use gyre_tuning::Host as Files;

const MOUNT: &str = "/sys/fs/cgroup";

/// Bytes that may still be taken; None where no group is bounded.
pub(super) fn memory_free(files: &Files) -> Option<u64> {
    let groups = files.read("/proc/self/cgroup").unwrap_or_default();
    let mut free = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        if controllers.is_empty() {
            for mount in ["", "/unified"] {
                let names = ["memory.max", "memory.current", "inactive_file"];
                free.extend(upwards(mount, path).filter_map(|folder| left(files, &folder, names)));
            }
        } else if controllers.split(',').any(|controller| controller == "memory") {
            let names = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"];
            free.extend(upwards("/memory", path).filter_map(|folder| left(files, &folder, names)));
        }
    }
    free.into_iter().min()
}

/// The group's folder and those above it, up to the root of the mount.
fn upwards(mount: &str, path: &str) -> impl Iterator<Item = String> {
    let path = path.trim_end_matches('/');
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    // A root path is empty by now: one folder, the mount itself.
    ends.map(move |end| format!("{MOUNT}{mount}{}", &path[..end]))
}

/// `max` is no number and no bound. Pages of files that nobody uses are given up as soon as memory is wanted.
fn left(files: &Files, folder: &str, [max, used, reclaimable]: [&str; 3]) -> Option<u64> {
    let max = files.number(&format!("{folder}/{max}"))?;
    let used = files.number(&format!("{folder}/{used}"))?;
    let stat = files.read(&format!("{folder}/memory.stat")).unwrap_or_default();
    let value = stat.lines().find_map(|line| line.strip_prefix(reclaimable)?.trim().parse::<u64>().ok());
    Some(max.saturating_sub(used.saturating_sub(value.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A service's own bound, or that of the slice above it, ends a run of an hour by killing the generator: a plan that
    /// looks at the root alone lets it begin.
    #[test]
    fn the_tightest_group_counts() {
        let root = std::env::temp_dir().join(format!("gyre-loadtest-cgroup-{}", std::process::id()));
        let write = |file: &str, text: &str| {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let free = || memory_free(&Files::at(&root));
        assert_eq!(free(), None);
        write("proc/self/cgroup", "3:cpu:/x\n0::/a.slice/b.service\n");
        write("sys/fs/cgroup/a.slice/b.service/memory.max", "max\n");
        write("sys/fs/cgroup/a.slice/b.service/memory.current", "50\n");
        assert_eq!(free(), None);
        write("sys/fs/cgroup/a.slice/memory.max", "1000\n");
        write("sys/fs/cgroup/a.slice/memory.current", "700\n");
        assert_eq!(free(), Some(300));
        write("sys/fs/cgroup/a.slice/memory.stat", "anon 500\ninactive_file 200\n");
        assert_eq!(free(), Some(500));
        write("sys/fs/cgroup/a.slice/b.service/memory.max", "90\n");
        assert_eq!(free(), Some(40));
        write("sys/fs/cgroup/memory.max", "60\n");
        write("sys/fs/cgroup/memory.current", "59\n");
        assert_eq!(free(), Some(1));
        write("proc/self/cgroup", "4:cpuset,memory:/c\n0::/\n");
        write("sys/fs/cgroup/memory/c/memory.limit_in_bytes", "30\n");
        write("sys/fs/cgroup/memory/c/memory.usage_in_bytes", "40\n");
        assert_eq!(free(), Some(0));
        fs::remove_dir_all(&root).unwrap();
    }
}
