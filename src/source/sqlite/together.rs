//! Several databases of one moment.
//!
//! An application that attaches two databases and commits to both must find both sides of each transaction after a
//! restore. So their read transactions are begun together, and nobody is kept from writing for it:
//!
//! 1. note each database's count of commits by others (`data_version`, on a connection of its own);
//! 2. begin a read transaction on each;
//! 3. look whether anybody holds the writer's lock on any of them;
//! 4. look whether any of those counts has changed. If nobody does and none has, the moment is common.
//!
//! Why that is enough: `SQLite` makes the commit visible in one log after the other, and gives up the writer's
//! locks on all of them only after the last. Suppose that we see such a transaction in one database and not in
//! another. Then its commit there comes after step 2. If it comes before step 4, the count there has changed; if
//! after, it holds its locks during step 3.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::capture::Prepared;
use super::header::Header;
use super::open::read_only;
use super::options::{Options, has_page_table};
use crate::error::Result;
use crate::monitor::go_on;
use crate::point::ConsistencyPoint;

/// The most databases that are held open at once.
const MOST: usize = 32;
/// How often a moment without a commit is looked for, and how long between two looks: about a second.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(10);
/// The byte of the shared memory that a writer locks (<https://sqlite.org/walformat.html#wal_locks>).
const WRITER: u64 = 120;

/// Databases that are open, and wait to be read.
#[derive(Debug, Default)]
pub struct Together {
    /// By their paths, all as of one moment; none if their applications left none, or there are too many.
    pub prepared: BTreeMap<PathBuf, Prepared>,
    /// How many are in WAL mode.
    pub count: usize,
    /// Why none was looked for any further, if it was not for somebody who wrote.
    pub failed: Option<String>,
}

/// Opens those of the databases that can have a moment in common, which are those in WAL mode, and begins
/// to read them. Those that cannot be opened are left to a capture of their own, which says why.
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub fn together(paths: &[PathBuf], options: &Options) -> Result<Together> {
    let is_wal = |path: &&PathBuf| matches!(Header::read(path), Ok(Some(header)) if header.is_wal);
    let candidates: Vec<&PathBuf> = paths.iter().filter(is_wal).collect();
    let count = candidates.len();
    let mut members: Vec<Member> = Vec::new();
    if (2..=MOST).contains(&count) && options.page_table && has_page_table() {
        let found = candidates.into_iter();
        members.extend(found.filter_map(|path| Member::open(path, options)));
    }
    let (mut agree, mut failed) = (false, None);
    for _ in 0..TRIES {
        if members.len() < 2 || agree {
            break;
        }
        if let Some(watch) = &options.watch {
            go_on(watch.as_ref())?;
        }
        match begin(&mut members, options) {
            Ok(all) => agree = all,
            Err(cause) if is_of_a_writer(&cause) => {}
            // Another try would end in the same way.
            Err(cause) => {
                failed = Some(cause.to_string());
                break;
            }
        }
        if !agree {
            std::thread::sleep(PAUSE);
        }
    }
    members.retain(|_| agree);
    let prepared = members.into_iter().map(|member| member.prepared);
    Ok(Together {
        prepared: prepared.map(|one| (one.path.clone(), one)).collect(),
        count,
        failed,
    })
}

/// Whether somebody else's work is the reason, which ends.
fn is_of_a_writer(cause: &rusqlite::Error) -> bool {
    matches!(
        cause.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// One try; whether all have a moment in common. If not, none has a transaction left.
fn begin(members: &mut [Member], options: &Options) -> rusqlite::Result<bool> {
    let before = commits(members)?;
    let not_before = options.clock.now();
    let begun = members
        .iter_mut()
        .try_for_each(|member| member.prepared.begin(options.clock.as_ref()));
    let agree = begun.and_then(|()| {
        let is_written = members.iter().any(Member::is_written);
        Ok(!is_written && commits(members)? == before)
    });
    let not_after = options.clock.now();
    for member in members {
        if agree == Ok(true) {
            member.prepared.share(ConsistencyPoint {
                not_before,
                not_after,
            });
        } else {
            member.prepared.end();
        }
    }
    agree
}

fn commits(members: &[Member]) -> rusqlite::Result<Vec<i64>> {
    let count = |member: &Member| {
        let version = "PRAGMA data_version";
        member.watching.query_row(version, [], |row| row.get(0))
    };
    members.iter().map(count).collect()
}

/// One database. Its fields are dropped in this order: what tidies up comes after the last connection.
struct Member {
    /// Sees what others commit.
    watching: Connection,
    prepared: Prepared,
}

impl Member {
    /// `None` if it cannot share a moment, or cannot be opened.
    fn open(path: &Path, options: &Options) -> Option<Self> {
        let mut prepared = Prepared::open(path, options).ok()?;
        if !prepared.can_share() {
            return None;
        }
        prepared.watch();
        let watching = read_only(path).ok()?;
        prepared
            .opened
            .shared
            .is_some()
            .then_some(Self { watching, prepared })
    }

    /// Whether somebody writes. If that cannot be told, somebody does.
    fn is_written(&self) -> bool {
        let shared = &self.prepared.opened.shared;
        shared
            .as_ref()
            .is_none_or(|shared| shared.is_locked(WRITER, 1).unwrap_or(true))
    }
}
