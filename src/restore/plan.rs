//! Which snapshot, which of its paths, how many bytes: read from the repository, nothing written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

use super::filter::{Filter, Selection, Verdict};
use super::holes::bytes_in_holes;
use super::item::{Item, Log};
use super::links::further_names;
use super::log::{Logs, log_name};
use super::lost::Lost;
use crate::capture::manifest::{self, Manifest};
use crate::entry::{Entry, Kind};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Problem, go_on};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::snapshot::Snapshot;
use crate::repository::tree::{Content, Node};
use crate::source::sqlite::beside;
use crate::units::ByteSize;

/// What may lie beside a database that is not whole without it.
const PARTS: [&str; 2] = ["-wal", "-journal"];

/// Deepest folder that is followed. The kernel takes no path beyond 4096 bytes anyway.
const MAX_DEPTH: usize = 2048;

/// Longest path below the base, in bytes: the kernel takes no longer one. Long names that lie deep would
/// else take half a megabyte an item.
const MAX_PATH: usize = 4095;
/// Longest name that Linux takes, in bytes. Other systems count letters, and have longer ones.
const MAX_NAME: usize = 255;
/// Most items that may come from trees met before. Equal folders share a tree, but two trees that each
/// hold the next one twice would else make 2^40 items out of 40 trees.
const MAX_REPEATED: usize = 250_000;
/// Bytes of a path, or of extended attributes, that weigh as much as an item.
const PATH_WEIGHT: usize = 256;
/// Most bytes of extended attributes: access lists of ten million items.
const MAX_ATTRIBUTES: usize = 1024 * 1024 * 1024;

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
    /// Which of the items below it.
    pub filter: Filter,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
    /// What cannot be brought back, by path: folders that cannot be read, and once the copy is staged
    /// files too. A file that is lost is no item; a folder is one, and empty.
    pub lost: Vec<Lost>,
    /// When the engine's own check passed on all databases of the snapshot, if a record says so: one whose
    /// image is the very same need not pass again.
    pub proved: Option<Timestamp>,
    /// The base folder itself: who owns it, and its mode; none for the whole of a snapshot.
    pub base_folder: Option<Entry>,
    /// Whether `base` is a single file.
    is_file: bool,
    /// Bytes of all extended attributes.
    attribute_bytes: usize,
    /// Files, and what lies beside each in the snapshot that it is not whole without.
    parts_left: Vec<(PathBuf, String)>,
}

impl Plan {
    /// Whether its databases are only read back once they are written, and no engine looks through them: then the page
    /// cache need not hold them.
    pub(super) const fn is_only_read_back(&self) -> bool {
        self.proved.is_some()
    }

