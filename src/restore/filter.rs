//! Which items of a snapshot are restored: a folder of it, and patterns that take in or leave out.
//!
//! A pattern with a slash is meant from the restored folder, one without is a name at any depth. A
//! folder that matches brings all below it. What is left out stays out, whatever takes it in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::glob::{Case, Glob};

/// What is restored of a snapshot.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The folder or file of the snapshot that lands in the target; `/` for all.
    pub base: PathBuf,
    /// Which of the items below it.
    pub filter: Filter,
}

impl Selection {
    /// Everything below `base`.
    #[must_use]
    pub fn whole(base: &Path) -> Self {
        Self {
            base: base.to_owned(),
            filter: Filter::default(),
        }
    }
}

/// Patterns of what is taken in and of what is left out. Written as JSON it is the same text for
/// the same patterns, whatever their order.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Filter {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    /// Where the paths that are judged begin, seen from where the patterns are meant from.
    #[serde(skip)]
    begin: PathBuf,
}

/// What a filter makes of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Restored, and so is all below it that is not left out.
    Selected,
    /// A folder that may lead to something selected.
    OnTheWay,
    /// Not restored, and nothing below it.
    LeftOut,
}

impl Filter {
    /// Takes in what one of `include` names (all, if there is none), but not what one of `exclude` does.
    ///
    /// # Errors
    /// [`Error::Usage`] for a pattern that cannot be read, or that fits no path.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self> {
        let parse = |patterns: &[String]| {
            let different: BTreeSet<&String> = patterns.iter().collect();
            different
                .into_iter()
                .map(|pattern| Pattern::parse(pattern))
                .collect::<Result<_>>()
        };
        Ok(Self {
            include: parse(include)?,
            exclude: parse(exclude)?,
            begin: PathBuf::new(),
        })
    }

    /// The same patterns for paths that are relative to the folder `inner`. `None` if nothing in it can
    /// be selected.
    pub(super) fn seen_from(&self, inner: &Path) -> Option<Self> {
        let outer = Self {
            begin: PathBuf::new(),
            ..self.clone()
        };
        let mut way = PathBuf::new();
        let mut inside = outer.takes_all();
        for name in inner {
            way.push(name);
            match outer.judge(&way, true, inside) {
                Verdict::Selected => inside = true,
                Verdict::OnTheWay => {}
                Verdict::LeftOut => return None,
            }
        }
        Some(Self {
            begin: inner.to_owned(),
            ..outer
        })
    }

    /// Whether everything is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Whether the item at `path`, relative to the restored folder, is selected.
    #[must_use]
    pub fn selects(&self, path: &Path) -> bool {
        let mut inside = self.takes_all();
        let mut inner = PathBuf::new();
        for name in path {
            inner.push(name);
            match self.judge(&inner, true, inside) {
                Verdict::Selected => inside = true,
                Verdict::OnTheWay => {}
                Verdict::LeftOut => return false,
            }
        }
        inside
    }

    /// Whether nothing need be taken in by name.
    pub(super) fn takes_all(&self) -> bool {
        let outer = || {
            self.begin
                .ancestors()
                .filter(|path| !path.as_os_str().is_empty())
        };
        let named = |path: &Path| self.include.iter().any(|pattern| pattern.matches(path));
        self.include.is_empty() || outer().any(named)
    }

    /// Judges one item; `inside` says whether the folder that it lies in is selected.
    pub(super) fn judge(&self, path: &Path, is_folder: bool, inside: bool) -> Verdict {
        let path = &self.begin.join(path);
        let matches = |pattern: &Pattern| pattern.matches(path);
        if self.exclude.iter().any(matches) {
            Verdict::LeftOut
        } else if inside || self.include.iter().any(matches) {
            Verdict::Selected
        } else if is_folder && self.include.iter().any(|pattern| pattern.may_lie_in(path)) {
            Verdict::OnTheWay
        } else {
            Verdict::LeftOut
        }
    }

    /// The patterns as they were typed.
    pub(super) fn words(&self) -> String {
        let include = self.include.iter().map(|pattern| ("--include", pattern));
        let exclude = self.exclude.iter().map(|pattern| ("--exclude", pattern));
        let words = include.chain(exclude);
        let words: Vec<String> = words
            .map(|(flag, pattern)| format!("{flag} {}", pattern.text))
            .collect();
        words.join(" ")
    }
}

