//! `/.tillsafe/manifest.json`: what a snapshot says about itself. A format for ever
//! (docs/design/manifest.md): fields are added, none is changed or taken away.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::left_out::LeftOut;
use crate::error::{Error, Result};
use crate::id::{Hasher, Id};
use crate::monitor::Problem;
use crate::point::ConsistencyPoint;
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::name;
use crate::repository::pack::BlobKind;
use crate::repository::tree::{Content, Node};
use crate::source::files::exclude::Rules;
use crate::source::postgres::{Facts, Fingerprint as ServerFingerprint};
use crate::source::sqlite::{Fingerprint, Header, Method, Standing};

/// The latest version that this program knows.
pub const SCHEMA: u32 = 2;
/// The version of a snapshot without server databases: whoever knows no later one draws no wrong conclusion from it.
const WITHOUT_SERVERS: u32 = 1;
/// The folder of our own files in a snapshot.
pub const FOLDER: &str = ".tillsafe";
/// The manifest's name in it.
pub const FILE: &str = "manifest.json";
/// Longest manifest that is read, in bytes: about a hundred thousand databases.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// What a snapshot holds, and how it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this description.
    pub schema: u32,
    /// Program and version that wrote it.
    pub program: String,
    /// The machine that was backed up.
    pub host: String,
    /// When the first source was looked at.
    pub begun: Timestamp,
    /// When the last source was read.
    pub ended: Timestamp,
    /// The `SQLite` databases.
    pub databases: Vec<Database>,
    /// The databases that a server holds; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerDatabase>,
    /// Everything else.
    pub files: Files,
    /// What was left out by rule; absent if there was no rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excluded: Option<Excluded>,
    /// What is missing, or may be of two moments.
    pub incomplete: Vec<Note>,
    /// What else the owner should know.
    pub warnings: Vec<Note>,
}

impl Manifest {
    /// Whether a database was damaged before it was read, or holds implausibly little.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        let is_unsound = |database: &Database| database.unsound.is_some();
        let is_implausible = |server: &ServerDatabase| server.implausible.is_some();
        self.databases.iter().any(is_unsound) || self.servers.iter().any(is_implausible)
    }
}

/// One database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Its engine: `sqlite`.
    pub engine: String,
    /// Version of the engine that read it.
    pub engine_version: String,
    /// Its absolute path in the snapshot, quoted as names in trees are.
    pub path: String,
    /// How it was read.
    pub method: Method,
    /// Its journal mode at capture.
    pub journal_mode: String,
    /// Which moment it is of.
    pub point: ConsistencyPoint,
    /// Whether that moment is common to all databases that say so: no transaction is in one of them by half.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub common_point: bool,
    /// How long our read transaction lasted, in milliseconds.
    pub held_ms: u64,
    /// Bytes of its image.
    pub size_bytes: u64,
    /// See [`image_hash`]; of one with a [`log`](Self::log) SHA-256 over the SHA-256 of each page in order.
    pub image_sha256: Id,
    /// How it is stored if not as one file: a base under its name, and a log beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
    /// What it held.
    pub fingerprint: Fingerprint,
    /// What its header says; absent in manifests before this was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Header>,
    /// How it stood, if that could be told: as long as it stands so, it holds what it held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
    /// When its pages were read: before this snapshot, if it stood as it did then. Absent in older manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Timestamp>,
    /// What the engine found wrong in it at capture: then the snapshot is suspect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsound: Option<String>,
}

/// A database that a server holds: dumped into a folder of its own (docs/design/servers.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerDatabase {
    /// Its shop.
    pub shop: String,
    /// Its name in the shop.
    pub name: String,
    /// Its engine: `postgresql`.
    pub engine: String,
    /// How it was read: `dump`.
    pub method: String,
    /// Version of the tools that dumped it.
    pub tool_version: String,
    /// What the server calls it.
    pub database: String,
    /// The folder that it is stored in, quoted as names in trees are.
    pub path: String,
    /// Which moment it is of.
    pub point: ConsistencyPoint,
    /// How long our transaction lasted, in milliseconds.
    pub held_ms: u64,
    /// Files in the folder.
    pub files: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Bytes of the dump.
    pub dump_bytes: u64,
    /// [`image_hash`] of the dump.
    pub dump_sha256: Id,
    /// Whether the passwords of roles are in the globals.
    pub has_passwords: bool,
    /// What a restore must know beside its content.
    pub facts: Facts,
    /// What it held.
    pub fingerprint: ServerFingerprint,
    /// How much less it holds than the last good snapshot, if that is more than a day explains: then the snapshot is suspect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub implausible: Option<String>,
}

impl ServerDatabase {
    /// The name of the dump in its folder.
    pub const DUMP: &str = "dump.pgdump";

    /// Its folder in the snapshot.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        name::unquote_path(&self.path).unwrap_or_else(|| PathBuf::from(&self.path))
    }
}

