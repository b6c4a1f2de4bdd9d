//! `cache`: what is kept of a repository on this machine.

use serde_json::json;

use super::Done;
use super::args;
use super::session::Session;
use crate::backend::{self, Class, Object};
use crate::error::{Error, Result};
use crate::units::{ByteSize, counted, shown};

pub fn run(session: &Session, args: &args::Cache) -> Result<Done> {
    let choice = session.choice()?;
    let Some(folder) = session.cache_folder_of(&choice)? else {
        return Err(Error::Usage {
            finding: "no cache is in use".to_owned(),
            next: "name its folder: --cache-dir DIR".to_owned(),
        });
    };
    let (cache, shelf) = (session.backend(&folder), session.shelf(&folder));
    let (mut objects, mut bytes) = (0, 0);
    for class in [Class::Index, Class::Snapshots] {
        // A cache that is not there is an empty one.
        for (id, size) in cache.list(class).unwrap_or_default().objects {
            let object = Object::Named(class, id);
            if args.clear {
                let removed = cache.delete(object);
                removed.map_err(|cause| cause.on("removing", object))?;
            }
            objects += 1;
            bytes += size;
        }
    }
    let of_table = shelf.bytes();
    if args.clear {
        let cleared = shelf.clear().map_err(backend::Error::from);
        cleared.map_err(|cause| cause.on("removing", "the table of the index"))?;
    }
    objects += u64::from(of_table > 0);
    bytes += of_table;
    let done = if args.clear { "removed" } else { "kept" };
    let repository = shown(&choice.path);
    let line = format!(
        "{done}: {} ({}) of {repository} in {}",
        counted(objects, "object"),
        ByteSize(bytes),
        shown(&folder)
    );
    if args.clear {
        session.output.good_news(line);
    } else {
        // It was asked for.
        session.output.line(line);
    }
    Ok(Done::well(json!({
        "repository": repository, "objects": objects, "total_bytes": bytes, "cleared": args.clear,
    })))
}
