//! The copy is read back and compared, and the engines open what is theirs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;

use super::fetch::Staged;
use super::plan::Item;
use crate::capture::manifest::{self, Database};
use crate::durable::Folder;
use crate::entry::Kind;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Problem, Progress, Step, go_on};
use crate::repository::index::Index;
use crate::repository::pack::BlobKind;
use crate::repository::tree::Content;
use crate::source::sqlite::{self, Fingerprint, SIDE_FILES, Signature};

/// How far a copy is proved. Each is earned, never assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProofLevel {
    /// Staged from the repository, every hash right.
    Restored,
    /// The engine opened it and its own check passed; files: bytes read back are equal.
    Opened,
    /// It holds what was counted at capture.
    Matched,
}

impl ProofLevel {
    /// The level's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Restored => "restored",
            Self::Opened => "opened",
            Self::Matched => "matched",
        }
    }
}

/// What the proof of one database showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseProof {
    /// Its path in the snapshot.
    pub path: PathBuf,
    /// How far it is proved.
    pub level: ProofLevel,
    /// What it holds; none if the engine could not say.
    pub fingerprint: Option<Fingerprint>,
}

/// A copy that has passed its proof.
#[derive(Debug)]
pub struct Verified {
    pub(super) staged: Staged,
    /// The databases.
    pub databases: Vec<DatabaseProof>,
    /// The lowest level of all sources.
    pub level: ProofLevel,
}

impl Staged {
    /// Proves the copy: reads back every byte, has the engine check every database, and compares with
    /// the manifest.
    ///
    /// # Errors
    /// [`Error::NotVerified`] if anything differs; the copy is removed then. [`Error::Interrupted`].
    pub fn verify(self, index: &Index, monitor: &Arc<dyn Monitor>) -> Result<Verified> {
        monitor.step(Step::Verifying, Some(self.plan.bytes));
        read_back(
            self.scratch.folder(),
            &self.plan.items,
            index,
            monitor.as_ref(),
        )?;
        let mut databases = Vec::new();
        for item in &self.plan.items {
            if let Some(path) = self.database(item)? {
                databases.push(self.prove(item, &path, index, monitor)?);
            }
        }
        let files = self.files_level()?;
        let level = databases
            .iter()
            .map(|proof| proof.level)
            .fold(files, ProofLevel::min);
        Ok(Verified {
            staged: self,
            databases,
            level,
        })
    }

    /// The staged path of an item that is a database.
    fn database(&self, item: &Item) -> Result<Option<PathBuf>> {
        let path = self.scratch.path().join(&item.path);
        if item.entry.kind != Kind::File {
            return Ok(None);
        }
        if self.described(item).is_some() {
            return Ok(Some(path));
        }
        let signature = sqlite::signature(&path).map_err(Error::file("reading", &path))?;
        Ok((signature == Signature::Database).then_some(path))
    }

    /// What the manifest says of an item that is a database.
    fn described(&self, item: &Item) -> Option<&Database> {
        let path = manifest::quoted(&self.plan.path_in_snapshot(item));
        let databases = &self.plan.manifest.as_ref()?.databases;
        databases.iter().find(|database| database.path == path)
    }

