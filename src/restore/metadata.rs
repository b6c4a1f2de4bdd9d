//! Links, owners, modes and times of a proved copy: last, so that nobody sees it before.

use std::collections::HashMap;

use super::plan::Item;
use crate::durable::Folder;
use crate::entry::{Kind, Owner};
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Problem};

/// Gives every item its link text, owner, mode and times.
///
/// # Errors
/// [`Error::File`].
pub fn apply(folder: &dyn Folder, items: &[Item], monitor: &dyn Monitor) -> Result<()> {
    let mut owners = Owners::new(monitor);
    for item in items.iter().filter(|item| item.entry.kind != Kind::Folder) {
        match &item.entry.kind {
            Kind::Symlink { target } => folder
                .create_symlink(target, &item.path)
                .map_err(Error::file("creating", folder.path().join(&item.path)))?,
            Kind::Other(kind) => {
                monitor.problem(Problem {
                    item: crate::units::shown(&item.path),
                    finding: format!("a {kind} is not restored by this version"),
                    incomplete: kind != "socket",
                });
                continue;
            }
            Kind::File | Kind::Folder => {}
        }
        apply_one(folder, item, &mut owners)?;
    }
    // Innermost folders first: what is done inside changes a folder's own time.
    let mut folders: Vec<&Item> = items
        .iter()
        .filter(|item| item.entry.kind == Kind::Folder)
        .collect();
    folders.sort_by_key(|item| std::cmp::Reverse(item.path.components().count()));
    for item in folders {
        apply_one(folder, item, &mut owners)?;
    }
    Ok(())
}

fn apply_one(folder: &dyn Folder, item: &Item, owners: &mut Owners<'_>) -> Result<()> {
    let path = || folder.path().join(&item.path);
    if let Some((uid, gid)) = owners.here(&item.entry.owner) {
        folder
            .set_owner(&item.path, uid, gid)
            .map_err(Error::file("setting the owner of", path()))?;
    }
    // After the owner, for changing that clears the set-id bits.
    if !matches!(item.entry.kind, Kind::Symlink { .. }) {
        folder
            .set_mode(&item.path, item.entry.mode)
            .map_err(Error::file("setting the mode of", path()))?;
    }
    folder
        .set_modified(&item.path, item.entry.modified)
        .map_err(Error::file("setting the time of", path()))
}

/// Who an owner is on this machine: by name where it knows the name, else by number.
struct Owners<'a> {
    root: bool,
    told: bool,
    monitor: &'a dyn Monitor,
    users: HashMap<String, Option<u32>>,
    groups: HashMap<String, Option<u32>>,
}

impl<'a> Owners<'a> {
    fn new(monitor: &'a dyn Monitor) -> Self {
        Self {
            root: rustix::process::geteuid().is_root(),
            told: false,
            monitor,
            users: HashMap::new(),
            groups: HashMap::new(),
        }
    }

    fn here(&mut self, owner: &Owner) -> Option<(u32, u32)> {
        if !self.root {
            if !std::mem::replace(&mut self.told, true) {
                self.monitor.problem(Problem {
                    item: "owners".to_owned(),
                    finding: "are not restored, because only root can; everything belongs to you"
                        .to_owned(),
                    incomplete: false,
                });
            }
            return None;
        }
        let user = |name: &str| uzers::get_user_by_name(name).map(|user| user.uid());
        let group = |name: &str| uzers::get_group_by_name(name).map(|group| group.gid());
        Some((
            number(&mut self.users, &owner.user, user).unwrap_or(owner.uid),
            number(&mut self.groups, &owner.group, group).unwrap_or(owner.gid),
        ))
    }
}

fn number(
    known: &mut HashMap<String, Option<u32>>,
    name: &str,
    look_up: impl FnOnce(&str) -> Option<u32>,
) -> Option<u32> {
    if name.is_empty() {
        return None;
    }
    *known
        .entry(name.to_owned())
        .or_insert_with(|| look_up(name))
}
