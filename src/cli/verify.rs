//! `verify`: everything that a restore would do, thrown away afterwards.

use serde_json::json;

use super::Done;
use super::args;
use super::choose::{Planned, plan};
use super::lost::{self, tell_lost};
use super::proof::{exit_code, fields, proved, server_fields, tell_databases, tell_servers};
use super::server::services;
use super::session::Session;
use crate::config;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Problem};
use crate::records::{self, Evidence};
use crate::repository::Repository;
use crate::repository::lock;
use crate::repository::snapshot::Snapshot;
use crate::restore::{ProofLevel, Target};
use crate::units::{ByteSize, counted, shown};

pub fn run(session: &Session, args: &args::Verify) -> Result<Done> {
    let scratch = match &args.scratch {
        Some(scratch) => config::absolute(scratch)?,
        None => Session::scratch_folder(),
    };
    if !scratch.is_dir() {
        return Err(Error::Usage {
            finding: format!("there is no folder {} to verify in", shown(&scratch)),
            next: "name a folder that exists, on a disk with room for the whole snapshot: --scratch DIR".to_owned(),
        });
    }
    let monitor = session.monitor();
    let Planned {
        repository,
        index,
        plan,
        // Here the engine checks it, whoever has seen that before.
        proved: _,
        lock: _held,
    } = plan(session, &args.snapshot, &args.filter, &args.choice)?;
    let staged = plan.fetch(
        &repository,
        &index,
        Target::scratch(&scratch),
        session.disk.as_ref(),
        monitor.as_ref(),
    )?;
    let (files, bytes) = (staged.plan.files, staged.plan.bytes);
    let is_whole = staged.plan.is_whole() && !staged.plan.snapshot.is_record();
    let lost = staged.plan.lost.clone();
    let mut verified = staged.verify(&index, &monitor)?;
    verified.prove_servers(&services(session, scratch), &monitor)?;
    let (databases, servers) = (verified.databases.clone(), verified.servers.clone());
    let (snapshot, level) = verified.discard();
    let complete = !session.output.is_incomplete();
    let record = if is_whole && level >= ProofLevel::Opened {
        let host = lock::host_name();
        let evidence = Evidence {
            level,
            complete,
            host,
        };
        record(session, &repository, &snapshot, evidence)
    } else {
        None
    };
    session.output.finish();
    tell_databases(session, &databases);
    tell_servers(session, &servers, None);
    tell_lost(session, &lost);
    session.output.good_news(format!(
        "snapshot {} of {:.0} in {} restores: {}, {}, in {}; proof level: {}",
        snapshot.id.short(),
        snapshot.file.time,
        repository.location(),
        counted(files, "file"),
        ByteSize(bytes),
        session.output.elapsed(),
        proved(session, level, &lost, files)
    ));
    let mut fields = fields(&repository.location(), &databases, level);
    fields["servers"] = server_fields(&servers);
    fields["snapshot_id"] = json!(snapshot.id);
    fields["record_id"] = json!(record);
    fields["files"] = files.into();
    fields["total_bytes"] = bytes.into();
    fields["lost_items"] = lost.len().into();
    let rest = format!(
        "nothing was changed; everything else can be {}",
        lost::proved(level)
    );
    let code = exit_code(session, level);
    Ok(Done {
        code: lost::end(session, &lost, rest, code),
        fields,
    })
}

/// Records what was proved; the id of the record's snapshot. What was proved stays true without it.
fn record(
    session: &Session,
    repository: &Repository,
    snapshot: &Snapshot,
    evidence: Evidence,
) -> Option<Id> {
    let monitor = session.output.as_ref();
    match records::write(repository, snapshot, evidence, monitor) {
        Ok(written) => Some(written.id),
        Err(cause) => {
            monitor.problem(Problem {
                item: "record".to_owned(),
                finding: format!("what was proved is not recorded: {cause}"),
                incomplete: false,
            });
            None
        }
    }
}
