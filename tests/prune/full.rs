//! Storage that runs full in the middle, or is full from the first: what is needed stays, whoever works beside.

use std::fmt;
use std::sync::{Arc, Mutex};

use tillsafe::backend::MemBackend;
use tillsafe::backend::{Backend, Class, Error, Listing, Object, Result};
use tillsafe::error::{Error as Failure, ExitCode};
use tillsafe::monitor::Quiet;
use tillsafe::repository::prune::prune;

use super::{AT_ONCE, History, Skewed, open_at, prune_at};
use crate::common::library::{back_up, create, snapshots};
use crate::common::passed_on::passed_on;
use crate::common::shop::noise;

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
    passed_on!(backend: location create get get_range delete);

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

    fn list(&self, class: Class) -> Result<Listing> {
        let listing = self.backend.list(class);
        if class == Class::Data
            && let Some(act) = self.meanwhile.lock().unwrap().take()
        {
            act();
        }
        listing
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

/// Storage in which so many bytes are free.
#[derive(Debug)]
struct Disk {
    backend: Arc<dyn Backend>,
    free: Mutex<u64>,
}

impl Disk {
    fn of(backend: &Arc<dyn Backend>, free: u64) -> Arc<dyn Backend> {
        Arc::new(Self {
            backend: Arc::clone(backend),
            free: Mutex::new(free),
        })
    }
}

impl Backend for Disk {
    passed_on!(backend: location create get get_range list);

    fn put_new(&self, object: Object, bytes: &[u8]) -> Result<()> {
        let mut free = self.free.lock().unwrap();
        let left = free.checked_sub(bytes.len() as u64);
        let left = left.ok_or_else(|| Error::Full(format!("{free} bytes are free")))?;
        self.backend.put_new(object, bytes)?;
        *free = left;
        Ok(())
    }

    fn delete(&self, object: Object) -> Result<()> {
        let bytes = self.backend.get(object, u64::MAX)?.len() as u64;
        self.backend.delete(object)?;
        *self.free.lock().unwrap() += bytes;
        Ok(())
    }
}

fn bytes_in(backend: &Arc<dyn Backend>) -> u64 {
    let packs = backend.list(Class::Data).unwrap().objects;
    packs.into_iter().map(|(_, bytes)| bytes).sum()
}

/// A repository of one snapshot. The first pack holds much that only a forgotten one needed; what the second
/// one needed alone is little, in packs of its own.
fn half_needed() -> History {
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
    create(&backend);
    let mut history = History::on(backend);
    // So much that what is said is not true by its margin alone.
    std::fs::write(history.folder.join("large.bin"), noise(51, 600_000)).unwrap();
    let first = history.back_up();
    let small = history.folder.join("small.bin");
    std::fs::write(&small, noise(50, 5000)).unwrap();
    let second = history.back_up();
    for path in [small, history.folder.join("changes.bin")] {
        std::fs::remove_file(path).unwrap();
    }
    history.back_up();
    history.forget(first);
    history.forget(second);
    history
}

/// What goes as a whole goes without room; what is said of the rest is so: so much room is enough.
#[test]
fn what_takes_room_to_be_freed_is_named_and_so_much_is_enough() {
    let history = half_needed();
    let before = bytes_in(&history.backend);
    let disk = Disk::of(&history.backend, 0);
    let ended = prune_at(&disk, 0, &AT_ONCE);
    let Err(Failure::PruneNeedsRoom {
        freed_bytes,
        frees_bytes,
        needed_bytes,
    }) = ended
    else {
        panic!("{ended:?}");
    };
    let left = bytes_in(&history.backend);
    assert!(
        freed_bytes > 0 && freed_bytes == before - left,
        "{freed_bytes} of {before}, {left} left"
    );
    assert!(frees_bytes >= 120_000, "{frees_bytes}");
    assert!(
        (700_000..1_000_000).contains(&needed_bytes),
        "{needed_bytes}"
    );
    history.assert_whole("what goes whole is gone");
    // Once more, there is nothing that goes whole.
    let ended = prune_at(&Disk::of(&history.backend, 0), 0, &AT_ONCE);
    let again = matches!(&ended, Err(Failure::PruneNeedsRoom { freed_bytes: 0, .. }));
    assert!(again, "{ended:?}");
    let report = prune_at(&Disk::of(&history.backend, needed_bytes), 0, &AT_ONCE).unwrap();
    assert!(
        report.repacked_packs > 0 && report.unused_bytes == 0,
        "{report:?}"
    );
    assert!(left - bytes_in(&history.backend) >= 120_000);
    history.assert_whole("there was as much room as was said");
    // And now there is nothing more.
    let ended = prune_at(&Disk::of(&history.backend, 0), 0, &AT_ONCE);
    let nothing = Failure::NothingToFree {
        freed_bytes: 0,
        unused_bytes: 0,
    };
    assert_eq!(ended.unwrap_err().to_string(), nothing.to_string());
}

/// Whole packs make the room to store anew what is needed of others; what they held is counted.
#[test]
fn whole_packs_make_the_room_for_the_rest_and_are_counted() {
    let history = History::with_waste();
    let (before, bytes) = (history.packs() as u64, bytes_in(&history.backend));
    let report = prune_at(&Disk::of(&history.backend, 0), 0, &AT_ONCE).unwrap();
    assert!(report.repacked_packs > 0, "{report:?}");
    assert_eq!(report.unused_bytes, 0);
    assert!(report.removed_packs >= 4, "{report:?}");
    let new = history.packs() as u64 + report.removed_packs - before;
    assert!((1..=2).contains(&new), "{report:?}");
    assert_eq!(history.packs() as u64, report.kept_packs);
    assert!(bytes_in(&history.backend) < bytes);
    history.assert_whole("there was no room at first");
}
