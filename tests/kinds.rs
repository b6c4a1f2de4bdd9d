//! Files of every kind, where a snapshot lies, a system refuses, or a restore is cut short.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
use tillsafe::durable::OsDisk;
use tillsafe::durable::faults::{Fault, FaultyDisk};
use tillsafe::entry::{Kind, Place as OnDisk};
use tillsafe::repository::pack::BlobKind;
use tillsafe::repository::tree::{Content, Node};

use crate::common::Place;
use crate::common::files::{make_pipe, names_with};
use crate::common::forge::{Forge, entry};
use crate::common::library::{restore, snapshots};
use crate::common::program::{Program, Run};
use crate::common::restic::Restic;
use crate::common::shop::noise;
use crate::common::tools::skipped;
use crate::common::tree::{allocated, attributes_of, describe, differences};

/// A folder with one of each kind, and a repository that holds it.
struct Scene {
    place: Place,
    program: Program,
}

impl Scene {
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skipped("files of every kind", "devices need root");
            return None;
        }
        let place = Place::new();
        let folder = place.join("kinds");
        fs::create_dir_all(folder.join("inner")).unwrap();
        fs::write(folder.join("a"), noise(1, 700_000)).unwrap();
        fs::write(folder.join("empty"), "").unwrap();
        for (of, name) in [("a", "inner/b"), ("a", "inner/c"), ("empty", "inner/none")] {
            fs::hard_link(folder.join(of), folder.join(name)).unwrap();
        }
        let holes = fs::File::create(folder.join("holes")).unwrap();
        holes.set_len(6 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&holes, b"island", 3 << 20).unwrap();
        make_pipe(&folder.join("pipe"));
        for (name, kind) in [
            ("null", FileType::CharacterDevice),
            ("disk", FileType::BlockDevice),
        ] {
            let mode = Mode::from_raw_mode(0o640);
            mknodat(CWD, folder.join(name), kind, mode, makedev(1, 300)).unwrap();
        }
        for (name, value) in [
            ("user.glaze", &b"celadon"[..]),
            ("trusted.kiln", b"7"),
            (
                "security.capability",
                b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            ),
        ] {
            let set = setxattr(folder.join("a"), name, value, XattrFlags::empty());
            set.expect("the file system has attributes");
        }
        let program = Program::with_cheap_repository(place.path());
        program.ok(&["backup", folder.to_str().unwrap()]);
        Some(Self { place, program })
    }

    fn folder(&self) -> std::path::PathBuf {
        self.place.join("kinds")
    }

    fn latest(&self) -> String {
        format!("latest:{}", self.folder().display())
    }

    fn restored(&self) -> std::path::PathBuf {
        self.place.join("restored")
    }

    fn assert_equal(&self, copy: &Path) {
        let differ = differences(&describe(&self.folder()), &describe(copy));
        assert!(differ.is_empty(), "{}", differ.join("\n"));
        let (wanted, got) = (allocated(&self.folder()), allocated(copy));
        for (path, bytes) in wanted {
            assert!(got[&path] <= bytes + 8192, "{}", path.display());
        }
    }
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn a_socket_is_named_and_no_reason_to_fail() {
    let place = Place::new();
    let folder = place.join("shop");
    fs::create_dir(&folder).unwrap();
    crate::common::files::make_socket(&folder.join("php.sock"));
    let program = Program::with_cheap_repository(place.path());
    let run = program.ok(&["backup", folder.to_str().unwrap()]);
    assert!(
        run.stderr.contains("php.sock: a socket is not stored"),
        "{}",
        run.stderr
    );
    let target = place.join("target");
    program.ok(&["restore", "latest", "--target", target.to_str().unwrap()]);
}

