//! Repositories and targets made by somebody who means no good and has the key, or at least the
//! storage: no panic, nothing outside the target, bounded memory and time, the right exit code and an
//! advice. Each class is one row of a table in a file of its group.

mod contents;
mod databases;
mod floods;
mod keys;
mod names;
mod objects;
mod packs;
mod snapshots;
mod targets;
mod verdicts;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::cli::assert_three_parts;
use crate::common::Place;
use crate::common::files::{copy_folder, names_with};
use crate::common::forge::Forge;
use crate::common::library::{PASSWORD, back_up};
use crate::common::measure::measured;
use crate::common::program::Program;
use crate::common::shop::Shop;

/// No run takes more memory than this, in bytes.
const MEMORY: u64 = 512 << 20;
/// No run takes longer. A busy machine may be three times as slow as one that is not.
const TIME: Duration = Duration::from_secs(30);

/// A class of hostile repositories, and the exit codes that are right for it.
struct Class {
    name: &'static str,
    make: fn(&Forge),
    codes: Codes,
}

/// The exit codes that are right for `check --read-data`, `snapshots`, `ls latest`, `restore latest`,
/// `verify latest` and `backup`.
type Codes = [&'static [i32]; 6];

const COMMANDS: [&str; 6] = ["check", "snapshots", "ls", "restore", "verify", "backup"];
/// What only looks into snapshots. Right is what is right for `ls`; but they show what no file system
/// takes, and read what `ls` need not.
const LOOKING: [&str; 3] = ["stats", "find", "diff"];

/// A shop's honest repository with one snapshot, made once and copied for each class.
struct Honest {
    place: Place,
    program: Program,
}

impl Honest {
    fn new() -> Self {
        let place = Place::new();
        let shop = Shop::open(&place.join("shop"), 5, "delete");
        fs::write(shop.folder.join("pictures/teapot.jpg"), "a small picture").unwrap();
        let program = Program::with_cheap_repository(place.path());
        back_up(&program.backend(), &shop.folder).unwrap();
        Self { place, program }
    }
}

/// A copy of the honest repository, and all around it what must stay as it is.
struct Scene {
    place: Place,
    program: Program,
    shop: PathBuf,
    /// The snapshot that is whole.
    honest: String,
}

impl Scene {
    fn new(honest: &Honest) -> Self {
        let place = Place::new();
        let program = Program::in_folder(place.path());
        copy_folder(&honest.program.repository, &program.repository);
        program.write_password(PASSWORD);
        for folder in ["around", "scratch", "outside"] {
            fs::create_dir(place.join(folder)).unwrap();
        }
        for canary in CANARIES {
            fs::write(place.join(canary), format!("canary {canary}")).unwrap();
        }
        let shop = honest.place.join("shop");
        let honest = names_with(&program.repository.join("snapshots"), "").remove(0);
        Self {
            place,
            program,
            shop,
            honest,
        }
    }

    fn forge(&self) -> Forge {
        Forge::open(&self.program.repository)
    }

    fn target(&self) -> PathBuf {
        self.place.join("around/target")
    }

    /// What the program may make: the restored copy, and what it keeps of a large index.
    fn own(&self) -> [PathBuf; 2] {
        [self.target(), self.place.join("cache")]
    }

    /// A command's words.
    fn words(&self, command: &str) -> Vec<String> {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        match command {
            "check" => vec!["check".to_owned(), "--read-data".to_owned()],
            "restore" => ["restore", "latest", "--target"]
                .map(str::to_owned)
                .into_iter()
                .chain([text(self.target())])
                .collect(),
            "verify" => ["verify", "latest", "--scratch"]
                .map(str::to_owned)
                .into_iter()
                .chain([text(self.place.join("scratch"))])
                .collect(),
            "ls" => vec!["ls".to_owned(), "--long".to_owned(), "latest".to_owned()],
            "backup" => vec!["backup".to_owned(), text(self.shop.clone())],
            "stats" => ["stats", "latest"].map(str::to_owned).to_vec(),
            "find" => ["find", "*", "--snapshot", "latest"]
                .map(str::to_owned)
                .to_vec(),
            "diff" => ["diff", &self.honest, "latest"].map(str::to_owned).to_vec(),
            other => vec![other.to_owned()],
        }
    }

    /// Runs a command and judges all but its exit code, which it returns with what was said.
    fn run(&self, class: &str, command: &str) -> (i32, String) {
        let words = self.words(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut program = self.program.command(&words);
        program.env("TMPDIR", self.place.join("scratch"));
        let measured = measured(&program, TIME * 2);
        note(class, command, measured.peak, measured.time);
        let run = &measured.run;
        let mut text = run.text();
        let shown: String = text.chars().take(3000).collect();
        let what = format!("{class}, {command}: {} {shown}", run.code);
        assert!(run.code >= 0, "died of signal {what}");
        assert!(!text.contains("panicked"), "{what}");
        for hostile in ['\u{1b}', '\u{202e}', '\u{9b}', '\0'] {
            assert!(
                !text.contains(hostile),
                "{hostile:?} reaches the terminal: {what}"
            );
        }
        if run.stderr.contains("error: ") {
            assert_three_parts(&run.stderr);
        } else {
            let no_error = matches!(run.code, 0 | 3 | 7) || (command, run.code) == ("snapshots", 4);
            assert!(no_error, "no error is told: {what}");
        }
        assert!(
            measured.peak < MEMORY,
            "{} MiB: {what}",
            measured.peak >> 20
        );
        assert!(measured.time < TIME, "{:?}: {what}", measured.time);
        text.truncate(text.floor_char_boundary(100_000));
        (run.code, text)
    }
}

/// What lies beside, above and where links point to.
const CANARIES: [&str; 4] = [
    "above.txt",
    "around/beside.txt",
    "outside/canary.txt",
    "outside/canary.db-journal",
];

/// Everything below a folder but what is restored: kind, mode, and content or size.
fn landscape(root: &Path, leave_out: &[PathBuf]) -> BTreeMap<PathBuf, String> {
    use std::os::unix::fs::MetadataExt;
    /// Longer files are told apart by size and time.
    const MOST: u64 = 4 << 20;
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(folder) = waiting.pop() {
        for item in fs::read_dir(&folder).unwrap() {
            let path = item.unwrap().path();
            if leave_out.contains(&path) {
                continue;
            }
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_dir() {
                waiting.push(path.clone());
                String::new()
            } else if metadata.is_symlink() {
                fs::read_link(&path).unwrap().to_string_lossy().into_owned()
            } else if metadata.is_file() && metadata.len() <= MOST {
                tillsafe::id::Id::of(&fs::read(&path).unwrap()).to_string()
            } else {
                format!("{} {}", metadata.len(), metadata.mtime_nsec())
            };
            found.insert(path, format!("{:o} {content}", metadata.mode()));
        }
    }
    found
}

/// Says what is new, gone or changed.
fn assert_same(before: &BTreeMap<PathBuf, String>, after: &BTreeMap<PathBuf, String>, what: &str) {
    for (path, is) in after {
        assert_eq!(
            before.get(path),
            Some(is),
            "{what}: {} is new or changed",
            path.display()
        );
    }
    for path in before.keys() {
        assert!(
            after.contains_key(path),
            "{what}: {} is gone",
            path.display()
        );
    }
}

/// Plays all classes of a group, also after one that failed.
fn play(classes: &[Class]) {
    let honest = Honest::new();
    let failed = classes.iter().filter(|class| {
        let played = std::panic::AssertUnwindSafe(|| play_one(&honest, class));
        std::panic::catch_unwind(played).is_err()
    });
    let failed: Vec<&str> = failed.map(|class| class.name).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

fn play_one(honest: &Honest, class: &Class) {
    let scene = Scene::new(honest);
    let begun = Instant::now();
    (class.make)(&scene.forge());
    let made = begun.elapsed();
    let before = landscape(scene.place.path(), &[]);
    let (mut codes, mut wrong) = (Vec::new(), Vec::new());
    for (command, right) in COMMANDS.iter().zip(class.codes) {
        if *command == "backup" {
            for looking in LOOKING {
                let (code, text) = scene.run(class.name, looking);
                if !matches!(code, 0 | 4) && !class.codes[2].contains(&code) {
                    wrong.push(format!("{looking}: {code}: {text:.1500}"));
                }
            }
            // All others only read: what they leave must be what was there. A verify that ends well
            // adds its record, and touches nothing else.
            let mut after = landscape(scene.place.path(), &scene.own());
            if matches!(codes.last(), Some(0 | 3)) {
                let ours = &scene.program.repository;
                after.retain(|path, _| before.contains_key(path) || !path.starts_with(ours));
            }
            assert_same(&before, &after, class.name);
            assert_links_are_ours(&scene.target());
        }
        let (code, text) = scene.run(class.name, command);
        codes.push(code);
        if !right.contains(&code) {
            wrong.push(format!("{command}: {code}, not {right:?}: {text:.1500}"));
        }
    }
    eprintln!(
        "{:60} {codes:?} made in {made:.1?}, all {:.1?}",
        class.name,
        begun.elapsed()
    );
    assert!(wrong.is_empty(), "{}: {}", class.name, wrong.join("\n"));
    // A backup adds objects, and touches nothing else.
    let around = |mut landscape: BTreeMap<PathBuf, String>| {
        landscape.retain(|path, _| !path.starts_with(&scene.program.repository));
        landscape
    };
    let after = landscape(scene.place.path(), &scene.own());
    assert_same(&around(before), &around(after), class.name);
}

/// What stands in a restored folder is ours alone: no file of it has a second name elsewhere.
fn assert_links_are_ours(target: &Path) {
    use std::os::unix::fs::MetadataExt;
    if !target.is_dir() {
        return;
    }
    for file in crate::common::files::files_below(target) {
        let metadata = fs::symlink_metadata(&file).unwrap();
        assert_eq!(metadata.nlink(), 1, "{}", file.display());
    }
}

/// What the runs of this process took most, for the figures in docs/design/testing.md.
static WORST: Mutex<[(String, u64); 2]> = Mutex::new([(String::new(), 0), (String::new(), 0)]);

fn note(class: &str, command: &str, peak: u64, time: Duration) {
    let mut worst = WORST.lock().unwrap();
    let time = u64::try_from(time.as_millis()).unwrap();
    for ((name, most), (value, unit)) in worst.iter_mut().zip([(peak >> 20, "MiB"), (time, "ms")]) {
        if value > *most {
            (*name, *most) = (format!("{class}, {command}"), value);
            eprintln!("most so far: {value} {unit}: {name}");
        }
    }
}
