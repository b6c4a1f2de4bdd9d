//! Reading pages straight from a database's file, inside a read transaction: many at a time instead of one.
//!
//! Let M be the last frame of the log in our transaction. A page that has no frame up to M in the log is in the file as our
//! transaction sees it, and nobody writes it there as long as that lasts: a checkpoint copies frames up to the mark
//! of the oldest reader, which is not after M, so only pages that have such a frame; and where all frames were
//! in the file already when we began, our lock keeps every checkpoint out. All other pages come from `SQLite`
//! (<https://sqlite.org/walformat.html#wal_locks>).
//!
//! So what must be known is M, and which pages have frames up to it. M is what the head of the shared memory said,
//! unchanged, before and after the transaction began. The frames are believed if their checksums lead from the log's
//! header to the very checksum that the head names for M. Whatever else is found there, `SQLite` reads all pages.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use rusqlite::Connection;

use super::detect::beside;
use super::refusal::refused;
use super::standing::LogEnd;
use super::wal::{self, Chain};
use crate::durable::claim::LockWatch;
use crate::error::Result;
use crate::source::files::FileReader;

/// The longest log that is looked through, in bytes. A checkpoint is due long before.
const LONGEST_LOG: u64 = 64 * 1024 * 1024;
/// Where `SQLite` puts its locks: the page that holds this byte is never written, and reads as zeros.
const LOCKS: u64 = 0x4000_0000;

/// A database's file, and what of it is elsewhere.
#[derive(Debug)]
pub(super) struct Direct<'a> {
    file: &'a LockWatch,
    /// Pages that are in the log, or may be.
    in_log: BTreeSet<u32>,
    page_bytes: usize,
}

impl<'a> Direct<'a> {
    /// For a transaction that sees the log, which lies beside `path`, up to this end. None if it cannot be told which pages
    /// the file holds.
    pub(super) fn begin(
        path: &Path,
        file: &'a LockWatch,
        log: Option<&LogEnd>,
        page_bytes: usize,
    ) -> Option<Self> {
        let in_log = match log {
            Some(end) => pages_in_log(&beside(path, "-wal"), end, page_bytes)?,
            None => BTreeSet::new(),
        };
        Some(Self {
            file,
            in_log,
            page_bytes,
        })
    }

    /// Streams so many pages in order, the others through `connection`, inside its transaction.
    ///
    /// # Errors
    /// [`crate::error::Error::Source`] if the engine refuses, and those of the sink.
    pub(super) fn read_pages(
        &self,
        path: &Path,
        connection: &Connection,
        pages: u32,
        chunk_bytes: usize,
        sink: &mut dyn FnMut(Vec<u8>) -> Result<()>,
    ) -> Result<u64> {
        let engine = |cause: rusqlite::Error| refused(path, &cause);
        let mut one = connection
            .prepare("SELECT data FROM sqlite_dbpage WHERE pgno = ?")
            .map_err(engine)?;
        let size = self.page_bytes;
        let locks = LOCKS / size as u64 + 1;
        let mut bytes = 0;
        let step = u32::try_from(chunk_bytes / size).unwrap_or(1).max(1);
        let mut first = 1;
        while first <= pages {
            let count = step.min(pages - first + 1);
            let (mut chunk, missing) = self.read(first, count);
            for number in missing {
                let at = (number - first) as usize * size;
                let mut rows = one.query([number]).map_err(engine)?;
                let row = rows.next().map_err(engine)?;
                let row = row.ok_or_else(|| engine(rusqlite::Error::QueryReturnedNoRows))?;
                let page = row.get_ref(0).and_then(|value| Ok(value.as_blob()?));
                let page = page.map_err(engine)?;
                if page.len() != size {
                    return Err(engine(rusqlite::Error::InvalidQuery));
                }
                chunk[at..at + size].copy_from_slice(page);
            }
            if (u64::from(first)..u64::from(first + count)).contains(&locks) {
                let at = usize::try_from(locks - u64::from(first)).unwrap_or(0) * size;
                chunk[at..at + size].fill(0);
            }
            bytes += chunk.len() as u64;
            sink(chunk)?;
            first += count;
        }
        Ok(bytes)
    }

    /// Reads pages from the one with this number on; and which of them are to be read by `SQLite`.
    fn read(&self, first: u32, count: u32) -> (Vec<u8>, Vec<u32>) {
        let offset = u64::from(first - 1) * self.page_bytes as u64;
        let length = count as usize * self.page_bytes;
        // What cannot be read here, SQLite cannot read either, but it says so in its own words.
        let mut chunk = self.file.read_at(offset, length).unwrap_or_default();
        let whole = u32::try_from(chunk.len() / self.page_bytes).unwrap_or(0);
        chunk.resize(length, 0);
        let in_log = self.in_log.range(first..first + whole).copied();
        // What lies beyond the end of the file is in the log.
        let missing = in_log.chain(first + whole..first + count).collect();
        (chunk, missing)
    }
}

