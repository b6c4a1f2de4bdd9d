//! Databases as the snapshot before has them: one that stands as it did then need not be read again
//! (docs/design/unchanged.md).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::Parent;
use crate::capture::manifest::{self, Database, Manifest};
use crate::id::Id;
use crate::monitor::Quiet;
use crate::repository::name;
use crate::repository::snapshot::PROGRAM;
use crate::repository::tree::{Content, Node};
use crate::repository::tree_writer::StoredFile;
use crate::source::sqlite::{self, Standing, beside};

/// After so long a database is read again, however it stands: what its disk has lost shows in no time.
const READ_AGAIN: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What the snapshot before holds of a database.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its image, or the base that its log belongs to.
    pub file: StoredFile,
    /// The log of what changed since.
    pub log: Option<StoredFile>,
    /// What the manifest says of it.
    pub described: Database,
}

/// The images of a snapshot that may be taken over.
#[derive(Debug)]
pub struct Images<'a> {
    /// The snapshot.
    pub parent: &'a Parent<'a>,
    by_path: BTreeMap<PathBuf, Image>,
}

impl<'a> Images<'a> {
    /// What is stored of those of the databases that `parent` holds whole, and that had been left alone when it was
    /// begun. Whether one stands as it did then is for whoever opens it to say.
    #[must_use]
    pub fn of(parent: &'a Parent<'a>, now: Timestamp) -> Self {
        let described = parent.own_manifest().into_iter();
        let described = described.flat_map(|manifest| manifest.databases);
        let described = described.filter(|one| parent.is_fresh(one, now));
        // What cannot be read costs time, not the backup, and is told by the way down to the files.
        let unheard = Quiet::default();
        let mut descent = parent.descend(&unheard);
        let mut by_path = BTreeMap::new();
        // Those of one folder come one after the other.
        let (mut last, mut nodes) = (PathBuf::new(), None);
        for described in described {
            let Some(path) = name::unquote_path(&described.path) else {
                continue;
            };
            let folder = path.parent().unwrap_or(Path::new("/"));
            if last != folder {
                (last, nodes) = (folder.to_owned(), descent.folder(folder));
            }
            let nodes = nodes.as_ref();
            let image = nodes.and_then(|nodes| parent.image(nodes, &path, described));
            by_path.extend(image.map(|image| (path, image)));
        }
        Self { parent, by_path }
    }

    /// That of the database which is stored at `path`.
    #[must_use]
    pub fn at(&self, path: &Path) -> Option<&Image> {
        self.by_path.get(path)
    }
}

impl Parent<'_> {
    /// What the snapshot says of itself, if it is one of this very program's.
    fn own_manifest(&self) -> Option<Manifest> {
        let tree = self.tree.filter(|_| self.is_ours)?;
        let root = self.repository.read_tree(self.index, tree).ok()?;
        let manifest = manifest::find(self.repository, self.index, &root).ok()??;
        (manifest.program == PROGRAM).then_some(manifest)
    }

    /// Whether what is said of a database may still be so, if it stands as it did.
    fn is_fresh(&self, database: &Database, now: Timestamp) -> bool {
        let is_fresh = |read: Timestamp| {
            let age = now.duration_since(read);
            !age.is_negative() && age < READ_AGAIN
        };
        let is_old = |then: &Standing| then.modified.max(then.changed) < self.limit;
        // What was found wrong may have been the reading.
        database.unsound.is_none()
            && database.engine_version == sqlite::engine_version()
            && database.read_at.is_some_and(is_fresh)
            && database.standing.as_ref().is_some_and(is_old)
    }

    /// What is stored of the database at `path`, whose folder has these nodes, if it is all there, and is what the
    /// manifest says. What base and log make together only reading them tells: there its word is taken.
    fn image(
        &self,
        nodes: &BTreeMap<OsString, Node>,
        path: &Path,
        described: Database,
    ) -> Option<Image> {
        let stored = |path: &Path, bytes| {
            let Content::File { blobs, .. } = &nodes.get(path.file_name()?)?.content else {
                return None;
            };
            self.stored(blobs, bytes)
        };
        if let Some(log) = described.log {
            return Some(Image {
                file: stored(path, log.base_bytes)?,
                log: Some(stored(&beside(path, "-wal"), log.log_bytes)?),
                described,
            });
        }
        let file = stored(path, described.size_bytes)?;
        let length = |id: &Id| (self.length(*id).unwrap_or(0), *id);
        let is_it = manifest::image_hash(file.blobs.iter().map(length)) == described.image_sha256;
        is_it.then_some(Image {
            file,
            log: None,
            described,
        })
    }

    /// Whether this database still holds what the image does.
    #[must_use]
    pub fn is_image(&self, image: &Image, standing: &Standing) -> bool {
        let then = image.described.standing.as_ref();
        then.is_some_and(|then| standing.is_as(then, self.ignore_inode))
    }
}
