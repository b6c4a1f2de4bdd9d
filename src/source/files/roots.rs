//! The roots: what their owner named, and where it really is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::exclude::{Excludes, Named, Rule};
use super::reader::FileReader;
use crate::durable::scratch;
use crate::error::{Error, Result};

/// What to walk through.
#[derive(Debug, Clone)]
pub struct Walk {
    /// The roots as their owner wrote them, which is how they are stored, and where they really are.
    pub(super) roots: BTreeMap<PathBuf, PathBuf>,
    pub(super) excluded: BTreeSet<PathBuf>,
    /// Files that are part of something else, where they really are.
    pub(super) passed_over: BTreeSet<PathBuf>,
    /// What is left out by rule.
    pub(super) excludes: Excludes,
    /// What was named, roots inside others included, and where each really is.
    pub(super) named: Named,
}

impl Walk {
    /// Plans a walk over absolute `roots`, leaving out `excluded` and all below, and what the `rules` say. A
    /// root that is a link stands for what it leads to; links below a root are stored as links.
    ///
    /// # Errors
    /// [`Error::Source`] if a root does not exist or cannot be read; [`Error::Usage`] for one that
    /// would not be stored where it was named, or that a rule leaves out.
    pub fn plan(roots: &[PathBuf], excluded: &[PathBuf], rules: &Excludes) -> Result<Self> {
        let mut real = BTreeMap::new();
        for root in roots {
            let path = readable(root).map_err(|cause| Error::Source {
                name: crate::units::shown(root),
                finding: cause.to_string(),
            })?;
            real.insert(root.clone(), path);
        }
        let walk = Self {
            named: real.clone(),
            roots: real,
            excluded: excluded.iter().cloned().collect(),
            passed_over: BTreeSet::new(),
            excludes: rules.clone(),
        };
        for (root, real) in &walk.roots {
            walk.require_place(root, real)?;
            walk.require_no_rule(root, real)?;
        }
        // A root inside another is part of it already.
        let outer: Vec<PathBuf> = walk.roots.keys().cloned().collect();
        let is_inner = |root: &Path| {
            outer
                .iter()
                .any(|other| other != root && root.starts_with(other))
        };
        let roots = walk.roots.clone().into_iter();
        Ok(Self {
            roots: roots.filter(|(root, _)| !is_inner(root)).collect(),
            ..walk
        })
    }

    /// Refuses a folder that is named and left out at once. A file that is named is stored, whatever the
    /// rules say.
    fn require_no_rule(&self, root: &Path, real: &Path) -> Result<()> {
        if !real.is_dir() {
            return Ok(());
        }
        let mut judge = self.excludes.judge(&self.named);
        let outer = self.roots.keys().find(|other| root.starts_with(other));
        let folders = root.ancestors();
        let mut folders =
            folders.take_while(|folder| outer.is_none_or(|outer| folder.starts_with(outer)));
        let rule = judge
            .by_pattern(root)
            .or_else(|| folders.find_map(|folder| judge.marked(&self.real(folder))));
        let Some(rule) = rule else {
            return Ok(());
        };
        Err(Error::Usage {
            finding: format!(
                "{} was named, and is left out by the rule {}",
                crate::units::shown(root),
                self.excludes.shown(rule)
            ),
            next: format!(
                "take that rule away; for what lies below only, write its pattern as a whole path: {}/**/NAME",
                crate::units::shown(root)
            ),
        })
    }

    /// What is left out by rule.
    #[must_use]
    pub const fn excludes(&self) -> &Excludes {
        &self.excludes
    }

    /// The rule that leaves out a file for its size, if it was not named.
    #[must_use]
    pub fn is_too_large(&self, path: &Path, bytes: u64) -> Option<Rule> {
        let rule = self.excludes.by_size(bytes)?;
        (!self.named.contains_key(path)).then_some(rule)
    }

    /// What was named, and where each really is.
    #[must_use]
    pub const fn named(&self) -> &Named {
        &self.named
    }

    /// Refuses a root that is left out by rule, or that lies inside another root behind a link: the
    /// other would store the link in its place.
    fn require_place(&self, root: &Path, real: &Path) -> Result<()> {
        let usage = |finding: &str, next: String| {
            Err(Error::Usage {
                finding: format!("{} {finding}", crate::units::shown(root)),
                next,
            })
        };
        let excluded = |path: &Path| self.excluded.iter().any(|other| path.starts_with(other));
        let nested = self
            .roots
            .keys()
            .filter_map(|other| root.strip_prefix(other).ok());
        let in_scratch = nested.chain(root.file_name().map(Path::new));
        if excluded(root)
            || excluded(real)
            || in_scratch
                .into_iter()
                .any(|way| way.iter().any(scratch::is_scratch))
        {
            return usage(
                "is a folder of tillsafe's own: a repository, or work in progress",
                "name what is to be backed up".to_owned(),
            );
        }
        for (other, real_other) in &self.roots {
            let Ok(inner) = root.strip_prefix(other) else {
                continue;
            };
            if other != root && real != real_other.join(inner) {
                return usage(
                    &format!(
                        "lies behind a link inside {}, which is stored as a link",
                        crate::units::shown(other)
                    ),
                    format!("name {} instead", crate::units::shown(real)),
                );
            }
        }
        Ok(())
    }

    /// Passes over these files of the walk from now on, without a look: they are part of something else
    /// that is captured, and may come and go meanwhile. A folder of such a name is none of them.
    pub fn pass_over(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let real: Vec<PathBuf> = files.into_iter().map(|file| self.real(&file)).collect();
        self.passed_over.extend(real);
    }

    /// Where a path of the walk really is: no link leads to it.
    #[must_use]
    pub fn real(&self, path: &Path) -> PathBuf {
        let inside = |(root, real): (&PathBuf, &PathBuf)| {
            let inner = path.strip_prefix(root).ok()?;
            // Joining an empty path would add a slash.
            Some(if inner.as_os_str().is_empty() {
                real.clone()
            } else {
                real.join(inner)
            })
        };
        self.roots
            .iter()
            .find_map(inside)
            .unwrap_or_else(|| path.to_owned())
    }
}

/// Where a root really is, if it can be read at all.
fn readable(root: &Path) -> std::io::Result<PathBuf> {
    let real = std::fs::canonicalize(root)?;
    if real.is_dir() {
        std::fs::read_dir(&real)?;
    } else if real.is_file() {
        FileReader::open(&real)?;
    }
    Ok(real)
}
