//! A machine as its /proc and /sys tell it: the real one, or a recorded tree of files of another.
//!
//! Every reader and writer of this package goes through `Host` and names files relative to its root, which is what makes
//! them testable on machines that are not at hand. Blocking file access; for start-up and command lines, never for a core.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the files of a machine are found.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// The machine this process runs on.
    #[must_use]
    pub fn real() -> Self {
        Self { root: PathBuf::from("/") }
    }

    /// A recorded tree: `path` holds `proc`, `sys`, `etc` as plain files.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { root: path.into() }
    }

    /// Is this the machine the process runs on, and no recorded tree?
    #[must_use]
    pub fn is_real(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where a file of this machine lies. A leading `/` is allowed: it means the host's root.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        self.root.join(file.trim_start_matches('/'))
    }

    /// A file's text without the white space around it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn read(&self, file: &str) -> io::Result<String> {
        // Bytes first: a command line or a device name need not be UTF-8, and one such byte must not hide a value.
        let bytes = fs::read(self.path(file))?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// A file that holds one number.
    #[must_use]
    pub fn number(&self, file: &str) -> Option<u64> {
        self.read(file).ok()?.parse().ok()
    }

    /// Names in a folder, sorted, with numbers in their order (`cpu2` before `cpu10`). A folder that cannot be read has
    /// none: on a machine without the feature it does not exist.
    #[must_use]
    pub fn list(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_by_cached_key(|name| natural(name));
        names
    }

    /// Is there such a file or folder?
    #[must_use]
    pub fn exists(&self, file: &str) -> bool {
        self.path(file).exists()
    }

    /// Writes one value to a file that must exist, as sysctls and sysfs attributes do.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn write(&self, file: &str, value: &str) -> io::Result<()> {
        use io::Write as _;
        let mut opened = fs::OpenOptions::new().write(true).truncate(true).open(self.path(file))?;
        // One call: the kernel takes each write as a whole value.
        opened.write_all(format!("{value}\n").as_bytes())
    }

    /// Writes a whole file below the root, with the folders that lead to it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn create(&self, file: &str, text: &str) -> io::Result<()> {
        let path = self.path(file);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)
    }

    /// Where a symbolic link of this machine points, by the last part of its name: `../../devices/virtual/net/lo` is `lo`.
    #[must_use]
    pub fn link(&self, file: &str) -> Option<String> {
        let target = fs::read_link(self.path(file)).ok()?;
        target.file_name().map(|name| name.to_string_lossy().into_owned())
    }
}

/// `cpu10` as `("cpu", 10)`.
fn natural(name: &str) -> (String, u64, String) {
    let digits = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
    let (head, rest) = name.split_at(digits);
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    (head.to_owned(), rest[..end].parse().unwrap_or(0), rest[end..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path given with a leading slash must stay below the recorded root, or a test would write to the real machine.
    #[test]
    fn paths_stay_below_the_root() {
        let host = Host::at("/recorded");
        assert_eq!(host.path("/proc/stat"), Path::new("/recorded/proc/stat"));
        assert_eq!(host.path("proc/stat"), Path::new("/recorded/proc/stat"));
        assert_eq!(Host::real().path("proc/stat"), Path::new("/proc/stat"));
    }

    /// CPU lists would come out as 0, 1, 10, 11, 2.
    #[test]
    fn names_sort_by_their_numbers() {
        let mut names = ["cpu10", "cpu2", "rx-1", "cpu2x", "online"];
        names.sort_by_cached_key(|name| natural(name));
        assert_eq!(names, ["cpu2", "cpu2x", "cpu10", "online", "rx-1"]);
    }
}
