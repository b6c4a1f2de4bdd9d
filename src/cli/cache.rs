//! `cache`: what is kept of a repository on this machine.

use serde_json::json;

use super::Done;
use super::args;
use super::session::Session;
use crate::backend::{Class, Object};
use crate::error::{Error, Result};
use crate::units::{ByteSize, counted, shown};

pub fn run(session: &Session, args: &args::Cache) -> Result<Done> {
    let Some((folder, cache)) = session.cache()? else {
        return Err(Error::Usage {
            finding: "no cache is in use".to_owned(),
            next: "name its folder: --cache-dir DIR".to_owned(),
        });
    };
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
    let done = if args.clear { "removed" } else { "kept" };
    let repository = shown(&session.choice()?.path);
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
