//! What calls us regularly: lines of crontabs, units of systemd.

use std::path::{Path, PathBuf};

/// A place that calls us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// The crontab or unit.
    pub file: PathBuf,
    /// The line that names us.
    pub line: String,
}

/// Longest file that is looked into, in bytes.
const MAX_BYTES: u64 = 256 * 1024;

/// What below `root` (`/`) backs up with us: the crontabs and units that this user can read. A line that is
/// commented out is none.
#[must_use]
pub fn timers(root: &Path) -> Vec<Timer> {
    let mut files = vec![root.join("etc/crontab")];
    for folder in [
        "etc/cron.d",
        "etc/cron.hourly",
        "etc/cron.daily",
        "etc/cron.weekly",
        "var/spool/cron/crontabs",
        "var/spool/cron",
        "etc/systemd/system",
    ] {
        let listed = std::fs::read_dir(root.join(folder))
            .into_iter()
            .flatten()
            .flatten();
        files.extend(listed.map(|item| item.path()));
    }
    let mut found = Vec::new();
    for file in files {
        let is_small = std::fs::metadata(&file)
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_BYTES);
        let Some(text) = is_small.then(|| std::fs::read(&file).ok()).flatten() else {
            continue;
        };
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.lines().map(str::trim);
        let calls = |line: &&str| {
            !line.starts_with(['#', ';']) && line.contains("tillsafe") && line.contains("backup")
        };
        if let Some(line) = lines.find(calls) {
            found.push(Timer {
                file,
                line: line.to_owned(),
            });
        }
    }
    found.sort_by(|a, b| a.file.cmp(&b.file));
    found
}
