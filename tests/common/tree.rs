//! Folders with all that a file system may hold: made at random from a seed, and described in full.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsStr, OsString};
use std::fmt::Write;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lgetxattr, llistxattr,
    lsetxattr, makedev, mknodat, utimensat,
};
use tillsafe::id::Id;

use super::dice::Dice;
use super::files::make_socket;

/// Makes a random tree of at most so many items at `root`. Root's rights are needed.
pub fn grow(root: &Path, seed: u64, items: usize) {
    let mut dice = Dice::new(seed);
    fs::create_dir(root).unwrap();
    let (mut folders, mut files) = (vec![root.to_owned()], Vec::new());
    for _ in 0..items {
        let number = usize::try_from(dice.below(folders.len() as u64)).unwrap();
        // Names of 255 bytes add up: no path may be longer than the kernel takes.
        let path = folders[number].join(name(&mut dice));
        if fs::symlink_metadata(&path).is_ok() || path.as_os_str().len() > 3000 {
            continue;
        }
        match dice.below(16) {
            0..=2 => {
                fs::create_dir(&path).unwrap();
                folders.push(path);
                continue;
            }
            3..=5 => link(&path, &mut dice),
            6 => special(&path, FileType::Fifo, 0),
            7 => {
                let number = makedev(dice.small(4096), dice.small(1 << 20));
                special(&path, FileType::CharacterDevice, number);
            }
            8 => {
                let number = makedev(dice.small(4096), dice.small(1 << 20));
                special(&path, FileType::BlockDevice, number);
            }
            9 if path.as_os_str().len() < 100 => make_socket(&path),
            10 | 11 if !files.is_empty() => {
                let number = usize::try_from(dice.below(files.len() as u64)).unwrap();
                let of: &PathBuf = &files[number];
                fs::hard_link(of, &path).unwrap();
                continue;
            }
            _ => {
                file(&path, &mut dice);
                files.push(path.clone());
            }
        }
        dress(&path, &mut dice);
    }
    // Innermost first: what is made in a folder changes its time, and gets what it hands on.
    for folder in folders.iter().rev() {
        dress(folder, &mut dice);
    }
}

fn name(dice: &mut Dice) -> OsString {
    let length = match dice.below(12) {
        0 => 255,
        1 => 1 + dice.below(254),
        _ => 1 + dice.below(12),
    };
    let mut bytes = match dice.below(3) {
        0 => dice.bytes(length),
        _ => (0..length)
            .map(|_| b'a' + dice.next().to_le_bytes()[0] % 26)
            .collect(),
    };
    for byte in &mut bytes {
        if matches!(byte, b'/' | 0 | b'.') {
            *byte = b'_';
        }
    }
    OsString::from_vec(bytes)
}

fn link(path: &Path, dice: &mut Dice) {
    let mut text: Vec<u8> = match dice.below(3) {
        0 => "Töpferei/<&>\"\\ \n🍵".into(),
        1 => {
            let length = 1 + dice.below(200);
            dice.bytes(length)
        }
        _ => b"../nowhere/at/all".to_vec(),
    };
    text.retain(|byte| *byte != 0);
    if text.is_empty() {
        text.push(b'x');
    }
    std::os::unix::fs::symlink(OsStr::from_bytes(&text), path).unwrap();
}

fn special(path: &Path, kind: FileType, number: u64) {
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), number).unwrap();
}

fn file(path: &Path, dice: &mut Dice) {
    let file = fs::File::create(path).unwrap();
    match dice.below(8) {
        0 => {}
        1 => {
            let length = dice.below(1_500_000);
            file.write_all_at(&dice.bytes(length), 0).unwrap();
        }
        2 | 3 => {
            // Islands in a sea of holes, and perhaps a hole at the end.
            file.set_len(dice.below(12 << 20)).unwrap();
            for _ in 0..dice.below(4) {
                let (length, at) = (1 + dice.below(20_000), dice.below(8 << 20));
                file.write_all_at(&dice.bytes(length), at).unwrap();
            }
        }
        _ => {
            let length = 1 + dice.below(3000);
            file.write_all_at(&dice.bytes(length), 0).unwrap();
        }
    }
}

