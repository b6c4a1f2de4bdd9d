//! Which snapshot, which of its paths, how many bytes: read from the repository, nothing written.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::capture::manifest::{self, Manifest};
use crate::entry::{Entry, Kind};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Problem, go_on};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::pack::BlobKind;
use crate::repository::snapshot::Snapshot;
use crate::repository::tree::{Content, Node};
use crate::source::sqlite::beside;

/// Deepest folder that is followed. The kernel takes no path beyond 4096 bytes anyway.
const MAX_DEPTH: usize = 2048;

/// Longest path below the base, in bytes: the kernel takes no longer one. Long names that lie deep would
/// else take half a megabyte an item.
const MAX_PATH: usize = 4095;
/// Most items that may come from trees met before. Equal folders share a tree, but two trees that each
/// hold the next one twice would else make 2^40 items out of 40 trees.
const MAX_REPEATED: usize = 250_000;
/// Bytes of a path that weigh as much as an item.
const PATH_WEIGHT: usize = 256;
/// Longest manifest that is read, in bytes: about a hundred thousand databases.
const MAX_MANIFEST: u64 = 64 * 1024 * 1024;

/// One thing to restore.
#[derive(Debug, Clone)]
pub struct Item {
    /// Where, relative to the target.
    pub path: PathBuf,
    /// Name and metadata.
    pub entry: Entry,
    /// Content.
    pub content: Content,
}

/// What a restore will do.
#[derive(Debug)]
pub struct Plan {
    /// From which snapshot.
    pub snapshot: Snapshot,
    /// Everything to restore; folders before what they hold.
    pub items: Vec<Item>,
    /// What the snapshot says about itself; none if another program made it.
    pub manifest: Option<Manifest>,
    /// Folder of the snapshot whose content lands directly in the target.
    pub base: PathBuf,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
    /// The base folder itself: who owns it, and its mode; none for the whole of a snapshot.
    pub base_folder: Option<Entry>,
    /// Whether `base` is a single file.
    is_file: bool,
    /// Of a single file: files beside it in the snapshot that it is not whole without.
    parts_left: Vec<String>,
}

impl Plan {
    /// Reads the trees of `snapshot` below `base` (`/` for all).
    ///
    /// # Errors
    /// [`Error::NoSuchPath`], [`Error::Damaged`], [`Error::Storage`].
    pub fn make(
        repository: &Repository,
        index: &Index,
        snapshot: Snapshot,
        base: &Path,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let mut plan = Self {
            items: Vec::new(),
            manifest: None,
            base: base.to_owned(),
            bytes: 0,
            files: 0,
            base_folder: None,
            is_file: false,
            parts_left: Vec::new(),
            snapshot,
        };
        let root = repository.read_tree(index, plan.snapshot.file.tree)?;
        plan.manifest = read_manifest(repository, index, &root, monitor);
        let mut nodes = root;
        let mut below = PathBuf::from("/");
        for component in base.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            below.push(name);
            nodes = plan.descend(repository, index, &nodes, name, &below)?;
        }
        if below == Path::new("/") {
            // Our own facts are restored only on request.
            nodes.retain(|node| node.entry.name != manifest::FOLDER);
        }
        plan.add(repository, index, nodes, monitor)?;
        Ok(plan)
    }

    /// Finds `name` among `nodes`: a folder's content, or a file as the only node.
    fn descend(
        &mut self,
        repository: &Repository,
        index: &Index,
        nodes: &[Node],
        name: &OsStr,
        path: &Path,
    ) -> Result<Vec<Node>> {
        let node = nodes.iter().find(|node| node.entry.name == name);
        match node.map(|node| (node, &node.content)) {
            Some((node, Content::Folder { tree })) => {
                self.base_folder = Some(node.entry.clone());
                repository.read_tree(index, *tree)
            }
            Some((node, _)) if path == self.base => {
                (self.is_file, self.base_folder) = (true, None);
                for part in ["-wal", "-journal"] {
                    let beside = beside(name.as_ref(), part);
                    if nodes.iter().any(|node| *node.entry.name == *beside) {
                        self.parts_left.push(crate::units::shown(&beside));
                    }
                }
                Ok(vec![node.clone()])
            }
            _ => Err(Error::NoSuchPath {
                snapshot: self.snapshot.id.short(),
                path: crate::units::shown(&self.base),
                finding: self.why_missing(),
            }),
        }
    }

    /// What the manifest says of a path that is not there.
    fn why_missing(&self) -> Option<String> {
        let wanted = crate::units::shown(&self.base);
        let mut notes = self
            .manifest
            .iter()
            .flat_map(|manifest| &manifest.incomplete);
        let note = notes.find(|note| note.item == wanted)?;
        Some(note.finding.clone())
    }

    /// Tells what this restore cannot bring back: what its capture missed, and what this version
    /// lists but does not restore.
    pub(super) fn tell_missing(&self, monitor: &dyn Monitor) {
        let manifest = self.manifest.iter();
        for note in manifest.flat_map(|manifest| &manifest.incomplete) {
            if Path::new(&note.item).starts_with(&self.base) {
                monitor.problem(Problem {
                    item: note.item.clone(),
                    finding: format!("when it was captured: {}", note.finding),
                    incomplete: true,
                });
            }
        }
        for part in &self.parts_left {
            monitor.problem(Problem {
                item: crate::units::shown(&self.base),
                finding: format!(
                    "{part} lies beside it in the snapshot, and a database is not whole without it; restore the folder"
                ),
                incomplete: true,
            });
        }
        for item in &self.items {
            if let Kind::Other(kind) = &item.entry.kind {
                monitor.problem(Problem {
                    item: crate::units::shown(&item.path),
                    finding: format!("a {kind} is not restored by this version"),
                    // A socket holds nothing that could be.
                    incomplete: kind != "socket",
                });
            }
        }
    }

    /// Adds everything below, folders before what they hold.
    fn add(
        &mut self,
        repository: &Repository,
        index: &Index,
        nodes: Vec<Node>,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        const FEW_NODES: usize = 100;
        const FEW_TREES: usize = 1000;
        let damaged = |finding: String| Error::Damaged {
            object: format!("snapshot {}", self.snapshot.id.short()),
            finding,
        };
        let too_deep = damaged(format!("its folders are more than {MAX_DEPTH} deep"));
        let too_many = damaged(format!(
            "the same folders hold more than {MAX_REPEATED} items again and again"
        ));
        let too_long = damaged(format!("its paths have more than {MAX_PATH} bytes"));
        let mut waiting: Vec<(PathBuf, Vec<Node>)> = vec![(PathBuf::new(), nodes)];
        let (mut met, mut repeated) = (HashSet::new(), 0);
        // Small trees that were met again are not read a hundred thousand times.
        let mut again: HashMap<Id, Vec<Node>> = HashMap::new();
        while let Some((folder, nodes)) = waiting.pop() {
            go_on(monitor)?;
            if folder.components().count() > MAX_DEPTH {
                return Err(too_deep);
            }
            for node in nodes {
                let path = folder.join(&node.entry.name);
                let length = path.as_os_str().len();
                if length > MAX_PATH {
                    return Err(too_long);
                }
                match &node.content {
                    Content::Folder { tree } => {
                        let nodes = match again.get(tree) {
                            Some(nodes) => Vec::clone(nodes),
                            None => repository.read_tree(index, *tree)?,
                        };
                        if !met.insert(*tree) {
                            if nodes.len() <= FEW_NODES && again.len() < FEW_TREES {
                                again.entry(*tree).or_insert_with(|| nodes.clone());
                            }
                            repeated += weight(&nodes) + nodes.len() * length / PATH_WEIGHT;
                        }
                        if repeated > MAX_REPEATED {
                            return Err(too_many);
                        }
                        waiting.push((path.clone(), nodes));
                    }
                    Content::File { size, .. } => {
                        self.files += 1;
                        self.bytes = self.bytes.saturating_add(*size);
                    }
                    Content::Nothing => {}
                }
                self.items.push(Item {
                    path,
                    entry: node.entry,
                    content: node.content,
                });
            }
        }
        Ok(())
    }

    /// The item's full path in the snapshot.
    #[must_use]
    pub fn path_in_snapshot(&self, item: &Item) -> PathBuf {
        if self.is_file {
            self.base.clone()
        } else {
            self.base.join(&item.path)
        }
    }
}

