//! New index files in the place of old ones: how prune and repair change what is named.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Repository;
use super::index::{IndexFile, IndexedPack, MAX_BLOBS};
use super::lock::Lock;
use super::pack::PackedBlob;
use crate::backend::{Class, Object};
use crate::error::Result;
use crate::id::Id;

/// How an index file names a pack; named as in use anywhere, it is in use, and of two marks the later counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// To be deleted; marked when, if that is said.
    Marked(Option<Timestamp>),
    /// In use.
    InUse,
}

/// A pack as a new index file names it.
#[derive(Debug)]
pub(super) struct Named {
    pub pack: Id,
    pub blobs: Vec<PackedBlob>,
    pub standing: Standing,
}

/// Puts packs into index files: each whole in one, at most [`MAX_BLOBS`] a file unless one pack has more.
pub(super) fn files_of(packs: Vec<Named>) -> Vec<IndexFile> {
    let mut files = Vec::new();
    let (mut file, mut blobs) = (IndexFile::default(), 0);
    for named in packs {
        if blobs > 0 && blobs + named.blobs.len() > MAX_BLOBS {
            files.push(std::mem::take(&mut file));
            blobs = 0;
        }
        blobs += named.blobs.len();
        let mut pack = IndexedPack::new(named.pack, &named.blobs);
        match named.standing {
            Standing::InUse => file.packs.push(pack),
            Standing::Marked(time) => {
                pack.time = time;
                file.packs_to_delete.push(pack);
            }
        }
    }
    if !(file.packs.is_empty() && file.packs_to_delete.is_empty()) {
        files.push(file);
    }
    files
}

/// Writes the new files, does what comes in `between`, and removes the old files. A holder that has lost
/// its lock takes back what it has just written, and stops.
///
/// # Errors
/// [`crate::error::Error::LockLost`], [`crate::error::Error::Storage`]: then some things are said twice,
/// and the next run completes it.
pub(super) fn replace(
    repository: &Repository,
    lock: &Lock,
    new: &[IndexFile],
    old: &BTreeSet<Id>,
    between: impl FnOnce() -> Result<()>,
) -> Result<()> {
    lock.require_held()?;
    let mut written = Vec::new();
    let done = new.iter().try_for_each(|file| {
        written.push(repository.save_json(Class::Index, file)?);
        Ok(())
    });
    if let Err(cause) = done.and_then(|()| lock.require_held()) {
        for id in written {
            repository.remove(Object::Named(Class::Index, id))?;
        }
        return Err(cause);
    }
    between()?;
    for id in old {
        lock.require_held()?;
        repository.remove(Object::Named(Class::Index, *id))?;
    }
    lock.require_held()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::pack::BlobKind;

    fn named(number: u8, blobs: usize) -> Named {
        let blob = PackedBlob {
            kind: BlobKind::Data,
            id: Id::of(&[number]),
            offset: 0,
            length: 50,
            plain_length: None,
        };
        Named {
            pack: Id::of(&[number]),
            blobs: vec![blob; blobs],
            standing: match number {
                9 => Standing::Marked(None),
                _ => Standing::InUse,
            },
        }
    }

    #[test]
    fn a_pack_lies_whole_in_one_file() {
        let half = MAX_BLOBS / 2;
        let packs = vec![named(1, half), named(2, half), named(3, 1), named(9, 1)];
        let files = files_of(packs);
        let shape = |file: &IndexFile| (file.packs.len(), file.packs_to_delete.len());
        assert_eq!(
            files.iter().map(shape).collect::<Vec<_>>(),
            [(2, 0), (1, 1)]
        );
        assert_eq!(
            files_of(vec![named(1, 1), named(2, MAX_BLOBS + 1)]).len(),
            2
        );
        assert!(files_of(Vec::new()).is_empty());
    }
}
