//! The folders that lead to the file: whoever can write one of them can put another file there.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};
use crate::units::shown;

/// As many links as Linux follows.
const MAX_LINKS: usize = 40;
/// Mode bits: writing by the group and by others, and a folder in which only owners rename.
const WRITABLE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Why something of this owner and mode may have been made by a stranger, if so.
pub fn unsafe_because(owner: u32, mode: u32, is_folder: bool) -> Option<String> {
    let caller = rustix::process::geteuid().as_raw();
    if owner != 0 && owner != caller {
        return Some(format!("it belongs to the user {owner}"));
    }
    let is_shared = is_folder && mode & STICKY != 0;
    if mode & WRITABLE != 0 && !is_shared {
        return Some(format!("others can write it (mode {:o})", mode & 0o7777));
    }
    None
}

/// The refusal of `file` because of `what`: itself, or a folder or link on the way to it.
pub fn not_believed(file: &Path, what: &Path, finding: &str) -> Error {
    let of = if file == what {
        String::new()
    } else {
        format!(" because of {} on the way to it", shown(what))
    };
    Error::Usage {
        finding: format!(
            "the configuration {} is not believed{of}: {finding}, and it names programs that are run",
            shown(file)
        ),
        next: format!(
            "let it belong to root or to you, and nobody else write it: chmod go-w {0}; chown root {0}",
            shown(what)
        ),
    }
}

/// Walks to `file` as the kernel does, and looks at every folder and link that it comes past.
///
/// # Errors
/// [`Error::Usage`] for the first that somebody else could exchange.
pub fn require_safe_way(file: &Path) -> Result<()> {
    let unreadable = |path: &Path, cause: std::io::Error| {
        not_believed(file, path, &format!("it cannot be looked at: {cause}"))
    };
    let mut waiting: VecDeque<OsString> = parts(file).collect();
    let mut way = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = waiting.pop_front() {
        if part == ".." {
            way.pop();
            continue;
        }
        let folder = std::fs::metadata(&way).map_err(|cause| unreadable(&way, cause))?;
        if let Some(finding) = unsafe_because(folder.uid(), folder.mode(), true) {
            return Err(not_believed(file, &way, &finding));
        }
        let next = way.join(&part);
        let metadata =
            std::fs::symlink_metadata(&next).map_err(|cause| unreadable(&next, cause))?;
        if !metadata.is_symlink() {
            way = next;
            continue;
        }
        // A link has no mode of its own; in a shared folder its owner could have made it.
        if let Some(finding) = unsafe_because(metadata.uid(), 0, false) {
            return Err(not_believed(file, &next, &finding));
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(not_believed(file, &next, "too many links lead there"));
        }
        let target = std::fs::read_link(&next).map_err(|cause| unreadable(&next, cause))?;
        if target.is_absolute() {
            way = PathBuf::from("/");
        }
        for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
            waiting.push_front(part);
        }
    }
    Ok(())
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}
