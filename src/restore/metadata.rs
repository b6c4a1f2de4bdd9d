//! Links, owners, modes and times of a proved copy: last, so that nobody sees it before.
//!
//! Not every file system has them (exFAT has no links, a squashing NFS no owners, a container no
//! foreign numbers). What it refuses is told and left; the proved content is worth more.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use super::item::Item;
use crate::durable::Folder;
use crate::entry::{Entry, Kind, Owner};
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Problem, Progress};

/// One kind of what is set: the words for a failure, and for a refusal.
struct Setting {
    doing: &'static str,
    refused: &'static str,
}

const LINK: Setting = Setting {
    doing: "creating",
    refused: "the link could not be made",
};
const OWNER: Setting = Setting {
    doing: "setting the owner of",
    refused: "its owner could not be set",
};
const MODE: Setting = Setting {
    doing: "setting the mode of",
    refused: "its mode could not be set",
};
const LABELS: Setting = Setting {
    doing: "keeping the access list of",
    refused: "the access list or label of what it replaces could not be kept",
};
const TIME: Setting = Setting {
    doing: "setting the time of",
    refused: "its time could not be set",
};

/// What was refused of one kind: the first item, why, and how many there are.
struct Refused {
    first: PathBuf,
    cause: io::Error,
    count: u64,
}

/// Sets metadata, and keeps account of what is refused.
pub struct Metadata<'a> {
    target: &'a Path,
    monitor: &'a dyn Monitor,
    owners: Owners<'a>,
    refused: BTreeMap<&'static str, Refused>,
}

impl<'a> Metadata<'a> {
    /// Of what will stand at `target`: that is how its items are named in messages.
    pub fn new(target: &'a Path, monitor: &'a dyn Monitor) -> Self {
        Self {
            target,
            monitor,
            owners: Owners::new(monitor),
            refused: BTreeMap::new(),
        }
    }

