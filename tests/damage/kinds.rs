//! Each kind of repository file, hurt in each way: flipped, cut, extended, emptied, deleted.

use std::collections::BTreeSet;
use std::sync::Arc;

use tillsafe::backend::{self, Backend, Class, Listing, MemBackend, Object};
use tillsafe::entry::Kind;
use tillsafe::error::{Error, ExitCode};
use tillsafe::id::Id;
use tillsafe::monitor::Quiet;
use tillsafe::repository::check::{Extent, check};
use tillsafe::repository::index::IndexedPack;
use tillsafe::repository::lock::Access;
use tillsafe::repository::pack::{BlobKind, PackedBlob};
use tillsafe::repository::tree::Content;
use tillsafe::repository::tree_writer::store_tree;
use tillsafe::repository::writer::Writer;
use tillsafe::repository::{Found, Repository, what_is_there};
use tillsafe::rng::SystemRng;

use super::{OTHER, Small, Where, full_check, named, open, secret};
use crate::common::library::{self, PASSWORD, services};
use crate::common::passed_on::passed_on;

/// A way to hurt a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum How {
    Flip,
    Cut,
    Extend,
    Empty,
    Delete,
}
use How::{Cut, Delete, Empty, Extend, Flip};

pub const WAYS: [How; 5] = [Flip, Cut, Extend, Empty, Delete];

impl How {
    pub fn hurt(self, backend: &MemBackend, object: Object) {
        let done = match self {
            Flip => backend.damage(object, |bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }),
            Cut => backend.damage(object, |bytes| bytes.truncate(bytes.len() / 2)),
            Extend => backend.damage(object, |bytes| bytes.push(0)),
            Empty => backend.damage(object, Vec::clear),
            Delete => backend.delete(object).is_ok(),
        };
        assert!(done, "{object} was there");
    }

    /// Whether a blob of a pack of `length` bytes is no longer whole.
    fn hits(self, blob: &PackedBlob, length: usize) -> bool {
        let (start, half) = (blob.offset as usize, length / 2);
        let end = start + blob.length as usize;
        match self {
            Flip => (start..end).contains(&half),
            Cut => end > half,
            Extend => false,
            Empty | Delete => true,
        }
    }
}

/// What is lost with the object, as its layout says.
fn expected_loss(small: &Small, object: Object, how: How) -> BTreeSet<Where> {
    match object {
        Object::Named(Class::Snapshots, _) => small.files_of(object),
        _ => small.lost_with(object, |blob| how.hits(blob, small.objects[&object].len())),
    }
}

#[test]
fn each_kind_of_file_hurt_in_each_way() {
    let small = Small::make();
    let mut scenes = 0;
    for object in small.objects.keys() {
        for how in WAYS {
            let what = format!("{how:?} {object}");
            let backend = small.copy();
            how.hurt(&backend, *object);
            let repository = open(&backend, small.password_beside(*object)).unwrap();
            let report = full_check(&repository);
            let lost = expected_loss(&small, *object, how);
            assert_eq!(small.lost_to_a_reader(&repository), lost, "{what}");
            match (object, how) {
                // Nothing says that there was one.
                (Object::Named(Class::Keys | Class::Locks | Class::Snapshots, _), Delete) => {
                    assert!(report.damage.is_empty(), "{what}: {report:?}");
                }
                (Object::Named(Class::Index, _), Delete) => {
                    assert_eq!(named(&report), ["index"], "{what}");
                }
                _ => assert_eq!(named(&report), [object.to_string()], "{what}"),
            }
            if let [damage] = &report.damage[..] {
                assert_eq!(damage.costs_data, !lost.is_empty(), "{what}: {damage:?}");
            }
            if !matches!(object, Object::Named(Class::Snapshots, _)) {
                assert_eq!(small.lost_to_a_check(&report), lost, "{what}");
            }
            scenes += 1;
        }
    }
    assert!(scenes >= 60, "{scenes}");
    println!("{scenes} scenes");
}

