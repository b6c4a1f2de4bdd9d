//! Reading a copy back: every byte of it again, in stretches on all cores, against the hashes of its
//! blobs.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::item::{Item, Log};
use super::links::further_names;
use crate::durable::{File, Folder, PageBuffer};
use crate::error::{Error, Result};
use crate::id::{Hasher, Id};
use crate::monitor::{Monitor, Progress, go_on};
use crate::parallel::{self, lock};
use crate::repository::index::Index;
use crate::repository::pack::BlobKind;
use crate::repository::tree::Content;
use crate::source::sqlite::{HEAD, Signature, wal};

/// Bytes that one thread reads back at a stretch.
const STRETCH: u64 = 32 * 1024 * 1024;

/// Bytes that are held of it at a time: whole pages of any size.
const PIECE: usize = 256 * 1024;

thread_local! {
    /// What one thread holds, for one file after the other.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn length_of(index: &Index, id: Id) -> u64 {
    index
        .find(BlobKind::Data, id)
        .map_or(0, |location| location.plain_length())
}

/// A stretch of a file to read back: which of its blobs, and the offset of the first.
type Stretch<'a> = (usize, &'a Item, Range<usize>, u64);

/// Reads every staged file again and compares the hash of each blob's range, on all cores. Returns the
/// numbers of those that begin as databases do.
pub(super) fn read_back(
    folder: &dyn Folder,
    items: &[Item],
    index: &Index,
    past_cache: bool,
    monitor: &dyn Monitor,
) -> Result<HashSet<usize>> {
    let mut stretches: Vec<Stretch<'_>> = Vec::new();
    let further = further_names(items);
    let mut again = Vec::new();
    for (number, item) in items.iter().enumerate() {
        if let Some(log) = &item.log {
            read_back_pages(folder, item, log, past_cache, monitor)?;
            continue;
        }
        if let Content::File { blobs, size } = &item.content {
            let first = further.get(&number);
            if let Some(first) = first.filter(|first| is_same(folder, &items[**first], item)) {
                again.push((number, *first));
                monitor.progress(Progress {
                    bytes: *size,
                    files: 1,
                });
                continue;
            }
            let lengths = blobs.iter().map(|id| length_of(index, *id));
            let cuts = cut(lengths).into_iter();
            stretches.extend(cuts.map(|(blobs, offset)| (number, item, blobs, offset)));
        }
    }
    let databases: Mutex<HashSet<usize>> = Mutex::default();
    parallel::for_each(&stretches, |stretch| {
        go_on(monitor)?;
        if read_back_stretch(folder, stretch, index, monitor)? == Signature::Database {
            let mut databases = databases.lock().unwrap_or_else(PoisonError::into_inner);
            databases.insert(stretch.0);
        }
        Ok::<(), Error>(())
    })?;
    let mut databases = databases
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    for (number, first) in again {
        if databases.contains(&first) {
            databases.insert(number);
        }
    }
    Ok(databases)
}

/// Whether two names are of one file: then it is read once.
fn is_same(folder: &dyn Folder, first: &Item, item: &Item) -> bool {
    let identity = |item: &Item| folder.identity(&item.path).ok().flatten();
    identity(item).is_some_and(|stands| identity(first) == Some(stands))
}

/// Cuts a file of blobs of these lengths into stretches of at most [`STRETCH`] bytes, so that one
/// large file keeps all cores busy; an empty file is one stretch.
pub(super) fn cut(lengths: impl Iterator<Item = u64>) -> Vec<(Range<usize>, u64)> {
    let mut cuts = Vec::new();
    let (mut blobs, mut begin, mut end) = (0..0, 0, 0);
    for length in lengths {
        if !blobs.is_empty() && end - begin + length > STRETCH {
            let next = blobs.end..blobs.end;
            cuts.push((std::mem::replace(&mut blobs, next), begin));
            begin = end;
        }
        blobs.end += 1;
        end += length;
    }
    cuts.push((blobs, begin));
    cuts
}

/// Opens a staged file, which must have the length of what was captured.
fn open_copy(folder: &dyn Folder, item: &Item) -> Result<Box<dyn File>> {
    let path = folder.path().join(&item.path);
    let file = folder
        .open_file(&item.path, false)
        .map_err(Error::file("reading back", &path))?;
    let length = file.length().map_err(Error::file("reading back", &path))?;
    let size = item.content.size();
    if length != size {
        let finding = format!("the copy has {length} bytes, {size} were captured");
        return Err(differs(item, finding));
    }
    Ok(file)
}

/// That a copy is not what was captured.
fn differs(item: &Item, finding: String) -> Error {
    Error::NotVerified {
        name: crate::units::shown(&item.path),
        finding,
    }
}

