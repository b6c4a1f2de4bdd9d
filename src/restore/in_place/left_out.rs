//! What stands where a copy is to go and was left out of the snapshot by rule. The snapshot cannot bring it
//! back, and its owner has said that it is no part of what is saved: it stays where it is.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::spot::Spot;
use crate::monitor::{Monitor, Problem};
use crate::restore::plan::Plan;
use crate::source::files::exclude::{Excludes, Judge, Named, Rules, Wrong};
use crate::source::sqlite;

/// The rules of a snapshot, for what stands at one of its roots.
#[derive(Debug)]
pub(super) struct Left {
    excludes: Excludes,
    named: Named,
}

impl Left {
    /// Those of a plan's snapshot, and what of them nobody can follow.
    pub(super) fn of(plan: &Plan, spot: &Spot) -> (Self, Vec<Wrong>) {
        let ours = plan.manifest.as_ref();
        let ours = ours.and_then(|manifest| manifest.excluded.as_ref());
        let rules = ours.map_or_else(
            || Rules {
                patterns: plan.snapshot.file.excludes.clone(),
                ..Rules::default()
            },
            |excluded| excluded.rules.clone(),
        );
        let (excludes, wrong) = Excludes::as_far_as_sound(rules);
        let named = plan.snapshot.file.paths.iter().map(|path| {
            let path = PathBuf::from(path);
            let real = match path.strip_prefix(&spot.path) {
                Ok(inner) if inner.as_os_str().is_empty() => spot.live.clone(),
                Ok(inner) => spot.live.join(inner),
                Err(_) => path.clone(),
            };
            (path, real)
        });
        let named = named.collect();
        (Self { excludes, named }, wrong)
    }

    /// Says which rules cannot be followed: what they left out does not stay.
    pub(super) fn tell(plan: &Plan, wrong: &[Wrong], monitor: &dyn Monitor) {
        let Some(first) = wrong.first() else {
            return;
        };
        monitor.problem(Problem {
            item: format!("snapshot {}", plan.snapshot.id.short()),
            finding: format!(
                "{} of the rules by which it leaves something out cannot be followed here, and what was left out by them counts as not in the snapshot; the first: {} {}",
                wrong.len(),
                crate::units::Shown(first.rule.as_bytes()),
                first.finding
            ),
            incomplete: false,
        });
    }

    /// Whether it leaves nothing out.
    pub(super) fn is_empty(&self) -> bool {
        self.excludes.is_empty()
    }

    pub(super) fn watch<'a>(&'a self, spot: &'a Spot) -> Watch<'a> {
        Watch {
            left: self,
            judge: self.excludes.judge(&self.named),
            spot,
            stays: BTreeSet::new(),
        }
    }
}

/// Looks at one item after the other, folders before what they hold.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    left: &'a Left,
    judge: Judge<'a>,
    spot: &'a Spot,
    /// What stays, relative to the root.
    pub(super) stays: BTreeSet<PathBuf>,
}

impl Watch<'_> {
    /// Whether what stands at `inner` stays: the snapshot does not have it, and a rule is why. A side file
    /// stays and goes with its database.
    pub(super) fn keeps(
        &mut self,
        inner: &Path,
        metadata: &Metadata,
        is_stored: &dyn Fn(&Path) -> bool,
        is_mounted: bool,
    ) -> bool {
        let stays = self.is_left_out(inner, metadata, is_stored, is_mounted);
        if stays {
            self.stays.insert(inner.to_owned());
        }
        stays
    }

    /// Whether a side file of this name would be a database's: of the one that stands there, or of one that the
    /// snapshot may bring.
    fn is_of_database(&self, main: &Path, is_stored: &dyn Fn(&Path) -> bool) -> bool {
        let live = self.spot.live.join(main);
        sqlite::is_database(&live) || (!live.is_file() && is_stored(main))
    }

    fn is_left_out(
        &mut self,
        inner: &Path,
        metadata: &Metadata,
        is_stored: &dyn Fn(&Path) -> bool,
        is_mounted: bool,
    ) -> bool {
        let excludes = &self.left.excludes;
        if is_stored(inner) {
            // What was mounted there is not in the snapshot, the empty folder is.
            return is_mounted && metadata.is_dir() && excludes.stays_on_one_file_system();
        }
        let (path, live) = (self.spot.path.join(inner), self.spot.live.join(inner));
        if let Some(main) = sqlite::main_of(inner)
            && !metadata.is_dir()
            && self.is_of_database(&main, is_stored)
        {
            return self.stays.contains(&main);
        }
        if self.judge.leaves_out(&path, &live).is_some()
            || self
                .judge
                .leaves_out_device(&path, metadata.dev())
                .is_some()
        {
            return true;
        }
        metadata.is_file()
            && excludes.by_size(metadata.len()).is_some()
            && !sqlite::is_database(&live)
    }
}
