//! One item of a file system, held open: what is asked of it is asked of the very thing that was met,
//! whatever its name has come to stand for (docs/design/walk.md).

use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use walkdir::WalkDir;

use super::facts::Facts;
use super::reader::FileReader;
use crate::durable::{Identity, descriptor};

/// An item that the walk has met.
#[derive(Debug)]
pub struct Item {
    /// What it is stored as.
    pub(super) path: PathBuf,
    /// Where it really lies.
    pub(super) real: PathBuf,
    pub(super) facts: Facts,
    /// Open for nothing but to be named; a folder that is walked, for its list. A regular file only once more is asked of it
    /// than its facts: of most nobody asks.
    held: OnceCell<Held>,
    /// The folder it was met in, and its name there.
    folder: Rc<File>,
    name: OsString,
}

/// An item that is open.
#[derive(Debug)]
struct Held {
    file: Rc<File>,
    facts: Facts,
}

/// The names in a folder, in ascending order of their bytes.
#[derive(Debug)]
pub(super) struct List {
    pub(super) names: Vec<OsString>,
    /// Why there may be more.
    pub(super) broken: Option<io::Error>,
}

impl Item {
    /// Looks at what stands under a name in a folder, and follows no link.
    pub(super) fn look(
        folder: &Rc<File>,
        name: OsString,
        path: PathBuf,
        real: PathBuf,
    ) -> io::Result<Self> {
        let facts = Facts::look(folder, &name)?;
        let mut item = Self {
            path,
            real,
            facts,
            held: OnceCell::new(),
            folder: Rc::clone(folder),
            name,
        };
        if facts.kind() != FileType::RegularFile {
            let held = item.hold()?;
            item.facts = held.facts;
            item.held = OnceCell::from(held);
        }
        Ok(item)
    }

    /// The item itself, open. Of a regular file, what stands under its name when more is asked for first: that may be
    /// [another](Self::is_another) by then, but is a regular file.
    pub(super) fn held(&self) -> io::Result<&Rc<File>> {
        Ok(&self.opened()?.file)
    }

    fn opened(&self) -> io::Result<&Held> {
        if let Some(held) = self.held.get() {
            return Ok(held);
        }
        let held = self.hold()?;
        // A pipe or a device is never opened, not even when it comes at this very moment.
        if held.facts.kind() != FileType::RegularFile {
            return Err(exchanged());
        }
        Ok(self.held.get_or_init(|| held))
    }

    fn hold(&self) -> io::Result<Held> {
        let file = open_at(&self.folder, &self.name, OFlags::PATH | OFlags::NOFOLLOW)?;
        Held::of(file)
    }

    /// Opens it, unless it is open. All that is asked from here on is of what stands there now.
    ///
    /// # Errors
    /// As the system reports them: it is gone, or no regular file any more.
    pub fn ensure_held(&self) -> io::Result<()> {
        self.held().map(drop)
    }

    /// Whether what is open is what was met, and nothing was done to it since.
    #[must_use]
    pub fn is_as_met(&self) -> bool {
        self.opened().is_ok_and(|held| held.facts == self.facts)
    }

    /// Whether another file was opened than was met. Of several names, one that was changed meanwhile may be one: the number
    /// of a file that is gone is given out again at once.
    #[must_use]
    pub fn is_another(&self) -> bool {
        let is_another = |held: &Held| {
            held.facts.identity != self.facts.identity
                || (self.facts.links > 1 && held.facts != self.facts)
        };
        self.held.get().is_some_and(is_another)
    }

    /// Looks at the root that is stored as `path` and lies at `real`: by now no link leads there.
    pub(super) fn root(path: &Path, real: &Path) -> io::Result<Self> {
        let mut folder = Rc::new(open_at(CWD, OsStr::new("/"), IN_PASSING)?);
        let mut name = OsStr::new(".");
        for component in real.components() {
            if let Component::Normal(next) = component {
                folder = Rc::new(open_at(&folder, name, IN_PASSING | OFlags::NOFOLLOW)?);
                name = next;
            }
        }
        Self::look(&folder, name.to_owned(), path.to_owned(), real.to_owned())
    }

    /// Looks at a folder on the way to a root, through links: the way is its owner's.
    pub(super) fn on_the_way(path: &Path) -> io::Result<Self> {
        let held = Held::of(open_at(CWD, path.as_os_str(), IN_PASSING)?)?;
        Ok(Self {
            path: path.to_owned(),
            // What the last name leads to, not itself.
            real: path.join("."),
            facts: held.facts,
            folder: Rc::clone(&held.file),
            name: OsString::from("."),
            held: OnceCell::from(held),
        })
    }

    /// The same folder, opened for its list. Whatever is mounted there on demand is, by now.
    pub(super) fn into_opened(self) -> io::Result<Self> {
        let held = Held::of(open_folder(&self.folder, &self.name)?)?;
        Ok(Self {
            facts: held.facts,
            held: OnceCell::from(held),
            ..self
        })
    }

