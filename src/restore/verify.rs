//! The copy is read back and compared, and the engines open what is theirs.

use std::collections::HashMap;
use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::fetch::Staged;
use super::plan::Item;
use super::resume::keep_after;
use crate::capture::manifest::{self, Database, Manifest};
use crate::durable::Folder;
use crate::entry::Kind;
use crate::error::{Error, Result};
use crate::id::{Hasher, Id};
use crate::monitor::{Monitor, Problem, Progress, Step, go_on};
use crate::parallel;
use crate::repository::index::Index;
use crate::repository::name;
use crate::repository::pack::BlobKind;
use crate::repository::tree::Content;
use crate::source::sqlite::{self, Fingerprint, SIDE_FILES, Signature};

/// Bytes that one thread reads back at a stretch.
const STRETCH: u64 = 32 * 1024 * 1024;

/// Bytes that are held of it at a time.
const PIECE: usize = 1024 * 1024;

/// An item that is a database, and what the manifest says of it.
type Found<'a> = (&'a Item, Option<&'a Database>);

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

    /// The level of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Restored, Self::Opened, Self::Matched];
        all.into_iter().find(|level| level.name() == name)
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
    /// What passed.
    pub staged: Staged,
    /// The databases.
    pub databases: Vec<DatabaseProof>,
    /// The lowest level of all sources.
    pub level: ProofLevel,
}

impl Staged {
    /// Proves the copy: reads back every byte, has the engine check every database, and compares with
    /// the manifest. What is lost is not in it, and not looked for.
    ///
    /// # Errors
    /// [`Error::NotVerified`] if anything differs; the copy is removed then. [`Error::Interrupted`]:
    /// it stays for the same restore, as in [`Plan::fetch`](super::Plan::fetch).
    pub fn verify(self, index: &Index, monitor: &Arc<dyn Monitor>) -> Result<Verified> {
        match self.prove_all(index, monitor) {
            Ok((databases, level)) => Ok(Verified {
                staged: self,
                databases,
                level,
            }),
            Err(cause) => Err(keep_after(self.scratch, cause, monitor.as_ref())),
        }
    }

