//! `restore`: stage, prove, swap in.

use serde_json::json;

use super::Done;
use super::args;
use super::choose::{Planned, plan};
use super::lost::{self, tell_lost};
use super::plan::{from_words, require, tell_target};
use super::proof::{exit_code, fields, proved, server_fields, tell_databases, tell_servers};
use super::session::Session;
use crate::config;
use crate::error::{Error, Result};
use crate::restore::Target;
use crate::units::{ByteSize, counted, shown};

pub fn run(session: &Session, args: &args::Restore) -> Result<Done> {
    if let Some(source) = &args.database {
        return super::load::run(session, args, source);
    }
    let Some(target) = &args.target else {
        return super::in_place::run(session, args);
    };
    let disk = session.disk.as_ref();
    let monitor = session.monitor();
    let place = config::absolute(target)?;
    if place.starts_with(session.choice()?.path) {
        return Err(Error::TargetUnfit {
            path: place,
            finding: "it lies in the repository".to_owned(),
        });
    }
    // Before the password is asked for: a target that is not fit is the quickest answer.
    let target = Target::look_at(&place, disk)?;
    let Planned {
        repository,
        index,
        mut plan,
        proved: checked,
        lock: _lock,
    } = plan(session, &args.snapshot, &args.filter, &args.choice)?;
    if args.dry_run {
        let from = from_words(&plan.snapshot, &plan.base, &args.choice);
        return tell_target(session, &repository, &index, &plan, &target, &from);
    }
    require(args.plan.as_ref(), target.plan_hash(&plan))?;
    session.output.note(&format!(
        "snapshot {} of {:.0}: {}, {}",
        plan.snapshot.id.short(),
        plan.snapshot.file.time,
        counted(plan.files, "file"),
        ByteSize(plan.bytes)
    ));
    plan.proved = checked;
    let finished = target.finish(&mut plan, &repository, &index, disk, monitor.as_ref())?;
    let (mut files, mut bytes) = (plan.files, plan.bytes);
    let (done, databases, servers, restored) = if let Some(finished) = finished {
        (
            "finished the interrupted restore of",
            Vec::new(),
            Vec::new(),
            finished,
        )
    } else {
        let staged = plan.fetch(&repository, &index, target, disk, monitor.as_ref())?;
        // Less than was planned, if some of it is lost.
        (files, bytes) = (staged.plan.files, staged.plan.bytes);
        let verified = staged.verify(&index, &monitor)?;
        let (databases, servers) = (verified.databases.clone(), verified.servers.clone());
        ("restored", databases, servers, verified.swap_in(&monitor)?)
    };
    session.output.finish();
    tell_databases(session, &databases);
    tell_servers(session, &servers, Some(&restored.snapshot.id.short()));
    tell_lost(session, &restored.lost);
    session.output.good_news(format!(
        "{done} snapshot {} from {} to {} in {}: {}, {}; proof level: {}",
        restored.snapshot.id.short(),
        repository.location(),
        shown(&restored.path),
        session.output.elapsed(),
        counted(files, "file"),
        ByteSize(bytes),
        proved(session, restored.level, &restored.lost, files)
    ));
    let mut fields = fields(&repository.location(), &databases, restored.level);
    fields["servers"] = server_fields(&servers);
    fields["snapshot_id"] = json!(restored.snapshot.id);
    fields["target"] = restored.path.to_string_lossy().into();
    fields["files"] = files.into();
    fields["total_bytes"] = bytes.into();
    fields["lost_items"] = restored.lost.len().into();
    let rest = format!(
        "everything else is {} at {}",
        lost::proved(restored.level),
        shown(&restored.path)
    );
    let code = exit_code(session, restored.level);
    Ok(Done {
        code: lost::end(session, &restored.lost, rest, code),
        fields,
    })
}
