//! Databases of servers: dumped as streams into the repository, each with what counted it, and all behind one gate.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::Options;
use crate::capture::manifest::{self, Manifest, ServerDatabase};
use crate::chunker::ContentChunks;
use crate::chunker::rabin::Rabin;
use crate::entry::{Entry, Kind, Owner, Place};
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Problem, Progress, go_on};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::snapshot::{SUSPECT, Snapshot};
use crate::repository::tree::{Content, Node};
use crate::repository::tree_writer::{PendingFile, StoredFile, Trees, file_node, store_tree};
use crate::repository::writer::Writer;
use crate::source::postgres::{Failure, Held, Server, Services, stop, watched};
use crate::units::{ByteSize, Shown, counted};

/// The folder of all of them in a snapshot.
const FOLDER: &str = "tillsafe";

/// A database of a server, named in the configuration.
#[derive(Debug, Clone)]
pub struct ServerSource {
    /// Its shop.
    pub shop: String,
    /// Its name in the shop.
    pub name: String,
    /// Its server.
    pub server: Server,
    /// What the server calls it.
    pub database: String,
}

impl ServerSource {
    /// Where it stands in a snapshot.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        Path::new("/")
            .join(FOLDER)
            .join(&self.shop)
            .join(&self.name)
    }
}

/// What was stored of them.
#[derive(Debug, Default)]
pub struct Servers {
    /// What the manifest says of each.
    pub described: Vec<ServerDatabase>,
    /// The folder that holds all of them.
    node: Option<Node>,
    folders: u64,
}

/// Fails if the files would need the folder that the dumps stand in.
///
/// # Errors
/// [`Error::Usage`]
pub fn require_room(options: &Options) -> Result<()> {
    let folder = Path::new("/").join(FOLDER);
    let is_wanted = |path: &PathBuf| {
        path.starts_with(&folder) || (path == Path::new("/") && folder.symlink_metadata().is_ok())
    };
    if options.servers.is_empty() || !options.paths.iter().any(is_wanted) {
        return Ok(());
    }
    Err(taken())
}

fn taken() -> Error {
    Error::Usage {
        finding: format!(
            "/{FOLDER} is to be backed up, and the dumps of server databases stand under that name in a snapshot"
        ),
        next: "make a shop of its own for it, without server databases".to_owned(),
    }
}

/// What the newest snapshot of the series says of itself that is not suspect: what is read now must be plausible beside it.
/// None if there are no servers to compare, or it cannot be read: then others say so.
pub fn last_good(
    options: &Options,
    repository: &Repository,
    index: &Index,
    earlier: &[Snapshot],
) -> Option<Manifest> {
    if options.servers.is_empty() {
        return None;
    }
    let is_suspect = |one: &&Snapshot| one.file.tags.iter().any(|tag| tag == SUSPECT);
    let good = earlier.iter().find(|one| !is_suspect(one))?;
    let root = repository.read_tree(index, good.file.tree).ok()?;
    manifest::find(repository, index, &root).ok().flatten()
}

/// Notes, and tells, if a whole dump holds implausibly less than the last good one.
fn describe_loss(now: &mut ServerDatabase, last_good: Option<&Manifest>, monitor: &dyn Monitor) {
    let mut before = last_good.into_iter().flat_map(|manifest| &manifest.servers);
    let before = before.find(|one| one.shop == now.shop && one.name == now.name);
    let Some(finding) = before.and_then(|before| implausible(before, now)) else {
        return;
    };
    monitor.problem(Problem {
        item: format!("the database {}", now.name),
        finding: format!(
            "{finding}; the snapshot is kept as suspect, and so are the next ones until there is as much again. If it is meant to be so: tillsafe tag --remove {SUSPECT} latest"
        ),
        incomplete: false,
    });
    now.implausible = Some(finding);
}

