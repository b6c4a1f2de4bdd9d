//! What was found, gathered by object, with what it costs and what mends it.

use std::collections::HashMap;

use serde::Serialize;

use crate::backend::{Class, Object};
use crate::id::Id;
use crate::repository::pack::BlobKind;
use crate::repository::recover::MISSING;

/// Findings that are quoted of one object; the others are counted.
const MAX_QUOTED: usize = 4;
/// Blobs that are listed in all; the others are counted.
const MAX_BLOBS: usize = 10_000;

/// One damaged object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Its name below the repository; `index` if index files are missing.
    pub object: String,
    /// What is wrong.
    pub finding: String,
    /// The blobs in it, or missing from it, that are not whole.
    pub blobs: Vec<DamagedBlob>,
    /// How many there are, those that are not listed included.
    pub blob_count: u64,
    /// Whether any snapshot loses something by it.
    pub costs_data: bool,
    /// What mends it.
    pub mend: String,
}

/// A blob of which a copy is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DamagedBlob {
    /// Its kind.
    pub kind: BlobKind,
    /// SHA-256 of its plain bytes.
    pub id: Id,
    /// Whether no other copy is whole.
    pub lost: bool,
}

/// All that was found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    found: Vec<Found>,
    numbers: HashMap<Option<Object>, usize>,
    listed_blobs: usize,
    /// Whether a snapshot cannot be read: nobody knows then what it needs.
    pub unreadable_snapshots: bool,
    /// Whether a snapshot needs a blob that no index and no pack names.
    pub unknown_blobs: bool,
}

#[derive(Debug)]
struct Found {
    /// None: index files that are missing.
    object: Option<Object>,
    quoted: Vec<String>,
    more: u64,
    blobs: Vec<(BlobKind, Id)>,
    blob_count: u64,
}

impl Findings {
    fn of(&mut self, object: Option<Object>) -> &mut Found {
        let number = *self.numbers.entry(object).or_insert_with(|| {
            self.found.push(Found {
                object,
                quoted: Vec::new(),
                more: 0,
                blobs: Vec::new(),
                blob_count: 0,
            });
            self.found.len() - 1
        });
        &mut self.found[number]
    }

    pub fn add(&mut self, object: Object, finding: String) {
        let found = self.of(Some(object));
        if found.quoted.contains(&finding) {
            return;
        }
        if found.quoted.len() < MAX_QUOTED {
            found.quoted.push(finding);
        } else {
            found.more += 1;
        }
    }

    /// What was found about the objects of a class.
    pub fn of_class(&self, class: Class) -> impl Iterator<Item = (Id, String)> {
        self.found
            .iter()
            .filter_map(move |found| match found.object {
                Some(Object::Named(of, id)) if of == class => Some((id, found.quoted.join("; "))),
                _ => None,
            })
    }

    /// Names a blob of the object; each is named once.
    pub fn add_blob(&mut self, object: Object, kind: BlobKind, id: Id) {
        let room = self.listed_blobs < MAX_BLOBS;
        let found = self.of(Some(object));
        found.blob_count += 1;
        if room {
            found.blobs.push((kind, id));
            self.listed_blobs += 1;
        }
    }

    /// The folder of the index files is missing.
    pub fn add_missing_folder(&mut self) {
        self.of(None).quoted.push(MISSING.to_owned());
    }

    /// Index files are missing: so many packs that snapshots need are named by none. Where one is
    /// damaged, that is the reason, and it is named already.
    pub fn add_missing_index(&mut self, packs: usize) {
        let is_index = |found: &Found| matches!(found.object, Some(Object::Named(Class::Index, _)));
        if !self.found.iter().any(is_index) {
            self.of(None).quoted.push(format!(
                "{} that snapshots need in none of its files",
                crate::units::counted(packs as u64, "pack")
            ));
        }
    }

