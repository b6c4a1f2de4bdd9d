//! The copy is read back and compared, and the engines open what is theirs.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::fetch::Staged;
use super::item::Item;
use super::read_back::{length_of, read_back};
use super::resume::keep_after;
use super::servers::ServerProof;
use crate::capture::manifest::{self, Database, Manifest};
use crate::entry::Kind;
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Problem, Step};
use crate::records::ProofLevel;
use crate::repository::index::Index;
use crate::repository::name;
use crate::repository::tree::Content;
use crate::source::sqlite::{self, Fingerprint, SIDE_FILES};

/// An item that is a database, and what the manifest says of it.
type Found<'a> = (&'a Item, Option<&'a Database>);

/// What the proof of one database showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseProof {
    /// Its path in the snapshot.
    pub path: PathBuf,
    /// How far it is proved.
    pub level: ProofLevel,
    /// What it holds; none if the engine could not say.
    pub fingerprint: Option<Fingerprint>,
    /// When the engine's own check passed on this very image, if that was not now.
    pub checked_at: Option<Timestamp>,
}

/// A copy that has passed its proof.
#[derive(Debug)]
pub struct Verified {
    /// What passed.
    pub staged: Staged,
    /// The databases.
    pub databases: Vec<DatabaseProof>,
    /// The databases of servers: their dumps.
    pub servers: Vec<ServerProof>,
    /// The lowest level of all sources.
    pub level: ProofLevel,
    /// The same of all but these: they may be proved further.
    pub(super) level_without_servers: ProofLevel,
}

/// What was proved of a copy.
type Proved = (Vec<DatabaseProof>, Vec<ServerProof>, ProofLevel);

impl Staged {
    /// Proves the copy: reads back every byte, has the engine check every database, and compares with
    /// the manifest. What is lost is not in it, and not looked for.
    ///
    /// # Errors
    /// [`Error::NotVerified`] if anything differs; the copy is removed then. [`Error::Interrupted`]:
    /// it stays for the same restore, as in [`Plan::fetch`](super::Plan::fetch).
    pub fn verify(mut self, index: &Index, monitor: &Arc<dyn Monitor>) -> Result<Verified> {
        // The rest of it goes to the disk while it is read back from memory.
        self.ahead.sync();
        let proved = self.prove_all(index, monitor);
        match proved.and_then(|proved| self.ahead.finish().map(|()| proved)) {
            Ok((databases, servers, level_without_servers)) => Ok(Verified {
                staged: self,
                level: servers
                    .iter()
                    .map(|proof| proof.level)
                    .fold(level_without_servers, ProofLevel::min),
                databases,
                servers,
                level_without_servers,
            }),
            Err(cause) => Err(keep_after(self.scratch, cause, monitor.as_ref())),
        }
    }

    fn prove_all(&self, index: &Index, monitor: &Arc<dyn Monitor>) -> Result<Proved> {
        monitor.step(Step::Verifying, Some(self.plan.bytes));
        let like_databases = read_back(
            self.scratch.folder(),
            &self.plan.items,
            index,
            self.plan.is_only_read_back(),
            monitor.as_ref(),
        )?;
        let (found, absent) = self.databases(&like_databases);
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
        Ok((databases, self.servers(index)?, level))
    }

    /// The items that are databases, each with what the manifest says of it, and the paths of those
    /// that the manifest describes but that are no items. `like_databases` are the numbers of items that
    /// begin as databases do.
    fn databases(&self, like_databases: &HashSet<usize>) -> (Vec<Found<'_>>, Vec<&str>) {
        let manifest = self.plan.manifest.iter();
        let mut described: HashMap<&str, &Database> = manifest
            .flat_map(|manifest| &manifest.databases)
            .map(|database| (database.path.as_str(), database))
            .collect();
        let mut found = Vec::new();
        for (number, item) in self.plan.items.iter().enumerate() {
            if item.entry.kind != Kind::File {
                continue;
            }
            let path = manifest::quoted(&self.plan.path_in_snapshot(item));
            let described = described.remove(path.as_str());
            if described.is_some() || like_databases.contains(&number) {
                found.push((item, described));
            }
        }
        let is_missed = |path: &&str| {
            name::unquote_path(path)
                .is_some_and(|path| self.plan.covers(&path) && !self.plan.has_lost(&path))
        };
        let mut absent: Vec<&str> = described.into_keys().filter(is_missed).collect();
        absent.sort_unstable();
        (found, absent)
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
        if let (Some(checked), Some(described), None) =
            (self.plan.proved, described, &image_difference)
        {
            sqlite::open_copy(&path, &name)?;
            self.remove_side_files(item)?;
            return Ok(DatabaseProof {
                path: in_snapshot,
                level: ProofLevel::Matched,
                fingerprint: Some(described.fingerprint.clone()),
                checked_at: Some(checked),
            });
        }
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
                    checked_at: None,
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
            checked_at: None,
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
    /// somebody wrote the snapshot anew, perhaps without some of them.
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
                "{finding}; {}, and what it holds now is restored",
                self.by_whom(manifest)
            ),
            incomplete: false,
        });
        Ok(ProofLevel::Opened)
    }

    /// Who wrote the snapshot anew: `repair snapshots` marks as incomplete what was whole when it was captured.
    fn by_whom(&self, manifest: &Manifest) -> &'static str {
        let is_marked = self.plan.snapshot.file.is_incomplete();
        match (is_marked, manifest.incomplete.is_empty()) {
            (true, true) => "`repair snapshots` has left out since what was lost",
            (true, false) => {
                "it was written anew since, by `repair snapshots` or by another program"
            }
            (false, _) => "another program has written this snapshot anew since",
        }
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
        let files = files.saturating_add(manifest.databases.len() as u64);
        let servers = manifest.servers.iter();
        let expected = servers.fold((files, bytes), |(files, bytes), server| {
            (
                files.saturating_add(server.files),
                bytes.saturating_add(server.bytes),
            )
        });
        ((self.plan.files, self.plan.bytes) != expected).then(|| {
            format!(
                "it holds {} files of {} bytes, {} files of {} bytes were captured",
                self.plan.files, self.plan.bytes, expected.0, expected.1
            )
        })
    }
}

fn image_difference(item: &Item, described: &Database, index: &Index) -> Option<String> {
    if item.log.is_some() {
        // Its pages were compared when they were read back.
        return None;
    }
    let Content::File { blobs, .. } = &item.content else {
        return Some("it is no file".to_owned());
    };
    let lengths = blobs.iter().map(|id| (length_of(index, *id), *id));
    (manifest::image_hash(lengths) != described.image_sha256)
        .then(|| "its image is not the one that was captured".to_owned())
}
