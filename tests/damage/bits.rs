//! Every single bit of a small repository, flipped in turn.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tillsafe::backend::{Backend, Class, MemBackend, Object};
use tillsafe::repository::pack::BlobKind;

use super::{Small, add_key, full_check, named, objects_of, open};
use crate::common::library::{self, PASSWORD};

/// What became of the flips in one kind of bytes.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    flips: usize,
    found: usize,
    without_loss: usize,
    /// Files lost by one flip, at most, each counted in every snapshot.
    most_lost: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.flips += other.flips;
        self.found += other.found;
        self.without_loss += other.without_loss;
        self.most_lost = self.most_lost.max(other.most_lost);
    }
}

/// The kind of the byte at `offset`, for the table.
fn class(small: &Small, object: Object, offset: usize) -> &'static str {
    match object {
        Object::Config => "config",
        Object::Named(Class::Keys, _) => "key",
        Object::Named(Class::Locks, _) => "lock",
        Object::Named(Class::Snapshots, _) => "snapshot",
        Object::Named(Class::Index, _) => "index",
        Object::Named(Class::Data, _) => {
            let blobs = &small.packs[&object];
            let hit = |start: u32, length: u32| {
                (start as usize..(start + length) as usize).contains(&offset)
            };
            match blobs.iter().find(|blob| hit(blob.offset, blob.length)) {
                Some(blob) if blob.kind == BlobKind::Data => "pack: content of a file",
                Some(_) => "pack: a folder",
                None => "pack: its header",
            }
        }
    }
}

/// Flips one bit, checks, reads all that can be read, and flips it back. One bit of each byte is also
/// gone through by whole restores, to `folder`.
fn flip(
    small: &Small,
    backend: &Arc<MemBackend>,
    (object, offset, bit): (Object, usize, u8),
    folder: &Path,
) -> Tally {
    let what = format!("{object}, byte {offset}, bit {bit}");
    assert!(backend.damage(object, |bytes| bytes[offset] ^= 1 << bit));
    let repository = open(backend, small.password_beside(object))
        .unwrap_or_else(|cause| panic!("{what}: {cause}"));
    let report = full_check(&repository);
    assert_eq!(named(&report), [object.to_string()], "{what}");
    let mut expected = small.lost_with(object, |blob| {
        let start = blob.offset as usize;
        (start..start + blob.length as usize).contains(&offset)
    });
    assert_eq!(small.lost_to_a_check(&report), expected, "{what}");
    if let Object::Named(Class::Snapshots, _) = object {
        expected = small.files_of(object);
    }
    assert_eq!(small.lost_to_a_reader(&repository), expected, "{what}");
    if usize::from(bit) == offset % 8 {
        let lost = small.lost_to_a_restore(&repository, folder);
        assert_eq!(lost, expected, "{what}");
    }
    assert_eq!(report.damage[0].costs_data, !expected.is_empty(), "{what}");
    assert!(backend.damage(object, |bytes| bytes[offset] ^= 1 << bit));
    Tally {
        flips: 1,
        found: 1,
        without_loss: usize::from(expected.is_empty()),
        most_lost: expected.len(),
    }
}

#[test]
fn every_flipped_bit_is_found_and_costs_only_what_lies_on_it() {
    let small = Small::make();
    let bytes: Vec<(Object, usize)> = small
        .objects
        .iter()
        .flat_map(|(object, bytes)| (0..bytes.len()).map(move |offset| (*object, offset)))
        .collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let backend = small.copy();
        // In memory, where syncing costs nothing.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
        while let Some((object, offset)) = bytes.get(next.fetch_add(1, Ordering::Relaxed)) {
            let tally = tallies.entry(class(&small, *object, *offset)).or_default();
            for bit in 0..8 {
                let place = (*object, *offset, bit);
                tally.add(flip(&small, &backend, place, folder.path()));
            }
        }
        tallies
    };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let mut all: BTreeMap<&str, Tally> = BTreeMap::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            for (class, tally) in thread.join().unwrap() {
                all.entry(class).or_default().add(tally);
            }
        }
    });
    println!("{} bytes, {} files", bytes.len(), small.files.len());
    for (class, tally) in &all {
        let Tally {
            flips,
            found,
            without_loss,
            most_lost,
        } = tally;
        println!(
            "{class}: {flips} flips, {found} found; {without_loss} lose nothing, the others at most {most_lost} of {} files",
            small.files.len()
        );
    }
    assert_eq!(all.len(), 8, "every class");
    let flips: usize = all.values().map(|tally| tally.flips).sum();
    assert_eq!(flips, bytes.len() * 8);
}

/// Two keys with one password, and a single key: how much a flip in it costs.
#[test]
fn a_flipped_bit_in_a_key_costs_nothing_while_another_opens() {
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
    library::create(&backend);
    let alone = objects_of(backend.as_ref());
    add_key(&backend, PASSWORD);
    let both = objects_of(backend.as_ref());
    let (mut flips, mut opened_alone) = (0, 0);
    for (count, objects) in [(1, alone), (2, both)] {
        let copy = Arc::new(MemBackend::default());
        for (object, bytes) in &objects {
            copy.put_new(*object, bytes).unwrap();
        }
        let is_key = |object: &Object| matches!(object, Object::Named(Class::Keys, _));
        for (object, bytes) in objects.iter().filter(|(object, _)| is_key(object)) {
            for offset in 0..bytes.len() {
                for bit in 0..8 {
                    copy.damage(*object, |bytes| bytes[offset] ^= 1 << bit);
                    let opens = open(&copy, PASSWORD).is_ok();
                    assert!(opens || count == 1, "{object}, byte {offset}, bit {bit}");
                    if count == 1 {
                        flips += 1;
                        opened_alone += usize::from(opens);
                    }
                    copy.damage(*object, |bytes| bytes[offset] ^= 1 << bit);
                }
            }
        }
    }
    println!("a key alone: {flips} flips, {opened_alone} of them open all the same");
    assert!(opened_alone > 0 && opened_alone < flips);
}
