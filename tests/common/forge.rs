//! What no honest tool leaves in a repository: made with its key, so that every hash and every
//! authentication code is right, and only what they protect is wrong.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tillsafe::backend::{Backend, LocalBackend};
use tillsafe::durable::OsDisk;
use tillsafe::entry::{Entry, Kind, Owner, Place};
use tillsafe::id::Id;
use tillsafe::monitor::Quiet;
use tillsafe::repository::Repository;
use tillsafe::repository::crypto::Key;
use tillsafe::repository::index::IndexFile;
use tillsafe::repository::keys::KeyFile;
use tillsafe::repository::pack::BlobKind;
use tillsafe::repository::snapshot::SnapshotFile;
use tillsafe::repository::tree::{Content, Node};
use tillsafe::repository::tree_writer::store_tree;
use tillsafe::repository::writer::Writer;
use tillsafe::rng::SystemRng;

use super::library;

/// A repository of the library, with its key in the hands of somebody who means no good.
pub struct Forge {
    pub(super) folder: PathBuf,
    pub repository: Repository,
    pub(super) key: Key,
}

impl Forge {
    pub fn open(folder: &Path) -> Self {
        let backend: Arc<dyn Backend> = Arc::new(LocalBackend::new(
            folder.to_owned(),
            Arc::new(OsDisk),
            Arc::new(SystemRng),
        ));
        // A stray file is none.
        let mut names = super::files::names_with(&folder.join("keys"), "").into_iter();
        let name = names.find(|name| name.parse::<Id>().is_ok()).unwrap();
        let key_file = fs::read(folder.join("keys").join(name)).unwrap();
        let key_file: KeyFile = serde_json::from_slice(&key_file).unwrap();
        Self {
            folder: folder.to_owned(),
            repository: library::open(&backend).unwrap(),
            key: key_file.unwrap_with(&library::password()).unwrap(),
        }
    }

