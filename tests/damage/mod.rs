//! Damage to each kind of file in a repository: all of it is found, and it costs no more than it must.

mod bits;
pub mod kinds;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tillsafe::backend::{Backend, Class, MemBackend, Object};
use tillsafe::durable::OsDisk;
use tillsafe::entry::{Entry, Kind, Owner, Place};
use tillsafe::id::Id;
use tillsafe::monitor::{Monitor, Quiet};
use tillsafe::repository::Repository;
use tillsafe::repository::check::{CheckReport, Extent, check};
use tillsafe::repository::crypto::Key;
use tillsafe::repository::keys::{Cost, KeyFile};
use tillsafe::repository::lock::Access;
use tillsafe::repository::pack::{BlobKind, PackedBlob};
use tillsafe::repository::snapshot::SnapshotFile;
use tillsafe::repository::tree::{Content, Node};
use tillsafe::repository::tree_writer::store_tree;
use tillsafe::repository::writer::Writer;
use tillsafe::restore::{Plan, Selection, Target};
use tillsafe::rng::SystemRng;
use tillsafe::secret::Secret;

use crate::common::library::{self, PASSWORD, services};

/// The password of the second key.
pub const OTHER: &str = "tenmoku";

/// What the two snapshots hold.
const FIRST: [(&str, &str); 3] = [
    ("a.txt", "tea, green"),
    ("sub/b.txt", "cups, blue"),
    ("sub/e.txt", "lids, iron red"),
];
const SECOND: [(&str, &str); 3] = [
    ("a.txt", "tea, green"),
    ("c.txt", "pots, celadon"),
    ("new/d.txt", "glaze, ash"),
];

/// A file in a snapshot.
pub type Where = (Id, PathBuf);

/// What a file in a snapshot is made of.
pub struct Stored {
    pub bytes: Vec<u8>,
    /// Its blobs, and the trees on the way to it.
    needs: BTreeSet<(BlobKind, Id)>,
}

/// A repository of a few KiB of which all is known: two keys, two snapshots, a lock.
pub struct Small {
    pub objects: BTreeMap<Object, Vec<u8>>,
    /// What lies where in each pack.
    pub packs: BTreeMap<Object, Vec<PackedBlob>>,
    pub files: BTreeMap<Where, Stored>,
    /// What the second snapshot needs.
    second: BTreeSet<(BlobKind, Id)>,
}

impl Small {
    pub fn make() -> Self {
        let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
        let repository = library::create(&backend);
        add_key(&backend, OTHER);
        let mut files = BTreeMap::new();
        for (minute, content) in [(0, &FIRST[..]), (1, &SECOND[..])] {
            add_snapshot(&repository, minute, content, &mut files);
        }
        let _lock = repository.lock(Access::Shared, &Quiet::default()).unwrap();
        let index = repository.load_index(&Quiet::default()).unwrap();
        let packs = index.packs().into_iter();
        let second = &repository.snapshots(&Quiet::default()).unwrap().readable[1];
        let of_second = files.iter().filter(|((id, _), _)| *id == second.id);
        Self {
            second: of_second
                .flat_map(|(_, stored)| stored.needs.clone())
                .collect(),
            objects: objects_of(backend.as_ref()),
            packs: packs
                .map(|(id, blobs)| (Object::Named(Class::Data, id), blobs))
                .collect(),
            files,
        }
    }

    /// A copy to be damaged.
    pub fn copy(&self) -> Arc<MemBackend> {
        let backend = MemBackend::default();
        for (object, bytes) in &self.objects {
            backend.put_new(*object, bytes).unwrap();
        }
        Arc::new(backend)
    }

    pub fn of_class(&self, class: Class) -> Vec<Object> {
        let is = |object: &&Object| matches!(object, Object::Named(of, _) if *of == class);
        self.objects.keys().filter(is).copied().collect()
    }

    /// Which files are lost if the blobs of `pack` for which `hurt` holds are not whole.
    fn lost_with(&self, pack: Object, hurt: impl Fn(&PackedBlob) -> bool) -> BTreeSet<Where> {
        let none = Vec::new();
        let blobs = self.packs.get(&pack).unwrap_or(&none).iter();
        let hurt: BTreeSet<(BlobKind, Id)> = blobs
            .filter(|blob| hurt(blob))
            .map(|blob| (blob.kind, blob.id))
            .collect();
        let is_lost = |stored: &Stored| !stored.needs.is_disjoint(&hurt);
        let files = self.files.iter();
        files
            .filter(|(_, stored)| is_lost(stored))
            .map(|(place, _)| place.clone())
            .collect()
    }

