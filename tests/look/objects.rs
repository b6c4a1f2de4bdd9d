//! `cat` and `list`: every object as restic shows it, and never the key.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;

use super::{bytes, objects};
use crate::common::Place;
use crate::common::files::{flip_a_bit, names_with};
use crate::common::library::back_up;
use crate::common::program::Program;
use crate::common::restic::Restic;
use crate::common::shop::Shop;
use crate::common::terminal::shown;
use crate::common::tools::skipped;

fn stored() -> (Place, Shop, Program) {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 300, "wal");
    let program = Program::with_cheap_repository(place.path());
    back_up(&program.backend(), &shop.folder).unwrap();
    (place, shop, program)
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn every_list_is_the_one_that_restic_prints() {
    let (_place, _shop, program) = stored();
    for stock in Restic::all_on(&program) {
        for kind in ["keys", "snapshots", "index", "packs", "blobs"] {
            let ours = sorted(&program.ok(&["list", kind]).stdout);
            // Without its own lock, which only one of the lists would show.
            let theirs = sorted(&stock.ok(&["list", kind, "--no-lock"]).stdout);
            assert_eq!(ours, theirs, "{} {kind}", stock.path.display());
            assert!(!ours.is_empty(), "{kind}");
            let objects = objects(&program, &["list", kind], "object", 0);
            assert_eq!(objects.len(), ours.len(), "{kind}");
            for object in objects {
                let id = object["id"].as_str().unwrap();
                assert!(ours.iter().any(|line| line.ends_with(id)), "{kind} {id}");
                assert!(object["size_bytes"].as_u64().unwrap() > 0, "{object}");
            }
        }
        assert_eq!(program.ok(&["list", "locks"]).stdout, "");
    }
}

#[test]
fn every_object_is_the_one_that_restic_prints() {
    let (_place, shop, program) = stored();
    for stock in Restic::all_on(&program) {
        let mut seen = 0;
        for (list, kind) in [
            ("snapshots", "snapshot"),
            ("index", "index"),
            ("packs", "pack"),
        ] {
            for id in program.ok(&["list", list]).stdout.lines() {
                // restic may print JSON with other blanks.
                let theirs = stock.bytes(&["cat", kind, id]);
                let (code, ours, said) = bytes(&program, &["cat", kind, &id[..12]]);
                assert_eq!(code, 0, "{said}");
                seen += 1;
                if kind == "pack" {
                    assert!(ours == theirs, "{kind} {id}");
                    continue;
                }
                let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
                let words = ["cat", kind, id];
                let object = objects(&program, &words, "object", 0).remove(0);
                assert_eq!(object["value"], value(&ours), "{object}");
                // The older one prints only the fields that it knows.
                for (field, value) in value(&theirs).as_object().unwrap() {
                    assert_eq!(object["value"][field], *value, "{kind} {id} {field}");
                }
            }
        }
        for line in program.ok(&["list", "blobs"]).stdout.lines() {
            let (_, id) = line.split_once(' ').unwrap();
            let theirs = stock.bytes(&["cat", "blob", id]);
            let (code, ours, said) = bytes(&program, &["cat", "blob", id]);
            assert_eq!(code, 0, "{said}");
            assert!(ours == theirs, "{line}");
            seen += 1;
        }
        assert!(seen > 10, "only {seen} objects");
        let pictures = format!("latest:{}/pictures", shop.folder.display());
        let root = bytes(&program, &["cat", "tree", "latest"]).1;
        let inner = bytes(&program, &["cat", "tree", &pictures]).1;
        assert!(root.starts_with(b"{\"nodes\":[{\"name\":") && inner != root);
        if stock.is_current() {
            let id = program.ok(&["list", "snapshots"]).stdout;
            let pictures = pictures.replace("latest", id.trim());
            let all = format!("{}:/", id.trim());
            assert_eq!(stock.bytes(&["cat", "tree", &all]), root);
            assert_eq!(stock.bytes(&["cat", "tree", &pictures]), inner);
        }
        let config: Value = serde_json::from_slice(&stock.bytes(&["cat", "config"])).unwrap();
        let ours = bytes(&program, &["cat", "config"]).1;
        assert_eq!(serde_json::from_slice::<Value>(&ours).unwrap(), config);
    }
}