    /// Reads the trees of `snapshot` that can hold anything selected. A folder below the base whose
    /// tree cannot be read is [lost](Self::lost).
    ///
    /// # Errors
    /// [`Error::NoSuchPath`], [`Error::NothingSelected`], [`Error::Damaged`] if the base itself cannot
    /// be read, [`Error::Storage`].
    pub fn make(
        repository: &Repository,
        index: &Index,
        snapshot: Snapshot,
        selection: Selection,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let Selection { base, filter } = selection;
        let mut plan = Self {
            items: Vec::new(),
            manifest: None,
            base: base.clone(),
            filter,
            bytes: 0,
            files: 0,
            lost: Vec::new(),
            proved: None,
            base_folder: None,
            is_file: false,
            attribute_bytes: 0,
            parts_left: Vec::new(),
            snapshot,
        };
        let root = repository.read_tree(index, plan.snapshot.file.tree)?;
        let manifest = read_manifest(repository, index, &root, monitor);
        let logs = Logs::of(manifest.as_ref());
        let mut nodes = root;
        let mut below = PathBuf::from("/");
        for component in base.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            below.push(name);
            nodes = plan.descend(repository, index, nodes, name, (&below, &logs))?;
        }
        if below == Path::new("/") {
            // Our own facts are restored only on request.
            nodes.retain(|node| node.entry.name != manifest::FOLDER);
        }
        plan.add(repository, index, nodes, &logs, monitor)?;
        plan.manifest = manifest;
        Ok(plan)
    }

    /// Finds `name` among `nodes`: a folder's content, or a file as the only node.
    fn descend(
        &mut self,
        repository: &Repository,
        index: &Index,
        mut nodes: Vec<Node>,
        name: &OsStr,
        (path, logs): (&Path, &Logs<'_>),
    ) -> Result<Vec<Node>> {
        let node = nodes.iter().find(|node| node.entry.name == name);
        match node.map(|node| (node, &node.content)) {
            Some((node, Content::Folder { tree })) => {
                self.base_folder = Some(node.entry.clone());
                repository.read_tree(index, *tree)
            }
            Some(_) if path == self.base && logs.base_of(path).is_none() => {
                (self.is_file, self.base_folder) = (true, None);
                let is_logged = logs.has(path);
                if !is_logged {
                    let others = nodes.iter().map(|node| node.entry.name.clone()).collect();
                    self.note_parts(path, &others);
                }
                let log = is_logged.then(|| log_name(name));
                nodes.retain(|node| {
                    node.entry.name == name || Some(&node.entry.name) == log.as_ref()
                });
                Ok(nodes)
            }
            _ => Err(Error::NoSuchPath {
                snapshot: self.snapshot.id.short(),
                path: crate::units::shown(&self.base),
                finding: match logs.base_of(path) {
                    Some(base) => {
                        let base = crate::units::shown(&base);
                        Some(format!("it is a part of the database {base}"))
                    }
                    None => self.why_missing(),
                },
            }),
        }
    }

    /// Notes which parts of the file at `path` in the snapshot are among the names left beside it.
    fn note_parts(&mut self, path: &Path, left: &HashSet<OsString>) {
        for part in PARTS {
            let beside = beside(path.file_name().unwrap_or_default().as_ref(), part);
            if left.contains(beside.as_os_str()) {
                let part = crate::units::shown(&beside);
                self.parts_left.push((path.to_owned(), part));
            }
        }
    }

    /// Adds everything below, folders before what they hold.
    fn add(
        &mut self,
        repository: &Repository,
        index: &Index,
        nodes: Vec<Node>,
        logs: &Logs<'_>,
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
        let mut waiting = vec![(PathBuf::new(), nodes, self.filter.takes_all())];
        let (mut met, mut repeated) = (HashSet::new(), 0);
        // Small trees that were met again are not read a hundred thousand times.
        let mut again: HashMap<Id, Vec<Node>> = HashMap::new();
        let mut on_the_way = HashSet::new();
        let mut is_left_out = false;
        while let Some((folder, nodes, inside)) = waiting.pop() {
            go_on(monitor)?;
            if folder.components().count() > MAX_DEPTH {
                return Err(too_deep);
            }
            let (mut files, mut left) = (Vec::new(), HashSet::new());
            for (node, log) in self.join(&folder, nodes, inside, logs) {
                let path = folder.join(&node.entry.name);
                let is_folder = matches!(node.content, Content::Folder { .. });
                let verdict = self.filter.judge(&path, is_folder, inside);
                let name_length = node.entry.name.len();
                if name_length > MAX_NAME && verdict != Verdict::LeftOut {
                    let finding =
                        format!("its name has {name_length} bytes, {MAX_NAME} are possible here");
                    let path = self.base.join(path);
                    self.lost.push(Lost::new(path, finding, is_folder));
                    continue;
                }
                let length = path.as_os_str().len();
                if length > MAX_PATH {
                    return Err(too_long);
                }
                self.admit_attributes(&node)?;
                match (verdict, &node.content) {
                    (Verdict::LeftOut, _) => {
                        is_left_out = true;
                        left.insert(node.entry.name);
                        continue;
                    }
                    (_, Content::Folder { tree }) => {
                        let nodes = match again.get(tree) {
                            Some(nodes) => Some(Vec::clone(nodes)),
                            None => self.read(repository, index, *tree, &path)?,
                        };
                        if let Some(nodes) = nodes {
                            if !met.insert(*tree) {
                                if nodes.len() <= FEW_NODES && again.len() < FEW_TREES {
                                    again.entry(*tree).or_insert_with(|| nodes.clone());
                                }
                                repeated += weight(&nodes) + nodes.len() * length / PATH_WEIGHT;
                            }
                            if repeated > MAX_REPEATED {
                                return Err(too_many);
                            }
                            waiting.push((path.clone(), nodes, verdict == Verdict::Selected));
                        }
                        if verdict == Verdict::OnTheWay {
                            on_the_way.insert(path.clone());
                        }
                    }
                    (_, Content::File { size, .. }) => {
                        self.files += 1;
                        self.bytes = self.bytes.saturating_add(*size);
                        files.push(path.clone());
                    }
                    (_, Content::Nothing) => {}
                }
                self.items.push(Item {
                    path,
                    entry: node.entry,
                    content: node.content,
                    log,
                });
            }
            if !self.filter.is_empty() && !self.is_file {
                for file in files {
                    self.note_parts(&self.base.join(file), &left);
                }
            }
        }
        self.leave_ways_to_nothing(&on_the_way);
        self.lost.sort_by(|a, b| a.path.cmp(&b.path));
        if self.items.is_empty() && (is_left_out || !self.filter.takes_all()) {
            return Err(Error::NothingSelected {
                snapshot: self.snapshot.id.short(),
                base: crate::units::shown(&self.base),
                words: self.filter.words(),
            });
        }
        Ok(())
    }

    /// Makes one item of a database and its log: two files of the snapshot, and one of whoever restores it. One whose log
    /// is not there is lost, if it is asked for.
    fn join(
        &mut self,
        folder: &Path,
        nodes: Vec<Node>,
        inside: bool,
        logs: &Logs<'_>,
    ) -> Vec<(Node, Option<Log>)> {
        let mut logged = logs.in_folder(&self.folder_in_snapshot(folder), &nodes);
        let are_in_others: HashSet<OsString> = logged.keys().map(|name| log_name(name)).collect();
        let mut joined = Vec::with_capacity(nodes.len());
        for mut node in nodes {
            if are_in_others.contains(&node.entry.name) {
                continue;
            }
            let log = match logged.remove(&node.entry.name) {
                Some(Ok((log, image_bytes))) => {
                    node.content.set_size(image_bytes);
                    Some(log)
                }
                Some(Err(finding)) => {
                    let path = folder.join(&node.entry.name);
                    if self.filter.judge(&path, false, inside) != Verdict::LeftOut {
                        let path = self.path_of(&path);
                        self.lost.push(Lost::new(path, finding, false));
                    }
                    continue;
                }
                None => None,
            };
            joined.push((node, log));
        }
        joined
    }

    /// Fails if there are more extended attributes than any honest snapshot has.
    fn admit_attributes(&mut self, node: &Node) -> Result<()> {
        self.attribute_bytes += attribute_bytes(node);
        if self.attribute_bytes <= MAX_ATTRIBUTES {
            return Ok(());
        }
        Err(Error::Damaged {
            object: format!("snapshot {}", self.snapshot.id.short()),
            finding: format!(
                "its items have more than {} of extended attributes",
                ByteSize(MAX_ATTRIBUTES as u64)
            ),
        })
    }

    /// Whether it is of a single file or link.
    #[must_use]
    pub const fn is_file(&self) -> bool {
        self.is_file
    }

    /// Whether it is of a single link.
    #[must_use]
    pub fn is_link(&self) -> bool {
        let is_link = |item: &Item| matches!(item.entry.kind, Kind::Symlink { .. });
        self.is_file && self.items.iter().all(is_link)
    }

    /// Files, and what lies beside each in the snapshot that it is not whole without.
    pub(super) fn parts_left(&self) -> &[(PathBuf, String)] {
        &self.parts_left
    }

    /// Bytes that a copy takes: each file once whatever its names, without holes, with what a file system needs for names and partly filled blocks.
    #[must_use]
    pub fn needed_bytes(&self) -> u64 {
        /// What a file system takes for an inode and the last, partly filled block.
        const PER_ITEM: u64 = 4096;
        let items = PER_ITEM.saturating_mul(self.items.len() as u64);
        let further = further_names(&self.items);
        let again = further
            .keys()
            .map(|number| self.items[*number].content.size());
        let again = again.fold(0, u64::saturating_add);
        let own = self.items.iter().enumerate();
        let own = own.filter(|(number, _)| !further.contains_key(number));
        // What is in the holes of a base, its log may fill.
        let own = own.filter(|(_, item)| item.log.is_none());
        let holes = bytes_in_holes(own.map(|(_, item)| &item.content));
        let bytes = self.bytes.saturating_sub(again).saturating_sub(holes);
        items.saturating_add(bytes)
    }

    /// Reads the tree of the folder at `path`; none if it is lost.
    fn read(
        &mut self,
        repository: &Repository,
        index: &Index,
        tree: Id,
        path: &Path,
    ) -> Result<Option<Vec<Node>>> {
        match repository.read_tree(index, tree) {
            Err(cause @ Error::Damaged { .. }) => {
                let path = self.base.join(path);
                self.lost.push(Lost::new(path, cause.to_string(), true));
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Takes folders out that were to lead to something selected, and do not.
    fn leave_ways_to_nothing(&mut self, on_the_way: &HashSet<PathBuf>) {
        if on_the_way.is_empty() {
            return;
        }
        let selected = self.items.iter().map(|item| item.path.as_path());
        let selected = selected.filter(|path| !on_the_way.contains(*path));
        // What a folder that cannot be read would lead to, nobody knows.
        let lost = self.lost.iter();
        let lost = lost.filter_map(|lost| lost.path.strip_prefix(&self.base).ok());
        let needed: HashSet<PathBuf> = selected
            .chain(lost)
            .flat_map(Path::ancestors)
            .map(Path::to_owned)
            .collect();
        self.items
            .retain(|item| !on_the_way.contains(&item.path) || needed.contains(&item.path));
    }

    /// Takes the items of these numbers out: they are lost, each for its reason.
    pub(super) fn lose(&mut self, found: &BTreeMap<usize, String>) {
        if found.is_empty() {
            return;
        }
        for (number, finding) in found {
            let item = &self.items[*number];
            let path = self.path_in_snapshot(item);
            if let Content::File { size, .. } = item.content {
                self.files = self.files.saturating_sub(1);
                self.bytes = self.bytes.saturating_sub(size);
            }
            self.lost.push(Lost::new(path, finding.clone(), false));
        }
        let mut numbers = 0..;
        self.items.retain(|_| {
            numbers
                .next()
                .is_none_or(|number| !found.contains_key(&number))
        });
        self.lost.sort_by(|a, b| a.path.cmp(&b.path));
    }

    /// Whether all of the snapshot is restored: then it can be counted against its manifest.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.base == Path::new("/") && self.filter.is_empty() && self.lost.is_empty()
    }

    /// Whether a path of the snapshot is among what is asked for.
    pub(super) fn covers(&self, path: &Path) -> bool {
        let Ok(inner) = path.strip_prefix(&self.base) else {
            return false;
        };
        let inner = match path.file_name() {
            Some(name) if self.is_file => Path::new(name),
            _ => inner,
        };
        inner.as_os_str().is_empty() || self.filter.selects(inner)
    }

    /// Whether a path of the snapshot is lost, itself or with its folder.
    pub(super) fn has_lost(&self, path: &Path) -> bool {
        let mut lost = self.lost.iter();
        lost.any(|lost| lost.path == path || (lost.is_folder && path.starts_with(&lost.path)))
    }

    /// Tells which of the restored files are not whole because something beside them is lost.
    pub(super) fn tell_parts_lost(&self, monitor: &dyn Monitor) {
        let lost: HashSet<&Path> = self.lost.iter().map(|lost| lost.path.as_path()).collect();
        if lost.is_empty() {
            return;
        }
        let is_file = |item: &&Item| item.entry.kind == Kind::File;
        for item in self.items.iter().filter(is_file) {
            let path = self.path_in_snapshot(item);
            for part in PARTS {
                let beside = beside(&path, part);
                if lost.contains(beside.as_path()) {
                    monitor.problem(Problem {
                        item: crate::units::shown(&path),
                        finding: format!(
                            "{} is lost, and a database is not whole without it",
                            crate::units::shown(&beside)
                        ),
                        incomplete: true,
                    });
                }
            }
        }
    }

    /// The item's full path in the snapshot.
    #[must_use]
    pub fn path_in_snapshot(&self, item: &Item) -> PathBuf {
        self.path_of(&item.path)
    }

    /// The full path in the snapshot of what lies at this path of the target.
    fn path_of(&self, inner: &Path) -> PathBuf {
        if self.is_file {
            self.base.clone()
        } else {
            self.base.join(inner)
        }
    }

    /// The same of a folder.
    fn folder_in_snapshot(&self, inner: &Path) -> PathBuf {
        match self.base.parent() {
            Some(parent) if self.is_file => parent.to_owned(),
            _ => self.base.join(inner),
        }
    }
}

/// Bytes of an item's extended attributes.
fn attribute_bytes(node: &Node) -> usize {
    let attributes = node.entry.attributes.iter();
    attributes
        .map(|attribute| attribute.name.len() + attribute.value.len())
        .sum()
}

/// What a folder's nodes take, in items, blobs and bytes of attributes.
fn weight(nodes: &[Node]) -> usize {
    let parts = nodes.iter().map(|node| {
        let blobs = match &node.content {
            Content::File { blobs, .. } => blobs.len(),
            Content::Folder { .. } | Content::Nothing => 0,
        };
        blobs + attribute_bytes(node) / PATH_WEIGHT
    });
    nodes.len() + parts.sum::<usize>()
}

/// The manifest, if the snapshot has one that we understand. One that cannot be read costs the
/// comparison with the capture, not the restore.
pub(super) fn read_manifest(
    repository: &Repository,
    index: &Index,
    root: &[Node],
    monitor: &dyn Monitor,
) -> Option<Manifest> {
    match manifest::find(repository, index, root).transpose()? {
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
