//! Every database first, each through its own engine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Options;
use crate::capture::Survey;
use crate::capture::manifest::{self, Database};
use crate::capture::parent::{Image, Images, Parent};
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Problem, Progress, go_on};
use crate::point::ConsistencyPoint;
use crate::repository::tree_writer::{PendingFile, StoredFile};
use crate::repository::writer::Writer;
use crate::source::sqlite;

/// A database whose image is in the writer's hands.
#[derive(Debug)]
pub struct StoredDatabase {
    /// Its image.
    pub file: StoredFile,
    /// What the manifest says of it.
    pub described: Database,
}

impl StoredDatabase {
    /// The same under another name.
    fn under(&self, path: &Path) -> Self {
        Self {
            file: self.file.clone(),
            described: Database {
                path: manifest::quoted(path),
                ..self.described.clone()
            },
        }
    }
}

/// Captures all databases of the survey, those in WAL mode as of one moment if their applications leave one. One that
/// was found in a folder and fails is `None`: left out and named, never copied as a file.
///
/// # Errors
/// [`Error::Source`] if one that was asked for by name fails; those of the writer.
pub fn capture_all(
    survey: &Survey,
    options: &Options,
    images: &Images<'_>,
    writer: &Writer,
    monitor: &dyn Monitor,
) -> Result<BTreeMap<PathBuf, Option<StoredDatabase>>> {
    let mut places = places(survey);
    let before: BTreeMap<PathBuf, &Image> = places
        .iter()
        .filter_map(|(path, real)| Some((real.as_ref().ok()?.clone(), images.at(path)?)))
        .collect();
    let reader = Reader {
        options,
        parent: images.parent,
        before,
        writer,
        monitor,
    };
    let real: Vec<PathBuf> = places.values().flatten().cloned().collect();
    let together = sqlite::together(&real, &options.sqlite)?;
    if together.prepared.is_empty() && together.count > 1 {
        let why = match &together.failed {
            Some(cause) => format!("SQLite could not begin to read them together ({cause})"),
            None => "there was none without somebody writing, or they are too many".to_owned(),
        };
        monitor.problem(Problem {
            item: format!("{} databases", together.count),
            finding: format!(
                "each is of a moment of its own: {why}; whoever changes several of them in one transaction may find one side of it"
            ),
            incomplete: false,
        });
    }
    let mut shared = BTreeMap::new();
    // An application may wait for the end of all these reads, so nothing else is done before it.
    for (real, prepared) in together.prepared {
        let reading = match reader.read(prepared) {
            Err(cause) if !is_of_the_source(&cause) => return Err(cause),
            reading => reading,
        };
        shared.insert(real, reading);
    }
    let mut stored: BTreeMap<PathBuf, Option<StoredDatabase>> = BTreeMap::new();
    for path in survey.databases.keys() {
        let names = names(survey, path);
        let Some(place) = places.remove(path) else {
            // One file, one image: all names of it in the snapshot agree with one another.
            let same = stored.get(&names[0]).and_then(Option::as_ref);
            let same = same.map(|same| same.under(path));
            if same.is_none() {
                let finding = "it is another name of one that was left out";
                monitor.problem(left_out(path, finding));
            }
            stored.insert(path.clone(), same);
            continue;
        };
        let captured = place.and_then(|real| {
            if let Some(reading) = shared.remove(&real) {
                let mut captured = reader.finish(path, reading?)?;
                captured.described.common_point = true;
                return Ok(captured);
            }
            let prepared = sqlite::Prepared::open(&real, &options.sqlite)?;
            reader.finish(path, reader.read(prepared)?)
        });
        let is_named = names.iter().any(|name| survey.databases[name]);
        let captured = match captured {
            Ok(captured) => Some(captured),
            // Its own fault, or that of the disk for its spool: the rest is saved.
            Err(cause) if is_of_the_source(&cause) && !is_named => {
                let finding = match &cause {
                    Error::Source { finding, .. } => finding.clone(),
                    other => other.to_string(),
                };
                monitor.problem(left_out(path, &finding));
                None
            }
            Err(cause) => return Err(cause),
        };
        stored.insert(path.clone(), captured);
    }
    Ok(stored)
}

/// All names of the database, the first of which stands for it.
fn names<'a>(survey: &'a Survey, path: &'a PathBuf) -> &'a [PathBuf] {
    let several = survey.names.get(path);
    several.map_or(std::slice::from_ref(path), Vec::as_slice)
}

/// Where each database is to be opened, by the name that stands for it. Before any is.
fn places(survey: &Survey) -> BTreeMap<PathBuf, Result<PathBuf>> {
    let databases = survey.databases.keys().filter_map(|path| {
        let names = names(survey, path);
        let real: Vec<PathBuf> = names.iter().map(|name| survey.walk.real(name)).collect();
        let at_work = || sqlite::at_work(&real[0], &real).map(Path::to_owned);
        (names[0] == *path).then(|| (path.clone(), at_work()))
    });
    databases.collect()
}

/// What the manifest says of the databases that are in the snapshot. One that was deleted after its
/// capture has no place there.
///
/// # Errors
/// [`Error::Source`] if it was asked for by name.
pub fn keep_placed(
    databases: BTreeMap<PathBuf, Option<StoredDatabase>>,
    placed: &BTreeSet<PathBuf>,
    survey: &Survey,
    monitor: &dyn Monitor,
) -> Result<Vec<Database>> {
    let mut kept = Vec::new();
    for (path, stored) in databases {
        let Some(stored) = stored else {
            continue;
        };
        if placed.contains(&path) {
            kept.push(stored.described);
            continue;
        }
        let finding = "it was deleted or exchanged during the backup";
        if survey.databases.get(&path) == Some(&true) {
            return Err(Error::Source {
                name: crate::units::shown(&path),
                finding: finding.to_owned(),
            });
        }
        monitor.problem(left_out(&path, finding));
    }
    Ok(kept)
}