/// Reads a stretch back, and says what a file that begins with it begins as.
fn read_back_stretch(
    folder: &dyn Folder,
    (_, item, range, offset): &Stretch<'_>,
    index: &Index,
    monitor: &dyn Monitor,
) -> Result<Signature> {
    let mut signature = Signature::Other;
    let Content::File { blobs, size } = &item.content else {
        return Ok(signature);
    };
    let path = folder.path().join(&item.path);
    let file = open_copy(folder, item)?;
    let length = *size;
    let mut offset = *offset;
    if offset == 0 {
        // From the file itself: its first blob may be shorter.
        let mut head = [0; HEAD];
        let head = &mut head[..HEAD.min(usize::try_from(length).unwrap_or(HEAD))];
        file.read_exact_at(head, 0)
            .map_err(Error::file("reading back", &path))?;
        // Where the manifest does not say what it is, its engine does, with the log beside it.
        signature = if wal::is_refusing(head) {
            Signature::Database
        } else {
            Signature::of(head)
        };
    }
    for id in &blobs[range.clone()] {
        go_on(monitor)?;
        let bytes = length_of(index, *id);
        // Piece by piece: all cores read back at once, and a blob may be the largest.
        let (mut hasher, mut at, end) = (Hasher::default(), offset, offset + bytes);
        while at < end {
            let length = usize::try_from(end - at).map_or(PIECE, |left| left.min(PIECE));
            BUFFER
                .with_borrow_mut(|buffer| {
                    buffer.resize(PIECE, 0);
                    let piece = &mut buffer[..length];
                    file.read_exact_at(piece, at)?;
                    hasher.update(piece);
                    Ok(())
                })
                .map_err(Error::file("reading back", &path))?;
            at += length as u64;
        }
        if hasher.finish() != *id {
            return Err(differs(
                item,
                format!("the copy differs in the {bytes} bytes from {offset}"),
            ));
        }
        offset += bytes;
        monitor.progress(Progress { bytes, files: 0 });
    }
    if range.end == blobs.len() {
        monitor.progress(Progress { bytes: 0, files: 1 });
    }
    Ok(signature)
}

/// Reads the image back, on all cores, and compares the hash of its pages with the captured one.
///
/// # Errors
/// [`Error::NotVerified`], [`Error::File`], [`Error::Interrupted`].
pub(super) fn read_back_pages(
    folder: &dyn Folder,
    item: &Item,
    log: &Log,
    past_cache: bool,
    monitor: &dyn Monitor,
) -> Result<()> {
    /// Bytes that are held of it at a time, which a disk is asked for at once.
    const PIECE: usize = 1024 * 1024;
    /// Bytes that one thread reads at a stretch.
    const STRETCH: usize = 16 * 1024 * 1024;
    /// Stretches whose hashes are held at a time: of pages of 4 KiB 8 MiB.
    const TOGETHER: usize = 64;
    let path = folder.path().join(&item.path);
    let file = open_copy(folder, item)?;
    let page_bytes = log.described.page_bytes as usize;
    let size = usize::try_from(item.content.size()).unwrap_or(usize::MAX);
    let mut image = Hasher::default();
    for wave in (0..size).step_by(STRETCH * TOGETHER) {
        let stretches: Vec<(usize, Mutex<Vec<Id>>)> = (wave..size)
            .step_by(STRETCH)
            .take(TOGETHER)
            .map(|begin| (begin, Mutex::default()))
            .collect();
        parallel::for_each_waiting(&stretches, |(begin, hashes)| {
            let end = size.min(begin + STRETCH);
            let mut found = Vec::with_capacity((end - begin) / page_bytes);
            let mut buffer = PageBuffer::with_capacity(PIECE.min(end - begin));
            for at in (*begin..end).step_by(PIECE) {
                go_on(monitor)?;
                buffer.resize(PIECE.min(end - at));
                let piece = &mut *buffer;
                let read = if past_cache {
                    file.read_past_cache(piece, at as u64)
                } else {
                    file.read_exact_at(piece, at as u64)
                };
                read.map_err(Error::file("reading back", &path))?;
                found.extend(piece.chunks(page_bytes).map(Id::of));
                monitor.progress(Progress {
                    bytes: piece.len() as u64,
                    files: 0,
                });
            }
            *lock(hashes) = found;
            Ok::<(), Error>(())
        })?;
        for (_, hashes) in &stretches {
            for hash in lock(hashes).iter() {
                image.update(hash.as_bytes());
            }
        }
    }
    monitor.progress(Progress { bytes: 0, files: 1 });
    if image.finish() != log.image_sha256 {
        let finding = "its image is not the one that was captured".to_owned();
        return Err(differs(item, finding));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_into_stretches_that_join() {
        const HALF: u64 = STRETCH / 2;
        for (lengths, cuts) in [
            (vec![], vec![(0..0, 0)]),
            (vec![7], vec![(0..1, 0)]),
            (vec![HALF, HALF], vec![(0..2, 0)]),
            (vec![1, HALF, HALF, 5], vec![(0..2, 0), (2..4, HALF + 1)]),
            (
                vec![STRETCH + 3, 1, STRETCH],
                vec![(0..1, 0), (1..2, STRETCH + 3), (2..3, STRETCH + 4)],
            ),
        ] {
            assert_eq!(cut(lengths.iter().copied()), cuts, "{lengths:?}");
        }
    }
}