#[test]
fn what_a_damaged_pack_held_is_named_by_blob_snapshot_and_path() {
    let small = Small::make();
    for (pack, blobs) in &small.packs {
        let backend = small.copy();
        let offset = blobs[0].offset as usize;
        backend.damage(*pack, |bytes| bytes[offset] ^= 1);
        let report = full_check(&open(&backend, PASSWORD).unwrap());
        let damage = &report.damage[0];
        let found: Vec<_> = damage
            .blobs
            .iter()
            .map(|blob| (blob.kind, blob.id))
            .collect();
        assert_eq!(found, [(blobs[0].kind, blobs[0].id)]);
        assert!(damage.blobs[0].lost && damage.blob_count == 1);
        assert!(damage.finding.contains(&blobs[0].id.short()), "{damage:?}");
        assert!(report.lost_paths > 0 && report.unlisted_paths == 0);
        for affected in &report.affected {
            assert!(
                affected.finding.contains(&blobs[0].id.short()),
                "{affected:?}"
            );
            assert_eq!(affected.is_folder, blobs[0].kind == BlobKind::Tree);
            // The two snapshots share one file, and of folders only the name of the root.
            let in_both = affected.path.as_os_str() == "/";
            assert_eq!(affected.intact_in.len(), usize::from(in_both));
        }
    }
}

#[test]
fn no_index_at_all_costs_nothing_and_a_backup_builds_on_nothing() {
    let small = Small::make();
    let backend = small.copy();
    for object in small.of_class(Class::Index) {
        Delete.hurt(&backend, object);
    }
    let repository = open(&backend, PASSWORD).unwrap();
    assert!(small.lost_to_a_reader(&repository).is_empty());
    let quiet = Quiet::default();
    let index = repository.load_index(&quiet).unwrap();
    let problems = quiet.problems();
    assert_eq!(problems.len(), 1, "one line: {problems:?}");
    let (sound, lost) = repository.load_sound_index(&Quiet::default()).unwrap();
    assert!(lost.is_empty());
    for blob in small.packs.values().flatten() {
        assert!(index.find(blob.kind, blob.id).is_some());
        assert!(!index.contains(blob.kind, blob.id));
        assert!(sound.find(blob.kind, blob.id).is_none());
    }
    assert_eq!(index.packs().len(), 0);
    // A second loss on top: the pack is then unknown, and what was in it is missing.
    let mut packs = small.packs.iter();
    let is_content = |blobs: &[PackedBlob]| blobs[0].kind == BlobKind::Data;
    let (pack, blobs) = packs.find(|(_, blobs)| is_content(blobs)).unwrap();
    Delete.hurt(&backend, *pack);
    let report = full_check(&repository);
    let expected = small.lost_with(*pack, |_| true);
    assert_eq!(small.lost_to_a_check(&report), expected);
    assert_eq!(small.lost_to_a_reader(&repository), expected);
    // Each blob that is missing is named with the newest snapshot that needs it.
    let missing = report.damage.iter().map(|damage| damage.blob_count);
    assert_eq!(missing.sum::<u64>(), blobs.len() as u64);
}

#[test]
fn what_an_interrupted_backup_left_worries_nobody() {
    let small = Small::make();
    let backend = small.copy();
    // The second snapshot and its index file never came.
    let repository = open(&backend, PASSWORD).unwrap();
    let snapshots = repository.snapshots(&Quiet::default()).unwrap().readable;
    Delete.hurt(&backend, Object::Named(Class::Snapshots, snapshots[1].id));
    let is_needed = |object: &Object| {
        let without = small.copy();
        Delete.hurt(&without, *object);
        let repository = open(&without, PASSWORD).unwrap();
        let (sound, _) = repository.load_sound_index(&Quiet::default()).unwrap();
        sound.find(BlobKind::Tree, snapshots[0].file.tree).is_none()
    };
    let mut indexes = small.of_class(Class::Index).into_iter();
    let second = indexes.find(|object| !is_needed(object)).unwrap();
    Delete.hurt(&backend, second);
    let quiet = Quiet::default();
    repository.load_index(&quiet).unwrap();
    assert!(quiet.problems().is_empty(), "{:?}", quiet.problems());
    let report = full_check(&repository);
    assert!(report.damage.is_empty(), "{report:?}");
    assert_eq!(report.unreferenced_packs, 2);
}

#[test]
fn a_repository_with_a_damaged_config_is_read_and_never_written() {
    let small = Small::make();
    for how in WAYS {
        let backend = small.copy();
        how.hurt(&backend, Object::Config);
        let quiet = Quiet::default();
        let shared: Arc<dyn Backend> = Arc::clone(&backend) as Arc<dyn Backend>;
        let password = secret(OTHER);
        let repository = Repository::open(shared, services(), &password, &quiet).unwrap();
        assert_eq!(quiet.problems().len(), 1, "{how:?}");
        assert_eq!(quiet.problems()[0].item, "config");
        for refused in [
            repository.require_writable().unwrap_err(),
            repository
                .lock(Access::Shared, &Quiet::default())
                .map(drop)
                .unwrap_err(),
        ] {
            assert!(matches!(refused, Error::Damaged { .. }), "{refused}");
            assert_eq!(refused.exit_code(), ExitCode::Damage);
        }
        let wrong = open(&backend, "raku").unwrap_err();
        assert_eq!(wrong.exit_code(), ExitCode::WrongPassword, "{how:?}");
        assert_eq!(what_is_there(backend.as_ref()).unwrap(), Found::Repository);
    }
}

