//! Files and folders, copied, counted and hurt.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::program::PATIENCE;

/// Copies a folder with all it holds, modes included.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let copy = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_folder(&item.path(), &copy);
        } else {
            fs::copy(item.path(), copy).unwrap();
        }
    }
}

/// Waits until a file is there, which another process makes when it has come so far.
pub fn wait_for(path: &Path) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(
            begun.elapsed() < PATIENCE,
            "waited too long for {}",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Every file below a folder, in no order. Temporary names that vanish meanwhile are none.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        let Ok(listed) = fs::read_dir(folder) else {
            continue;
        };
        for item in listed.map(|item| item.unwrap()) {
            match item.file_type() {
                Ok(kind) if kind.is_dir() => waiting.push(item.path()),
                Ok(_) => found.push(item.path()),
                Err(_) => {}
            }
        }
    }
    found
}

/// The names in a folder that begin with `prefix`; none if there is no folder.
pub fn names_with(folder: &Path, prefix: &str) -> Vec<String> {
    let Ok(listed) = fs::read_dir(folder) else {
        return Vec::new();
    };
    listed
        .map(|item| item.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(prefix))
        .collect()
}

/// Flips one bit in the middle of a file.
pub fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Makes a named pipe.
pub fn make_pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// Makes a socket, as a program leaves that listened there.
pub fn make_socket(path: &Path) {
    drop(std::os::unix::net::UnixListener::bind(path).unwrap());
}

/// A file that says it is a database and is none.
pub fn make_broken_database(path: &Path) {
    let mut bytes = b"SQLite format 3\0".to_vec();
    bytes.extend(super::shop::noise(7, 20_000));
    fs::write(path, bytes).unwrap();
}
