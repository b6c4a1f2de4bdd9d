//! Giving the disk its work while the processors have theirs.
//!
//! A restore syncs the whole file system once, before its final name. What was written waits for that in memory, and
//! then everybody waits for the disk. So a thread of its own begins that sync early, again and again while the copy grows.
//! It promises nothing: the last sync is done all the same. But what has failed in an early one may not be told
//! again by the last.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::durable::{Disk, Folder};
use crate::error::{Error, Result};

/// Bytes after which the disk gets work. A smaller copy is synced in no time.
const STEP: u64 = 64 * 1024 * 1024;

/// Syncs early what is written to a folder.
#[derive(Debug)]
pub(super) struct Ahead {
    written: AtomicU64,
    thread: Option<(Sender<()>, JoinHandle<Result<()>>)>,
}

impl Ahead {
    /// Of a folder that will get so many bytes.
    pub(super) fn of(disk: &dyn Disk, path: &Path, bytes: u64) -> Self {
        // One that cannot be opened again is synced at the end.
        let folder = (bytes >= STEP).then(|| disk.open(path).ok()).flatten();
        let thread = folder.map(|folder| {
            // While one sync is going on, all that is written meanwhile waits for the one after it.
            let (tell, told) = bounded(1);
            let thread = std::thread::spawn(move || sync_when_told(folder.as_ref(), &told));
            (tell, thread)
        });
        Self {
            written: AtomicU64::new(0),
            thread,
        }
    }

    /// So many bytes more were written.
    pub(super) fn written(&self, bytes: u64) {
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        if before / STEP != before.saturating_add(bytes) / STEP {
            self.sync();
        }
    }

    /// Begins to sync what was written until now.
    pub(super) fn sync(&self) {
        if let Some((tell, _)) = &self.thread {
            let _ = tell.try_send(());
        }
    }

    /// Waits for the syncs that have begun.
    ///
    /// # Errors
    /// [`Error::File`] if one has failed: what was to be written then may be lost.
    pub(super) fn finish(&mut self) -> Result<()> {
        let Some((tell, thread)) = self.thread.take() else {
            return Ok(());
        };
        drop(tell);
        match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn sync_when_told(folder: &dyn Folder, told: &Receiver<()>) -> Result<()> {
    told.iter().try_for_each(|()| {
        let synced = folder.sync_all();
        synced.map_err(Error::file("syncing", folder.path()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::OsDisk;
    use crate::durable::faults::{Fault, FaultyDisk};

    #[test]
    fn a_large_copy_is_synced_early_and_a_failure_of_that_is_told() {
        let folder = tempfile::tempdir().unwrap();
        for (bytes, steps, fault, fails) in [
            (STEP, [STEP - 1, 1], 1, true),
            (STEP, [STEP - 2, 1], 1, false),
            (STEP - 1, [STEP - 1, 1], 1, false),
            (STEP, [STEP, 0], 2, false),
        ] {
            let fault = Fault::once(fault);
            let disk = FaultyDisk::new(OsDisk, fault);
            let mut ahead = Ahead::of(&disk, folder.path(), bytes);
            for step in steps {
                ahead.written(step);
            }
            assert_eq!(ahead.finish().is_err(), fails, "{bytes} {steps:?}");
        }
    }
}
