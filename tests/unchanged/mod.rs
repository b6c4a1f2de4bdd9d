//! Which files are not read again, and that nothing which has changed is among them.

mod databases;
mod restic;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::fs::{XattrFlags, setxattr};
use tillsafe::backend::{Backend, Class, MemBackend, Object};
use tillsafe::backup::{self, Options, Outcome};
use tillsafe::clock::Clock;
use tillsafe::durable::{Disk, OsDisk};
use tillsafe::monitor::Quiet;
use tillsafe::repository::pack::BlobKind;
use tillsafe::repository::{Repository, Services};

use crate::common::Place;
use crate::common::compare::{difference, is_database};
use crate::common::library::{create, full_check, options, password, restore, services, snapshots};
use crate::common::shop::{Shop, noise};
use crate::common::tools::find;

/// A clock beside the true one: ahead of it at first, and after so many looks set right.
#[derive(Debug)]
struct Wrong {
    ahead: SignedDuration,
    looks: AtomicUsize,
    right_after: usize,
}

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        let ahead = if self.looks.fetch_add(1, Ordering::SeqCst) < self.right_after {
            self.ahead
        } else {
            SignedDuration::ZERO
        };
        Timestamp::now().checked_add(ahead).unwrap()
    }

    fn sleep(&self, _duration: Duration) {}
}

/// An hour from now, when everything was left alone for long.
const LATER: SignedDuration = SignedDuration::from_hours(1);

struct Scene {
    place: Place,
    backend: Arc<dyn Backend>,
    folder: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
        create(&backend);
        let folder = place.join("srv");
        fs::create_dir(&folder).unwrap();
        Self {
            place,
            backend,
            folder,
        }
    }

    fn options(&self) -> Options {
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        options(&[&self.folder], self.place.path(), &disk)
    }

    /// Backs up by a clock that is so far ahead, and is set right after so many looks.
    fn back_up_by(&self, ahead: SignedDuration, right_after: usize, options: &Options) -> Outcome {
        let clock = Wrong {
            ahead,
            looks: AtomicUsize::new(0),
            right_after,
        };
        let services = Services {
            clock: Arc::new(clock),
            ..services()
        };
        let backend = Arc::clone(&self.backend);
        let repository =
            Repository::open(backend, services, &password(), &Quiet::default()).unwrap();
        backup::backup(&repository, options, &Quiet::default()).unwrap()
    }

    fn back_up_ahead(&self, ahead: SignedDuration) -> Outcome {
        self.back_up_by(ahead, usize::MAX, &self.options())
    }

    fn back_up_later(&self) -> Outcome {
        self.back_up_ahead(LATER)
    }

    /// The newest snapshot holds what the source holds.
    fn assert_newest_is_right(&self) {
        let newest = snapshots(&self.backend).pop().unwrap();
        let target = self.place.join("restored");
        restore(&self.backend, newest, &self.folder, &target, &OsDisk).unwrap();
        assert_eq!(difference(&self.folder, &target, &is_database), None);
        fs::remove_dir_all(target).unwrap();
    }
}

/// New, changed and unmodified files, our manifest among the changed ones.
fn counts(outcome: &Outcome) -> [u64; 3] {
    let summary = outcome.snapshot.file.summary.unwrap();
    [
        summary.files_new,
        summary.files_changed,
        summary.files_unmodified,
    ]
}

/// A process that has a file in its memory, and writes there on demand.
struct Mapping {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Mapping {
    fn of(file: &Path) -> Self {
        const PROGRAM: &str = "import mmap, sys
file = open(sys.argv[1], 'r+b')
memory = mmap.mmap(file.fileno(), 0)
for line in sys.stdin:
    memory[0:1] = line[0].encode()
    print('done', flush=True)";
        let python = find("python3").expect("python3 is on every machine that runs these tests");
        let mut child = Command::new(python)
            .args(["-I", "-S", "-c", PROGRAM])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            orders,
            answers,
        }
    }