/// What is lost since, if it is more than a day's work explains.
fn implausible(before: &ServerDatabase, now: &ServerDatabase) -> Option<String> {
    /// Fewer rows of one table than these may well go in a day.
    const MANY: u64 = 1000;
    let (was, is) = (before.fingerprint.rows(), now.fingerprint.rows());
    if was > 0 && is == 0 {
        return Some(format!(
            "it is empty, and held {} before",
            counted(was, "row")
        ));
    }
    for (table, content) in &before.fingerprint.tables {
        let left = now
            .fingerprint
            .tables
            .get(table)
            .map_or(0, |content| content.rows);
        if content.rows >= MANY && left == 0 {
            let rows = counted(content.rows, "row");
            return Some(format!(
                "the table {table} is empty or gone, and held {rows} before"
            ));
        }
    }
    let (were, are) = (
        before.fingerprint.tables.len(),
        now.fingerprint.tables.len(),
    );
    if are < were.div_ceil(2) {
        return Some(format!(
            "it has {}, and had {were} before",
            counted(are as u64, "table")
        ));
    }
    (now.dump_bytes < before.dump_bytes / 2).then(|| {
        format!(
            "its dump has {}, and had {} before",
            ByteSize(now.dump_bytes),
            ByteSize(before.dump_bytes)
        )
    })
}

/// Captures all of them.
///
/// # Errors
/// [`Error::Source`] for the first that cannot be read, or whose dump is not whole; those of the writer.
pub fn capture_all(
    options: &Options,
    last_good: Option<&Manifest>,
    repository: &Repository,
    writer: &Writer,
    monitor: &dyn Monitor,
) -> Result<Servers> {
    if options.servers.is_empty() {
        return Ok(Servers::default());
    }
    let capture = Capture {
        rabin: super::files::rabin(repository)?,
        services: Services {
            disk: Arc::clone(&options.sqlite.disk),
            rng: Arc::clone(&options.sqlite.rng),
            clock: Arc::clone(&options.sqlite.clock),
            scratch: options.sqlite.scratch.clone(),
        },
        writer,
        monitor,
    };
    let mut servers = Servers::default();
    let mut shops: Vec<(String, Vec<Node>)> = Vec::new();
    let now = repository.services().clock.now();
    for source in &options.servers {
        let (mut described, files) = capture.one(source)?;
        describe_loss(&mut described, last_good, monitor);
        servers.described.push(described);
        servers.folders += 1;
        let folder = capture.folder(&source.name, files, now)?;
        match shops.last_mut() {
            Some((shop, folders)) if *shop == source.shop => folders.push(folder),
            _ => shops.push((source.shop.clone(), vec![folder])),
        }
    }
    let folders = shops.into_iter().map(|(shop, folders)| {
        servers.folders += 1;
        capture.folder(&shop, folders, now)
    });
    let folders = folders.collect::<Result<_>>()?;
    servers.folders += 1;
    servers.node = Some(capture.folder(FOLDER, folders, now)?);
    Ok(servers)
}

impl Servers {
    /// Puts them into the root.
    ///
    /// # Errors
    /// [`Error::Usage`] if something of that name has come there since.
    pub fn join(self, trees: &mut Trees) -> Result<()> {
        let Some(node) = self.node else {
            return Ok(());
        };
        if trees
            .root
            .iter()
            .any(|other| other.entry.name == node.entry.name)
        {
            return Err(taken());
        }
        trees.root.push(node);
        trees.folders.new += self.folders;
        for one in &self.described {
            trees.files.new += one.files;
            trees.bytes += one.bytes;
        }
        Ok(())
    }
}

/// What captures them.
struct Capture<'a> {
    rabin: Rabin,
    services: Services,
    writer: &'a Writer,
    monitor: &'a dyn Monitor,
}