/// The kernel takes no path of more than 4,095 bytes, but lets folders lie deeper.
#[test]
fn what_lies_deeper_than_any_path_leads_is_named_and_the_rest_is_restored() {
    use rustix::fs::{OFlags, mkdirat, openat};
    let place = Place::new();
    let root = place.join("deep");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("top"), "top").unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut folder = openat(CWD, &root, flags, Mode::empty()).unwrap();
    for _ in 0..5000 {
        mkdirat(&folder, "ab", Mode::from_raw_mode(0o755)).unwrap();
        folder = openat(&folder, "ab", flags, Mode::empty()).unwrap();
    }
    let program = Program::with_cheap_repository(place.path());
    let run = program.run(&["backup", root.to_str().unwrap()]);
    assert_eq!(run.code, 3, "{}", run.text());
    let named = run.stderr.matches(": lies too deep to be stored").count();
    assert_eq!(named, 1, "{}", run.stderr);
    program.ok(&["check"]);
    // restic goes as deep, and finds nothing wrong.
    for restic in Restic::all_on(&program) {
        restic.assert_clean();
        let listed = restic.ok(&["ls", "latest"]).stdout;
        assert!(listed.contains(&"ab/".repeat(1000)));
    }
    // Longer by its name than the place that was captured.
    let target = place.join(&"t".repeat(200));
    let run = program.run(&["restore", "latest", "--target", target.to_str().unwrap()]);
    assert_eq!(run.code, 3, "{}", run.text());
    let copy = target.join(root.strip_prefix("/").unwrap());
    assert_eq!(fs::read(copy.join("top")).unwrap(), b"top");
    assert!(copy.join("ab/".repeat(1000)).is_dir());
}

