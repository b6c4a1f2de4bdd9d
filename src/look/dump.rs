//! A file of a snapshot as its bytes, a folder as a tar archive.

use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::ahead::{Part, Written, pour};
use super::place::Found;
use super::tar::{self, Member};
use super::walk::{Limits, is_our_own};
use crate::durable::File;
use crate::entry::Kind;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Problem, go_on};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::pack::BlobKind;
use crate::repository::snapshot::Snapshot;
use crate::repository::tree::{Content, Node};
use crate::source::sqlite::without;
use crate::units::shown;

/// Most items that may wait in the folders that an archive is in: one of the largest size, and more.
const MAX_OPEN: usize = 1_000_000;

/// What is dumped.
#[derive(Debug)]
pub struct Dump<'a> {
    /// The snapshot.
    pub snapshot: &'a Snapshot,
    /// Names in an archive begin below this folder.
    pub base: PathBuf,
    /// What is dumped, below `base` or the same.
    pub path: PathBuf,
    /// What stands there.
    pub found: Found,
    /// Databases that the snapshot holds as two files: here they are one.
    pub images: Images,
}

/// Images of databases by their paths in the snapshot, and their bytes.
pub type Images = HashMap<PathBuf, (Arc<dyn File>, u64)>;

/// Bytes of an image that are read at a time.
const PIECE: u64 = 1024 * 1024;

/// The parts of an image.
fn pieces(file: Arc<dyn File>, size: u64, path: PathBuf) -> impl Iterator<Item = Part> {
    let path = Rc::new(path);
    let offsets = (0..size.div_ceil(PIECE)).map(|number| number * PIECE);
    offsets.map(move |offset| Part::Piece {
        file: Arc::clone(&file),
        offset,
        length: usize::try_from(PIECE.min(size - offset)).unwrap_or(0),
        path: Rc::clone(&path),
    })
}

impl Dump<'_> {
    /// Whether it becomes an archive.
    #[must_use]
    pub const fn is_archive(&self) -> bool {
        matches!(self.found, Found::Folder { .. })
    }

    /// Writes it to `sink`, which says whether its reader wants more. What an archive cannot hold is
    /// told to `monitor`.
    ///
    /// # Errors
    /// [`Error::OutputCut`] at the first thing that is damaged; [`Error::NoSuchPath`] for what is neither
    /// a file nor a folder; what `sink` returns; [`Error::Storage`], [`Error::Interrupted`].
    pub fn write(
        self,
        repository: &Repository,
        index: &Index,
        sink: &mut dyn FnMut(&[u8]) -> Result<bool>,
        monitor: &dyn Monitor,
    ) -> Result<Written> {
        match self.found {
            Found::Item(node) => {
                let Content::File { blobs, size } = node.content else {
                    return Err(Error::NoSuchPath {
                        snapshot: self.snapshot.id.short(),
                        path: shown(&self.path),
                        finding: Some("it is neither a file nor a folder".to_owned()),
                    });
                };
                if let Some((file, size)) = self.images.get(&self.path) {
                    let parts = pieces(Arc::clone(file), *size, self.path).map(Ok);
                    return pour(repository, index, parts, sink, monitor);
                }
                let path = Rc::new(self.path);
                let checked = check_size(index, &blobs, size, &path);
                let parts = blobs
                    .into_iter()
                    .map(|id| Ok(Part::Blob(id, Rc::clone(&path))));
                let first = checked.err().map(Err);
                pour(
                    repository,
                    index,
                    first.into_iter().chain(parts),
                    sink,
                    monitor,
                )
            }
            Found::Folder { tree, node } => {
                let mut archive = Archive {
                    repository,
                    index,
                    monitor,
                    images: self.images,
                    base: self.base,
                    open: Vec::new(),
                    limits: Limits::new(self.snapshot.id.short()),
                    parts: VecDeque::new(),
                    linked: HashMap::new(),
                    has_ended: false,
                };
                if let Some(node) = node
                    && self.path != archive.base
                {
                    archive.add(&self.path, &node)?;
                }
                let entered = archive.enter(self.path, tree);
                let first = entered.err().map(Err);
                let parts = first.into_iter().chain(archive);
                pour(repository, index, parts, sink, monitor)
            }
        }
    }
}

/// The members of an archive, one after the other, in parts. Each folder stands right before what lies in
/// it: whoever unpacks sets its time once the next one begins.
struct Archive<'a> {
    repository: &'a Repository,
    index: &'a Index,
    monitor: &'a dyn Monitor,
    images: Images,
    base: PathBuf,
    /// The folders that it is in, outermost first.
    open: Vec<Open>,
    limits: Limits,
    parts: VecDeque<Part>,
    /// Files with several names: where the first of them stands, and what it holds.
    linked: HashMap<(u64, u64), (OsString, Id)>,
    has_ended: bool,
}

/// A folder, and what of it is still to come.
struct Open {
    path: PathBuf,
    nodes: std::vec::IntoIter<Node>,
}

impl Iterator for Archive<'_> {
    type Item = Result<Part>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(part) = self.parts.pop_front() {
                return Some(Ok(part));
            }
            if self.has_ended {
                return None;
            }
            if let Err(cause) = self.go_on() {
                self.has_ended = true;
                return Some(Err(cause));
            }
        }
    }
}

