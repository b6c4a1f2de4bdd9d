//! The table of a large index that is kept on this machine: it answers as the index files do, whatever happens to it, and
//! costs no more than a look at what is new.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use tillsafe::backend::{Backend, Class, MemBackend, Object, Result};
use tillsafe::durable::faults::{Fault, FaultyDisk};
use tillsafe::durable::{Disk, OsDisk};
use tillsafe::id::Id;
use tillsafe::monitor::Quiet;
use tillsafe::repository::Repository;
use tillsafe::repository::crypto::Key;
use tillsafe::repository::index::{Index, IndexFile, IndexedPack, Shelf};
use tillsafe::repository::keys::KeyFile;
use tillsafe::repository::pack::{self, BlobKind, PackedBlob};
use tillsafe::rng::SystemRng;

use crate::common::Place;
use crate::common::dice::Dice;
use crate::common::files::{files_below, flip_a_bit, names_with};
use crate::common::library::{create, open, password};
use crate::common::passed_on::passed_on;
use crate::common::program::Program;

/// Counts the index files that are read.
#[derive(Debug)]
struct Counting {
    backend: Arc<MemBackend>,
    read: AtomicUsize,
}

impl Backend for Counting {
    passed_on!(backend: location create put_new get_range list delete);

    fn get(&self, object: Object, limit: u64) -> Result<Vec<u8>> {
        if matches!(object, Object::Named(Class::Index, _)) {
            self.read.fetch_add(1, Ordering::SeqCst);
        }
        self.backend.get(object, limit)
    }
}

/// A repository of nothing but index files, and a place for its table.
struct Scene {
    place: Place,
    counting: Arc<Counting>,
    backend: Arc<dyn Backend>,
    key: Key,
    files: Mutex<Vec<Id>>,
}

fn id(number: u64) -> Id {
    Id::of(&number.to_le_bytes())
}

fn pack_id(number: u64) -> Id {
    id(1_000_000 + number)
}

fn blob(number: u64, is_tree: bool, offset: u32, length: u32) -> PackedBlob {
    PackedBlob {
        kind: if is_tree {
            BlobKind::Tree
        } else {
            BlobKind::Data
        },
        id: id(number),
        offset,
        length,
        plain_length: length.is_multiple_of(2).then_some(length),
    }
}

/// An index file of packs in use and packs that are marked.
fn file_of(packs: &[(u64, bool, Vec<PackedBlob>)]) -> IndexFile {
    let mut file = IndexFile::default();
    for (pack, is_marked, blobs) in packs {
        if *is_marked {
            let marked = IndexedPack::marked(pack_id(*pack), blobs, Timestamp::UNIX_EPOCH);
            file.packs_to_delete.push(marked);
        } else {
            file.packs.push(IndexedPack::new(pack_id(*pack), blobs));
        }
    }
    file
}

/// An index file of one pack with these blobs.
fn one_pack(pack: u64, blobs: std::ops::Range<u64>) -> IndexFile {
    let blobs: Vec<PackedBlob> = blobs.map(|number| blob(number, false, 0, 40)).collect();
    file_of(&[(pack, false, blobs)])
}

impl Scene {
    fn new() -> Self {
        let counting = Arc::new(Counting {
            backend: Arc::default(),
            read: AtomicUsize::new(0),
        });
        let backend: Arc<dyn Backend> = counting.clone();
        create(&backend);
        let keys = backend.list(Class::Keys).unwrap().objects;
        let key_file = backend.get(Object::Named(Class::Keys, keys[0].0), 1 << 20);
        let key_file: KeyFile = serde_json::from_slice(&key_file.unwrap()).unwrap();
        Self {
            place: Place::new(),
            counting,
            backend,
            key: key_file.unwrap_with(&password()).unwrap(),
            files: Mutex::default(),
        }
    }

    fn add(&self, file: &IndexFile) {
        let json = serde_json::to_vec(file).unwrap();
        let sealed = self.key.seal(&json, &SystemRng).unwrap();
        let id = Id::of(&sealed);
        let object = Object::Named(Class::Index, id);
        self.backend.put_new(object, &sealed).unwrap();
        self.files.lock().unwrap().push(id);
    }

