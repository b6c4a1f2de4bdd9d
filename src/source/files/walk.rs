//! The walk: depth first, names in ascending order of their bytes, on through whatever cannot be read.
//!
//! It goes down by descriptors: each name is looked at in the folder that is held open, so that no link that
//! somebody puts on the way leads it elsewhere (docs/design/walk.md).

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::FileType;

use super::exclude::{Judge, Rule};
use super::finding::{Notes, unreadable};
use super::item::{Item, List, exchanged, open_folder};
use super::roots::Walk;
use crate::durable::{Identity, file_system, scratch};
use crate::entry::Kind;
use crate::error::Result;
use crate::monitor::{Monitor, Problem, go_on};

/// One step of the walk, depth first, names in ascending order of their bytes.
#[derive(Debug)]
pub enum Step<'a> {
    /// A folder begins.
    Enter(&'a Item),
    /// The folder that was entered last is complete.
    Leave,
    /// A regular file.
    File(&'a Item),
    /// Anything without content: a symbolic link, a device, a pipe.
    Other(&'a Item, Kind),
    /// Left out by this rule, with all below it: its path, and where it really is. It was not looked at.
    LeftOut(PathBuf, PathBuf, Rule),
}

impl Walk {
    /// Goes through everything. What cannot be read is told to `monitor`, and the walk goes on.
    ///
    /// # Errors
    /// Those of `visit`, and [`crate::error::Error::Interrupted`].
    pub fn run(
        &self,
        monitor: &dyn Monitor,
        visit: &mut dyn FnMut(Step<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut branch = Branch::default();
        for root in self.roots.keys() {
            branch.add(root);
        }
        let mut walker = Walker {
            walk: self,
            monitor,
            visit,
            judge: self.excludes.judge(&self.named),
            pseudo: HashMap::new(),
            notes: Notes::default(),
        };
        walker.branch(Path::new("/"), &branch)?;
        walker.notes.tell(monitor);
        Ok(())
    }
}

/// The folders that lead to the roots.
#[derive(Debug, Default)]
struct Branch {
    inner: BTreeMap<OsString, Branch>,
    is_root: bool,
}

impl Branch {
    fn add(&mut self, path: &Path) {
        let mut branch = self;
        for component in path.components() {
            if let Component::Normal(name) = component {
                branch = branch.inner.entry(name.to_owned()).or_default();
            }
        }
        branch.is_root = true;
    }
}

/// The folders that the walk is in, outermost first.
#[derive(Debug)]
struct Way {
    /// The root as it is stored, and where it really lies.
    root: PathBuf,
    real: PathBuf,
    levels: Vec<Level>,
    /// Their names below the root.
    inner: PathBuf,
}

/// A folder that was entered.
#[derive(Debug)]
struct Level {
    /// Nothing if it lies so far up that it is opened again when its turn comes.
    folder: Option<Rc<File>>,
    identity: Identity,
    name: OsString,
    names: std::vec::IntoIter<OsString>,
}

impl Way {
    /// How many of the innermost folders are held open, the root not counted: a process may hold 1,024.
    const OPEN: usize = 64;

    fn enter(&mut self, level: Level) {
        if !self.levels.is_empty() {
            self.inner.push(&level.name);
        }
        self.levels.push(level);
        if let Some(far) = self.levels.len().checked_sub(Self::OPEN + 1)
            && far > 0
        {
            self.levels[far].folder = None;
        }
    }

    fn leave(&mut self) {
        self.levels.pop();
        self.inner.pop();
    }

    /// The innermost folder. One that was closed is looked for from the last that is open, and must be
    /// the same.
    fn folder(&mut self) -> io::Result<Rc<File>> {
        let last = self.levels.len() - 1;
        let open = self.levels.iter().rposition(|level| level.folder.is_some());
        let open = open.unwrap_or_default();
        let held = self.levels[open].folder.clone();
        let mut folder = held.ok_or_else(exchanged)?;
        for level in open + 1..=last {
            let next = &mut self.levels[level];
            let file = open_folder(&folder, &next.name)?;
            if Identity::of(&file.metadata()?) != next.identity {
                return Err(exchanged());
            }
            folder = Rc::new(file);
            if level + Self::OPEN > last {
                next.folder = Some(Rc::clone(&folder));
            }
        }
        Ok(folder)
    }
}

struct Walker<'a> {
    walk: &'a Walk,
    monitor: &'a dyn Monitor,
    visit: &'a mut dyn FnMut(Step<'_>) -> Result<()>,
    judge: Judge<'a>,
    /// Whether a device holds a file system that only shows the kernel.
    pseudo: HashMap<u64, bool>,
    /// What is told once a kind of finding.
    notes: Notes,
}

impl Walker<'_> {
    fn branch(&mut self, path: &Path, branch: &Branch) -> Result<()> {
        if branch.is_root {
            return self.root(path);
        }
        for (name, inner) in &branch.inner {
            let path = path.join(name);
            if inner.is_root {
                self.root(&path)?;
                continue;
            }
            // A link on the way is stored as the folder it leads to: the way is the owner's.
            match Item::on_the_way(&path) {
                Ok(item) => {
                    (self.visit)(Step::Enter(&item))?;
                    self.branch(&path, inner)?;
                    (self.visit)(Step::Leave)?;
                }
                Err(cause) => self.unreadable(&path, &cause),
            }
        }
        Ok(())
    }

    /// Walks one root and all below it.
    fn root(&mut self, root: &Path) -> Result<()> {
        let at_the_top = root == Path::new("/");
        let real = self.walk.real(root);
        if self.is_left_out(root, &real)? {
            return Ok(());
        }
        let item = match Item::root(root, &real) {
            Ok(item) => item,
            Err(cause) => {
                self.unreadable(root, &cause);
                return Ok(());
            }
        };
        let Some(level) = self.item(item)? else {
            return Ok(());
        };
        let mut way = Way {
            root: root.to_owned(),
            real,
            levels: Vec::new(),
            inner: PathBuf::new(),
        };
        way.enter(level);
        while let Some(level) = way.levels.last_mut() {
            go_on(self.monitor)?;
            let Some(name) = level.names.next() else {
                way.leave();
                if !(at_the_top && way.levels.is_empty()) {
                    (self.visit)(Step::Leave)?;
                }
                continue;
            };
            if let Some(level) = self.next(&mut way, name)? {
                way.enter(level);
            }
        }
        Ok(())
    }

    /// Looks at a name in the innermost folder; returns it if it is a folder that was entered.
    fn next(&mut self, way: &mut Way, name: OsString) -> Result<Option<Level>> {
        /// Longest path, in bytes: the kernel takes no longer one, and so no restore can make it.
        const LONGEST: usize = 4095;
        let inner = way.inner.join(&name);
        let (path, real) = (way.root.join(&inner), way.real.join(&inner));
        if self.walk.excluded.contains(&real) || self.is_left_out(&path, &real)? {
            return Ok(None);
        }
        let folder = match way.folder() {
            Ok(folder) => folder,
            Err(cause) => {
                self.lost_way(&way.root.join(&way.inner), &cause);
                if let Some(level) = way.levels.last_mut() {
                    level.names = Vec::new().into_iter();
                }
                return Ok(None);
            }
        };
        let is_passed_over = self.walk.passed_over.contains(&real);
        let item = match Item::look(&folder, name, path, real) {
            Ok(item) => item,
            Err(_) if is_passed_over => return Ok(None),
            Err(cause) => {
                self.unreadable(&way.root.join(inner), &cause);
                return Ok(None);
            }
        };
        if is_passed_over && item.facts.kind() != FileType::Directory {
            return Ok(None);
        }
        // A root may have any name: its owner named it.
        if scratch::is_scratch(item.name()) {
            self.own_folder(&item);
            return Ok(None);
        }
        if item.path.as_os_str().len() > LONGEST {
            self.problem(
                &item.path,
                "lies too deep to be stored: its path has more than 4,095 bytes, and no system takes a longer one".to_owned(),
            );
            return Ok(None);
        }
        self.item(item)
    }

    /// Whether a rule leaves out what is stored as `path` and lies at `real`; that is told.
    fn is_left_out(&mut self, path: &Path, real: &Path) -> Result<bool> {
        let Some(rule) = self.judge.leaves_out(path, real) else {
            return Ok(false);
        };
        (self.visit)(Step::LeftOut(path.to_owned(), real.to_owned(), rule))?;
        Ok(true)
    }

    /// Whether an item is left out because it lies on another file system; that is told.
    fn is_elsewhere(&mut self, item: &Item) -> Result<bool> {
        let (facts, path) = (&item.facts, &item.path);
        let Some(rule) = self.judge.leaves_out_device(path, facts.identity.device) else {
            return Ok(false);
        };
        // The folder that another file system is mounted on is there without it too.
        if facts.kind() == FileType::Directory {
            (self.visit)(Step::Enter(item))?;
            (self.visit)(Step::Leave)?;
        }
        (self.visit)(Step::LeftOut(path.clone(), item.real.clone(), rule))?;
        Ok(true)
    }

    /// Visits an item; returns it if it is a folder that was entered.
    fn item(&mut self, item: Item) -> Result<Option<Level>> {
        if self.is_elsewhere(&item)? {
            return Ok(None);
        }
        let number = item.facts.number;
        let kind = match item.facts.kind() {
            FileType::Directory => return self.enter(item),
            FileType::RegularFile => {
                (self.visit)(Step::File(&item))?;
                return Ok(None);
            }
            FileType::Symlink => match item.target() {
                Ok(target) => Kind::Symlink { target },
                Err(cause) => {
                    self.unreadable(&item.path, &cause);
                    return Ok(None);
                }
            },
            FileType::Socket => {
                self.monitor.problem(Problem {
                    item: crate::units::shown(&item.path),
                    finding: "a socket is not stored: the program that listens there makes it"
                        .to_owned(),
                    incomplete: false,
                });
                return Ok(None);
            }
            FileType::Fifo => Kind::Pipe,
            FileType::BlockDevice => Kind::BlockDevice { number },
            FileType::CharacterDevice | FileType::Unknown => Kind::CharacterDevice { number },
        };
        (self.visit)(Step::Other(&item, kind))?;
        Ok(None)
    }

    fn enter(&mut self, item: Item) -> Result<Option<Level>> {
        if self.is_pseudo(&item) {
            return Ok(None);
        }
        let path = item.path.clone();
        let opened = item.into_opened();
        let (item, list) = match opened.and_then(|item| item.list().map(|list| (item, list))) {
            Ok(opened) => opened,
            Err(cause) => {
                self.unreadable(&path, &cause);
                return Ok(None);
            }
        };
        // What came with the opening may be another file system.
        if self.is_pseudo(&item) || self.is_elsewhere(&item)? {
            return Ok(None);
        }
        let List { names, broken } = list;
        if let Some(cause) = broken {
            self.problem(
                &path,
                format!("its list broke off: {cause}; what was listed is stored, what was not is not in this snapshot: `dmesg` may tell more"),
            );
        }
        if path != Path::new("/") {
            (self.visit)(Step::Enter(&item))?;
        }
        Ok(Some(Level {
            identity: item.identity(),
            folder: item.held().ok().cloned(),
            name: item.name().to_owned(),
            names: names.into_iter(),
        }))
    }

    /// Passes over work of our own; a restore that waits to be finished is a part of the shop. What a
    /// complete one keeps is nobody's news each night: `rollback --list` shows it.
    fn own_folder(&self, item: &Item) {
        let name = item.name().as_encoded_bytes();
        let has = |mark: &str| item.holds(mark);
        let waits = if name.starts_with(scratch::KEPT.as_bytes()) {
            let complete = if has(scratch::KEPT_UNDO) {
                scratch::KEPT_UNDONE
            } else {
                scratch::KEPT_DONE
            };
            !has(complete)
        } else {
            name.starts_with(scratch::READY.as_bytes())
        };
        if waits {
            self.monitor.problem(Problem {
                item: crate::units::shown(item.path()),
                finding: "holds what an interrupted restore has not put in its place; run that restore again"
                    .to_owned(),
                incomplete: true,
            });
        }
    }

    /// Whether a folder lies on a file system that holds no files, only views of the kernel; that is told.
    /// Asked once a device.
    fn is_pseudo(&mut self, folder: &Item) -> bool {
        /// Those of proc, sysfs, devpts, cgroup, cgroup2, debugfs, tracefs, securityfs, bpf, pstore,
        /// mqueue, efivarfs, configfs, fusectl and binfmt (linux/magic.h).
        const PSEUDO: [u32; 15] = [
            0x0000_9fa0,
            0x6265_6572,
            0x0000_1cd1,
            0x0027_e0eb,
            0x6367_7270,
            0x6462_6720,
            0x7472_6163,
            0x7363_6673,
            0xcafe_4a11,
            0x6165_676c,
            0x1980_0202,
            0xde5e_81e4,
            0x6265_6570,
            0x6573_5543,
            0x4249_4e4d,
        ];
        let is_pseudo = *self
            .pseudo
            .entry(folder.identity().device)
            .or_insert_with(|| {
                let kind = folder.held().and_then(file_system::kind_of_held);
                kind.is_ok_and(|kind| PSEUDO.contains(&kind))
            });
        let is_pseudo = is_pseudo && !self.walk.roots.contains_key(&folder.path);
        if is_pseudo {
            let finding = "shows the kernel's state, not files; it is left out";
            self.notes.add(&folder.path, finding, false);
        }
        is_pseudo
    }

    fn lost_way(&self, path: &Path, cause: &io::Error) {
        self.problem(
            path,
            format!("was moved away or exchanged while it was walked through ({cause}); what it still held is not in this snapshot: the next backup has it"),
        );
    }

    fn unreadable(&self, path: &Path, cause: &io::Error) {
        self.problem(path, unreadable(cause));
    }

    fn problem(&self, path: &Path, finding: String) {
        self.monitor.problem(Problem {
            item: crate::units::shown(path),
            finding,
            incomplete: true,
        });
    }
}
