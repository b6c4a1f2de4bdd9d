//! `forget` where there is no room for a lock: what it says of how far it came, who else may have been there,
//! and two of them at one instant.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use tillsafe::backend::{self, Backend, Class, MemBackend, Object};
use tillsafe::durable::OsDisk;
use tillsafe::error::{Error, ExitCode, Result};
use tillsafe::forget::{Circumstances, NoRoom, Plan};
use tillsafe::id::Id;
use tillsafe::monitor::Quiet;
use tillsafe::repository::lock::{Access, Alone};
use tillsafe::retention::{HistoryFile, Moment};

use super::keep_last;
use crate::common::Place;
use crate::common::library::{back_up, create, open, snapshots};
use crate::common::passed_on::passed_on;

type Act = Box<dyn FnMut(&Arc<dyn Backend>, usize, When) -> backend::Result<()> + Send>;

/// Around a removal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    After,
}

/// Storage that has no room until so many objects are removed; somebody acts around each removal.
struct Full {
    backend: Arc<dyn Backend>,
    room_after: usize,
    removed: Mutex<usize>,
    act: Mutex<Act>,
}

impl fmt::Debug for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("full")
    }
}

impl Backend for Full {
    passed_on!(backend: location create get get_range list);

    fn put_new(&self, object: Object, bytes: &[u8]) -> backend::Result<()> {
        if *self.removed.lock().unwrap() < self.room_after {
            return Err(backend::Error::Full("0 bytes are free".to_owned()));
        }
        self.backend.put_new(object, bytes)
    }

    fn delete(&self, object: Object) -> backend::Result<()> {
        if !matches!(object, Object::Named(Class::Snapshots, _)) {
            return self.backend.delete(object);
        }
        let number = *self.removed.lock().unwrap();
        let act = &mut *self.act.lock().unwrap();
        act(&self.backend, number, When::Before)?;
        self.backend.delete(object)?;
        *self.removed.lock().unwrap() += 1;
        act(&self.backend, number, When::After)
    }
}

/// Seven snapshots, one a day; what each rule would remove is the oldest.
struct Scene {
    place: Place,
    backend: Arc<dyn Backend>,
}

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
        create(&backend);
        let folder = place.join("shop");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("till.txt"), "42").unwrap();
        back_up(&backend, &folder).unwrap();
        for day in 1..=6 {
            add(&backend, day);
        }
        Self { place, backend }
    }

    fn there(&self) -> BTreeSet<Id> {
        snapshots(&self.backend).iter().map(|one| one.id).collect()
    }

    /// Forgets on storage without room until `room_after` are removed, while somebody acts.
    fn forget(&self, keep: u32, room_after: usize, act: Act) -> Result<()> {
        let full: Arc<dyn Backend> = Arc::new(Full {
            backend: Arc::clone(&self.backend),
            room_after,
            removed: Mutex::new(0),
            act: Mutex::new(act),
        });
        forget(&full, keep, self.place.path(), || {})
    }
}

/// One more, made so many days ago.
fn add(backend: &Arc<dyn Backend>, days: i64) {
    let newest = snapshots(backend).pop().unwrap();
    let mut file = newest.file;
    file.time -= SignedDuration::from_hours(24 * days);
    open(backend).unwrap().save_snapshot(file).unwrap();
}

/// As the command does it; `meanwhile` once it is decided what goes.
fn forget(
    backend: &Arc<dyn Backend>,
    keep: u32,
    folder: &Path,
    meanwhile: impl FnOnce(),
) -> Result<()> {
    let quiet = Quiet::default();
    let repository = open(backend)?;
    let file = HistoryFile::new(&folder.join("state"), &repository.config()?.id);
    let cause = repository.lock(Access::Exclusive, &quiet).unwrap_err();
    let seen = Alone::look(&repository)?;
    let found = repository.snapshots(&quiet)?;
    let none = BTreeSet::new();
    let selected = found.readable.iter().map(|one| one.id).collect();
    let circumstances = Circumstances {
        snapshots: &found,
        proven: &none,
        hollow: &none,
        history: file.read(&OsDisk)?.history(),
        moment: Moment {
            now: Timestamp::now(),
            trust_history: false,
        },
    };
    let plan = Plan::by_policy(&keep_last(keep), &selected, circumstances);
    meanwhile();
    let room = NoRoom { cause, seen };
    plan.execute_without_room(&repository, room, &file, &OsDisk, &quiet, &mut |_| {})
}

fn nobody() -> Act {
    Box::new(|_, _, _| Ok(()))
}