/// The pages that have a frame up to the end of the log; none if its checksums do not lead there.
fn pages_in_log(path: &Path, end: &LogEnd, page_bytes: usize) -> Option<BTreeSet<u32>> {
    let mut frame = vec![0; wal::FRAME_HEAD + page_bytes];
    if u64::from(end.frames) * frame.len() as u64 > LONGEST_LOG {
        return None;
    }
    // No lock is ever on a log, so none is dropped when it is closed.
    let file = FileReader::open(path).ok()?;
    let mut header = [0; wal::HEADER];
    (&file).read_exact(&mut header).ok()?;
    let mut chain = Chain::of(&header, page_bytes)?;
    // The shared memory has them as they stand in the log.
    if chain.salts != end.salts.map(u32::from_be) {
        return None;
    }
    let mut pages = BTreeSet::new();
    for _ in 0..end.frames {
        (&file).read_exact(&mut frame).ok()?;
        let (number, next) = chain.after(&frame)?;
        chain = next;
        pages.insert(number);
    }
    (chain.sums == end.checksum).then_some(pages)
}

#[cfg(test)]
mod tests {
    use super::super::standing::Standing;
    use super::*;

    /// A database with a log, and a connection whose transaction sees all of it.
    struct Scene {
        _place: tempfile::TempDir,
        path: std::path::PathBuf,
        connection: Connection,
        shared: LockWatch,
        /// Held open as long as the connections. Dropped after them.
        file: LockWatch,
        _writer: Connection,
    }

    impl Scene {
        fn new(in_the_file: &str, in_the_log: &str) -> Self {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("shop.db");
            let writer = Connection::open(&path).unwrap();
            writer
                .execute_batch(&format!(
                    "PRAGMA page_size = 1024; PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0;
                     CREATE TABLE orders(id INTEGER PRIMARY KEY, item TEXT);
                     {in_the_file}; PRAGMA wal_checkpoint(TRUNCATE); {in_the_log};"
                ))
                .unwrap();
            let connection = Connection::open(&path).unwrap();
            connection
                .execute_batch("BEGIN; SELECT count(*) FROM orders;")
                .unwrap();
            Self {
                shared: LockWatch::open(&beside(&path, "-shm")).unwrap(),
                file: LockWatch::open_to_read(&path).unwrap(),
                _place: place,
                path,
                connection,
                _writer: writer,
            }
        }

        fn log(&self) -> Option<LogEnd> {
            Standing::look(&self.path, Some(&self.shared)).unwrap().log
        }

        fn direct(&self, log: Option<&LogEnd>) -> Option<Direct<'_>> {
            Direct::begin(&self.path, &self.file, log, 1024)
        }

        fn by_sqlite(&self) -> Vec<u8> {
            let mut all = self
                .connection
                .prepare("SELECT data FROM sqlite_dbpage")
                .unwrap();
            let pages = all.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
            let pages: Vec<_> = pages.collect::<rusqlite::Result<_>>().unwrap();
            pages.concat()
        }
    }

    const SOLD: &str =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
        INSERT INTO orders(item) SELECT 'cup ' || hex(randomblob(30)) FROM n";

    #[test]
    fn pages_are_those_that_sqlite_reads() {
        for (in_the_file, in_the_log) in [
            (SOLD, ""),
            (SOLD, "UPDATE orders SET item = 'sold' WHERE id % 200 = 7"),
            // Most of its pages are not in the file yet.
            ("", SOLD),
            // The file is longer than the database.
            (SOLD, "DELETE FROM orders WHERE id > 50; VACUUM"),
        ] {
            let scene = Scene::new(in_the_file, in_the_log);
            let expected = scene.by_sqlite();
            let log = scene.log();
            assert_eq!(log.is_some(), !in_the_log.is_empty());
            let direct = scene.direct(log.as_ref()).unwrap();
            for chunk in [1024, 3 * 1024, 16 * 1024] {
                let mut read = Vec::new();
                let pages = u32::try_from(expected.len() / 1024).unwrap();
                let bytes = direct
                    .read_pages(&scene.path, &scene.connection, pages, chunk, &mut |chunk| {
                        read.extend(chunk);
                        Ok(())
                    })
                    .unwrap();
                assert_eq!(bytes, expected.len() as u64);
                assert!(read == expected, "{in_the_file:.10} {in_the_log:.10}");
            }
        }
    }

    #[test]
    fn a_log_that_does_not_lead_to_its_end_is_not_believed() {
        let scene = Scene::new(SOLD, "UPDATE orders SET item = 'sold' WHERE id % 200 = 7");
        let end = scene.log().unwrap();
        assert!(scene.direct(Some(&end)).is_some());
        let [salt, other] = end.salts;
        for wrong in [
            LogEnd {
                frames: end.frames - 1,
                ..end
            },
            LogEnd {
                frames: end.frames + 1,
                ..end
            },
            LogEnd {
                frames: u32::MAX,
                ..end
            },
            LogEnd {
                salts: [other, salt],
                ..end
            },
            LogEnd {
                checksum: [end.checksum[0] ^ 1, end.checksum[1]],
                ..end
            },
        ] {
            assert!(scene.direct(Some(&wrong)).is_none(), "{wrong:?}");
        }
    }
}
