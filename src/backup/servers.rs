//! Databases of servers: dumped as streams into the repository, each with what counted it, and all behind one gate.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::{Options, own_entry};
use crate::capture::manifest::{self, ServerDatabase};
use crate::chunker::ContentChunks;
use crate::chunker::rabin::Rabin;
use crate::entry::Kind;
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Progress, go_on};
use crate::repository::Repository;
use crate::repository::tree::{Content, Node};
use crate::repository::tree_writer::{PendingFile, StoredFile, Trees, file_node, store_tree};
use crate::repository::writer::Writer;
use crate::source::postgres::{Failure, Held, Server, Services, stop, watched};
use crate::units::Shown;

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

/// Captures all of them.
///
/// # Errors
/// [`Error::Source`] for the first that cannot be read, or whose dump is not whole; those of the writer.
pub fn capture_all(
    options: &Options,
    repository: &Repository,
    writer: &Writer,
    monitor: &dyn Monitor,
) -> Result<Servers> {
    if options.servers.is_empty() {
        return Ok(Servers::default());
    }
    let polynomial = repository
        .config()?
        .polynomial()
        .map_err(|finding| Error::Unsupported {
            location: repository.location(),
            finding,
        })?;
    let capture = Capture {
        rabin: Rabin::new(polynomial),
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
        let (described, files) = capture.one(source)?;
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
