//! Databases of servers, which a restore brings back as dumps: how far each is proved, and loaded for a proof.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::fetch::Staged;
use super::read_back::length_of;
use super::verify::Verified;
use crate::capture::manifest::{self, ServerDatabase};
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Problem, Step, go_on};
use crate::records::ProofLevel;
use crate::repository::index::Index;
use crate::repository::tree::Content;
use crate::source::postgres::{Failure, Loader, NotLoaded, ScratchServer, Services};

/// What the proof of one of them showed.
#[derive(Debug, Clone)]
pub struct ServerProof {
    /// What the manifest says of it.
    pub described: ServerDatabase,
    /// How far it is proved.
    pub level: ProofLevel,
    /// When it was loaded and matched, if that was not now.
    pub checked_at: Option<Timestamp>,
    /// Its staged dump, from the stage folder.
    pub(super) dump: PathBuf,
}

impl Staged {
    /// Those that were staged: the dump of each is the one that was captured.
    ///
    /// # Errors
    /// [`Error::NotVerified`] if one is not.
    pub(super) fn servers(&self, index: &Index) -> Result<Vec<ServerProof>> {
        let described = self
            .plan
            .manifest
            .iter()
            .flat_map(|manifest| &manifest.servers);
        let mut found = Vec::new();
        for server in described {
            let path = server.folder().join(ServerDatabase::DUMP);
            if !self.plan.covers(&path) || self.plan.has_lost(&path) {
                continue;
            }
            let fail = |finding: &str| Error::NotVerified {
                name: crate::units::shown(&path),
                finding: finding.to_owned(),
            };
            let item = self
                .plan
                .items
                .iter()
                .find(|item| self.plan.path_in_snapshot(item) == path);
            let item =
                item.ok_or_else(|| fail("it was captured, and the snapshot does not hold it"))?;
            let Content::File { blobs, .. } = &item.content else {
                return Err(fail("it is no file"));
            };
            let lengths = blobs.iter().map(|id| (length_of(index, *id), *id));
            if manifest::image_hash(lengths) != server.dump_sha256 {
                return Err(fail("it is not the dump that was captured"));
            }
            // The very same bytes have become the very same content before.
            let checked_at = self.plan.proved;
            found.push(ServerProof {
                level: checked_at.map_or(ProofLevel::Restored, |_| ProofLevel::Matched),
                described: server.clone(),
                dump: item.path.clone(),
                checked_at,
            });
        }
        Ok(found)
    }
}

impl Verified {
    /// Where the staged dump of a database lies.
    #[must_use]
    pub fn dump_of(&self, proof: &ServerProof) -> PathBuf {
        self.staged.scratch.path().join(&proof.dump)
    }

    /// Loads each dump into a private server, and compares what it holds with the capture. Where no server is installed, that is told, and the
    /// level stays.
    ///
    /// # Errors
    /// [`Error::NotVerified`] if one cannot be loaded, or holds something else; [`Error::Interrupted`].
    pub fn prove_servers(&mut self, services: &Services, monitor: &Arc<dyn Monitor>) -> Result<()> {
        let needs = |proof: &ServerProof| {
            let facts = &proof.described.facts;
            facts.server_major.max(facts.tools_major)
        };
        let Some(major) = self.servers.iter().map(needs).max() else {
            return Ok(());
        };
        monitor.step(Step::Loading, None);
        let started = ScratchServer::programs(None, major)
            .and_then(|programs| ScratchServer::start(&programs, services, monitor.as_ref()));
        let scratch = match started {
            Ok(scratch) => scratch,
            Err(Failure(why)) => {
                go_on(monitor.as_ref())?;
                monitor.problem(Problem {
                    item: "PostgreSQL".to_owned(),
                    finding: format!(
                        "{why}; the dumps are as they were captured, and are not loaded for a proof"
                    ),
                    incomplete: false,
                });
                return Ok(());
            }
        };
        for number in 0..self.servers.len() {
            let dump = self.dump_of(&self.servers[number]);
            let proof = &mut self.servers[number];
            proof.level = prove(proof, &dump, &scratch, services, number, monitor.as_ref())?;
            proof.checked_at = None;
        }
        let servers = self.servers.iter().map(|proof| proof.level);
        self.level = servers.fold(self.level_without_servers, ProofLevel::min);
        Ok(())
    }
}

fn prove(
    proof: &ServerProof,
    dump: &Path,
    scratch: &ScratchServer,
    services: &Services,
    number: usize,
    monitor: &dyn Monitor,
) -> Result<ProofLevel> {
    let described = &proof.described;
    let loader = Loader {
        server: &scratch.server,
        services,
        facts: &described.facts,
        is_scratch: true,
    };
    let name = format!("proof_{number}");
    let ready = loader.look(&name);
    let result = ready.and_then(|ready| ready.load(dump, &described.fingerprint, monitor));
    let Err(cause) = result else {
        return Ok(ProofLevel::Matched);
    };
    go_on(monitor)?;
    let name = format!("the database {}", described.name);
    match cause {
        // Of an extension that is not installed here, say: nothing is wrong with the dump.
        NotLoaded::Refused(found) => {
            monitor.problem(Problem {
                item: name,
                finding: format!("cannot be loaded here for a proof: {}", found.join("; ")),
                incomplete: false,
            });
            Ok(ProofLevel::Restored)
        }
        NotLoaded::Failed(finding) | NotLoaded::Differs(finding) => {
            Err(Error::NotVerified { name, finding })
        }
    }
}
