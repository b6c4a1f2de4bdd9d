//! Are two folders equal: names, kinds, bytes, modes, times, owners, links?

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Everything below `root`, but for what `leave_out` names: relative path to a description of the item.
pub fn describe(root: &Path, leave_out: &dyn Fn(&Path) -> bool) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(folder) = waiting.pop() {
        for item in fs::read_dir(root.join(&folder)).unwrap() {
            let inner = folder.join(item.unwrap().file_name());
            if leave_out(&inner) {
                continue;
            }
            let path = root.join(&inner);
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_dir() {
                waiting.push(inner.clone());
                String::new()
            } else if metadata.is_symlink() {
                format!(
                    "{}",
                    fs::read_link(&path)
                        .unwrap()
                        .as_os_str()
                        .as_encoded_bytes()
                        .escape_ascii()
                )
            } else {
                tillsafe::id::Id::of(&fs::read(&path).unwrap()).to_string()
            };
            found.insert(
                inner,
                format!(
                    "{:o} {}:{} {}.{:09} {content}",
                    metadata.mode(),
                    metadata.uid(),
                    metadata.gid(),
                    metadata.mtime(),
                    metadata.mtime_nsec()
                ),
            );
        }
    }
    found
}

/// The first difference between two folders, but for what `leave_out` names.
pub fn difference(a: &Path, b: &Path, leave_out: &dyn Fn(&Path) -> bool) -> Option<String> {
    let (a, b) = (describe(a, leave_out), describe(b, leave_out));
    for (path, left) in &a {
        match b.get(path) {
            Some(right) if left == right => {}
            Some(right) => return Some(format!("{}: {left} | {right}", path.display())),
            None => return Some(format!("{} is missing", path.display())),
        }
    }
    let more = b.keys().find(|path| !a.contains_key(*path));
    more.map(|path| format!("{} is too much", path.display()))
}

/// Databases and their side files: compared by their content elsewhere.
pub fn is_database(path: &Path) -> bool {
    path.to_string_lossy().contains(".db")
}
