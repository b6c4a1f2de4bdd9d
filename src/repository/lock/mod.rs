//! restic's locks: objects that say who works here. Any number of shared ones, or one exclusive.
//!
//! The order is restic's: look, write, wait, look again. Whoever wrote second sees the first. Nobody
//! who only reads needs one; an exclusive one is held only by who removes or replaces objects.
//!
//! The wait is for storages that list late. Where every listing that begins after a write shows it, who wrote second looks
//! after both were written, however soon: nobody waits there. That restic on the other side does changes nothing.

mod file;
mod remove;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Repository;
use crate::backend::{Class, Listing, Object};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Problem, Step, go_on};

pub(super) use file::LockFile;
pub use file::{Standing, host_name, user_name};
pub use remove::FoundLock;

/// How long both sides wait before they look again, on a storage that may list late.
const SETTLE: Duration = Duration::from_millis(200);
/// How often a lock is written anew.
const REFRESH: Duration = Duration::from_mins(5);
/// A holder that could not refresh for so long gives up: others may soon take its lock for stale.
const LOST: SignedDuration = SignedDuration::from_mins(22);
/// How often a lock that is waited for is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// What a lock lets others do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Add and read beside us.
    Shared,
    /// Nothing: we remove or replace objects.
    Exclusive,
}

/// A lock, held until it is dropped. It is refreshed behind our back.
#[derive(Debug)]
pub struct Lock {
    repository: Repository,
    current: Arc<Mutex<Current>>,
    stop: Option<Sender<()>>,
    refresher: Option<JoinHandle<()>>,
}

/// The object that stands for us now.
#[derive(Debug, Clone, Copy)]
struct Current {
    access: Access,
    id: Id,
    written: Timestamp,
}

impl Repository {
    /// Takes a lock, held until it is dropped. One that cannot be had is waited for as long as
    /// [`Services::patience`](super::Services) says.
    ///
    /// # Errors
    /// [`Error::Locked`] if somebody holds one that excludes it; [`Error::Damaged`] if the config cannot
    /// be read, for then nothing is written; [`Error::Storage`], [`Error::Interrupted`].
    pub fn lock(&self, access: Access, monitor: &dyn Monitor) -> Result<Lock> {
        Ok(self.lock_meanwhile(access, monitor, || Ok(()))?.0)
    }

    /// The same; `work` is done while we wait for others to have seen it. That may read, and nothing else:
    /// if somebody else has the lock after all, it is done again once we have it.
    ///
    /// # Errors
    /// As [`Self::lock`], and those of `work`.
    pub fn lock_meanwhile<T>(
        &self,
        access: Access,
        monitor: &dyn Monitor,
        mut work: impl FnMut() -> Result<T>,
    ) -> Result<(Lock, T)> {
        self.config()?;
        let services = &self.inner.services;
        let mut left = services.patience;
        loop {
            let holder = match Lock::take(self, access, &mut work) {
                Err(Error::Locked { holder }) if !left.is_zero() => holder,
                other => return other,
            };
            if left == services.patience {
                monitor.step(Step::Waiting, None);
                monitor.problem(Problem {
                    item: "lock".to_owned(),
                    finding: format!("waiting for {holder}"),
                    incomplete: false,
                });
            }
            go_on(monitor)?;
            let pause = RETRY.min(left);
            services.clock.sleep(pause);
            left -= pause;
        }
    }
}

impl Lock {
    fn take<T>(
        repository: &Repository,
        access: Access,
        work: &mut impl FnMut() -> Result<T>,
    ) -> Result<(Self, T)> {
        let held = Self::take_early(repository, access)?;
        let clock = &repository.inner.services.clock;
        let done = std::thread::scope(|scope| {
            scope.spawn(|| clock.sleep(settling(repository)));
            work()
        });
        let looked = held.look_again();
        Ok((held, looked.and(done)?))
    }

    /// Takes a lock that nobody need have seen yet: until it has [settled](Self::settle) nothing may be written that counts
    /// on it. From here on it is refreshed: work may last, and whoever has a lock that is not refreshed is taken for dead.
    ///
    /// # Errors
    /// As [`Repository::lock`]; nobody is waited for.
    pub fn take_early(repository: &Repository, access: Access) -> Result<Self> {
        repository.config()?;
        look(repository, access, None)?;
        Ok(Self::hold(repository, write(repository, access)?, |_| {
            Ok(())
        }))
    }

    /// Waits until others must have seen a lock that was taken early, and looks whether one of them excludes it.
    ///
    /// # Errors
    /// [`Error::Locked`] if so; [`Error::Storage`].
    pub fn settle(&self) -> Result<()> {
        let clock = &self.repository.inner.services.clock;
        clock.sleep(settling(&self.repository));
        self.look_again()
    }

    fn look_again(&self) -> Result<()> {
        // Held while we look, or the refresher could exchange the object in between.
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        look(&self.repository, current.access, Some(current.id))
    }

