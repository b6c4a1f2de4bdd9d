//! Which series a snapshot belongs to.

use std::fmt;

use crate::id::{Hasher, Id};
use crate::repository::snapshot::Snapshot;
use crate::units::{Shown, quoted};

/// How a snapshot says which shop it is of.
const SHOP: &str = "shop=";
/// Most letters that are shown of what a snapshot says: its length is in nobody's hands.
const MAX_SHOWN: usize = 200;

/// A series of snapshots: a policy keeps so many of each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Those with the tag `shop=NAME`, whatever machine they were made on: a rebuilt one goes on with
    /// the series.
    Shop(String),
    /// All others, by machine and paths.
    Place {
        /// The machine's name.
        host: String,
        /// The paths, sorted.
        paths: Vec<String>,
    },
}

impl Group {
    /// The series of a snapshot. One that names several shops is of none.
    #[must_use]
    pub fn of(tags: &[String], host: &str, paths: &[String]) -> Self {
        let mut shops: Vec<&str> = tags
            .iter()
            .filter_map(|tag| tag.strip_prefix(SHOP))
            .collect();
        shops.sort_unstable();
        shops.dedup();
        if let [shop] = shops[..] {
            return Self::Shop(shop.to_owned());
        }
        let mut paths = paths.to_vec();
        paths.sort_unstable();
        Self::Place {
            host: host.to_owned(),
            paths,
        }
    }

    /// The series of a snapshot that is there.
    #[must_use]
    pub fn of_snapshot(snapshot: &Snapshot) -> Self {
        let file = &snapshot.file;
        Self::of(&file.tags, &file.hostname, &file.paths)
    }

    /// The flags that choose it, as a shell takes them.
    #[must_use]
    pub fn flags(&self) -> String {
        match self {
            Self::Shop(name) => format!("--shop {}", quoted(name)),
            Self::Place { host, paths } => {
                let paths = paths.iter().map(|path| format!(" --path {}", quoted(path)));
                format!("--host {}{}", quoted(host), paths.collect::<String>())
            }
        }
    }

    /// What stands for the series where its name would be too long.
    #[must_use]
    pub fn key(&self) -> Id {
        let parts: Vec<&str> = match self {
            Self::Shop(name) => vec![name],
            Self::Place { host, paths } => {
                let paths = paths.iter().map(String::as_str);
                [SHOP, host].into_iter().chain(paths).collect()
            }
        };
        let mut hasher = Hasher::default();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finish()
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shop(name) => write!(f, "{SHOP}{}", short(name)),
            Self::Place { host, paths } => {
                write!(f, "{}:{}", short(host), short(&paths.join(" ")))
            }
        }
    }
}

fn short(text: &str) -> String {
    let end = text.char_indices().nth(MAX_SHOWN).map(|(at, _)| at);
    let cut = &text[..end.unwrap_or(text.len())];
    let mark = if end.is_some() { " …" } else { "" };
    format!("{}{mark}", Shown(cut.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::Group;

    fn group(tags: &[&str], host: &str, paths: &[&str]) -> Group {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let (tags, paths): (Vec<String>, Vec<String>) = (owned(tags), owned(paths));
        Group::of(&tags, host, &paths)
    }

    #[test]
    fn a_shop_is_one_series_on_every_machine() {
        let old = group(&["nightly", "shop=mara"], "old", &["/srv"]);
        let new = group(&["shop=mara", "shop=mara"], "new", &["/var"]);
        assert_eq!(old, new);
        assert_eq!(old.to_string(), "shop=mara");
    }

    #[test]
    fn all_else_is_grouped_by_machine_and_paths_in_any_order() {
        let one = group(&["nightly"], "till", &["/b", "/a"]);
        assert_eq!(one, group(&[], "till", &["/a", "/b"]));
        assert_ne!(one, group(&[], "other", &["/a", "/b"]));
        assert_ne!(one, group(&[], "till", &["/a"]));
        assert_eq!(one.to_string(), "till:/a /b");
        assert_ne!(one.key(), group(&[], "till", &["/a /b"]).key());
        assert_ne!(one.key(), group(&[], "till", &["/a/b"]).key());
        let long = group(&[], "till", &["/é".repeat(9000).as_str()]);
        assert!(long.to_string().chars().count() < 300);
        let two_shops = group(&["shop=a", "shop=b"], "till", &["/a", "/b"]);
        assert_eq!(one, two_shops, "it does not say which");
    }
}
