//! Which file, and whether it may be believed.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::way::require_safe_way;
use super::{MAX_BYTES, Variables};
use crate::error::{Error, Result};
use crate::units::{ByteSize, shown};

/// The file of this machine.
const OF_THE_MACHINE: &str = "/etc/tillsafe/tillsafe.toml";

/// The file that `flag` names, else `TILLSAFE_CONFIG`; else the first that is there of the user's own (not
/// for root) and the machine's. Never one of the current folder.
///
/// # Errors
/// [`Error::Usage`] if nobody can tell whether it is there.
pub fn locate(flag: Option<&Path>, variables: Variables<'_>) -> Result<Option<PathBuf>> {
    if let Some(file) = flag {
        return super::super::absolute(file).map(Some);
    }
    if let Some(file) = variables("TILLSAFE_CONFIG") {
        return super::super::absolute(Path::new(&file)).map(Some);
    }
    for file in own_file(variables)
        .into_iter()
        .chain([PathBuf::from(OF_THE_MACHINE)])
    {
        match std::fs::symlink_metadata(&file) {
            Ok(_) => return Ok(Some(file)),
            Err(cause) if is_absent(&cause) => {}
            Err(cause) => return Err(unreadable(&file, &cause)),
        }
    }
    Ok(None)
}

/// Where a new one is written: `flag`, else `TILLSAFE_CONFIG`, else the machine's for root and the user's own
/// for others.
///
/// # Errors
/// [`Error::Usage`] if this user has no home.
pub fn place_of_new(flag: Option<&Path>, variables: Variables<'_>) -> Result<PathBuf> {
    if let Some(file) = locate(flag, variables)? {
        return Ok(file);
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from(OF_THE_MACHINE));
    }
    own_file(variables).ok_or_else(|| Error::Usage {
        finding: "this user has no home to keep a configuration in".to_owned(),
        next: "name its file with -c FILE".to_owned(),
    })
}

/// The user's own; root's is the machine's.
fn own_file(variables: Variables<'_>) -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return None;
    }
    let named = |name| variables(name).map(PathBuf::from);
    let folder = named("XDG_CONFIG_HOME")
        .filter(|folder| folder.is_absolute())
        .or_else(|| named("HOME").map(|home| home.join(".config")))
        .filter(|folder| folder.is_absolute());
    folder.map(|folder| folder.join("tillsafe/tillsafe.toml"))
}

fn is_absent(cause: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn unreadable(file: &Path, cause: &dyn std::fmt::Display) -> Error {
    Error::Usage {
        finding: format!("the configuration {} cannot be read: {cause}", shown(file)),
        next: "name one that can be with -c FILE, or do without: -r LOCATION -p FILE, with paths instead of shops"
            .to_owned(),
    }
}

/// Reads the file, if nobody but root and the caller could have written it. Judged is what was opened:
/// what a name leads to a moment later does not matter.
///
/// # Errors
/// [`Error::Usage`].
pub fn read(file: &Path) -> Result<String> {
    let unreadable = |cause: std::io::Error| unreadable(file, &cause);
    // A pipe without a writer would never open.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(file)
        .map_err(unreadable)?;
    let metadata = opened.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(std::io::Error::other("it is no regular file")));
    }
    if let Some(finding) = super::way::unsafe_because(metadata.uid(), metadata.mode(), false) {
        return Err(super::way::not_believed(file, file, &finding));
    }
    require_safe_way(file)?;
    let too_long = || {
        let limit = ByteSize(MAX_BYTES);
        unreadable(std::io::Error::other(format!("it is longer than {limit}")))
    };
    if metadata.len() > MAX_BYTES {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    (&opened)
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(too_long());
    }
    String::from_utf8(bytes).map_err(|cause| {
        let line = super::line_of(cause.as_bytes(), cause.utf8_error().valid_up_to());
        unreadable(std::io::Error::other(format!("line {line} is not UTF-8")))
    })
}
