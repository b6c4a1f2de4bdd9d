//! Storage that runs full in the middle, or is full from the first: what is needed stays, whoever works beside.

use std::fmt;
use std::sync::{Arc, Mutex};

use tillsafe::backend::{Backend, Class, Error, Listing, Object, Result};
use tillsafe::error::ExitCode;
use tillsafe::monitor::Quiet;
use tillsafe::repository::prune::prune;

use super::{AT_ONCE, History, Skewed, open_at, prune_at};
use crate::common::library::{back_up, snapshots};

/// What somebody does meanwhile.
type Act = Box<dyn FnOnce() + Send>;

/// Storage with no room for objects of a class, or of any; somebody acts when the packs are listed.
struct Full {
    backend: Arc<dyn Backend>,
    class: Option<Class>,
    meanwhile: Mutex<Option<Act>>,
}

impl fmt::Debug for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("full")
    }
}

impl Backend for Full {
    fn location(&self) -> String {
        self.backend.location()
    }

    fn create(&self) -> Result<()> {
        self.backend.create()
    }

    fn put_new(&self, object: Object, bytes: &[u8]) -> Result<()> {
        let is_full = match (self.class, object) {
            (None, _) => true,
            (Some(full), Object::Named(class, _)) => full == class,
            (Some(_), Object::Config) => false,
        };
        if is_full {
            return Err(Error::Full("0 bytes are free".to_owned()));
        }
        self.backend.put_new(object, bytes)
    }

    fn get(&self, object: Object, limit: u64) -> Result<Vec<u8>> {
        self.backend.get(object, limit)
    }

    fn get_range(&self, object: Object, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.backend.get_range(object, offset, length)
    }

    fn list(&self, class: Class) -> Result<Listing> {
        let listing = self.backend.list(class);
        if class == Class::Data
            && let Some(act) = self.meanwhile.lock().unwrap().take()
        {
            act();
        }
        listing
    }

    fn delete(&self, object: Object) -> Result<()> {
        self.backend.delete(object)
    }
}

fn full(
    backend: &Arc<dyn Backend>,
    class: Option<Class>,
    meanwhile: Option<Act>,
) -> Arc<dyn Backend> {
    Arc::new(Full {
        backend: Arc::clone(backend),
        class,
        meanwhile: Mutex::new(meanwhile),
    })
}

#[test]
fn a_storage_that_runs_full_while_packs_are_stored_anew_loses_nothing() {
    let history = History::with_waste();
    let packs = full(&history.backend, Some(Class::Data), None);
    let cause = prune_at(&packs, 0, &AT_ONCE).unwrap_err();
    assert_eq!(cause.exit_code(), ExitCode::Storage, "{cause}");
    history.assert_whole("it ran full");
    let before = history.packs();
    let report = history.prune(0, &AT_ONCE);
    assert!(report.repacked_packs > 0, "{report:?}");
    assert!(history.packs() <= before);
    history.assert_whole("there is room again");
}

/// No room for a lock: whoever backs up at that moment is seen by the index and the snapshot that are new.
#[test]
fn who_backs_up_while_room_is_made_without_a_lock_loses_nothing() {
    let history = History::with_waste();
    let (backend, folder) = (Arc::clone(&history.backend), history.folder.clone());
    let before = snapshots(&backend).len();
    let act: Act = Box::new(move || {
        back_up(&backend, &folder).unwrap();
    });
    let storage = full(&history.backend, None, Some(act));
    // Nothing will ever be written there: it ends for want of room, at best.
    let repository = open_at(&storage, &Skewed::by(0));
    let ended = prune(&repository, &AT_ONCE, &Quiet::default());
    if let Err(cause) = &ended {
        assert_eq!(cause.exit_code(), ExitCode::Storage, "{cause}");
    }
    assert_eq!(snapshots(&history.backend).len(), before + 1);
    // Somebody makes room: what was found by its header alone is named again.
    history.prune(0, &AT_ONCE);
    history.assert_whole("a backup came in between");
}
