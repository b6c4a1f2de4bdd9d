//! Patterns for names and paths: how they are read, and what they fit.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

/// Whether capital and small letters differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// They do.
    Differs,
    /// They do not.
    Ignored,
}

/// A pattern. A star and a question mark fit no slash, two stars fit any number of folders.
#[derive(Debug, Clone)]
pub struct Glob {
    matcher: GlobMatcher,
    is_path: bool,
    case: Case,
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str, case: Case) -> Result<Self, String> {
        let folded;
        let pattern = match case {
            Case::Differs => text,
            Case::Ignored => {
                folded = text.to_lowercase();
                &folded
            }
        };
        let glob = GlobBuilder::new(pattern)
            .literal_separator(true)
            .build()
            .map_err(|cause| cause.kind().to_string())?;
        Ok(Self {
            matcher: glob.compile_matcher(),
            is_path: text.contains('/'),
            case,
        })
    }

    /// Whether it is meant for paths: it has a slash.
    #[must_use]
    pub const fn is_path(&self) -> bool {
        self.is_path
    }

    /// Whether all of `path` fits.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        match self.case {
            Case::Differs => self.matcher.is_match(path),
            Case::Ignored => self.matcher.is_match(small(path)),
        }
    }

    /// Whether `path` fits, or for a pattern without a slash its last name.
    #[must_use]
    pub fn fits(&self, path: &Path) -> bool {
        if self.is_path {
            return self.matches(path);
        }
        let name = path.file_name();
        name.is_some_and(|name| self.matches(Path::new(name)))
    }
}

/// A path in small letters, as far as it has letters.
fn small(path: &Path) -> PathBuf {
    let text = path.to_str().map(str::to_lowercase);
    let bytes = || OsString::from_vec(path.as_os_str().as_bytes().to_ascii_lowercase());
    text.map_or_else(|| bytes().into(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn case_is_ignored_only_on_request() {
        for (pattern, path, differs, ignored) in [
            ("*.JPG", "/srv/a.jpg", false, true),
            ("*.jpg", "/srv/a.jpg", true, true),
            ("töpf*", "/srv/TÖPFEREI", false, true),
            ("/SRV/**/b", "/srv/x/y/b", false, true),
            ("/srv/*", "/srv/x/y", false, false),
            ("[A-C]x", "/bx", false, true),
        ] {
            let fits = |case| Glob::new(pattern, case).unwrap().fits(Path::new(path));
            assert_eq!(fits(Case::Differs), differs, "{pattern} {path}");
            assert_eq!(fits(Case::Ignored), ignored, "{pattern} {path}");
        }
        let odd = Path::new(OsStr::from_bytes(b"/CAF\xe9.TXT"));
        assert!(Glob::new("*.txt", Case::Ignored).unwrap().fits(odd));
    }
}