#[test]
fn keys_alone_are_no_repository_and_a_repository_without_keys_says_so() {
    let small = Small::make();
    let keys = MemBackend::default();
    for object in small.of_class(Class::Keys) {
        keys.put_new(object, &small.objects[&object]).unwrap();
    }
    let refused = open(&Arc::new(keys), PASSWORD).unwrap_err();
    assert_eq!(refused.exit_code(), ExitCode::NoRepository);
    for how in [Cut, Empty, Delete] {
        let backend = small.copy();
        for object in small.of_class(Class::Keys) {
            how.hurt(&backend, object);
        }
        let refused = open(&backend, PASSWORD).unwrap_err();
        assert!(matches!(refused, Error::NoKey { .. }), "{how:?}: {refused}");
    }
}

#[test]
fn a_second_whole_copy_means_that_nothing_suffers() {
    let small = Small::make();
    let backend = small.copy();
    // A backup without the index stores all it needs again.
    for object in small.of_class(Class::Index) {
        Delete.hurt(&backend, object);
    }
    let repository = open(&backend, PASSWORD).unwrap();
    let mut files = std::collections::BTreeMap::new();
    super::add_snapshot(&repository, 2, &super::SECOND, &mut files);
    let mut files = files.into_keys();
    let newest = files.next().unwrap().0;
    let mut intact = 0;
    for (pack, blobs) in &small.packs {
        let offset = blobs[0].offset as usize;
        backend.damage(*pack, |bytes| bytes[offset] ^= 1);
        let report = full_check(&open(&backend, PASSWORD).unwrap());
        let expected = small.lost_with(*pack, |blob| {
            blob.offset == 0 && !small.second.contains(&(blob.kind, blob.id))
        });
        assert_eq!(small.lost_to_a_check(&report), expected, "{pack}");
        let of_pack = report
            .damage
            .iter()
            .find(|damage| damage.object == pack.to_string());
        assert_eq!(of_pack.unwrap().costs_data, !expected.is_empty(), "{pack}");
        assert!(
            report
                .affected
                .iter()
                .all(|one| !one.lost_in.contains(&newest))
        );
        intact += usize::from(expected.is_empty());
        backend.damage(*pack, |bytes| bytes[offset] ^= 1);
    }
    assert!(intact > 0 && intact < small.packs.len(), "{intact}");
}

#[test]
fn a_part_is_read_again_with_its_seed_and_another_seed_reads_another() {
    let small = Small::make();
    let backend = small.copy();
    for pack in small.packs.keys() {
        How::Flip.hurt(&backend, *pack);
    }
    let repository = open(&backend, PASSWORD).unwrap();
    let read = |share, seed| {
        let extent = Extent::Part { share, seed };
        let report = check(&repository, extent, &Quiet::default()).unwrap();
        assert_eq!(report.seed, Some(seed));
        assert!(!report.read_data);
        report.packs_read
    };
    assert_eq!((read(1, 7), read(5000, 7), read(10_000, 7)), (1, 2, 4));
    // Only content: damaged folders are found by every check.
    let content = small
        .packs
        .iter()
        .filter(|(_, blobs)| blobs[0].kind == BlobKind::Data);
    let content: BTreeSet<String> = content.map(|(pack, _)| pack.to_string()).collect();
    let found = |seed| {
        let extent = Extent::Part { share: 1, seed };
        let report = check(&repository, extent, &Quiet::default()).unwrap();
        let damage = report.damage.into_iter().map(|damage| damage.object);
        let found = damage.filter(|object| content.contains(object));
        found.collect::<Vec<String>>()
    };
    let all: BTreeSet<Vec<String>> = (0..40).map(found).collect();
    assert_eq!(all.len(), 3, "one, the other, or one with folders");
    assert_eq!(found(7), found(7));
}

