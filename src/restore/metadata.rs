//! Links, devices, owners, attributes, modes and times of a proved copy: last, so that nobody sees it before.
//!
//! Not every file system has them (exFAT has no links, a squashing NFS no owners, a container no
//! foreign numbers). What it refuses is told and left; the proved content is worth more.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::item::Item;
use crate::durable::attributes::SECURITY_LABEL;
use crate::durable::{File, Folder, Special};
use crate::entry::{Attribute, Entry, Kind, Owner};
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Problem, Progress};
use crate::parallel::{self, lock};

/// One kind of what is set: the words for a failure, and for a refusal.
pub(super) struct Setting {
    doing: &'static str,
    refused: &'static str,
    /// Whether something is missing without it.
    incomplete: bool,
}

impl Setting {
    const fn new(doing: &'static str, refused: &'static str) -> Self {
        Self {
            doing,
            refused,
            incomplete: true,
        }
    }
}

pub(super) const HARD_LINK: Setting = Setting::new(
    "naming",
    "is a further name of another file, and could only be made a file of its own",
);
const LINK: Setting = Setting::new("creating", "the link could not be made");
const SPECIAL: Setting = Setting::new("creating", "the device or pipe could not be made");
const OWNER: Setting = Setting::new("setting the owner of", "its owner could not be set");
const ATTRIBUTE: Setting = Setting::new(
    "setting an extended attribute of",
    "its extended attribute or access list could not be set",
);
const MODE: Setting = Setting::new("setting the mode of", "its mode could not be set");
const TIME: Setting = Setting::new("setting the time of", "its time could not be set");

/// A label is the policy's of the machine that has it: another gives labels of its own.
const LABEL: Setting = Setting {
    doing: "setting the security label of",
    refused: "its security label could not be set",
    incomplete: false,
};
/// Only root may set what lends rights, or what is root's own.
const ROOTS: Setting = Setting {
    doing: "setting an extended attribute of",
    refused: "its extended attribute is not restored, because only root can",
    incomplete: false,
};

/// Set-id bits lend an owner's rights: not those of whoever it belongs to now.
const SET_ID: u32 = 0o6000;

/// What was refused: of each kind the first item, why, and how many there are.
#[derive(Default)]
pub(super) struct Refusals(BTreeMap<&'static str, Refused>);

struct Refused {
    first: PathBuf,
    /// Its turn: several threads are at work, and the same run says the same each time.
    turn: usize,
    cause: String,
    count: u64,
    incomplete: bool,
}

impl Refusals {
    /// Whether it was done to what stands at `path`; a refusal is noted, any other failure is an error.
    pub(super) fn attempt(
        &mut self,
        setting: &Setting,
        (turn, path): (usize, &Path),
        done: io::Result<()>,
    ) -> Result<bool> {
        match done {
            Ok(()) => Ok(true),
            Err(cause) if is_refusal(&cause) => {
                self.note(setting, (turn, path), cause.to_string());
                Ok(false)
            }
            Err(cause) => Err(Error::file(setting.doing, path)(cause)),
        }
    }

    fn note(&mut self, setting: &Setting, (turn, path): (usize, &Path), cause: String) {
        let refused = self.0.entry(setting.refused);
        let refused = refused.or_insert_with(|| Refused {
            first: path.to_owned(),
            turn,
            cause: cause.clone(),
            count: 0,
            incomplete: setting.incomplete,
        });
        refused.count += 1;
        if turn < refused.turn {
            (refused.first, refused.turn, refused.cause) = (path.to_owned(), turn, cause);
        }
    }

    /// Tells one line a kind of finding, not one an item.
    pub(super) fn tell(&mut self, monitor: &dyn Monitor) {
        for (finding, refused) in std::mem::take(&mut self.0) {
            let others = if refused.count > 1 {
                format!(" (and so with {} others)", refused.count - 1)
            } else {
                String::new()
            };
            monitor.problem(Problem {
                item: crate::units::shown(&refused.first),
                finding: format!("{finding}: {}{others}", refused.cause),
                incomplete: refused.incomplete,
            });
        }
    }
}

/// Sets metadata, and keeps account of what is refused.
pub struct Metadata<'a> {
    target: &'a Path,
    monitor: &'a dyn Monitor,
    is_root: bool,
    owners: Mutex<Owners<'a>>,
    refusals: Mutex<Refusals>,
}

