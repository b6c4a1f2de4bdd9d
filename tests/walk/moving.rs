//! Files that change, grow, shrink and vanish while the backup is at them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tillsafe::backend::{Backend, MemBackend};
use tillsafe::backup::Outcome;
use tillsafe::durable::OsDisk;

use crate::common::Place;
use crate::common::compare::difference;
use crate::common::files::make_socket;
use crate::common::library::{back_up, create, restore, snapshots};
use crate::common::meanwhile::{back_up_and_act, back_up_meanwhile};
use crate::common::program::Program;
use crate::common::shop::noise;

/// A folder with one large file among others, and a repository.
pub struct Scene {
    pub place: Place,
    pub backend: Arc<dyn Backend>,
    pub shop: PathBuf,
}

impl Scene {
    pub fn new() -> Self {
        let place = Place::new();
        let shop = place.join("shop");
        fs::create_dir(&shop).unwrap();
        fs::write(shop.join("a"), "a").unwrap();
        fs::write(shop.join("large"), noise(3, LARGE)).unwrap();
        fs::write(shop.join("z"), "z").unwrap();
        let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
        create(&backend);
        Self {
            place,
            backend,
            shop,
        }
    }

    /// Restores the newest snapshot, and returns where.
    pub fn restored(&self) -> PathBuf {
        let newest = snapshots(&self.backend).pop().unwrap();
        let target = self.place.join(&newest.id.short());
        if target.exists() {
            return target;
        }
        restore(&self.backend, newest, &self.shop, &target, &OsDisk).unwrap();
        target
    }

    /// The next run is whole, and holds what is there now.
    pub fn assert_next_is_whole(&self) {
        let outcome = back_up(&self.backend, &self.shop).unwrap();
        assert!(outcome.is_complete(), "{:?}", outcome.manifest.incomplete);
        assert_eq!(difference(&self.shop, &self.restored(), &|_| false), None);
    }
}

/// Bytes of the large file: some chunks.
const LARGE: usize = 12 << 20;

/// What the one thing is that the snapshot lacks, and why.
pub fn the_one(outcome: &Outcome, name: &str) -> String {
    let [note] = outcome.manifest.incomplete.as_slice() else {
        panic!("{:?}", outcome.manifest.incomplete);
    };
    assert!(note.item.ends_with(name), "{note:?}");
    note.finding.clone()
}

/// Acts each time when a piece of the large file has been read.
fn back_up_while_read(scene: &Scene, mut act: impl FnMut(&Path) + Send) -> Outcome {
    let large = scene.shop.join("large");
    let outcome = back_up_and_act(&scene.backend, &scene.shop, |progress| {
        if progress.bytes > 100 {
            act(&large);
        }
    });
    outcome.unwrap()
}

#[test]
fn a_file_that_vanishes_after_it_was_listed_is_named_and_the_rest_is_stored() {
    let scene = Scene::new();
    let gone = scene.shop.join("large");
    let outcome = back_up_meanwhile(&scene.backend, &scene.shop, || {
        fs::remove_file(&gone).unwrap();
    });
    let finding = the_one(&outcome.unwrap(), "shop/large");
    assert!(
        finding.starts_with("vanished while it was looked at"),
        "{finding}"
    );
    let restored = scene.restored();
    assert_eq!(fs::read(restored.join("z")).unwrap(), b"z");
    assert!(!restored.join("large").exists());
    scene.assert_next_is_whole();
}

#[test]
fn a_folder_that_vanishes_after_it_was_listed_is_named_and_the_rest_is_stored() {
    let scene = Scene::new();
    fs::create_dir(scene.shop.join("folder")).unwrap();
    let outcome = back_up_meanwhile(&scene.backend, &scene.shop, || {
        fs::remove_dir(scene.shop.join("folder")).unwrap();
    });
    let finding = the_one(&outcome.unwrap(), "shop/folder");
    assert!(
        finding.starts_with("vanished while it was looked at"),
        "{finding}"
    );
    scene.assert_next_is_whole();
}

/// Who is read has been opened: nothing of it is lost.
#[test]
fn a_file_that_vanishes_while_it_is_read_is_stored_whole() {
    let scene = Scene::new();
    let outcome = back_up_while_read(&scene, |large| drop(fs::remove_file(large)));
    assert!(outcome.is_complete(), "{:?}", outcome.manifest.incomplete);
    let stored = fs::read(scene.restored().join("large")).unwrap();
    assert!(stored == noise(3, LARGE));
    scene.assert_next_is_whole();
}

