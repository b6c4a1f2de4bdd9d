//! Databases as the snapshot before has them: one that stands as it did then need not be read again
//! (docs/design/unchanged.md).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::Parent;
use crate::capture::manifest::{self, Database, Manifest};
use crate::monitor::Quiet;
use crate::repository::name;
use crate::repository::snapshot::PROGRAM;
use crate::repository::tree::{Content, Node};
use crate::repository::tree_writer::StoredFile;
use crate::source::sqlite::{self, Standing};

/// After so long a database is read again, however it stands: what its disk has lost shows in no time.
const READ_AGAIN: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What the snapshot before holds of a database.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its image.
    pub file: StoredFile,
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
            let node = nodes
                .as_ref()
                .and_then(|nodes| nodes.get(path.file_name()?));
            if let Some(file) = node.and_then(|node| parent.image(node, &described)) {
                by_path.insert(path, Image { file, described });
            }
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

    /// What is stored of a database, if it is all there, and is what the manifest says.
    fn image(&self, node: &Node, described: &Database) -> Option<StoredFile> {
        let Content::File { blobs, .. } = &node.content else {
            return None;
        };
        let file = self.stored(blobs, described.size_bytes)?;
        let lengths = blobs.iter().map(|id| (self.length(*id).unwrap_or(0), *id));
        (manifest::image_hash(lengths) == described.image_sha256).then_some(file)
    }

    /// Whether this database still holds what the image does.
    #[must_use]
    pub fn is_image(&self, image: &Image, standing: &Standing) -> bool {
        let then = image.described.standing.as_ref();
        then.is_some_and(|then| standing.is_as(then, self.ignore_inode))
    }
}
