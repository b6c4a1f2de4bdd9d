//! What a kept folder holds that the restored snapshot failed to save: there is no other copy of it that we
//! know of, so it does not go with the rest unasked.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::journal::{Journal, Place};
use super::survey::Paths;
use crate::durable::Disk;
use crate::durable::scratch::KEPT;

/// Finds it where it lies now: under `old` after a restore, and wherever a rollback has put what came up in
/// its place. What another restore keeps inside goes along, so it counts too. What its owner has fetched is
/// not there, and is not counted.
pub(super) fn unsaved_in<'a>(
    kept: impl Iterator<Item = (PathBuf, &'a Place)>,
    disk: &dyn Disk,
) -> Paths {
    let mut found = BTreeSet::new();
    for (folder, place) in kept {
        let mut inner = Vec::new();
        look_at(&folder, std::slice::from_ref(place), &mut found, &mut inner);
        while let Some(folder) = inner.pop() {
            let journal = disk
                .open(&folder)
                .map_err(|cause| cause.to_string())
                .and_then(|open| Journal::read(open.as_ref()));
            match journal {
                // Which of its places this is, its folder's path no longer says.
                Ok(journal) => look_at(&folder, &journal.places, &mut found, &mut inner),
                // Nobody can tell what it holds.
                Err(_) => {
                    found.insert(folder);
                }
            }
        }
    }
    let mut paths = Paths::default();
    for path in &found {
        paths.add(path);
    }
    paths
}

/// Looks for what `places` say was not saved in each part of a kept folder, and for kept folders of others.
fn look_at(
    kept: &Path,
    places: &[Place],
    found: &mut BTreeSet<PathBuf>,
    others: &mut Vec<PathBuf>,
) {
    for part in folders_in(kept, found) {
        for inner in places.iter().flat_map(|place| &place.unsaved) {
            let path = part.join(inner);
            // What cannot be looked at may well be there.
            let looked = std::fs::symlink_metadata(&path);
            if !looked.is_err_and(|cause| is_absence(&cause)) {
                found.insert(path);
            }
        }
        let mut waiting = vec![part];
        while let Some(folder) = waiting.pop() {
            for path in folders_in(&folder, found) {
                let name = path.file_name().unwrap_or_default().as_bytes();
                if name.starts_with(KEPT.as_bytes()) {
                    others.push(path);
                } else {
                    waiting.push(path);
                }
            }
        }
    }
}

fn is_absence(cause: &io::Error) -> bool {
    matches!(
        cause.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The folders in a folder. One that cannot be read may hold anything: it is found.
fn folders_in(folder: &Path, found: &mut BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let listed = match std::fs::read_dir(folder) {
        Ok(listed) => listed.flatten(),
        Err(cause) => {
            if !is_absence(&cause) {
                found.insert(folder.to_owned());
            }
            return Vec::new();
        }
    };
    let is_folder = |item: &std::fs::DirEntry| item.file_type().is_ok_and(|kind| kind.is_dir());
    listed.filter(is_folder).map(|item| item.path()).collect()
}
