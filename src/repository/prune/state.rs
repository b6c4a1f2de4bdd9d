//! What index files and packs say: what a plan is made from.

use std::collections::{BTreeMap, HashMap};

use crate::backend::{Class, Object};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Problem, go_on};
use crate::repository::index::{Builder, Index, IndexFile};
use crate::repository::pack::PackedBlob;
use crate::repository::replace::Standing;
use crate::repository::{Repository, report_strays};

/// One pack.
#[derive(Debug)]
pub(super) struct Pack {
    /// How index files name it; nothing if none does: an interrupted run left it, or somebody is just
    /// writing it.
    pub standing: Option<Standing>,
    /// What it holds, in order of the offsets; nothing if it has no index and its header cannot be read.
    pub blobs: Vec<PackedBlob>,
    /// Its bytes; nothing if it is not there.
    pub size: Option<u64>,
}

impl Pack {
    /// Whether all that it should hold may be there.
    pub fn is_there(&self) -> bool {
        let end = |blob: &PackedBlob| u64::from(blob.offset) + u64::from(blob.length);
        let needed = self.blobs.iter().map(end).max().unwrap_or(0);
        self.size.is_some_and(|size| size >= needed)
    }

    pub fn stored_bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| u64::from(blob.length)).sum()
    }
}

/// One index file.
#[derive(Debug)]
pub(super) struct File {
    /// The packs that it names, and how.
    pub packs: Vec<(Id, Standing)>,
    pub blobs: usize,
}

/// All of it, as it was at one moment.
#[derive(Debug, Default)]
pub(super) struct State {
    pub index: Index,
    pub files: BTreeMap<Id, File>,
    pub packs: BTreeMap<Id, Pack>,
}

impl State {
    /// Reads all index files, the list of packs, and the headers of those that no index file names.
    ///
    /// # Errors
    /// [`Error::Damaged`] if an index file cannot be read, or two contradict each other: then nobody can
    /// tell what is needed; [`Error::Storage`], [`Error::Interrupted`].
    pub fn read(repository: &Repository, monitor: &dyn Monitor) -> Result<Self> {
        let mut state = Self::default();
        let mut builder = Builder::default();
        let listing = repository.list(Class::Index)?;
        report_strays(monitor, Class::Index, &listing);
        for (id, _) in listing.objects {
            go_on(monitor)?;
            let file: IndexFile = repository.load_json(Class::Index, id)?;
            builder.add(&file);
            state.add(id, &file)?;
        }
        state.index = builder.build();
        if let Some(pack) = state.index.conflicts().first() {
            return Err(contradiction(*pack));
        }
        let sizes = repository.packs(monitor)?;
        let mut unindexed = repository.add_unindexed(&mut state.index, &sizes, monitor)?;
        let is_unreachable = |(_, cause): &&(Id, Error)| !matches!(cause, Error::Damaged { .. });
        let unreachable: HashMap<&Id, &Error> = unindexed
            .unreadable
            .iter()
            .filter(is_unreachable)
            .map(|(id, cause)| (id, cause))
            .collect();
        for (id, size) in sizes {
            // Nobody knows what it holds: it is neither marked nor removed.
            if let Some(cause) = unreachable.get(&id) {
                monitor.problem(Problem {
                    item: Object::Named(Class::Data, id).to_string(),
                    finding: format!("left as it is: its header could not be reached ({cause})"),
                    incomplete: false,
                });
                continue;
            }
            let pack = state.packs.entry(id).or_insert_with(|| Pack {
                standing: None,
                blobs: unindexed.headers.remove(&id).unwrap_or_default(),
                size: None,
            });
            pack.size = Some(size);
        }
        Ok(state)
    }

    fn add(&mut self, id: Id, file: &IndexFile) -> Result<()> {
        let in_use = file.packs.iter().map(|pack| (pack, Standing::InUse));
        let marked = file.packs_to_delete.iter();
        let marked = marked.map(|pack| (pack, Standing::Marked(pack.time)));
        let mut own = File {
            packs: Vec::new(),
            blobs: 0,
        };
        for (pack, standing) in in_use.chain(marked) {
            own.packs.push((pack.id, standing));
            own.blobs += pack.blobs.len();
            let mut blobs: Vec<PackedBlob> = pack.packed().collect();
            blobs.sort_unstable_by_key(|blob| (blob.offset, blob.id));
            if self
                .packs
                .get(&pack.id)
                .is_some_and(|known| known.blobs != blobs)
            {
                return Err(contradiction(pack.id));
            }
            let known = self.packs.entry(pack.id).or_insert_with(|| Pack {
                standing: Some(standing),
                blobs,
                size: None,
            });
            known.standing = known.standing.max(Some(standing));
        }
        self.files.insert(id, own);
        Ok(())
    }
}

fn contradiction(pack: Id) -> Error {
    Error::Damaged {
        object: Object::Named(Class::Data, pack).to_string(),
        finding: "two index files describe it differently".to_owned(),
    }
}
