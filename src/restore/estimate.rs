//! How long a restore will take, from reading a part of it here and now.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::item::Item;
use super::plan::Plan;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, go_on};
use crate::parallel::{self, lock};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::pack::BlobKind;

/// Bytes that are read to measure.
const SAMPLE: u64 = 32 * 1024 * 1024;
/// Time after which no more is read.
const PATIENCE: Duration = Duration::from_secs(3);

/// What reading a part of a plan has shown.
#[derive(Debug)]
pub struct Measured {
    /// How long it will take; none if nothing could be read.
    pub estimate: Option<Estimate>,
    /// Blobs of which no copy is whole, and what is wrong with one.
    pub damaged: HashMap<Id, String>,
}

/// A range of time that a restore will take, and what it was reckoned from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// If the target is quick.
    pub least: Duration,
    /// If it is slow.
    pub most: Duration,
    /// Bytes that were read to measure.
    pub sample_bytes: u64,
    /// Bytes a second that the repository gave, decrypted and unpacked.
    pub bytes_per_second: u64,
}

impl Estimate {
    /// Reads blobs from all over the plans, and reckons with a target between as quick as this and
    /// 50 MB/s. A storage that does not answer is what the restore itself will tell.
    ///
    /// # Errors
    /// [`crate::error::Error::Interrupted`].
    pub fn measure(
        repository: &Repository,
        index: &Index,
        plans: &[&Plan],
        monitor: &dyn Monitor,
    ) -> Result<Measured> {
        let total: u64 = plans.iter().map(|plan| plan.bytes).sum();
        let blobs = sample(index, plans);
        let (begun, read) = (Instant::now(), AtomicU64::new(0));
        let damaged = Mutex::new(HashMap::new());
        parallel::for_each(&blobs, |id| {
            go_on(monitor)?;
            if begun.elapsed() >= PATIENCE {
                return Ok(());
            }
            match repository.read_blob(index, BlobKind::Data, *id) {
                Ok(plain) => {
                    read.fetch_add(plain.len() as u64, Ordering::Relaxed);
                }
                Err(cause @ Error::Damaged { .. }) => {
                    lock(&damaged).insert(*id, cause.to_string());
                }
                Err(_) => {}
            }
            Ok(())
        })?;
        let sample_bytes = read.into_inner();
        Ok(Measured {
            estimate: (sample_bytes > 0)
                .then(|| Self::reckon(total, sample_bytes, begun.elapsed())),
            damaged: damaged.into_inner().unwrap_or_else(PoisonError::into_inner),
        })
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    fn reckon(total: u64, sample_bytes: u64, took: Duration) -> Self {
        /// A slow disk, written and read back.
        const SLOW: f64 = 50e6;
        /// The engine's checks, and the sync of a slow disk.
        const REST: f64 = 2.0;
        let rate = sample_bytes as f64 / took.as_secs_f64().max(1e-6);
        let fetching = total as f64 / rate;
        Self {
            // Read and written, then read back.
            least: Duration::from_secs_f64(fetching * 1.5),
            most: Duration::from_secs_f64(fetching * 3.0 + total as f64 / SLOW + REST),
            sample_bytes,
            bytes_per_second: rate as u64,
        }
    }
}

/// Blobs of about [`SAMPLE`] bytes, spread over all files.
fn sample(index: &Index, plans: &[&Plan]) -> Vec<Id> {
    let items = plans.iter().flat_map(|plan| &plan.items);
    let blobs: Vec<Id> = items.flat_map(Item::blobs).copied().collect();
    let total: u64 = plans.iter().map(|plan| plan.bytes).sum();
    let every = usize::try_from(total / SAMPLE).unwrap_or(usize::MAX).max(1);
    let mut bytes = 0;
    let chosen = blobs.into_iter().step_by(every).take_while(|id| {
        let length = index
            .find(BlobKind::Data, *id)
            .map_or(0, |at| at.plain_length());
        let goes_on = bytes < SAMPLE;
        bytes += length;
        goes_on
    });
    chosen.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_holds_what_a_restore_took() {
        // 1 GiB, read at 500 MB/s; a restore of it with proof and sync was seen to take 9 s.
        let estimate = Estimate::reckon(1 << 30, 32 << 20, Duration::from_millis(67));
        assert!(
            (2.0..5.0).contains(&estimate.least.as_secs_f64()),
            "{estimate:?}"
        );
        assert!(
            (9.0..60.0).contains(&estimate.most.as_secs_f64()),
            "{estimate:?}"
        );
    }
}