    /// Gives the items their link text, owner, mode and times, and tells what was refused: one line a
    /// kind of finding, not one an item.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn apply(&mut self, folder: &dyn Folder, items: &[&Item]) -> Result<()> {
        let is_folder = |item: &&&Item| item.entry.kind == Kind::Folder;
        for item in items.iter().filter(|item| !is_folder(item)) {
            match &item.entry.kind {
                Kind::Symlink { target } => {
                    // No system has links to nothing; the kernel takes it for a name that is missing.
                    let made = if target.is_empty() {
                        Err(io::ErrorKind::InvalidInput.into())
                    } else {
                        folder.create_symlink(target, &item.path)
                    };
                    if !self.attempt(&LINK, &item.path, made)? {
                        continue;
                    }
                }
                // Told when the copy was staged.
                Kind::Other(_) => continue,
                Kind::File | Kind::Folder => {}
            }
            self.apply_one(folder, item)?;
        }
        // Innermost folders first: what is done inside changes a folder's own time.
        let mut folders: Vec<&Item> = items.iter().filter(is_folder).copied().collect();
        folders.sort_by_key(|item| std::cmp::Reverse(item.path.components().count()));
        for item in folders {
            self.apply_one(folder, item)?;
        }
        self.tell();
        Ok(())
    }

    /// Gives copies the access lists and labels of what they replace, for a snapshot does not hold
    /// them. `pairs` are paths below `folder`: what is live, and its copy.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn keep_labels(
        &mut self,
        folder: &dyn Folder,
        pairs: impl Iterator<Item = (PathBuf, PathBuf)>,
    ) -> Result<()> {
        for (live, copy) in pairs {
            let kept = match folder.copy_labels(&live, &copy) {
                Err(cause) if has_none(&cause) => Ok(()),
                other => other,
            };
            self.attempt(&LABELS, &live, kept)?;
        }
        Ok(())
    }

    /// Gives the copy itself, `name` in `parent`, what the captured folder had.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn apply_base(&mut self, parent: &dyn Folder, name: &Path, entry: &Entry) -> Result<()> {
        let owner = self.owners.here(&entry.owner);
        self.apply_to_copy(parent, name, owner, entry.mode)?;
        let set = parent.set_modified(name, entry.modified);
        self.attempt(&TIME, Path::new(""), set)?;
        self.tell();
        Ok(())
    }

    /// Gives the copy itself, `name` in `parent`, the mode and perhaps the owner of its target.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn apply_to_copy(
        &mut self,
        parent: &dyn Folder,
        name: &Path,
        owner: Option<(u32, u32)>,
        mode: u32,
    ) -> Result<()> {
        let itself = Path::new("");
        if let Some((uid, gid)) = owner {
            self.attempt(&OWNER, itself, parent.set_owner(name, uid, gid))?;
        }
        self.attempt(&MODE, itself, parent.set_mode(name, mode))?;
        self.tell();
        Ok(())
    }

    fn apply_one(&mut self, folder: &dyn Folder, item: &Item) -> Result<()> {
        self.monitor.progress(Progress { bytes: 0, files: 1 });
        let path = &item.path;
        let mut mode = item.entry.mode;
        if let Some((uid, gid)) = self.owners.here(&item.entry.owner)
            && !self.attempt(&OWNER, path, folder.set_owner(path, uid, gid))?
        {
            // Set-id bits lend an owner's rights: not those of whoever it belongs to now.
            mode &= !0o6000;
        }
        // After the owner, for changing that clears the set-id bits.
        if !matches!(item.entry.kind, Kind::Symlink { .. }) {
            self.attempt(&MODE, path, folder.set_mode(path, mode))?;
        }
        let set = folder.set_modified(path, item.entry.modified);
        self.attempt(&TIME, path, set)?;
        Ok(())
    }

    /// Whether it was done; a refusal is noted, any other failure is an error.
    fn attempt(&mut self, setting: &Setting, item: &Path, done: io::Result<()>) -> Result<bool> {
        let Err(cause) = done else {
            return Ok(true);
        };
        // Joining an empty path would add a slash.
        let path = if item.as_os_str().is_empty() {
            self.target.to_owned()
        } else {
            self.target.join(item)
        };
        if !is_refusal(&cause) {
            return Err(Error::file(setting.doing, path)(cause));
        }
        let refused = self.refused.entry(setting.refused);
        let refused = refused.or_insert_with(|| Refused {
            first: path,
            cause,
            count: 0,
        });
        refused.count += 1;
        Ok(false)
    }

    fn tell(&mut self) {
        for (finding, refused) in std::mem::take(&mut self.refused) {
            let others = if refused.count > 1 {
                format!(" (and so with {} others)", refused.count - 1)
            } else {
                String::new()
            };
            self.monitor.problem(Problem {
                item: crate::units::shown(&refused.first),
                finding: format!("{finding}: {}{others}", refused.cause),
                incomplete: true,
            });
        }
    }
}

/// Whether the system says that this is not to be had here, and not that something is broken or full.
fn is_refusal(cause: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, PermissionDenied, Unsupported};
    // EINVAL and EOVERFLOW: a container knows no such user or group. ENAMETOOLONG: a link's text.
    matches!(
        cause.kind(),
        PermissionDenied | Unsupported | InvalidInput | InvalidFilename
    ) || cause.raw_os_error() == Some(rustix::io::Errno::OVERFLOW.raw_os_error())
}

/// Whether nothing stands there that could have a label: no such name, or a link.
fn has_none(cause: &io::Error) -> bool {
    use rustix::io::Errno;
    let none = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::NXIO].map(Errno::raw_os_error);
    cause
        .raw_os_error()
        .is_some_and(|code| none.contains(&code))
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
        let user = |name: &str| uzers::get_user_by_name(name).map(|user| user.uid());
        let group = |name: &str| uzers::get_group_by_name(name).map(|group| group.gid());
        let uid = number(&mut self.users, &owner.user, user).unwrap_or(owner.uid);
        let gid = number(&mut self.groups, &owner.group, group).unwrap_or(owner.gid);
        let ours = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        if self.root {
            return Some((uid, gid));
        }
        if (uid, gid) == ours {
            return None;
        }
        if !std::mem::replace(&mut self.told, true) {
            self.monitor.problem(Problem {
                item: "owners".to_owned(),
                finding: "are not restored, because only root can; everything belongs to you"
                    .to_owned(),
                incomplete: false,
            });
        }
        None
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
