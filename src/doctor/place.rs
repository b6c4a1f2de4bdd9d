//! The storage that a repository lies on.

use std::path::{Path, PathBuf};

use super::Finding;
use crate::durable::Disk;
use crate::error::{self, Error};
use crate::host::{self, Storage};
use crate::rng::Rng;
use crate::units::{ByteSize, shown};

/// Less room than that, in percent of all, is worth a word.
const LITTLE_PERCENT: u64 = 10;
/// What makes room where none is left.
const FULL: &str = "`tillsafe prune --now` removes, without a byte left, what nobody needs, and tells what it cannot; `tillsafe forget` (with --keep-… where no configuration has rules) removes snapshots first, without a byte left too. Then a larger disk";

/// Looks at the storage of the repository in `folder`, which holds backups of `covered`; what it promises is
/// tried in a scratch folder there.
#[must_use]
pub fn place(folder: &Path, covered: &[PathBuf], disk: &dyn Disk, rng: &dyn Rng) -> Vec<Finding> {
    let item = format!("storage of {}", shown(folder));
    let storage = match host::storage(folder) {
        Ok(storage) => storage,
        Err(cause) => {
            return vec![Finding::error(
                item,
                cause.to_string(),
                "mount it, or make it readable for this user",
            )];
        }
    };
    let mut findings = vec![room(&item, &storage)];
    if let Some(doubt) = storage.doubt {
        findings.push(Finding::warning(
            &item,
            doubt,
            "keep the repository on a disk of its own with a Linux file system (ext4, XFS)",
        ));
    }
    let same = covered
        .iter()
        .find(|path| host::storage(path).is_ok_and(|source| source.device == storage.device));
    if let Some(source) = same {
        findings.push(Finding::warning(
            &item,
            format!(
                "is the disk that {} lies on: whatever kills it takes shop and backups",
                shown(source)
            ),
            "use another disk, and keep a second copy in another building",
        ));
    }
    findings.push(match host::probe(folder, disk, rng) {
        Ok(()) => Finding::good(&item, "a file written, synced and renamed came back as it was"),
        Err(Error::File { cause, .. }) if error::is_full(&cause) => Finding::error(
            &item,
            "there is no room for a file, so whether it keeps what it is given was not tried",
            FULL,
        ),
        Err(cause) => Finding::error(
            &item,
            cause.to_string(),
            "let this user write there; on a network storage or a failing disk, keep the repository elsewhere",
        ),
    });
    findings
}

fn room(item: &str, storage: &Storage) -> Finding {
    let finding = format!(
        "{} of {} are free",
        ByteSize(storage.free_bytes),
        ByteSize(storage.total_bytes)
    );
    if storage.free_bytes < storage.total_bytes / 100 * LITTLE_PERCENT {
        if storage.free_bytes == 0 {
            return Finding::error(item, finding, FULL);
        }
        return Finding::warning(
            item,
            finding,
            "`tillsafe forget` and `tillsafe prune` free what the keep rules no longer need; then a larger disk",
        );
    }
    Finding::good(item, finding)
}
