//! Reading a copy back: every byte of it again, in stretches on all cores, against the hashes of its
//! blobs.

use std::ops::Range;

use super::item::Item;
use super::links::further_names;
use crate::durable::Folder;
use crate::error::{Error, Result};
use crate::id::{Hasher, Id};
use crate::monitor::{Monitor, Progress, go_on};
use crate::parallel;
use crate::repository::index::Index;
use crate::repository::pack::BlobKind;
use crate::repository::tree::Content;

/// Bytes that one thread reads back at a stretch.
const STRETCH: u64 = 32 * 1024 * 1024;

/// Bytes that are held of it at a time.
const PIECE: usize = 1024 * 1024;

pub(super) fn length_of(index: &Index, id: Id) -> u64 {
    index
        .find(BlobKind::Data, id)
        .map_or(0, |location| location.plain_length())
}

/// A stretch of a file to read back: which of its blobs, and the offset of the first.
type Stretch<'a> = (&'a Item, Range<usize>, u64);

/// Reads every staged file again and compares the hash of each blob's range, on all cores.
pub(super) fn read_back(
    folder: &dyn Folder,
    items: &[Item],
    index: &Index,
    monitor: &dyn Monitor,
) -> Result<()> {
    let mut stretches: Vec<Stretch<'_>> = Vec::new();
    let further = further_names(items);
    for (number, item) in items.iter().enumerate() {
        if let Content::File { blobs, size } = &item.content {
            let first = further.get(&number).map(|first| &items[*first]);
            if first.is_some_and(|first| is_same(folder, first, item)) {
                monitor.progress(Progress {
                    bytes: *size,
                    files: 1,
                });
                continue;
            }
            let lengths = blobs.iter().map(|id| length_of(index, *id));
            let cuts = cut(lengths).into_iter();
            stretches.extend(cuts.map(|(blobs, offset)| (item, blobs, offset)));
        }
    }
    parallel::for_each(&stretches, |stretch| {
        go_on(monitor)?;
        read_back_stretch(folder, stretch, index, monitor)
    })
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

fn read_back_stretch(
    folder: &dyn Folder,
    (item, range, offset): &Stretch<'_>,
    index: &Index,
    monitor: &dyn Monitor,
) -> Result<()> {
    let Content::File { blobs, size } = &item.content else {
        return Ok(());
    };
    let path = folder.path().join(&item.path);
    let differs = |finding: String| Error::NotVerified {
        name: crate::units::shown(&item.path),
        finding,
    };
    let file = folder
        .open_file(&item.path, false)
        .map_err(Error::file("reading back", &path))?;
    let length = file.length().map_err(Error::file("reading back", &path))?;
    if length != *size {
        return Err(differs(format!(
            "the copy has {length} bytes, {size} were captured"
        )));
    }
    let mut offset = *offset;
    let mut buffer = Vec::new();
    for id in &blobs[range.clone()] {
        go_on(monitor)?;
        let bytes = length_of(index, *id);
        // Piece by piece: all cores read back at once, and a blob may be the largest.
        let (mut hasher, mut at, end) = (Hasher::default(), offset, offset + bytes);
        while at < end {
            let length = usize::try_from(end - at).map_or(PIECE, |left| left.min(PIECE));
            buffer.resize(length, 0);
            file.read_exact_at(&mut buffer, at)
                .map_err(Error::file("reading back", &path))?;
            hasher.update(&buffer);
            at += length as u64;
        }
        if hasher.finish() != *id {
            return Err(differs(format!(
                "the copy differs in the {bytes} bytes from {offset}"
            )));
        }
        offset += bytes;
        monitor.progress(Progress { bytes, files: 0 });
    }
    if range.end == blobs.len() {
        monitor.progress(Progress { bytes: 0, files: 1 });
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