    fn prove(
        &self,
        item: &Item,
        path: &Path,
        index: &Index,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<DatabaseProof> {
        let in_snapshot = self.plan.path_in_snapshot(item);
        let name = crate::units::shown(&in_snapshot);
        let described = self.described(item);
        let tell = |finding: String| {
            monitor.problem(Problem {
                item: name.clone(),
                finding,
                incomplete: false,
            });
        };
        let proof = match sqlite::prove(path, &name, monitor) {
            Ok(proof) => proof,
            // Copied by another program, as a file: it is what was there. Ours was an image.
            Err(Error::NotVerified { finding, .. }) if described.is_none() => {
                tell(format!(
                    "was stored as a plain file, and SQLite says: {finding}"
                ));
                return Ok(DatabaseProof {
                    path: in_snapshot,
                    level: ProofLevel::Restored,
                    fingerprint: None,
                });
            }
            Err(cause) => return Err(cause),
        };
        self.remove_side_files(item)?;
        if let Some(finding) = proof.foreign_keys {
            tell(format!("{finding}; it was so when it was captured"));
        }
        if let Some(finding) = &proof.unchecked {
            tell(format!(
                "SQLite alone cannot check it ({finding}); have its own application open the copy"
            ));
        }
        let level = match described {
            _ if proof.unchecked.is_some() => ProofLevel::Restored,
            None => ProofLevel::Opened,
            Some(described) => {
                let difference = described.fingerprint.difference(&proof.fingerprint);
                let difference = difference.or_else(|| image_difference(item, described, index));
                if let Some(finding) = difference {
                    return Err(Error::NotVerified { name, finding });
                }
                ProofLevel::Matched
            }
        };
        Ok(DatabaseProof {
            path: in_snapshot,
            level,
            fingerprint: Some(proof.fingerprint),
        })
    }

    /// Removes what the engine may have put beside a copy; what the snapshot holds stays.
    fn remove_side_files(&self, item: &Item) -> Result<()> {
        for suffix in SIDE_FILES {
            let mut beside = item.path.clone().into_os_string();
            beside.push(suffix);
            let beside = PathBuf::from(beside);
            if self.plan.items.iter().any(|item| item.path == beside) {
                continue;
            }
            match self.scratch.folder().remove_file(&beside) {
                Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::file("removing", self.scratch.path().join(beside))(
                        cause,
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Files were read back already; with a manifest, and all of the snapshot, their number and bytes
    /// must be those of the capture too.
    fn files_level(&self) -> Result<ProofLevel> {
        let Some(manifest) = &self.plan.manifest else {
            return Ok(ProofLevel::Opened);
        };
        if self.plan.base != Path::new("/") {
            return Ok(ProofLevel::Matched);
        }
        let images = manifest
            .databases
            .iter()
            .map(|database| database.size_bytes);
        let expected = (
            manifest.files.files + manifest.databases.len() as u64,
            manifest.files.bytes + images.sum::<u64>(),
        );
        if (self.plan.files, self.plan.bytes) == expected {
            return Ok(ProofLevel::Matched);
        }
        Err(Error::NotVerified {
            name: format!("snapshot {}", self.plan.snapshot.id.short()),
            finding: format!(
                "it holds {} files of {} bytes, {} files of {} bytes were captured",
                self.plan.files, self.plan.bytes, expected.0, expected.1
            ),
        })
    }
}

fn image_difference(item: &Item, described: &Database, index: &Index) -> Option<String> {
    let Content::File { blobs, .. } = &item.content else {
        return Some("it is no file".to_owned());
    };
    let lengths = blobs.iter().map(|id| (length_of(index, *id), *id));
    (manifest::image_hash(lengths) != described.image_sha256)
        .then(|| "its image is not the one that was captured".to_owned())
}

fn length_of(index: &Index, id: Id) -> u64 {
    index
        .find(BlobKind::Data, id)
        .map_or(0, |location| location.plain_length())
}

/// Reads every staged file again and compares the hash of each blob's range, on all cores.
fn read_back(
    folder: &dyn Folder,
    items: &[Item],
    index: &Index,
    monitor: &dyn Monitor,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            go_on(monitor)?;
            if let Content::File { blobs, size } = &item.content {
                read_back_file(folder, item, blobs, *size, index, monitor)?;
            }
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let results: Vec<Result<()>> = handles
            .into_iter()
            .map(|handle| {
                handle
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect();
        results.into_iter().collect()
    })
}

fn read_back_file(
    folder: &dyn Folder,
    item: &Item,
    blobs: &[Id],
    size: u64,
    index: &Index,
    monitor: &dyn Monitor,
) -> Result<()> {
    let path = folder.path().join(&item.path);
    let differs = |finding: String| Error::NotVerified {
        name: crate::units::shown(&item.path),
        finding,
    };
    let file = folder
        .open_file(&item.path, false)
        .map_err(Error::file("reading back", &path))?;
    let length = file.length().map_err(Error::file("reading back", &path))?;
    if length != size {
        return Err(differs(format!(
            "the copy has {length} bytes, {size} were captured"
        )));
    }
    let mut offset = 0;
    let mut buffer = Vec::new();
    for id in blobs {
        go_on(monitor)?;
        let bytes = length_of(index, *id);
        buffer.resize(usize::try_from(bytes).unwrap_or(usize::MAX), 0);
        file.read_exact_at(&mut buffer, offset)
            .map_err(Error::file("reading back", &path))?;
        if Id::of(&buffer) != *id {
            return Err(differs(format!(
                "the copy differs in the {bytes} bytes from {offset}"
            )));
        }
        offset += bytes;
        monitor.progress(Progress { bytes, files: 0 });
    }
    monitor.progress(Progress { bytes: 0, files: 1 });
    Ok(())
}
