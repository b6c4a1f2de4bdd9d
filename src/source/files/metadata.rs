//! What a file system says of an item, in the words of entries.

use std::collections::HashMap;
use std::path::Path;

use jiff::Timestamp;

use crate::durable::attributes;
use crate::entry::{Attribute, Owner};

/// The extended attributes of the item at `path`, itself if it is a link, and whether there are any
/// that could not be read.
pub fn attributes(path: &Path) -> (Vec<Attribute>, bool) {
    let mut found = Vec::new();
    let names = match attributes::list(path) {
        Ok(names) => names,
        // What is gone by now is told by whoever reads it.
        Err(cause) => return (found, cause.kind() != std::io::ErrorKind::NotFound),
    };
    let mut is_missing = false;
    for name in names {
        match (attributes::get(path, &name), String::from_utf8(name)) {
            (Ok(Some(value)), Ok(name)) => found.push(Attribute { name, value }),
            // It was removed meanwhile.
            (Ok(None), _) => {}
            // The repository format has no other names.
            (Err(_), _) | (_, Err(_)) => is_missing = true,
        }
    }
    (found, is_missing)
}

/// A time as the kernel gives it.
pub fn time(seconds: i64, nanoseconds: i64) -> Timestamp {
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or(0);
    // A file system can hold times beyond the year 9999; nothing else can.
    Timestamp::new(seconds, nanoseconds).unwrap_or(if seconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// Names of users and groups, each looked up once.
#[derive(Debug, Default)]
pub struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    pub fn owner(&mut self, uid: u32, gid: u32) -> Owner {
        let user = self.users.entry(uid).or_insert_with(|| {
            uzers::get_user_by_uid(uid).map_or_else(String::new, |user| {
                user.name().to_string_lossy().into_owned()
            })
        });
        let group = self.groups.entry(gid).or_insert_with(|| {
            uzers::get_group_by_gid(gid).map_or_else(String::new, |group| {
                group.name().to_string_lossy().into_owned()
            })
        });
        Owner {
            uid,
            gid,
            user: user.clone(),
            group: group.clone(),
        }
    }
}
