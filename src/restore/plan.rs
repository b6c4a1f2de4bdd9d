//! Which snapshot, which of its paths, how many bytes: read from the repository, nothing written.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::capture::manifest::{self, Manifest};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Problem, go_on};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::pack::BlobKind;
use crate::repository::snapshot::{Snapshot, Snapshots};
use crate::repository::tree::{Content, Node};

/// Deepest folder that is followed. The kernel takes no path beyond 4096 bytes anyway.
const MAX_DEPTH: usize = 2048;

/// Most items that may come from trees met before. Equal folders share a tree, but two trees that each
/// hold the next one twice would else make 2^40 items out of 40 trees.
const MAX_REPEATED: usize = 1_000_000;
/// Longest manifest that is read, in bytes: about a hundred thousand databases.
const MAX_MANIFEST: u64 = 64 * 1024 * 1024;

/// Which snapshot is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `latest`, or the first digits of an id.
    pub snapshot: String,
    /// Only of this machine.
    pub host: Option<String>,
    /// Only with this path.
    pub path: Option<PathBuf>,
    /// Only with this mark.
    pub tag: Option<String>,
}

impl Request {
    fn fits(&self, snapshot: &Snapshot) -> bool {
        let file = &snapshot.file;
        self.host.as_ref().is_none_or(|host| *host == file.hostname)
            && self.tag.as_ref().is_none_or(|tag| file.tags.contains(tag))
            && self
                .path
                .as_ref()
                .is_none_or(|path| file.paths.iter().any(|other| Path::new(other) == path))
    }

    /// The snapshots that fit, of those given.
    #[must_use]
    pub fn filter(&self, snapshots: Vec<Snapshot>) -> Vec<Snapshot> {
        snapshots
            .into_iter()
            .filter(|snapshot| self.fits(snapshot))
            .collect()
    }
}

/// Chooses one snapshot. `latest` must mean one series: with snapshots of several machines or path
/// sets it is refused, and they are listed.
///
/// # Errors
/// [`Error::NoSnapshot`]; [`Error::Usage`] if more than one fits; [`Error::Damaged`] for `latest` if
/// one cannot be read, which might be the latest.
pub fn select(request: &Request, snapshots: Snapshots) -> Result<Snapshot> {
    let wanted = request.snapshot.as_str();
    let mut fitting = request.filter(snapshots.readable);
    if wanted == "latest" {
        if let Some(damaged) = snapshots.damaged.first() {
            let readable = fitting.last().map_or_else(
                || "none fits that can be read".to_owned(),
                |last| {
                    format!(
                        "the last that can is {} of {:.0}",
                        last.id.short(),
                        last.file.time
                    )
                },
            );
            return Err(Error::Damaged {
                object: format!("snapshots/{damaged}"),
                finding: format!("it cannot be read and may be the latest; {readable}"),
            });
        }
    } else {
        fitting.retain(|snapshot| wanted.len() >= 4 && snapshot.id.to_string().starts_with(wanted));
        if fitting.len() > 1 {
            return Err(Error::Usage {
                finding: format!("{} snapshots begin with {wanted}", fitting.len()),
                next: "type more digits of the id".to_owned(),
            });
        }
    }
    let series: HashSet<(&String, &Vec<String>)> = fitting
        .iter()
        .map(|snapshot| (&snapshot.file.hostname, &snapshot.file.paths))
        .collect();
    if series.len() > 1 {
        let mut lines: Vec<String> = series
            .into_iter()
            .map(|(host, paths)| format!("--host {host} --path {}", paths.join(" --path ")))
            .collect();
        lines.sort();
        return Err(Error::Usage {
            finding: format!(
                "`latest` could mean {} different things: {}",
                lines.len(),
                lines.join("; ")
            ),
            next: "add one of these, or name a snapshot by its id".to_owned(),
        });
    }
    fitting.pop().ok_or_else(|| Error::NoSnapshot {
        wanted: describe(request),
    })
}

fn describe(request: &Request) -> String {
    let mut words = format!("{:?}", request.snapshot);
    for (flag, value) in [
        ("--host", request.host.clone()),
        (
            "--path",
            request.path.as_ref().map(|path| crate::units::shown(path)),
        ),
        ("--tag", request.tag.clone()),
    ] {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = write!(words, " {flag} {value}");
        }
    }
    words
}

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
    /// Whether `base` is a single file.
    is_file: bool,
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
            is_file: false,
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
            Some((_, Content::Folder { tree })) => repository.read_tree(index, *tree),
            Some((node, _)) if path == self.base => {
                self.is_file = true;
                Ok(vec![node.clone()])
            }
            _ => Err(Error::NoSuchPath {
                snapshot: self.snapshot.id.short(),
                path: crate::units::shown(&self.base),
            }),
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
        let damaged = |finding: String| Error::Damaged {
            object: format!("snapshot {}", self.snapshot.id.short()),
            finding,
        };
        let too_deep = damaged(format!("its folders are more than {MAX_DEPTH} deep"));
        let too_many = damaged(format!(
            "the same folders hold more than {MAX_REPEATED} items again and again"
        ));
        let mut waiting: Vec<(PathBuf, Vec<Node>)> = vec![(PathBuf::new(), nodes)];
        let (mut met, mut repeated) = (HashSet::new(), 0);
        while let Some((folder, nodes)) = waiting.pop() {
            go_on(monitor)?;
            if folder.components().count() > MAX_DEPTH {
                return Err(too_deep);
            }
            for node in nodes {
                let path = folder.join(&node.entry.name);
                match &node.content {
                    Content::Folder { tree } => {
                        let nodes = repository.read_tree(index, *tree)?;
                        if !met.insert(*tree) {
                            repeated += weight(&nodes);
                        }
                        if repeated > MAX_REPEATED {
                            return Err(too_many);
                        }
                        waiting.push((path.clone(), nodes));
                    }
                    Content::File { blobs, size } => {
                        self.files += 1;
                        self.bytes = self
                            .bytes
                            .saturating_add(require_size(index, blobs, *size, &path)?);
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

/// A file's size must be that of its blobs: files are preallocated and offsets computed from it.
fn require_size(index: &Index, blobs: &[Id], size: u64, path: &Path) -> Result<u64> {
    let damaged = |finding: String| Error::Damaged {
        object: format!("file {}", crate::units::shown(path)),
        finding,
    };
    let mut total = 0_u64;
    for id in blobs {
        let location = index
            .find(BlobKind::Data, *id)
            .ok_or_else(|| damaged(format!("no index names its blob {}", id.short())))?;
        total = total.saturating_add(location.plain_length());
    }
    if total == size {
        Ok(size)
    } else {
        Err(damaged(format!(
            "its blobs hold {total} bytes, its folder says {size}"
        )))
    }
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