#[test]
fn no_key_is_ever_printed() {
    let (_place, _shop, program) = stored();
    let name = names_with(&program.repository.join("keys"), "").remove(0);
    let file = fs::read_to_string(program.repository.join("keys").join(&name)).unwrap();
    let file: Value = serde_json::from_str(&file).unwrap();
    let sealed = file["data"].as_str().unwrap();
    for words in [&["cat", "key", &name][..], &["--json", "cat", "key", &name]] {
        let run = program.ok(words);
        assert!(!run.text().contains(sealed) && !run.text().contains("data"));
        assert!(run.stdout.contains("scrypt"), "{}", run.stdout);
    }
    for words in [&["cat", "masterkey"][..], &["cat", "masterkey", &name]] {
        let run = program.run(words);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""));
        assert!(
            run.stderr.contains("the master key is not printed"),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn what_is_damaged_is_not_printed() {
    let (_place, _shop, program) = stored();
    let pack = program.ok(&["list", "packs"]).stdout;
    let pack = pack.lines().next().unwrap();
    let blobs = objects(&program, &["list", "blobs"], "object", 0);
    let path = program.repository.join("data").join(&pack[..2]).join(pack);
    flip_a_bit(&path);
    let (code, stdout, said) = bytes(&program, &["cat", "pack", pack]);
    assert_eq!((code, stdout.len()), (4, 0), "{said}");
    let mut refused = 0;
    for blob in blobs.iter().filter(|blob| blob["pack_id"] == pack) {
        let (code, stdout, said) = bytes(&program, &["cat", "blob", blob["id"].as_str().unwrap()]);
        assert!(code == 0 || (code == 4 && stdout.is_empty()), "{said}");
        refused += usize::from(code == 4);
    }
    assert_eq!(refused, 1, "one bit hurts one blob");
}

#[test]
fn words_that_name_no_object_say_what_to_type() {
    let (_place, _shop, program) = stored();
    let none = "0123456789".repeat(7)[..64].to_owned();
    for (words, code) in [
        (&["cat", "config", "ab12"][..], 2),
        (&["cat", "pack"], 2),
        (&["cat", "packs", "ab12"], 2),
        (&["cat", "pack", "ab"], 2),
        (&["cat", "pack", &none], 13),
        (&["cat", "blob", &none], 13),
        (&["cat", "tree", &none], 13),
        (&["cat", "tree", "latest:/no/such"], 13),
        (&["cat", "snapshot", "0123456789"], 13),
        (&["cat", "key", "zzzz"], 13),
        (&["--json", "cat", "blob", &none], 2),
        (&["list", "files"], 2),
        (&["list"], 2),
    ] {
        let run = program.run(words);
        assert_eq!(run.code, code, "{words:?}: {}", run.text());
    }
}

#[test]
fn bytes_do_not_reach_a_terminal_and_names_on_it_are_harmless() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 10, "wal");
    // Names are quoted in the format itself, the text of a link is not.
    symlink("evil\u{202e}\u{9b}2J", shop.folder.join("link")).unwrap();
    let program = Program::with_cheap_repository(place.path());
    back_up(&program.backend(), &shop.folder).unwrap();
    let blob = objects(&program, &["list", "blobs"], "object", 0);
    let blob = blob.iter().find(|blob| blob["type"] == "data").unwrap();
    let command = program.command(&["cat", "blob", blob["id"].as_str().unwrap()]);
    let Some(run) = shown(&command) else {
        return skipped("cat on a terminal", "there is no python3");
    };
    assert_eq!(run.code, 2, "{}", run.text());
    assert!(
        run.stdout.contains("not written to a terminal"),
        "{}",
        run.stdout
    );
    let tree = format!("latest:{}", shop.folder.display());
    let run = shown(&program.command(&["cat", "tree", &tree])).unwrap();
    assert_eq!(run.code, 0);
    assert!(run.stdout.contains("evil"), "{}", run.stdout);
    let hostile = ['\u{202e}', '\u{9b}'];
    assert!(!run.stdout.contains(hostile), "{}", run.stdout);
    // Through a pipe it is what is stored.
    let piped = program.ok(&["cat", "tree", &tree]);
    assert!(piped.stdout.contains('\u{202e}'));
}