    fn prove_all(
        &self,
        index: &Index,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<(Vec<DatabaseProof>, ProofLevel)> {
        monitor.step(Step::Verifying, Some(self.plan.bytes));
        read_back(
            self.scratch.folder(),
            &self.plan.items,
            index,
            monitor.as_ref(),
        )?;
        let (found, absent) = self.databases()?;
        let files = self.files_level(&absent, monitor.as_ref())?;
        if !found.is_empty() {
            monitor.step(Step::EngineChecking, None);
        }
        let databases = found
            .into_iter()
            .map(|(item, described)| self.prove(item, described, index, monitor))
            .collect::<Result<Vec<_>>>()?;
        let level = databases
            .iter()
            .map(|proof| proof.level)
            .fold(files, ProofLevel::min);
        Ok((databases, level))
    }

    /// The items that are databases, each with what the manifest says of it, and the paths of those
    /// that the manifest describes but that are no items.
    fn databases(&self) -> Result<(Vec<Found<'_>>, Vec<&str>)> {
        let manifest = self.plan.manifest.iter();
        let mut described: HashMap<&str, &Database> = manifest
            .flat_map(|manifest| &manifest.databases)
            .map(|database| (database.path.as_str(), database))
            .collect();
        let mut found = Vec::new();
        let is_file = |item: &&Item| item.entry.kind == Kind::File;
        for item in self.plan.items.iter().filter(is_file) {
            let path = manifest::quoted(&self.plan.path_in_snapshot(item));
            let described = described.remove(path.as_str());
            if described.is_some() || self.is_database(item)? {
                found.push((item, described));
            }
        }
        let is_missed = |path: &&str| {
            let path = name::unquote(path).map(|path| PathBuf::from(OsString::from_vec(path)));
            path.is_some_and(|path| self.plan.covers(&path) && !self.plan.has_lost(&path))
        };
        let mut absent: Vec<&str> = described.into_keys().filter(is_missed).collect();
        absent.sort_unstable();
        Ok((found, absent))
    }

    /// Whether a staged file looks like a database.
    fn is_database(&self, item: &Item) -> Result<bool> {
        let path = self.scratch.path().join(&item.path);
        let signature = sqlite::signature(&path).map_err(Error::file("reading", &path))?;
        Ok(signature == Signature::Database)
    }

    fn prove(
        &self,
        item: &Item,
        described: Option<&Database>,
        index: &Index,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<DatabaseProof> {
        let in_snapshot = self.plan.path_in_snapshot(item);
        let name = crate::units::shown(&in_snapshot);
        let tell = |finding: String| {
            monitor.problem(Problem {
                item: name.clone(),
                finding,
                incomplete: false,
            });
        };
        let image_difference =
            described.and_then(|described| image_difference(item, described, index));
        let path = self.scratch.path().join(&item.path);
        let proof = sqlite::prove(&path, &name, monitor);
        self.remove_side_files(item)?;
        let proof = match proof {
            Ok(proof) => proof,
            // An image that differs from the captured one is bad. Bytes that are those that were
            // there are the best there is, whatever the engine finds in them: they are kept.
            Err(Error::NotVerified { finding, .. }) if image_difference.is_none() => {
                tell(match described {
                    Some(_) => {
                        format!("SQLite finds in it: {finding}; it was so when it was captured")
                    }
                    None => format!("was stored as a plain file, and SQLite says: {finding}"),
                });
                return Ok(DatabaseProof {
                    path: in_snapshot,
                    level: ProofLevel::Restored,
                    fingerprint: None,
                });
            }
            Err(cause) => return Err(cause),
        };
        let difference = described
            .and_then(|described| described.fingerprint.difference(&proof.fingerprint))
            .or(image_difference);
        if let Some(finding) = difference {
            return Err(Error::NotVerified { name, finding });
        }
        if let Some(finding) = proof.foreign_keys {
            tell(match described {
                Some(_) => format!("{finding}; it was so when it was captured"),
                None => finding,
            });
        }
        if let Some(finding) = &proof.unchecked {
            tell(format!(
                "SQLite alone cannot prove it ({finding}); have its own application open the copy"
            ));
        }
        let level = match described {
            _ if proof.unchecked.is_some() => ProofLevel::Restored,
            None => ProofLevel::Opened,
            Some(_) => ProofLevel::Matched,
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
            let beside = sqlite::beside(&item.path, suffix);
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

    /// Files were read back already; with a manifest, and all of the snapshot, its databases must all
    /// be there, and the number and bytes of its files must be those of the capture too. Unless
    /// another program wrote the snapshot anew, perhaps without some of them.
    fn files_level(&self, absent: &[&str], monitor: &dyn Monitor) -> Result<ProofLevel> {
        let Some(manifest) = &self.plan.manifest else {
            return Ok(ProofLevel::Opened);
        };
        let is_original = self.plan.snapshot.file.original.is_none();
        let Some(finding) = self.files_difference(manifest, absent) else {
            // Of a part of a snapshot that was written anew, nobody counted the files.
            let counted = is_original || self.plan.is_whole();
            return Ok(if counted {
                ProofLevel::Matched
            } else {
                ProofLevel::Opened
            });
        };
        let name = format!("snapshot {}", self.plan.snapshot.id.short());
        if is_original {
            return Err(Error::NotVerified { name, finding });
        }
        monitor.problem(Problem {
            item: name,
            finding: format!(
                "{finding}; another program has written this snapshot anew since, and what it holds now is restored"
            ),
            incomplete: false,
        });
        Ok(ProofLevel::Opened)
    }

    fn files_difference(&self, manifest: &Manifest, absent: &[&str]) -> Option<String> {
        if !absent.is_empty() {
            return Some(format!(
                "it does not hold {}, which was captured",
                absent.join(", ")
            ));
        }
        if !self.plan.is_whole() {
            return None;
        }
        // Numbers of somebody else: they may be beyond any sum.
        let databases = manifest.databases.iter();
        let bytes = databases.fold(manifest.files.bytes, |bytes, database| {
            bytes.saturating_add(database.size_bytes)
        });
        let files = manifest.files.files;
        let expected = (files.saturating_add(manifest.databases.len() as u64), bytes);
        ((self.plan.files, self.plan.bytes) != expected).then(|| {
            format!(
                "it holds {} files of {} bytes, {} files of {} bytes were captured",
                self.plan.files, self.plan.bytes, expected.0, expected.1
            )
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
    for item in items {
        if let Content::File { blobs, .. } = &item.content {
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
