//! Writing and reading past the page cache, straight between memory and the disk (`O_DIRECT`).
//!
//! What goes through the cache is copied into memory that the kernel must find first, and pushes out what other
//! programs read. A file has a second descriptor for it, opened with the first bytes that go this way. Whatever it refuses is
//! written as usual, and so is all that comes after: a disk that is full or broken says so there too.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::descriptor;
use super::file_system::{self, EXT, XFS};
use super::page_buffer::{BLOCK, PageBuffer, begins_a_block};

/// Fewer bytes than this gain nothing by it: each write waits for the disk.
const LEAST: usize = 256 * 1024;
/// Most bytes of one write, so that the kernel need not hold more pages in place.
const MOST: usize = 16 * 1024 * 1024;
/// Bytes that are copied at a time where they do not begin with a block: they stay in the processor's cache.
const COPIED: usize = 1024 * 1024;

thread_local! {
    static COPY: RefCell<PageBuffer> = RefCell::default();
}

/// The second descriptor of a file.
#[derive(Debug, Default)]
pub(super) struct Direct {
    file: OnceLock<Option<fs::File>>,
    is_refused: AtomicBool,
}

impl Direct {
    /// Writes the first of `bytes`, as many as can go past the cache and what comes before the first whole block,
    /// which `usual` writes. Returns how many that were.
    pub fn write(
        &self,
        file: &fs::File,
        bytes: &[u8],
        offset: u64,
        usual: impl Fn(&[u8], u64) -> io::Result<()>,
    ) -> io::Result<usize> {
        let Some(head) = to_block(offset) else {
            return Ok(0);
        };
        let whole = bytes.len().saturating_sub(head) / BLOCK * BLOCK;
        if whole < LEAST || self.is_refused.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let Some(direct) = self.file.get_or_init(|| reopened(file, OFlags::WRONLY)) else {
            return Ok(0);
        };
        usual(&bytes[..head], offset)?;
        let done = write_blocks(direct, &bytes[head..head + whole], offset + head as u64);
        if done < whole {
            self.is_refused.store(true, Ordering::Relaxed);
        }
        Ok(head + done)
    }

    /// Reads the first of `bytes`, as many as can be read past the cache. Returns how many those were.
    pub fn read(&self, file: &fs::File, bytes: &mut [u8], offset: u64) -> usize {
        let whole = bytes.len() / BLOCK * BLOCK;
        let is_block = offset.is_multiple_of(BLOCK as u64) && begins_a_block(bytes);
        if !is_block || whole < LEAST || self.is_refused.load(Ordering::Relaxed) {
            return 0;
        }
        let Some(direct) = self.file.get_or_init(|| reopened(file, OFlags::RDONLY)) else {
            return 0;
        };
        if direct.read_exact_at(&mut bytes[..whole], offset).is_err() {
            // Read again in the usual way, which says what is wrong if it is more than that.
            self.is_refused.store(true, Ordering::Relaxed);
            return 0;
        }
        whole
    }

    /// Reads past the cache what is not in it; none if it is, or cannot be read so.
    pub fn read_uncached(&self, file: &fs::File, offset: u64, length: usize) -> Option<Vec<u8>> {
        let end = offset.checked_add(length as u64)?;
        if !(LEAST..=COPIED + LEAST).contains(&length)
            || self.is_refused.load(Ordering::Relaxed)
            || is_cached(file, offset) && is_cached(file, end - 1)
        {
            return None;
        }
        let direct = self.file.get_or_init(|| reopened(file, OFlags::RDONLY));
        let direct = direct.as_ref()?;
        let first = offset / BLOCK as u64 * BLOCK as u64;
        let all = usize::try_from(end.checked_next_multiple_of(BLOCK as u64)? - first).ok()?;
        let wanted = usize::try_from(offset - first).ok()?..usize::try_from(end - first).ok()?;
        COPY.with_borrow_mut(|copy| {
            if copy.len() < all {
                copy.resize(all);
            }
            let bytes = &mut copy[..all];
            let mut read = 0;
            // The last block may not be a whole one in the file.
            while read < wanted.end {
                match direct.read_at(&mut bytes[read..], first + read as u64) {
                    Ok(more) if more > 0 => read += more,
                    Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                    // Read again in the usual way, which says what is wrong if it is more than that.
                    _ => {
                        self.is_refused.store(true, Ordering::Relaxed);
                        return None;
                    }
                }
            }
            Some(bytes[wanted].to_vec())
        })
    }
}

/// Whether the byte there can be had without waiting for the disk.
fn is_cached(file: &fs::File, offset: u64) -> bool {
    let mut byte = [0];
    let into = &mut [io::IoSliceMut::new(&mut byte)];
    let read = preadv2(file, into, offset, ReadWriteFlags::NOWAIT);
    // One that cannot be asked is read in the usual way.
    !matches!(read, Err(Errno::AGAIN))
}

