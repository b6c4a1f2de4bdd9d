//! Where file systems are mounted.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Where file systems are mounted, as this process sees them.
pub(super) fn mount_points() -> BTreeSet<PathBuf> {
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let lines = mounts.split(|byte| *byte == b'\n');
    let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    points.map(mount_point).collect()
}

/// One of them: spaces, tabs, line ends and backslashes are written as three octal digits.
fn mount_point(mut text: &[u8]) -> PathBuf {
    let mut path = Vec::new();
    while let Some((first, rest)) = text.split_first() {
        let digits = rest.get(..3).and_then(|digits| str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = byte.filter(|_| *first == b'\\') {
            path.push(byte);
            text = &rest[3..];
        } else {
            path.push(*first);
            text = rest;
        }
    }
    std::ffi::OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn mount_points_are_read_as_they_are_written() {
        for (text, path) in [
            (&b"/srv"[..], "/srv"),
            (b"/a\\040b\\134c", "/a b\\c"),
            (b"/a\\", "/a\\"),
            (b"/\\999", "/\\999"),
        ] {
            assert_eq!(mount_point(text), Path::new(path));
        }
        assert!(mount_points().contains(Path::new("/")));
    }
}
