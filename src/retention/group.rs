//! Which series a snapshot belongs to.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::Shown;

/// How a snapshot says which shop it is of.
const SHOP: &str = "shop=";

/// A series of snapshots: a policy keeps so many of each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shop(name) => write!(f, "{SHOP}{}", Shown(name.as_bytes())),
            Self::Place { host, paths } => {
                let paths = paths.join(" ");
                write!(f, "{}:{}", Shown(host.as_bytes()), Shown(paths.as_bytes()))
            }
        }
    }
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
        let two_shops = group(&["shop=a", "shop=b"], "till", &["/a", "/b"]);
        assert_eq!(one, two_shops, "it does not say which");
    }
}
