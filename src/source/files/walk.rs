//! The walk: depth first, names in ascending order of their bytes, on through whatever cannot be read.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use walkdir::WalkDir;

use super::exclude::{Judge, Rule};
use super::metadata::{Names, attributes, time};
use super::roots::Walk;
use crate::durable::{file_system, scratch};
use crate::entry::{Entry, Kind, Place};
use crate::error::Result;
use crate::monitor::{Monitor, Problem, go_on};

/// One step of the walk, depth first, names in ascending order of their bytes.
#[derive(Debug)]
pub enum Step {
    /// A folder begins.
    Enter(Entry),
    /// The folder that was entered last is complete.
    Leave,
    /// A regular file at this path, and its size in bytes.
    File(PathBuf, Entry, u64),
    /// Anything without content: a symbolic link, a device, a pipe.
    Other(Entry),
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
        visit: &mut dyn FnMut(Step) -> Result<()>,
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
            names: Names::default(),
            pseudo: HashMap::new(),
            notes: BTreeMap::new(),
        };
        walker.branch(Path::new("/"), &branch)?;
        walker.tell_notes();
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

struct Walker<'a> {
    walk: &'a Walk,
    monitor: &'a dyn Monitor,
    visit: &'a mut dyn FnMut(Step) -> Result<()>,
    judge: Judge<'a>,
    names: Names,
    /// Whether a device holds a file system that only shows the kernel.
    pseudo: HashMap<u64, bool>,
    /// What is told once a kind of finding.
    notes: BTreeMap<&'static str, Note>,
}

