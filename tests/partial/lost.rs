//! Damage costs what it hits, and nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tillsafe::backend::{Backend, Class, MemBackend, Object};
use tillsafe::durable::OsDisk;
use tillsafe::durable::faults::{Fault, FaultyDisk};
use tillsafe::error::{Error, ExitCode};
use tillsafe::id::Id;
use tillsafe::repository::index::Location;
use tillsafe::repository::pack::BlobKind;
use tillsafe::repository::snapshot::Snapshot;
use tillsafe::restore::{ProofLevel, Selection};

use super::{blobs_at, index_of, locations_at, names_below, plan_of, quiet, recording, restored};
use crate::common::Place;
use crate::common::compare::difference;
use crate::common::files::names_with;
use crate::common::forge::{Forge, Thing};
use crate::common::library::{back_up, create, restore, snapshots};
use crate::common::program::Program;
use crate::common::shop::{Shop, count_orders, noise};

/// A shop with three snapshots; before the last of them something of everything has changed.
struct Scene {
    place: Place,
    shop: Shop,
    backend: Arc<dyn Backend>,
    oldest: Snapshot,
    older: Snapshot,
    newer: Snapshot,
}

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        let shop = Shop::open(&place.join("shop"), 50, "delete");
        fs::set_permissions(
            shop.folder.join("pictures"),
            PermissionsExt::from_mode(0o750),
        )
        .unwrap();
        let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
        create(&backend);
        back_up(&backend, &shop.folder).unwrap();
        back_up(&backend, &shop.folder).unwrap();
        shop.sell(10);
        fs::write(shop.folder.join("notes.txt"), "glaze: tenmoku\n").unwrap();
        fs::write(shop.folder.join("pictures/new.jpg"), noise(3, 1000)).unwrap();
        back_up(&backend, &shop.folder).unwrap();
        let all = snapshots(&backend);
        let [oldest, older, newer] = all.try_into().unwrap();
        Self {
            place,
            shop,
            backend,
            oldest,
            older,
            newer,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.shop.folder.join(name)
    }

    /// Where what only the newer snapshot holds of a path lies.
    fn only_newer(&self, name: &str) -> Vec<Location> {
        let at = |snapshot| blobs_at(&self.backend, snapshot, &self.path(name));
        let ((kind, newer), (_, older)) = (at(&self.newer), at(&self.older));
        let index = index_of(&self.backend);
        let new = newer.into_iter().find(|id| !older.contains(id));
        index.locations(kind, new.expect("something has changed"))
    }
}