#[test]
fn names_of_one_file_are_read_once_and_restored_within_the_selection() {
    let Some(scene) = Scene::new() else { return };
    let (target, from) = (scene.restored(), scene.latest());
    let to = target.to_str().unwrap();
    let run = scene
        .program
        .ok(&["restore", &from, "--target", to, "--include", "inner"]);
    assert_eq!(
        run.stderr,
        run.stderr.replace("warning", ""),
        "{}",
        run.stderr
    );
    let inner = |name: &str| target.join("inner").join(name);
    assert_eq!(inode(&inner("b")), inode(&inner("c")));
    assert_eq!(fs::metadata(inner("b")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(inner("none")).unwrap().nlink(), 1);
    assert_eq!(fs::read(inner("c")).unwrap(), noise(1, 700_000));
    assert!(attributes_of(&inner("c")).contains_key("security.capability"));
}

#[test]
fn in_place_and_back_every_kind_is_what_it_was() {
    let Some(scene) = Scene::new() else { return };
    let wanted = describe(&scene.folder());
    let changed = |name: &str| scene.folder().join(name);
    for name in ["null", "pipe", "inner/b"] {
        fs::remove_file(changed(name)).unwrap();
    }
    fs::write(changed("null"), "no device").unwrap();
    fs::write(changed("holes"), "no hole").unwrap();
    symlink("elsewhere", changed("pipe")).unwrap();
    setxattr(changed("a"), "user.glaze", b"raku", XattrFlags::empty()).unwrap();
    let before = describe(&scene.folder());
    let from = scene.latest();
    let hash = scene.program.plan_in_place(&[&from]);
    scene
        .program
        .ok(&["restore", &from, "--in-place", "--plan", &hash]);
    let differ = differences(&wanted, &describe(&scene.folder()));
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    scene.program.ok(&["rollback"]);
    let differ = differences(&before, &describe(&scene.folder()));
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// A file of `bytes` that says where it lived.
fn claiming(
    writer: &tillsafe::repository::writer::Writer,
    name: &str,
    (bytes, mode): (&[u8], u32),
    place: OnDisk,
) -> Node {
    let blob = writer.store(BlobKind::Data, bytes.to_vec()).unwrap();
    let mut entry = entry(name.as_ref(), Kind::File, mode);
    entry.modified = jiff::Timestamp::UNIX_EPOCH;
    entry.place = place;
    Node {
        entry,
        content: Content::File {
            blobs: vec![blob.wait().unwrap()],
            size: bytes.len() as u64,
        },
    }
}

#[test]
fn a_lie_about_links_gives_no_file_the_content_or_the_rights_of_another() {
    let Some(scene) = Scene::new() else { return };
    let one = OnDisk {
        device: 7,
        inode: 9,
        links: 5,
    };
    let nowhere = OnDisk {
        device: 0,
        inode: 0,
        links: 2,
    };
    Forge::open(&scene.program.repository).snapshot(|_, writer, root| {
        *root = vec![
            claiming(writer, "a", (b"secret", 0o600), one),
            claiming(writer, "b", (b"public", 0o644), one),
            claiming(writer, "c", (b"secret", 0o644), one),
            claiming(writer, "d", (b"secret", 0o600), one),
            claiming(writer, "e", (b"orders", 0o600), nowhere),
            claiming(writer, "f", (b"orders", 0o600), nowhere),
        ];
    });
    let target = scene.restored();
    let to = target.to_str().unwrap();
    scene.program.ok(&["restore", "latest", "--target", to]);
    let there = |name: &str| {
        let path = target.join(name);
        let metadata = fs::metadata(&path).unwrap();
        let text = String::from_utf8(fs::read(&path).unwrap()).unwrap();
        (text, metadata.mode() & 0o777, metadata.nlink())
    };
    let found = ["a", "b", "c", "d", "e", "f"].map(there);
    let expected = [
        ("secret", 0o600, 2),
        ("public", 0o644, 1),
        ("secret", 0o644, 1),
        ("secret", 0o600, 2),
        ("orders", 0o600, 1),
        ("orders", 0o600, 1),
    ];
    assert_eq!(
        found,
        expected.map(|(text, mode, links)| (text.to_owned(), mode, links))
    );
}

#[test]
fn attributes_that_no_system_takes_are_told_and_the_rest_is_restored() {
    let Some(scene) = Scene::new() else { return };
    let attribute = |name: &str, length: usize| tillsafe::entry::Attribute {
        name: name.to_owned(),
        value: vec![7; length],
    };
    Forge::open(&scene.program.repository).snapshot(|_, writer, root| {
        let mut node = claiming(writer, "a", (b"orders", 0o600), OnDisk::default());
        node.entry.attributes = vec![
            attribute("user.large", 70_000),
            attribute(&format!("user.{}", "n".repeat(300)), 1),
            attribute("", 1),
            attribute("user.a\0b", 1),
            attribute("nobody.knows", 1),
            attribute("system.posix_acl_access", 9),
            attribute("user.good", 1),
        ];
        *root = vec![node];
    });
    let target = scene.restored();
    let to = target.to_str().unwrap();
    let run = scene.program.run(&["restore", "latest", "--target", to]);
    assert_eq!(run.code, 3, "{}", run.text());
    assert!(run.stderr.contains("user.large: "), "{}", run.stderr);
    assert!(
        run.stderr.contains("(and so with 5 others)"),
        "{}",
        run.stderr
    );
    let names: Vec<String> = attributes_of(&target.join("a")).into_keys().collect();
    assert_eq!(names, ["user.good"]);
}

#[test]
fn without_roots_rights_what_is_missing_is_named() {
    let Some(scene) = Scene::new() else { return };
    let target = scene.restored();
    fs::create_dir(&target).unwrap();
    for path in [target.as_path(), scene.place.path()] {
        std::os::unix::fs::chown(path, Some(65_534), Some(65_534)).unwrap();
    }
    let mut readable = std::process::Command::new("/bin/chown");
    let owned = readable.arg("-R").arg("65534:65534");
    let owned = owned.args([&scene.program.repository, &scene.program.password_file]);
    assert!(owned.status().unwrap().success());
    // The program may lie where nobody else may look.
    let program = scene.place.join("tillsafe");
    fs::copy(env!("CARGO_BIN_EXE_tillsafe"), &program).unwrap();
    let mut command = std::process::Command::new(&program);
    command.env_clear().uid(65_534).gid(65_534);
    command.arg("-r").arg(&scene.program.repository);
    command.arg("-p").arg(&scene.program.password_file);
    command
        .args(["restore", &scene.latest(), "--target"])
        .arg(&target);
    let run = Run::of(&mut command);
    assert_eq!(run.code, 3, "{}", run.text());
    for said in [
        "the device or pipe could not be made: ",
        "its extended attribute is not restored, because only root can: ",
        "owners: are not restored",
    ] {
        assert!(run.stderr.contains(said), "{said}: {}", run.stderr);
    }
    assert!(!target.join("null").exists());
    let pipe = fs::symlink_metadata(target.join("pipe")).unwrap();
    assert!(pipe.file_type().is_fifo());
    assert_eq!(inode(&target.join("a")), inode(&target.join("inner/b")));
    let names: Vec<String> = attributes_of(&target.join("a")).into_keys().collect();
    assert_eq!(names, ["user.glaze"]);
}

#[test]
fn where_a_restore_fails_the_next_brings_every_kind_back() {
    let Some(scene) = Scene::new() else { return };
    let backend = scene.program.backend();
    let snapshot = snapshots(&backend).pop().unwrap();
    let (base, target) = (scene.folder(), scene.restored());
    let mut failed = 0;
    for at in 1.. {
        let fault = Fault::from_there_on(at);
        let disk = FaultyDisk::new(OsDisk, fault.clone());
        let cut_short = restore(&backend, snapshot.clone(), &base, &target, &disk).is_err();
        if cut_short {
            failed += 1;
            // Behind the final name only the very last sync can fail.
            if !target.exists() {
                restore(&backend, snapshot.clone(), &base, &target, &OsDisk).unwrap();
            }
        }
        scene.assert_equal(&target);
        fs::remove_dir_all(&target).unwrap();
        assert_eq!(
            names_with(scene.place.path(), ".tillsafe"),
            Vec::<String>::new()
        );
        if !fault.fired() {
            break;
        }
    }
    assert!(failed > 30, "{failed}");
}

#[test]
fn a_disk_that_knows_no_links_and_attributes_gets_all_contents() {
    let Some(scene) = Scene::new() else { return };
    let backend = scene.program.backend();
    let snapshot = snapshots(&backend).pop().unwrap();
    let target = scene.restored();
    let fault = Fault::refusing_metadata(std::io::ErrorKind::Unsupported);
    let disk = FaultyDisk::new(OsDisk, fault);
    restore(&backend, snapshot, &scene.folder(), &target, &disk).unwrap();
    for name in ["a", "inner/b", "inner/c"] {
        let path = target.join(name);
        assert_eq!(fs::metadata(&path).unwrap().nlink(), 1);
        assert_eq!(fs::read(&path).unwrap(), noise(1, 700_000), "{name}");
    }
    assert_eq!(fs::read(target.join("inner/none")).unwrap(), b"");
}

#[test]
fn a_folder_that_hands_on_an_access_list_hands_none_to_a_copy() {
    let Some(scene) = Scene::new() else { return };
    // Version 2: the owner, user 33, the group, the mask and the others may all do all.
    let mut list = vec![2, 0, 0, 0];
    for (tag, id) in [
        (1, u32::MAX),
        (2, 33),
        (4, u32::MAX),
        (16, u32::MAX),
        (32, u32::MAX),
    ] {
        list.extend([tag, 0, 7, 0]);
        list.extend(id.to_le_bytes());
    }
    let outer = scene.place.join("outer");
    fs::create_dir(&outer).unwrap();
    setxattr(
        &outer,
        "system.posix_acl_default",
        &list,
        XattrFlags::empty(),
    )
    .unwrap();
    let target = outer.join("copy");
    let to = target.to_str().unwrap();
    scene
        .program
        .ok(&["restore", &scene.latest(), "--target", to]);
    scene.assert_equal(&target);
}
