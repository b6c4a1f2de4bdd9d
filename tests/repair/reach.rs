//! What could not be reached may be whole, and a lock that is lost is no lock: both stop a repair.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tillsafe::backend::{self, Backend, Class, MemBackend, Object};
use tillsafe::error::{Error, ExitCode};
use tillsafe::id::Id;
use tillsafe::monitor::{Monitor, Problem, Progress, Quiet, Step};
use tillsafe::repository::Repository;
use tillsafe::repository::index::Location;
use tillsafe::repository::pack::{BlobKind, PackedBlob};
use tillsafe::repository::prune::{MaxUnused, Options, prune};

use super::matrix::unlocked;
use super::{assert_nothing_given_up, content, index, packs, restorable, snapshots};
use crate::common::library;
use crate::common::passed_on::passed_on;
use crate::common::recording::Recording;
use crate::damage::{Small, full_check};

fn location(pack: Object, blob: &PackedBlob) -> Location {
    let Object::Named(_, pack) = pack else {
        panic!("it is a pack");
    };
    Location { pack, blob: *blob }
}

/// A pack of a kind that holds several blobs.
fn large(small: &Small, kind: BlobKind) -> (Object, &[PackedBlob]) {
    let of_kind = small
        .packs
        .iter()
        .filter(|(_, blobs)| blobs[0].kind == kind);
    let (pack, blobs) = of_kind.max_by_key(|(_, blobs)| blobs.len()).unwrap();
    assert!(blobs.len() > 1);
    (*pack, blobs)
}

/// A cable that is out for one blob, and a flipped bit in another of the same pack.
#[test]
fn a_pack_of_which_a_part_is_out_of_reach_stays() {
    let small = Small::make();
    let backend: Arc<dyn Backend> = unlocked(&small);
    let (pack, blobs) = large(&small, BlobKind::Data);
    let recording = Recording::of(&backend);
    recording.damage(&[location(pack, &blobs[0])]);
    recording.take_away(&location(pack, &blobs[1]));
    let hurt: Arc<dyn Backend> = Arc::clone(&recording) as Arc<dyn Backend>;
    let repository = library::open(&hurt).unwrap();
    let report = packs(&repository, None, false).unwrap();
    assert!(
        !report.all_mended && report.removed_packs == 0,
        "{report:?}"
    );
    assert_eq!(
        report.saved_blobs,
        blobs.len() as u64 - 2,
        "what is whole is safe now"
    );
    assert!(backend.get(pack, 1 << 20).is_ok());
    // Once more stores nothing twice.
    assert_eq!(packs(&repository, None, false).unwrap().saved_blobs, 0);
    // The cable is in again, and the bit was never on the disk.
    let repository = library::open(&backend).unwrap();
    assert_eq!(restorable(&repository).len(), 6);
    assert_eq!(full_check(&repository).damage, []);
}

#[test]
fn a_header_out_of_reach_costs_no_entry_of_the_index() {
    let small = Small::make();
    let backend: Arc<dyn Backend> = unlocked(&small);
    let before = content(backend.as_ref());
    let (pack, blobs) = large(&small, BlobKind::Tree);
    let last = blobs.last().unwrap();
    let header = PackedBlob {
        offset: last.offset + last.length,
        length: 4,
        ..*last
    };
    let recording = Recording::of(&backend);
    recording.take_away(&location(pack, &header));
    let hurt: Arc<dyn Backend> = recording;
    let repository = library::open(&hurt).unwrap();
    assert!(
        index(&repository, false).unwrap().all_mended,
        "nobody asked it"
    );
    assert_eq!(content(backend.as_ref()), before);
    // Without the index nobody can tell what is in it: no file is removed that might.
    for index in small.of_class(Class::Index) {
        backend.delete(index).unwrap();
    }
    let report = index(&repository, false).unwrap();
    assert!(!report.all_mended, "{report:?}");
    assert!(backend.get(pack, 1 << 20).is_ok());
    let repository = library::open(&backend).unwrap();
    index(&repository, false).unwrap();
    assert_eq!(restorable(&repository).len(), 6);
}