    fn write(&mut self, letter: char) {
        writeln!(self.orders, "{letter}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n");
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // It has ended if this fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file that is written to through a memory map, and looks as if it were not.
fn write_unseen(scene: &Scene, between: impl Fn()) {
    let file = scene.folder.join("orders.bin");
    let stamp = || {
        let metadata = fs::metadata(&file).unwrap();
        (
            metadata.ctime(),
            metadata.ctime_nsec(),
            metadata.mtime_nsec(),
        )
    };
    // The kernel may clean the page in between, and then the second write does set the times.
    for _ in 0..10 {
        fs::write(&file, noise(3, 300_000)).unwrap();
        let mut mapping = Mapping::of(&file);
        mapping.write('a');
        let before = stamp();
        between();
        mapping.write('b');
        assert_eq!(fs::read(&file).unwrap()[0], b'b');
        if stamp() == before {
            return;
        }
    }
    panic!("the kernel has set the times each time: no trap here");
}

#[test]
fn what_was_left_alone_is_not_read_again() {
    let scene = Scene::new();
    // That it is not read is seen by what it misses: content that no file system would show as changed.
    write_unseen(&scene, || {
        scene.back_up_later();
    });
    let outcome = scene.back_up_ahead(LATER * 2);
    assert_eq!(counts(&outcome), [0, 1, 1]);
    assert!(outcome.added.data_blobs <= 1, "the manifest alone is new");
    // And that is what --force is for.
    let mut options = scene.options();
    options.recognition.force = true;
    let outcome = scene.back_up_by(LATER * 3, usize::MAX, &options);
    assert_eq!(
        (counts(&outcome), outcome.snapshot.file.parent),
        ([2, 0, 0], None)
    );
    scene.assert_newest_is_right();
}

#[test]
fn what_was_written_just_before_the_last_backup_is_read_again() {
    let scene = Scene::new();
    // A page that was dirty stays so for up to 35 s: a write in that time leaves no trace.
    for ahead in [0, 10, 30, 55] {
        write_unseen(&scene, || {
            scene.back_up_ahead(SignedDuration::from_secs(ahead));
        });
        scene.back_up_later();
        scene.assert_newest_is_right();
        scene
            .backend
            .list(Class::Snapshots)
            .unwrap()
            .objects
            .iter()
            .for_each(|(id, _)| {
                let object = Object::Named(Class::Snapshots, *id);
                scene.backend.delete(object).unwrap();
            });
    }
}

#[test]
fn a_clock_that_is_set_back_meanwhile_makes_nothing_look_old() {
    // It may be set right at any look that a backup takes at it.
    for right_after in 0..8 {
        let scene = Scene::new();
        write_unseen(&scene, || {
            scene.back_up_by(LATER, right_after, &scene.options());
        });
        scene.back_up_ahead(LATER * 2);
        scene.assert_newest_is_right();
    }
}

#[test]
fn same_size_and_restored_times_hide_no_other_content() {
    let scene = Scene::new();
    let file = scene.folder.join("prices.csv");
    fs::write(&file, "raku;12\n").unwrap();
    let times = fs::metadata(&file).unwrap();
    scene.back_up_later();
    fs::write(&file, "raku;99\n").unwrap();
    let restored = fs::FileTimes::new()
        .set_modified(times.modified().unwrap())
        .set_accessed(times.accessed().unwrap());
    let open = fs::File::options().write(true).open(&file).unwrap();
    open.set_times(restored).unwrap();
    drop(open);
    assert_eq!(
        fs::metadata(&file).unwrap().modified().unwrap(),
        times.modified().unwrap()
    );
    let outcome = scene.back_up_ahead(LATER * 2);
    assert_eq!(counts(&outcome), [0, 2, 0]);
    scene.assert_newest_is_right();
}

#[test]
fn every_way_to_change_is_seen() {
    let scene = Scene::new();
    let file = |name: &str| scene.folder.join(name);
    let names = [
        "same",
        "longer",
        "exchanged",
        "mode",
        "kind",
        "gone",
        "named",
        "glazed",
    ];
    for name in names {
        fs::write(file(name), format!("{name:>100}")).unwrap();
    }
    let glaze = |name, value: &[u8]| {
        setxattr(file(name), "user.glaze", value, XattrFlags::empty()).unwrap();
    };
    glaze("named", b"celadon");
    glaze("glazed", b"celadon");
    fs::create_dir(file("folder")).unwrap();
    fs::write(file("folder/inner"), "x").unwrap();
    scene.back_up_later();
    fs::write(file("longer"), "longer".repeat(100)).unwrap();
    fs::write(file("new"), format!("{:>100}", "other")).unwrap();
    fs::rename(file("new"), file("exchanged")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(file("mode"), mode).unwrap();
    fs::remove_file(file("kind")).unwrap();
    fs::create_dir(file("kind")).unwrap();
    fs::remove_file(file("gone")).unwrap();
    fs::rename(file("folder"), file("moved")).unwrap();
    glaze("glazed", b"raku");
    let outcome = scene.back_up_ahead(LATER * 2);
    // moved/inner is new; longer, exchanged, mode, glazed and the manifest are changed.
    assert_eq!(counts(&outcome), [1, 5, 2]);
    scene.assert_newest_is_right();
    let again = scene.back_up_ahead(LATER * 3);
    assert_eq!(counts(&again), [0, 1, 7]);
    assert_eq!(again.snapshot.file.parent, Some(outcome.snapshot.id));
    scene.assert_newest_is_right();
}

/// What the parent has lost is read again, be it a folder or what lay in a file.
#[test]
fn what_the_parent_has_lost_is_read_again() {
    for lost in [BlobKind::Data, BlobKind::Tree] {
        let scene = Scene::new();
        Shop::open(&scene.folder.join("shop"), 20, "wal");
        scene.back_up_later();
        let index = {
            let repository = crate::common::library::open(&scene.backend).unwrap();
            repository.load_index(&Quiet::default()).unwrap()
        };
        for (kind, id) in index.blobs().filter(|(kind, _)| *kind == lost) {
            for location in index.locations(kind, id) {
                let pack = Object::Named(Class::Data, location.pack);
                // It holds others too.
                let _ = scene.backend.delete(pack);
            }
        }
        let outcome = scene.back_up_ahead(LATER * 2);
        let warned = |text: &str| {
            let warnings = &outcome.manifest.warnings;
            warnings.iter().any(|note| note.finding.contains(text))
        };
        assert!(warned("is gone"), "{lost}");
        assert_eq!(
            warned("has a folder that cannot be read"),
            lost == BlobKind::Tree
        );
        assert!(outcome.is_complete());
        scene.assert_newest_is_right();
        let first = snapshots(&scene.backend).remove(0);
        let object = Object::Named(Class::Snapshots, first.id);
        scene.backend.delete(object).unwrap();
        let report = full_check(&scene.backend);
        assert!(
            report.damage.iter().all(|damage| !damage.costs_data),
            "{lost}: {:?}",
            report.damage
        );
    }
}

#[test]
fn the_parent_is_the_last_of_the_same_series() {
    let scene = Scene::new();
    fs::write(scene.folder.join("a"), "a").unwrap();
    let run = |tags: &[&str], host: &str, paths: &[&Path], ahead: i32| {
        let options = Options {
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            host: host.to_owned(),
            paths: paths.iter().map(|path| path.to_path_buf()).collect(),
            ..scene.options()
        };
        let outcome = scene.back_up_by(LATER * ahead, usize::MAX, &options);
        (outcome.snapshot.id, outcome.snapshot.file.parent)
    };
    let folder = scene.folder.as_path();
    let file = scene.folder.join("a");
    let (mara, parent) = run(&["shop=mara"], "one", &[folder], 1);
    assert_eq!(parent, None);
    let (place, parent) = run(&[], "one", &[folder], 2);
    assert_eq!(parent, None);
    assert_eq!(run(&[], "two", &[folder], 3).1, None);
    assert_eq!(run(&[], "one", &[&file], 4).1, None);
    assert_eq!(run(&["x"], "one", &[folder], 5).1, Some(place));
    // A rebuilt machine goes on with the shop's series.
    let (again, parent) = run(&["shop=mara"], "two", &[&file], 6);
    assert_eq!(parent, Some(mara));
    assert_eq!(run(&["shop=mara"], "one", &[folder], 7).1, Some(again));
    assert_eq!(run(&["shop=ilse"], "one", &[folder], 8).1, None);
}

/// The clock was a year ahead for one night.
#[test]
fn a_snapshot_of_the_future_is_no_parent_and_is_told() {
    let scene = Scene::new();
    fs::write(scene.folder.join("a"), "a").unwrap();
    let first = scene.back_up_ahead(SignedDuration::ZERO);
    let future = scene.back_up_ahead(LATER * 24 * 365);
    assert_eq!(future.snapshot.file.parent, Some(first.snapshot.id));
    let now = scene.back_up_ahead(SignedDuration::from_secs(5));
    assert_eq!(now.snapshot.file.parent, Some(first.snapshot.id));
    let [warning] = now.manifest.warnings.as_slice() else {
        panic!("{:?}", now.manifest.warnings);
    };
    assert!(warning.item.contains(&future.snapshot.id.short()));
    assert!(warning.finding.contains("clock"), "{warning:?}");
    assert!(future.manifest.warnings.is_empty());
}