/// An item that is given what its entry says.
#[derive(Clone, Copy)]
struct Dressed<'a> {
    folder: &'a dyn Folder,
    /// Where it stands in the folder.
    path: &'a Path,
    /// What messages call it, below the target.
    named: &'a Path,
    /// Which turn it has: of several that are refused the same, messages name the first.
    turn: usize,
}

impl<'a> Metadata<'a> {
    /// Of what will stand at `target`: that is how its items are named in messages.
    pub fn new(target: &'a Path, monitor: &'a dyn Monitor) -> Self {
        Self {
            target,
            monitor,
            is_root: rustix::process::geteuid().is_root(),
            owners: Mutex::new(Owners::new(monitor)),
            refusals: Mutex::default(),
        }
    }

    /// Makes links, devices and pipes, gives all items their owner, attributes, mode and times, and tells
    /// what was refused: one line a kind of finding, not one an item. All but folders on all cores.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn apply(&mut self, folder: &dyn Folder, items: &[&Item]) -> Result<()> {
        let dressed = |turn, item: &'_ Item| -> Result<()> {
            let path = item.path.as_path();
            let dressed = Dressed {
                folder,
                path,
                named: path,
                turn,
            };
            if self.make(dressed, item)? {
                self.monitor.progress(Progress { bytes: 0, files: 1 });
                self.apply_entry(dressed, &item.entry)?;
            }
            Ok(())
        };
        let is_folder = |item: &&Item| item.entry.kind == Kind::Folder;
        let (mut folders, others): (Vec<&Item>, Vec<&Item>) =
            items.iter().partition(|item| is_folder(item));
        let count = others.len();
        let others = others.into_iter().enumerate();
        // Two names of one file would undo each other's work: who gives it an owner takes its capabilities.
        let (linked, others): (Vec<_>, Vec<_>) =
            others.partition(|(_, item)| item.entry.place.links > 1);
        parallel::for_each(&others, |(turn, item)| dressed(*turn, item))?;
        for (turn, item) in linked {
            dressed(turn, item)?;
        }
        // Innermost folders first: what is done inside changes a folder's own time.
        folders.sort_by_key(|item| std::cmp::Reverse(item.path.components().count()));
        for (turn, item) in folders.into_iter().enumerate() {
            dressed(count + turn, item)?;
        }
        self.tell();
        Ok(())
    }

    /// Makes an item that has no content; files and folders are there. Whether it stands there now.
    fn make(&self, dressed: Dressed<'_>, item: &Item) -> Result<bool> {
        let (folder, path) = (dressed.folder, dressed.path);
        let (setting, made) = match &item.entry.kind {
            // No system has links to nothing; the kernel takes it for a name that is missing.
            Kind::Symlink { target } if target.is_empty() => {
                (&LINK, Err(io::ErrorKind::InvalidInput.into()))
            }
            Kind::Symlink { target } => (&LINK, folder.create_symlink(target, path)),
            Kind::Pipe => (&SPECIAL, folder.create_special(path, Special::Pipe)),
            Kind::CharacterDevice { number } => {
                let special = Special::CharacterDevice(*number);
                (&SPECIAL, folder.create_special(path, special))
            }
            Kind::BlockDevice { number } => {
                let special = Special::BlockDevice(*number);
                (&SPECIAL, folder.create_special(path, special))
            }
            // Told when the copy was staged.
            Kind::Socket | Kind::Other(_) => return Ok(false),
            Kind::File | Kind::Folder => return Ok(true),
        };
        self.attempt(setting, dressed, made)
    }

    /// Gives copies the security labels of what they replace: a snapshot of a machine without such
    /// labels holds none, and where they count nothing works without them. `pairs` are an entry and
    /// paths below `folder`: what is live, and its copy.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn keep_labels<'e>(
        &mut self,
        folder: &dyn Folder,
        pairs: impl Iterator<Item = (&'e Entry, PathBuf, PathBuf)>,
    ) -> Result<()> {
        let is_label = |attribute: &Attribute| attribute.name == SECURITY_LABEL;
        for (entry, live, copy) in pairs {
            if entry.attributes.iter().any(is_label) {
                continue;
            }
            let label = folder.attribute(&live, SECURITY_LABEL);
            let kept = label.and_then(|label| match label {
                Some(label) => folder.set_attribute(&copy, SECURITY_LABEL, &label),
                None => Ok(()),
            });
            match kept {
                Err(cause) if has_none(&cause) => {}
                other => drop(self.attempt(&LABEL, itself(folder, &live, &live), other)?),
            }
        }
        Ok(())
    }

    /// Gives the copy itself, `name` in `parent`, what the captured folder had.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn apply_base(&mut self, parent: &dyn Folder, name: &Path, entry: &Entry) -> Result<()> {
        self.apply_entry(itself(parent, name, Path::new("")), entry)?;
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
        let copy = itself(parent, name, Path::new(""));
        if let Some((uid, gid)) = owner {
            self.attempt(&OWNER, copy, parent.set_owner(name, uid, gid))?;
        }
        self.attempt(&MODE, copy, parent.set_mode(name, mode))?;
        self.tell();
        Ok(())
    }

    /// Gives an item what its entry says.
    fn apply_entry(&self, dressed: Dressed<'_>, entry: &Entry) -> Result<()> {
        let owner = lock(&self.owners).here(&entry.owner);
        if entry.kind == Kind::File
            && let Ok(file) = dressed.folder.open_file(dressed.path, false)
        {
            return self.apply_to_file(dressed, file.as_ref(), owner, entry);
        }
        let Dressed { folder, path, .. } = dressed;
        let mut mode = entry.mode;
        if let Some((uid, gid)) = owner
            && !self.attempt(&OWNER, dressed, folder.set_owner(path, uid, gid))?
        {
            mode &= !SET_ID;
        }
        // After the owner, for changing that removes capabilities; before the mode, which may forbid it.
        for attribute in &entry.attributes {
            self.apply_attribute(dressed, attribute)?;
        }
        // After the owner, for changing that clears the set-id bits.
        if !matches!(entry.kind, Kind::Symlink { .. }) {
            self.attempt(&MODE, dressed, folder.set_mode(path, mode))?;
        }
        self.attempt(&TIME, dressed, folder.set_modified(path, entry.modified))?;
        Ok(())
    }

    /// The same for a file that is open, in the same order: its path is gone down once, and what is right
    /// already is not set again.
    fn apply_to_file(
        &self,
        dressed: Dressed<'_>,
        file: &dyn File,
        owner: Option<(u32, u32)>,
        entry: &Entry,
    ) -> Result<()> {
        let mut mode = entry.mode;
        let rights = file.rights().ok();
        let is_theirs = |owner| rights.map(|rights| (rights.uid, rights.gid)) == Some(owner);
        if let Some((uid, gid)) = owner.filter(|owner| !is_theirs(*owner))
            && !self.attempt(&OWNER, dressed, file.set_owner(uid, gid))?
        {
            mode &= !SET_ID;
        }
        for attribute in &entry.attributes {
            self.apply_attribute(dressed, attribute)?;
        }
        self.attempt(&MODE, dressed, file.set_mode(mode))?;
        self.attempt(&TIME, dressed, file.set_modified(entry.modified))?;
        Ok(())
    }

    fn apply_attribute(
        &self,
        dressed: Dressed<'_>,
        Attribute { name, value }: &Attribute,
    ) -> Result<()> {
        let Dressed { folder, path, .. } = dressed;
        let set = folder.set_attribute(path, name, value);
        // What is lost on the way is noticed here. The kernel keeps access lists in a form of its own.
        let set = set.and_then(|()| match folder.attribute(path, name)? {
            Some(there) if there == *value => Ok(()),
            _ if name.starts_with("system.") => Ok(()),
            _ => Err(io::ErrorKind::Unsupported.into()),
        });
        let setting = match &set {
            _ if name == SECURITY_LABEL => &LABEL,
            Err(cause) if !self.is_root && is_denied(cause) && is_roots(name) => &ROOTS,
            _ => &ATTRIBUTE,
        };
        match set {
            Err(cause) if is_refusal(&cause) || has_no_place(&cause) => {
                let cause = format!("{name}: {cause}");
                let path = self.named(dressed.named);
                lock(&self.refusals).note(setting, (dressed.turn, &path), cause);
                Ok(())
            }
            other => self.attempt(setting, dressed, other).map(drop),
        }
    }

    fn attempt(&self, setting: &Setting, item: Dressed<'_>, done: io::Result<()>) -> Result<bool> {
        match done {
            Ok(()) => Ok(true),
            failed => {
                let path = self.named(item.named);
                lock(&self.refusals).attempt(setting, (item.turn, &path), failed)
            }
        }
    }

    /// What messages call an item.
    fn named(&self, item: &Path) -> PathBuf {
        // Joining an empty path would add a slash.
        if item.as_os_str().is_empty() {
            self.target.to_owned()
        } else {
            self.target.join(item)
        }
    }

    fn tell(&mut self) {
        lock(&self.refusals).tell(self.monitor);
    }
}