const AT_ONCE: Options = Options {
    now: true,
    max_unused: MaxUnused::Unlimited,
    dry_run: false,
};

/// The repository while the header of one pack cannot be reached.
fn without_header(backend: &Arc<dyn Backend>, pack: Object, blobs: &[PackedBlob]) -> Repository {
    let last = blobs.last().unwrap();
    let header = PackedBlob {
        offset: last.offset + last.length,
        length: 4,
        ..*last
    };
    let recording = Recording::of(backend);
    recording.take_away(&location(pack, &header));
    let hurt: Arc<dyn Backend> = recording;
    library::open(&hurt).unwrap()
}

/// What an index says may be less than a pack holds, so its header is asked before it goes.
#[test]
fn a_pack_leaves_only_once_its_header_was_reached() {
    let small = Small::make();
    let mut refusals = 0;
    for (pack, blobs) in &small.packs {
        let backend: Arc<dyn Backend> = unlocked(&small);
        backend.delete(small.of_class(Class::Snapshots)[0]).unwrap();
        let before = content(backend.as_ref());
        let repository = without_header(&backend, *pack, blobs);
        if let Err(cause) = prune(&repository, &AT_ONCE, &Quiet::default()) {
            assert_eq!(cause.exit_code(), ExitCode::Storage, "{cause}");
            assert_eq!(content(backend.as_ref()), before);
            refusals += 1;
        }
        assert!(backend.get(*pack, 1 << 20).is_ok());
    }
    assert!(refusals > 0, "some pack leaves");
}

/// Nobody knows what it holds: it is neither removed nor marked, not even when its owner names it.
#[test]
fn a_pack_in_no_index_whose_header_is_out_of_reach_stays() {
    let small = Small::make();
    let backend: Arc<dyn Backend> = unlocked(&small);
    let (pack, blobs) = large(&small, BlobKind::Tree);
    for index in small.of_class(Class::Index) {
        backend.delete(index).unwrap();
    }
    let repository = without_header(&backend, pack, blobs);
    let told = Told::default();
    // Snapshots need what is in it: then nothing goes at all.
    assert!(prune(&repository, &AT_ONCE, &told).is_err());
    let said = told.0.lock().unwrap().join("\n");
    assert!(said.contains("could not be reached"), "{said}");
    let Object::Named(_, id) = pack else {
        panic!("it is a pack");
    };
    let named = packs(&repository, Some(&BTreeSet::from([id])), false).unwrap();
    assert!(!named.all_mended && named.removed_packs == 0, "{named:?}");
    // Nor once nobody seems to need it.
    for snapshot in small.of_class(Class::Snapshots) {
        backend.delete(snapshot).unwrap();
    }
    prune(&repository, &AT_ONCE, &Quiet::default()).unwrap();
    assert!(backend.get(pack, 1 << 20).is_ok());
    assert_eq!(backend.list(Class::Data).unwrap().objects.len(), 1);
}

/// What is told to whoever watches.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

impl Monitor for Told {
    fn step(&self, _step: Step, _bytes: Option<u64>) {}

    fn progress(&self, _progress: Progress) {}

    fn problem(&self, problem: Problem) {
        self.0.lock().unwrap().push(problem.finding);
    }

    fn signal(&self) -> Option<i32> {
        None
    }
}

/// A folder that cannot be reached is not left out of a snapshot.
#[test]
fn a_folder_out_of_reach_is_not_lost() {
    let small = Small::make();
    let backend: Arc<dyn Backend> = unlocked(&small);
    let before = content(backend.as_ref());
    let (pack, blobs) = large(&small, BlobKind::Tree);
    for blob in blobs {
        let recording = Recording::of(&backend);
        recording.take_away(&location(pack, blob));
        let hurt: Arc<dyn Backend> = recording;
        let repository = library::open(&hurt).unwrap();
        let refused = snapshots(&repository, true, false).unwrap_err();
        assert_eq!(refused.exit_code(), ExitCode::Storage, "{refused}");
        assert_eq!(content(backend.as_ref()), before);
    }
}

