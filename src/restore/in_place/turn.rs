//! One at a time: whoever exchanges names in a folder holds that folder, or two swaps that look and
//! rename in turn would each take what the other has just put there.

use std::collections::BTreeSet;
use std::path::Path;

use crate::durable::{Disk, Folder};
use crate::error::{Error, Result};

/// The folders whose names may be exchanged, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _held: Vec<Box<dyn Folder>>,
}

impl Turn {
    /// Takes the turn at all `places`, or at none. Where a file system knows no locks, there is nobody
    /// to wait for.
    ///
    /// # Errors
    /// [`Error::UnfinishedRestore`] if somebody else has it; [`Error::File`].
    pub fn take<'a>(places: impl Iterator<Item = &'a Path>, disk: &dyn Disk) -> Result<Self> {
        let mut held = Vec::new();
        for place in places.collect::<BTreeSet<_>>() {
            let folder = disk.open(place).map_err(Error::file("opening", place))?;
            if !folder.try_lock().unwrap_or(true) {
                return Err(Error::UnfinishedRestore {
                    path: place.to_owned(),
                    finding: "that is at work right now".to_owned(),
                });
            }
            held.push(folder);
        }
        Ok(Self { _held: held })
    }
}