/// One pattern.
#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    glob: Glob,
    /// Meant from the restored folder; else a name at any depth.
    is_anchored: bool,
    /// The leading folders that are written out in it.
    begins: PathBuf,
}

impl Serialize for Pattern {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self> {
        let usage = |finding: &str| {
            Error::Usage {
            finding: format!("the pattern {text:?} {finding}"),
            next: "write a name (`*.jpg`), or a path from the restored folder (`pictures/**/*.jpg`); put a backslash before a letter that is meant as it stands".to_owned(),
        }
        };
        let inner = text.trim_start_matches('/').trim_end_matches('/');
        if inner.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(usage("fits no path in a snapshot"));
        }
        let glob = Glob::new(inner, Case::Differs)
            .map_err(|cause| usage(&format!("cannot be read: {cause}")))?;
        let is_plain = |part: &&str| !part.contains(['*', '?', '[', '{', '\\']);
        Ok(Self {
            text: text.to_owned(),
            glob,
            is_anchored: text.contains('/'),
            begins: inner.split('/').take_while(is_plain).collect(),
        })
    }

    fn matches(&self, path: &Path) -> bool {
        if self.is_anchored {
            return self.glob.matches(path);
        }
        path.file_name()
            .is_some_and(|name| self.glob.matches(Path::new(name)))
    }

    /// Whether something below `folder` may match. It is never wrong to say so.
    fn may_lie_in(&self, folder: &Path) -> bool {
        !self.is_anchored || folder.starts_with(&self.begins) || self.begins.starts_with(folder)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let owned = |patterns: &[&str]| patterns.iter().map(|text| (*text).to_owned()).collect();
        let (include, exclude): (Vec<String>, Vec<String>) = (owned(include), owned(exclude));
        Filter::new(&include, &exclude).unwrap()
    }

    #[test]
    fn patterns_select_as_they_are_meant() {
        for (include, exclude, yes, no) in [
            (&[][..], &[][..], &["a", "a/b"][..], &[][..]),
            (
                &["*.jpg"],
                &[],
                &["a.jpg", "x/y/a.jpg", "x.jpg/in/it"],
                &["a.png", "jpg", "x/a.jpg2"],
            ),
            (
                &["pictures"],
                &[],
                &["pictures", "pictures/a", "x/pictures/b"],
                &["pictures2", "x"],
            ),
            (
                &["/pictures"],
                &[],
                &["pictures/a"],
                &["x/pictures", "x/pictures/a"],
            ),
            (
                &["pictures/"],
                &[],
                &["pictures", "pictures/a"],
                &["x/pictures"],
            ),
            (
                &["pictures/*.jpg"],
                &[],
                &["pictures/a.jpg"],
                &["pictures", "pictures/old/a.jpg", "x/pictures/a.jpg"],
            ),
            (
                &["pictures/**"],
                &[],
                &["pictures/a", "pictures/old/a"],
                &["pictures", "x/pictures/a"],
            ),
            (
                &["**/old/*"],
                &[],
                &["old/a", "x/old/a", "x/y/old/a/b"],
                &["old", "x/old"],
            ),
            (
                &["a/**/z"],
                &[],
                &["a/z", "a/b/z", "a/b/c/z"],
                &["b/a/z", "a"],
            ),
            (
                &[],
                &["*.log", "cache/"],
                &["a", "x/cache"],
                &["a.log", "x/a.log", "cache", "cache/a"],
            ),
            (
                &["pictures"],
                &["old"],
                &["pictures/a"],
                &["pictures/old", "pictures/old/a", "old"],
            ),
            (&["pictures/old/a"], &["pictures"], &[], &["pictures/old/a"]),
            (
                &["a?c", "[xy]*", "{p,q}r"],
                &[],
                &["abc", "x", "yes", "pr", "qr"],
                &["a/c", "ac", "z", "r"],
            ),
            (&["\\*"], &[], &["*"], &["a", "\\*"]),
        ] {
            let filter = filter(include, exclude);
            for path in yes {
                assert!(
                    filter.selects(Path::new(path)),
                    "{}: {path}",
                    filter.words()
                );
            }
            for path in no {
                assert!(
                    !filter.selects(Path::new(path)),
                    "{}: {path}",
                    filter.words()
                );
            }
        }
        let odd = Path::new(OsStr::from_bytes(b"caf\xe9/men\xfc.txt"));
        assert!(filter(&["*.txt"], &[]).selects(odd));
        assert!(filter(&["caf*/m*"], &[]).selects(odd));
    }

    #[test]
    fn folders_that_hold_nothing_selected_are_not_on_the_way() {
        let judge = |filter: &Filter, path: &str| filter.judge(Path::new(path), true, false);
        let anchored = filter(&["srv/shop/*.db"], &["srv/shop/old"]);
        for (path, verdict) in [
            ("srv", Verdict::OnTheWay),
            ("srv/shop", Verdict::OnTheWay),
            ("srv/shop/old", Verdict::LeftOut),
            ("srv/other", Verdict::LeftOut),
            ("home", Verdict::LeftOut),
        ] {
            assert_eq!(judge(&anchored, path), verdict, "{path}");
        }
        assert_eq!(judge(&filter(&["*.db"], &[]), "any"), Verdict::OnTheWay);
        assert_eq!(judge(&filter(&[], &["x"]), "any"), Verdict::LeftOut);
    }

    #[test]
    fn patterns_mean_the_same_from_an_inner_folder() {
        let inner = Path::new("srv/shop");
        for (include, exclude, yes, no) in [
            (
                &["srv/shop/*.db"][..],
                &[][..],
                &["a.db"][..],
                &["a", "x/a.db"][..],
            ),
            (&["srv"], &["shop/old"], &["a", "old"], &[]),
            (&["shop"], &["srv/shop/old"], &["a"], &["old", "old/a"]),
            (&["*.db"], &[], &["a.db", "x/a.db"], &["a"]),
            (&[], &["*.log"], &["a"], &["a.log"]),
        ] {
            let filter = filter(include, exclude).seen_from(inner).unwrap();
            for path in yes {
                assert!(
                    filter.selects(Path::new(path)),
                    "{}: {path}",
                    filter.words()
                );
            }
            for path in no {
                assert!(
                    !filter.selects(Path::new(path)),
                    "{}: {path}",
                    filter.words()
                );
            }
        }
        assert!(filter(&[], &["srv"]).seen_from(inner).is_none());
        assert!(filter(&["etc/*"], &[]).seen_from(inner).is_none());
    }

    #[test]
    fn what_cannot_be_a_pattern_is_refused_by_name() {
        for text in ["", "/", "a//b", "./a", "../a", "a/..", "[a", "{a,b", "a\\"] {
            let refused = Filter::new(&[text.to_owned()], &[]).unwrap_err();
            assert!(matches!(refused, Error::Usage { .. }), "{text}");
            let named = format!("{text:?}");
            assert!(refused.to_string().contains(&named), "{refused}");
        }
    }

    #[test]
    fn equal_patterns_have_one_text() {
        let text = |filter: &Filter| serde_json::to_string(filter).unwrap();
        let one = filter(&["b", "a", "b"], &["c/"]);
        assert_eq!(text(&one), r#"{"include":["a","b"],"exclude":["c/"]}"#);
        assert_eq!(text(&one), text(&filter(&["a", "b"], &["c/"])));
    }
}
