//! `ls`: what a snapshot holds.

use std::path::Path;

use serde_json::{Value, json};

use super::Done;
use super::args;
use super::choose::pick;
use super::lost::{end, tell_lost};
use super::output::path_fields;
use super::session::{Session, snapshot_and_path};
use crate::entry::{Entry, Kind};
use crate::error::{ExitCode, Result};
use crate::repository::tree::Content;
use crate::restore::{Filter, Plan, Selection};
use crate::units::shown;

pub fn run(session: &Session, args: &args::Ls) -> Result<Done> {
    let (request, base) = snapshot_and_path(&args.snapshot, &args.filter)?;
    let filter = Filter::new(&args.choice.include, &args.choice.exclude)?;
    let repository = session.open()?;
    let (snapshot, index) = pick(session, &repository, request)?;
    let mut plan = Plan::make(
        &repository,
        &index,
        snapshot,
        Selection { base, filter },
        session.output.as_ref(),
    )?;
    session.output.finish();
    plan.items.sort_by(|a, b| a.path.cmp(&b.path));
    for item in &plan.items {
        let path = plan.path_in_snapshot(item);
        let (entry, content) = (&item.entry, &item.content);
        session.output.object("node", object(entry, content, &path));
        session.output.line(if args.long {
            long(entry, content, &path)
        } else {
            shown(&path)
        });
    }
    tell_lost(session, &plan.lost);
    let rest = "nothing was changed; what is listed above can be read".to_owned();
    Ok(Done {
        code: end(session, &plan.lost, rest, ExitCode::Done),
        fields: json!({
            "repository": repository.location(),
            "snapshot_id": plan.snapshot.id,
            "files": plan.files,
            "total_bytes": plan.bytes,
            "lost_items": plan.lost.len(),
        }),
    })
}

/// An item as a line with all that is known of it.
pub fn long(entry: &Entry, content: &Content, path: &Path) -> String {
    let kind = match entry.kind {
        Kind::File => '-',
        Kind::Folder => 'd',
        Kind::Symlink { .. } => 'l',
        Kind::BlockDevice { .. } => 'b',
        Kind::CharacterDevice { .. } => 'c',
        Kind::Pipe => 'p',
        Kind::Socket => 's',
        Kind::Other(_) => '?',
    };
    let link = match &entry.kind {
        Kind::Symlink { target } => format!(" -> {}", shown(Path::new(target))),
        _ => String::new(),
    };
    // As `ls -l`: a device has a number where a file has a size.
    let size = match entry.kind {
        Kind::BlockDevice { number } | Kind::CharacterDevice { number } => {
            let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
            format!("{major}, {minor}")
        }
        _ => content.size().to_string(),
    };
    format!(
        "{kind}{:04o} {:>5} {:>5} {size:>12} {:.0} {}{link}",
        entry.mode,
        entry.owner.uid,
        entry.owner.gid,
        entry.modified,
        shown(path)
    )
}

/// The same as an object's fields.
pub fn object(entry: &Entry, content: &Content, path: &Path) -> Value {
    let mut object = path_fields(path);
    object["type"] = entry.kind.name().into();
    object["size_bytes"] = content.size().into();
    object["mode"] = format!("{:04o}", entry.mode).into();
    object["uid"] = entry.owner.uid.into();
    object["gid"] = entry.owner.gid.into();
    object["mtime"] = json!(entry.modified);
    object
}
