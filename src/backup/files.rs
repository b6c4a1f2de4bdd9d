//! The files, after the databases: walked in order, read and cut, with captured databases in place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crossbeam_channel::Sender;
use jiff::Timestamp;

use super::databases::StoredDatabase;
use crate::capture::Survey;
use crate::capture::parent::Parent;
use crate::chunker::ContentChunks;
use crate::chunker::rabin::Rabin;
use crate::entry::{Entry, Place};
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Problem, Progress, go_on};
use crate::repository::Repository;
use crate::repository::tree_writer::{PendingFile, Visit};
use crate::repository::writer::Writer;
use crate::source::files::{FileReader, Step};
use crate::source::sqlite;

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
    visits: &Sender<Visit>,
) -> Result<Read> {
    let mut placed = BTreeSet::new();
    let clock = &repository.services().clock;
    let mut earliest = clock.now();
    let mut descent = parent.descend(monitor);
    let polynomial = repository
        .config()?
        .polynomial()
        .map_err(|finding| Error::Unsupported {
            location: repository.location(),
            finding,
        })?;
    let rabin = Rabin::new(polynomial);
    let side_files = survey.side_files();
    // The builder of trees stops listening only when it has failed, and its error is the one to tell.
    let send = |visit: Visit| visits.send(visit).map_err(|_| writer.failure());
    survey.walk.run(monitor, &mut |step| match step {
        Step::Enter(entry) => {
            let before = descent.enter(&entry.name);
            send(Visit::Enter(entry, before.map(Box::new)))
        }
        Step::Leave => {
            descent.leave();
            send(Visit::Leave)
        }
        Step::Link(entry) => send(Visit::Link(entry)),
        Step::File(path, entry, size) => {
            let before = descent.take(&entry.name).map(Box::new);
            if let Some(database) = databases.get(&path) {
                let Some(database) = database else {
                    return Ok(());
                };
                let file = database.file.clone();
                send(Visit::Stored(image_entry(entry), file, before))?;
                placed.insert(path);
                return Ok(());
            }
            let real = survey.walk.real(&path);
            if side_files.contains(&path) {
                return Ok(());
            }
            let unchanged = before
                .as_ref()
                .and_then(|before| parent.unchanged(before, &entry, size));
            let is_told = unchanged.is_some() && parent.tells_databases();
            if !is_told && is_new_database(&real, monitor) {
                return Ok(());
            }
            if let Some(file) = unchanged {
                monitor.progress(Progress {
                    bytes: size,
                    files: 1,
                });
                return send(Visit::Stored(entry, file, before));
            }
            earliest = earliest.min(clock.now());
            match read(&real, entry, &rabin, writer, monitor)? {
                Some((entry, file)) => send(Visit::File(entry, file, before)),
                None => Ok(()),
            }
        }
    })?;
    Ok(Read {
        placed,
        followed: descent.take_own_folder().is_some(),
        earliest,
    })
}

/// An image is no longer the file that holds these links.
fn image_entry(entry: Entry) -> Entry {
    Entry {
        place: Place::default(),
        ..entry
    }
}

/// Whether a database has come since the survey. It must not be copied as a file.
fn is_new_database(path: &Path, monitor: &dyn Monitor) -> bool {
    let is_database = sqlite::is_database(path);
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

/// Reads one file; `None` if it cannot be read, which is told.
fn read(
    path: &Path,
    met: Entry,
    rabin: &Rabin,
    writer: &Writer,
    monitor: &dyn Monitor,
) -> Result<Option<(Entry, PendingFile)>> {
    let problem = |finding: String| {
        monitor.problem(Problem {
            item: crate::units::shown(path),
            finding,
            incomplete: true,
        });
    };
    let reader = match FileReader::open(path) {
        Ok(reader) => reader,
        Err(cause) => {
            problem(format!("cannot be read: {cause}"));
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
                problem(format!("cannot be read: {cause}"));
                return Ok(None);
            }
        };
        let bytes = chunk.len() as u64;
        file.store(writer, chunk)?;
        monitor.progress(Progress { bytes, files: 0 });
    }
    monitor.progress(Progress { bytes: 0, files: 1 });
    if reader.has_changed() {
        problem(
            "was written to while it was read; what is stored may be of two moments".to_owned(),
        );
    }
    Ok(Some((reader.entry(met), file)))
}