impl Archive<'_> {
    /// The next item, or the end.
    fn go_on(&mut self) -> Result<()> {
        let Some(open) = self.open.last_mut() else {
            self.parts.push_back(Part::Bytes(vec![0; tar::END]));
            self.has_ended = true;
            return Ok(());
        };
        let Some(node) = open.nodes.next() else {
            self.open.pop();
            return Ok(());
        };
        let path = open.path.join(&node.entry.name);
        if is_our_own(&path) && !is_our_own(&self.base) {
            return Ok(());
        }
        // It is in its database.
        if without(&path, "-wal").is_some_and(|main| self.images.contains_key(&main)) {
            return Ok(());
        }
        self.add(&path, &node)?;
        match node.content {
            Content::Folder { tree } => self.enter(path, tree),
            Content::File { .. } | Content::Nothing => Ok(()),
        }
    }

    /// Reads a folder. An archive that lacks one must not look whole.
    fn enter(&mut self, path: PathBuf, tree: Id) -> Result<()> {
        go_on(self.monitor)?;
        let read = self.repository.read_tree(self.index, tree);
        let nodes = read.map_err(|cause| match cause {
            Error::Damaged { object, finding } => damaged(&path, format!("{object}: {finding}")),
            other => other,
        })?;
        let depth = self.open.len();
        self.limits.admit(tree, depth, &path, nodes.iter())?;
        let waiting = self.open.iter().map(|open| open.nodes.len()).sum::<usize>();
        if waiting + nodes.len() > MAX_OPEN {
            return Err(self.limits.damaged(format!(
                "its folders hold more than {MAX_OPEN} items on one way"
            )));
        }
        self.open.push(Open {
            path,
            nodes: nodes.into_iter(),
        });
        Ok(())
    }

    fn add(&mut self, path: &Path, node: &Node) -> Result<()> {
        let name = path.strip_prefix(&self.base).unwrap_or(path).as_os_str();
        if let Some((file, size)) = self.images.get(path) {
            let header = tar::header(name, Member::File(*size), &node.entry);
            self.parts.push_back(Part::Bytes(header));
            let file = pieces(Arc::clone(file), *size, path.to_owned());
            self.parts.extend(file);
            let padding = vec![0; tar::padding(*size)];
            self.parts.push_back(Part::Bytes(padding));
            return Ok(());
        }
        let (member, blobs) = match (&node.entry.kind, &node.content) {
            (_, Content::File { blobs, size }) => {
                check_size(self.index, blobs, *size, path)?;
                match self.link(name, node, blobs) {
                    Some(first) => {
                        let member = Member::HardLink(&first);
                        let header = tar::header(name, member, &node.entry);
                        self.parts.push_back(Part::Bytes(header));
                        return Ok(());
                    }
                    None => (Member::File(*size), blobs.as_slice()),
                }
            }
            (Kind::Symlink { target }, _) => (Member::Symlink(target), &[][..]),
            (_, Content::Folder { .. }) => (Member::Folder, &[][..]),
            (Kind::BlockDevice { number }, _) => (Member::BlockDevice(*number), &[][..]),
            (Kind::CharacterDevice { number }, _) => (Member::CharacterDevice(*number), &[][..]),
            (Kind::Pipe, _) => (Member::Pipe, &[][..]),
            (Kind::Socket | Kind::Other(_), _) => {
                self.leave_out(path, &node.entry.kind);
                return Ok(());
            }
            (Kind::File | Kind::Folder, Content::Nothing) => {
                unreachable!("a file and a folder have a content")
            }
        };
        let header = tar::header(name, member, &node.entry);
        self.parts.push_back(Part::Bytes(header));
        if let Member::File(size) = member {
            let path = Rc::new(path.to_owned());
            let parts = blobs.iter().map(|id| Part::Blob(*id, Rc::clone(&path)));
            self.parts.extend(parts);
            self.parts
                .push_back(Part::Bytes(vec![0; tar::padding(size)]));
        }
        Ok(())
    }

    /// The name under which the same file stands in the archive already, if it has several.
    fn link(&mut self, name: &OsStr, node: &Node, blobs: &[Id]) -> Option<OsString> {
        let place = node.entry.place;
        if place.links < 2 || place.inode == 0 {
            return None;
        }
        let bytes: Vec<u8> = blobs.iter().flat_map(|id| *id.as_bytes()).collect();
        let content = Id::of(&bytes);
        let key = (place.device, place.inode);
        if let Some((first, same)) = self.linked.get(&key) {
            // What has another content is another file, whatever its number.
            return (*same == content).then(|| first.clone());
        }
        self.linked.insert(key, (name.to_owned(), content));
        None
    }

    fn leave_out(&self, path: &Path, kind: &Kind) {
        self.monitor.problem(Problem {
            item: shown(path),
            finding: format!("a {} has no place in a tar archive", kind.name()),
            // A socket holds nothing that could be.
            incomplete: *kind != Kind::Socket,
        });
    }
}

/// Fails unless a file's blobs are there and hold what its folder says.
fn check_size(index: &Index, blobs: &[Id], size: u64, path: &Path) -> Result<()> {
    let mut total = 0_u64;
    for id in blobs {
        let Some(location) = index.find(BlobKind::Data, *id) else {
            let finding = format!("data blob {} is in no index and in no pack", id.short());
            return Err(damaged(path, finding));
        };
        total = total.saturating_add(location.plain_length());
    }
    if total != size {
        let finding = format!("its blobs hold {total} bytes, its folder says {size}");
        return Err(damaged(path, finding));
    }
    Ok(())
}

fn damaged(path: &Path, finding: String) -> Error {
    Error::Damaged {
        object: shown(path),
        finding,
    }
}
