//! Stock restic, in two versions, is the judge: it reads what we wrote, and we read what it wrote.

mod beside;
mod kinds;
mod large;
mod life;
mod mount;
mod old;
mod ours;
mod rustic;
mod theirs;
mod trees;
mod windows;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::Value;
use tillsafe::id::Id;
use tillsafe::repository::keys::{Cost, KeyFile};
use tillsafe::rng::SystemRng;

use crate::common::files::files_below;
use crate::common::library::{PASSWORD, password};
use crate::common::program::Program;
use crate::common::restic::{Restic, each};
use crate::common::shop::{Shop, noise};

/// Has restic make the repository of `program`; its key costs next to nothing from then on.
fn made_by(restic: &Restic, program: &Program, version: &str) {
    program.write_password(PASSWORD);
    restic.ok(&["init", "--repository-version", version]);
    let keys = files_below(&program.repository.join("keys"));
    let [path] = &keys[..] else {
        panic!("one key: {keys:?}");
    };
    let dear: KeyFile = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let master = dear.unwrap_with(&password()).unwrap();
    let cheap = KeyFile::wrap(
        &master,
        &password(),
        Cost::CHEAP,
        Timestamp::now(),
        &SystemRng,
    );
    let bytes = serde_json::to_vec(&cheap.unwrap()).unwrap();
    fs::write(path.with_file_name(Id::of(&bytes).to_string()), bytes).unwrap();
    fs::remove_file(path).unwrap();
}

/// A shop with all that a version-2 tree has pitfalls for.
///
/// restic keeps a link's target that is not UTF-8 only since 0.16, so it is there for those alone.
fn difficult_shop(folder: &Path, restic: &Restic) -> Shop {
    let shop = Shop::open(folder, 300, "wal");
    let names = folder.join("names");
    fs::create_dir(&names).unwrap();
    let hard: [&[u8]; 14] = [
        b"line\nbreak",
        b"tab\there",
        b"quote\"d",
        b"back\\slash",
        b"it's `so`",
        b"<a>&b",
        b"\xff\xfebytes",
        b"\x01\x1b[2Jctl\x7f",
        b"-dash",
        b" blank ",
        "Töpferei 🍵".as_bytes(),
        "nb\u{a0}sp\u{ad}hy".as_bytes(),
        "sep\u{2028}\u{2029}\u{200d}\u{feff}".as_bytes(),
        "\u{fffd}\u{e000}\u{378}".as_bytes(),
    ];
    for name in hard {
        fs::write(names.join(OsStr::from_bytes(name)), name).unwrap();
    }
    for (name, size) in [
        ("one", 1),
        ("below", (512 << 10) - 1),
        ("at", 512 << 10),
        ("above", (512 << 10) + 1),
        ("large", (9 << 20) + 7),
    ] {
        fs::write(folder.join(name), noise(size as u64, size)).unwrap();
    }
    fs::write(folder.join("zeroes"), vec![0; 3 << 20]).unwrap();
    for (name, mode) in [
        ("m0000", 0),
        ("m4755", 0o4755),
        ("m2711", 0o2711),
        ("m0777", 0o777),
    ] {
        let path = folder.join(name);
        fs::write(&path, name).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir(folder.join("sticky")).unwrap();
    fs::set_permissions(folder.join("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
    let bytes: &[u8] = if restic.is_current() {
        b"to\xff\"<\n"
    } else {
        b"to\"<\n"
    };
    for (name, target) in [
        ("dangling", &b"nowhere/at all"[..]),
        ("absolute", b"/etc"),
        ("bytes", bytes),
    ] {
        std::os::unix::fs::symlink(OsStr::from_bytes(target), folder.join(name)).unwrap();
    }
    let epoch = SystemTime::UNIX_EPOCH;
    for (name, time) in [
        ("old", epoch - Duration::from_nanos(1)),
        ("ns", epoch + Duration::new(1_000_000_000, 1)),
        ("late", epoch + Duration::from_secs(4_102_444_801)),
    ] {
        let file = fs::File::create(folder.join(name)).unwrap();
        file.set_modified(time).unwrap();
    }
    shop
}

/// The paths that a listing names, in a form that both programs' JSON shares.
fn paths(nodes: &[Value], below: &Path) -> BTreeSet<String> {
    let below = format!("{}/", below.display());
    nodes
        .iter()
        .filter_map(|node| node["path"].as_str())
        .filter(|path| path.starts_with(&below))
        .map(str::to_owned)
        .collect()
}

/// A number from the environment, which makes a test larger or repeats it.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