    fn remove(&self, number: usize) {
        let mut files = self.files.lock().unwrap();
        if files.is_empty() {
            return;
        }
        let number = number % files.len();
        let object = Object::Named(Class::Index, files.remove(number));
        self.backend.delete(object).unwrap();
    }

    /// A pack of so many bytes; nobody reads it here.
    fn add_pack(&self, pack: u64, bytes: u64) {
        let bytes = vec![0; usize::try_from(bytes).unwrap()];
        let object = Object::Named(Class::Data, pack_id(pack));
        let _ = self.backend.put_new(object, &bytes);
    }

    fn folder(&self) -> PathBuf {
        self.place.join("cache/table")
    }

    fn shelf_on(&self, disk: Arc<dyn Disk>) -> Shelf {
        // Runs are so short that each table is merged of several.
        Shelf::new(disk, self.folder()).from_size(0, 60)
    }

    fn with_table(&self) -> Repository {
        self.with_table_on(Arc::new(OsDisk))
    }

    fn with_table_on(&self, disk: Arc<dyn Disk>) -> Repository {
        let repository = open(&self.backend).unwrap();
        repository.keep_table_on(self.shelf_on(disk));
        repository
    }

    fn load(&self) -> Index {
        self.with_table().load_index(&Quiet::default()).unwrap()
    }

    /// Loads the index through the table; returns how many index files that took.
    fn reads(&self) -> usize {
        self.counting.read.store(0, Ordering::SeqCst);
        drop(self.load());
        self.counting.read.load(Ordering::SeqCst)
    }

    /// The only file that is kept.
    fn table(&self) -> PathBuf {
        let names = names_with(&self.folder(), "");
        assert_eq!(names.len(), 1, "{names:?}");
        self.folder().join(&names[0])
    }

    /// Through the table all is as the index files say it.
    fn assert_same(&self, repository: &Repository) {
        let quiet = Quiet::default();
        let (expected, lost) = open(&self.backend)
            .unwrap()
            .load_sound_index(&quiet)
            .unwrap();
        let (sound, also_lost) = repository.load_sound_index(&quiet).unwrap();
        assert_eq!(lost, also_lost);
        assert_same(&expected, &sound);
        let expected = open(&self.backend).unwrap().load_index(&quiet).unwrap();
        let index = repository.load_index(&quiet).unwrap();
        assert_same(&expected, &index);
        assert!(expected.blobs().eq(index.blobs()));
        assert_eq!(expected.blob_count(), index.blob_count());
    }
}

fn assert_same(expected: &Index, index: &Index) {
    let asked: BTreeSet<(BlobKind, Id)> = expected.blobs().collect();
    let others =
        (0..50).flat_map(|number| [BlobKind::Data, BlobKind::Tree].map(|kind| (kind, id(number))));
    for (kind, id) in asked.into_iter().chain(others) {
        assert_eq!(expected.locations(kind, id), index.locations(kind, id));
        assert_eq!(expected.find(kind, id), index.find(kind, id));
        assert_eq!(expected.find_sound(kind, id), index.find_sound(kind, id));
        assert_eq!(expected.contains(kind, id), index.contains(kind, id));
        let there = expected.is_within_reach(kind, id);
        assert_eq!(there, index.is_within_reach(kind, id));
    }
    for number in 0..20 {
        let pack = pack_id(number);
        assert_eq!(expected.is_retired(pack), index.is_retired(pack));
        assert_eq!(expected.names(pack), index.names(pack));
    }
}

/// A pack by its number, marked or not, with blobs: number, whether a tree, offset, length.
type Said = (u64, bool, Vec<(u64, bool, u32, u32)>);

