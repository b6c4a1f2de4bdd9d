//! Stock restic is the judge: the same patterns on the same tree leave out the same files.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tillsafe::backend::{Backend, MemBackend};
use tillsafe::backup;
use tillsafe::durable::{Disk, OsDisk};
use tillsafe::error::Error;
use tillsafe::monitor::Quiet;
use tillsafe::restore::{Plan, Selection};
use tillsafe::source::files::exclude::{Excludes, Rules};

use crate::common::Place;
use crate::common::dice::Dice;
use crate::common::files::files_below;
use crate::common::library;
use crate::common::program::Program;
use crate::common::restic::Restic;

/// Repeats one case: its seed, as a failed test prints it.
const SEED: &str = "TILLSAFE_TEST_SEED";
/// Cases for each restic.
const CASES: u64 = 40;
/// Folders below the top.
const DEPTH: usize = 3;
/// Names that are near to each other.
const NAMES: [&[u8]; 14] = [
    b"a",
    b"b",
    b"ab",
    b"A",
    b"a.log",
    b"B.LOG",
    b"x.txt",
    b"cache",
    b"t\xc3\xb6pf",
    b"T\xc3\x96PF",
    b"caf\xe9",
    b"a[b]",
    b"a*b",
    b".hidden",
];
/// Parts of patterns.
const PARTS: [&str; 30] = [
    "a",
    "b",
    "ab",
    "A",
    "cache",
    "*.log",
    "*.LOG",
    "?",
    "??",
    "*b",
    "a*",
    "[ab]",
    "[^a]*",
    "[a-c]?",
    "**",
    "**",
    "*",
    "x.txt",
    "t\u{f6}pf",
    "t?pf",
    "caf?",
    "a\\[b\\]",
    "a\\*b",
    ".*",
    "[.]hidden",
    "{a,b}",
    "*a*",
    "T\u{d6}*",
    "[\\]a]",
    "[x-z]*.txt",
];

/// Files and folders below `folder`, some of them marked.
fn grow(folder: &Path, depth: usize, dice: &mut Dice) {
    fs::create_dir_all(folder).unwrap();
    for _ in 0..dice.throw(6) + 2 {
        let path = folder.join(OsStr::from_bytes(dice.one_of(&NAMES)));
        if path.exists() {
            continue;
        }
        if depth > 0 && dice.throw(2) == 0 {
            grow(&path, depth - 1, dice);
        } else {
            fs::write(&path, vec![b'x'; dice.throw(3000)]).unwrap();
        }
    }
    // The top is named, and then a mark in it would be an error here.
    let is_marked = depth < DEPTH;
    match dice.throw(12) {
        _ if !is_marked => Ok(()),
        0 => fs::write(
            folder.join("CACHEDIR.TAG"),
            "Signature: 8a477f597d28d172789f06886806bc55\n#",
        ),
        1 => fs::write(
            folder.join("CACHEDIR.TAG"),
            "Signature: 8a477f597d28d172789f06886806bc5",
        ),
        2 => fs::write(folder.join(".nobackup"), "yes: please"),
        3 => fs::write(folder.join(".nobackup"), "no"),
        _ => Ok(()),
    }
    .unwrap();
}

fn pattern(root: &Path, dice: &mut Dice) -> String {
    let mut parts: Vec<&str> = (0..=dice.throw(3)).map(|_| dice.one_of(&PARTS)).collect();
    // Not everything each time.
    if parts
        .iter()
        .all(|part| part.chars().all(|letter| "*?".contains(letter)))
    {
        parts.push(dice.one_of(&["a", "*.log", "cache"]));
    }
    let mut text = parts.join(if dice.throw(9) == 0 { "//" } else { "/" });
    if dice.throw(3) == 0 {
        text = format!("{}/{text}", root.to_str().unwrap());
    }
    if dice.throw(8) == 0 {
        text.push('/');
    }
    if dice.throw(4) == 0 {
        format!("!{text}")
    } else {
        text
    }
}

fn rules(root: &Path, dice: &mut Dice) -> Rules {
    let mut some = |most: usize| -> Vec<String> {
        (0..dice.throw(most)).map(|_| pattern(root, dice)).collect()
    };
    Rules {
        patterns: some(6),
        any_case_patterns: some(3),
        caches: dice.throw(3) == 0,
        if_present: match dice.throw(4) {
            0 => vec![".nobackup".to_owned()],
            1 => vec![".nobackup:yes: ".to_owned()],
            _ => Vec::new(),
        },
        one_file_system: dice.throw(3) == 0,
        larger_than_bytes: (dice.throw(3) == 0).then_some(2048),
    }
}