    /// Says of each object what it costs; `suffers` if any snapshot lacks anything.
    pub fn into_damage(
        self,
        suffers: bool,
        is_gone: impl Fn(Id) -> bool,
        rest_of: impl Fn(Id) -> Option<Id>,
        is_lost: impl Fn(BlobKind, Id) -> bool,
    ) -> Vec<Damage> {
        let costs = Costs {
            blobs: suffers || self.unreadable_snapshots,
            unknown_blobs: self.unknown_blobs,
            is_gone: &is_gone,
            rest_of: &rest_of,
        };
        let found = self.found.into_iter();
        found
            .map(|found| found.into_damage(costs, &is_lost))
            .collect()
    }
}

/// Whether there is anybody who could suffer, and from what.
#[derive(Clone, Copy)]
struct Costs<'a> {
    blobs: bool,
    unknown_blobs: bool,
    is_gone: &'a dyn Fn(Id) -> bool,
    /// The snapshot in which a repair has kept what is left of one.
    rest_of: &'a dyn Fn(Id) -> Option<Id>,
}

impl Found {
    fn into_damage(self, costs: Costs<'_>, is_lost: &impl Fn(BlobKind, Id) -> bool) -> Damage {
        let blobs: Vec<DamagedBlob> = self
            .blobs
            .into_iter()
            .map(|(kind, id)| DamagedBlob {
                kind,
                id,
                lost: is_lost(kind, id),
            })
            .collect();
        let unlisted = self.blob_count > blobs.len() as u64;
        let loses = costs.blobs && (unlisted || blobs.iter().any(|blob| blob.lost));
        let mend_of_repaired;
        let (costs_data, mend) = match self.object {
            None | Some(Object::Named(Class::Index, _)) => (
                costs.unknown_blobs,
                "`tillsafe repair index` names every pack as its own header says; until then packs are read by their headers",
            ),
            Some(Object::Config) => (
                false,
                "put `config` back from any copy of the repository; until then it can be read and not written",
            ),
            Some(Object::Named(Class::Keys, _)) => (
                false,
                "put that file back from any copy of the repository, or make another key (`tillsafe key add`) and remove that one (`tillsafe key remove`)",
            ),
            Some(Object::Named(Class::Locks, _)) => (
                false,
                "when nobody works in the repository, `tillsafe unlock --remove-all` removes it",
            ),
            Some(Object::Named(Class::Snapshots, id))
                if let (false, Some(rest)) = (blobs.is_empty(), (costs.rest_of)(id)) =>
            {
                mend_of_repaired = format!(
                    "what is left of it is in {} already; back up again: what the source still has is stored again, for this snapshot too; once you no longer want it, `tillsafe repair snapshots --forget` removes it",
                    rest.short()
                );
                (true, mend_of_repaired.as_str())
            }
            Some(Object::Named(Class::Snapshots, _)) if !blobs.is_empty() => (
                true,
                "back up again: what the source still has is stored again, for this snapshot too; then `tillsafe repair snapshots` makes one that has what is left",
            ),
            Some(Object::Named(Class::Snapshots, _)) => (
                true,
                "back up again: what the source still has is in the new snapshot; once you have what you need from the others, move that file out of the repository",
            ),
            Some(Object::Named(Class::Data, id)) if (costs.is_gone)(id) => (
                loses,
                "`tillsafe repair index` forgets it; then back up again: what it held is stored again where the source still has it",
            ),
            Some(Object::Named(Class::Data, _)) if loses => (
                true,
                "`tillsafe repair packs` stores what is whole in it anew and removes it; then back up again: what was lost is stored again where the source still has it",
            ),
            Some(Object::Named(Class::Data, _)) => (
                costs.unknown_blobs && blobs.is_empty(),
                "`tillsafe repair packs` stores what is whole in it anew and removes it",
            ),
        };
        let mut finding = self.quoted.join("; ");
        if self.more > 0 {
            finding = format!("{finding}; and {} more", self.more);
        }
        Damage {
            object: self.object.map_or_else(
                || Class::Index.folder().to_owned(),
                |object| object.to_string(),
            ),
            finding,
            blobs,
            blob_count: self.blob_count,
            costs_data,
            mend: mend.to_owned(),
        }
    }
}