/// What happens between two looks.
#[derive(Debug, Clone)]
enum Event {
    /// Somebody adds an index file.
    Added(Vec<Said>),
    /// An index file goes.
    Removed(usize),
    /// A pack comes, of so many bytes.
    Pack(u64, u64),
    /// A bit of the table changes.
    Flipped(u64),
    /// The table ends early.
    Cut(u64),
    /// An index file is damaged.
    Damaged(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let blob = (0..40_u64, any::<bool>(), 0..4_u32, 5..7_u32);
    let packs = vec((0..14_u64, any::<bool>(), vec(blob, 0..20)), 1..4);
    prop_oneof![
        6 => packs.prop_map(Event::Added),
        2 => any::<usize>().prop_map(Event::Removed),
        3 => (0..14_u64, 0..1200_u64).prop_map(|(pack, bytes)| Event::Pack(pack, bytes)),
        2 => any::<u64>().prop_map(Event::Flipped),
        1 => any::<u64>().prop_map(Event::Cut),
        1 => any::<usize>().prop_map(Event::Damaged),
    ]
}

fn happen(scene: &Scene, event: Event) {
    let tables = names_with(&scene.folder(), "");
    let table = tables.first().map(|name| scene.folder().join(name));
    match event {
        Event::Added(packs) => {
            let packs: Vec<_> = packs
                .into_iter()
                .map(|(pack, is_marked, blobs)| {
                    let blobs = blobs.into_iter();
                    let blobs = blobs.map(|(id, tree, at, length)| blob(id, tree, at, length));
                    (pack, is_marked, blobs.collect())
                })
                .collect();
            scene.add(&file_of(&packs));
        }
        Event::Removed(number) => scene.remove(number),
        Event::Pack(pack, bytes) => scene.add_pack(pack, bytes),
        Event::Damaged(number) => {
            let files = scene.files.lock().unwrap();
            if let Some(id) = files.get(number % files.len().max(1)) {
                let object = Object::Named(Class::Index, *id);
                scene
                    .counting
                    .backend
                    .damage(object, |bytes| bytes.truncate(9));
            }
        }
        Event::Flipped(at) => {
            if let Some(table) = table {
                let mut bytes = fs::read(&table).unwrap();
                let at = usize::try_from(at).unwrap() % bytes.len();
                bytes[at] ^= 4;
                fs::write(table, bytes).unwrap();
            }
        }
        Event::Cut(at) => {
            if let Some(table) = table {
                let bytes = fs::read(&table).unwrap();
                let at = usize::try_from(at).unwrap() % bytes.len();
                fs::write(table, &bytes[..at]).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_table_says_what_the_index_files_say(events in vec(event(), 1..12)) {
        let scene = Scene::new();
        for event in events {
            happen(&scene, event);
            let repository = scene.with_table();
            scene.assert_same(&repository);
            let quiet = Quiet::default();
            let whole = open(&scene.backend).unwrap().load_index(&quiet).unwrap();
            let packs = repository.load_index(&quiet).unwrap().packs();
            prop_assert!(packs == whole.packs());
        }
    }
}

#[test]
fn what_was_read_once_is_not_read_again() {
    let scene = Scene::new();
    (0..20).for_each(|pack| scene.add(&one_pack(pack, pack * 100..pack * 100 + 100)));
    assert_eq!(scene.reads(), 20);
    assert_eq!(scene.reads(), 0);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&scene.folder()), mode(&scene.table())),
        (0o700, 0o600)
    );
    // What came in since is read each time, until it is much.
    let table = fs::read(scene.table()).unwrap();
    scene.add(&one_pack(20, 0..100));
    assert_eq!([scene.reads(), scene.reads()], [1, 1]);
    assert_eq!(fs::read(scene.table()).unwrap(), table);
    scene.add(&one_pack(21, 2100..2200));
    scene.add(&one_pack(22, 2100..2200));
    assert_eq!([scene.reads(), scene.reads()], [3, 0]);
    assert_ne!(fs::read(scene.table()).unwrap(), table);
    scene.assert_same(&scene.with_table());
    // What a prune has taken away is believed no longer.
    scene.remove(3);
    assert_eq!([scene.reads(), scene.reads()], [22, 0]);
    assert!(!scene.load().contains(BlobKind::Data, id(333)));
    // Of a pack that two files name, both are asked.
    scene.add(&one_pack(5, 500..600));
    assert_eq!([scene.reads(), scene.reads()], [24, 0]);
    scene.assert_same(&scene.with_table());
}

#[test]
fn a_file_that_was_cut_off_is_not_hidden_by_the_table() {
    let scene = Scene::new();
    (0..5).for_each(|pack| scene.add(&one_pack(pack, pack * 100..pack * 100 + 100)));
    drop(scene.load());
    happen(&scene, Event::Damaged(2));
    let quiet = Quiet::default();
    let index = scene.with_table().load_index(&quiet).unwrap();
    assert!(!index.contains(BlobKind::Data, id(222)));
    assert!(!quiet.problems().is_empty());
    // It is told each time.
    let quiet = Quiet::default();
    assert_eq!(scene.reads(), 1);
    scene.with_table().load_index(&quiet).unwrap();
    assert!(!quiet.problems().is_empty());
}

#[test]
fn a_page_that_is_wrong_is_noticed_when_it_is_asked_for() {
    let scene = Scene::new();
    (0..9).for_each(|pack| scene.add(&one_pack(pack, pack * 100..pack * 100 + 100)));
    drop(scene.load());
    let table = scene.table();
    let mut bytes = fs::read(&table).unwrap();
    bytes[3 * 2048 + 700] ^= 1;
    fs::write(&table, bytes).unwrap();
    let index = scene.load();
    assert!((0..900).all(|number| index.contains(BlobKind::Data, id(number))));
    assert!(!index.contains(BlobKind::Data, id(900)));
    assert!(!table.exists(), "the next run makes it anew");
    assert_eq!([scene.reads(), scene.reads()], [9, 0]);
    // It vanishes, or is cut, while somebody works with it.
    let index = scene.load();
    fs::remove_file(&table).unwrap();
    assert!((0..900).all(|number| index.contains(BlobKind::Data, id(number))));
    let index = scene.load();
    let open = fs::File::options().write(true).open(scene.table()).unwrap();
    open.set_len(100).unwrap();
    assert!((0..900).all(|number| index.contains(BlobKind::Data, id(number))));
    // If the index files are gone as well, what they named is stored again.
    let index = scene.load();
    flip_a_bit(&scene.table());
    let open = fs::File::options().write(true).open(scene.table()).unwrap();
    open.set_len(0).unwrap();
    (0..9).for_each(|_| scene.remove(0));
    assert!((0..900).all(|number| !index.contains(BlobKind::Data, id(number))));
}

#[test]
fn of_very_many_places_the_same_are_kept() {
    let scene = Scene::new();
    let packs = |numbers: std::ops::Range<u64>| {
        let packs: Vec<_> = numbers
            .map(|pack| (pack, pack % 3 == 0, vec![blob(7, false, 0, 40)]))
            .collect();
        file_of(&packs)
    };
    scene.add(&packs(0..700));
    scene.assert_same(&scene.with_table());
    scene.add(&packs(700..790));
    scene.assert_same(&scene.with_table());
    assert_eq!(scene.load().locations(BlobKind::Data, id(7)).len(), 100);
    // Two descriptions of one place are one place.
    scene.add(&file_of(&[(1, false, vec![blob(7, false, 0, 41)])]));
    scene.assert_same(&scene.with_table());
}

#[test]
fn a_table_of_another_repository_is_none() {
    let (scene, other) = (Scene::new(), Scene::new());
    (0..3).for_each(|pack| scene.add(&one_pack(pack, pack * 100..pack * 100 + 100)));
    other.add(&one_pack(0, 0..300));
    drop((scene.load(), other.load()));
    fs::write(scene.table(), fs::read(other.table()).unwrap()).unwrap();
    scene.assert_same(&scene.with_table());
    for content in [&b""[..], b"what a later program may write", &[0; 5000]] {
        fs::write(scene.table(), content).unwrap();
        scene.assert_same(&scene.with_table());
        assert_eq!(scene.reads(), 0);
    }
    // Repositories that take turns under one name have one each.
    let repository = open(&other.backend).unwrap();
    repository.keep_table_on(scene.shelf_on(Arc::new(OsDisk)));
    other.assert_same(&repository);
    assert_eq!(names_with(&scene.folder(), "").len(), 2);
    assert_eq!(scene.reads(), 0);
}

#[test]
fn who_finds_somebody_at_work_reads_the_files() {
    let scene = Scene::new();
    (0..5).for_each(|pack| scene.add(&one_pack(pack, pack * 100..pack * 100 + 100)));
    OsDisk.create_all(&scene.folder(), 0o700).unwrap();
    let held = OsDisk.open(&scene.folder()).unwrap();
    assert!(held.try_lock().unwrap());
    scene.assert_same(&scene.with_table());
    assert!(names_with(&scene.folder(), "").is_empty());
    drop(held);
    for _ in 0..10 {
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    let index = scene.load();
                    assert!((0..500).all(|number| index.contains(BlobKind::Data, id(number))));
                });
            }
        });
        assert_eq!(scene.reads(), 0);
        fs::remove_file(scene.table()).unwrap();
    }
}