/// The first item of which something is to be told, and how many there are.
struct Note {
    first: PathBuf,
    count: u64,
    incomplete: bool,
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
            match std::fs::metadata(&path) {
                Ok(metadata) => {
                    // What the last name leads to, not itself.
                    let real = path.join(".");
                    let entry = self.entry(name, Kind::Folder, &metadata, &real);
                    (self.visit)(Step::Enter(entry))?;
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
        let (excluded, passed_over) = (&self.walk.excluded, &self.walk.passed_over);
        let mut walk = WalkDir::new(&real)
            .min_depth(usize::from(at_the_top))
            .sort_by_file_name()
            .into_iter()
            .filter_entry(|item| {
                !excluded.contains(item.path())
                    && (item.file_type().is_dir() || !passed_over.contains(item.path()))
            });
        let base = usize::from(at_the_top);
        let mut entered = base;
        while let Some(item) = walk.next() {
            go_on(self.monitor)?;
            let item = match item {
                Ok(item) => item,
                Err(cause) => {
                    let path = cause.path().unwrap_or(&real).to_owned();
                    self.unreadable(&path, &cause);
                    continue;
                }
            };
            while entered > item.depth().max(base) {
                (self.visit)(Step::Leave)?;
                entered -= 1;
            }
            let inner = item.path().strip_prefix(&real).unwrap_or(item.path());
            let path = if item.depth() == 0 {
                root.to_owned()
            } else {
                root.join(inner)
            };
            if let Some(rule) = self.judge.leaves_out(&path, item.path()) {
                let real = item.path().to_owned();
                (self.visit)(Step::LeftOut(path, real, rule))?;
                if item.file_type().is_dir() {
                    walk.skip_current_dir();
                }
                continue;
            }
            let was_entered = match item.metadata() {
                // A root may have any name: its owner named it.
                _ if item.depth() > 0 && scratch::is_scratch(item.file_name()) => {
                    self.own_folder(&path, item.path());
                    false
                }
                Ok(metadata) => self.item(&path, item.path(), &metadata)?,
                Err(cause) => {
                    self.unreadable(&path, &cause);
                    false
                }
            };
            if was_entered {
                entered = item.depth() + 1;
            } else if item.file_type().is_dir() {
                // Gone, exchanged for something else, or not to be read: nothing below has a place.
                walk.skip_current_dir();
            }
        }
        for _ in base..entered {
            (self.visit)(Step::Leave)?;
        }
        Ok(())
    }

    /// Visits the item stored as `path` that lies at `real`; returns whether it is a folder that was
    /// entered.
    fn item(&mut self, path: &Path, real: &Path, metadata: &Metadata) -> Result<bool> {
        let name = path.file_name().unwrap_or(OsStr::new("/"));
        let file_type = metadata.file_type();
        if let Some(rule) = self.judge.leaves_out_device(path, metadata.dev()) {
            // The folder that another file system is mounted on is there without it too.
            if file_type.is_dir() {
                let entry = self.entry(name, Kind::Folder, metadata, real);
                (self.visit)(Step::Enter(entry))?;
                (self.visit)(Step::Leave)?;
            }
            (self.visit)(Step::LeftOut(path.to_owned(), real.to_owned(), rule))?;
            return Ok(false);
        }
        if file_type.is_dir() {
            let is_root = self.walk.roots.contains_key(path);
            if !is_root && self.is_pseudo(real, metadata.dev()) {
                self.note(
                    path,
                    "shows the kernel's state, not files; it is left out",
                    false,
                );
                return Ok(false);
            }
            let entry = self.entry(name, Kind::Folder, metadata, real);
            (self.visit)(Step::Enter(entry))?;
            return Ok(true);
        }
        if file_type.is_file() {
            let entry = self.entry(name, Kind::File, metadata, real);
            (self.visit)(Step::File(path.to_owned(), entry, metadata.len()))?;
        } else if file_type.is_symlink() {
            match std::fs::read_link(real) {
                Ok(target) => {
                    let target = target.into_os_string();
                    let entry = self.entry(name, Kind::Symlink { target }, metadata, real);
                    (self.visit)(Step::Other(entry))?;
                }
                Err(cause) => self.unreadable(path, &cause),
            }
        } else if file_type.is_socket() {
            self.monitor.problem(Problem {
                item: crate::units::shown(path),
                finding: "a socket is not stored: the program that listens there makes it"
                    .to_owned(),
                incomplete: false,
            });
        } else {
            let number = metadata.rdev();
            let kind = match () {
                () if file_type.is_fifo() => Kind::Pipe,
                () if file_type.is_block_device() => Kind::BlockDevice { number },
                () => Kind::CharacterDevice { number },
            };
            let entry = self.entry(name, kind, metadata, real);
            (self.visit)(Step::Other(entry))?;
        }
        Ok(false)
    }

    /// Passes over work of our own; a restore that waits to be finished is a part of the shop. What a
    /// complete one keeps is nobody's news each night: `rollback --list` shows it.
    fn own_folder(&self, path: &Path, real: &Path) {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let has = |mark: &str| real.join(mark).exists();
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
                item: crate::units::shown(path),
                finding: "holds what an interrupted restore has not put in its place; run that restore again"
                    .to_owned(),
                incomplete: true,
            });
        }
    }

    /// Whether a folder lies on a file system that holds no files, only views of the kernel. Asked once
    /// a device.
    fn is_pseudo(&mut self, folder: &Path, device: u64) -> bool {
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
        *self
            .pseudo
            .entry(device)
            .or_insert_with(|| file_system::kind(folder).is_ok_and(|kind| PSEUDO.contains(&kind)))
    }

    fn note(&mut self, path: &Path, finding: &'static str, incomplete: bool) {
        let note = self.notes.entry(finding).or_insert_with(|| Note {
            first: path.to_owned(),
            count: 0,
            incomplete,
        });
        note.count += 1;
    }

    /// One line a kind of finding, not one an item: there may be a million.
    fn tell_notes(&self) {
        for (finding, note) in &self.notes {
            let others = if note.count > 1 {
                format!(" (and so with {} more)", note.count - 1)
            } else {
                String::new()
            };
            self.monitor.problem(Problem {
                item: crate::units::shown(&note.first),
                finding: format!("{finding}{others}"),
                incomplete: note.incomplete,
            });
        }
    }

    fn unreadable(&self, path: &Path, cause: &dyn std::fmt::Display) {
        self.monitor.problem(Problem {
            item: crate::units::shown(path),
            finding: format!("cannot be read: {cause}"),
            incomplete: true,
        });
    }

    /// The entry of the item that lies at `real`.
    fn entry(&mut self, name: &OsStr, kind: Kind, metadata: &Metadata, real: &Path) -> Entry {
        let (attributes, is_missing) = attributes(real);
        if is_missing {
            let finding = "has extended attributes that cannot be read";
            self.note(real, finding, true);
        }
        Entry {
            name: name.to_owned(),
            kind,
            mode: metadata.mode() & 0o7777,
            modified: time(metadata.mtime(), metadata.mtime_nsec()),
            changed: time(metadata.ctime(), metadata.ctime_nsec()),
            owner: self.names.owner(metadata.uid(), metadata.gid()),
            place: Place {
                device: metadata.dev(),
                inode: metadata.ino(),
                links: metadata.nlink(),
            },
            attributes,
        }
    }
}
