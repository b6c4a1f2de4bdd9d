//! The names that the kernel has for what this process holds open: for whatever can be done only by a path.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{CWD, Mode, OFlags};

const DESCRIPTORS: &str = "/proc/self/fd";

/// A path that leads to what is held, whatever its name has become. It stands for a link: who must not follow
/// one does not get there.
#[must_use]
pub fn path(held: impl AsFd) -> PathBuf {
    Path::new(DESCRIPTORS).join(held.as_fd().as_raw_fd().to_string())
}

/// Opens what is held once more, in another way. The folder of the names is held too: no path is gone down
/// for each of a million files.
///
/// # Errors
/// As the system reports them; `NotFound` where there are [no such names](are_shown).
pub fn reopen(held: impl AsFd, flags: OFlags) -> io::Result<OwnedFd> {
    static NAMES: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, DESCRIPTORS, flags, Mode::empty()).ok()
    });
    let names = names.as_ref().ok_or(io::ErrorKind::NotFound)?;
    let name = held.as_fd().as_raw_fd().to_string();
    let flags = flags | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(names, name, flags, Mode::empty())?)
}

/// Whether there are such names: a rescue system may lack /proc.
#[must_use]
pub fn are_shown() -> bool {
    Path::new(DESCRIPTORS).is_dir()
}