/// Forty folders, each of which holds the next one twice: 2^40 paths to one lost file.
#[test]
fn a_bomb_of_folders_is_counted_and_not_listed() {
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
    let repository = library::create(&backend);
    let index = Arc::new(repository.load_index(&Quiet::default()).unwrap());
    let writer = Writer::begin(&repository, index).unwrap();
    let blob = writer.store(BlobKind::Data, b"tea".to_vec()).unwrap();
    let file = Content::File {
        blobs: vec![blob.wait().unwrap()],
        size: 3,
    };
    let mut nodes = vec![super::node("tea.txt".as_ref(), Kind::File, file)];
    let mut tree = store_tree(&writer, "/".as_ref(), &nodes).unwrap();
    for _ in 0..40 {
        let folder =
            |name: &str| super::node(name.as_ref(), Kind::Folder, Content::Folder { tree });
        nodes = vec![folder("a"), folder("b")];
        tree = store_tree(&writer, "/".as_ref(), &nodes).unwrap();
    }
    writer.commit().unwrap();
    super::save_snapshot(&repository, 0, tree);
    let index = repository.load_index(&Quiet::default()).unwrap();
    let packs = index.packs();
    let content = packs
        .iter()
        .find(|(_, blobs)| blobs[0].kind == BlobKind::Data);
    let content = Object::Named(Class::Data, *content.unwrap().0);
    backend.delete(content).unwrap();
    let begun = std::time::Instant::now();
    let report = full_check(&repository);
    println!("a bomb: {:?}", begun.elapsed());
    assert_eq!(report.affected.len(), 1000);
    assert_eq!(report.lost_paths, 1 << 40);
    assert_eq!(report.unlisted_paths, (1 << 40) - 1000);
}

/// rustic deletes in two steps: packs that are marked first, and may be gone before their mark is.
#[test]
fn a_pack_marked_for_deletion_is_missed_by_who_needs_it() {
    let small = Small::make();
    let backend = small.copy();
    for object in small.of_class(Class::Index) {
        Delete.hurt(&backend, object);
    }
    let marked: Vec<IndexedPack> = small
        .packs
        .iter()
        .map(|(pack, blobs)| match pack {
            Object::Named(_, id) => IndexedPack::new(*id, blobs),
            Object::Config => panic!("it is no pack"),
        })
        .collect();
    let index = serde_json::json!({"packs": [], "packs_to_delete": marked});
    let plain = serde_json::to_vec(&index).unwrap();
    let sealed = super::master(backend.as_ref())
        .seal(&plain, &SystemRng)
        .unwrap();
    let object = Object::Named(Class::Index, Id::of(&sealed));
    backend.put_new(object, &sealed).unwrap();
    let repository = open(&backend, PASSWORD).unwrap();
    assert_eq!(full_check(&repository).damage, []);
    let mut packs = small.packs.iter();
    let (pack, blobs) = packs
        .find(|(_, blobs)| blobs[0].kind == BlobKind::Data)
        .unwrap();
    Delete.hurt(&backend, *pack);
    let report = full_check(&repository);
    assert_eq!(named(&report), [pack.to_string()]);
    assert_eq!(report.damage[0].blob_count, blobs.len() as u64);
    assert!(report.damage[0].costs_data);
    let expected = small.lost_with(*pack, |_| true);
    assert_eq!(small.lost_to_a_check(&report), expected);
}

/// Storage whose packs cannot be listed, only read: a folder that fails among 256.
#[derive(Debug)]
struct Unlistable(Arc<MemBackend>);

impl Backend for Unlistable {
    passed_on!(0: location create put_new get get_range delete);

    fn list(&self, class: Class) -> backend::Result<Listing> {
        if class == Class::Data {
            return Err(backend::Error::Transient("a bad sector".to_owned()));
        }
        self.0.list(class)
    }
}

#[test]
fn packs_that_cannot_be_listed_are_read_and_not_built_upon() {
    let small = Small::make();
    let shared: Arc<dyn Backend> = Arc::new(Unlistable(small.copy()));
    let repository = library::open(&shared).unwrap();
    let quiet = Quiet::default();
    repository.load_index(&quiet).unwrap();
    assert_eq!(quiet.problems().len(), 1);
    assert!(small.lost_to_a_reader(&repository).is_empty());
    for refused in [
        repository.load_sound_index(&quiet).map(drop).unwrap_err(),
        check(&repository, Extent::Structure, &quiet)
            .map(drop)
            .unwrap_err(),
    ] {
        assert_eq!(refused.exit_code(), ExitCode::Storage, "{refused}");
    }
}