    /// The names in a folder that was opened.
    pub(super) fn list(&self) -> io::Result<List> {
        let is_shown = descriptor::are_shown();
        let path = if is_shown {
            descriptor::path(&**self.held()?)
        } else {
            self.real.clone()
        };
        let (mut names, mut broken) = (Vec::new(), None);
        // One level: the way down is by descriptors, and not by paths that may lead elsewhere by now.
        for item in WalkDir::new(path).min_depth(1).max_depth(1) {
            let cause = match item {
                Ok(item) => {
                    names.push(item.file_name().to_owned());
                    continue;
                }
                Err(cause) => cause,
            };
            let (depth, name) = (cause.depth(), cause.path().and_then(Path::file_name));
            match name.map(OsStr::to_owned) {
                // What it is will be seen.
                Some(name) if depth > 0 => names.push(name),
                _ => {
                    let cause = cause.into_io_error();
                    let cause = cause.unwrap_or_else(|| io::ErrorKind::Other.into());
                    if depth == 0 {
                        return Err(cause);
                    }
                    broken = Some(cause);
                }
            }
        }
        if !is_shown && Some(self.identity()) != identity_at(&self.real) {
            return Err(exchanged());
        }
        names.sort_unstable();
        // A name stands for one item, however often a file system shows it.
        names.dedup();
        Ok(List { names, broken })
    }

    /// What it is stored as.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it really lies, for whoever can open it only by a path.
    #[must_use]
    pub fn real(&self) -> &Path {
        &self.real
    }

    /// Its last name.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or(OsStr::new("/"))
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.facts.size
    }

    /// Which one it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.facts.identity
    }

    /// Opens it for reading; only for a regular file.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn open(&self) -> io::Result<FileReader> {
        let by_name = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        match descriptor::reopen(&**self.held()?, by_name) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && !descriptor::are_shown() => {
                let file = open_at(&self.folder, &self.name, by_name | OFlags::NOFOLLOW)?;
                let reader = FileReader::of(file)?;
                if reader.identity() != self.identity() {
                    return Err(exchanged());
                }
                Ok(reader)
            }
            opened => FileReader::of(File::from(opened?)),
        }
    }

    /// What a symbolic link leads to.
    pub(super) fn target(&self) -> io::Result<OsString> {
        let target = rustix::fs::readlinkat(&**self.held()?, "", Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Whether a folder holds something of this name.
    pub(super) fn holds(&self, name: &str) -> bool {
        let found =
            |held: &Rc<File>| rustix::fs::statat(&**held, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        self.held().is_ok_and(found)
    }
}

impl Held {
    fn of(file: File) -> io::Result<Self> {
        let facts = Facts::of(&file.metadata()?);
        Ok(Self {
            file: Rc::new(file),
            facts,
        })
    }
}

/// A folder that is only gone through.
const IN_PASSING: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// Opens a folder for its list, and follows no link to it.
pub(super) fn open_folder(folder: &File, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    open_at(folder, name, flags)
}

fn open_at(folder: impl std::os::fd::AsFd, name: &OsStr, flags: OFlags) -> io::Result<File> {
    let opened: OwnedFd = rustix::fs::openat(folder, name, flags | OFlags::CLOEXEC, Mode::empty())?;
    Ok(File::from(opened))
}

fn identity_at(path: &Path) -> Option<Identity> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some(Identity::of(&metadata))
}

/// Another item stands under the name of one that was met.
pub(super) fn exchanged() -> io::Error {
    io::Error::other("another item took its place while it was looked at")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder() -> (tempfile::TempDir, Rc<File>) {
        let place = tempfile::tempdir().unwrap();
        let folder = Rc::new(File::open(place.path()).unwrap());
        (place, folder)
    }

    fn look(folder: &Rc<File>) -> io::Result<Item> {
        let name = OsString::from("cup.jpg");
        Item::look(
            folder,
            name.clone(),
            PathBuf::from(&name),
            PathBuf::from(name),
        )
    }

    #[test]
    fn what_takes_the_place_of_a_file_before_it_is_opened_is_told_from_it() {
        let (place, folder) = folder();
        let path = place.path().join("cup.jpg");
        fs::write(&path, "cup").unwrap();
        let item = look(&folder).unwrap();
        assert!(item.is_as_met() && !item.is_another());
        // What is open stays what it is.
        fs::write(place.path().join("new"), "pot").unwrap();
        fs::rename(place.path().join("new"), &path).unwrap();
        assert!(item.is_as_met() && !item.is_another());
        let item = look(&folder).unwrap();
        fs::write(place.path().join("new"), "tea").unwrap();
        fs::rename(place.path().join("new"), &path).unwrap();
        assert!(!item.is_as_met() && item.is_another());
        let item = look(&folder).unwrap();
        fs::write(&path, "teas").unwrap();
        assert!(!item.is_as_met() && !item.is_another());
    }

    #[test]
    fn a_pipe_that_takes_the_place_of_a_file_is_not_opened() {
        let (place, folder) = folder();
        let path = place.path().join("cup.jpg");
        fs::write(&path, "cup").unwrap();
        let item = look(&folder).unwrap();
        fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        assert!(item.open().is_err() && item.held().is_err());
        let pipe = look(&folder).unwrap();
        assert_eq!(pipe.facts.kind(), FileType::Fifo);
        assert!(pipe.held().is_ok());
    }
}