/// Gives an item an owner, attributes, a mode and a time.
fn dress(path: &Path, dice: &mut Dice) {
    let kind = fs::symlink_metadata(path).unwrap().file_type();
    let owners = [0, 1, 33, 1000, 65_534, 4_000_000_000];
    let owner = |dice: &mut Dice| Some(owners[usize::try_from(dice.below(6)).unwrap()]);
    let (uid, gid) = (owner(dice), owner(dice));
    if kind.is_symlink() {
        lchown(path, uid, gid).unwrap();
    } else {
        chown(path, uid, gid).unwrap();
        let mode = dice.small(0o10000);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    attributes(path, kind, dice);
    let seconds = match dice.below(4) {
        // What ext4 holds: 1901 to 2446.
        0 => i64::try_from(dice.below(9_000_000_000)).unwrap() - 2_147_483_648,
        1 => -1,
        _ => i64::try_from(dice.below(1_800_000_000)).unwrap(),
    };
    let nanoseconds = match dice.below(3) {
        0 => 0,
        _ => i64::try_from(dice.below(1_000_000_000)).unwrap(),
    };
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn attributes(path: &Path, kind: fs::FileType, dice: &mut Dice) {
    let set = |name: &str, value: &[u8]| {
        lsetxattr(path, name, value, XattrFlags::empty()).unwrap_or_else(|cause| {
            panic!("{name} of {}: {cause}", path.display());
        });
    };
    if dice.below(3) == 0 {
        set("trusted.origin", &dice.bytes(7));
    }
    if kind.is_symlink() || kind.is_fifo() || kind.is_socket() {
        return;
    }
    if dice.below(4) == 0 && (kind.is_file() || kind.is_dir()) {
        for number in 0..=dice.below(4) {
            let length = dice.below(300);
            set(&format!("user.<{number}> ü"), &dice.bytes(length));
        }
    }
    if dice.below(5) == 0 {
        set("system.posix_acl_access", &access_list(dice));
    }
    if dice.below(4) == 0 && kind.is_dir() {
        set("system.posix_acl_default", &access_list(dice));
    }
    if dice.below(6) == 0 && kind.is_file() {
        // Version 2, effective: CAP_NET_BIND_SERVICE permitted.
        let mut capability = [0; 20];
        capability[..8].copy_from_slice(&[1, 0, 0, 2, 0, 4, 0, 0]);
        set("security.capability", &capability);
    }
    if dice.below(6) == 0 {
        set("security.selinux", b"system_u:object_r:etc_t:s0\0");
    }
}

/// The rights of the owner, one user, the group, the mask and the others, as the kernel writes them.
fn access_list(dice: &mut Dice) -> Vec<u8> {
    let nobody = u32::MAX;
    let user = 1000 + dice.small(100);
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, id) in [
        (1_u16, nobody),
        (2, user),
        (4, nobody),
        (0x10, nobody),
        (0x20, nobody),
    ] {
        let rights = u16::try_from(dice.below(8)).unwrap();
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

/// All that can be told of an item but how many blocks it takes.
pub type Descriptions = BTreeMap<PathBuf, String>;

/// Everything in a folder, and itself: kind, mode, owner, time, content, device, names of the same file,
/// attributes. Sockets are left out: nobody stores them.
pub fn describe(root: &Path) -> Descriptions {
    describe_with(root, true)
}

/// The same; without `links_in_full` a link's text and attributes are left out.
pub fn describe_with(root: &Path, links_in_full: bool) -> Descriptions {
    let mut found = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    let mut names: HashMap<u64, Vec<PathBuf>> = HashMap::new();
    while let Some(inner) = waiting.pop() {
        let path = root.join(&inner);
        let metadata = fs::symlink_metadata(&path).unwrap();
        let kind = metadata.file_type();
        let content = match () {
            () if kind.is_socket() => continue,
            () if kind.is_dir() => {
                let listed = fs::read_dir(&path).unwrap();
                waiting.extend(listed.map(|item| inner.join(item.unwrap().file_name())));
                String::new()
            }
            () if kind.is_symlink() && !links_in_full => {
                found.insert(inner, format!("{:o}", metadata.mode()));
                continue;
            }
            () if kind.is_symlink() => {
                let text = fs::read_link(&path).unwrap();
                text.as_os_str().as_bytes().escape_ascii().to_string()
            }
            () if kind.is_file() => {
                names.entry(metadata.ino()).or_default().push(inner.clone());
                Id::of(&fs::read(&path).unwrap()).to_string()
            }
            () => format!("device {:x}", metadata.rdev()),
        };
        let attributes: Vec<String> = attributes_of(&path)
            .into_iter()
            .map(|(name, value)| format!("{name}={}", value.escape_ascii()))
            .collect();
        found.insert(
            inner,
            format!(
                "{:o} {}:{} {}.{:09} {} bytes {content} [{}]",
                metadata.mode(),
                metadata.uid(),
                metadata.gid(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                if kind.is_dir() { 0 } else { metadata.len() },
                attributes.join(", ")
            ),
        );
    }
    for mut names in names.into_values().filter(|names| names.len() > 1) {
        names.sort();
        for name in &names {
            let description = found.get_mut(name).unwrap();
            write!(description, " one file with {names:?}").unwrap();
        }
    }
    found
}

/// The extended attributes of an item, a link's own if it is one, by name.
pub fn attributes_of(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut buffer = [0; 4096];
    let length = llistxattr(path, &mut buffer[..]).unwrap();
    let names = buffer[..length].split(|byte| *byte == 0);
    let names = names.filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = lgetxattr(path, CString::new(name).unwrap(), &mut value[..]).unwrap();
            let name = String::from_utf8(name.to_vec()).unwrap();
            (name, value[..length].to_vec())
        })
        .collect()
}

/// Where two descriptions differ; nothing if they do not.
pub fn differences(wanted: &Descriptions, got: &Descriptions) -> Vec<String> {
    let mut paths: Vec<&PathBuf> = wanted.keys().chain(got.keys()).collect();
    paths.sort();
    paths.dedup();
    let differ = paths
        .into_iter()
        .filter(|path| wanted.get(*path) != got.get(*path));
    differ
        .map(|path| {
            format!(
                "{}:\n  {:?}\n  {:?}",
                path.display(),
                wanted.get(path),
                got.get(path)
            )
        })
        .collect()
}

/// Bytes that the files below `root` take on their disk, each once.
pub fn allocated(root: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for path in describe(root).into_keys() {
        let metadata = fs::symlink_metadata(root.join(&path)).unwrap();
        if metadata.is_file() {
            found.insert(path, metadata.blocks() * 512);
        }
    }
    found
}
