//! The journal of a swap: which names are exchanged, and what stood and will stand under them.
//!
//! It is written once, before the first name changes, and never again. How far a swap has come is read
//! from the names themselves: a rename keeps a file's identity.

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable::scratch::KEPT;
use crate::durable::{Disk, Folder, Identity, ListedKind};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::repository::name;

/// The journal's name in a kept folder.
pub(super) const JOURNAL: &str = "journal";
/// A file in each kept folder: from its presence on, only a rollback goes on.
pub(super) const UNDO: &str = crate::durable::scratch::KEPT_UNDO;
/// A file in each kept folder, the first place's last: the swap is complete, and durable.
pub(super) const DONE: &str = crate::durable::scratch::KEPT_DONE;
/// The same for a rollback.
pub(super) const UNDONE: &str = crate::durable::scratch::KEPT_UNDONE;
/// A file in each kept folder: its owner wants it removed.
pub(super) const DISCARD: &str = "discard";
/// What is not live: the copy before the swap, what a rollback displaced after it.
pub(super) const NEW: &str = "new";
/// What was replaced.
pub(super) const OLD: &str = "old";
/// The form of journal that is written here.
const SCHEMA: u32 = 1;
/// Longest journal that is read, in bytes: a few hundred thousand names.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// A swap, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Its own name; the kept folders end in it.
    pub id: String,
    /// When the swap began.
    pub begun: Timestamp,
    /// The snapshot that was restored.
    pub snapshot: Id,
    /// Which restore it is: hash of the snapshot, what of it, and where to.
    pub restore: Id,
    /// The plan that was consented to.
    pub plan: Id,
    /// How far the copy is proved.
    pub proof_level: String,
    /// What is replaced, as its owner knows it.
    #[serde(with = "paths")]
    pub roots: Vec<PathBuf>,
    /// Where names are exchanged. The swap has begun once the first of them has its kept folder.
    pub places: Vec<Place>,
}

/// The journal as a file.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    about: String,
    schema: u32,
    #[serde(flatten)]
    journal: Cow<'a, Journal>,
}

/// A folder in which names are exchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The folder.
    #[serde(with = "path")]
    pub path: PathBuf,
    /// Its number in its file system: while a disk is not mounted, another folder stands at its path.
    pub inode: u64,
    /// Whether every name in it is replaced: a mount point, or a folder whose parent is closed to us.
    pub whole: bool,
    /// The names.
    pub moves: Vec<Move>,
    /// What is moved aside although the snapshot failed to save it, relative to the place: it may be nowhere
    /// else. Journals of before this was written have none.
    #[serde(with = "paths", default, skip_serializing_if = "Vec::is_empty")]
    pub unsaved: Vec<PathBuf>,
}

/// One name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Relative to the place.
    #[serde(with = "path")]
    pub name: PathBuf,
    /// The copy that takes the name; none if the name goes.
    pub staged: Option<Identity>,
    /// What had the name; none if nothing did.
    pub replaced: Option<Identity>,
    /// Whether it is a database file, whose `-wal`, `-shm` and `-journal` go with it.
    pub is_database: bool,
    /// The side files that it had when the swap began.
    pub side_files: Vec<Identity>,
    /// Whether there is a database in it: then it goes first and comes last.
    pub holds_database: bool,
}

impl Place {
    /// A disk may have another number than when this was written: what lies in the kept folder, and so
    /// everything that a rename can bring there, is on the disk that now has this one.
    pub(super) fn renumber(&mut self, device: u64) {
        let then = self.moves.iter();
        let mut then = then.filter_map(|one| one.staged.or(one.replaced));
        let Some(Identity { device: then, .. }) = then.next() else {
            return;
        };
        let moves = self.moves.iter_mut();
        let all = moves.flat_map(|one| {
            let (staged, replaced) = (one.staged.iter_mut(), one.replaced.iter_mut());
            staged.chain(replaced).chain(&mut one.side_files)
        });
        for identity in all.filter(|identity| identity.device == then) {
            identity.device = device;
        }
    }
}