/// The version that says all of these, and no later one than it needs.
#[must_use]
pub const fn schema_for(servers: &[ServerDatabase]) -> u32 {
    if servers.is_empty() {
        WITHOUT_SERVERS
    } else {
        SCHEMA
    }
}

/// The two files that a database is stored as: a base, and a log of the pages that changed since
/// (docs/design/increments.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Bytes of a page.
    pub page_bytes: u32,
    /// Bytes of the base, under the database's own name.
    pub base_bytes: u64,
    /// Bytes of the log, under its name with `-wal`.
    pub log_bytes: u64,
}

/// All that is no database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Regular files.
    pub files: u64,
    /// Folders, those that lead to what was asked for included.
    pub folders: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// What was left out by rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excluded {
    /// The rules.
    pub rules: Rules,
    /// Items of all rules; a folder is one, whatever it holds.
    pub items: u64,
    /// The databases among them that were seen, quoted as names in trees are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<String>,
}

impl Excluded {
    /// What these rules have left out; nothing if there is none.
    #[must_use]
    pub fn of(rules: &Rules, left_out: &LeftOut) -> Option<Self> {
        let databases = left_out.databases.iter();
        (!rules.is_empty()).then(|| Self {
            rules: rules.clone(),
            items: left_out.items(),
            databases: databases.map(|one| quoted(&one.path)).collect(),
        })
    }
}

/// A finding about one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The item.
    pub item: String,
    /// What was found.
    pub finding: String,
}

impl From<&Problem> for Note {
    fn from(problem: &Problem) -> Self {
        Self {
            item: problem.item.clone(),
            finding: problem.finding.clone(),
        }
    }
}

/// The hash of an image: SHA-256 over its blobs in order, for each its length in bytes as 8 bytes
/// (little-endian) and its id as 32 bytes. So nothing is read or hashed twice.
#[must_use]
pub fn image_hash(blobs: impl IntoIterator<Item = (u64, Id)>) -> Id {
    let mut hasher = Hasher::default();
    for (length, id) in blobs {
        hasher.update(&length.to_le_bytes());
        hasher.update(id.as_bytes());
    }
    hasher.finish()
}

/// The manifest of a snapshot with this root; none if it has none.
///
/// # Errors
/// [`Error::Damaged`], also for one of a later schema; [`Error::Storage`].
pub fn find(repository: &Repository, index: &Index, root: &[Node]) -> Result<Option<Manifest>> {
    let Some(json) = find_json(repository, index, root)? else {
        return Ok(None);
    };
    let manifest: Manifest = serde_json::from_slice(&json).map_err(|cause| damaged(&cause))?;
    if manifest.schema > SCHEMA {
        return Err(damaged(&format!(
            "it is of schema {}, written by {}",
            manifest.schema, manifest.program
        )));
    }
    Ok(Some(manifest))
}

fn damaged(cause: &dyn std::fmt::Display) -> Error {
    Error::Damaged {
        object: format!("/{FOLDER}/{FILE}"),
        finding: cause.to_string(),
    }
}

fn find_json(repository: &Repository, index: &Index, root: &[Node]) -> Result<Option<Vec<u8>>> {
    let find = |nodes: &[Node], name: &str| {
        nodes
            .iter()
            .find(|node| node.entry.name.as_bytes() == name.as_bytes())
            .map(|node| node.content.clone())
    };
    let Some(Content::Folder { tree }) = find(root, FOLDER) else {
        return Ok(None);
    };
    let folder = repository.read_tree(index, tree)?;
    let Some(Content::File { blobs, .. }) = find(&folder, FILE) else {
        return Ok(None);
    };
    let locations = blobs
        .iter()
        .filter_map(|id| index.find(BlobKind::Data, *id));
    let bytes: u64 = locations.map(|location| location.plain_length()).sum();
    if bytes > MAX_BYTES {
        return Err(damaged(&format!("it claims {bytes} bytes")));
    }
    let mut json = Vec::new();
    for blob in blobs {
        json.extend(repository.read_blob(index, BlobKind::Data, blob)?);
    }
    Ok(Some(json))
}

/// A path as the manifest writes it.
#[must_use]
pub fn quoted(path: &Path) -> String {
    name::quote(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_hash_depends_on_order_and_lengths() {
        let (a, b) = (Id::of(b"a"), Id::of(b"b"));
        let hashes = [
            image_hash([(1, a), (2, b)]),
            image_hash([(2, b), (1, a)]),
            image_hash([(2, a), (1, b)]),
            image_hash([(1, a)]),
        ];
        for (index, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..index].contains(hash));
        }
        let mut bytes = Vec::new();
        for (length, id) in [(1_u64, a), (2, b)] {
            bytes.extend(length.to_le_bytes());
            bytes.extend(id.as_bytes());
        }
        assert_eq!(hashes[0], Id::of(&bytes));
    }
}
