//! The key files as their owner manages them: which there are, one more, one less, another password.
//!
//! Invariant: at every instant the key that we were opened with opens, until another one that was just
//! opened with the new password takes its place. Whoever comes while others remove keys is told so.

use super::crypto::Key;
use super::keys::{self, Cost, KeyFacts, KeyFile};
use super::lock::Access;
use super::unlock::{open_key_file, read_key_file};
use super::{Repository, Services, encode, finding, report_strays};
use crate::backend::{self, Backend, Class, Object};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, go_on};
use crate::secret::Secret;

/// Most key files of a repository: restic tries no more of them.
pub const MOST: usize = 20;
/// Most work of looking for a key that the new password opens already: that of [`MOST`] new ones.
const MAX_WORK: u64 = 1 << 25;

/// A file among the keys.
#[derive(Debug, Clone)]
pub struct FoundKey {
    /// Its name.
    pub id: Id,
    /// Whether the repository was opened with it.
    pub in_use: bool,
    /// What it says about itself, or why it is no key.
    pub facts: std::result::Result<KeyFacts, String>,
}

/// A key that the new password opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewKey {
    /// Its name.
    pub id: Id,
    /// Whether it was made now; not so if an interrupted run has made it.
    pub is_new: bool,
}

impl Repository {
    /// Lists the files among the keys, oldest first; those that are no key last.
    ///
    /// # Errors
    /// [`Error::Storage`] if they cannot be listed; [`Error::Interrupted`].
    pub fn keys(&self, monitor: &dyn Monitor) -> Result<Vec<FoundKey>> {
        let listing = self.list(Class::Keys)?;
        report_strays(monitor, Class::Keys, &listing);
        let mut keys = Vec::new();
        for (id, _) in listing.objects {
            go_on(monitor)?;
            let file = read_key_file(self.inner.backend.as_ref(), id);
            keys.push(FoundKey {
                id,
                in_use: id == self.inner.opened_with.id,
                facts: file
                    .map_err(|cause| finding(&cause))
                    .and_then(|file| file.facts()),
            });
        }
        let created = |key: &FoundKey| key.facts.as_ref().ok().map(|facts| facts.created);
        keys.sort_by_key(|key| (key.facts.is_err(), created(key), key.id));
        Ok(keys)
    }

    /// Fails if there is no room for one more key.
    ///
    /// # Errors
    /// [`Error::KeyRefused`] if there are [`MOST`] already; [`Error::Storage`].
    pub fn require_room_for_a_key(&self) -> Result<()> {
        let count = self.list(Class::Keys)?.objects.len();
        if count < MOST {
            return Ok(());
        }
        Err(Error::KeyRefused {
            finding: format!("there are {count} key files, and restic tries no more than {MOST}"),
            next: "`tillsafe key list` shows them: remove one that nobody needs (`tillsafe key remove ID`)".to_owned(),
        })
    }

    /// Adds a key for one more password. One that it opens already is left as it is.
    ///
    /// # Errors
    /// [`Error::KeyRefused`] if there are [`MOST`] keys, or ours was removed meanwhile;
    /// [`Error::Locked`], [`Error::Storage`], [`Error::Damaged`].
    pub fn add_key(&self, password: &Secret, cost: Cost, monitor: &dyn Monitor) -> Result<NewKey> {
        let lock = self.lock(Access::Shared, monitor)?;
        self.require_own_key()?;
        if let Some(id) = self.find(password, None, false, monitor)? {
            return Ok(NewKey { id, is_new: false });
        }
        self.require_room_for_a_key()?;
        lock.require_held()?;
        self.store_key(password, cost)
    }

    /// Puts a key for the new password in the place of the one that we were opened with. In between
    /// both open; the old one goes only after the new one was read back and opened.
    ///
    /// # Errors
    /// As [`Repository::add_key`], and [`Error::KeyRefused`] if it is no other password, [`Error::KeyTaken`] if it
    /// opens another key: two keys do not become one unasked; [`Error::LockLost`].
    pub fn change_password(
        &self,
        password: &Secret,
        cost: Cost,
        monitor: &dyn Monitor,
    ) -> Result<NewKey> {
        let lock = self.lock(Access::Exclusive, monitor)?;
        self.require_own_key()?;
        self.require_other_password(password)?;
        let old = self.inner.opened_with.id;
        // Of the same password a strong key is to take the place of a weak one: a run before may have made it.
        let is_same = self.opens(old, password);
        let new = match self.find(password, Some(old), !is_same, monitor)? {
            Some(id) if is_same => NewKey { id, is_new: false },
            Some(id) => return Err(taken(id, old)),
            None => self.store_key(password, cost)?,
        };
        lock.require_held()?;
        self.remove(Object::Named(Class::Keys, old))?;
        Ok(new)
    }

    /// Removes the key whose name begins with `wanted`; a file that is no key is named in full.
    ///
    /// # Errors
    /// [`Error::KeyRefused`] for the key that we were opened with, and if that one was removed meanwhile:
    /// it might be the last; [`Error::Usage`] if not exactly one fits; [`Error::Locked`],
    /// [`Error::LockLost`], [`Error::Storage`].
    pub fn remove_key(&self, wanted: &str, monitor: &dyn Monitor) -> Result<Id> {
        let lock = self.lock(Access::Exclusive, monitor)?;
        self.require_own_key()?;
        let key = the_one(self.keys(monitor)?, wanted)?;
        if key.in_use {
            return Err(Error::KeyRefused {
                finding: format!(
                    "key {} is the one that this run has opened the repository with",
                    key.id.short()
                ),
                next: "open the repository with another key's password to remove this one; to replace it: `tillsafe key passwd`".to_owned(),
            });
        }
        lock.require_held()?;
        self.remove(Object::Named(Class::Keys, key.id))?;
        Ok(key.id)
    }

