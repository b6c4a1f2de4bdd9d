//! Going on from what an earlier run of the same restore has staged.
//!
//! Nothing in a stage folder that was left is trusted: each file is read, and only what has the hash of
//! its blob is kept. What is no part of the plan is removed.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::item::Item;
use super::read_back::{cut, length_of};
use crate::durable::scratch::Scratch;
use crate::durable::{Folder, Listed, ListedKind, remove_tree};
use crate::entry::Kind;
use crate::error::{Error, Result, is_full};
use crate::id::Id;
use crate::monitor::{Monitor, Problem, Progress, go_on};
use crate::parallel;
use crate::repository::index::Index;
use crate::repository::tree::Content;
use crate::units::{ByteSize, shown};

/// Keeps what was staged, if the same restore can go on from there after such an end, and says so.
/// Returns the cause.
pub(super) fn keep_after(scratch: Scratch, cause: Error, monitor: &dyn Monitor) -> Error {
    let may_go_on = match &cause {
        Error::Interrupted { .. } | Error::Storage { .. } => true,
        Error::File { cause, .. } => is_full(cause),
        _ => false,
    };
    if may_go_on && let Some((path, bytes)) = scratch.keep() {
        monitor.problem(Problem {
            item: shown(&path),
            finding: format!(
                "{} that are restored already stay here: the same restore goes on from them, any other there removes them",
                ByteSize(bytes)
            ),
            incomplete: false,
        });
    }
    cause
}

/// What is there already, and right.
#[derive(Debug, Default)]
pub(super) struct Kept {
    folders: HashSet<PathBuf>,
    /// Files by the numbers of their items: which of their blobs are right.
    files: HashMap<usize, Vec<bool>>,
}

impl Kept {
    pub(super) fn has_folder(&self, path: &Path) -> bool {
        self.folders.contains(path)
    }

    pub(super) fn has_file(&self, number: usize) -> bool {
        self.files.contains_key(&number)
    }

    /// Gives up what is there of a file.
    pub(super) fn forget_file(&mut self, number: usize) {
        self.files.remove(&number);
    }

    pub(super) fn has_blob(&self, number: usize, position: usize) -> bool {
        let blobs = self.files.get(&number);
        blobs.is_some_and(|blobs| blobs.get(position) == Some(&true))
    }
}

/// Opens to us what was left in `folder`, removes what does not belong there, and finds out what of
/// the rest is right.
///
/// # Errors
/// [`Error::File`], [`Error::Interrupted`].
pub(super) fn take_over(
    folder: &dyn Folder,
    items: &[Item],
    index: &Index,
    monitor: &dyn Monitor,
) -> Result<Kept> {
    let mut kept = Kept::default();
    let lengths = tidy(folder, items, &mut kept, monitor)?;
    compare(folder, items, &lengths, &mut kept, index, monitor)?;
    Ok(kept)
}

/// Leaves only folders and files of the plan, all of them open to us and to nobody else. Returns the
/// lengths of the files.
fn tidy(
    folder: &dyn Folder,
    items: &[Item],
    kept: &mut Kept,
    monitor: &dyn Monitor,
) -> Result<HashMap<usize, u64>> {
    let numbers: HashMap<&Path, usize> = items
        .iter()
        .enumerate()
        .map(|(number, item)| (item.path.as_path(), number))
        .collect();
    let mut lengths = HashMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(inner) = waiting.pop() {
        go_on(monitor)?;
        let failed = |doing, path: &Path| Error::file(doing, folder.path().join(path));
        let listed = folder.list(&inner).map_err(failed("reading", &inner))?;
        for listed in listed {
            let path = inner.join(&listed.name);
            let number = numbers.get(path.as_path()).copied();
            // Where there are no modes it is refused, and not needed.
            let open = |mode| drop(folder.set_mode(&path, mode));
            match number.map(|number| (number, &items[number])) {
                Some((_, item))
                    if listed.kind == ListedKind::Folder && item.entry.kind == Kind::Folder =>
                {
                    open(0o700);
                    kept.folders.insert(path.clone());
                    waiting.push(path);
                }
                Some((number, item)) if is_usable(folder, &path, &listed, item) => {
                    lengths.insert(number, listed.size_bytes);
                    kept.files.insert(number, Vec::new());
                }
                _ => remove(folder, &path, listed.kind).map_err(failed("removing", &path))?,
            }
        }
    }
    Ok(lengths)
}