    /// An exclusive lock of another machine, taken just now: what a `restic prune` elsewhere holds.
    pub fn lock_exclusively(&self, host: &str) {
        let lock = serde_json::json!({
            "time": Timestamp::now(), "exclusive": true, "hostname": host, "username": "mara", "pid": 4_194_000,
        });
        let sealed = self.seal(&lock);
        let folder = self.folder.join("locks");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(Id::of(&sealed).to_string()), sealed).unwrap();
    }

    /// An index file that says whatever it says.
    pub fn add_index_file(&self, file: &IndexFile) {
        let sealed = self.seal(&serde_json::to_value(file).unwrap());
        let folder = self.folder.join("index");
        fs::write(folder.join(Id::of(&sealed).to_string()), sealed).unwrap();
    }

    /// Says that the repository is of another version of the format.
    pub fn set_version(&self, version: u32) {
        let mut config = serde_json::to_value(self.repository.config().unwrap()).unwrap();
        config["version"] = version.into();
        let path = self.folder.join("config");
        fs::remove_file(&path).unwrap();
        fs::write(path, self.seal(&config)).unwrap();
    }

    fn seal(&self, object: &Value) -> Vec<u8> {
        let plain = serde_json::to_vec(object).unwrap();
        self.key.seal(&plain, &SystemRng).unwrap()
    }

    /// The last snapshot once more, a second later, whose manifest is what `change` makes of it.
    pub fn snapshot_with_manifest(&self, change: impl FnOnce(&mut Value)) {
        self.snapshot(|forge, writer, root| {
            let index = forge.repository.load_index(&Quiet::default()).unwrap();
            let ours = root
                .iter_mut()
                .find(|node| node.entry.name == ".tillsafe")
                .unwrap();
            let Content::Folder { tree } = ours.content else {
                panic!("it is a folder");
            };
            let mut inner = forge.repository.read_tree(&index, tree).unwrap();
            let Content::File { blobs, .. } = &inner[0].content else {
                panic!("it is a file");
            };
            let json = forge
                .repository
                .read_blob(&index, BlobKind::Data, blobs[0])
                .unwrap();
            let mut manifest = serde_json::from_slice(&json).unwrap();
            change(&mut manifest);
            inner[0].content = store(writer, &serde_json::to_vec(&manifest).unwrap(), 1);
            ours.content = Content::Folder {
                tree: store_tree(writer, ".tillsafe".as_ref(), &inner).unwrap(),
            };
        });
    }

    /// A snapshot that holds one thing and no manifest: what another program makes.
    pub fn snapshot_of(&self, name: &str, thing: &Thing) {
        self.snapshot_of_all(&[(name, thing)]);
    }

    /// The same with several things; their names in order.
    pub fn snapshot_of_all(&self, things: &[(&str, &Thing)]) {
        self.snapshot_at(Path::new("/"), things);
    }

    /// The same with all things in the folder `place`.
    pub fn snapshot_at(&self, place: &Path, things: &[(&str, &Thing)]) {
        self.snapshot(|_, writer, root| {
            let node = |(name, thing): &(&str, &Thing)| {
                let (kind, content) = match thing {
                    Thing::File { bytes, times } => (Kind::File, store(writer, bytes, *times)),
                    Thing::Lie { bytes, size } => {
                        let Content::File { blobs, .. } = store(writer, bytes, 1) else {
                            panic!("it is a file");
                        };
                        (Kind::File, Content::File { blobs, size: *size })
                    }
                    Thing::Special(kind) => (Kind::Other((*kind).to_owned()), Content::Nothing),
                };
                Node {
                    entry: entry(name.as_ref(), kind, 0o644),
                    content,
                }
            };
            *root = things.iter().map(node).collect();
            let way: Vec<&OsStr> = place.iter().skip(1).collect();
            for name in way.into_iter().rev() {
                let tree = store_tree(writer, name, root).unwrap();
                *root = vec![Node {
                    entry: entry(name, Kind::Folder, 0o755),
                    content: Content::Folder { tree },
                }];
            }
        });
    }

    /// A snapshot a second after the last one, whose root is what `change` makes of that one's.
    pub fn snapshot(&self, change: impl FnOnce(&Self, &Writer, &mut Vec<Node>)) {
        let quiet = Quiet::default();
        let index = Arc::new(self.repository.load_index(&quiet).unwrap());
        let last = self
            .repository
            .snapshots(&quiet)
            .unwrap()
            .readable
            .pop()
            .unwrap();
        let mut root = self.repository.read_tree(&index, last.file.tree).unwrap();
        let writer = Writer::begin(&self.repository, index).unwrap();
        change(self, &writer, &mut root);
        let tree = store_tree(&writer, "/".as_ref(), &root).unwrap();
        writer.commit().unwrap();
        let time = last.file.time + SignedDuration::from_secs(1);
        self.repository
            .save_snapshot(SnapshotFile {
                tree,
                time,
                ..last.file
            })
            .unwrap();
    }
}

/// An item of no file system, of just now.
pub fn entry(name: &OsStr, kind: Kind, mode: u32) -> Entry {
    Entry {
        name: name.to_owned(),
        kind,
        mode,
        modified: Timestamp::now(),
        changed: Timestamp::now(),
        owner: Owner::default(),
        place: Place::default(),
        attributes: Vec::new(),
    }
}

/// What a forged snapshot holds.
pub enum Thing {
    /// A file of `bytes`, so many times one after the other.
    File { bytes: Vec<u8>, times: usize },
    /// A file of `bytes` whose folder says that it has another size.
    Lie { bytes: Vec<u8>, size: u64 },
    /// A kind of special file, as trees name it.
    Special(&'static str),
}

fn store(writer: &Writer, bytes: &[u8], times: usize) -> Content {
    let blob = writer
        .store(BlobKind::Data, bytes.to_vec())
        .unwrap()
        .wait()
        .unwrap();
    Content::File {
        blobs: vec![blob; times],
        size: (bytes.len() * times) as u64,
    }
}
