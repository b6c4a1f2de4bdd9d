//! The files, after the databases: walked in order, read and cut, with captured databases in place.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use crossbeam_channel::Sender;
use jiff::Timestamp;

use super::databases::StoredDatabase;
use crate::capture::Survey;
use crate::capture::parent::{Descent, Parent};
use crate::chunker::ContentChunks;
use crate::chunker::rabin::Rabin;
use crate::entry::{Attribute, Entry, Kind, Place};
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Problem, Progress, go_on};
use crate::repository::Repository;
use crate::repository::tree::Node;
use crate::repository::tree_writer::{Before, PendingFile, StoredFile, Visit};
use crate::repository::writer::Writer;
use crate::source::files::exclude::Rule;
use crate::source::files::{Change, Entries, FileReader, Item, Step, unreadable};
use crate::source::sqlite::{self, Signature, beside};
use crate::units::counted;

/// What the reading of all files has shown.
#[derive(Debug)]
pub struct Read {
    /// The databases that had their place among them: one that was deleted since its capture has none.
    pub placed: BTreeSet<PathBuf>,
    /// Whether the parent has our own facts, which this snapshot has others of.
    pub followed: bool,
    /// The earliest that the clock has said meanwhile: it may have been set back.
    pub earliest: Timestamp,
}

/// Reads all files of the survey, but for those that are as the parent has them, and sends them, in order, to whoever builds the trees.
///
/// # Errors
/// Those of the writer, and [`Error::Interrupted`].
pub fn read_all(
    survey: &Survey,
    databases: &BTreeMap<PathBuf, Option<StoredDatabase>>,
    parent: &Parent<'_>,
    repository: &Repository,
    writer: &Writer,
    monitor: &dyn Monitor,
    visits: &Sender<Vec<Visit>>,
) -> Result<Read> {
    let mut placed = BTreeSet::new();
    let clock = &repository.services().clock;
    let mut earliest = clock.now();
    let mut descent = parent.descend(monitor);
    let rabin = rabin(repository)?;
    let mut names = FileNames::default();
    let mut entries = Entries::default();
    let mut visits = Visits {
        batch: Vec::new(),
        read_bytes: 0,
        builder: visits,
        writer,
    };
    survey.walk.run(monitor, &mut |step| {
        let item = match step {
            Step::Enter(item) => {
                let before = descent.enter(item.name());
                let entry = entries.of(item, Kind::Folder);
                return visits.send(Visit::Enter(entry, before.map(Box::new)));
            }
            Step::Leave => {
                descent.leave();
                return visits.send(Visit::Leave);
            }
            Step::Other(item, kind) => return visits.send(Visit::Other(entries.of(item, kind))),
            Step::LeftOut(..) => return Ok(()),
            Step::File(item) => item,
        };
        // Named by itself, it is a part of its database all the same.
        if is_beside(item.path(), databases) {
            return Ok(());
        }
        let mut entry = entries.named(item, Kind::File);
        let before = descent.take(&entry.name).map(Box::new);
        if let Some(database) = databases.get(item.path()) {
            let Some(database) = database else {
                return Ok(());
            };
            if entry.place.links > 1 {
                tell_names(item.path(), monitor);
            }
            entry.attributes = entries.attributes(item);
            visits.send_image(entry, database, before, &mut descent)?;
            placed.insert(item.path().to_owned());
            return Ok(());
        }
        let recognised = recognised(item, &entry, before.as_deref(), parent, &mut entries);
        let (attributes, known) = match recognised {
            Ok(recognised) => recognised,
            Err(cause) => {
                tell_unread(item.path(), unreadable(&cause), monitor);
                return Ok(());
            }
        };
        entry.attributes = attributes;
        let is_told = known.as_ref().is_some_and(|known| known.is_no_database);
        let opened = (!is_told).then(|| item.open());
        if let Some(Ok(file)) = &opened
            && is_new_database(item.path(), file, monitor)
        {
            return Ok(());
        }
        if let Some(rule) = survey.walk.is_too_large(item.path(), item.size()) {
            if !survey.left_out.large.contains_key(item.path()) {
                tell_outgrown(survey, item.path(), rule, monitor);
            }
            return Ok(());
        }
        if item.is_another() {
            // It is none of the names of the one that was met.
            entry.place = Place::default();
        }
        let entry = match names.meet(entry) {
            Met::Again(entry) => return visits.send(Visit::Again(entry, before)),
            Met::First(entry) => entry,
        };
        if let Some(Known { file, .. }) = known {
            monitor.progress(Progress {
                bytes: item.size(),
                files: 1,
            });
            return visits.send(Visit::Stored(entry, file, before));
        }
        earliest = earliest.min(clock.now());
        let opened = opened.unwrap_or_else(|| item.open());
        let place = entry.place;
        if let Some((entry, file)) = read(item.path(), opened, entry, &rabin, writer, monitor)? {
            return visits.send_read(Visit::File(entry, file, before), item.size());
        }
        names.forget(place);
        Ok(())
    })?;
    visits.flush()?;
    entries.tell(monitor);
    Ok(Read {
        placed,
        followed: descent.take_own_folder().is_some(),
        earliest,
    })
}

