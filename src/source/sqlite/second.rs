//! A second connection to a database whose pages are being read: it counts and checks on another core meanwhile.
//!
//! Only where its transaction is known to be of the same moment, and where the disk is quick: two readers of
//! one that has to move its heads would wait for each other.

use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::Connection;

use super::fingerprint::Fingerprint;
use super::open::read_only;
use super::options::Options;
use super::prove::{bound, quick_check};
use super::view::Begun;

/// Bytes that are read to see how quick the disk is. Smaller databases are done before it matters.
const TRIAL: u64 = 32 * 1024 * 1024;
/// Bytes a second from which on it is quick: no disk with heads gives so many.
const QUICK: u128 = 256 * 1024 * 1024;

/// What is found in a database besides its pages.
pub(super) struct Seen {
    pub(super) fingerprint: Fingerprint,
    /// What the engine finds wrong in it.
    pub(super) unsound: Option<String>,
}

/// The second connection, in its read transaction.
#[derive(Debug)]
pub(super) struct Second(Connection);

impl Second {
    /// Begins one. Whether it is of the same moment as the first is for the caller to find out.
    pub(super) fn begin(path: &Path, options: &Options) -> rusqlite::Result<Self> {
        let mut connection = read_only(path)?;
        bound(&mut connection, options.watch.as_ref())?;
        Begun::new(&connection, options.clock.as_ref())?;
        Ok(Self(connection))
    }

    /// Counts and checks once the disk has proved to be quick; none if it is not, or the engine refuses.
    pub(super) fn look(self, is_quick: &Receiver<()>) -> Option<Seen> {
        is_quick.recv().ok()?;
        Some(Seen {
            fingerprint: Fingerprint::take(&self.0).ok()?,
            unsound: quick_check(&self.0),
        })
    }
}

/// Measures how quick a disk is, by the time between two chunks of an image.
pub(super) struct Pace {
    since: Instant,
    reading: Duration,
    bytes: u64,
    quick: Option<Sender<()>>,
}

impl Pace {
    pub(super) fn new() -> (Self, Receiver<()>) {
        let (quick, is_quick) = bounded(1);
        let pace = Self {
            since: Instant::now(),
            reading: Duration::ZERO,
            bytes: 0,
            quick: Some(quick),
        };
        (pace, is_quick)
    }

    /// A chunk has come. If the disk turns out to be quick, the second connection is asked, if that is wanted.
    pub(super) fn came(&mut self, bytes: usize, is_wanted: impl FnOnce() -> bool) {
        self.reading += self.since.elapsed();
        self.bytes += bytes as u64;
        if self.bytes >= TRIAL
            && let Some(quick) = self.quick.take()
            && self.reading.as_millis() * QUICK < u128::from(self.bytes) * 1000
            && is_wanted()
        {
            // It listens as long as the pages are read.
            let _ = quick.send(());
        }
    }

    /// It is dealt with: the next is read from now on.
    pub(super) fn went(&mut self) {
        self.since = Instant::now();
    }
}