impl Capture<'_> {
    /// Captures one of them; returns what the manifest says of it, and its files.
    fn one(&self, source: &ServerSource) -> Result<(ServerDatabase, Vec<Node>)> {
        let clock = &self.services.clock;
        let failed = |Failure(finding): Failure| match go_on(self.monitor) {
            Err(stopped) => stopped,
            Ok(()) => Error::Source {
                name: format!(
                    "the database {} ({})",
                    source.name,
                    Shown(source.database.as_bytes())
                ),
                finding,
            },
        };
        let mut held =
            Held::begin(&source.server, &source.database, &self.services).map_err(failed)?;
        let stopper = held.stopper();
        let fingerprint = watched(self.monitor, || stopper.stop(), || held.fingerprint());
        let fingerprint = fingerprint.map_err(failed)?;
        let globals = held.globals().map_err(failed)?;
        let mut dump = held.dump().map_err(failed)?;
        let pids = dump.pids();
        let stop_all = || pids.into_iter().for_each(stop);
        let (stored, dumped) = watched(self.monitor, stop_all, || {
            let stored = self.store(&mut dump);
            // Also of one that could not be read or stored: then why the tool ended is of no interest.
            let dumped = stored
                .is_ok()
                .then(|| dump.finish(&fingerprint, &held.facts));
            (stored, dumped)
        });
        let (dump, lengths) = stored?;
        let Some(dumped) = dumped else {
            unreachable!("what was stored was finished");
        };
        let dumped = dumped.map_err(failed)?;
        let (point, tool_version) = (held.point, held.tool_version().to_owned());
        let facts = held.facts.clone();
        let held_ms = held.end(clock.now()).map_err(failed)?;
        let dump_sha256 = manifest::image_hash(lengths);
        let said = [
            b"pg_dumpall:\n",
            globals.said.as_slice(),
            b"pg_dump and pg_restore:\n",
            &dumped.said,
        ]
        .concat();
        let (readme, _) = self.store(&mut readme(source).as_bytes())?;
        let (log, _) = self.store(&mut said.as_slice())?;
        let (sql, _) = self.store(&mut globals.sql.as_slice())?;
        let now = point.not_after;
        // In the order of their names.
        let files = [
            ("README.txt", readme),
            ("dump.log", log),
            (ServerDatabase::DUMP, dump),
            ("globals.sql", sql),
        ];
        let files =
            files.map(|(name, file)| file_node(own_entry(name, Kind::File, 0o600, now), file));
        let bytes = files.iter().map(|node| node.content.size()).sum();
        let described = ServerDatabase {
            shop: source.shop.clone(),
            name: source.name.clone(),
            engine: "postgresql".to_owned(),
            method: "dump".to_owned(),
            tool_version,
            database: source.database.clone(),
            path: manifest::quoted(&source.folder()),
            point,
            held_ms,
            files: files.len() as u64,
            bytes,
            dump_bytes: dumped.bytes,
            dump_sha256,
            has_passwords: globals.has_passwords,
            facts,
            fingerprint,
            implausible: None,
        };
        Ok((described, files.into()))
    }

    /// Cuts and stores what a reader gives; returns the file, and its blobs with their lengths.
    fn store(&self, reader: &mut dyn Read) -> Result<(StoredFile, Vec<(u64, crate::id::Id)>)> {
        let mut chunks = ContentChunks::new(reader, self.rabin.clone(), 0);
        let mut file = PendingFile::default();
        let mut lengths = Vec::new();
        loop {
            go_on(self.monitor)?;
            let chunk = chunks.next_chunk().map_err(|cause| Error::Internal {
                finding: format!("a pipe cannot be read: {cause}"),
            })?;
            let Some(chunk) = chunk else {
                break;
            };
            let bytes = chunk.len() as u64;
            lengths.push(bytes);
            file.store(self.writer, chunk)?;
            self.monitor.progress(Progress { bytes, files: 0 });
        }
        let file = file.wait(self.writer)?;
        let lengths = lengths
            .into_iter()
            .zip(file.blobs.iter().copied())
            .collect();
        Ok((file, lengths))
    }

    fn folder(&self, name: &str, mut nodes: Vec<Node>, now: Timestamp) -> Result<Node> {
        nodes.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
        let tree = store_tree(self.writer, name.as_ref(), &nodes)?;
        Ok(Node {
            entry: own_entry(name, Kind::Folder, 0o700, now),
            content: Content::Folder { tree },
        })
    }
}

/// How it is brought back without us.
fn readme(source: &ServerSource) -> String {
    format!(
        "The database {} as tillsafe has dumped it. Without tillsafe it is brought back by PostgreSQL's own tools:\n\
         \n\
         1. roles and their rights, if the server is a new one (look at the file first):\n\
         \x20  psql -X -f globals.sql postgres\n\
         2. a new, empty database:\n\
         \x20  createdb -T template0 NEW_NAME\n\
         3. its content:\n\
         \x20  pg_restore --exit-on-error --jobs=4 --dbname=NEW_NAME dump.pgdump\n\
         \n\
         dump.log is what the tools said. Encoding and locale of the original are in /.tillsafe/manifest.json.\n",
        Shown(source.database.as_bytes())
    )
}

/// An entry that no file system holds: without inode, device and links, or restic would take all
/// such files for one.
pub fn own_entry(name: &str, kind: Kind, mode: u32, now: Timestamp) -> Entry {
    Entry {
        name: OsString::from(name),
        kind,
        mode,
        modified: now,
        changed: now,
        owner: Owner::default(),
        place: Place::default(),
        attributes: Vec::new(),
    }
}