#[test]
fn a_file_that_grows_for_ever_is_read_to_where_it_ended() {
    let scene = Scene::new();
    let mut times = 0;
    let outcome = back_up_while_read(&scene, |large| {
        times += 1;
        assert!(times < 100, "it is read for ever");
        let mut file = File::options().append(true).open(large).unwrap();
        file.write_all(&noise(times, 8 << 20)).unwrap();
    });
    let finding = the_one(&outcome, "shop/large");
    let words = format!("grew while it was read; stored are the {LARGE} bytes that it had");
    assert!(finding.starts_with(&words), "{finding}");
    let stored = fs::read(scene.restored().join("large")).unwrap();
    assert!(stored == noise(3, LARGE), "{}", stored.len());
    scene.assert_next_is_whole();
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_named() {
    let scene = Scene::new();
    let outcome = back_up_while_read(&scene, |large| {
        File::options()
            .write(true)
            .open(large)
            .unwrap()
            .set_len(1)
            .unwrap();
    });
    let finding = the_one(&outcome, "shop/large");
    assert!(
        finding.starts_with("was cut short while it was read: "),
        "{finding}"
    );
    let stored = fs::read(scene.restored().join("large")).unwrap();
    assert!(noise(3, LARGE).starts_with(&stored) && stored.len() < LARGE);
    scene.assert_next_is_whole();
}

#[test]
fn a_file_that_is_written_to_while_it_is_read_is_named() {
    let scene = Scene::new();
    let outcome = back_up_while_read(&scene, |large| {
        let mut file = File::options().write(true).open(large).unwrap();
        file.write_all(b"other").unwrap();
    });
    let finding = the_one(&outcome, "shop/large");
    assert!(
        finding.starts_with("was written to while it was read"),
        "{finding}"
    );
    scene.assert_next_is_whole();
}

/// A rotated log, an editor that puts a new file in its place: what was opened is whole.
#[test]
fn a_file_that_another_replaces_while_it_is_read_is_stored_as_it_was() {
    let scene = Scene::new();
    let other = scene.place.join("other");
    fs::write(&other, "other").unwrap();
    let outcome = back_up_while_read(&scene, |large| drop(fs::rename(&other, large)));
    assert!(outcome.is_complete(), "{:?}", outcome.manifest.incomplete);
    let stored = fs::read(scene.restored().join("large")).unwrap();
    assert!(stored == noise(3, LARGE));
    scene.assert_next_is_whole();
}

/// Names of any bytes: a terminal shows them and obeys nothing in them.
#[test]
fn names_of_any_bytes_are_quoted_in_what_is_said() {
    let place = Place::new();
    let shop = place.join("shop");
    fs::create_dir(&shop).unwrap();
    let hostile = OsStr::from_bytes(b"\x1b[2J\n\xff\xe2\x80\xae\r\x9bfoo");
    make_socket(&shop.join(hostile));
    let deep = shop.join(hostile).with_extension("d");
    fs::create_dir(&deep).unwrap();
    fs::set_permissions(&deep, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let program = Program::with_cheap_repository(place.path());
    let mut command = program.command(&["backup", shop.to_str().unwrap()]);
    let as_other = rustix::process::geteuid().is_root();
    if as_other {
        // Whoever is root may read all of it.
        std::os::unix::process::CommandExt::uid(&mut command, 65_534);
        for path in crate::common::files::files_below(&program.repository) {
            std::os::unix::fs::lchown(path, Some(65_534), None).unwrap();
        }
        open_to(place.path(), 65_534);
    }
    let run = crate::common::program::Run::of(&mut command);
    assert_eq!(run.code, 3, "{}", run.text());
    let quoted = "\\u{1b}[2J\\n\\xff\\u{202e}\\r\\x9bfoo";
    for words in [
        ": a socket is not stored",
        ".d: cannot be read: Permission denied (os error 13)",
    ] {
        assert!(
            run.stderr.contains(&format!("{quoted}{words}")),
            "{}",
            run.stderr
        );
    }
    assert!(
        !run.stderr
            .contains(['\u{1b}', '\r', '\u{202e}', '\u{fffd}']),
        "{:?}",
        run.stderr
    );
}

/// Gives all folders to another user, but for what is closed on purpose.
fn open_to(folder: &Path, user: u32) {
    std::os::unix::fs::lchown(folder, Some(user), None).unwrap();
    for item in fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        std::os::unix::fs::lchown(&path, Some(user), None).unwrap();
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            open_to(&path, user);
        }
    }
}
