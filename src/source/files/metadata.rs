//! What a file system says of an item, in the words of entries.

use std::ffi::OsString;

use super::facts::Names;
use super::finding::Notes;
use super::item::Item;
use crate::durable::{attributes, descriptor};
use crate::entry::{Attribute, Entry, Kind, Owner, Place};
use crate::monitor::Monitor;

/// What is told of an item that is stored without its extended attributes.
pub const ATTRIBUTES_UNREADABLE: &str = "has extended attributes that cannot be read";

/// Makes entries of what the walk has met.
#[derive(Debug, Default)]
pub struct Entries {
    names: Names,
    notes: Notes,
}

impl Entries {
    /// The entry of an item, which is of that kind.
    pub fn of(&mut self, item: &Item, kind: Kind) -> Entry {
        let attributes = self.attributes(item);
        Entry {
            attributes,
            ..self.named(item, kind)
        }
    }

    /// The same without its extended attributes.
    pub fn named(&mut self, item: &Item, kind: Kind) -> Entry {
        let facts = &item.facts;
        Entry {
            name: item.name().to_owned(),
            owner: self.names.owner(facts.uid, facts.gid),
            ..Self::bare(item, kind)
        }
    }

    /// The extended attributes of an item.
    pub fn attributes(&mut self, item: &Item) -> Vec<Attribute> {
        let (attributes, is_missing) = attributes(item);
        if is_missing {
            self.notes.add(item.path(), ATTRIBUTES_UNREADABLE, true);
        }
        attributes
    }

    /// The same without what takes time: name, owner, attributes.
    #[must_use]
    pub fn bare(item: &Item, kind: Kind) -> Entry {
        let facts = &item.facts;
        Entry {
            name: OsString::new(),
            kind,
            mode: facts.mode & 0o7777,
            modified: facts.modified,
            changed: facts.changed,
            owner: Owner::default(),
            place: Place {
                device: facts.identity.device,
                inode: facts.identity.inode,
                links: facts.links,
            },
            attributes: Vec::new(),
        }
    }

    /// Tells what was found on the way, once a kind of finding.
    pub fn tell(&self, monitor: &dyn Monitor) {
        self.notes.tell(monitor);
    }
}

/// The extended attributes of an item, itself if it is a link, and whether there are any that could not be
/// read.
fn attributes(item: &Item) -> (Vec<Attribute>, bool) {
    let Ok(held) = item.held() else {
        return (Vec::new(), true);
    };
    let path = item.real();
    let is_shown = |cause: &std::io::Error| {
        cause.kind() != std::io::ErrorKind::NotFound || descriptor::are_shown()
    };
    match attributes::list_held(&**held) {
        Ok(names) => read(names, |name| attributes::get_held(&**held, name)),
        Err(cause) if is_shown(&cause) => (Vec::new(), true),
        Err(_) => match attributes::list(path) {
            Ok(names) => read(names, |name| attributes::get(path, name)),
            Err(cause) => (Vec::new(), cause.kind() != std::io::ErrorKind::NotFound),
        },
    }
}

fn read(
    names: Vec<Vec<u8>>,
    get: impl Fn(&[u8]) -> std::io::Result<Option<Vec<u8>>>,
) -> (Vec<Attribute>, bool) {
    let mut found = Vec::new();
    let mut is_missing = false;
    for name in names {
        match (get(&name), String::from_utf8(name)) {
            (Ok(Some(value)), Ok(name)) => found.push(Attribute { name, value }),
            // It was removed meanwhile.
            (Ok(None), _) => {}
            // The repository format has no other names.
            (Err(_), _) | (_, Err(_)) => is_missing = true,
        }
    }
    (found, is_missing)
}
