//! Databases of servers: dumped, judged, loaded and proved against a real one.

mod capture;
mod disturbed;
mod gate;
mod proof;
mod restore;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::common::Place;
use crate::common::library::snapshots;
use crate::common::postgres::{Database, Postgres, SUPERUSER};
use crate::common::program::{Program, Run, bare};

/// A machine with a repository and a shop whose database is on the server.
struct World {
    place: Place,
    program: Program,
    file: PathBuf,
}

impl World {
    /// The shop `mara`, its source `till` being this database, read by its superuser; `more` are further keys.
    fn of(database: &Database, more: &str) -> Self {
        let world = Self::bare();
        world.write(&source(database.server, SUPERUSER, &database.name, more));
        world
    }

    fn bare() -> Self {
        let place = Place::new();
        let folder = place.path().canonicalize().unwrap();
        let program = Program::with_cheap_repository(&folder);
        let file = folder.join("tillsafe.toml");
        Self {
            place,
            program,
            file,
        }
    }

    /// Writes the configuration with these sources of the shop.
    fn write(&self, sources: &str) {
        let text = format!(
            "version = 1\n[repository.usb]\nlocation = {}\npassword_file = {}\n[shop.mara]\n{sources}",
            path(&self.program.repository),
            path(&self.program.password_file)
        );
        fs::write(&self.file, text).unwrap();
        fs::set_permissions(&self.file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.file.parent().unwrap().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = bare();
        command.env("XDG_STATE_HOME", self.place.join("state"));
        command.env("TMPDIR", self.scratch());
        command.arg("-c").arg(&self.file).args(words);
        command
    }

    /// Where scratch folders are made: below no folder that only we can enter.
    fn scratch(&self) -> PathBuf {
        let folder = self.path("scratch");
        fs::create_dir_all(&folder).unwrap();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.place.path(), open.clone()).unwrap();
        fs::set_permissions(&folder, open).unwrap();
        folder
    }

    fn run(&self, words: &[&str]) -> Run {
        Run::of(&mut self.command(words))
    }

    fn ok(&self, words: &[&str]) -> Run {
        let run = self.run(words);
        assert_eq!(run.code, 0, "{words:?}: {}", run.text());
        run
    }

    /// A backup that must fail, with what it says; it leaves no snapshot more, and nothing in scratch folders.
    fn refused(&self) -> String {
        let before = self.snapshots();
        let run = self.run(&["backup"]);
        assert_eq!(run.code, 14, "{}", run.text());
        assert_eq!(self.snapshots(), before, "{}", run.text());
        self.assert_clean();
        run.stderr
    }

    fn snapshots(&self) -> usize {
        snapshots(&self.program.backend()).len()
    }

    /// Nothing of ours is left behind.
    fn assert_clean(&self) {
        let left: Vec<_> = fs::read_dir(self.scratch())
            .unwrap()
            .flatten()
            .map(|item| item.file_name())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    fn manifest(&self) -> Value {
        let json = self.ok(&["dump", "latest:/.tillsafe/manifest.json"]).stdout;
        serde_json::from_str(&json).unwrap()
    }
}

/// The source `till` of a shop.
fn source(server: &Postgres, user: &str, database: &str, more: &str) -> String {
    format!(
        "[[shop.mara.database]]\nname = \"till\"\nengine = \"postgresql\"\nmethod = \"dump\"\nsocket = {}\nuser = {}\ndatabase = {}\n{more}\n",
        path(&server.socket),
        toml(user),
        toml(database)
    )
}

/// A text as TOML writes it.
fn toml(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// A path as TOML writes it.
fn path(path: &Path) -> String {
    toml(path.to_str().unwrap())
}

/// Programs of which one is a script of ours, which finds the real one as `$REAL`.
fn with_fake(place: &Path, real: &Path, name: &str, script: &str) -> PathBuf {
    let folder = place.join("programs");
    fs::create_dir_all(&folder).unwrap();
    for item in fs::read_dir(real).unwrap().flatten() {
        let to = folder.join(item.file_name());
        let _ = std::os::unix::fs::symlink(item.path(), to);
    }
    let fake = folder.join(name);
    fs::remove_file(&fake).unwrap();
    let real = real.join(name);
    let text = format!(
        "#!/bin/sh\nREAL={}\ncase \"$1\" in --version) exec $REAL \"$@\";; esac\n{script}\n",
        real.display()
    );
    fs::write(&fake, text).unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}