    /// Takes a shared lock for who only reads, and goes on at once: without a lock it would read as well. If
    /// another turns out to exclude it, `refused` is told.
    ///
    /// # Errors
    /// As [`Repository::lock`].
    pub fn take_to_read(
        repository: &Repository,
        refused: impl FnOnce(&Error) + Send + 'static,
    ) -> Result<Self> {
        repository.config()?;
        look(repository, Access::Shared, None)?;
        let lock = write(repository, Access::Shared)?;
        let (looks, id, wait) = (repository.clone(), lock.id, settling(repository));
        Ok(Self::hold(repository, lock, move |stopped| {
            if stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                look(&looks, Access::Shared, Some(id)).inspect_err(refused)?;
            }
            Ok(())
        }))
    }

    /// Refreshes a lock that was written, once `settle` is through, until it is dropped.
    fn hold(
        repository: &Repository,
        lock: Current,
        settle: impl FnOnce(&Receiver<()>) -> Result<()> + Send + 'static,
    ) -> Self {
        let current = Arc::new(Mutex::new(lock));
        let (stop, stopped) = channel();
        let (held, object) = (repository.clone(), Arc::clone(&current));
        let refresher = std::thread::spawn(move || {
            let is_ours = settle(&stopped).is_ok();
            while is_ours && stopped.recv_timeout(REFRESH) == Err(RecvTimeoutError::Timeout) {
                let mut current = object.lock().unwrap_or_else(PoisonError::into_inner);
                // A lock that somebody may have acted against is not made to look whole again: the
                // holder must learn of it. A refresh that fails is tried again later.
                if current.require_held(&held).is_err() {
                    continue;
                }
                if let Ok(newer) = write(&held, current.access) {
                    remove(&held, current.id);
                    *current = newer;
                }
            }
            let current = object.lock().unwrap_or_else(PoisonError::into_inner);
            remove(&held, current.id);
        });
        Self {
            repository: repository.clone(),
            current,
            stop: Some(stop),
            refresher: Some(refresher),
        }
    }

    /// Fails unless the lock has kept others out all the time: a machine that slept, or a storage that
    /// was away, may have let it go stale. To be asked before every step that others must not meet, and
    /// after it: we may have been stopped in between.
    ///
    /// # Errors
    /// [`Error::LockLost`]; [`Error::Storage`].
    pub fn require_held(&self) -> Result<()> {
        // Held while we look, or the refresher could exchange the object in between.
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.require_held(&self.repository)
    }
}

impl Current {
    fn require_held(&self, repository: &Repository) -> Result<()> {
        let lost = |finding: &str| {
            Err(Error::LockLost {
                finding: finding.to_owned(),
            })
        };
        let now = repository.inner.services.clock.now();
        if now.duration_since(self.written) > LOST {
            return lost("it could not be refreshed for more than 22 minutes");
        }
        if !repository.is_there(Class::Locks, self.id)? {
            return lost("somebody has removed it");
        }
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(refresher) = self.refresher.take() {
            // It cannot panic; and if it did, the lock would go stale and say whose it was.
            let _ = refresher.join();
        }
    }
}

/// How long to wait until others must have seen a lock.
fn settling(repository: &Repository) -> Duration {
    if repository.inner.backend.lists_at_once() {
        return Duration::ZERO;
    }
    SETTLE
}

fn write(repository: &Repository, access: Access) -> Result<Current> {
    let written = repository.inner.services.clock.now();
    let file = LockFile::ours(written, access == Access::Exclusive);
    let id = repository.save_json(Class::Locks, &file)?;
    Ok(Current {
        access,
        id,
        written,
    })
}

/// Best effort: what cannot be removed goes stale, and names this process.
fn remove(repository: &Repository, id: Id) {
    let _ = repository
        .inner
        .backend
        .delete(Object::Named(Class::Locks, id));
}

/// Fails if somebody else holds a lock that excludes ours. Locks of processes that are dead for sure are
/// removed on the way.
fn look(repository: &Repository, access: Access, ours: Option<Id>) -> Result<()> {
    let listing = repository.list(Class::Locks)?;
    for (id, size) in listing.objects {
        // A lock of no bytes is what a crash in the middle of writing leaves; restic ignores it too.
        if Some(id) == ours || size == 0 {
            continue;
        }
        let lock: LockFile = match repository.load_json(Class::Locks, id) {
            Ok(lock) => lock,
            // Removed between listing and reading: no longer anybody's.
            Err(Error::Storage { .. }) if !repository.is_there(Class::Locks, id)? => continue,
            Err(cause) => {
                return Err(Error::Locked {
                    holder: format!("a lock that cannot be read ({cause})"),
                });
            }
        };
        let now = repository.inner.services.clock.now();
        if lock.standing(now) == Standing::Dead {
            remove(repository, id);
        } else if lock.exclusive || access == Access::Exclusive {
            return Err(Error::Locked {
                holder: lock.holder(now),
            });
        }
    }
    Ok(())
}

/// What is there while nobody holds a lock. Where there is no room for a lock of our own, two of them that are
/// the same say that nobody worked here in between: who does has a lock still, or has left an index or a
/// snapshot.
#[derive(Debug, PartialEq, Eq)]
pub struct Alone {
    index: Listing,
    snapshots: Listing,
}

impl Alone {
    /// Looks.
    ///
    /// # Errors
    /// [`Error::Locked`] if anybody holds a lock, of whatever kind; [`Error::Storage`].
    pub fn look(repository: &Repository) -> Result<Self> {
        look(repository, Access::Exclusive, None)?;
        Self::list(repository)
    }

    /// The same for who holds the lock.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn list(repository: &Repository) -> Result<Self> {
        Ok(Self {
            index: repository.list(Class::Index)?,
            snapshots: repository.list(Class::Snapshots)?,
        })
    }

    /// A snapshot is gone by our own hand.
    pub fn forget(&mut self, snapshot: Id) {
        self.snapshots.objects.retain(|(id, _)| *id != snapshot);
    }
}
