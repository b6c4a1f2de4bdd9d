//! Which names are exchanged, and what stands and will stand under each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::journal::Move;
use super::spot::Spot;
use crate::durable::Folder;
use crate::error::{Error, Result};
use crate::restore::verify::DatabaseProof;
use crate::source::sqlite::{self, SIDE_FILES};

/// Makes moves of names.
pub(super) struct MoveFinder<'a> {
    pub(super) place: &'a dyn Folder,
    pub(super) new: &'a Path,
    pub(super) spot: &'a Spot,
    pub(super) proofs: &'a [DatabaseProof],
}

impl MoveFinder<'_> {
    /// The moves of these names; a side file goes with its database.
    pub(super) fn find(&self, names: &BTreeSet<PathBuf>) -> Result<Vec<Move>> {
        let mut moves = Vec::new();
        let mut with_others = BTreeSet::new();
        for name in names {
            let one = self.one(name)?;
            if one.is_database {
                with_others.extend(SIDE_FILES.map(|suffix| sqlite::beside(name, suffix)));
            }
            moves.push(one);
        }
        moves.retain(|one| !with_others.contains(&one.name));
        Ok(moves)
    }

    fn one(&self, name: &Path) -> Result<Move> {
        let path = self.place.path();
        let identity = |inner: &Path| {
            let found = self.place.identity(inner);
            found.map_err(Error::file("looking at", path.join(inner)))
        };
        let staged = self.new.join(name);
        let is_database = |inner: &Path| sqlite::is_database(&path.join(inner));
        let any_database = is_database(name) || is_database(&staged);
        let (mut side_files, mut has_staged) = (Vec::new(), false);
        for suffix in SIDE_FILES {
            side_files.extend(identity(&sqlite::beside(name, suffix))?);
            has_staged |= identity(&sqlite::beside(&staged, suffix))?.is_some();
        }
        // What another program stored beside a database is restored as the file that it is.
        let is_database = any_database && !has_staged;
        if !is_database {
            side_files.clear();
        }
        let below = self
            .spot
            .path
            .join(if self.spot.whole { name } else { Path::new("") });
        let proved = self
            .proofs
            .iter()
            .any(|proof| proof.path.starts_with(&below));
        Ok(Move {
            staged: identity(&staged)?,
            replaced: identity(name)?,
            name: name.to_owned(),
            is_database,
            side_files,
            holds_database: any_database || has_staged || proved,
        })
    }
}
