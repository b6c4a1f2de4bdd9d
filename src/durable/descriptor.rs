//! The names that the kernel has for what this process holds open: for whatever can be done only by a path.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

const DESCRIPTORS: &str = "/proc/self/fd";

/// A path that leads to what is held, whatever its name has become. It stands for a link: who must not follow
/// one does not get there.
#[must_use]
pub fn path(held: impl AsFd) -> PathBuf {
    Path::new(DESCRIPTORS).join(held.as_fd().as_raw_fd().to_string())
}

/// Whether there are such names: a rescue system may lack /proc.
#[must_use]
pub fn are_shown() -> bool {
    Path::new(DESCRIPTORS).is_dir()
}
