//! What the program says about damage.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::Place;
use crate::common::files::{files_below, flip_a_bit};
use crate::common::library::{back_up, snapshots};
use crate::common::program::Program;
use crate::common::shop::noise;

/// Two snapshots of a folder whose one large file changed in between, and a folder of text.
struct Scene {
    place: Place,
    program: Program,
    shop: PathBuf,
    /// The pack that holds the first version of the large file.
    pack: PathBuf,
}

impl Scene {
    fn make() -> Self {
        let place = Place::new();
        let program = Program::with_cheap_repository(place.path());
        let shop = place.join("shop");
        fs::create_dir(&shop).unwrap();
        fs::write(shop.join("cup.jpg"), noise(1, 60_000)).unwrap();
        fs::write(shop.join("notes.txt"), "glaze: celadon\n").unwrap();
        back_up(&program.backend(), &shop).unwrap();
        let is_large = |path: &PathBuf| fs::metadata(path).unwrap().len() > 50_000;
        let packs = files_below(&program.repository.join("data"));
        let pack = packs.into_iter().find(is_large).unwrap();
        fs::write(shop.join("cup.jpg"), noise(2, 60_000)).unwrap();
        back_up(&program.backend(), &shop).unwrap();
        Self {
            place,
            program,
            shop,
            pack,
        }
    }
}

fn object_of(repository: &Path, path: &Path) -> String {
    let inner = path.strip_prefix(repository).unwrap();
    inner.to_str().unwrap().to_owned()
}

fn of_type<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let is = |object: &&Value| object["message_type"] == kind;
    objects.iter().filter(is).collect()
}

#[test]
fn a_flipped_pack_is_named_with_blob_snapshot_and_path() {
    let scene = Scene::make();
    let (program, shop) = (&scene.program, &scene.shop);
    flip_a_bit(&scene.pack);
    assert_eq!(program.run(&["check"]).code, 0, "it was not read");
    let run = program.run(&["check", "--read-data"]);
    assert_eq!(run.code, 4, "{}", run.text());
    let snapshots = snapshots(&program.backend());
    let [first, second] = &snapshots[..] else {
        panic!("two snapshots");
    };
    let pack = object_of(&program.repository, &scene.pack);
    assert!(
        run.stdout.contains(&format!("damaged: {pack}: data blob ")),
        "{}",
        run.stdout
    );
    let lost = format!(
        "lost: {}/cup.jpg in snapshot {}; intact in {} of 20",
        shop.display(),
        first.id.short(),
        second.id.short()
    );
    assert!(run.stdout.contains(&lost), "{}", run.stdout);
    assert!(!run.stdout.contains("notes.txt"), "{}", run.stdout);
    assert!(run.stderr.contains("1 path lost"), "{}", run.stderr);

    let (code, objects) = program.json(&["check", "--read-data"]);
    assert_eq!(code, 4);
    let [damage] = of_type(&objects, "damage")[..] else {
        panic!("one object: {objects:?}");
    };
    assert_eq!(damage["object"], pack);
    let blob = &damage["blobs"][0];
    assert_eq!(
        (&blob["kind"], &blob["lost"]),
        (&"data".into(), &true.into())
    );
    let id = blob["id"].as_str().unwrap();
    assert_eq!(id.len(), 64);
    assert!(run.stdout.contains(&id[..8]), "the same blob");
    let [affected] = of_type(&objects, "affected")[..] else {
        panic!("one path: {objects:?}");
    };
    assert_eq!(affected["path"], format!("{}/cup.jpg", shop.display()));
    assert_eq!(affected["lost_in"], serde_json::json!([first.id]));
    assert_eq!(affected["intact_in"], serde_json::json!([second.id]));
    assert!(affected["finding"].as_str().unwrap().contains(&id[..8]));
    let summary = objects.last().unwrap();
    assert_eq!(
        (&summary["sound"], &summary["lost_paths"]),
        (&false.into(), &1.into())
    );
}

#[test]
fn a_part_is_repeated_with_the_number_that_was_printed() {
    let scene = Scene::make();
    let (code, objects) = scene.program.json(&["check", "--read-data-subset", "30%"]);
    let summary = objects.last().unwrap();
    assert_eq!((code, &summary["packs_read"]), (0, &2.into()), "{summary}");
    let seed = summary["seed"].as_u64().unwrap().to_string();
    let words = ["check", "--read-data-subset", "30%", "--seed", &seed];
    let run = scene.program.ok(&words);
    assert!(
        run.stdout.contains(&format!("--seed {seed}")),
        "{}",
        run.stdout
    );
    let (_, again) = scene.program.json(&words);
    assert_eq!(again.last().unwrap()["bytes_read"], summary["bytes_read"]);
    for wrong in [
        &["check", "--read-data-subset", "0%"][..],
        &["check", "--read-data-subset", "5"],
        &["check", "--seed", "5"],
        &["check", "--read-data", "--read-data-subset", "5%"],
    ] {
        assert_eq!(scene.program.run(wrong).code, 2, "{wrong:?}");
    }
}

#[test]
fn damage_that_costs_no_data_is_a_warning_to_readers_and_named_by_check() {
    let scene = Scene::make();
    let program = &scene.program;
    let index = files_below(&program.repository.join("index"));
    flip_a_bit(&index[0]);
    flip_a_bit(&program.repository.join("config"));
    let target = scene.place.join("target");
    let words = ["restore", "latest", "--target", target.to_str().unwrap()];
    for words in [&["snapshots"][..], &["ls", "latest"], &words, &["verify"]] {
        let run = program.ok(words);
        let warnings = run.stderr.matches("warning: ").count();
        let expected = match words {
            ["snapshots"] => 1,
            // What was proved cannot be recorded.
            ["verify"] => 4,
            _ => 3,
        };
        assert_eq!(warnings, expected, "{words:?}: {}", run.stderr);
    }
    let restored = target.join(scene.shop.strip_prefix("/").unwrap());
    assert_eq!(
        fs::read(restored.join("cup.jpg")).unwrap(),
        noise(2, 60_000)
    );
    let run = program.run(&["check"]);
    assert_eq!(run.code, 4, "{}", run.text());
    assert!(run.stdout.contains("damaged: config: "), "{}", run.stdout);
    assert!(run.stdout.contains("damaged: index/"), "{}", run.stdout);
    assert!(
        run.stdout.contains("costs no data; to mend it: "),
        "{}",
        run.stdout
    );
    assert!(
        run.stderr.contains("no snapshot loses anything"),
        "{}",
        run.stderr
    );
    let run = program.run(&["backup", scene.shop.to_str().unwrap()]);
    assert_eq!(run.code, 4, "{}", run.text());
    assert!(
        run.stderr.contains("error: config is damaged"),
        "{}",
        run.stderr
    );
}