    /// Fails unless the key that we were opened with is there as it was: if somebody has removed it, the
    /// others may be gone as well, and whoever has it is not to come in again by another one.
    fn require_own_key(&self) -> Result<()> {
        let ours = self.inner.opened_with;
        let object = Object::Named(Class::Keys, ours.id);
        match self.inner.backend.get(object, keys::MAX_FILE) {
            Ok(bytes) if Id::of(&bytes) == ours.content => Ok(()),
            Ok(_) | Err(backend::Error::NotFound | backend::Error::TooLong(_)) => {
                Err(Error::KeyRefused {
                    finding: format!(
                        "key {}, which has opened the repository, was removed meanwhile",
                        ours.id.short()
                    ),
                    next: "run the same command with a password that still opens".to_owned(),
                })
            }
            Err(cause) => Err(cause.on("reading", object)),
        }
    }

    /// Fails for the password that opens already, unless its key is weak or damaged: then a sound one is made.
    fn require_other_password(&self, password: &Secret) -> Result<()> {
        let ours = self.inner.opened_with;
        let backend = self.inner.backend.as_ref();
        let is_weak = |file: KeyFile| file.facts().is_ok_and(|facts| facts.cost.is_weak());
        let is_poor = read_key_file(backend, ours.id).map_or(true, is_weak);
        if is_poor || !self.opens(ours.id, password) {
            return Ok(());
        }
        Err(Error::KeyRefused {
            finding: "the new password is the one that opens the repository already".to_owned(),
            next: "give another password".to_owned(),
        })
    }

    fn opens(&self, key: Id, password: &Secret) -> bool {
        let backend = self.inner.backend.as_ref();
        matches!(open_key_file(backend, key, true, password), Ok(Ok(_)))
    }

    /// The key, but for `leave_out`, that `password` opens already and that is as good as a new one, or of
    /// any strength with `weak_too`.
    fn find(
        &self,
        password: &Secret,
        leave_out: Option<Id>,
        weak_too: bool,
        monitor: &dyn Monitor,
    ) -> Result<Option<Id>> {
        let backend = self.inner.backend.as_ref();
        let mut left = MAX_WORK;
        for key in self.keys(monitor)? {
            go_on(monitor)?;
            let fit = key.facts.ok();
            let fit = fit.filter(|facts| weak_too || !facts.cost.is_weak());
            let work = fit.and_then(|facts| facts.cost.work());
            let Some(rest) = work.and_then(|work| left.checked_sub(work)) else {
                continue;
            };
            if Some(key.id) == leave_out {
                continue;
            }
            left = rest;
            if let Ok(Ok(opened)) = open_key_file(backend, key.id, false, password)
                // Whoever knows the password can write a key file that opens to something else.
                && opened.master.is_same(&self.inner.key)
            {
                return Ok(Some(key.id));
            }
        }
        Ok(None)
    }

    /// Stores a key, reads it back and opens it.
    fn store_key(&self, password: &Secret, cost: Cost) -> Result<NewKey> {
        let inner = &self.inner;
        let backend = inner.backend.as_ref();
        let id = store(backend, &inner.services, &inner.key, password, cost)?;
        match open_key_file(backend, id, false, password)? {
            Ok(opened) if opened.master.is_same(&inner.key) => Ok(NewKey { id, is_new: true }),
            _ => Err(Error::Damaged {
                object: Object::Named(Class::Keys, id).to_string(),
                finding: "the key that was just written does not open".into(),
            }),
        }
    }
}

/// The new password is that of another key: somebody else's, or one that a run which was cut short has made.
fn taken(other: Id, old: Id) -> Error {
    let (other, old) = (other.short(), old.short());
    Error::KeyTaken {
        other,
        old,
        flags: String::new(),
    }
}

/// Wraps the master key under `password` and stores it.
pub(super) fn store(
    backend: &dyn Backend,
    services: &Services,
    master: &Key,
    password: &Secret,
    cost: Cost,
) -> Result<Id> {
    let now = services.clock.now();
    let file = KeyFile::wrap(master, password, cost, now, services.rng.as_ref())?;
    let bytes = encode(&file)?;
    let id = Id::of(&bytes);
    let object = Object::Named(Class::Keys, id);
    let stored = backend.put_new(object, &bytes);
    stored.map_err(|cause| cause.on("writing", object))?;
    Ok(id)
}

/// The one key whose name begins with `wanted`.
fn the_one(keys: Vec<FoundKey>, wanted: &str) -> Result<FoundKey> {
    let usage = |finding: String, next: &str| Error::Usage {
        finding,
        next: next.to_owned(),
    };
    let shown = crate::units::Shown(wanted.as_bytes()).to_string();
    let mut fitting = keys
        .into_iter()
        .filter(|key| !wanted.is_empty() && key.id.to_string().starts_with(wanted));
    let Some(key) = fitting.next() else {
        return Err(usage(
            format!("no key begins with {shown}"),
            "`tillsafe key list` shows their names",
        ));
    };
    let others = fitting.count();
    if others > 0 {
        return Err(usage(
            format!("{} keys begin with {shown}", others + 1),
            "write more digits: `tillsafe key list` shows them",
        ));
    }
    match &key.facts {
        Err(finding) if key.id.to_string() != wanted => Err(usage(
            format!("{} is no sound key: {finding}", key.id),
            "to remove it all the same, give its full name",
        )),
        _ => Ok(key),
    }
}