/// The files and folders below `root` that are in our snapshot; `None` if we refuse, because a rule leaves the
/// root itself out.
fn ours(root: &Path, rules: &Rules) -> Option<BTreeSet<String>> {
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
    library::create(&backend);
    let repository = library::open(&backend).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let mut options = library::options(&[root], root.parent().unwrap(), &disk);
    options.excludes = Excludes::new(rules.clone()).unwrap();
    let quiet = Quiet::default();
    let snapshot = match backup::backup(&repository, &options, &quiet) {
        Ok(outcome) => outcome.snapshot,
        Err(Error::Usage { finding, .. }) if finding.contains("was named") => {
            return None;
        }
        Err(cause) => panic!("{cause}"),
    };
    let index = repository.load_index(&quiet).unwrap();
    let plan = Plan::make(
        &repository,
        &index,
        snapshot,
        Selection::whole(root),
        &quiet,
    )
    .unwrap();
    let paths = plan.items.iter().map(|item| root.join(&item.path));
    let paths = paths.map(|path| path.to_string_lossy().into_owned());
    Some(paths.collect())
}

/// The same of a restic.
fn theirs(restic: &Restic, root: &Path, rules: &Rules) -> BTreeSet<String> {
    let mut words = vec![
        "backup".to_owned(),
        "--dry-run".to_owned(),
        "-vv".to_owned(),
    ];
    let mut flags = |flag: &str, values: &[String]| {
        words.extend(
            values
                .iter()
                .flat_map(|value| [flag.to_owned(), value.clone()]),
        );
    };
    flags("--exclude", &rules.patterns);
    flags("--iexclude", &rules.any_case_patterns);
    flags("--exclude-if-present", &rules.if_present);
    if let Some(bytes) = rules.larger_than_bytes {
        flags("--exclude-larger-than", &[bytes.to_string()]);
    }
    words.extend(rules.caches.then(|| "--exclude-caches".to_owned()));
    words.extend(
        rules
            .one_file_system
            .then(|| "--one-file-system".to_owned()),
    );
    words.push(root.to_str().unwrap().to_owned());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let lines = restic.json(&words);
    let items = lines
        .iter()
        .filter(|line| line["message_type"] == "verbose_status");
    let items = items.filter_map(|line| line["item"].as_str());
    let inner = format!("{}/", root.to_str().unwrap());
    items
        .filter(|item| item.starts_with(&inner) && *item != inner)
        .map(|item| item.trim_end_matches('/').to_owned())
        .collect()
}

/// One tree and one list of rules, by chance; whether anything was left out, and nothing refused.
fn case(seed: u64, place: &Place, restic: &Restic) -> bool {
    let mut dice = Dice::new(seed);
    let root: PathBuf = place.join(&format!("tree-{seed}"));
    grow(&root, DEPTH, &mut dice);
    let rules = rules(&root, &mut dice);
    let theirs = theirs(restic, &root, &rules);
    let Some(ours) = ours(&root, &rules) else {
        // Later ones store a folder that is named and left out, with whatever is taken back in it.
        assert!(
            restic.is_current() || theirs.is_empty(),
            "{SEED}={seed}: {rules:?} {theirs:#?}"
        );
        return false;
    };
    let differing: Vec<_> = ours.symmetric_difference(&theirs).collect();
    assert!(
        differing.is_empty(),
        "{SEED}={seed}: {rules:?}\nin only one of the two: {differing:#?}\nours: {ours:#?}"
    );
    files_below(&root)
        .iter()
        .any(|file| !ours.contains(&*file.to_string_lossy()))
}

#[test]
fn the_same_rules_choose_the_same_files_as_in_restic() {
    let alone: Option<u64> = std::env::var(SEED).ok().map(|seed| seed.parse().unwrap());
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    for (number, restic) in (0..).zip(Restic::all_on(&program)) {
        let first = number * CASES;
        let seeds = alone.map_or(first..first + CASES, |seed| seed..seed + 1);
        println!("{SEED}={seeds:?} for {}", restic.path.display());
        let told: Vec<bool> = seeds.map(|seed| case(seed, &place, &restic)).collect();
        let meaningful = told.iter().filter(|left_out| **left_out).count();
        println!("{meaningful} of {} left something out", told.len());
        assert!(alone.is_some() || meaningful > told.len() / 2, "{told:?}");
    }
}