/// Storage on which somebody removes all locks at the moment of an operation.
#[derive(Debug)]
struct Thief {
    backend: Arc<MemBackend>,
    /// Of a class, and whether it is a removal.
    at: (Class, bool),
    stolen: AtomicBool,
}

impl Thief {
    fn steal(&self, object: Object, is_removal: bool) {
        let is_at = matches!(object, Object::Named(class, _) if (class, is_removal) == self.at);
        if is_at && !self.stolen.swap(true, Ordering::SeqCst) {
            for (lock, _) in self.backend.list(Class::Locks).unwrap().objects {
                self.backend
                    .delete(Object::Named(Class::Locks, lock))
                    .unwrap();
            }
        }
    }
}

impl Backend for Thief {
    passed_on!(backend: location create get get_range list);

    fn put_new(&self, object: Object, bytes: &[u8]) -> backend::Result<()> {
        self.backend.put_new(object, bytes)?;
        self.steal(object, false);
        Ok(())
    }

    fn delete(&self, object: Object) -> backend::Result<()> {
        self.backend.delete(object)?;
        self.steal(object, true);
        Ok(())
    }
}

#[test]
fn a_lock_that_is_lost_stops_a_repair_and_takes_its_index_back() {
    let small = Small::make();
    for (at, word) in [
        ((Class::Index, false), "index"),
        ((Class::Index, true), "index"),
        ((Class::Data, false), "packs"),
        ((Class::Index, false), "packs"),
        ((Class::Data, true), "packs"),
        ((Class::Index, true), "packs"),
        ((Class::Data, false), "snapshots"),
        ((Class::Index, false), "snapshots"),
        ((Class::Snapshots, false), "snapshots"),
        ((Class::Snapshots, true), "snapshots"),
    ] {
        let what = format!("{word}, {at:?}");
        let backend = unlocked(&small);
        if word == "index" {
            for index in small.of_class(Class::Index) {
                backend.delete(index).unwrap();
            }
            let none = Object::Named(Class::Index, Id::of(b"an index"));
            backend.put_new(none, b"no index").unwrap();
        } else {
            let (pack, _) = large(&small, BlobKind::Data);
            backend.damage(pack, |bytes| bytes[20] ^= 1);
        }
        if word == "snapshots" {
            let shared: Arc<dyn Backend> = Arc::clone(&backend) as Arc<dyn Backend>;
            packs(&library::open(&shared).unwrap(), None, false).unwrap();
        }
        let before = content(backend.as_ref());
        let thief = Arc::new(Thief {
            backend: Arc::clone(&backend),
            at,
            stolen: AtomicBool::new(false),
        });
        let shared: Arc<dyn Backend> = Arc::clone(&thief) as Arc<dyn Backend>;
        let repository = library::open(&shared).unwrap();
        let whole = restorable(&repository);
        let result = match word {
            "index" => index(&repository, false).map(drop),
            "packs" => packs(&repository, None, false).map(drop),
            _ => snapshots(&repository, true, false).map(drop),
        };
        assert!(thief.stolen.load(Ordering::SeqCst), "{what}");
        assert!(
            matches!(result, Err(Error::LockLost { .. })),
            "{what}: {result:?}"
        );
        assert_nothing_given_up(&whole, &restorable(&repository), &what);
        let after = content(backend.as_ref());
        if at == (Class::Index, false) && word == "index" {
            assert_eq!(after, before, "{what}: taken back");
        }
        let removed = before.keys().filter(|object| !after.contains_key(object));
        // A pack goes before the index file that named it.
        let allowed = 1 + usize::from(word == "packs" && at == (Class::Index, true));
        assert!(
            removed.count() <= allowed,
            "{what}: nothing goes after the lock"
        );
    }
}