/// Bytes from there to the next begin of a block.
fn to_block(offset: u64) -> Option<usize> {
    let next = offset.checked_next_multiple_of(BLOCK as u64)?;
    usize::try_from(next - offset).ok()
}

/// The file once more, for writing past the cache. Only on file systems that are known to do that well: one on a
/// network may wait for the other side's disk with each write, and one that copies may do so twice.
fn reopened(file: &fs::File, access: OFlags) -> Option<fs::File> {
    let kind = file_system::kind_of_held(file).ok()?;
    if ![EXT, XFS].contains(&kind) {
        return None;
    }
    descriptor::reopen(file, access | OFlags::DIRECT)
        .ok()
        .map(fs::File::from)
}

/// Writes whole blocks; returns how many bytes it wrote before it was refused.
fn write_blocks(direct: &fs::File, bytes: &[u8], offset: u64) -> usize {
    if begins_a_block(bytes) {
        return write_pieces(bytes, MOST, |piece, at| {
            write_once(direct, piece, offset + at)
        });
    }
    COPY.with_borrow_mut(|copy| {
        if copy.capacity() < COPIED {
            *copy = PageBuffer::with_capacity(COPIED);
        }
        write_pieces(bytes, COPIED, |piece, at| {
            copy.clear();
            copy.extend_from_slice(piece);
            write_once(direct, copy, offset + at)
        })
    })
}

/// Writes piece after piece until one is not taken whole.
fn write_pieces(bytes: &[u8], most: usize, mut write: impl FnMut(&[u8], u64) -> bool) -> usize {
    let mut done = 0;
    for piece in bytes.chunks(most) {
        if !write(piece, done as u64) {
            break;
        }
        done += piece.len();
    }
    done
}