/// What a folder's nodes take, in items and blobs.
fn weight(nodes: &[Node]) -> usize {
    let blobs = nodes.iter().map(|node| match &node.content {
        Content::File { blobs, .. } => blobs.len(),
        Content::Folder { .. } | Content::Nothing => 0,
    });
    nodes.len() + blobs.sum::<usize>()
}

/// The manifest, if the snapshot has one that we understand. One that cannot be read costs the
/// comparison with the capture, not the restore.
fn read_manifest(
    repository: &Repository,
    index: &Index,
    root: &[Node],
    monitor: &dyn Monitor,
) -> Option<Manifest> {
    let found = find_manifest(repository, index, root).transpose()?;
    let manifest = found.and_then(|json| {
        let manifest: Manifest =
            serde_json::from_slice(&json).map_err(|cause| damaged_manifest(&cause))?;
        if manifest.schema > manifest::SCHEMA {
            return Err(damaged_manifest(&format!(
                "it is of schema {}, written by {}",
                manifest.schema, manifest.program
            )));
        }
        Ok(manifest)
    });
    match manifest {
        Ok(manifest) => Some(manifest),
        Err(cause) => {
            monitor.problem(Problem {
                item: "manifest".to_owned(),
                finding: format!(
                    "{cause}; databases are checked, but not compared with their capture"
                ),
                incomplete: false,
            });
            None
        }
    }
}

fn damaged_manifest(cause: &dyn std::fmt::Display) -> Error {
    Error::Damaged {
        object: format!("/{}/{}", manifest::FOLDER, manifest::FILE),
        finding: cause.to_string(),
    }
}

/// The bytes of the manifest; `None` if there is none.
fn find_manifest(repository: &Repository, index: &Index, root: &[Node]) -> Result<Option<Vec<u8>>> {
    let find = |nodes: &[Node], name: &str| {
        nodes
            .iter()
            .find(|node| node.entry.name.as_bytes() == name.as_bytes())
            .map(|node| node.content.clone())
    };
    let Some(Content::Folder { tree }) = find(root, manifest::FOLDER) else {
        return Ok(None);
    };
    let folder = repository.read_tree(index, tree)?;
    let Some(Content::File { blobs, .. }) = find(&folder, manifest::FILE) else {
        return Ok(None);
    };
    let locations = blobs
        .iter()
        .filter_map(|id| index.find(BlobKind::Data, *id));
    let bytes: u64 = locations.map(|location| location.plain_length()).sum();
    if bytes > MAX_MANIFEST {
        return Err(damaged_manifest(&format!("it claims {bytes} bytes")));
    }
    let mut json = Vec::new();
    for blob in blobs {
        json.extend(repository.read_blob(index, BlobKind::Data, blob)?);
    }
    Ok(Some(json))
}