impl Journal {
    /// The folders in which names are exchanged.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.places.iter().map(|place| place.path.as_path())
    }

    /// What its folders are, for whoever finds them.
    fn about(&self) -> String {
        let shown = self.roots.iter().map(|root| crate::units::shown(root));
        let shown: Vec<String> = shown.collect();
        format!(
            "What stood at {} before tillsafe restored snapshot {} there. `tillsafe rollback {}` puts it back; with --discard it is removed.",
            shown.join(", "),
            self.snapshot.short(),
            self.id
        )
    }

    /// The name of its folders.
    pub(super) fn kept_name(&self) -> PathBuf {
        format!("{KEPT}{}", self.id).into()
    }

    /// Whether anything stood where the copies go.
    pub(super) fn replaces_anything(&self) -> bool {
        let mut moves = self.places.iter().flat_map(|place| &place.moves);
        moves.any(|one| one.replaced.is_some() || !one.side_files.is_empty())
    }

    /// Whether the first place has no kept folder, for sure: until it has, nothing is promised, and when
    /// it is gone, all of it may go.
    pub(super) fn is_surely_without_first(&self) -> bool {
        let Some(first) = self.places.first() else {
            return true;
        };
        let is_there = |metadata: std::fs::Metadata| metadata.ino() == first.inode;
        std::fs::metadata(&first.path).is_ok_and(is_there)
            && !first.path.join(self.kept_name()).exists()
    }

    /// Whether the first place's kept folder has this mark.
    pub(super) fn is_marked_first(&self, mark: &str) -> bool {
        let first = self.places.first();
        first.is_some_and(|place| place.path.join(self.kept_name()).join(mark).exists())
    }

    /// Writes it, durably, into a folder.
    pub(super) fn write(&self, folder: &dyn Folder) -> Result<()> {
        let written = Written {
            about: self.about(),
            schema: SCHEMA,
            journal: Cow::Borrowed(self),
        };
        let json = serde_json::to_vec_pretty(&written).map_err(|cause| Error::internal(&cause))?;
        if json.len() as u64 > MAX_BYTES {
            return Err(Error::TargetUnfit {
                path: folder.path().to_owned(),
                finding:
                    "too many files would be exchanged one by one; restore their folder as a whole"
                        .to_owned(),
            });
        }
        let path = Path::new(JOURNAL);
        let write = || {
            let file = folder.create_file(path, 0o600)?;
            file.write_all_at(&json, 0)?;
            file.sync()
        };
        write().map_err(Error::file("writing", folder.path().join(path)))
    }

    /// Reads the journal of a kept folder. Only the folder's owner may have written it: what it says
    /// is done with our rights.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub(super) fn read(folder: &dyn Folder) -> std::result::Result<Self, String> {
        let metadata = std::fs::metadata(folder.path()).map_err(|cause| cause.to_string())?;
        let ours = rustix::process::geteuid().as_raw();
        if metadata.uid() != ours || metadata.mode() & 0o022 != 0 {
            return Err("it belongs to somebody else, or others can write it".to_owned());
        }
        let read = || {
            let file = folder.open_file(Path::new(JOURNAL), false)?;
            let length = file.length()?;
            if length > MAX_BYTES {
                return Err(std::io::Error::other("its journal is too long"));
            }
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|cause| format!("its journal cannot be read: {cause}"))?;
        let written: Written = serde_json::from_slice(&bytes)
            .map_err(|cause| format!("its journal cannot be read: {cause}"))?;
        if written.schema != SCHEMA {
            return Err(format!("its journal has the form {}", written.schema));
        }
        let journal = written.journal.into_owned();
        if folder.path().file_name() != Some(journal.kept_name().as_os_str()) {
            return Err("its journal is another folder's".to_owned());
        }
        Ok(journal)
    }
}

/// The journals of folders in `place` that are named as kept, oldest first, and what is wrong with
/// those that cannot be read.
pub(super) fn read_all(place: &Path, disk: &dyn Disk) -> (Vec<Journal>, Vec<(PathBuf, String)>) {
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    let listed = disk
        .open(place)
        .and_then(|folder| folder.list(Path::new("")));
    for listed in listed.unwrap_or_default() {
        let is_kept = listed.name.as_bytes().starts_with(KEPT.as_bytes());
        if listed.kind != ListedKind::Folder || !is_kept {
            continue;
        }
        let path = place.join(&listed.name);
        let journal = disk
            .open(&path)
            .map_err(|cause| cause.to_string())
            .and_then(|folder| Journal::read(folder.as_ref()));
        match journal {
            Ok(journal) => found.push(journal),
            Err(finding) => unreadable.push((path, finding)),
        }
    }
    found.sort_by(|a, b| (a.begun, &a.id).cmp(&(b.begun, &b.id)));
    (found, unreadable)
}

fn quote(path: &Path) -> String {
    name::quote(path.as_os_str().as_bytes())
}

fn unquote<E: serde::de::Error>(text: &str) -> std::result::Result<PathBuf, E> {
    name::unquote_path(text).ok_or_else(|| E::custom("no path"))
}

/// A path as JSON, whatever its bytes.
mod path {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::path::{Path, PathBuf};

    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::quote(path))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        super::unquote(&String::deserialize(deserializer)?)
    }
}

/// Several of them.
mod paths {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::path::PathBuf;

    pub fn serialize<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(|path| super::quote(path)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<PathBuf>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| super::unquote(text)).collect()
    }
}