/// A full disk, and a run that was killed while it wrote: both cost the shortcut and nothing else.
#[test]
fn a_failing_disk_costs_only_the_shortcut() {
    let scene = Scene::new();
    (0..5).for_each(|pack| scene.add(&one_pack(pack, pack * 100..pack * 100 + 100)));
    for from_there_on in [false, true] {
        for at in 1.. {
            let fault = if from_there_on {
                Fault::from_there_on(at)
            } else {
                Fault::once(at)
            };
            let disk = Arc::new(FaultyDisk::new(OsDisk, Arc::clone(&fault)));
            let repository = scene.with_table_on(disk);
            let index = repository.load_index(&Quiet::default()).unwrap();
            assert!((0..500).all(|number| index.contains(BlobKind::Data, id(number))));
            let left = names_with(&scene.folder(), "table-");
            let is_half = |name: &String| name.ends_with("-tmp");
            assert!(from_there_on || !left.iter().any(is_half), "{at}: {left:?}");
            // What is left is whole, or nobody takes it for a table.
            scene.assert_same(&scene.with_table());
            assert!(scene.table().exists());
            fs::remove_dir_all(scene.place.join("cache")).unwrap();
            if !fault.fired() {
                assert!(at > 5, "{at}");
                break;
            }
        }
    }
    // What somebody who was killed has left goes.
    fs::create_dir_all(scene.folder()).unwrap();
    drop(scene.load());
    let table = scene.table();
    fs::rename(&table, format!("{}-tmp", table.display())).unwrap();
    fs::write(scene.folder().join("runs-tmp"), "half").unwrap();
    assert_eq!([scene.reads(), scene.reads()], [5, 0]);
    assert_eq!(scene.table(), table);
}