fn stopped(ended: Result<()>) -> (u64, u64, Error) {
    match ended {
        Err(Error::RemovalStopped {
            removed,
            count,
            cause,
        }) => (removed, count, *cause),
        other => panic!("{other:?}"),
    }
}

#[test]
fn with_and_without_room_the_same_is_removed_and_nothing_to_remove_is_said() {
    for room_after in [1, 3, 99] {
        let scene = Scene::new();
        scene.forget(2, room_after, nobody()).unwrap();
        assert_eq!(scene.there().len(), 2, "{room_after}");
    }
    let scene = Scene::new();
    let cause = scene.forget(9, 99, nobody()).unwrap_err();
    assert!(matches!(cause, Error::NothingToForget), "{cause}");
    assert_eq!(cause.exit_code(), ExitCode::Storage);
    assert_eq!(scene.there().len(), 7);
}

/// What went before there was room for the lock counts too.
#[test]
fn what_it_says_of_how_far_it_came_is_so() {
    for room_after in [1, 2, 99] {
        let scene = Scene::new();
        let breaks = |_: &Arc<dyn Backend>, number: usize, when: When| {
            if (number, when) == (3, When::Before) {
                return Err(backend::Error::Denied("the disk breaks".to_owned()));
            }
            Ok(())
        };
        let (removed, count, cause) = stopped(scene.forget(2, room_after, Box::new(breaks)));
        assert_eq!((removed, count), (3, 5), "{room_after}: {cause}");
        assert_eq!(scene.there().len(), 4);
    }
}

/// Without a lock, whoever has worked here meanwhile is seen by what he has left.
#[test]
fn who_worked_here_meanwhile_stops_it() {
    // Between two removals without a lock, and where the lock comes after the first of them.
    for room_after in [99, 1] {
        let scene = Scene::new();
        let works = |backend: &Arc<dyn Backend>, number: usize, when: When| {
            if (number, when) == (0, When::After) {
                add(backend, 0);
            }
            Ok(())
        };
        let (removed, count, cause) = stopped(scene.forget(2, room_after, Box::new(works)));
        assert_eq!((removed, count), (1, 5), "{room_after}");
        assert!(matches!(cause, Error::LockLost { .. }), "{cause}");
        assert!(!cause.to_string().is_empty());
        assert_eq!(scene.there().len(), 7);
    }
    // Before the first.
    let scene = Scene::new();
    let full: Arc<dyn Backend> = Arc::new(Full {
        backend: Arc::clone(&scene.backend),
        room_after: 99,
        removed: Mutex::new(0),
        act: Mutex::new(nobody()),
    });
    let meanwhile = || add(&scene.backend, 0);
    let ended = forget(&full, 2, scene.place.path(), meanwhile);
    let (removed, _, cause) = stopped(ended);
    assert_eq!(removed, 0);
    assert!(matches!(cause, Error::LockLost { .. }), "{cause}");
    assert_eq!(scene.there().len(), 8);
}

/// Two that have both looked before either removes anything: each removes what it has decided upon, and the
/// one that comes second sees that it is not alone before it removes another.
#[test]
fn of_two_at_one_instant_what_both_keep_stays_and_one_of_them_stops() {
    for (ours, theirs) in [(2, 5), (5, 2), (3, 3)] {
        let scene = Scene::new();
        let before = scene.there();
        let state = scene.place.join("other");
        let together = move |backend: &Arc<dyn Backend>, number: usize, when: When| {
            if (number, when) == (0, When::Before) {
                let full: Arc<dyn Backend> = Arc::new(Full {
                    backend: Arc::clone(backend),
                    room_after: 99,
                    removed: Mutex::new(0),
                    act: Mutex::new(nobody()),
                });
                forget(&full, theirs, &state, || {}).unwrap();
            }
            Ok(())
        };
        let ended = scene.forget(ours, 99, Box::new(together));
        let there = scene.there();
        let newest: Vec<Id> = snapshots(&scene.backend).iter().map(|one| one.id).collect();
        assert!(there.is_subset(&before));
        // What the milder of them keeps may go by the other alone; what both keep is there.
        let both = ours.min(theirs) as usize;
        assert!(newest.len() >= both, "{ours} {theirs}: {newest:?}");
        let (removed, _, cause) = stopped(ended);
        assert!(removed <= 1, "{cause}");
        assert_eq!(
            newest.len(),
            theirs as usize - usize::from(removed == 1 && ours < theirs),
            "{ours} {theirs} {removed}"
        );
    }
}