    /// The files of a snapshot.
    fn files_of(&self, snapshot: Object) -> BTreeSet<Where> {
        let places = self.files.keys();
        places
            .filter(|(id, _)| Object::Named(Class::Snapshots, *id) == snapshot)
            .cloned()
            .collect()
    }

    /// A password that a whole key opens with, whatever is wrong with `object`.
    pub fn password_beside(&self, object: Object) -> &'static str {
        let file: Option<KeyFile> = match object {
            Object::Named(Class::Keys, _) => serde_json::from_slice(&self.objects[&object]).ok(),
            _ => None,
        };
        let opens = |file: &KeyFile| file.unwrap_with(&secret(PASSWORD)).is_ok();
        if file.is_some_and(|file| opens(&file)) {
            OTHER
        } else {
            PASSWORD
        }
    }

    /// Reads all that can be read. Bytes that are not those that were stored are a failure.
    fn lost_to_a_reader(&self, repository: &Repository) -> BTreeSet<Where> {
        let quiet = Quiet::default();
        let index = repository.load_index(&quiet).unwrap();
        let mut lost: BTreeSet<Where> = self.files.keys().cloned().collect();
        for snapshot in repository.snapshots(&quiet).unwrap().readable {
            let mut waiting = vec![(PathBuf::from("/"), snapshot.file.tree)];
            while let Some((folder, tree)) = waiting.pop() {
                for node in repository.read_tree(&index, tree).unwrap_or_default() {
                    let path = folder.join(&node.entry.name);
                    match node.content {
                        Content::Folder { tree } => waiting.push((path, tree)),
                        Content::File { blobs, .. } => {
                            let read = |id| repository.read_blob(&index, BlobKind::Data, id);
                            let read: Result<Vec<_>, _> = blobs.into_iter().map(read).collect();
                            let place = (snapshot.id, path);
                            if let Ok(read) = read {
                                assert_eq!(read.concat(), self.files[&place].bytes, "{place:?}");
                                lost.remove(&place);
                            }
                        }
                        Content::Nothing => {}
                    }
                }
            }
        }
        lost
    }

    /// The files that whole restores do not bring back; what they bring back is right.
    pub fn lost_to_a_restore(&self, repository: &Repository, folder: &Path) -> BTreeSet<Where> {
        let quiet: Arc<dyn Monitor> = Arc::new(Quiet::default());
        let index = repository.load_index(quiet.as_ref()).unwrap();
        let mut lost: BTreeSet<Where> = self.files.keys().cloned().collect();
        for snapshot in repository.snapshots(quiet.as_ref()).unwrap().readable {
            let (id, target) = (snapshot.id, folder.join(snapshot.id.short()));
            let everything = Selection::whole(Path::new("/"));
            let watch = quiet.as_ref();
            // Without its first tree nothing of it is known.
            let Ok(plan) = Plan::make(repository, &index, snapshot, everything, watch) else {
                continue;
            };
            let place = Target::look_at(&target, &OsDisk).unwrap();
            plan.fetch(repository, &index, place, &OsDisk, watch)
                .and_then(|staged| staged.verify(&index, &quiet))
                .and_then(|verified| verified.swap_in(&quiet))
                .unwrap();
            for ((_, path), stored) in self.files.iter().filter(|((of, _), _)| *of == id) {
                let restored = target.join(path.strip_prefix("/").unwrap());
                if let Ok(bytes) = std::fs::read(&restored) {
                    assert_eq!(bytes, stored.bytes, "{}", restored.display());
                    lost.remove(&(id, path.clone()));
                }
            }
            std::fs::remove_dir_all(&target).unwrap();
        }
        lost
    }

    /// The files that a check names as lost.
    fn lost_to_a_check(&self, report: &CheckReport) -> BTreeSet<Where> {
        let is_lost = |(snapshot, path): &&Where| {
            report.affected.iter().any(|affected| {
                let fits = *path == affected.path
                    || (affected.is_folder && path.starts_with(&affected.path));
                fits && affected.lost_in.contains(snapshot)
            })
        };
        self.files.keys().filter(is_lost).cloned().collect()
    }
}

pub fn secret(password: &str) -> Secret {
    Secret::new(password.as_bytes().to_vec())
}

pub fn open(backend: &Arc<MemBackend>, password: &str) -> tillsafe::error::Result<Repository> {
    let backend: Arc<dyn Backend> = Arc::clone(backend) as Arc<dyn Backend>;
    Repository::open(backend, services(), &secret(password), &Quiet::default())
}

pub fn full_check(repository: &Repository) -> CheckReport {
    check(repository, Extent::Everything, &Quiet::default()).unwrap()
}

