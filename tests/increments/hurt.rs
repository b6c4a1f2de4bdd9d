//! Damage in the repository, and lies: a database is lost as a whole, or right, and never older than it says.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tillsafe::capture::manifest::Manifest;
use tillsafe::durable::OsDisk;
use tillsafe::error::{Error, Result};
use tillsafe::id::{Hasher, Id};
use tillsafe::monitor::{Monitor, Quiet};
use tillsafe::repository::index::Index;
use tillsafe::repository::pack::BlobKind;
use tillsafe::repository::tree::Node;
use tillsafe::repository::tree_writer::{StoredFile, file_node};
use tillsafe::repository::writer::Writer;
use tillsafe::restore::{Images, Plan, Restored, Selection, Target};
use tillsafe::source::sqlite::wal::{Chain, FRAME_HEAD, HEADER, refusing};

use super::{Night, Scene, assert_image};
use crate::common::library::open;

fn index_of(scene: &Scene) -> Index {
    let repository = open(&scene.backend).unwrap();
    repository.load_index(&Quiet::default()).unwrap()
}

/// Damages the pack that holds this blob.
fn damage(scene: &Scene, blob: Id) -> PathBuf {
    let location = index_of(scene).find(BlobKind::Data, blob).unwrap();
    let name = location.pack.to_string();
    let pack = scene
        .place
        .join("repository/data")
        .join(&name[..2])
        .join(&name);
    let length = fs::metadata(&pack).unwrap().len();
    // In the blob itself, and not in another of the pack.
    let mut bytes = fs::read(&pack).unwrap();
    let at = location.blob.offset as usize + location.blob.length as usize / 2;
    bytes[at] ^= 4;
    assert!((at as u64) < length);
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
    pack
}

fn restore(scene: &Scene, night: &Night, target: &Path) -> Result<Restored> {
    let monitor: Arc<dyn Monitor> = Arc::new(Quiet::default());
    let repository = open(&scene.backend)?;
    let index = repository.load_index(monitor.as_ref())?;
    let plan = Plan::make(
        &repository,
        &index,
        night.outcome.snapshot.clone(),
        Selection::whole(&scene.folder),
        monitor.as_ref(),
    )?;
    let target = Target::look_at(target, &OsDisk)?;
    let staged = plan.fetch(&repository, &index, target, &OsDisk, monitor.as_ref())?;
    staged.verify(&index, &monitor)?.swap_in(&monitor)
}

#[test]
fn a_database_whose_base_or_log_is_damaged_is_lost_and_found_in_another_snapshot() {
    for is_log in [true, false] {
        let mut scene = Scene::new("wal", 4096);
        let first = scene.back_up();
        scene.trade();
        let night = scene.back_up();
        let stored = scene.stored(&night);
        damage(
            &scene,
            if is_log {
                stored.log.unwrap()[0]
            } else {
                stored.base[1]
            },
        );
        let target = scene.place.join("restored");
        let restored = restore(&scene, &night, &target).unwrap();
        assert!(!target.join("shop.db").exists() && !target.join("shop.db-wal").exists());
        let [lost] = &restored.lost[..] else {
            panic!("{:?}", restored.lost);
        };
        assert_eq!(lost.path, scene.database);
        let holders: Vec<Id> = lost.intact_in.iter().map(|holder| holder.id).collect();
        let expected = if is_log {
            vec![first.outcome.snapshot.id]
        } else {
            Vec::new()
        };
        assert_eq!(holders, expected);
        if is_log {
            scene.assert_right(&first);
        }
    }
}

#[test]
fn a_damaged_database_is_not_dumped() {
    let mut scene = Scene::new("wal", 4096);
    scene.back_up();
    scene.trade();
    let night = scene.back_up();
    damage(&scene, scene.stored(&night).log.unwrap()[0]);
    let repository = open(&scene.backend).unwrap();
    let index = index_of(&scene);
    for path in [&scene.database, &scene.folder] {
        let images = Images::below(
            path,
            &night.outcome.snapshot,
            (&repository, &index),
            scene.place.path(),
            &OsDisk,
            &Quiet::default(),
        );
        let cause = images.unwrap_err();
        assert!(matches!(cause, Error::Damaged { .. }), "{cause}");
    }
}

