//! `unlock`: the locks that are there, and the removal of those that are nobody's.

use jiff::Timestamp;

use super::{LockFile, Standing};
use crate::backend::{Class, Object};
use crate::error::Result;
use crate::id::Id;
use crate::repository::{Repository, finding};

/// A lock that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLock {
    /// Its object.
    pub id: Id,
    /// Who holds it, or why that cannot be read.
    pub holder: String,
    /// When it was written last; nothing if it cannot be read.
    pub time: Option<Timestamp>,
    /// Whether its holder lives; nothing if it cannot be read.
    pub standing: Option<Standing>,
}

impl Repository {
    /// The locks that are there, in the order of their names.
    ///
    /// # Errors
    /// [`crate::error::Error::Storage`] if they cannot be listed.
    pub fn locks(&self) -> Result<Vec<FoundLock>> {
        let now = self.inner.services.clock.now();
        let mut found = Vec::new();
        for (id, _) in self.list(Class::Locks)?.objects {
            found.push(match self.load_json::<LockFile>(Class::Locks, id) {
                Ok(lock) => FoundLock {
                    id,
                    holder: lock.holder(now),
                    time: Some(lock.time),
                    // Its owner asks: then the machine's name is believed, as restic believes it.
                    standing: Some(if lock.is_unknown_here() {
                        Standing::Dead
                    } else {
                        lock.standing(now)
                    }),
                },
                Err(cause) => FoundLock {
                    id,
                    holder: finding(&cause),
                    time: None,
                    standing: None,
                },
            });
        }
        Ok(found)
    }

    /// Removes a lock. One that is gone already is no failure.
    ///
    /// # Errors
    /// [`crate::error::Error::Storage`].
    pub fn remove_lock(&self, id: Id) -> Result<()> {
        self.remove(Object::Named(Class::Locks, id))
    }
}
