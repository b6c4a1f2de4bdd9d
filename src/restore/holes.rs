//! Holes: what a file system need not store, because it is zeros.

use std::ops::Range;

use crate::id::Id;
use crate::repository::tree::Content;

/// The block of most file systems, in bytes: a hole is as many whole ones.
const BLOCK: u64 = 4096;

/// Bytes of the chunk into which a long run of zeros is cut, by restic and by us.
const ZEROS: usize = 512 * 1024;

/// The stretches of `bytes`, which stand at `offset` in their file, that hold anything but blocks of
/// zeros.
pub(super) fn data(bytes: &[u8], offset: u64) -> Vec<Range<usize>> {
    let mut stretches: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let to_next = BLOCK - (offset + at as u64) % BLOCK;
        let end = usize::try_from(to_next).map_or(bytes.len(), |step| bytes.len().min(at + step));
        if bytes[at..end].iter().any(|byte| *byte != 0) {
            match stretches.last_mut() {
                Some(last) if last.end == at => last.end = end,
                _ => stretches.push(at..end),
            }
        }
        at = end;
    }
    stretches
}

/// Bytes of long runs of zeros in some contents: no room is needed for them.
pub(super) fn bytes_in_holes<'a>(contents: impl Iterator<Item = &'a Content>) -> u64 {
    let zeros = Id::of(&vec![0; ZEROS]);
    let holes = contents.map(|content| match content {
        Content::File { blobs, .. } => blobs.iter().filter(|id| **id == zeros).count() as u64,
        Content::Folder { .. } | Content::Nothing => 0,
    });
    holes.fold(0_u64, |sum, holes| {
        sum.saturating_add(holes.saturating_mul(ZEROS as u64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_blocks_of_the_file_are_left_out() {
        let with = |length: usize, at: &[usize]| {
            let mut bytes = vec![0; length];
            for position in at {
                bytes[*position] = 1;
            }
            bytes
        };
        let block = usize::try_from(BLOCK).unwrap();
        let cases: [(_, _, &[_]); 9] = [
            (with(0, &[]), 0, &[]),
            (with(3 * block, &[]), 0, &[]),
            (with(3 * block, &[0]), 0, &[(0, block)]),
            (with(3 * block, &[block]), 0, &[(block, 2 * block)]),
            (with(3 * block, &[block - 1, block]), 0, &[(0, 2 * block)]),
            (with(100, &[5]), 0, &[(0, 100)]),
            // The first block of the file ends after one byte.
            (with(block, &[1]), BLOCK - 1, &[(1, block)]),
            (with(block, &[0]), BLOCK - 1, &[(0, 1)]),
            (
                with(2 * block, &[0, 2 * block - 1]),
                BLOCK - 1,
                &[(0, 1), (block + 1, 2 * block)],
            ),
        ];
        for (bytes, offset, expected) in cases {
            let found = data(&bytes, offset).into_iter();
            let found: Vec<_> = found.map(|range| (range.start, range.end)).collect();
            assert_eq!(found, expected, "{offset}");
        }
    }
}