/// Puts a snapshot of two files and this manifest's database there.
fn forge(
    scene: &Scene,
    night: &Night,
    base: &[&[u8]],
    log: &[&[u8]],
    change: impl FnOnce(&mut Manifest),
) -> Night {
    use tillsafe::capture::manifest::{FILE, FOLDER};
    use tillsafe::entry::Kind;
    use tillsafe::repository::tree::Content;
    use tillsafe::repository::tree_writer::store_tree;

    let repository = open(&scene.backend).unwrap();
    let writer = Writer::begin(&repository, Arc::new(index_of(scene))).unwrap();
    let store = |parts: &[&[u8]]| StoredFile {
        blobs: parts
            .iter()
            .map(|part| {
                let stored = writer.store(BlobKind::Data, part.to_vec()).unwrap();
                stored.wait().unwrap()
            })
            .collect(),
        size: parts.iter().map(|part| part.len() as u64).sum(),
    };
    let entry = |name: &str, kind| crate::common::forge::entry(name.as_ref(), kind, 0o644);
    let mut manifest = night.outcome.manifest.clone();
    change(&mut manifest);
    let json = serde_json::to_vec(&manifest).unwrap();
    let file = file_node(entry(FILE, Kind::File), store(&[&json]));
    let own = store_tree(&writer, FOLDER.as_ref(), &[file]).unwrap();
    let mut nodes = vec![
        file_node(entry("shop.db", Kind::File), store(base)),
        file_node(entry("shop.db-wal", Kind::File), store(log)),
    ];
    let mut names: Vec<_> = scene.folder.iter().skip(1).collect();
    while let Some(name) = names.pop() {
        let tree = store_tree(&writer, name, &nodes).unwrap();
        nodes = vec![Node {
            entry: crate::common::forge::entry(name, Kind::Folder, 0o755),
            content: Content::Folder { tree },
        }];
    }
    nodes.insert(
        0,
        Node {
            entry: entry(FOLDER, Kind::Folder),
            content: Content::Folder { tree: own },
        },
    );
    let tree = store_tree(&writer, "/".as_ref(), &nodes).unwrap();
    writer.commit().unwrap();
    let mut snapshot = night.outcome.snapshot.file.clone();
    snapshot.tree = tree;
    let mut outcome = night.outcome.clone();
    outcome.snapshot = repository.save_snapshot(snapshot).unwrap();
    Night {
        outcome,
        image: night.image.clone(),
    }
}

/// What another writer makes of an image: base, log, and the hash of the pages.
fn parts(image: &[u8]) -> (Vec<u8>, Vec<u8>, Id) {
    let pages: Vec<&[u8]> = image.chunks(4096).collect();
    let mut base = refusing(pages[0]);
    base.extend(&image[4096..]);
    let mut log = Vec::new();
    let chain = Chain::begin([1, 2], 4096, &mut log);
    let count = u32::try_from(pages.len()).unwrap();
    let _ = chain.frame(1, count, pages[0], &mut log);
    let mut hash = Hasher::default();
    for page in pages {
        hash.update(Id::of(page).as_bytes());
    }
    (base, log, hash.finish())
}

fn describe(manifest: &mut Manifest, base: &[u8], log: &[u8], hash: Id) {
    let database = &mut manifest.databases[0];
    database.image_sha256 = hash;
    database.log = Some(tillsafe::capture::manifest::Log {
        page_bytes: 4096,
        base_bytes: base.len() as u64,
        log_bytes: log.len() as u64,
    });
}

type Change<'a> = Box<dyn Fn(&mut Manifest) + 'a>;

