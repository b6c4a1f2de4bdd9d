//! What `forget` has decided, told to people and programs.

use std::collections::BTreeSet;

use serde_json::json;

use super::session::Session;
use crate::error::{Error, ExitCode};
use crate::forget::Plan;
use crate::id::Id;
use crate::monitor::{Monitor, Problem};
use crate::repository::snapshot::{OWN_MARKS, Snapshots};
use crate::retention::{Decision, Described, Judged, Reason};
use crate::units::{Shown, counted};

/// Most doubtful snapshots of a series that people are shown; `--json` has all.
const MAX_SHOWN: usize = 20;

/// What a run has decided, counted.
pub struct Decided {
    dry_run: bool,
    kept: u64,
    going: u64,
    doubtful: u64,
    refused: u64,
    damaged: u64,
    /// Snapshots that are no backups: they hold records of proofs.
    records: BTreeSet<Id>,
}

impl Decided {
    /// Counts.
    pub fn of(plan: &Plan, snapshots: &Snapshots, dry_run: bool) -> Self {
        let decisions = || plan.judged.iter().flat_map(|one| &one.decisions);
        let doubtful = decisions().filter(|(_, decision)| decision.doubt().is_some());
        let goes: BTreeSet<Id> = plan.going().iter().copied().collect();
        let backups = snapshots.readable.iter().filter(|one| !one.is_record());
        let records = snapshots.readable.iter().filter(|one| one.is_record());
        Self {
            dry_run,
            kept: backups.filter(|one| !goes.contains(&one.id)).count() as u64,
            going: goes.len() as u64,
            records: records.map(|one| one.id).collect(),
            doubtful: doubtful.count() as u64,
            refused: plan.refused().count() as u64,
            damaged: snapshots.damaged.len() as u64,
        }
    }

    /// Tells what becomes of each snapshot.
    pub fn tell(&self, session: &Session, plan: &Plan) {
        for judged in &plan.judged {
            self.tell_series(session, judged);
        }
        if plan.judged.is_empty() {
            for id in plan.going() {
                let what = if self.records.contains(id) {
                    ": records of what was proved, no backup"
                } else {
                    ""
                };
                let (verb, short) = (self.verb(), id.short());
                let line = format!("{verb} {short}{what}");
                if self.dry_run {
                    session.output.line(line);
                } else {
                    session.output.good_news(line);
                }
                session.output.object(
                    "decision",
                    json!({"id": id, "short_id": short, "removed": true, "reasons": ["named"]}),
                );
            }
        }
    }

    const fn verb(&self) -> &'static str {
        if self.dry_run {
            "would remove"
        } else {
            "remove"
        }
    }

    fn tell_series(&self, session: &Session, judged: &Judged) {
        let output = &session.output;
        let group = judged.group.to_string();
        let (kept, going) = (judged.kept().count() as u64, judged.going().count() as u64);
        output.good_news(format!("{group}: keep {kept}, {} {going}", self.verb()));
        let mut doubtful = 0;
        for (one, decision) in &judged.decisions {
            output.object("decision", object(one, decision, &group));
            let line = line(one, decision);
            if self.dry_run {
                output.line(&line);
            } else if decision.goes() {
                output.good_news(line);
            } else if let Some(doubt) = decision.doubt() {
                doubtful += 1;
                if doubtful <= MAX_SHOWN {
                    output.problem(Problem {
                        item: format!("snapshot {} of {:.0}", one.id.short(), one.time),
                        finding: format!("{doubt}; it is neither counted nor removed"),
                        incomplete: false,
                    });
                }
            }
        }
        if doubtful > MAX_SHOWN {
            output.problem(Problem {
                item: group.clone(),
                finding: format!("and so with {} more", doubtful - MAX_SHOWN),
                incomplete: false,
            });
        }
        output.object(
            "series",
            json!({
                "group": group,
                "kept": kept,
                "removed": going,
                "refused": judged.flood.map(|flood| flood.to_string()),
            }),
        );
    }

    /// Says how it ended; returns the exit code.
    pub fn end(&self, session: &Session, location: &str, refusal: Option<Error>) -> ExitCode {
        let done = if self.dry_run {
            "would go from"
        } else {
            "removed from"
        };
        session.output.good_news(format!(
            "{} {done} {location}, {} left",
            counted(self.going, "snapshot"),
            self.kept
        ));
        if self.going > 0 && !self.dry_run {
            session
                .output
                .good_news(session.typed("`tillsafe prune` frees what only they needed"));
        }
        if let Some(refusal) = refusal {
            session.fail(refusal.into());
        }
        if self.damaged > 0 {
            session.output.line(format!(
                "{} cannot be read: named above, not removed, and not counted as a backup",
                counted(self.damaged, "snapshot")
            ));
            return ExitCode::Damage;
        }
        if self.refused > 0 {
            return ExitCode::Refused;
        }
        ExitCode::Done
    }

    /// The same for programs.
    pub fn fields(&self, location: &str) -> serde_json::Value {
        json!({
            "repository": location,
            "dry_run": self.dry_run,
            "kept": self.kept,
            "removed": self.going,
            "doubtful": self.doubtful,
            "refused_series": self.refused,
            "damaged": self.damaged,
        })
    }
}

fn line(one: &Described, decision: &Decision) -> String {
    let mark = not_good(one).map_or(String::new(), |why| format!("not good ({why}); "));
    let (verb, reasons) = if decision.goes() {
        ("remove", "no rule keeps it".to_owned())
    } else {
        ("keep", words(decision).join(", "))
    };
    format!(
        "  {verb:6}  {}  {:.0}  {mark}{}",
        one.id.short(),
        one.time,
        Shown(reasons.as_bytes())
    )
}

/// Why a snapshot counts as no good one, if so: its marks, or that nothing of it can be restored.
fn not_good(one: &Described) -> Option<String> {
    let is_own = |tag: &&String| OWN_MARKS.contains(&tag.as_str());
    let marks: Vec<&str> = one.tags.iter().filter(is_own).map(String::as_str).collect();
    let why = if marks.is_empty() {
        "its folders are lost".to_owned()
    } else {
        marks.join(", ")
    };
    (!one.is_good).then_some(why)
}

fn object(one: &Described, decision: &Decision, group: &str) -> serde_json::Value {
    json!({
        "id": one.id,
        "short_id": one.id.short(),
        "time": one.time,
        "group": group,
        "good": one.is_good,
        "not_good_because": not_good(one),
        "proven": one.is_proven,
        "removed": decision.goes(),
        "doubtful": decision.doubt().is_some(),
        "reasons": words(decision),
    })
}

fn words(decision: &Decision) -> Vec<String> {
    decision.reasons.iter().map(Reason::to_string).collect()
}
