//! `cat`: one object, verified.

use std::ffi::OsStr;

use serde_json::{Value, json};

use super::Done;
use super::args;
use super::choose::one;
use super::json::powerless;
use super::object::resolve;
use super::output::Output;
use super::session::{Session, request, snapshot_and_path};
use crate::backend::Class;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::look;
use crate::repository::Repository;
use crate::repository::pack::BlobKind;
use crate::units::Shown;

/// What is printed of an object.
enum Printed {
    /// JSON that is ours to lay out.
    Object(Value),
    /// JSON as it stands in the repository.
    Text(Vec<u8>),
    /// Bytes.
    Bytes(Vec<u8>),
}

pub fn run(session: &Session, args: &args::Cat) -> Result<Done> {
    let kind = args.kind.as_str();
    let wanted = wanted(kind, args.id.as_deref())?;
    let is_raw = matches!(kind, "pack" | "blob");
    if is_raw && session.output.is_json() {
        return Err(Error::Usage {
            finding: format!("the bytes of a {kind} and --json do not go to one stdout"),
            next: "leave --json away".to_owned(),
        });
    }
    let repository = session.open()?;
    let (id, printed) = read(session, &repository, args, wanted)?;
    session.output.finish();
    print(session, kind, id, printed)?;
    Ok(Done::well(
        json!({"repository": repository.location(), "type": kind, "id": id}),
    ))
}

/// Fails unless the words name an object that may be shown.
fn wanted<'a>(kind: &str, id: Option<&'a OsStr>) -> Result<&'a OsStr> {
    let usage = |finding: String, next: &str| {
        Err(Error::Usage {
            finding,
            next: next.to_owned(),
        })
    };
    let kinds = "give one of config, key, lock, snapshot, index, pack, tree, blob";
    match (kind, id) {
        ("masterkey", _) => usage(
            "the master key is not printed: whoever has seen it reads and forges everything, and no new password takes that back".to_owned(),
            "`tillsafe key list` shows whose passwords open; `tillsafe key add` gives one more person one of their own",
        ),
        ("config", None) => Ok(OsStr::new("")),
        ("config", Some(id)) => usage(
            format!("the config has no id, and {} was given", Shown(id.as_encoded_bytes())),
            "tillsafe cat config",
        ),
        ("key" | "lock" | "snapshot" | "index" | "pack" | "tree" | "blob", Some(id)) => Ok(id),
        ("key" | "lock" | "snapshot" | "index" | "pack" | "tree" | "blob", None) => usage(
            format!("which {kind} is not said"),
            match kind {
                "snapshot" => "give the first digits of its id, or `latest`; `tillsafe snapshots` shows them",
                "tree" => "give the first digits of its id, or SNAPSHOT:PATH of a folder",
                "key" => "give the first digits of its id; `tillsafe key list` shows them",
                "lock" => "give the first digits of its id; `tillsafe list locks` shows them",
                "index" => "give the first digits of its id; `tillsafe list index` shows them",
                "pack" => "give the first digits of its id; `tillsafe list packs` shows them",
                _ => "give the first digits of its id; `tillsafe list blobs` shows them",
            },
        ),
        _ => usage(format!("there is no object of the kind {kind:?}"), kinds),
    }
}

