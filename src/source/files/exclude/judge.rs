//! What the rules make of one item after the other, along a walk.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::pattern::{State, names};
use super::{Excludes, Mark, Rule, small_name};
use crate::source::files::FileReader;

/// The paths that were named, roots inside others included: no rule leaves them out, nor the folders that
/// lead to them.
pub type Named = BTreeMap<PathBuf, PathBuf>;

/// Judges the items of a walk. Items of one folder should come one after the other: what their paths have in
/// common is then judged once.
#[derive(Debug)]
pub struct Judge<'a> {
    excludes: &'a Excludes,
    named: &'a Named,
    /// The folders that lead to the item that was judged last, from `/` on.
    levels: Vec<Level>,
    /// The device of each named path, once asked.
    devices: BTreeMap<&'a Path, Option<u64>>,
}

/// A folder.
#[derive(Debug)]
struct Level {
    name: OsString,
    /// Where its path stands in each pattern.
    states: Vec<State>,
    /// The marks that lie in it, once looked for.
    marks: Option<Vec<usize>>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(excludes: &'a Excludes, named: &'a Named) -> Self {
        let patterns = excludes.lists.iter().flat_map(|list| &list.patterns);
        let top = Level {
            name: OsString::new(),
            states: patterns.map(|(_, pattern)| pattern.begin()).collect(),
            marks: None,
        };
        Self {
            excludes,
            named,
            levels: vec![top],
            devices: BTreeMap::new(),
        }
    }

    /// The rule that leaves the item at `path` out; it really lies at `real`. Only its name is looked at,
    /// and what lies beside it: it need not be readable.
    pub fn leaves_out(&mut self, path: &Path, real: &Path) -> Option<Rule> {
        if self.excludes.is_empty() || self.is_on_the_way(path) {
            return None;
        }
        let by_pattern = self.by_pattern(path);
        by_pattern.or_else(|| self.by_mark(path, real))
    }

    /// The rule that leaves the item at `path` out because its device is another than its root's.
    pub fn leaves_out_device(&mut self, path: &Path, device: u64) -> Option<Rule> {
        let rule = self.excludes.other_file_system?;
        if self.is_on_the_way(path) {
            return None;
        }
        let named = self.named;
        let roots = named.iter().filter(|(root, _)| path.starts_with(root));
        let (root, real) = roots.max_by_key(|(root, _)| root.as_os_str().len())?;
        let own = self.devices.entry(root).or_insert_with(|| {
            let metadata = std::fs::metadata(real);
            metadata.map(|metadata| metadata.dev()).ok()
        });
        own.is_some_and(|own| own != device).then_some(rule)
    }

    /// Whether a path is one that was named, or leads to one.
    fn is_on_the_way(&self, path: &Path) -> bool {
        // What begins with a path comes right after it, in the order of paths.
        let mut after = self
            .named
            .range::<Path, _>((Bound::Included(path), Bound::Unbounded));
        after
            .next()
            .is_some_and(|(named, _)| named.starts_with(path))
    }

    /// The rule whose pattern leaves a path out, whoever named it.
    pub fn by_pattern(&mut self, path: &Path) -> Option<Rule> {
        let name = path.file_name()?.as_bytes();
        self.go_to(path.parent()?);
        let states = &self.levels.last()?.states;
        self.deciding(states, name)
    }

    /// The rule that decides about an item with this name in a folder whose path stands at `states`.
    fn deciding(&self, states: &[State], name: &[u8]) -> Option<Rule> {
        let mut states = states.iter();
        for list in &self.excludes.lists {
            let folded = list.any_case.then(|| small_name(name));
            let name = folded.as_deref().unwrap_or(name);
            let mut decides = None;
            for (rule, pattern) in &list.patterns {
                let state = *states.next()?;
                // What would change nothing need not be read; but what its owner has named is left out by that,
                // and not by a wildcard before it.
                let is_named = decides.is_some() && pattern.names_its_last();
                if pattern.is_negated == decides.is_none() && !is_named {
                    continue;
                }
                if pattern.is_met(pattern.step(state, name)) {
                    decides = (!pattern.is_negated).then_some(*rule);
                }
            }
            if decides.is_some() {
                return decides;
            }
        }
        None
    }

    /// The rule whose mark lies beside the item.
    fn by_mark(&mut self, path: &Path, real: &Path) -> Option<Rule> {
        let name = path.file_name()?;
        if self.excludes.marks.is_empty() {
            return None;
        }
        let (folder, excludes) = (real.parent()?, self.excludes);
        self.go_to(path.parent()?);
        let level = self.levels.last_mut()?;
        let found = level.marks.get_or_insert_with(|| {
            let marks = excludes.marks.iter().enumerate();
            let there = marks.filter(|(_, mark)| mark.lies_in(folder));
            there.map(|(number, _)| number).collect()
        });
        let mut others = found.iter().map(|number| &excludes.marks[*number]);
        others.find(|mark| mark.name != name).map(|mark| mark.rule)
    }

