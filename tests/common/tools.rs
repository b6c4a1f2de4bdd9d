//! Programs that judge us: stock restic (two versions), stock sqlite3; and those that make and stop
//! disks. `.ci/tools.sh` installs them.

use std::path::{Path, PathBuf};

/// Where `.ci/tools.sh` puts what it does not install system-wide.
pub fn tools_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools")
}

/// Says loudly that something was not tested; in CI that is a failure.
pub fn skipped(what: &str, why: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "in CI nothing is skipped: {what}: {why}"
    );
    eprintln!("SKIPPED: {what}: {why}");
}

/// Says loudly that something was not tested because this kernel has not got it: nothing that could be installed,
/// so that it is no failure in CI either.
pub fn not_in_this_kernel(what: &str, why: &str) {
    eprintln!("SKIPPED: {what}: {why}");
}

/// Finds a program on the usual paths.
pub fn find(name: &str) -> Option<PathBuf> {
    ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
}

/// Every restic there is: name and path. At least the system's; `make tools` brings a current one.
pub fn restics() -> Vec<(&'static str, PathBuf)> {
    let mut found = Vec::new();
    if let Some(path) = find("restic") {
        found.push(("system restic", path));
    }
    let current = tools_folder().join("restic/usr/bin/restic");
    if current.is_file() {
        found.push(("current restic", current));
    }
    found
}