/// Cuts files as this repository has them cut.
///
/// # Errors
/// [`Error::Unsupported`] if its polynomial is none.
pub fn rabin(repository: &Repository) -> Result<Rabin> {
    let polynomial = repository.config()?.polynomial();
    let polynomial = polynomial.map_err(|finding| Error::Unsupported {
        location: repository.location(),
        finding,
    })?;
    Ok(Rabin::new(polynomial))
}

/// The way to whoever builds the trees, who need not be woken for each of a million files.
struct Visits<'a> {
    batch: Vec<Visit>,
    read_bytes: u64,
    builder: &'a Sender<Vec<Visit>>,
    writer: &'a Writer,
}

impl Visits<'_> {
    /// Visits that are handed over at once.
    const BATCH: usize = 64;
    /// Bytes of files in them: a builder that has failed is heard of before much more is read.
    const READ: u64 = 16 * 1024 * 1024;

    fn send(&mut self, visit: Visit) -> Result<()> {
        self.batch.push(visit);
        if self.batch.len() < Self::BATCH {
            return Ok(());
        }
        self.flush()
    }

    /// A file of so many bytes that was read.
    fn send_read(&mut self, visit: Visit, bytes: u64) -> Result<()> {
        self.read_bytes += bytes;
        self.send(visit)?;
        if self.read_bytes < Self::READ {
            return Ok(());
        }
        self.flush()
    }

    /// A captured database in the place of its file.
    fn send_image(
        &mut self,
        entry: Entry,
        database: &StoredDatabase,
        before: Before,
        descent: &mut Descent<'_>,
    ) -> Result<()> {
        let entry = image_entry(entry);
        if let Some(log) = &database.log {
            let entry = log_entry(&entry);
            let before = descent.take(&entry.name).map(Box::new);
            self.send(Visit::Beside(entry, log.clone(), before))?;
        }
        self.send(Visit::Stored(entry, database.file.clone(), before))
    }

    fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.read_bytes = 0;
        // The builder of trees stops listening only when it has failed, and its error is the one to tell.
        let sent = self.builder.send(batch);
        sent.map_err(|_| self.writer.failure())
    }
}

/// What is known of a file that is as the snapshot before has it.
struct Known {
    file: StoredFile,
    is_no_database: bool,
}

/// The extended attributes of a file, and what is known of it. An error if it is there no more.
fn recognised(
    item: &Item,
    entry: &Entry,
    before: Option<&Node>,
    parent: &Parent<'_>,
    entries: &mut Entries,
) -> io::Result<(Vec<Attribute>, Option<Known>)> {
    let known = before.and_then(|before| {
        let file = parent.unchanged(before, entry, item.size())?;
        let is_no_database = parent.is_no_database(before);
        let known = Known {
            file,
            is_no_database,
        };
        Some((parent.attributes(before), known))
    });
    match known {
        Some((Some(attributes), known)) => Ok((attributes.to_vec(), Some(known))),
        // They are of what is under this name now.
        other => {
            item.ensure_held()?;
            let attributes = entries.attributes(item);
            let known = other.map(|(_, known)| known);
            Ok((attributes, known.filter(|_| item.is_as_met())))
        }
    }
}

/// Files with several names that were met: each is read once.
#[derive(Debug, Default)]
struct FileNames {
    /// By device and inode: when it had been changed last when it was met first, and where it was.
    met: HashMap<(u64, u64), (Timestamp, Place)>,
}

/// A file that the walk meets.
enum Met {
    /// Its content is to be read.
    First(Entry),
    /// A further name of a file that was read.
    Again(Entry),
}

impl FileNames {
    fn meet(&mut self, mut entry: Entry) -> Met {
        let key = (entry.place.device, entry.place.inode);
        if entry.place.links < 2 && !self.met.contains_key(&key) {
            return Met::First(entry);
        }
        match self.met.get(&key) {
            // Nothing was done to it since, for that would have changed this time.
            Some(first) if *first == (entry.changed, entry.place) => Met::Again(entry),
            // It changed meanwhile, or is another with the number of one that is gone: whoever restores
            // by number alone, as restic does, must not give it the other's content.
            Some(_) => {
                entry.place = Place::default();
                Met::First(entry)
            }
            None => {
                self.met.insert(key, (entry.changed, entry.place));
                Met::First(entry)
            }
        }
    }

    /// The first name could not be read: perhaps the next can.
    fn forget(&mut self, place: Place) {
        self.met.remove(&(place.device, place.inode));
    }
}

/// Whether a file lies beside a database as a part of it.
fn is_beside(path: &Path, databases: &BTreeMap<PathBuf, Option<StoredDatabase>>) -> bool {
    !databases.contains_key(path)
        && sqlite::main_of(path).is_some_and(|main| databases.contains_key(&main))
}

/// An image is no longer the file that holds these links.
fn image_entry(entry: Entry) -> Entry {
    Entry {
        place: Place::default(),
        ..entry
    }
}

/// That of the log beside a database.
fn log_entry(database: &Entry) -> Entry {
    Entry {
        name: beside(Path::new(&database.name), "-wal").into_os_string(),
        ..database.clone()
    }
}

