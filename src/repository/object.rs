//! Objects as they are, for who looks at them: verified, and without the key that a key file holds.

use serde_json::Value;

use super::format::MAX_BLOB;
use super::{Repository, report_strays, unlock};
use crate::backend::{Class, Object};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::Monitor;

/// Longest pack that is read whole, in bytes: the largest blob, and what lies around it.
const MAX_PACK: u64 = MAX_BLOB + 16 * 1024 * 1024;

impl Repository {
    /// The objects of a class with their sizes in bytes, in the order of their names.
    ///
    /// # Errors
    /// [`Error::Storage`] if they cannot be listed.
    pub fn objects(&self, class: Class, monitor: &dyn Monitor) -> Result<Vec<(Id, u64)>> {
        let mut listing = self.list(class)?;
        report_strays(monitor, class, &listing);
        listing.objects.sort_unstable();
        Ok(listing.objects)
    }

    /// The JSON of a snapshot, an index file or a lock, after its hash and its authentication code were
    /// checked.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Storage`].
    pub fn object_json(&self, class: Class, id: Id) -> Result<Vec<u8>> {
        self.load_plain(class, id)
    }

    /// A key file but for the key in it, which is nobody's to see.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Storage`].
    pub fn key_file(&self, id: Id) -> Result<Value> {
        let file = unlock::read_key_file(self.inner.backend.as_ref(), id)?;
        let mut value = serde_json::to_value(&file).map_err(|cause| Error::internal(&cause))?;
        if let Some(fields) = value.as_object_mut() {
            fields.remove("data");
        }
        Ok(value)
    }

    /// The bytes of a pack as they are stored, after their hash was checked.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Storage`].
    pub fn pack_bytes(&self, id: Id) -> Result<Vec<u8>> {
        let object = Object::Named(Class::Data, id);
        let bytes = self
            .inner
            .backend
            .get(object, MAX_PACK)
            .map_err(|cause| cause.on("reading", object))?;
        if Id::of(&bytes) != id {
            return Err(Error::Damaged {
                object: object.to_string(),
                finding: "its bytes are not those it is named after".into(),
            });
        }
        Ok(bytes)
    }
}