/// Whether a file that was left can become the item, and opens it to us; one that has another name
/// somewhere would be changed there too.
fn is_usable(folder: &dyn Folder, path: &Path, listed: &Listed, item: &Item) -> bool {
    let Content::File { size, .. } = item.content else {
        return false;
    };
    let metadata = std::fs::symlink_metadata(folder.path().join(path));
    // What of a base and its log is in an image does not show.
    if listed.kind != ListedKind::File
        || item.log.is_some()
        || listed.size_bytes > size
        || metadata.is_ok_and(|metadata| metadata.nlink() != 1)
    {
        return false;
    }
    // Where there are no modes it is refused, and not needed.
    let _ = folder.set_mode(path, 0o600);
    folder.open_file(path, true).is_ok()
}

fn remove(folder: &dyn Folder, path: &Path, kind: ListedKind) -> std::io::Result<()> {
    match kind {
        ListedKind::Folder => remove_tree(folder, path),
        ListedKind::File | ListedKind::Other => folder.remove_file(path),
    }
}

/// Reads the files that are there, on all cores, and notes which blobs are right.
fn compare(
    folder: &dyn Folder,
    items: &[Item],
    lengths: &HashMap<usize, u64>,
    kept: &mut Kept,
    index: &Index,
    monitor: &dyn Monitor,
) -> Result<()> {
    let mut stretches = Vec::new();
    for (number, length) in lengths {
        let Content::File { blobs, .. } = &items[*number].content else {
            continue;
        };
        kept.files.insert(*number, vec![false; blobs.len()]);
        for (range, offset) in cut(blobs.iter().map(|id| length_of(index, *id))) {
            stretches.push((*number, &blobs[range.clone()], range.start, offset, *length));
        }
    }
    let right: Mutex<Vec<(usize, usize)>> = Mutex::default();
    parallel::for_each(&stretches, |(number, blobs, first, offset, length)| {
        let path = &items[*number].path;
        let found = right_blobs(folder, path, blobs, (*offset, *length), index, monitor)?;
        let mut right = right.lock().unwrap_or_else(PoisonError::into_inner);
        right.extend(
            found
                .into_iter()
                .map(|position| (*number, first + position)),
        );
        Ok::<(), Error>(())
    })?;
    for (number, position) in right.into_inner().unwrap_or_else(PoisonError::into_inner) {
        if let Some(blobs) = kept.files.get_mut(&number) {
            blobs[position] = true;
        }
    }
    Ok(())
}

/// Which of the blobs stand from `offset` on in a file of `length` bytes. One that cannot be read is
/// not right: it is written anew.
fn right_blobs(
    folder: &dyn Folder,
    path: &Path,
    blobs: &[Id],
    (mut offset, length): (u64, u64),
    index: &Index,
    monitor: &dyn Monitor,
) -> Result<Vec<usize>> {
    let file = folder
        .open_file(path, false)
        .map_err(Error::file("reading", folder.path().join(path)))?;
    let (mut right, mut buffer) = (Vec::new(), Vec::new());
    for (position, id) in blobs.iter().enumerate() {
        go_on(monitor)?;
        let bytes = length_of(index, *id);
        // Memory is taken only for what is there.
        if offset.saturating_add(bytes) > length {
            break;
        }
        buffer.resize(usize::try_from(bytes).unwrap_or(usize::MAX), 0);
        if file.read_exact_at(&mut buffer, offset).is_ok() && Id::of(&buffer) == *id {
            monitor.progress(Progress {
                bytes,
                files: u64::from(offset == 0),
            });
            right.push(position);
        }
        offset += bytes;
    }
    Ok(right)
}
