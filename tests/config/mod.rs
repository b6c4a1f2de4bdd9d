//! The configuration: every key, what wins, who may write the file, several shops, hooks.

mod hooks;
mod keys;
mod mutilated;
mod precedence;
mod safety;
mod shops;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::Place;
use crate::common::program::{Program, Run, bare};
use crate::common::shop::Shop;

/// A machine with a configuration, repositories `usb` (and more, if wanted) and shops.
struct World {
    place: Place,
    file: PathBuf,
}

impl World {
    fn new() -> Self {
        let place = Place::new();
        // As it is found by who looks closely: the folder of a test may lie behind a link.
        let file = place.path().canonicalize().unwrap().join("tillsafe.toml");
        Self { place, file }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.file.parent().unwrap().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A repository in a folder of this name.
    fn repository(&self, name: &str) -> Program {
        let folder = self.path(name);
        fs::create_dir(&folder).unwrap();
        Program::with_cheap_repository(&folder)
    }

    /// A shop in a folder of this name.
    fn shop(&self, name: &str, orders: u32) -> Shop {
        Shop::open(&self.path(name), orders, "delete")
    }

    /// Writes the file; `PLACE` in it stands for the test's own folder.
    fn write(&self, text: &str) {
        let place = self.file.parent().unwrap().to_str().unwrap();
        fs::write(&self.file, text.replace("PLACE", place)).unwrap();
        fs::set_permissions(&self.file, fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = bare();
        command.env("XDG_STATE_HOME", self.place.join("state"));
        command.env("TMPDIR", self.place.path());
        command.arg("-c").arg(&self.file).args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Run {
        Run::of(&mut self.command(words))
    }

    fn ok(&self, words: &[&str]) -> Run {
        let run = self.run(words);
        assert_eq!(run.code, 0, "{words:?}: {}", run.text());
        run
    }
}

/// One repository, as most files have it.
const USB: &str = "version = 1
[repository.usb]
location = \"PLACE/usb/repository\"
password_file = \"PLACE/usb/password\"
";

fn as_text(path: &Path) -> &str {
    path.to_str().unwrap()
}
