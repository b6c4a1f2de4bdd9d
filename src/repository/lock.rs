//! restic's locks: objects that say who works here. Ours is shared; an exclusive one stops us.
//!
//! The order is restic's: look, write, wait, look again. Whoever wrote second sees the first.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Repository;
use crate::backend::{Class, Object};
use crate::error::{Error, Result};
use crate::id::Id;

/// How long both sides wait before they look again.
const SETTLE: Duration = Duration::from_millis(200);
/// How often a lock is written anew.
const REFRESH: Duration = Duration::from_mins(5);
/// A lock not refreshed for so long is nobody's.
const STALE: SignedDuration = SignedDuration::from_mins(30);
/// A holder that could not refresh for so long gives up: others may soon take its lock for stale.
const LOST: SignedDuration = SignedDuration::from_mins(22);

/// A lock object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LockFile {
    time: Timestamp,
    exclusive: bool,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    pid: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
}

impl LockFile {
    fn ours(time: Timestamp) -> Self {
        let id = |number: u32| (number != 0).then_some(number);
        Self {
            time,
            exclusive: false,
            hostname: host_name(),
            username: user_name(),
            pid: rustix::process::getpid().as_raw_pid(),
            uid: id(rustix::process::getuid().as_raw()),
            gid: id(rustix::process::getgid().as_raw()),
        }
    }

    /// Whether it was left by a process of this machine that is gone. A holder may live in a container
    /// that shares the machine's name but not its process numbers, so the lock must be stale as well.
    fn is_left_over(&self, now: Timestamp) -> bool {
        self.is_gone() && self.is_stale(now)
    }

    /// Whether its process was one of this machine, and no longer runs.
    fn is_gone(&self) -> bool {
        self.hostname == host_name()
            && self.pid > 0
            && rustix::process::Pid::from_raw(self.pid).is_some_and(|pid| {
                rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
            })
    }

    fn is_stale(&self, now: Timestamp) -> bool {
        now.duration_since(self.time) > STALE
    }

    fn holder(&self, now: Timestamp) -> String {
        let stale = if self.is_gone() {
            ", which no longer runs here"
        } else if self.is_stale(now) {
            ", long not refreshed: probably left by a crash"
        } else {
            ""
        };
        format!(
            "{} on {}, process {}, since {:.0}{stale}",
            self.username, self.hostname, self.pid, self.time
        )
    }
}

/// The name of this machine.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The name of the user we run as, or the number if it has none.
#[must_use]
pub fn user_name() -> String {
    let uid = rustix::process::getuid().as_raw();
    uzers::get_user_by_uid(uid).map_or_else(
        || uid.to_string(),
        |user| user.name().to_string_lossy().into_owned(),
    )
}

/// A shared lock, held until it is dropped. It is refreshed behind our back.
#[derive(Debug)]
pub struct SharedLock {
    repository: Repository,
    current: Arc<Mutex<Current>>,
    stop: Option<Sender<()>>,
    refresher: Option<JoinHandle<()>>,
}

/// The object that stands for us now.
#[derive(Debug, Clone, Copy)]
struct Current {
    id: Id,
    written: Timestamp,
}

impl SharedLock {
    /// Takes a shared lock.
    ///
    /// # Errors
    /// [`Error::Locked`] if somebody holds an exclusive one; [`Error::Storage`].
    pub(super) fn take(repository: &Repository) -> Result<Self> {
        repository.config()?;
        look(repository, None)?;
        let lock = write(repository)?;
        repository.inner.services.clock.sleep(SETTLE);
        if let Err(cause) = look(repository, Some(lock.id)) {
            remove(repository, lock.id);
            return Err(cause);
        }
        let current = Arc::new(Mutex::new(lock));
        let (stop, stopped) = channel();
        let (held, object) = (repository.clone(), Arc::clone(&current));
        let refresher = std::thread::spawn(move || {
            while stopped.recv_timeout(REFRESH) == Err(RecvTimeoutError::Timeout) {
                let mut current = object.lock().unwrap_or_else(PoisonError::into_inner);
                // A lock that somebody may have acted against is not made to look whole again: the
                // holder must learn of it. A refresh that fails is tried again later.
                if current.require_held(&held).is_err() {
                    continue;
                }
                if let Ok(newer) = write(&held) {
                    remove(&held, current.id);
                    *current = newer;
                }
            }
            let current = object.lock().unwrap_or_else(PoisonError::into_inner);
            remove(&held, current.id);
        });
        Ok(Self {
            repository: repository.clone(),
            current,
            stop: Some(stop),
            refresher: Some(refresher),
        })
    }

    /// Fails unless the lock has kept others from pruning all the time: a machine that slept, or a
    /// storage that was away, may have let it go stale.
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
        if !is_there(repository, self.id)? {
            return lost("somebody has removed it");
        }
        Ok(())
    }
}

impl Drop for SharedLock {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(refresher) = self.refresher.take() {
            // It cannot panic; and if it did, the lock would go stale and say whose it was.
            let _ = refresher.join();
        }
    }
}

fn write(repository: &Repository) -> Result<Current> {
    let written = repository.inner.services.clock.now();
    let id = repository.save_json(Class::Locks, &LockFile::ours(written))?;
    Ok(Current { id, written })
}

/// Best effort: what cannot be removed goes stale, and names this process.
fn remove(repository: &Repository, id: Id) {
    let _ = repository
        .inner
        .backend
        .delete(Object::Named(Class::Locks, id));
}

/// Fails if somebody else holds an exclusive lock. Locks that dead processes of this machine left
/// are removed on the way.
fn look(repository: &Repository, ours: Option<Id>) -> Result<()> {
    let listing = repository.list(Class::Locks)?;
    for (id, size) in listing.objects {
        // A lock of no bytes is what a crash in the middle of writing leaves; restic ignores it too.
        if Some(id) == ours || size == 0 {
            continue;
        }
        let lock: LockFile = match repository.load_json(Class::Locks, id) {
            Ok(lock) => lock,
            // Removed between listing and reading: no longer anybody's.
            Err(Error::Storage { .. }) if !is_there(repository, id)? => continue,
            Err(cause) => {
                return Err(Error::Locked {
                    holder: format!("a lock that cannot be read ({cause})"),
                });
            }
        };
        let now = repository.inner.services.clock.now();
        if lock.is_left_over(now) {
            remove(repository, id);
        } else if lock.exclusive {
            return Err(Error::Locked {
                holder: lock.holder(now),
            });
        }
    }
    Ok(())
}

pub(super) fn is_there(repository: &Repository, id: Id) -> Result<bool> {
    let listing = repository.list(Class::Locks)?;
    Ok(listing.objects.iter().any(|(listed, _)| *listed == id))
}
