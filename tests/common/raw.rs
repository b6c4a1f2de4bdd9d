//! The forge's raw side: blobs, packs, indexes and objects byte by byte, each sealed with the right key
//! and named by its right hash, whatever stands in them.

use std::fs;
use std::path::PathBuf;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tillsafe::id::{Hasher, Id};
use tillsafe::monitor::Quiet;
use tillsafe::repository::compress;

use super::forge::Forge;

/// Plain bytes as pieces, each so many times in a row: a terabyte fits into a line.
pub type Pieces<'a> = &'a [(&'a [u8], usize)];

/// A blob as a pack holds it.
#[derive(Clone)]
pub struct RawBlob {
    /// The pack header's byte: 0 data, 1 tree, 2 data in zstd, 3 tree in zstd.
    pub kind: u8,
    pub id: Id,
    pub sealed: Vec<u8>,
    pub plain_length: u32,
}

impl RawBlob {
    /// Its entry in a pack's header.
    pub fn entry(&self) -> Vec<u8> {
        let length = u32::try_from(self.sealed.len()).unwrap();
        entry(self.kind, length, self.plain_length, self.id)
    }

    /// Its entry in an index.
    pub fn indexed(&self, offset: usize) -> Value {
        let kind = if self.kind & 1 == 1 { "tree" } else { "data" };
        let mut entry =
            json!({"id": self.id, "type": kind, "offset": offset, "length": self.sealed.len()});
        if self.kind >= 2 {
            entry["uncompressed_length"] = self.plain_length.into();
        }
        entry
    }
}

/// One entry of a pack's header.
pub fn entry(kind: u8, length: u32, plain_length: u32, id: Id) -> Vec<u8> {
    let mut entry = vec![kind];
    entry.extend(length.to_le_bytes());
    if kind >= 2 {
        entry.extend(plain_length.to_le_bytes());
    }
    entry.extend(id.as_bytes());
    entry
}

/// One zstd frame for each repetition: legal, and as small as what repeats.
pub fn frames(pieces: Pieces) -> Vec<u8> {
    let mut compressor = compress::compressor(3).unwrap();
    let frames = pieces
        .iter()
        .map(|(piece, times)| compressor.compress(piece).unwrap().repeat(*times));
    frames.collect::<Vec<_>>().concat()
}

fn id_of(pieces: Pieces) -> (Id, u64) {
    let (mut hasher, mut length) = (Hasher::default(), 0);
    for (piece, times) in pieces {
        for _ in 0..*times {
            hasher.update(piece);
        }
        length += (piece.len() * times) as u64;
    }
    (hasher.finish(), length)
}

/// A node of a tree: a file with these blobs.
pub fn file_node(name: &str, size: u64, content: &[Id]) -> Value {
    json!({"name": name, "type": "file", "mode": 420, "size": size, "content": content,
        "mtime": "2026-01-02T03:04:05Z", "atime": "2026-01-02T03:04:05Z", "ctime": "2026-01-02T03:04:05Z", "uid": 0, "gid": 0})
}

/// A node of a tree: a folder.
pub fn folder_node(name: &str, tree: Id) -> Value {
    json!({"name": name, "type": "dir", "mode": 2_147_484_141_u64, "content": null, "subtree": tree,
        "mtime": "2026-01-02T03:04:05Z", "atime": "2026-01-02T03:04:05Z", "ctime": "2026-01-02T03:04:05Z", "uid": 0, "gid": 0})
}

/// A tree as JSON.
pub fn tree_json(nodes: &[Value]) -> Vec<u8> {
    serde_json::to_vec(&json!({"nodes": nodes})).unwrap()
}

impl Forge {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn seal_bytes(&self, plain: &[u8]) -> Vec<u8> {
        self.key.seal(plain, &tillsafe::rng::SystemRng).unwrap()
    }

    pub fn open_bytes(&self, sealed: &[u8]) -> Vec<u8> {
        self.key.open(sealed).unwrap()
    }

    /// A compressed blob; `kind` is 2 or 3.
    pub fn blob(&self, kind: u8, pieces: Pieces) -> RawBlob {
        let (id, length) = id_of(pieces);
        RawBlob {
            kind,
            id,
            sealed: self.seal_bytes(&frames(pieces)),
            plain_length: u32::try_from(length).unwrap_or(u32::MAX),
        }
    }

    /// Stores bytes under their hash.
    pub fn object(&self, class: &str, stored: &[u8]) -> Id {
        let id = Id::of(stored);
        self.object_named(class, id, stored);
        id
    }

    /// Stores bytes under another name.
    pub fn object_named(&self, class: &str, id: Id, stored: &[u8]) -> PathBuf {
        let mut folder = self.folder.join(class);
        if class == "data" {
            folder = folder.join(&id.to_string()[..2]);
        }
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(id.to_string());
        fs::write(&path, stored).unwrap();
        path
    }

    /// Stores a compressed JSON object.
    pub fn json_object(&self, class: &str, pieces: Pieces) -> Id {
        let plain = [&[2], frames(pieces).as_slice()].concat();
        self.object(class, &self.seal_bytes(&plain))
    }

    /// Stores a pack whose header says what is in it, and returns its name.
    pub fn pack(&self, blobs: &[RawBlob]) -> Id {
        let header: Vec<u8> = blobs.iter().flat_map(RawBlob::entry).collect();
        self.pack_with_header(blobs, &header)
    }

    /// Stores a pack whose header says something else.
    pub fn pack_with_header(&self, blobs: &[RawBlob], header: &[u8]) -> Id {
        let sealed = self.seal_bytes(header);
        let length = u32::try_from(sealed.len()).unwrap();
        self.pack_with_tail(blobs, &sealed, length)
    }

    /// Stores a pack that ends in any bytes and any length.
    pub fn pack_with_tail(&self, blobs: &[RawBlob], tail: &[u8], length: u32) -> Id {
        let mut bytes: Vec<u8> = blobs.iter().flat_map(|blob| blob.sealed.clone()).collect();
        bytes.extend(tail);
        bytes.extend(length.to_le_bytes());
        self.object("data", &bytes)
    }

    /// Stores an index of one pack.
    pub fn index(&self, pack: Id, blobs: &[Value]) -> Id {
        let index = json!({"packs": [{"id": pack, "blobs": blobs}]});
        self.json_object("index", &[(&serde_json::to_vec(&index).unwrap(), 1)])
    }

    /// Stores blobs in a pack of their own, indexed as they are.
    pub fn store(&self, blobs: &[RawBlob]) -> Id {
        let pack = self.pack(blobs);
        let mut offset = 0;
        let entries: Vec<Value> = blobs
            .iter()
            .map(|blob| {
                offset += blob.sealed.len();
                blob.indexed(offset - blob.sealed.len())
            })
            .collect();
        self.index(pack, &entries);
        pack
    }

    /// The last snapshot as JSON, a second later: what a forged one begins with.
    pub fn next_snapshot(&self, tree: Id) -> Value {
        let snapshots = self.repository.snapshots(&Quiet::default()).unwrap();
        let last = snapshots.readable.last().unwrap();
        let mut snapshot = serde_json::to_value(&last.file).unwrap();
        snapshot["time"] = (last.file.time + SignedDuration::from_secs(1))
            .to_string()
            .into();
        snapshot["tree"] = json!(tree);
        snapshot
    }

    /// The root of the last snapshot.
    pub fn last_tree(&self) -> Id {
        let snapshots = self.repository.snapshots(&Quiet::default()).unwrap();
        snapshots.readable.last().unwrap().file.tree
    }

    /// Makes this JSON the latest snapshot.
    pub fn put_snapshot(&self, snapshot: &Value) -> Id {
        self.json_object("snapshots", &[(&serde_json::to_vec(snapshot).unwrap(), 1)])
    }

    /// Makes a tree of these bytes, and the blobs that it needs, the latest snapshot.
    pub fn snapshot_of_tree(&self, tree: &[u8], data: &[RawBlob]) -> Id {
        self.snapshot_of_pieces(&[(tree, 1)], data)
    }

    pub fn snapshot_of_pieces(&self, tree: Pieces, data: &[RawBlob]) -> Id {
        if !data.is_empty() {
            self.store(data);
        }
        let tree = self.blob(3, tree);
        let id = tree.id;
        self.store(&[tree]);
        self.put_snapshot(&self.next_snapshot(id))
    }

    /// The only objects of a class that the honest backup left.
    pub fn honest(&self, class: &str) -> Vec<PathBuf> {
        let mut files = super::files::files_below(&self.folder.join(class));
        files.sort();
        files
    }
}
