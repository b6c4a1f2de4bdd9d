//! A database that is stored as a base and the log of what changed since: found in a snapshot, and looked at before
//! anything is read of it. [`super::fold`] makes it whole.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::item::Log;
use super::read_back::length_of;
use crate::capture::manifest;
use crate::id::Id;
use crate::repository::index::Index;
use crate::repository::name;
use crate::repository::tree::{Content, Node};
use crate::source::sqlite::{beside, wal, without};

/// Databases of a snapshot that are stored as two files, by the folder that they lie in, and their names.
#[derive(Debug, Default)]
pub(super) struct Logs<'a>(HashMap<PathBuf, HashMap<OsString, &'a manifest::Database>>);

impl<'a> Logs<'a> {
    pub(super) fn of(manifest: Option<&'a manifest::Manifest>) -> Self {
        let mut logs = Self::default();
        let databases = manifest.into_iter().flat_map(|one| &one.databases);
        for database in databases.filter(|database| database.log.is_some()) {
            let path = name::unquote_path(&database.path).unwrap_or_default();
            if let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
                let names = logs.0.entry(folder.to_owned()).or_default();
                names.insert(name.to_owned(), database);
            }
        }
        logs
    }

    /// Whether one lies at this path of the snapshot or below it.
    pub(super) fn are_below(&self, folder: &Path) -> bool {
        self.has(folder) || self.0.keys().any(|path| path.starts_with(folder))
    }

    /// Whether the file at this path of the snapshot is the base of one.
    pub(super) fn has(&self, path: &Path) -> bool {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return false;
        };
        (self.0.get(folder)).is_some_and(|names| names.contains_key(name))
    }

    /// The database that the file at this path of the snapshot is the log of.
    pub(super) fn base_of(&self, path: &Path) -> Option<PathBuf> {
        without(path, "-wal").filter(|base| self.has(base))
    }

    /// Those in the folder at this path of the snapshot, which has these nodes, by name.
    pub(super) fn in_folder(&self, folder: &Path, nodes: &[Node]) -> HashMap<OsString, Found> {
        let here = self.0.get(folder).into_iter().flatten();
        here.map(|(name, database)| (name.clone(), find(nodes, name, database)))
            .collect()
    }
}

/// A log, and the bytes of the image that it makes with its base; or what is wrong with it.
type Found = std::result::Result<(Log, u64), String>;

/// The name of the log beside a database of this name.
pub(super) fn log_name(name: &OsStr) -> OsString {
    beside(Path::new(name), "-wal").into_os_string()
}

/// The log of `database` among the nodes of its folder.
fn find(nodes: &[Node], name: &OsStr, database: &manifest::Database) -> Found {
    let name = log_name(name);
    let node = nodes.iter().find(|node| node.entry.name == name);
    let shown = crate::units::shown(name.as_ref());
    let (Some(Content::File { blobs, .. }), Some(described)) =
        (node.map(|node| &node.content), database.log)
    else {
        return Err(format!(
            "{shown}, the log of what changed in it, is not in the snapshot, and it is not whole without"
        ));
    };
    let page_bytes = u64::from(described.page_bytes);
    let is_sound = described.page_bytes.is_power_of_two()
        && (512..=65536).contains(&page_bytes)
        && database.size_bytes.is_multiple_of(page_bytes)
        && u32::try_from(database.size_bytes / page_bytes).is_ok();
    if !is_sound {
        return Err("the manifest contradicts itself on its pages".to_owned());
    }
    let log = Log {
        blobs: blobs.clone(),
        described,
        image_sha256: database.image_sha256,
    };
    Ok((log, database.size_bytes))
}

impl Log {
    /// What the index alone shows to be wrong with an image of so many bytes: not as much of it as was stored, not in whole
    /// pages, or more than base and log can make, or are ever made of.
    pub(super) fn fault(&self, index: &Index, base: &[Id], image_bytes: u64) -> Option<String> {
        let page = u64::from(self.described.page_bytes);
        let frame = page + wal::FRAME_HEAD as u64;
        let (base_pages, frames) = (
            self.described.base_bytes / page,
            self.described.log_bytes / frame,
        );
        let pages = image_bytes / page;
        let is_too_large = pages > base_pages.saturating_add(frames);
        if is_too_large || frames > base_pages.saturating_add(pages).saturating_add(1) {
            return Some("its log is longer, or its image larger, than they can be".to_owned());
        }
        let stored = self.described.base_bytes;
        let held = sum(index, base, |_, length| length.is_multiple_of(page));
        if held != Some(stored) {
            return Some(format!(
                "its base is not the {stored} bytes that were stored"
            ));
        }
        let stored = self.described.log_bytes;
        let held = sum(index, &self.blobs, |number, length| {
            let header = if number == 0 { wal::HEADER as u64 } else { 0 };
            length
                .checked_sub(header)
                .is_some_and(|rest| rest.is_multiple_of(frame))
        });
        (held != Some(stored))
            .then(|| format!("its log is not the {stored} bytes that were stored"))
    }
}

/// Bytes of these blobs, if each has a length that `suits`.
fn sum(index: &Index, blobs: &[Id], suits: impl Fn(usize, u64) -> bool) -> Option<u64> {
    let mut lengths = blobs.iter().map(|id| length_of(index, *id)).enumerate();
    lengths.try_fold(0_u64, |sum, (number, length)| {
        suits(number, length).then(|| sum.saturating_add(length))
    })
}