/// An image is captured for each name: SQLite itself warns against databases of several names.
fn tell_names(path: &Path, monitor: &dyn Monitor) {
    monitor.problem(Problem {
        item: crate::units::shown(path),
        finding: "this database has several names, and each is restored as a file of its own"
            .to_owned(),
        incomplete: false,
    });
}

/// A file was still small enough when the backup began, and no count of what is left out has it.
fn tell_outgrown(survey: &Survey, path: &Path, rule: Rule, monitor: &dyn Monitor) {
    monitor.problem(Problem {
        item: crate::units::shown(path),
        finding: format!(
            "outgrew the limit of {} during the backup, and is left out from now on",
            survey.walk.excludes().shown(rule)
        ),
        incomplete: false,
    });
}

/// Whether a database has come since the survey. It must not be copied as a file.
fn is_new_database(path: &Path, file: &FileReader, monitor: &dyn Monitor) -> bool {
    let is_database =
        sqlite::signature_of(file).is_ok_and(|signature| signature == Signature::Database);
    if is_database {
        monitor.problem(Problem {
            item: crate::units::shown(path),
            finding: "this database appeared during the backup; the next one will have it"
                .to_owned(),
            incomplete: true,
        });
    }
    is_database
}

/// Reads one file, which is stored as `path`; `None` if it cannot be read, which is told.
fn read(
    path: &Path,
    opened: std::io::Result<FileReader>,
    met: Entry,
    rabin: &Rabin,
    writer: &Writer,
    monitor: &dyn Monitor,
) -> Result<Option<(Entry, PendingFile)>> {
    let problem = |finding: String| tell_unread(path, finding, monitor);
    let reader = match opened {
        Ok(reader) => reader,
        Err(cause) => {
            problem(unreadable(&cause));
            return Ok(None);
        }
    };
    let mut chunks = ContentChunks::new(&reader, rabin.clone(), reader.length());
    let mut file = PendingFile::default();
    loop {
        go_on(monitor)?;
        let chunk = match chunks.next_chunk() {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(cause) => {
                problem(unreadable(&cause));
                return Ok(None);
            }
        };
        let bytes = chunk.len() as u64;
        file.store(writer, chunk)?;
        monitor.progress(Progress { bytes, files: 0 });
    }
    monitor.progress(Progress { bytes: 0, files: 1 });
    if let Some(change) = reader.change() {
        problem(told(change, reader.length()));
    }
    Ok(Some((reader.entry(met), file)))
}

/// The snapshot lacks something of a file.
fn tell_unread(path: &Path, finding: String, monitor: &dyn Monitor) {
    monitor.problem(Problem {
        item: crate::units::shown(path),
        finding,
        incomplete: true,
    });
}

/// What a change means for what is stored.
fn told(change: Change, length: u64) -> String {
    match change {
        Change::Written => {
            "was written to while it was read; what is stored may be of two moments".to_owned()
        }
        Change::Grown => format!(
            "grew while it was read; stored are the {} that it had when it was opened, which is all of then if it is only ever appended to",
            counted(length, "byte")
        ),
        Change::Shrunk { missing } => format!(
            "was cut short while it was read: {} of {length} were gone; what is stored may be of two moments",
            counted(missing, "byte")
        ),
        Change::Endless => format!(
            "goes on beyond the {} that its file system tells, and only those are stored",
            counted(length, "byte")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Owner;

    fn entry(inode: u64, links: u64, changed: i64) -> Entry {
        let changed = Timestamp::from_second(changed).unwrap();
        Entry {
            name: "cup.jpg".into(),
            kind: Kind::File,
            mode: 0o644,
            modified: Timestamp::UNIX_EPOCH,
            changed,
            owner: Owner::default(),
            place: Place {
                device: 1,
                inode,
                links,
            },
            attributes: Vec::new(),
        }
    }

    #[test]
    fn a_further_name_is_one_only_while_nothing_was_done_to_the_file() {
        let mut names = FileNames::default();
        let mut meet = |entry: Entry| match names.meet(entry) {
            Met::First(entry) => ("read", entry.place.inode),
            Met::Again(entry) => ("again", entry.place.inode),
        };
        assert_eq!(meet(entry(7, 2, 5)), ("read", 7));
        assert_eq!(meet(entry(7, 2, 5)), ("again", 7));
        // Written to meanwhile; and another file that got the number of one that is gone.
        assert_eq!(meet(entry(7, 2, 6)), ("read", 0));
        assert_eq!(meet(entry(7, 1, 9)), ("read", 0));
        assert_eq!(meet(entry(8, 1, 5)), ("read", 8));
        assert_eq!(meet(entry(8, 1, 5)), ("read", 8));
    }

    #[test]
    fn a_file_that_could_not_be_read_is_tried_under_its_next_name() {
        let mut names = FileNames::default();
        let first = entry(7, 2, 5);
        let place = first.place;
        assert!(matches!(names.meet(first), Met::First(_)));
        names.forget(place);
        assert!(matches!(names.meet(entry(7, 2, 5)), Met::First(_)));
    }
}
