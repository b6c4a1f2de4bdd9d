//! Every database first, each through its own engine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Options;
use super::increment::{Image as StoredImage, Increments, Pages, Recorded, Recorder, Whole};
use crate::capture::Survey;
use crate::capture::manifest::{self, Database};
use crate::capture::parent::{Image, Images, Parent};
use crate::chunker::{BASE_FROM as SMALLEST, PageChunks};
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Problem, Progress, go_on};
use crate::point::ConsistencyPoint;
use crate::repository::tree_writer::StoredFile;
use crate::repository::writer::Writer;
use crate::source::sqlite;

/// Longest name of a database that can have a log beside it, in bytes.
const LONGEST: usize = 255 - 4;

/// A database whose image is in the writer's hands.
#[derive(Debug)]
pub struct StoredDatabase {
    /// Its image, or the base that its log belongs to.
    pub file: StoredFile,
    /// The log of what changed since.
    pub log: Option<StoredFile>,
    /// What the manifest says of it.
    pub described: Database,
    /// What was seen of its pages, for the next backup.
    pub recorded: Option<Recorded>,
}

impl StoredDatabase {
    /// The same under another name. What has several is stored as one file.
    fn under(&self, path: &Path) -> Self {
        Self {
            file: self.file.clone(),
            log: self.log.clone(),
            recorded: None,
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
    increments: Option<Increments<'_>>,
    writer: &Writer,
    monitor: &dyn Monitor,
) -> Result<BTreeMap<PathBuf, Option<StoredDatabase>>> {
    let mut places = places(survey);
    // Its log needs a name, too.
    let has_room = |path: &Path| path.file_name().is_some_and(|name| name.len() <= LONGEST);
    let alone = places
        .iter()
        .filter(|(path, _)| names(survey, path).len() == 1 && has_room(path));
    let paths = alone
        .filter_map(|(path, real)| Some((real.as_ref().ok()?.clone(), path.clone())))
        .collect();
    let before: BTreeMap<PathBuf, &Image> = places
        .iter()
        .filter_map(|(path, real)| Some((real.as_ref().ok()?.clone(), images.at(path)?)))
        .collect();
    let reader = Reader {
        in_one_file: &options.sqlite,
        with_base: sqlite::Options {
            chunks: match options.sqlite.chunks {
                PageChunks::BySize => PageChunks::WithBases,
                other => other,
            },
            ..options.sqlite.clone()
        },
        increments,
        paths,
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

/// The databases that are in the snapshot.
#[derive(Debug, Default)]
pub struct Placed {
    /// What the manifest says of them.
    pub described: Vec<Database>,
    /// Files that they are stored as.
    pub files: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// What was seen of their pages.
    pub recorded: Vec<Recorded>,
}

/// The databases that are in the snapshot. One that was deleted after its
/// capture has no place there.
///
/// # Errors
/// [`Error::Source`] if it was asked for by name.
pub fn keep_placed(
    databases: BTreeMap<PathBuf, Option<StoredDatabase>>,
    placed: &BTreeSet<PathBuf>,
    survey: &Survey,
    monitor: &dyn Monitor,
) -> Result<Placed> {
    let mut kept = Placed::default();
    for (path, stored) in databases {
        let Some(stored) = stored else {
            continue;
        };
        if placed.contains(&path) {
            for file in [Some(&stored.file), stored.log.as_ref()]
                .into_iter()
                .flatten()
            {
                kept.files += 1;
                kept.bytes += file.size;
            }
            kept.described.push(stored.described);
            kept.recorded.extend(stored.recorded);
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
enum Reading<'a> {
    /// It was read, and is not all stored yet.
    Read(Box<Read<'a>>),
    /// It holds what the snapshot before has of it.
    Known(Box<StoredDatabase>),
}

struct Read<'a> {
    chunks: Chunks<'a>,
    captured: sqlite::Captured,
    rest: Option<sqlite::Rest>,
}

/// The chunks of an image so far.
enum Chunks<'a> {
    /// Of one that is stored whole each time.
    Whole(Whole),
    /// Of one of which only the pages that changed are stored.
    Pages(Box<Pages<'a>>),
}

impl Chunks<'_> {
    fn store(&mut self, chunk: Vec<u8>, writer: &Writer) -> Result<()> {
        match self {
            Self::Whole(whole) => whole.store(chunk, writer),
            Self::Pages(pages) => pages.take(chunk),
        }
    }

    /// All that can be done of it already is done: no thread waits until its turn comes.
    fn settle(&mut self) -> Result<()> {
        match self {
            Self::Whole(_) => Ok(()),
            Self::Pages(pages) => pages.settle(),
        }
    }

    fn finish(self, writer: &Writer) -> Result<StoredImage> {
        match self {
            Self::Whole(whole) => whole.finish(writer),
            Self::Pages(pages) => pages.finish(),
        }
    }
}

/// An image that is being read: its first chunk tells which way it goes.
struct Incoming<'r, 'a> {
    reader: &'r Reader<'a>,
    /// What will be seen of its pages, if it is cut so that its first chunk is a base's.
    recorder: Option<(Recorder, PageChunks)>,
    chunks: Option<Chunks<'a>>,
}

impl sqlite::Sink for Incoming<'_, '_> {
    fn take(&mut self, chunk: Vec<u8>) -> Result<()> {
        let chunks = if let Some(chunks) = &mut self.chunks {
            chunks
        } else {
            let recorder = self.recorder.take();
            let recorder = recorder.filter(|(_, cut)| cut.is_of_a_base(chunk.len()));
            let recorder = recorder.map(|(recorder, _)| recorder);
            self.chunks.insert(self.reader.chunks(recorder, &chunk)?)
        };
        self.reader.take(chunk, chunks)
    }

    fn is_whole(&self) -> bool {
        match &self.chunks {
            Some(Chunks::Pages(pages)) => pages.are_all_stored(),
            _ => true,
        }
    }

    fn census(&mut self) -> Result<Option<sqlite::Census>> {
        match &mut self.chunks {
            Some(Chunks::Pages(pages)) => pages.census().map(Some),
            _ => Ok(None),
        }
    }
}

/// What reads and stores them.
struct Reader<'a> {
    /// How databases are read that are stored whole each time.
    in_one_file: &'a sqlite::Options,
    /// The same for those of which only what changed is stored.
    with_base: sqlite::Options,
    increments: Option<Increments<'a>>,
    /// Which databases those can be: where each is opened, and as what it is stored.
    paths: BTreeMap<PathBuf, PathBuf>,
    parent: &'a Parent<'a>,
    /// What the snapshot before has of them, by where they are opened.
    before: BTreeMap<PathBuf, &'a Image>,
    writer: &'a Writer,
    monitor: &'a dyn Monitor,
}

impl<'a> Reader<'a> {
    /// Reads a database, unless it stands as it did.
    ///
    /// # Errors
    /// As [`sqlite::Prepared::read`], and those of the writer.
    fn read(&self, mut prepared: sqlite::Prepared) -> Result<Reading<'a>> {
        let clock = self.in_one_file.clock.as_ref();
        let not_before = clock.now();
        let standing = prepared.standing(self.in_one_file)?;
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
                log: known.log.clone(),
                recorded: None,
                described: Database {
                    point,
                    common_point: false,
                    held_ms: 0,
                    ..known.described.clone()
                },
            })));
        }
        let recorder = self.recorder(prepared.path());
        let options = match &recorder {
            Some(_) => &self.with_base,
            None => self.in_one_file,
        };
        let mut incoming = Incoming {
            reader: self,
            recorder: recorder.map(|recorder| (recorder, options.chunks)),
            chunks: None,
        };
        let (captured, rest) = prepared.read(options, &mut incoming)?;
        let mut chunks = match incoming.chunks {
            Some(chunks) => chunks,
            None => self.chunks(None, &[])?,
        };
        if rest.is_none() {
            chunks.settle()?;
        }
        Ok(Reading::Read(Box::new(Read {
            chunks,
            captured,
            rest,
        })))
    }

    /// Begins to keep what will be seen of the pages of the database that is opened at this path, if it is one of those,
    /// and large enough. Before anything is read of it: where nothing can be kept, each night would be a new base.
    fn recorder(&self, real: &Path) -> Option<Recorder> {
        let (increments, path) = self.increments.zip(self.paths.get(real))?;
        let bytes = std::fs::metadata(real).map_or(0, |metadata| metadata.len());
        // The log may hold what makes it larger.
        if bytes < SMALLEST / 2 {
            return None;
        }
        let recorder = increments.memories.record(path, increments.repository);
        recorder
            .inspect_err(|cause| {
                self.monitor.problem(Problem {
                    item: crate::units::shown(path),
                    finding: format!(
                        "what is seen of its pages cannot be kept ({cause}), and so more is stored than what changes"
                    ),
                    incomplete: false,
                });
            })
            .ok()
    }

    /// The way of an image that begins with this chunk.
    fn chunks(&self, recorder: Option<Recorder>, first: &[u8]) -> Result<Chunks<'a>> {
        if let Some((increments, recorder)) = self.increments.zip(recorder)
            && let Some(pages) = Pages::begin(increments, recorder, first, self.monitor)?
        {
            return Ok(Chunks::Pages(Box::new(pages)));
        }
        Ok(Chunks::Whole(Whole::default()))
    }

    fn take(&self, chunk: Vec<u8>, chunks: &mut Chunks<'_>) -> Result<()> {
        go_on(self.monitor)?;
        let bytes = chunk.len() as u64;
        chunks.store(chunk, self.writer)?;
        self.monitor.progress(Progress { bytes, files: 0 });
        Ok(())
    }

    /// Stores what is left of the database that is stored as `path`, and describes it.
    ///
    /// # Errors
    /// [`Error::File`] for the spool, and those of the writer.
    fn finish(&self, path: &Path, reading: Reading<'a>) -> Result<StoredDatabase> {
        let stored = match reading {
            Reading::Read(read) => self.store(path, *read)?,
            Reading::Known(stored) => {
                self.monitor.progress(Progress {
                    bytes: stored.described.size_bytes,
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

    fn store(&self, path: &Path, read: Read<'a>) -> Result<StoredDatabase> {
        let Read {
            mut chunks,
            captured,
            rest,
        } = read;
        if let Some(rest) = rest {
            rest.drain(&mut |chunk: Vec<u8>| self.take(chunk, &mut chunks))?;
        }
        for warning in captured.warnings {
            self.monitor.problem(Problem {
                item: crate::units::shown(path),
                finding: warning,
                incomplete: false,
            });
        }
        let image = chunks.finish(self.writer)?;
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
            image_sha256: image.sha256,
            log: image.described,
            fingerprint: captured.fingerprint,
            header: captured.header,
            standing: captured.standing,
            read_at: Some(captured.point.not_before),
            unsound: captured.unsound,
        };
        Ok(StoredDatabase {
            file: image.file,
            log: image.log,
            described,
            recorded: image.recorded,
        })
    }
}
