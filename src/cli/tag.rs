//! `tag`: other tags for snapshots.

use serde_json::json;

use super::Done;
use super::args;
use super::session::Session;
use super::several::several;
use crate::error::{Error, ExitCode, Result};
use crate::repository::lock::Access;
use crate::repository::tag::{Retagged, TagChange};
use crate::units::{Shown, counted};

pub fn run(session: &Session, args: &args::Tag) -> Result<Done> {
    let change = TagChange {
        set: (!args.set.is_empty()).then(|| args.set.clone()),
        add: args.add.clone(),
        remove: args.remove.clone(),
    };
    for tag in args.set.iter().chain(&args.add) {
        require_tag(tag)?;
    }
    require_choice(args)?;
    let repository = session.open()?;
    let monitor = session.output.as_ref();
    let lock = repository.lock(Access::Exclusive, monitor)?;
    let found = repository.snapshots(monitor)?;
    let chosen = several(session, &args.snapshots, &args.filter, &found)?;
    let chosen = chosen.iter().map(|snapshot| snapshot.id).collect();
    let changed = repository.tag(&found.readable, &chosen, &change, &lock, monitor)?;
    session.output.finish();
    for retagged in &changed {
        tell(session, retagged);
    }
    session.output.good_news(format!(
        "changed the tags of {} in {}",
        counted(changed.len() as u64, "snapshot"),
        repository.location()
    ));
    let is_uncertain = args.snapshots.is_empty() && !found.damaged.is_empty();
    Ok(Done {
        // One that cannot be read may be among those that were meant.
        code: if is_uncertain {
            ExitCode::Damage
        } else {
            ExitCode::Done
        },
        fields: json!({
            "repository": repository.location(),
            "changed_snapshots": changed.len(),
            "damaged": found.damaged.len(),
        }),
    })
}

/// Fails unless `tag` is one that every tool takes.
fn require_tag(tag: &str) -> Result<()> {
    if !tag.is_empty() && !tag.contains(',') {
        return Ok(());
    }
    Err(Error::Usage {
        finding: if tag.is_empty() {
            "a tag is empty".to_owned()
        } else {
            format!("{tag:?} is no tag: restic splits tags at commas")
        },
        next: "give --add or --set once for each tag; `--remove TAG` takes one away".to_owned(),
    })
}

/// Fails if nothing says which snapshots are meant: all of them is never what an empty list means.
fn require_choice(args: &args::Tag) -> Result<()> {
    if !args.filter.is_empty() || !args.snapshots.is_empty() {
        return Ok(());
    }
    Err(Error::Usage {
        finding: "no snapshot is named".to_owned(),
        next: "name snapshots by their ids or `latest`, or choose them with --host, --path or --tag; `tillsafe snapshots` lists them".to_owned(),
    })
}

fn tell(session: &Session, retagged: &Retagged) {
    let tags = match retagged.tags.as_slice() {
        [] => "no tags".to_owned(),
        tags => tags.join(","),
    };
    session.output.good_news(format!(
        "snapshot {} is now {}: {}",
        retagged.old.short(),
        retagged.new.short(),
        Shown(tags.as_bytes())
    ));
    session.output.object(
        "changed",
        json!({
            "old_snapshot_id": retagged.old,
            "new_snapshot_id": retagged.new,
            "tags": retagged.tags,
        }),
    );
}
