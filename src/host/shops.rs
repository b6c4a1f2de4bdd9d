//! Looking for shops: folders with SQLite databases, and with what customers and owners have uploaded.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Clock;
use crate::durable::scratch;
use crate::error::Result;
use crate::monitor::{Monitor, Step, go_on};
use crate::source::sqlite::{self, SIDE_FILES, Signature};

/// Deepest folder below an application's own.
const MAX_DEPTH: usize = 12;
/// Longest look: a host with a hundred million files must not keep an owner waiting.
const MAX_TIME: Duration = Duration::from_mins(1);
/// Folders with such names hold what people have uploaded.
const UPLOADS: [&str; 10] = [
    "uploads",
    "upload",
    "media",
    "images",
    "pictures",
    "photos",
    "files",
    "documents",
    "attachments",
    "invoices",
];
/// Folders with such names hold what can be made again.
const CACHES: [&str; 6] = [
    "cache",
    ".cache",
    "caches",
    "tmp",
    "node_modules",
    "__pycache__",
];
/// Folders below `/var/lib` that the system itself fills.
const OF_THE_SYSTEM: [&str; 12] = [
    "apt",
    "command-not-found",
    "containerd",
    "containers",
    "docker",
    "dpkg",
    "fwupd",
    "lxcfs",
    "PackageKit",
    "snapd",
    "systemd",
    "tillsafe",
];

/// A database that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its absolute path.
    pub path: PathBuf,
    /// Its size in bytes, without what is beside it.
    pub size_bytes: u64,
}

/// A folder that looks like a shop's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shop {
    /// The application's folder.
    pub folder: PathBuf,
    /// The databases in it.
    pub databases: Vec<Database>,
    /// The folders of uploads in it.
    pub uploads: Vec<PathBuf>,
    /// The folders in it that can be made again.
    pub caches: Vec<PathBuf>,
    /// Files in it, without those of its caches.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a look has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The shops, by their folders.
    pub shops: Vec<Shop>,
    /// Folders that could not be looked into.
    pub unreadable: Vec<PathBuf>,
    /// Whether the time was up before everything was seen.
    pub cut_short: bool,
}

/// Looks for shops: each of `named` is one, if anything is in it; without any, what lies where a machine
/// with its root at `root` (`/`) keeps applications.
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub fn find(
    named: &[PathBuf],
    root: &Path,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<Found> {
    monitor.step(Step::Surveying, None);
    let mut look = Look {
        monitor,
        until: clock.now() + MAX_TIME,
        clock,
        found: Found::default(),
    };
    if named.is_empty() {
        for (folder, needs_database) in applications(root) {
            look.application(&folder, needs_database)?;
        }
    } else {
        for folder in named {
            look.application(folder, false)?;
        }
    }
    Ok(look.found)
}

/// The folders that may be applications, and whether only a database makes one a shop: a home has folders of
/// pictures too.
fn applications(root: &Path) -> BTreeMap<PathBuf, bool> {
    let mut applications = BTreeMap::new();
    for base in ["srv", "var/www", "opt", "usr/local"] {
        applications.extend(folders(&root.join(base)).map(|folder| (folder, false)));
    }
    let of_the_system = |folder: &Path| OF_THE_SYSTEM.iter().any(|name| folder.ends_with(name));
    applications.extend(
        folders(&root.join("var/lib"))
            .filter(|folder| !of_the_system(folder))
            .map(|folder| (folder, true)),
    );
    let homes = folders(&root.join("home")).chain([root.join("root")]);
    for home in homes {
        applications.extend(folders(&home).map(|folder| (folder, true)));
    }
    for volume in folders(&root.join("var/lib/docker/volumes")) {
        applications.insert(volume.join("_data"), false);
    }
    applications
}

/// The folders in a folder that are no links and not hidden; none if it cannot be read.
fn folders(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let listed = std::fs::read_dir(path).into_iter().flatten().flatten();
    listed
        .filter(|item| item.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter(|item| !item.file_name().as_bytes().starts_with(b"."))
        .map(|item| item.path())
}

struct Look<'a> {
    monitor: &'a dyn Monitor,
    clock: &'a dyn Clock,
    until: jiff::Timestamp,
    found: Found,
}

impl Look<'_> {
    fn application(&mut self, folder: &Path, needs_database: bool) -> Result<()> {
        let mut shop = Shop {
            folder: folder.to_owned(),
            databases: Vec::new(),
            uploads: Vec::new(),
            caches: Vec::new(),
            files: 0,
            bytes: 0,
        };
        self.look_into(&mut shop)?;
        shop.databases.sort_by(|a, b| a.path.cmp(&b.path));
        shop.uploads.sort();
        shop.caches.sort();
        if !shop.databases.is_empty() || (!needs_database && !shop.uploads.is_empty()) {
            self.found.shops.push(shop);
        }
        Ok(())
    }

    fn look_into(&mut self, shop: &mut Shop) -> Result<()> {
        let mut waiting = vec![(shop.folder.clone(), 0)];
        while let Some((folder, depth)) = waiting.pop() {
            go_on(self.monitor)?;
            if self.clock.now() > self.until {
                self.found.cut_short = true;
                return Ok(());
            }
            let Ok(listed) = std::fs::read_dir(&folder) else {
                self.found.unreadable.push(folder);
                continue;
            };
            for item in listed.flatten() {
                let (path, name) = (item.path(), item.file_name());
                let Ok(metadata) = item.metadata() else {
                    continue;
                };
                if metadata.is_dir() {
                    if is_worth_a_look(shop, &path, &name) && depth < MAX_DEPTH {
                        waiting.push((path, depth + 1));
                    }
                } else if metadata.is_file() {
                    shop.files += 1;
                    shop.bytes += metadata.len();
                    if is_database(&path, &name, &metadata) {
                        let size_bytes = metadata.len();
                        shop.databases.push(Database { path, size_bytes });
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether a folder may hold databases; what kind it is, is noted.
fn is_worth_a_look(shop: &mut Shop, path: &Path, name: &OsStr) -> bool {
    let is = |names: &[&str]| names.iter().any(|other| name.eq_ignore_ascii_case(other));
    if is(&CACHES) {
        shop.caches.push(path.to_owned());
        return false;
    }
    // Inside a folder of uploads everything is an upload.
    if is(&UPLOADS) && !shop.uploads.iter().any(|outer| path.starts_with(outer)) {
        shop.uploads.push(path.to_owned());
    }
    name != ".git" && !scratch::is_scratch(name) && !is_repository(path)
}

/// Whether a file is a `SQLite` database. Only what can be one is opened: a database is whole pages.
fn is_database(path: &Path, name: &OsStr, metadata: &Metadata) -> bool {
    let name = name.as_bytes();
    let beside = SIDE_FILES
        .iter()
        .any(|suffix| name.ends_with(suffix.as_bytes()));
    let pages = metadata.size() >= 512 && metadata.size().is_multiple_of(512);
    let has = |signature: Signature, path: &Path| {
        sqlite::signature(path).is_ok_and(|found| found == signature)
    };
    !beside
        && ((pages && has(Signature::Database, path))
            // All that it holds may still be in its log.
            || (metadata.size() == 0 && has(Signature::Wal, &sqlite::beside(path, "-wal"))))
}

/// Whether a folder is a repository in restic's format: what is in it belongs to others.
fn is_repository(folder: &Path) -> bool {
    ["config", "keys", "snapshots", "data"]
        .iter()
        .all(|name| folder.join(name).exists())
}
