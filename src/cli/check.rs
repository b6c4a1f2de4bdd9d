//! `check`: is the repository whole?

use serde_json::json;

use super::Done;
use super::args;
use super::session::Session;
use crate::error::{ExitCode, Result};
use crate::repository::check::{CheckReport, check};
use crate::units::{ByteSize, counted};

pub fn run(session: &Session, args: &args::Check) -> Result<Done> {
    let repository = session.open()?;
    let _lock = session.lock_if_possible(&repository);
    let report = check(&repository, args.read_data, session.output.as_ref())?;
    session.output.finish();
    for damage in &report.damage {
        session.output.object("damage", json!(damage));
        session
            .output
            .line(format!("damaged: {}: {}", damage.object, damage.finding));
    }
    tell(session, &repository.location(), &report);
    let sound = report.damage.is_empty();
    let mut fields = json!(report);
    fields["repository"] = repository.location().into();
    fields["sound"] = sound.into();
    Ok(Done {
        code: if sound {
            ExitCode::Done
        } else {
            ExitCode::Damage
        },
        fields,
    })
}

fn tell(session: &Session, location: &str, report: &CheckReport) {
    let read = if report.read_data {
        format!(
            "every byte of {} ({}) was read",
            counted(report.packs, "pack"),
            ByteSize(report.pack_bytes)
        )
    } else {
        format!(
            "{} ({}) seen, not read; --read-data reads every byte",
            counted(report.packs, "pack"),
            ByteSize(report.pack_bytes)
        )
    };
    session.output.good_news(format!(
        "checked {location} in {}: {}, {}, {}; {read}",
        session.output.elapsed(),
        counted(report.snapshots, "snapshot"),
        counted(report.trees, "folder"),
        counted(report.blobs, "blob")
    ));
    if report.unreferenced_packs > 0 {
        session.output.good_news(format!(
            "{} in no index: left by an interrupted run; costs room, nothing else",
            counted(report.unreferenced_packs, "pack")
        ));
    }
    if report.damage.is_empty() {
        session.output.good_news("no damage found");
    } else {
        session.output.line(format!(
            "{}\n  safe: nothing was changed; what does not depend on the damaged objects can still be restored\n  next: run `tillsafe verify SNAPSHOT` on those you rely on, and back up now: what a missing or cut pack held is stored again where the source still has it; `restic repair packs` (0.17 and later) salvages a pack that is damaged inside",
            counted(report.damage.len() as u64, "finding")
        ));
    }
}
