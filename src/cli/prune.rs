//! `prune`: free what nobody needs.

use serde_json::json;

use super::Done;
use super::args;
use super::failure::Failure;
use super::session::Session;
use crate::error::{Advice, ExitCode, Result};
use crate::repository::prune::{Options, PruneReport, prune};
use crate::units::{ByteSize, counted};

pub fn run(session: &Session, args: &args::Prune) -> Result<Done> {
    let options = Options {
        now: args.now,
        max_unused: args.max_unused,
        dry_run: args.dry_run,
    };
    let repository = session.open()?;
    let report = prune(&repository, &options, session.output.as_ref())?;
    session.output.finish();
    for line in lines(&report, args.dry_run) {
        if args.dry_run {
            // It was asked for.
            session.output.line(line);
        } else {
            session.output.good_news(line);
        }
    }
    session.output.good_news(format!(
        "{} {} in {}",
        if args.dry_run { "looked at" } else { "pruned" },
        repository.location(),
        session.output.elapsed()
    ));
    let mut fields = json!(report);
    fields["repository"] = repository.location().into();
    fields["dry_run"] = args.dry_run.into();
    if report.damaged_packs > 0 {
        session
            .output
            .failure(&damage(session, report.damaged_packs));
        return Ok(Done {
            code: ExitCode::Damage,
            fields,
        });
    }
    Ok(Done::well(fields))
}

/// What was damaged before stays as it is: that is no success.
fn damage(session: &Session, packs: u64) -> Failure {
    Failure {
        text: format!("something that snapshots need is damaged in {}", counted(packs, "pack")),
        advice: Advice {
            safe: "these packs stay as they are; all else was done".to_owned(),
            next: session.typed("`tillsafe check --read-data` shows the extent, `tillsafe repair packs` keeps all that is whole"),
        },
        code: ExitCode::Damage,
    }
}

fn lines(report: &PruneReport, would: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut tell = |packs: u64, bytes: u64, words: [&str; 2], rest: &str| {
        if packs > 0 {
            lines.push(format!(
                "{}: {} ({}){rest}",
                words[usize::from(would)],
                counted(packs, "pack"),
                ByteSize(bytes)
            ));
        }
    };
    let ripe = report.ripe_at.map_or(String::new(), |ripe| {
        format!("; a prune after {ripe:.0} removes them, --now at once")
    });
    tell(
        report.removed_packs,
        report.removed_bytes,
        ["removed", "would remove"],
        "",
    );
    tell(
        report.repacked_packs,
        report.repacked_bytes,
        ["stored anew", "would store anew"],
        ": what is needed of them",
    );
    tell(
        report.marked_packs,
        report.marked_bytes,
        ["marked", "would mark"],
        &ripe,
    );
    tell(
        report.waiting_packs,
        report.waiting_bytes,
        ["marked before"; 2],
        &ripe,
    );
    if report.recovered_packs > 0 {
        lines.push(format!(
            "{} needed after all: in use again",
            counted(report.recovered_packs, "pack")
        ));
    }
    lines.push(format!(
        "in use: {} ({}), of which nobody needs {}",
        counted(report.kept_packs, "pack"),
        ByteSize(report.kept_bytes),
        ByteSize(report.unused_bytes)
    ));
    lines
}
