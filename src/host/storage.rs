//! The file system that a folder lies on: how much room, which kind, and whether it does what we rely on.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::durable::Disk;
use crate::durable::file_system::{self, NFS, SMB, TMPFS};
use crate::durable::scratch::Scratch;
use crate::error::{Error, Result};
use crate::rng::Rng;

/// What is known of the file system that a folder lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// Number of its device: two folders with the same one are lost together.
    pub device: u64,
    /// Bytes that we may still write.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Why it is not a good place for a repository or a live database, if it is of such a kind.
    pub doubt: Option<&'static str>,
}

/// Looks at the file system of `folder`, or of the nearest folder above that exists.
///
/// # Errors
/// [`Error::File`] as the system reports it.
pub fn storage(folder: &Path) -> Result<Storage> {
    let place = existing(folder);
    let failed = |cause: std::io::Error| Error::file("looking at", &place)(cause);
    let stat = rustix::fs::statfs(&place).map_err(|cause| failed(cause.into()))?;
    let block = u64::try_from(stat.f_bsize).unwrap_or(0);
    Ok(Storage {
        device: std::fs::metadata(&place).map_err(failed)?.dev(),
        free_bytes: stat.f_bavail.saturating_mul(block),
        total_bytes: stat.f_blocks.saturating_mul(block),
        doubt: doubt(file_system::kind(&place).map_err(failed)?),
    })
}

/// Kinds of file systems that owners should think about.
fn doubt(kind: u32) -> Option<&'static str> {
    Some(match kind {
        // tmpfs and ramfs; vfat and exFAT.
        TMPFS | 0x8584_58f6 => "it lies in memory and is gone after a restart",
        0x4d44 | 0x2011_bab0 => "FAT keeps no owners, and no file over 4 GiB",
        NFS => "NFS: what is on it is only as durable as its server makes it",
        kind if SMB.contains(&kind) => {
            "SMB: what is on it is only as durable as its server makes it"
        }
        _ => return None,
    })
}

fn existing(folder: &Path) -> PathBuf {
    let mut place = folder;
    while !place.exists() {
        match place.parent() {
            Some(parent) => place = parent,
            None => break,
        }
    }
    place.to_owned()
}

/// Does in `folder`, in a scratch folder of its own, what a repository needs of its storage: a file is
/// created, written, synced, renamed, and the folder synced; read back it must be the same; a second rename
/// to the same name must be refused.
///
/// # Errors
/// [`Error::File`] naming the operation that failed.
pub fn probe(folder: &Path, disk: &dyn Disk, rng: &dyn Rng) -> Result<()> {
    const TEXT: &[u8] = b"tillsafe looks whether this storage keeps what it is given";
    let scratch = Scratch::create(disk, folder, "probe", rng)?;
    let place = scratch.path();
    let inner = scratch.folder();
    for name in ["first", "second"] {
        let file = inner
            .create_file(Path::new(name), 0o600)
            .map_err(Error::file("creating a file in", &place))?;
        file.write_all_at(TEXT, 0)
            .map_err(Error::file("writing to a file in", &place))?;
        file.sync()
            .map_err(Error::file("syncing a file in", &place))?;
    }
    let target = Path::new("final");
    inner
        .rename(Path::new("first"), target)
        .map_err(Error::file("renaming a file in", &place))?;
    inner
        .sync_folder(Path::new(""))
        .map_err(Error::file("syncing", &place))?;
    let broken =
        |finding: &str| Error::file("trusting", &place)(std::io::Error::other(finding.to_owned()));
    if inner.rename(Path::new("second"), target).is_ok() {
        return Err(broken("it lets one file take the name of another"));
    }
    let read =
        std::fs::read(place.join(target)).map_err(Error::file("reading back from", &place))?;
    if read != TEXT {
        return Err(broken("it gave back something else than was written"));
    }
    scratch.remove().map_err(Error::file("cleaning up", &place))
}