/// The program: from 4 MiB of index files on, in the place where each user keeps such things, unless it is told not to.
#[test]
fn only_a_large_repository_has_a_table_and_only_if_it_may() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let cache = place.join("cache");
    let folder = place.join("srv");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("order.txt"), "a teapot").unwrap();
    let folder = folder.to_str().unwrap();
    program.ok(&["backup", folder]);
    assert!(!cache.exists());
    let forge = crate::common::forge::Forge::open(&program.repository);
    let mut dice = Dice::new(7);
    for pack in 0..3 {
        let blobs: Vec<PackedBlob> = (0..12_000)
            .map(|number| blob(dice.next(), false, number * 40, 40))
            .collect();
        let size = pack::size_of(&blobs);
        forge.add_index_file(&file_of(&[(pack, false, blobs)]));
        let pack = program
            .repository
            .join(Object::Named(Class::Data, pack_id(pack)).to_string());
        fs::create_dir_all(pack.parent().unwrap()).unwrap();
        fs::File::create(pack).unwrap().set_len(size).unwrap();
    }
    program.ok(&["--no-cache", "backup", folder]);
    assert!(!cache.exists());
    program.ok(&["backup", folder]);
    let kept = files_below(&cache);
    assert_eq!(kept.len(), 1, "{kept:?}");
    let (_, said) = program.json(&["cache"]);
    assert_eq!(said[0]["objects"], 1, "{said:?}");
    // What lies there is never read.
    let outer = place.path().to_str().unwrap();
    program.ok(&["backup", "--force", outer]);
    let listed = program.ok(&["ls", "--path", outer, "latest"]).stdout;
    assert!(listed.contains("order.txt"), "{listed}");
    assert!(!listed.contains("table-"), "{listed}");
    program.ok(&["cache", "--clear"]);
    assert!(files_below(&cache).is_empty());
    let other = place.join("other");
    program.ok(&["--cache-dir", other.to_str().unwrap(), "stats"]);
    let kept = files_below(&other);
    let is_table = |path: &&PathBuf| path.to_str().unwrap().contains("/table/table-");
    assert_eq!(kept.iter().filter(is_table).count(), 1, "{kept:?}");
    assert!(files_below(&cache).is_empty());
}