#[test]
fn lost_items_are_named_with_who_has_them_and_the_rest_is_restored_and_proved() {
    let scene = Scene::new();
    let everywhere = locations_at(
        &scene.backend,
        &scene.newer,
        &scene.path("pictures/old/cup.jpg"),
    );
    for (name, hurt, is_folder, in_older, gone) in [
        (
            "notes.txt",
            scene.only_newer("notes.txt"),
            false,
            true,
            vec![],
        ),
        (
            "pictures/old/cup.jpg",
            everywhere[0].clone(),
            false,
            false,
            vec![],
        ),
        ("shop.db", scene.only_newer("shop.db"), false, true, vec![]),
        (
            "pictures",
            scene.only_newer("pictures"),
            true,
            true,
            vec![
                "pictures/new.jpg",
                "pictures/old",
                "pictures/old/cup.jpg",
                "pictures/teapot.jpg",
            ],
        ),
    ] {
        for base in [Path::new("/"), scene.shop.folder.as_path()] {
            let what = format!("{name} below {}", base.display());
            let (recorded, backend) = recording(&scene.backend);
            recorded.damage(&hurt);
            let target = scene.place.join("target");
            let (told, monitor) = quiet();
            let selection = Selection::whole(base);
            let restored = restored(
                &backend,
                &scene.newer,
                selection,
                &target,
                &OsDisk,
                &monitor,
            )
            .unwrap();
            let copy = if base == Path::new("/") {
                target.join(scene.shop.folder.strip_prefix("/").unwrap())
            } else {
                target.clone()
            };
            let [lost] = restored.lost.as_slice() else {
                panic!("{what}: {:?}", restored.lost);
            };
            assert_eq!((&lost.path, lost.is_folder), (&scene.path(name), is_folder));
            assert!(lost.finding.contains("is damaged"), "{what}: {lost:?}");
            let holders: Vec<Id> = lost.intact_in.iter().map(|holder| holder.id).collect();
            let expected = if in_older {
                vec![scene.older.id, scene.oldest.id]
            } else {
                vec![]
            };
            assert_eq!(holders, expected, "{what}");
            assert!(lost.searched, "{what}");
            assert_eq!(restored.level, ProofLevel::Matched, "{what}");
            assert_eq!(
                told.problems()
                    .iter()
                    .filter(|told| told.incomplete)
                    .count(),
                0
            );
            let leave_out = |path: &Path| {
                path.to_string_lossy().contains("shop.db")
                    || (path == Path::new(name) && !is_folder)
                    || gone.iter().any(|gone| path == Path::new(gone))
            };
            assert_eq!(
                difference(&scene.shop.folder, &copy, &leave_out),
                None,
                "{what}"
            );
            assert_eq!(copy.join(name).exists(), is_folder, "{what}");
            for gone in &gone {
                assert!(!copy.join(gone).exists(), "{what}: {gone}");
            }
            if name != "shop.db" {
                assert_eq!(count_orders(&copy.join("shop.db")), 60, "{what}");
            }
            fs::remove_dir_all(&target).unwrap();
        }
    }
}

/// Both older snapshots are made of the same blob: found damaged in the one, it is in the other too.
#[test]
fn a_snapshot_in_which_it_is_damaged_too_is_not_named() {
    let scene = Scene::new();
    let (recorded, backend) = recording(&scene.backend);
    recorded.damage(&scene.only_newer("notes.txt"));
    let index = index_of(&backend);
    let (kind, older) = blobs_at(&backend, &scene.older, &scene.path("notes.txt"));
    recorded.damage(&index.locations(kind, older[0]));
    let target = scene.place.join("target");
    let (_, monitor) = quiet();
    let selection = Selection::whole(&scene.shop.folder);
    let restored = restored(
        &backend,
        &scene.newer,
        selection,
        &target,
        &OsDisk,
        &monitor,
    );
    let lost = restored.unwrap().lost;
    assert_eq!(
        (lost[0].intact_in.as_slice(), lost[0].searched),
        (&[][..], true)
    );
}

#[test]
fn without_the_way_to_what_is_asked_for_nothing_is_restored() {
    let scene = Scene::new();
    let index = index_of(&scene.backend);
    let root = index.locations(BlobKind::Tree, scene.newer.file.tree);
    let base = locations_at(&scene.backend, &scene.newer, &scene.shop.folder);
    for hurt in [root, base[0].clone()] {
        let (recorded, backend) = recording(&scene.backend);
        recorded.damage(&hurt);
        let selection = Selection::whole(&scene.shop.folder);
        let (_, monitor) = quiet();
        let refused = plan_of(&backend, &scene.newer, selection, monitor.as_ref()).unwrap_err();
        assert!(matches!(refused, Error::Damaged { .. }), "{refused}");
    }
}