fn read(
    session: &Session,
    repository: &Repository,
    args: &args::Cat,
    wanted: &OsStr,
) -> Result<(Option<Id>, Printed)> {
    let (kind, filter) = (args.kind.as_str(), &args.filter);
    let monitor = session.output.as_ref();
    let named = |class: Class| {
        let objects = repository.objects(class, monitor)?;
        resolve(
            kind,
            &wanted.to_string_lossy(),
            objects.iter().map(|(id, _)| *id),
        )
    };
    Ok(match kind {
        "config" => {
            let config = serde_json::to_value(repository.config()?);
            let config = config.map_err(|cause| Error::internal(&cause))?;
            (None, Printed::Object(config))
        }
        "key" => {
            let id = named(Class::Keys)?;
            (Some(id), Printed::Object(repository.key_file(id)?))
        }
        "snapshot" => {
            let request = request(&wanted.to_string_lossy(), filter);
            let id = one(session, &request, repository.snapshots(monitor)?)?.id;
            (Some(id), object(repository, Class::Snapshots, id)?)
        }
        "lock" => {
            let id = named(Class::Locks)?;
            (Some(id), object(repository, Class::Locks, id)?)
        }
        "index" => {
            let id = named(Class::Index)?;
            let json = repository.object_json(Class::Index, id)?;
            (Some(id), Printed::Text(json))
        }
        "pack" => {
            let id = named(Class::Data)?;
            (Some(id), Printed::Bytes(repository.pack_bytes(id)?))
        }
        "tree" => tree(session, repository, filter, wanted)?,
        _ => {
            let index = repository.load_whole_index(monitor)?;
            let ids = index.blobs().map(|(_, id)| id);
            let id = resolve(kind, &wanted.to_string_lossy(), ids)?;
            let mut kinds = index.blobs().filter(|(_, other)| *other == id);
            // The same bytes as both kinds are the same bytes.
            let kind = kinds.next().map_or(BlobKind::Data, |(kind, _)| kind);
            let bytes = repository.read_blob(&index, kind, id)?;
            let printed = match kind {
                BlobKind::Tree => Printed::Text(bytes),
                BlobKind::Data => Printed::Bytes(bytes),
            };
            (Some(id), printed)
        }
    })
}

fn object(repository: &Repository, class: Class, id: Id) -> Result<Printed> {
    let json = repository.object_json(class, id)?;
    let value = serde_json::from_slice(&json).map_err(|cause| Error::Damaged {
        object: format!("{}/{id}", class.folder()),
        finding: cause.to_string(),
    })?;
    Ok(Printed::Object(value))
}

/// A tree by its id, or that of a folder in a snapshot.
fn tree(
    session: &Session,
    repository: &Repository,
    filter: &args::Filter,
    wanted: &OsStr,
) -> Result<(Option<Id>, Printed)> {
    let monitor = session.output.as_ref();
    let text = wanted.to_string_lossy();
    let names_a_snapshot = text.starts_with("latest") || text.contains(':');
    let index;
    let id = if names_a_snapshot {
        let (request, path) = snapshot_and_path(wanted, filter)?;
        let snapshot = one(session, &request, repository.snapshots(monitor)?)?;
        index = repository.load_index(monitor)?;
        look::folder(repository, &index, &snapshot, &path)?
    } else {
        index = repository.load_whole_index(monitor)?;
        let trees = index.blobs().filter(|(kind, _)| *kind == BlobKind::Tree);
        resolve("tree", &text, trees.map(|(_, id)| id))?
    };
    let bytes = repository.read_blob(&index, BlobKind::Tree, id)?;
    Ok((Some(id), Printed::Text(bytes)))
}

fn print(session: &Session, kind: &str, id: Option<Id>, printed: Printed) -> Result<()> {
    let output = &session.output;
    let text = match printed {
        Printed::Bytes(_) if Output::is_terminal() => {
            return Err(Error::Usage {
                finding: format!("the bytes of a {kind} are not written to a terminal"),
                next: "send them to a file or a program: `… > FILE`, `… | xxd | less`".to_owned(),
            });
        }
        Printed::Bytes(bytes) => return output.bytes(&bytes).map(drop),
        Printed::Object(value) if output.is_json() => {
            output.object("object", json!({"type": kind, "id": id, "value": value}));
            return Ok(());
        }
        Printed::Text(bytes) if output.is_json() => {
            let value: Value =
                serde_json::from_slice(&bytes).map_err(|cause| Error::internal(&cause))?;
            output.object("object", json!({"type": kind, "id": id, "value": value}));
            return Ok(());
        }
        Printed::Object(value) => format!("{value:#}\n").into_bytes(),
        Printed::Text(bytes) => bytes,
    };
    if Output::is_terminal() {
        output.line(powerless(&String::from_utf8_lossy(&text)).trim_end());
        return Ok(());
    }
    output.bytes(&text).map(drop)
}
