//! The manifest of a snapshot that is there.

use std::os::unix::ffi::OsStrExt;

use super::manifest::{self, Manifest};
use crate::error::{Error, Result};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::pack::BlobKind;
use crate::repository::tree::{Content, Node};

/// Longest manifest that is read, in bytes: about a hundred thousand databases.
const MAX_MANIFEST: u64 = 64 * 1024 * 1024;

/// Reads it; `None` if there is none, for another program made the snapshot.
///
/// # Errors
/// [`Error::Damaged`], also if a later version wrote it; [`Error::Storage`].
pub fn read_manifest(
    repository: &Repository,
    index: &Index,
    root: &[Node],
) -> Result<Option<Manifest>> {
    let Some(json) = find(repository, index, root)? else {
        return Ok(None);
    };
    let manifest: Manifest = serde_json::from_slice(&json).map_err(|cause| damaged(&cause))?;
    if manifest.schema > manifest::SCHEMA {
        return Err(damaged(&format!(
            "it is of schema {}, written by {}",
            manifest.schema, manifest.program
        )));
    }
    Ok(Some(manifest))
}

fn damaged(cause: &dyn std::fmt::Display) -> Error {
    Error::Damaged {
        object: format!("/{}/{}", manifest::FOLDER, manifest::FILE),
        finding: cause.to_string(),
    }
}

/// The bytes of the manifest; `None` if there is none.
fn find(repository: &Repository, index: &Index, root: &[Node]) -> Result<Option<Vec<u8>>> {
    let find = |nodes: &[Node], name: &str| {
        nodes
            .iter()
            .find(|node| node.entry.name.as_bytes() == name.as_bytes())
            .map(|node| node.content.clone())
    };
    let Some(Content::Folder { tree }) = find(root, manifest::FOLDER) else {
        return Ok(None);
    };
    let folder = repository.read_tree(index, tree)?;
    let Some(Content::File { blobs, .. }) = find(&folder, manifest::FILE) else {
        return Ok(None);
    };
    let locations = blobs
        .iter()
        .filter_map(|id| index.find(BlobKind::Data, *id));
    let bytes: u64 = locations.map(|location| location.plain_length()).sum();
    if bytes > MAX_MANIFEST {
        return Err(damaged(&format!("it claims {bytes} bytes")));
    }
    let mut json = Vec::new();
    for blob in blobs {
        json.extend(repository.read_blob(index, BlobKind::Data, blob)?);
    }
    Ok(Some(json))
}
