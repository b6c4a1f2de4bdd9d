//! Extended attributes, read and set by a path whose last name is never followed: a link has its own. Or of
//! what is held open, whatever it is.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::descriptor;

/// The security label of `SELinux`: the machine's policy, not the file's owner, says what it must be.
pub const SECURITY_LABEL: &str = "security.selinux";

/// Who has which rights, and what a folder hands on to whatever is made in it.
pub const ACCESS_LISTS: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];

/// Names of the attributes of an item, in the order of the file system.
///
/// # Errors
/// As the system reports them; a file system that has no attributes is none.
pub fn list(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    names(grown(|buffer| rustix::fs::llistxattr(path, buffer)))
}

/// The value of an attribute, if the item has it.
///
/// # Errors
/// As the system reports them.
pub fn get(path: &Path, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    grown(|buffer| rustix::fs::lgetxattr(path, name, buffer))
}

/// The same as [`list`] of what `held` is, which may be open for nothing but its name.
///
/// # Errors
/// As the system reports them; `NotFound` where descriptors have [no names](descriptor::are_shown).
pub fn list_held(held: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let path = descriptor::path(held);
    names(grown(|buffer| rustix::fs::listxattr(&path, buffer)))
}

/// The same as [`get`] of what `held` is.
///
/// # Errors
/// As [`list_held`].
pub fn get_held(held: impl AsFd, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let path = descriptor::path(held);
    grown(|buffer| rustix::fs::getxattr(&path, name, buffer))
}

pub(super) fn set(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::lsetxattr(
        path,
        name,
        value,
        XattrFlags::empty(),
    )?)
}

pub(super) fn remove(path: &Path, name: &str) -> io::Result<()> {
    match rustix::fs::lremovexattr(path, name) {
        Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        Err(cause) => Err(cause.into()),
    }
}

/// The names in a list of them, each of which ends with a zero.
fn names(list: io::Result<Option<Vec<u8>>>) -> io::Result<Vec<Vec<u8>>> {
    let list = list?.unwrap_or_default();
    let names = list.split(|byte| *byte == 0);
    Ok(names
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect())
}

/// What `read` puts into a buffer that is long enough; `None` if there is nothing.
fn grown(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> io::Result<Option<Vec<u8>>> {
    /// Most items have a few short ones.
    const USUAL: usize = 1024;
    /// The kernel allows no longer value, and no longer list of names.
    const LONGEST: usize = 64 * 1024;
    for size in [USUAL, LONGEST] {
        let mut buffer = vec![0; size];
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(Some(buffer));
            }
            Err(Errno::RANGE) if size < LONGEST => {}
            Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
            Err(cause) => return Err(cause.into()),
        }
    }
    unreachable!("the longest buffer ends it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        for length in [0, 1, 1024, 1025, 3000] {
            let value = vec![7; length];
            if set(folder.path(), "user.long", &value).is_err() {
                // No attributes here: nothing to see.
                return;
            }
            assert_eq!(get(folder.path(), b"user.long").unwrap(), Some(value));
        }
        assert_eq!(get(folder.path(), b"user.none").unwrap(), None);
        assert!(
            list(folder.path())
                .unwrap()
                .contains(&b"user.long".to_vec())
        );
        remove(folder.path(), "user.long").unwrap();
        remove(folder.path(), "user.long").unwrap();
        assert_eq!(get(folder.path(), b"user.long").unwrap(), None);
        assert!(list(&folder.path().join("gone")).is_err());
    }
}
