//! Who has a file open: a database that somebody works with must not be replaced under him.
//!
//! Looked up in `/proc`: the open files of every process that we may look into, and the locks of all.
//! A process of another user is seen only by root, unless it holds a lock.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::durable::Identity;

/// Files that are open, by their identity, and by whom.
#[derive(Debug, Default)]
pub(super) struct Holders {
    files: HashMap<Identity, Holder>,
    /// Processes that we may not look into.
    pub unseen: u64,
}

/// A process that has a file open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pid: u32,
    name: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = crate::units::Shown(self.name.as_bytes());
        write!(f, "{name} (process {})", self.pid)
    }
}

impl Holders {
    /// Looks at all processes but our own.
    pub fn look() -> Self {
        let mut holders = Self::default();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        for process in processes {
            let name = process.file_name();
            let pid = name.to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid.filter(|pid| *pid != std::process::id()) {
                holders.look_into(pid, &process.path());
            }
        }
        holders.look_at_locks();
        holders
    }

    fn look_into(&mut self, pid: u32, process: &Path) {
        let Ok(open) = fs::read_dir(process.join("fd")) else {
            // A process that has ended meanwhile holds nothing.
            self.unseen += u64::from(process.exists());
            return;
        };
        for link in open.flatten() {
            // Follows the link to the file itself, without opening it.
            if let Ok(metadata) = fs::metadata(link.path())
                && metadata.is_file()
            {
                self.files
                    .entry(Identity::of(&metadata))
                    .or_insert_with(|| holder(pid, process));
            }
        }
    }

    fn look_at_locks(&mut self) {
        for line in fs::read_to_string("/proc/locks")
            .unwrap_or_default()
            .lines()
        {
            let Some((pid, file)) = lock(line) else {
                continue;
            };
            // Our own, or of a process that this namespace does not show.
            if pid != std::process::id() {
                let process = Path::new("/proc").join(pid.to_string());
                self.files
                    .entry(file)
                    .or_insert_with(|| holder(pid, &process));
            }
        }
    }

    /// Who has this file open, if we can see it.
    pub fn of(&self, file: Identity) -> Option<&Holder> {
        self.files.get(&file)
    }
}

fn holder(pid: u32, process: &Path) -> Holder {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    let name = match name.trim_end() {
        "" => "another process".to_owned(),
        name => name.to_owned(),
    };
    Holder { pid, name }
}

/// Process and file of a line like `1: POSIX  ADVISORY  READ 812 08:02:393 0 EOF`.
fn lock(line: &str) -> Option<(u32, Identity)> {
    let mut words = line.split_whitespace().skip(1);
    // A lock that somebody waits for has an arrow before its kind.
    let kind = words.next()?;
    if kind != "POSIX" && kind != "OFDLCK" {
        return None;
    }
    let mut words = words.skip(2);
    let pid = words.next()?.parse().ok()?;
    let mut parts = words.next()?.split(':');
    let mut hexadecimal = || u32::from_str_radix(parts.next()?, 16).ok();
    let (major, minor) = (hexadecimal()?, hexadecimal()?);
    let inode = parts.next()?.parse().ok()?;
    let device = rustix::fs::makedev(major, minor);
    Some((pid, Identity { device, inode }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_locks_is_read() {
        let (pid, file) =
            lock("1: POSIX  ADVISORY  READ 812 08:02:393 1073741826 1073742335").unwrap();
        assert_eq!((pid, file.inode), (812, 393));
        assert_eq!(file.device, rustix::fs::makedev(8, 2));
        for other in [
            "",
            "1: FLOCK  ADVISORY  WRITE 1 08:02:3 0 EOF",
            "1: POSIX ADVISORY READ x y",
        ] {
            assert_eq!(lock(other), None, "{other}");
        }
    }
}
