//! The same repositories before another judge: whatever stock restic finds wrong, our check finds wrong.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Class, Honest, Scene, contents, keys, names, objects, packs, snapshots};
use crate::common::files::{files_below, flip_a_bit};
use crate::common::forge::Forge;
use crate::common::program::Run;
use crate::common::restic::Restic;
use crate::common::tools::{find, restics, skipped};

/// What restic cannot be asked about: it takes all memory, or tries again for a quarter of an hour.
const TOO_MUCH: [&str; 17] = [
    "2^28",
    "2^40",
    "300,000 files",
    "20,000 folders",
    "references",
    "4 GB",
    "pipe",
    "MB",
    "1 GB",
    "million",
    "20 s",
    "keys",
    "offset",
    "a length of 0",
    "a pack that does not exist",
    "link to itself",
    "snapshots, indexes",
];

/// What restic refuses and we read, because it costs nobody anything.
const HARMLESS: [&str; 2] = [
    // A field that nobody knows; restic 0.19 panics.
    "tree: JSON nested 100,000 deep",
    // restic takes 64 capital letters for an object's name, and then does not find it.
    "garbage: strange names in every folder",
];

/// A way to hurt a repository, and its name.
type Hurt = (&'static str, fn(&Forge));

/// Plain damage, without the key.
const HURT: &[Hurt] = &[
    ("a bit in each pack", |f| hurt(f, "data", flip_a_bit)),
    ("a bit in the index", |f| hurt(f, "index", flip_a_bit)),
    ("a bit in the snapshot", |f| {
        hurt(f, "snapshots", flip_a_bit);
    }),
    ("a bit in the config", |f| flip_a_bit(&f.path("config"))),
    ("a bit in each pack's header", |f| {
        hurt(f, "data", |path| from_the_end(path, 10, |byte| *byte ^= 1));
    }),
    ("a bit in each header's length", |f| {
        hurt(f, "data", |path| from_the_end(path, 4, |byte| *byte ^= 1));
    }),
    ("packs a byte too short", |f| {
        hurt(f, "data", |path| cut(path, -1));
    }),
    ("packs a byte too long", |f| {
        hurt(f, "data", |path| cut(path, 1));
    }),
    ("no packs", |f| {
        hurt(f, "data", |path| fs::remove_file(path).unwrap());
    }),
    ("no index", |f| {
        hurt(f, "index", |path| fs::remove_file(path).unwrap());
    }),
    ("an index of a version that is not known", |f| {
        f.object("index", &f.seal_bytes(&[3, 1, 2, 3]));
    }),
];

fn hurt(forge: &Forge, class: &str, how: impl Fn(&Path)) {
    let files = files_below(&forge.path(class));
    assert!(!files.is_empty());
    for path in &files {
        how(path);
    }
}

fn from_the_end(path: &Path, distance: usize, change: impl Fn(&mut u8)) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() - distance;
    change(&mut bytes[at]);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path, by: isize) {
    let mut bytes = fs::read(path).unwrap();
    bytes.resize(bytes.len().checked_add_signed(by).unwrap(), 0);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// What restic's check says of the scene; nothing if it comes to no end.
fn verdict(restic: &Path, scene: &Scene) -> Option<Run> {
    const NO_END: i32 = 124;
    let restic = Restic::on(restic, &scene.program);
    // Without a lock: restic waits long for locks that it cannot read.
    let check = restic.command(&["check", "--read-data", "--no-lock"]);
    let mut limited = Command::new(find("timeout").expect("it is one of the core utilities"));
    limited.env_clear().arg("10").arg(check.get_program());
    let run = Run::of(limited.args(check.get_args()));
    (run.code != NO_END).then_some(run)
}

#[test]
fn what_restic_finds_wrong_we_find_wrong() {
    let honest = Honest::new();
    let groups = [
        packs::CLASSES,
        names::CLASSES,
        contents::CLASSES,
        objects::CLASSES,
        keys::CLASSES,
        snapshots::CLASSES,
    ];
    let classes: Vec<&Class> = groups
        .into_iter()
        .flatten()
        .filter(|class| !TOO_MUCH.iter().any(|much| class.name.contains(much)))
        .collect();
    assert!(classes.len() > 80, "{}", classes.len());
    let mut found = BTreeMap::new();
    // The stricter of the versions.
    let Some((_, restic)) = restics().pop() else {
        return skipped("restic's verdicts", "`make tools` installs it");
    };
    for class in &classes {
        let scene = Scene::new(&honest);
        (class.make)(&scene.forge());
        let theirs = verdict(&restic, &scene);
        // That ours is one of these codes, the class's own test sees to.
        let ours = class.codes[0].contains(&0) && !HARMLESS.contains(&class.name);
        note(&mut found, class.name, theirs.as_ref(), ours);
    }
    for (name, make) in HURT {
        let scene = Scene::new(&honest);
        make(&scene.forge());
        let theirs = verdict(&restic, &scene);
        let ours = scene.program.run(&["check", "--read-data"]).code;
        assert_ne!(ours, 0, "{name}");
        note(&mut found, name, theirs.as_ref(), false);
    }
    println!("{found:#?}");
    assert_eq!(found.get("only restic"), None);
    // A judge that says nothing is none.
    assert!(found["both"].len() > 40, "{}", found["both"].len());
}

fn note(
    found: &mut BTreeMap<&'static str, Vec<String>>,
    name: &str,
    theirs: Option<&Run>,
    ours_is_well: bool,
) {
    let Some(theirs) = theirs else {
        return found.entry("no end").or_default().push(name.to_owned());
    };
    let kind = match (theirs.code == 0, ours_is_well) {
        (true, true) => "neither",
        (true, false) => "only we",
        (false, true) => "only restic",
        (false, false) => "both",
    };
    let text = if kind == "only restic" {
        format!("{name}: {:.600}", theirs.text())
    } else {
        name.to_owned()
    };
    found.entry(kind).or_default().push(text);
}
