//! `verify`: everything that a restore would do, thrown away afterwards.

use serde_json::json;

use super::Done;
use super::args;
use super::restore::{exit_code, fields, tell_databases};
use super::session::{Session, snapshot_and_path};
use crate::config;
use crate::error::Result;
use crate::restore::{Plan, Target, select};
use crate::units::ByteSize;

pub fn run(session: &Session, args: &args::Verify) -> Result<Done> {
    let (request, base) = snapshot_and_path(&args.snapshot, &args.filter)?;
    let scratch = match &args.scratch {
        Some(scratch) => config::absolute(scratch)?,
        None => Session::scratch_folder(),
    };
    let repository = session.open()?;
    let _lock = session.lock_if_possible(&repository);
    let monitor = session.monitor();
    let snapshot = select(&request, repository.snapshots(monitor.as_ref())?)?;
    let index = repository.load_index(monitor.as_ref())?;
    let plan = Plan::make(&repository, &index, snapshot, &base, monitor.as_ref())?;
    let (files, bytes) = (plan.files, plan.bytes);
    let staged = plan.fetch(
        &repository,
        &index,
        Target::scratch(&scratch),
        session.disk.as_ref(),
        monitor.as_ref(),
    )?;
    let verified = staged.verify(&index, &monitor)?;
    let databases = verified.databases.clone();
    let (snapshot, level) = verified.discard();
    session.output.finish();
    tell_databases(session, &databases);
    session.output.good_news(format!(
        "snapshot {} of {:.0} in {} restores: {files} files, {}, in {}; proof level: {}",
        snapshot.id.short(),
        snapshot.file.time,
        repository.location(),
        ByteSize(bytes),
        session.output.elapsed(),
        level.name()
    ));
    let mut fields = fields(&repository.location(), &databases, level);
    fields["snapshot_id"] = json!(snapshot.id);
    fields["files"] = files.into();
    fields["total_bytes"] = bytes.into();
    Ok(Done {
        code: exit_code(session, level),
        fields,
    })
}