#[test]
fn what_a_snapshot_says_of_its_pages_is_not_taken_for_granted() {
    let scene = Scene::new("delete", 4096);
    let night = scene.back_up();
    let (base, log, hash) = parts(&night.image);
    let target = |name: &str| scene.place.join(name);
    let restored = |name: &str, forged: &Night| restore(&scene, forged, &target(name));
    let honest = forge(&scene, &night, &[&base], &[&log], |manifest| {
        describe(manifest, &base, &log, hash);
    });
    assert!(restored("honest", &honest).unwrap().lost.is_empty());
    assert_image(&target("honest/shop.db"), &night.image);

    // Frames that belong nowhere are passed over.
    let mut strange = Vec::new();
    let mut chain = Chain::begin([1, 2], 4096, &mut strange);
    for number in [0, u32::MAX, 70_000] {
        chain = chain.frame(number, 0, &[9; 4096], &mut strange);
    }
    strange.extend(&log[HEADER..]);
    let forged = forge(&scene, &night, &[&base], &[&strange], |manifest| {
        describe(manifest, &base, &strange, hash);
    });
    restored("strange", &forged).unwrap();
    assert_image(&target("strange/shop.db"), &night.image);

    // A page that is not the captured one.
    let mut other = log.clone();
    other[HEADER + FRAME_HEAD + 200] ^= 1;
    let forged = forge(&scene, &night, &[&base], &[&other], |manifest| {
        describe(manifest, &base, &other, hash);
    });
    let cause = restored("other", &forged).unwrap_err();
    assert!(matches!(cause, Error::NotVerified { .. }), "{cause}");
    assert!(!target("other").exists());

    // No log beside it, and what is beside it is not as long, or not in whole frames.
    let cut = &log[..log.len() - 1];
    let cases: [(&str, &[&[u8]], Change<'_>); 5] = [
        (
            "length",
            &[&log],
            Box::new(|manifest| describe(manifest, &base, cut, hash)),
        ),
        (
            "frames",
            &[cut],
            Box::new(|manifest| describe(manifest, &base, cut, hash)),
        ),
        (
            "blobs",
            &[&log[..100], &log[100..]],
            Box::new(|manifest| describe(manifest, &base, &log, hash)),
        ),
        (
            "pages",
            &[&log],
            Box::new(|manifest| {
                describe(manifest, &base, &log, hash);
                let database = &mut manifest.databases[0];
                database.log.as_mut().unwrap().page_bytes = 3;
            }),
        ),
        (
            "size",
            &[&log],
            Box::new(|manifest| {
                describe(manifest, &base, &log, hash);
                manifest.databases[0].size_bytes = u64::MAX - 4095;
            }),
        ),
    ];
    for (name, log, change) in cases {
        let forged = forge(&scene, &night, &[&base], log, |manifest| change(manifest));
        let restored = restored(name, &forged).unwrap();
        assert_eq!(restored.lost.len(), 1, "{name}");
        assert!(!target(name).join("shop.db").exists(), "{name}");
    }
}

/// Without the manifest nobody knows that two files are one database. Both come back, and SQLite makes it whole.
#[test]
fn without_a_manifest_both_files_come_back() {
    let mut scene = Scene::new("wal", 4096);
    scene.back_up();
    scene.trade();
    let night = scene.back_up();
    let repository = open(&scene.backend).unwrap();
    let index = index_of(&scene);
    let root = repository
        .read_tree(&index, night.outcome.snapshot.file.tree)
        .unwrap();
    let own = root
        .iter()
        .find(|node| node.entry.name == tillsafe::capture::manifest::FOLDER)
        .unwrap();
    let tillsafe::repository::tree::Content::Folder { tree } = own.content else {
        panic!("a folder");
    };
    let manifest = repository.read_tree(&index, tree).unwrap();
    let tillsafe::repository::tree::Content::File { blobs, .. } = &manifest[0].content else {
        panic!("a file");
    };
    damage(&scene, blobs[0]);
    let program = scene.program();
    let (file, path) = (scene.place.join("dumped"), scene.database.to_str().unwrap());
    let run = program.run(&["dump", "latest", path, "--target", file.to_str().unwrap()]);
    assert_eq!(run.code, 4, "{}", run.text());
    assert!(run.stderr.contains("only the base"), "{}", run.stderr);
    assert!(!file.exists());
    let target = scene.place.join("restored");
    let restored = restore(&scene, &night, &target).unwrap();
    assert_eq!(restored.level, tillsafe::restore::ProofLevel::Opened);
    let pair = target.join("shop.db");
    assert!(target.join("shop.db-wal").exists());
    let connection = rusqlite::Connection::open(&pair).unwrap();
    let count: i64 = connection
        .query_row("SELECT count(*) FROM orders", [], |row| row.get(0))
        .unwrap();
    assert!(count > 40_000);
    drop(connection);
    assert_image(&pair, &night.image);
}

/// It is asked for by the database's name.
#[test]
fn a_log_alone_is_not_restored_over_a_live_one() {
    let mut scene = Scene::new("wal", 4096);
    scene.back_up();
    scene.trade();
    scene.back_up();
    let program = scene.program();
    let log = format!("latest:{}-wal", scene.database.display());
    let target = scene.place.join("restored");
    for words in [
        vec!["restore", &log, "--target", target.to_str().unwrap()],
        vec!["restore", &log, "--in-place", "--dry-run"],
    ] {
        let run = program.run(&words);
        assert_ne!(run.code, 0, "{}", run.text());
        assert!(
            run.stderr.contains("a part of the database"),
            "{}",
            run.stderr
        );
    }
    assert!(!target.exists());
}

/// What `repair snapshots` leaves of a pair is no database.
#[test]
fn after_a_repair_no_half_of_it_is_restored() {
    let mut scene = Scene::new("wal", 4096);
    scene.back_up();
    scene.trade();
    let night = scene.back_up();
    let pack = damage(&scene, scene.stored(&night).log.unwrap()[0]);
    let program = scene.program();
    let name = pack.file_name().unwrap().to_str().unwrap();
    program.run(&["repair", "packs", name]);
    let run = program.run(&["repair", "snapshots", "--forget"]);
    assert!(run.code == 0 || run.code == 4, "{}", run.text());
    let id = crate::common::library::snapshots(&scene.backend)
        .pop()
        .unwrap();
    let target = scene.place.join("restored");
    let words = [
        "restore",
        &id.id.to_string(),
        "--target",
        target.to_str().unwrap(),
    ];
    let run = program.run(&words);
    let inner = target.join(scene.folder.strip_prefix("/").unwrap());
    assert!(!inner.join("shop.db").exists(), "{}", run.text());
    assert!(!inner.join("shop.db-wal").exists(), "{}", run.text());
}
