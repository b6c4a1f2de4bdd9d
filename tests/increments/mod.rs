//! A database of which only the pages that changed are stored: what comes back is the image that was captured, to the
//! byte, whatever happens to what is remembered, to the log and to the base.

mod chain;
mod hurt;
mod judge;
mod memory;
mod sound;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use tillsafe::backend::{Backend, LocalBackend};
use tillsafe::backup::{self, Options, Outcome};
use tillsafe::capture::manifest::Log;
use tillsafe::clock::Clock;
use tillsafe::durable::{Disk, OsDisk};
use tillsafe::error::Result;
use tillsafe::id::Id;
use tillsafe::monitor::{Monitor, Quiet};
use tillsafe::repository::tree::Content;
use tillsafe::repository::{Repository, Services};
use tillsafe::restore::ProofLevel;
use tillsafe::rng::SystemRng;

use crate::common::Place;
use crate::common::dice::Dice;
use crate::common::library::{PASSWORD, create, open, options, password, restore, services};
use crate::common::program::Program;

/// A clock so far from the true one.
#[derive(Debug)]
struct Away(SignedDuration);

impl Clock for Away {
    fn now(&self) -> Timestamp {
        Timestamp::now().checked_add(self.0).unwrap()
    }

    fn sleep(&self, _duration: Duration) {}
}

/// A database large enough for a base, alone in its folder, and a repository.
struct Scene {
    place: Place,
    backend: Arc<dyn Backend>,
    folder: PathBuf,
    database: PathBuf,
    dice: Dice,
    page_bytes: u32,
}

impl Scene {
    fn new(mode: &str, page_bytes: u32) -> Self {
        let place = Place::new();
        let backend: Arc<dyn Backend> = Arc::new(LocalBackend::new(
            place.join("repository"),
            Arc::new(OsDisk),
            Arc::new(SystemRng),
        ));
        create(&backend);
        let folder = place.join("srv");
        fs::create_dir(&folder).unwrap();
        let scene = Self {
            database: folder.join("shop.db"),
            place,
            backend,
            folder,
            dice: Dice::new(7),
            page_bytes,
        };
        scene.run(&format!(
            "PRAGMA page_size = {page_bytes};
             PRAGMA journal_mode = {mode};
             CREATE TABLE orders(id INTEGER PRIMARY KEY, item TEXT);
             CREATE INDEX by_item ON orders(item);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
             INSERT INTO orders SELECT i, 'cup no. ' || i || ', ' || hex(randomblob(24)) FROM n;"
        ));
        assert!(fs::metadata(&scene.database).unwrap().len() >= 5 << 20);
        scene
    }

    /// Does something to the database; once nobody works with it, its file alone is its image.
    fn run(&self, sql: &str) {
        let connection = Connection::open(&self.database).unwrap();
        connection.execute_batch(sql).unwrap();
    }

    /// Some rows here and there become others.
    fn trade(&mut self) {
        // Of few large pages, many rows would be on all of them.
        let (rows, sold) = if self.page_bytes > 4096 {
            (2, 1)
        } else {
            (150, 30)
        };
        let step = 40_000 / rows + self.dice.below(100);
        let first = self.dice.below(step);
        self.run(&format!(
            "UPDATE orders SET item = 'teapot ' || hex(randomblob(20)) WHERE id % {step} = {first};
             INSERT INTO orders(item) SELECT 'new ' || hex(randomblob(20)) FROM orders LIMIT {sold};"
        ));
    }

    fn memory(&self) -> PathBuf {
        self.place.join("memory")
    }

    /// The program on its repository.
    fn program(&self) -> Program {
        let program = Program::in_folder(self.place.path());
        program.write_password(PASSWORD);
        program
    }

    /// The one file of what is remembered.
    fn remembered(&self) -> PathBuf {
        let mut names = fs::read_dir(self.memory()).unwrap();
        let file = names.next().unwrap().unwrap().path();
        assert!(names.next().is_none(), "only one database was seen");
        file
    }

    fn options(&self) -> Options {
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        Options {
            memory: Some(self.memory()),
            ..options(&[&self.folder], self.place.path(), &disk)
        }
    }

    fn back_up(&self) -> Night {
        self.back_up_as(&self.options()).unwrap()
    }

    fn back_up_as(&self, options: &Options) -> Result<Night> {
        self.night(&open(&self.backend)?, options, &Quiet::default())
    }

    fn back_up_at(&self, away: SignedDuration) -> Night {
        let services = Services {
            clock: Arc::new(Away(away)),
            ..services()
        };
        let backend = Arc::clone(&self.backend);
        let monitor = Quiet::default();
        let repository = Repository::open(backend, services, &password(), &monitor).unwrap();
        self.night(&repository, &self.options(), &monitor).unwrap()
    }

    fn night(
        &self,
        repository: &Repository,
        options: &Options,
        monitor: &dyn Monitor,
    ) -> Result<Night> {
        let outcome = backup::backup(repository, options, monitor)?;
        assert!(outcome.is_complete(), "{:?}", outcome.manifest.incomplete);
        Ok(Night {
            image: fs::read(&self.database).unwrap(),
            outcome,
        })
    }

    /// Restores a night's snapshot, and compares it with what the database was.
    fn assert_right(&self, night: &Night) {
        let target = self.place.join("restored");
        let snapshot = night.outcome.snapshot.clone();
        let restored = restore(&self.backend, snapshot, &self.folder, &target, &OsDisk).unwrap();
        assert_eq!(restored.level, ProofLevel::Matched);
        assert_image(&target.join("shop.db"), &night.image);
        let names: Vec<_> = fs::read_dir(&target).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing lies beside it");
        fs::remove_dir_all(target).unwrap();
    }

    /// The blobs of the two files, as the snapshot has them.
    fn stored(&self, night: &Night) -> Stored {
        let repository = open(&self.backend).unwrap();
        let index = repository.load_index(&Quiet::default()).unwrap();
        let mut tree = night.outcome.snapshot.file.tree;
        for name in self.folder.iter().skip(1) {
            let nodes = repository.read_tree(&index, tree).unwrap();
            let node = nodes.into_iter().find(|node| node.entry.name == name);
            let Content::Folder { tree: inner } = node.unwrap().content else {
                panic!("a folder");
            };
            tree = inner;
        }
        let nodes = repository.read_tree(&index, tree).unwrap();
        let blobs = |name: &str| {
            let node = nodes.iter().find(|node| node.entry.name == name)?;
            match &node.content {
                Content::File { blobs, .. } => Some(blobs.clone()),
                _ => None,
            }
        };
        Stored {
            base: blobs("shop.db").unwrap(),
            log: blobs("shop.db-wal"),
        }
    }
}

/// One backup, and what the database was then.
struct Night {
    outcome: Outcome,
    image: Vec<u8>,
}

impl Night {
    fn log(&self) -> Option<Log> {
        self.outcome.manifest.databases[0].log
    }

    fn added(&self) -> u64 {
        self.outcome.added.stored_bytes
    }
}

struct Stored {
    base: Vec<Id>,
    log: Option<Vec<Id>>,
}

fn assert_image(path: &Path, image: &[u8]) {
    let found = fs::read(path).unwrap();
    assert_eq!(found.len(), image.len());
    assert!(found == image, "{} differs", path.display());
}
