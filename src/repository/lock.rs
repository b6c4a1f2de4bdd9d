//! restic's locks: objects that say who works here. Ours is shared; an exclusive one stops us.
//!
//! The order is restic's: look, write, wait, look again. Whoever wrote second sees the first.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
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
const STALE: Duration = Duration::from_mins(30);

/// A lock object.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LockFile {
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

    /// Whether it was left by a process of this machine that is gone.
    fn is_left_over(&self) -> bool {
        self.hostname == host_name()
            && rustix::process::Pid::from_raw(self.pid).is_some_and(|pid| {
                rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
            })
    }

    fn holder(&self, now: Timestamp) -> String {
        let stale = if now.duration_since(self.time)
            > jiff::SignedDuration::try_from(STALE).unwrap_or_default()
        {
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
    stop: Option<Sender<()>>,
    refresher: Option<JoinHandle<()>>,
}

impl SharedLock {
    /// Takes a shared lock.
    ///
    /// # Errors
    /// [`Error::Locked`] if somebody holds an exclusive one; [`Error::Storage`].
    pub(super) fn take(repository: &Repository) -> Result<Self> {
        look(repository, None)?;
        let id = write(repository)?;
        repository.services.clock.sleep(SETTLE);
        if let Err(cause) = look(repository, Some(id)) {
            remove(repository, id);
            return Err(cause);
        }
        let (stop, stopped) = channel();
        let repository = repository.clone();
        let refresher = std::thread::spawn(move || {
            let mut id = id;
            while stopped.recv_timeout(REFRESH) == Err(RecvTimeoutError::Timeout) {
                // A refresh that fails leaves the older lock, which still holds; try again later.
                if let Ok(newer) = write(&repository) {
                    remove(&repository, id);
                    id = newer;
                }
            }
            remove(&repository, id);
        });
        Ok(Self {
            stop: Some(stop),
            refresher: Some(refresher),
        })
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

fn write(repository: &Repository) -> Result<Id> {
    let lock = LockFile::ours(repository.services.clock.now());
    repository.save_json(Class::Locks, &lock)
}

/// Best effort: what cannot be removed goes stale, and names this process.
fn remove(repository: &Repository, id: Id) {
    let _ = repository.backend.delete(Object::Named(Class::Locks, id));
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
        if lock.is_left_over() {
            remove(repository, id);
        } else if lock.exclusive {
            return Err(Error::Locked {
                holder: lock.holder(repository.services.clock.now()),
            });
        }
    }
    Ok(())
}

fn is_there(repository: &Repository, id: Id) -> Result<bool> {
    let listing = repository.list(Class::Locks)?;
    Ok(listing.objects.iter().any(|(listed, _)| *listed == id))
}
