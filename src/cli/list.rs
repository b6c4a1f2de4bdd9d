//! `list`: the objects of a repository by their names.

use serde_json::json;

use super::Done;
use super::args::{self, ListKind};
use super::session::Session;
use crate::backend::Class;
use crate::error::Result;
use crate::monitor::go_on;
use crate::repository::Repository;
use crate::repository::index::Location;

pub fn run(session: &Session, args: &args::List) -> Result<Done> {
    let repository = session.open()?;
    let count = match args.kind {
        ListKind::Keys => objects(session, &repository, Class::Keys, "key")?,
        ListKind::Locks => objects(session, &repository, Class::Locks, "lock")?,
        ListKind::Snapshots => objects(session, &repository, Class::Snapshots, "snapshot")?,
        ListKind::Index => objects(session, &repository, Class::Index, "index")?,
        ListKind::Packs => objects(session, &repository, Class::Data, "pack")?,
        ListKind::Blobs => blobs(session, &repository)?,
    };
    Ok(Done::well(
        json!({"repository": repository.location(), "objects": count}),
    ))
}

fn objects(session: &Session, repository: &Repository, class: Class, kind: &str) -> Result<usize> {
    let objects = repository.objects(class, session.output.as_ref())?;
    session.output.finish();
    for (id, size) in &objects {
        go_on(session.output.as_ref())?;
        session.output.line(id);
        let fields = json!({"type": kind, "id": id, "size_bytes": size});
        session.output.object("object", fields);
    }
    Ok(objects.len())
}

/// Every copy of every blob that the index names, pack by pack.
fn blobs(session: &Session, repository: &Repository) -> Result<usize> {
    let index = repository.load_whole_index(session.output.as_ref())?;
    session.output.finish();
    let mut packs: Vec<_> = index.packs().into_iter().collect();
    packs.sort_unstable_by_key(|(id, _)| *id);
    let mut count = 0;
    for (pack, blobs) in packs {
        go_on(session.output.as_ref())?;
        for blob in blobs {
            count += 1;
            session.output.line(format!("{} {}", blob.kind, blob.id));
            let location = Location { pack, blob };
            session.output.object(
                "object",
                json!({
                    "type": blob.kind,
                    "id": blob.id,
                    "pack_id": pack,
                    "size_bytes": location.plain_length(),
                    "stored_bytes": blob.length,
                }),
            );
        }
    }
    Ok(count)
}