/// The objects that a check names.
pub fn named(report: &CheckReport) -> Vec<&str> {
    let damage = report.damage.iter();
    damage.map(|damage| damage.object.as_str()).collect()
}

/// The key of a repository whose only key file opens with [`PASSWORD`], or one of them.
pub fn master(backend: &dyn Backend) -> Key {
    let keys = backend.list(Class::Keys).unwrap().objects.into_iter();
    let mut opened = keys.filter_map(|(id, _)| {
        let bytes = backend.get(Object::Named(Class::Keys, id), 4096).unwrap();
        let file: KeyFile = serde_json::from_slice(&bytes).unwrap();
        file.unwrap_with(&secret(PASSWORD)).ok()
    });
    opened.next().unwrap()
}

/// Stores a key that opens with another password, as `restic key add` does.
fn add_key(backend: &Arc<dyn Backend>, password: &str) {
    let master = master(backend.as_ref());
    let (now, cost) = (Timestamp::now(), Cost::CHEAP);
    let file = KeyFile::wrap(&master, &secret(password), cost, now, &SystemRng).unwrap();
    let bytes = serde_json::to_vec(&file).unwrap();
    backend
        .put_new(Object::Named(Class::Keys, Id::of(&bytes)), &bytes)
        .unwrap();
}

/// Everything in a repository.
pub fn objects_of(backend: &dyn Backend) -> BTreeMap<Object, Vec<u8>> {
    let named = Class::ALL.into_iter().flat_map(|class| {
        let listed = backend.list(class).unwrap().objects.into_iter();
        listed.map(move |(id, _)| Object::Named(class, id))
    });
    named
        .chain([Object::Config])
        .map(|object| (object, backend.get(object, 1 << 20).unwrap()))
        .collect()
}

/// Stores a snapshot of small files, at most one folder deep, with an index file of its own.
fn add_snapshot(
    repository: &Repository,
    minute: i64,
    content: &[(&str, &str)],
    files: &mut BTreeMap<Where, Stored>,
) {
    let index = Arc::new(repository.load_index(&Quiet::default()).unwrap());
    let writer = Writer::begin(repository, index).unwrap();
    let mut folders: BTreeMap<&Path, Vec<Node>> = BTreeMap::new();
    let mut stored = Vec::new();
    for (path, text) in content {
        let blob = writer.store(BlobKind::Data, text.as_bytes().to_vec());
        let blob = blob.unwrap().wait().unwrap();
        let path = Path::new(path);
        let file = Content::File {
            blobs: vec![blob],
            size: text.len() as u64,
        };
        let folder = folders.entry(path.parent().unwrap()).or_default();
        folder.push(node(path.file_name().unwrap(), Kind::File, file));
        stored.push((path, text, blob));
    }
    let mut root = folders.remove(Path::new("")).unwrap();
    let mut trees = BTreeMap::new();
    for (path, nodes) in folders {
        let tree = store_tree(&writer, path.as_os_str(), &nodes).unwrap();
        trees.insert(path, tree);
        root.push(node(
            path.as_os_str(),
            Kind::Folder,
            Content::Folder { tree },
        ));
    }
    let tree = store_tree(&writer, "/".as_ref(), &root).unwrap();
    writer.commit().unwrap();
    let snapshot = save_snapshot(repository, minute, tree);
    for (path, text, blob) in stored {
        let mut needs = BTreeSet::from([(BlobKind::Data, blob), (BlobKind::Tree, tree)]);
        let folder = trees.get(path.parent().unwrap());
        needs.extend(folder.map(|tree| (BlobKind::Tree, *tree)));
        let bytes = text.as_bytes().to_vec();
        files.insert(
            (snapshot, Path::new("/").join(path)),
            Stored { bytes, needs },
        );
    }
}

fn save_snapshot(repository: &Repository, minute: i64, tree: Id) -> Id {
    let json = format!(
        r#"{{"time":"2026-11-24T10:0{minute}:00Z","tree":"{tree}","paths":["/"],"hostname":"till"}}"#
    );
    let file: SnapshotFile = serde_json::from_str(&json).unwrap();
    repository.save_snapshot(file).unwrap().id
}

fn node(name: &OsStr, kind: Kind, content: Content) -> Node {
    Node {
        entry: Entry {
            name: name.to_owned(),
            kind,
            mode: 0o644,
            modified: Timestamp::UNIX_EPOCH,
            changed: Timestamp::UNIX_EPOCH,
            owner: Owner::default(),
            place: Place::default(),
            attributes: Vec::new(),
        },
        content,
    }
}