    /// The rule whose mark lies in a folder, and so leaves out what it holds.
    #[must_use]
    pub fn marked(&self, folder: &Path) -> Option<Rule> {
        let mut marks = self.excludes.marks.iter();
        marks
            .find(|mark| mark.lies_in(folder))
            .map(|mark| mark.rule)
    }

    /// Makes `folder` the last level.
    fn go_to(&mut self, folder: &Path) {
        let mut names = names(folder);
        let mut known = 1;
        let missing = loop {
            let Some(name) = names.next() else {
                break None;
            };
            match self.levels.get(known) {
                Some(level) if level.name.as_bytes() == name => known += 1,
                _ => break Some(name),
            }
        };
        self.levels.truncate(known);
        for name in missing.into_iter().chain(names) {
            let states = self
                .levels
                .last()
                .map_or(Vec::new(), |above| self.stepped(&above.states, name));
            self.levels.push(Level {
                name: OsStr::from_bytes(name).to_owned(),
                states,
                marks: None,
            });
        }
    }

    fn stepped(&self, states: &[State], name: &[u8]) -> Vec<State> {
        let mut states = states.iter();
        let mut next = Vec::with_capacity(states.len());
        for list in &self.excludes.lists {
            let folded = list.any_case.then(|| small_name(name));
            let name = folded.as_deref().unwrap_or(name);
            let patterns = list.patterns.iter().zip(&mut states);
            next.extend(patterns.map(|((_, pattern), state)| pattern.step(*state, name)));
        }
        next
    }
}

impl Mark {
    /// Whether it lies in a folder, and begins as it must. One that cannot be read leaves nothing out.
    fn lies_in(&self, folder: &Path) -> bool {
        let path = folder.join(&self.name);
        if self.header.is_empty() {
            return std::fs::symlink_metadata(path).is_ok();
        }
        let mut head = vec![0; self.header.len()];
        FileReader::open(&path)
            .and_then(|reader| (&reader).read_exact(&mut head))
            .is_ok_and(|()| head == self.header)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rules;
    use super::*;

    fn excludes(patterns: &[&str], any_case: &[&str]) -> Excludes {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Excludes::new(Rules {
            patterns: owned(patterns),
            any_case_patterns: owned(any_case),
            ..Rules::default()
        })
        .unwrap()
    }

    #[test]
    fn the_last_pattern_that_fits_decides() {
        for (patterns, any_case, left_out, kept) in [
            (
                &["*.log", "!keep.log"][..],
                &[][..],
                &["/a/b.log"][..],
                &["/a/keep.log", "/a/b"][..],
            ),
            // A folder below one that is taken back is judged by the folder.
            (
                &["s/*", "!s/keep"],
                &[],
                &["/s/a", "/s/b/c"],
                &["/s/keep", "/s/keep/x", "/s"],
            ),
            (&["!keep.log", "*.log"], &[], &["/keep.log"], &[]),
            (
                &["*.log", "!keep.log", "keep*"],
                &[],
                &["/keep.log", "/keeper"],
                &["/kee"],
            ),
            (
                &["b.LOG"],
                &["*.JPG", "!A.jpg"],
                &["/x.jpg", "/x.JPG", "/b.LOG"],
                &["/a.JPG", "/b.log"],
            ),
            // Each kind of list by itself.
            (&["!a.jpg"], &["*.jpg"], &["/a.jpg"], &[]),
            (&[], &["T\u{d6}PFE"], &["/t\u{f6}pfe/a"], &["/topfe"]),
        ] {
            let excludes = excludes(patterns, any_case);
            let named = Named::new();
            let mut judge = excludes.judge(&named);
            let mut rule = |path: &&str| judge.by_pattern(Path::new(path));
            for path in left_out {
                assert!(rule(path).is_some(), "{patterns:?} {any_case:?} {path}");
            }
            for path in kept {
                assert_eq!(rule(path), None, "{patterns:?} {any_case:?} {path}");
            }
        }
    }

    #[test]
    fn what_was_named_is_never_left_out_nor_the_way_to_it() {
        let excludes = excludes(&["data"], &[]);
        let path = PathBuf::from("/srv/data/shop.db");
        let named = Named::from([(path.clone(), path)]);
        let mut judge = excludes.judge(&named);
        for (path, is_left_out) in [
            ("/srv/data", false),
            ("/srv/data/shop.db", false),
            ("/srv/data/other", true),
            ("/srv/data2", false),
            ("/srv/x/data", true),
        ] {
            let path = Path::new(path);
            assert_eq!(
                judge.leaves_out(path, path).is_some(),
                is_left_out,
                "{path:?}"
            );
        }
    }
}