/// A lost pack makes the next backup store its blobs again; when it comes back, there are two copies.
#[test]
fn only_what_is_whole_in_no_copy_is_lost() {
    let scene = Scene::new();
    let cup = scene.path("pictures/old/cup.jpg");
    let first = locations_at(&scene.backend, &scene.newer, &cup)[0][0];
    let pack = Object::Named(Class::Data, first.pack);
    let bytes = scene.backend.get(pack, 1 << 30).unwrap();
    scene.backend.delete(pack).unwrap();
    back_up(&scene.backend, &scene.shop.folder).unwrap();
    scene.backend.put_new(pack, &bytes).unwrap();
    let copies = locations_at(&scene.backend, &scene.newer, &cup)[0].clone();
    assert_eq!(copies.len(), 2);
    for (hurt, lost) in [(&copies[..1], 0), (&copies[1..], 0), (&copies[..], 1)] {
        let (recorded, backend) = recording(&scene.backend);
        recorded.damage(hurt);
        let target = scene.place.join("target");
        let (_, monitor) = quiet();
        let selection = Selection::whole(&scene.shop.folder);
        let restored = restored(
            &backend,
            &scene.newer,
            selection,
            &target,
            &OsDisk,
            &monitor,
        )
        .unwrap();
        assert_eq!(restored.lost.len(), lost);
        assert_eq!(target.join("pictures/old/cup.jpg").exists(), lost == 0);
        fs::remove_dir_all(&target).unwrap();
    }
    // A copy that is only out of reach may be whole: nothing is called lost for it.
    let (recorded, backend) = recording(&scene.backend);
    recorded.damage(&copies[..1]);
    recorded.take_away(&copies[1]);
    let (_, monitor) = quiet();
    let selection = Selection::whole(&scene.shop.folder);
    let target = scene.place.join("target");
    let stopped = restored(
        &backend,
        &scene.newer,
        selection,
        &target,
        &OsDisk,
        &monitor,
    );
    let stopped = stopped.unwrap_err();
    assert!(matches!(stopped, Error::Storage { .. }), "{stopped}");
    assert!(!target.exists());
}

#[test]
fn a_part_of_a_database_that_is_lost_is_told_with_it() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 5, "delete");
    let program = Program::with_cheap_repository(place.path());
    back_up(&program.backend(), &shop.folder).unwrap();
    let (database, wal) = (fs::read(&shop.database).unwrap(), noise(4, 5000));
    Forge::open(&program.repository).snapshot_of_all(&[
        (
            "a.db",
            &Thing::File {
                bytes: database,
                times: 1,
            },
        ),
        (
            "a.db-wal",
            &Thing::Lie {
                bytes: wal,
                size: 4999,
            },
        ),
    ]);
    let target = place.join("target");
    let words = ["restore", "latest", "--target", target.to_str().unwrap()];
    let run = program.run(&words);
    assert_eq!(run.code, 4, "{}", run.text());
    assert!(
        run.stdout.contains(
            "lost: /a.db-wal: its blobs hold 5000 bytes, its folder says 4999; in no other snapshot"
        ),
        "{}",
        run.text()
    );
    assert!(
        run.stderr.contains("/a.db-wal is lost, and a database"),
        "{}",
        run.text()
    );
    assert_eq!(names_below(&target), ["a.db"]);
}

