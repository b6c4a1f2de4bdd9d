//! One pattern, and how far a path has come in it.
//!
//! A path is read name by name from `/` on, so that what the names of a folder have in common is read
//! once. A pattern that begins with a slash must fit from there; any other may begin at each name. Once all
//! its parts have fitted, everything below fits too: that is how a folder takes all it holds along.

use std::os::unix::ffi::OsStrExt;
use std::path::{self, Path};

use super::component::{Component, has_wildcard};

/// Most parts of a pattern: the positions in it are the bits of a [`State`].
const MAX_PARTS: usize = 120;
/// Longest pattern, in bytes: no path is longer.
const MAX_BYTES: usize = 4096;

/// Where a path may stand in a pattern: a bit for each part that is next, and one after the last.
pub type State = u128;

/// A pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    parts: Vec<Part>,
    /// It takes back what an earlier one leaves out.
    pub is_negated: bool,
    is_absolute: bool,
}

#[derive(Debug, Clone)]
enum Part {
    /// `**`: any number of folders, or none.
    Folders,
    Name(Vec<u8>),
    Wild(Component),
}

/// The names of a path, from `/` on.
pub fn names(path: &Path) -> impl Iterator<Item = &[u8]> {
    path.components().filter_map(|part| match part {
        path::Component::Normal(name) => Some(name.as_bytes()),
        _ => None,
    })
}

impl Pattern {
    /// Reads a pattern of its owner's; what could be meant in two ways is refused.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let inner = text.strip_prefix('!').unwrap_or(text);
        if inner.is_empty() {
            return Err("is empty");
        }
        if text.contains('\0') {
            return Err("has a zero byte in it, which no name has");
        }
        if text.len() > MAX_BYTES {
            return Err("is longer than any path");
        }
        if inner.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(
                "is not meant from the current folder: write a name (`cache`), which is left out wherever it lies, or a whole path (`/srv/shop/cache`)",
            );
        }
        let mut parts = Vec::new();
        for part in inner.split('/').filter(|part| !part.is_empty()) {
            parts.push(match part {
                "**" => Part::Folders,
                _ if has_wildcard(part) => {
                    let component = Component::parse(part)?;
                    match component.only_name() {
                        Some(name) => Part::Name(name),
                        None => Part::Wild(component),
                    }
                }
                name => Part::Name(name.into()),
            });
        }
        if parts.len() > MAX_PARTS {
            return Err("has more than 120 parts");
        }
        Ok(Self {
            parts,
            is_negated: text.starts_with('!'),
            is_absolute: inner.starts_with('/'),
        })
    }

    /// Whether the last name is written out in it: then its owner has meant that very item.
    pub fn names_its_last(&self) -> bool {
        matches!(self.parts.last(), Some(Part::Name(_)))
    }

    /// Where the path `/` stands.
    pub fn begin(&self) -> State {
        self.closed(1)
    }

    /// Where a path stands.
    pub fn read(&self, path: &Path) -> State {
        names(path).fold(self.begin(), |state, name| self.step(state, name))
    }

    /// Where a path stands that has one more name.
    pub fn step(&self, state: State, name: &[u8]) -> State {
        if self.is_met(state) {
            return state;
        }
        let mut next = State::from(!self.is_absolute);
        let mut left = state;
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            left &= left - 1;
            match self.parts.get(at) {
                Some(Part::Folders) => next |= 1 << at,
                Some(Part::Name(wanted)) if wanted == name => next |= 1 << (at + 1),
                Some(Part::Wild(wanted)) if wanted.fits(name) => next |= 1 << (at + 1),
                _ => {}
            }
        }
        self.closed(next)
    }

    /// Whether the path, or a folder on the way to it, fits.
    pub fn is_met(&self, state: State) -> bool {
        state >> self.parts.len() & 1 == 1
    }

    /// Two stars may stand for no folder at all.
    fn closed(&self, mut state: State) -> State {
        for (at, part) in self.parts.iter().enumerate() {
            if matches!(part, Part::Folders) && state >> at & 1 == 1 {
                state |= 1 << (at + 1);
            }
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, path: &str) -> bool {
        let pattern = Pattern::parse(pattern).unwrap();
        pattern.is_met(pattern.read(Path::new(path)))
    }

    #[test]
    fn paths_fit_as_restic_has_it() {
        for (pattern, yes, no) in [
            (
                "cache",
                &["/srv/cache", "/cache/a/b"][..],
                &["/srv/caches"][..],
            ),
            ("cache/", &["/srv/cache"], &["/srv/caches"]),
            ("/srv/cache", &["/srv/cache/a"], &["/x/srv/cache", "/srv"]),
            ("a/b", &["/a/b", "/x/a/b/c"], &["/a/x/b", "/b"]),
            ("a//b/", &["/x/a/b"], &["/a"]),
            ("a/*/c", &["/a/b/c", "/x/a/b/c/d"], &["/a/c"]),
            ("a/**/c", &["/a/c", "/a/b/c", "/a/b/b/c"], &["/a/b"]),
            // Two stars at the end take the folder itself too.
            ("cache/**", &["/srv/cache", "/srv/cache/a"], &["/srv"]),
            ("/srv/**/x", &["/srv/x", "/srv/a/b/x"], &["/x", "/a/srv/x"]),
            ("**/x", &["/x", "/a/x"], &["/a"]),
            ("**", &["/a"], &[]),
            ("a/a/b", &["/a/a/a/b"], &["/a/b"]),
            ("*.log", &["/var/a.log", "/a.log/x"], &["/var/log"]),
        ] {
            for path in yes {
                assert!(fits(pattern, path), "{pattern} {path}");
            }
            for path in no {
                assert!(!fits(pattern, path), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn what_could_be_meant_otherwise_is_refused() {
        let long = "a/".repeat(121);
        for text in ["", "!", "./cache", "../x", "a/../b", "a\0b", "[", &long] {
            assert!(Pattern::parse(text).is_err(), "{text:?}");
        }
        assert!(Pattern::parse(&"a/".repeat(120)).is_ok());
        assert!(Pattern::parse(&"x".repeat(5000)).is_err());
    }

    #[test]
    fn only_a_name_that_is_written_out_is_meant() {
        let named = |text| Pattern::parse(text).unwrap().names_its_last();
        assert!(named("cache.db") && named("/srv/*/cache.db") && !named("*.db") && !named("x/**"));
    }
}