/// Whether all of it was written. What was not is written again in the usual way, so nobody asks why.
fn write_once(direct: &fs::File, piece: &[u8], offset: u64) -> bool {
    loop {
        match direct.write_at(piece, offset) {
            Ok(written) => return written == piece.len(),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::{Disk, OsDisk};
    use std::path::{Path, PathBuf};

    fn noise(length: usize) -> Vec<u8> {
        let bytes = (0..length as u64).map(|at| at.wrapping_mul(0x9e37_79b9) >> 13);
        bytes.map(|byte| (byte & 0xff) as u8).collect()
    }

    /// A folder on the disk that the project lies on, one where temporary files lie, and one in memory.
    fn folders() -> Vec<tempfile::TempDir> {
        let places = [
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"),
            std::env::temp_dir(),
            PathBuf::from("/dev/shm"),
        ];
        let made = places.iter().map(tempfile::tempdir_in);
        made.filter_map(Result::ok).collect()
    }

    #[test]
    fn what_is_written_past_the_cache_is_what_is_read() {
        const MIB: usize = 1024 * 1024;
        let all = noise(16 * MIB + 8193);
        let mut aligned = PageBuffer::default();
        aligned.extend_from_slice(&all);
        for folder in folders() {
            let root = OsDisk.open(folder.path()).unwrap();
            for (number, length) in [0, 1, 4095, 4096, 4097, MIB, MIB + 1, 16 * MIB + 1]
                .into_iter()
                .enumerate()
            {
                for (offset, from) in [(0, 0), (0, 1), (4096, 0), (5, 0), (5, 4091), (4095, 1)] {
                    let name = format!("{number}-{offset}-{from}");
                    let file = root.create_file(Path::new(&name), 0o600).unwrap();
                    file.write_all_at(&vec![9; offset], 0).unwrap();
                    let bytes = &aligned[from..from + length];
                    file.write_past_cache(bytes, offset as u64).unwrap();
                    file.sync().unwrap();
                    let read = std::fs::read(folder.path().join(&name)).unwrap();
                    assert_eq!(read.len(), offset + length);
                    assert!(read[..offset].iter().all(|byte| *byte == 9));
                    assert!(&read[offset..] == bytes, "{name}");
                }
            }
        }
    }

    #[test]
    fn it_is_not_in_the_cache_where_the_file_system_is_known() {
        let bytes = noise(LEAST);
        for folder in folders() {
            let name = folder.path().join("file");
            let root = OsDisk.open(folder.path()).unwrap();
            let file = root.create_file(Path::new("file"), 0o600).unwrap();
            file.write_past_cache(&bytes, 0).unwrap();
            file.sync().unwrap();
            let mut byte = [0];
            let into = &mut [std::io::IoSliceMut::new(&mut byte)];
            let file = fs::File::open(name).unwrap();
            let cached = preadv2(&file, into, 0, ReadWriteFlags::NOWAIT);
            if [EXT, XFS].contains(&file_system::kind_of_held(&file).unwrap()) {
                assert_eq!(cached, Err(Errno::AGAIN));
            }
        }
    }

    #[test]
    fn what_is_refused_is_written_as_usual() {
        for folder in folders() {
            let name = folder.path().join("file");
            let file = fs::File::create_new(&name).unwrap();
            // Open for reading only: each write is refused.
            let refusing = fs::File::open(&name).unwrap();
            let direct = Direct::default();
            direct.file.set(Some(refusing)).unwrap();
            let bytes = noise(2 * LEAST);
            let usual = |bytes: &[u8], at| file.write_all_at(bytes, at);
            assert_eq!(direct.write(&file, &bytes, 5, usual).unwrap(), BLOCK - 5);
            assert!(direct.is_refused.load(Ordering::Relaxed));
            assert_eq!(direct.write(&file, &bytes, 5, usual).unwrap(), 0);
        }
    }

    #[test]
    fn what_is_read_past_the_cache_is_what_was_written() {
        let bytes = noise(3 * LEAST + 5);
        for folder in folders() {
            let root = OsDisk.open(folder.path()).unwrap();
            let file = root.create_file(Path::new("file"), 0o600).unwrap();
            // Some of it is in the cache only.
            file.write_all_at(&bytes, 0).unwrap();
            let mut buffer = PageBuffer::with_capacity(bytes.len());
            for (offset, length) in [
                (0, bytes.len()),
                (BLOCK, bytes.len() - BLOCK),
                (1, LEAST),
                (0, 5),
            ] {
                buffer.clear();
                buffer.resize(length);
                file.read_past_cache(&mut buffer, offset as u64).unwrap();
                assert!(*buffer == bytes[offset..offset + length], "{offset}");
            }
            buffer.resize(bytes.len());
            let beyond = file.read_past_cache(&mut buffer, BLOCK as u64);
            assert_eq!(beyond.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn what_is_not_in_the_cache_is_read_past_it() {
        let bytes = noise(3 * COPIED + 5);
        for folder in folders() {
            let root = OsDisk.open(folder.path()).unwrap();
            let file = root.create_file(Path::new("file"), 0o600).unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            file.sync().unwrap();
            let held = fs::File::open(folder.path().join("file")).unwrap();
            let all = std::num::NonZeroU64::new(bytes.len() as u64);
            let forget = || rustix::fs::fadvise(&held, 0, all, rustix::fs::Advice::DontNeed);
            for is_cached in [true, false] {
                for (offset, length) in [
                    (0, COPIED),
                    (1, LEAST),
                    (BLOCK, COPIED + 7),
                    (4095, COPIED),
                    (bytes.len() - LEAST, LEAST),
                    (bytes.len() - COPIED - 1, COPIED),
                    (7, 5),
                    (0, bytes.len()),
                ] {
                    if !is_cached {
                        forget().unwrap();
                    }
                    let read = file.read_sparing(offset as u64, length).unwrap();
                    assert!(read == bytes[offset..offset + length], "{offset} {length}");
                }
            }
            let is_known = [EXT, XFS].contains(&file_system::kind_of_held(&held).unwrap());
            forget().unwrap();
            let direct = Direct::default();
            let read = direct.read_uncached(&held, 1, LEAST);
            assert_eq!(
                read.is_some(),
                is_known,
                "it was not in the cache, and is not now"
            );
            let beyond = file.read_sparing(bytes.len() as u64 - 5, LEAST);
            assert_eq!(beyond.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn what_is_refused_is_read_as_usual() {
        for folder in folders() {
            let name = folder.path().join("file");
            let bytes = noise(2 * LEAST);
            std::fs::write(&name, &bytes).unwrap();
            let file = fs::File::open(&name).unwrap();
            let direct = Direct::default();
            // Open for writing only: each read is refused.
            let refusing = fs::OpenOptions::new().write(true).open(&name).unwrap();
            direct.file.set(Some(refusing)).unwrap();
            let mut buffer = PageBuffer::with_capacity(bytes.len());
            buffer.resize(bytes.len());
            assert_eq!(direct.read(&file, &mut buffer, 0), 0);
            assert!(direct.is_refused.load(Ordering::Relaxed));
        }
    }

    #[test]
    fn a_piece_that_is_not_taken_ends_it() {
        let bytes = noise(10);
        let mut asked = Vec::new();
        let done = write_pieces(&bytes, 4, |piece, at| {
            asked.push((piece.len(), at));
            at == 0
        });
        assert_eq!((done, asked), (4, vec![(4, 0), (4, 4)]));
    }

    #[test]
    fn threads_write_to_one_file_at_once() {
        let bytes = noise(8 * LEAST + 4);
        for folder in folders() {
            let root = OsDisk.open(folder.path()).unwrap();
            let file = root.create_file(Path::new("file"), 0o600).unwrap();
            std::thread::scope(|scope| {
                let (first, second) = bytes.split_at(4 * LEAST + 3);
                let file = &file;
                scope.spawn(move || file.write_past_cache(first, 0).unwrap());
                scope.spawn(move || {
                    let at = first.len() as u64;
                    file.write_past_cache(second, at).unwrap();
                });
            });
            file.sync().unwrap();
            assert!(std::fs::read(folder.path().join("file")).unwrap() == bytes);
        }
    }
}