/// Flips a bit of a blob on the disk.
fn hurt_on_disk(program: &Program, location: &Location) {
    let pack = location.pack.to_string();
    let path = program.repository.join("data").join(&pack[..2]).join(&pack);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[location.blob.offset as usize + 20] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn the_program_names_what_is_lost_and_ends_with_4() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 50, "delete");
    let program = Program::with_cheap_repository(place.path());
    let backend = program.backend();
    back_up(&backend, &shop.folder).unwrap();
    fs::write(shop.folder.join("notes.txt"), "glaze: tenmoku\n").unwrap();
    back_up(&backend, &shop.folder).unwrap();
    let all = snapshots(&backend);
    let (older, newer) = (&all[0], &all[1]);
    let notes = shop.folder.join("notes.txt");
    let hurt = locations_at(&backend, newer, &notes);
    hurt_on_disk(&program, &hurt[0][0]);
    let target = place.join("target");
    let words = ["restore", "latest", "--target", target.to_str().unwrap()];
    let said = format!("; intact in {} of {:.0}", older.id.short(), older.file.time);
    for command in [&words[..], &["verify"]] {
        let run = program.run(command);
        assert_eq!(
            run.code,
            i32::from(ExitCode::Damage.number()),
            "{}",
            run.text()
        );
        let mut lines = run.stdout.lines();
        let line = lines.find(|line| line.starts_with("lost: ")).unwrap();
        assert!(
            line.contains(notes.to_str().unwrap()) && line.ends_with(&said),
            "{line}"
        );
        assert!(
            run.stdout.contains("proof level: matched"),
            "{}",
            run.stdout
        );
        assert!(
            run.stderr.contains("error: 1 item cannot be brought back"),
            "{}",
            run.stderr
        );
        assert!(run.stderr.contains("safe: ") && run.stderr.contains("next: restore what"));
        let quiet = program.run(&[&["-q"], command].concat());
        assert!(
            quiet.stdout.contains("lost: ") || command.len() > 1,
            "{}",
            quiet.stdout
        );
    }
    fs::remove_dir_all(&target).unwrap();
    let (code, objects) = program.json(&words);
    assert_eq!(code, 4);
    let of_type = |kind: &str| {
        objects
            .iter()
            .find(|object| object["message_type"] == kind)
            .unwrap()
    };
    let lost = of_type("lost");
    assert_eq!(lost["path"], notes.to_str().unwrap());
    assert_eq!(lost["type"], "file");
    assert_eq!(lost["intact_in"], serde_json::json!([older.id]));
    assert_eq!(of_type("summary")["lost_items"], 1);
    assert_eq!(of_type("summary")["proof_level"], "matched");
    // What the line says is true.
    let from = format!("{}:{}", older.id.short(), notes.display());
    let elsewhere = place.join("elsewhere");
    program.ok(&["restore", &from, "--target", elsewhere.to_str().unwrap()]);
    assert_eq!(names_below(&elsewhere), ["notes.txt"]);
    // A folder that cannot be read is named by `ls` too.
    let pictures = locations_at(&backend, newer, &shop.folder.join("pictures"));
    hurt_on_disk(&program, &pictures[0][0]);
    let run = program.run(&["ls", "latest"]);
    assert_eq!(run.code, 4, "{}", run.text());
    assert!(
        run.stdout.contains("pictures with all below it: data/"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("notes.txt"));
}

/// A folder that is filled in place, and an interruption after its copy was proved.
#[test]
fn an_interrupted_restore_that_lacks_what_is_lost_is_finished_without_it() {
    let scene = Scene::new();
    let (recorded, backend) = recording(&scene.backend);
    recorded.damage(&scene.only_newer("notes.txt"));
    let mut finished = 0;
    for number in 1.. {
        let target = scene.place.join(&format!("target-{number}"));
        fs::create_dir_all(target.join(".tillsafe-stage-of-a-crash")).unwrap();
        let fault = Fault::from_there_on(number);
        let disk = FaultyDisk::new(OsDisk, Arc::clone(&fault));
        let base = &scene.shop.folder;
        let first = restore(&backend, scene.newer.clone(), base, &target, &disk);
        if !fault.fired() {
            first.unwrap();
            break;
        }
        if names_with(&target, ".tillsafe-ready-").is_empty() {
            continue;
        }
        let second = restore(&backend, scene.newer.clone(), base, &target, &OsDisk).unwrap();
        let [lost] = second.lost.as_slice() else {
            panic!("operation {number}: {:?}", second.lost);
        };
        assert_eq!(lost.path, scene.path("notes.txt"));
        assert_eq!(lost.intact_in[0].id, scene.older.id);
        let leave_out =
            |path: &Path| path.to_string_lossy().contains("shop.db") || path.ends_with("notes.txt");
        assert_eq!(difference(base, &target, &leave_out), None);
        assert!(!target.join("notes.txt").exists());
        finished += 1;
    }
    assert!(finished >= 5, "the sweep saw too little: {finished}");
}