/// The only one of its turn.
const fn itself<'a>(folder: &'a dyn Folder, path: &'a Path, named: &'a Path) -> Dressed<'a> {
    Dressed {
        folder,
        path,
        named,
        turn: 0,
    }
}

/// Whether the system says that this is not to be had here, and not that something is broken or full.
fn is_refusal(cause: &io::Error) -> bool {
    use io::ErrorKind::{
        InvalidFilename, InvalidInput, PermissionDenied, TooManyLinks, Unsupported,
    };
    // EINVAL and EOVERFLOW: a container knows no such user or group. ENAMETOOLONG: a link's text.
    matches!(
        cause.kind(),
        PermissionDenied | Unsupported | InvalidInput | InvalidFilename | TooManyLinks
    ) || cause.raw_os_error() == Some(rustix::io::Errno::OVERFLOW.raw_os_error())
}

/// Whether an attribute is more than the kernel or this file system takes: ext4 has one block for all of
/// an item's, and calls itself full if they are more.
fn has_no_place(cause: &io::Error) -> bool {
    use rustix::io::Errno;
    let limits = [Errno::TOOBIG, Errno::RANGE, Errno::NOSPC].map(Errno::raw_os_error);
    cause
        .raw_os_error()
        .is_some_and(|code| limits.contains(&code))
}

fn is_denied(cause: &io::Error) -> bool {
    cause.kind() == io::ErrorKind::PermissionDenied
}

/// Whether an attribute is for root alone to set.
fn is_roots(name: &str) -> bool {
    name.starts_with("security.") || name.starts_with("trusted.")
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
    ours: (u32, u32),
    told: bool,
    monitor: &'a dyn Monitor,
    users: HashMap<String, Option<u32>>,
    groups: HashMap<String, Option<u32>>,
}

impl<'a> Owners<'a> {
    fn new(monitor: &'a dyn Monitor) -> Self {
        Self {
            root: rustix::process::geteuid().is_root(),
            ours: (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            ),
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
        if self.root {
            return Some((uid, gid));
        }
        if (uid, gid) == self.ours {
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
