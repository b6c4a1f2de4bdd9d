//! Where on this machine something is replaced.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::mounts::mount_points;
use crate::error::{Error, Result};
use crate::restore::item::Item;
use crate::restore::plan::Plan;
use crate::restore::target::is_movable;

/// Where one thing is replaced.
#[derive(Debug, Clone)]
pub struct Spot {
    /// Its path in the snapshot.
    pub path: PathBuf,
    /// Where it really is on this machine.
    pub live: PathBuf,
    /// The folder in which names are exchanged: its parent, or itself.
    pub(super) place: PathBuf,
    /// Whether that is itself: every name in it is replaced.
    pub(super) whole: bool,
}

impl Spot {
    pub(super) fn look_at(path: PathBuf, plan: &Plan) -> Result<Self> {
        let live = real_path(&path, plan)?;
        let unfit = |finding: &str| Error::TargetUnfit {
            path: live.clone(),
            finding: finding.to_owned(),
        };
        if let Some((file, part)) = plan.parts_left().first() {
            return Err(unfit(&format!(
                "the snapshot has {part} beside {}, and a database is not whole without it: restore both",
                crate::units::shown(file)
            )));
        }
        let parent = live
            .parent()
            .ok_or_else(|| unfit("it is the whole machine"))?;
        let whole = match std::fs::symlink_metadata(&live) {
            Ok(metadata)
                if metadata.is_dir()
                    && (!is_movable(parent, metadata.dev()) || mount_points().contains(&live)) =>
            {
                if plan.is_file() {
                    return Err(unfit("it is a mount point, and a file in the snapshot"));
                }
                true
            }
            _ => false,
        };
        Ok(Self {
            place: if whole { &live } else { parent }.to_owned(),
            path,
            whole,
            live,
        })
    }

    /// Its name in the place; nothing if it is the place.
    pub(super) fn name(&self) -> &Path {
        if self.whole {
            return Path::new("");
        }
        Path::new(self.live.file_name().unwrap_or_default())
    }

    /// Where an item of its plan goes, relative to the place.
    pub(super) fn place_of(&self, plan: &Plan, item: &Item) -> PathBuf {
        if plan.is_file() {
            self.name().to_owned()
        } else {
            self.name().join(&item.path)
        }
    }
}

/// Where a path of the snapshot is on this machine: through links, which its owner made; but a link in
/// the snapshot stands for itself.
fn real_path(path: &Path, plan: &Plan) -> Result<PathBuf> {
    let found = if plan.is_link() {
        beside_its_name(path)
    } else {
        through_links(path)
    };
    found.map_err(Error::file("looking at", path))
}

/// Where a path really is, also if nothing stands there: in the middle of a swap, or before it is made.
pub(super) fn through_links(path: &Path) -> std::io::Result<PathBuf> {
    /// As many as the kernel follows.
    const MOST_LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::canonicalize(&path) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            other => return other,
        }
        path = beside_its_name(&path)?;
        match std::fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(&path).join(target),
            Err(_) => break,
        }
    }
    Ok(path)
}

/// The same without following the last name. A parent that is not there is made.
pub(super) fn beside_its_name(path: &Path) -> std::io::Result<PathBuf> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(path.to_owned());
    };
    match std::fs::canonicalize(parent) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(path.to_owned()),
        other => Ok(other?.join(name)),
    }
}