fn left_out(path: &Path, finding: &str) -> Problem {
    Problem {
        item: crate::units::shown(path),
        finding: format!("this database was left out: {finding}"),
        incomplete: true,
    }
}

const fn is_of_the_source(cause: &Error) -> bool {
    matches!(cause, Error::Source { .. } | Error::File { .. })
}

/// A database whose read transaction is over.
enum Reading {
    /// It was read, and is not all stored yet.
    Read(Box<Read>),
    /// It holds what the snapshot before has of it.
    Known(Box<StoredDatabase>),
}

struct Read {
    chunks: Chunks,
    captured: sqlite::Captured,
    rest: Option<sqlite::Rest>,
}

/// The chunks of an image so far.
#[derive(Default)]
struct Chunks {
    pending: PendingFile,
    lengths: Vec<u64>,
}

impl Chunks {
    fn store(&mut self, chunk: Vec<u8>, writer: &Writer, monitor: &dyn Monitor) -> Result<()> {
        go_on(monitor)?;
        let length = chunk.len() as u64;
        self.lengths.push(length);
        self.pending.store(writer, chunk)?;
        monitor.progress(Progress {
            bytes: length,
            files: 0,
        });
        Ok(())
    }
}

/// What reads and stores them.
struct Reader<'a> {
    options: &'a Options,
    parent: &'a Parent<'a>,
    /// What the snapshot before has of them, by where they are opened.
    before: BTreeMap<PathBuf, &'a Image>,
    writer: &'a Writer,
    monitor: &'a dyn Monitor,
}

impl Reader<'_> {
    /// Reads a database, unless it stands as it did.
    ///
    /// # Errors
    /// As [`sqlite::Prepared::read`], and those of the writer.
    fn read(&self, mut prepared: sqlite::Prepared) -> Result<Reading> {
        let clock = self.options.sqlite.clock.as_ref();
        let not_before = clock.now();
        let standing = prepared.standing(&self.options.sqlite)?;
        let before = self.before.get(prepared.path());
        let is_as_before = |image: &&&Image| {
            standing.is_some_and(|standing| self.parent.is_image(image, &standing))
                // The times of a write may be lost with the power, and what was written may be there.
                && prepared.header().is_some_and(|header| image.described.header == Some(header))
        };
        if let Some(known) = before.filter(is_as_before) {
            let point = prepared.point().unwrap_or(ConsistencyPoint {
                not_before,
                not_after: clock.now(),
            });
            return Ok(Reading::Known(Box::new(StoredDatabase {
                file: known.file.clone(),
                described: Database {
                    point,
                    common_point: false,
                    held_ms: 0,
                    ..known.described.clone()
                },
            })));
        }
        let mut chunks = Chunks::default();
        let (captured, rest) = prepared.read(&self.options.sqlite, &mut |chunk| {
            chunks.store(chunk, self.writer, self.monitor)
        })?;
        Ok(Reading::Read(Box::new(Read {
            chunks,
            captured,
            rest,
        })))
    }

    /// Stores what is left of the database that is stored as `path`, and describes it.
    ///
    /// # Errors
    /// [`Error::File`] for the spool, and those of the writer.
    fn finish(&self, path: &Path, reading: Reading) -> Result<StoredDatabase> {
        let stored = match reading {
            Reading::Read(read) => self.store(path, *read)?,
            Reading::Known(stored) => {
                self.monitor.progress(Progress {
                    bytes: stored.file.size,
                    files: 0,
                });
                *stored
            }
        };
        self.monitor.progress(Progress { bytes: 0, files: 1 });
        if let Some(finding) = &stored.described.unsound {
            self.monitor.problem(Problem {
                item: crate::units::shown(path),
                finding: format!(
                    "SQLite finds it damaged: {finding}; the snapshot is kept as suspect, and no good one makes room for it. Mend the database now, or restore it from a snapshot before this one"
                ),
                incomplete: false,
            });
        }
        Ok(stored)
    }

    fn store(&self, path: &Path, read: Read) -> Result<StoredDatabase> {
        let Read {
            mut chunks,
            captured,
            rest,
        } = read;
        if let Some(rest) = rest {
            rest.drain(&mut |chunk| chunks.store(chunk, self.writer, self.monitor))?;
        }
        let Chunks { pending, lengths } = chunks;
        for warning in captured.warnings {
            self.monitor.problem(Problem {
                item: crate::units::shown(path),
                finding: warning,
                incomplete: false,
            });
        }
        let file = pending.wait(self.writer)?;
        let blobs = file.blobs.iter().copied();
        let described = Database {
            engine: "sqlite".to_owned(),
            engine_version: sqlite::engine_version().to_owned(),
            path: manifest::quoted(path),
            method: captured.method,
            journal_mode: captured.journal_mode,
            point: captured.point,
            common_point: false,
            held_ms: u64::try_from(captured.held.as_millis()).unwrap_or(u64::MAX),
            size_bytes: captured.size_bytes,
            image_sha256: manifest::image_hash(lengths.into_iter().zip(blobs)),
            fingerprint: captured.fingerprint,
            header: captured.header,
            standing: captured.standing,
            read_at: Some(captured.point.not_before),
            unsound: captured.unsound,
        };
        Ok(StoredDatabase { file, described })
    }
}
