//! restic, where it is installed: as a reader of our repositories, and as a way of its own.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use crate::library::PASSWORD;

/// Whether restic is installed.
pub fn is_here() -> bool {
    Command::new("restic")
        .arg("version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs restic on the repository in `folder`.
fn run(folder: &Path, arguments: &[&str]) -> Result<()> {
    let status = Command::new("restic")
        .args(["--quiet", "--no-cache", "--repo"])
        .arg(folder)
        .args(arguments)
        .env("RESTIC_PASSWORD", PASSWORD)
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "restic {arguments:?}: {status}");
    Ok(())
}

/// Creates a repository.
pub fn init(folder: &Path) -> Result<()> {
    run(folder, &["init", "--repository-version", "2"])
}

/// Backs a file up.
pub fn back_up(folder: &Path, file: &Path) -> Result<()> {
    run(folder, &["backup", &file.to_string_lossy()])
}

/// Restores the newest snapshot.
pub fn restore(folder: &Path, target: &Path) -> Result<()> {
    run(
        folder,
        &["restore", "latest", "--target", &target.to_string_lossy()],
    )
}
