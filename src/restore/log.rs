//! A database that is stored as a base and the log of what changed since: made whole while it is fetched.
//!
//! Blobs come in the order of their packs, on all cores. For each page the number of the newest frame that was written is
//! kept, so an older one, or the base, never comes over a newer one; and since the newest blobs of the log
//! are asked for first, nearly every page is written once. No log lies on the disk, and no page is read for it.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::item::{Item, Log};
use super::read_back::length_of;
use crate::capture::manifest;
use crate::error::Result;
use crate::id::Id;
use crate::parallel::lock;
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

/// Pages that share a lock.
const TOGETHER: usize = 4096;

/// An image in the making.
pub(super) struct Fold {
    page_bytes: usize,
    /// For each page the newest frame that was written: its number in the log from 1, or 0.
    newest: Vec<Mutex<Vec<u32>>>,
    pages: usize,
}

/// Writes bytes at an offset.
type Write<'a> = &'a dyn Fn(&[u8], u64) -> Result<()>;

impl Fold {
    pub(super) fn new(item: &Item) -> Option<Self> {
        let log = item.log.as_ref()?;
        let page_bytes = log.described.page_bytes as usize;
        let pages = usize::try_from(item.content.size()).ok()? / page_bytes;
        let stretches = (0..pages).step_by(TOGETHER);
        let newest = stretches
            .map(|first| Mutex::new(vec![0; TOGETHER.min(pages - first)]))
            .collect();
        Some(Self {
            page_bytes,
            newest,
            pages,
        })
    }

    /// Writes what stands at `offset` in the base, but for pages that are newer already. Returns the bytes written.
    pub(super) fn base(&self, bytes: &[u8], offset: u64, write: Write<'_>) -> Result<u64> {
        let first = usize::try_from(offset).unwrap_or(usize::MAX) / self.page_bytes;
        let end = (first + bytes.len() / self.page_bytes).min(self.pages);
        let (mut page, mut written) = (first, 0);
        while page < end {
            let newest = lock(&self.newest[page / TOGETHER]);
            let last = end.min((page / TOGETHER + 1) * TOGETHER);
            while page < last {
                let is_old = |page: &usize| newest[*page % TOGETHER] > 0;
                let skipped = (page..last).take_while(is_old).count();
                let begin = page + skipped;
                let run = (begin..last).take_while(|page| !is_old(page)).count();
                page = begin + run;
                if run > 0 {
                    let from = (begin - first) * self.page_bytes;
                    let bytes = &bytes[from..from + run * self.page_bytes];
                    write(bytes, (begin * self.page_bytes) as u64)?;
                    written += bytes.len() as u64;
                }
            }
        }
        Ok(written)
    }

    /// Writes those frames that stand at `offset` in the log and are newer than what is there. Returns the bytes written.
    pub(super) fn log(&self, bytes: &[u8], offset: u64, write: Write<'_>) -> Result<u64> {
        let frame_bytes = (wal::FRAME_HEAD + self.page_bytes) as u64;
        let header = wal::HEADER as u64;
        let bytes = match offset {
            0 => bytes.get(wal::HEADER..).unwrap_or_default(),
            _ => bytes,
        };
        let before = offset.saturating_sub(header) / frame_bytes;
        let mut written = 0;
        for (frame, at) in wal::frames(bytes, self.page_bytes).zip(before + 1..) {
            // Beyond the end lies what was cut off since.
            let page = (frame.number as usize).wrapping_sub(1);
            if page >= self.pages {
                continue;
            }
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            let mut newest = lock(&self.newest[page / TOGETHER]);
            let newest = &mut newest[page % TOGETHER];
            if *newest < at {
                write(frame.page, (page * self.page_bytes) as u64)?;
                *newest = at;
                written += frame.page.len() as u64;
            }
        }
        Ok(written)
    }
}
