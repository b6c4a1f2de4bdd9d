//! A cache before a slow storage: index files and snapshots, which every run reads.
//!
//! It is believed in nothing. What is listed is asked of the storage; a copy counts only if its bytes
//! are those that it is named after; whatever fails here, the storage is asked. So it may vanish, lie
//! or be full at any time.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Backend, Class, Error, Listing, Object, Result};
use crate::id::Id;

/// A storage with a cache before it.
#[derive(Debug)]
pub struct CachedBackend {
    storage: Arc<dyn Backend>,
    cache: Arc<dyn Backend>,
}

impl CachedBackend {
    /// Keeps copies of what `storage` holds in `cache`: a backend of its own, for this repository alone.
    #[must_use]
    pub fn new(storage: Arc<dyn Backend>, cache: Arc<dyn Backend>) -> Self {
        Self { storage, cache }
    }

    /// Best effort: without a copy, the storage is asked again.
    fn keep(&self, object: Object, bytes: &[u8]) {
        let kept = self.cache.put_new(object, bytes);
        if matches!(kept, Err(Error::NotFound)) && self.cache.create().is_ok() {
            let _ = self.cache.put_new(object, bytes);
        }
    }
}

const fn is_kept(object: Object) -> bool {
    matches!(object, Object::Named(Class::Index | Class::Snapshots, _))
}

fn is_right(object: Object, bytes: &[u8]) -> bool {
    matches!(object, Object::Named(_, id) if Id::of(bytes) == id)
}

impl Backend for CachedBackend {
    fn location(&self) -> String {
        self.storage.location()
    }

    fn create(&self) -> Result<()> {
        self.storage.create()
    }

    fn put_new(&self, object: Object, bytes: &[u8]) -> Result<()> {
        self.storage.put_new(object, bytes)?;
        if is_kept(object) {
            self.keep(object, bytes);
        }
        Ok(())
    }

    fn get(&self, object: Object, limit: u64) -> Result<Vec<u8>> {
        if !is_kept(object) {
            return self.storage.get(object, limit);
        }
        match self.cache.get(object, limit) {
            Ok(bytes) if is_right(object, &bytes) => return Ok(bytes),
            Err(Error::NotFound) => {}
            _ => {
                let _ = self.cache.delete(object);
            }
        }
        let bytes = self.storage.get(object, limit)?;
        if is_right(object, &bytes) {
            self.keep(object, &bytes);
        }
        Ok(bytes)
    }

    fn get_range(&self, object: Object, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.storage.get_range(object, offset, length)
    }

    /// What the storage no longer has is forgotten on the way.
    fn list(&self, class: Class) -> Result<Listing> {
        let listing = self.storage.list(class)?;
        if matches!(class, Class::Index | Class::Snapshots)
            && let Ok(kept) = self.cache.list(class)
        {
            let there: BTreeSet<Id> = listing.objects.iter().map(|(id, _)| *id).collect();
            for (id, _) in kept.objects {
                if !there.contains(&id) {
                    let _ = self.cache.delete(Object::Named(class, id));
                }
            }
        }
        Ok(listing)
    }

    fn delete(&self, object: Object) -> Result<()> {
        self.storage.delete(object)?;
        if is_kept(object) {
            let _ = self.cache.delete(object);
        }
        Ok(())
    }

    fn lists_at_once(&self) -> bool {
        self.storage.lists_at_once()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::MemBackend;

    fn object(text: &str) -> Object {
        Object::Named(Class::Index, Id::of(text.as_bytes()))
    }

    fn pair() -> (Arc<MemBackend>, Arc<MemBackend>, CachedBackend) {
        let (storage, cache) = (Arc::<MemBackend>::default(), Arc::<MemBackend>::default());
        let both = CachedBackend::new(storage.clone(), cache.clone());
        (storage, cache, both)
    }

    #[test]
    fn what_was_read_once_is_not_asked_for_again() {
        let (storage, cache, both) = pair();
        storage.put_new(object("tea"), b"tea").unwrap();
        assert_eq!(both.get(object("tea"), 9).unwrap(), b"tea");
        assert_eq!(cache.get(object("tea"), 9).unwrap(), b"tea");
        both.put_new(object("cup"), b"cup").unwrap();
        assert_eq!(cache.get(object("cup"), 9).unwrap(), b"cup");
        // Only what is read each time is kept.
        let pack = Object::Named(Class::Data, Id::of(b"pack"));
        both.put_new(pack, b"pack").unwrap();
        assert!(cache.get(pack, 9).is_err());
    }

    #[test]
    fn a_lie_is_found_and_replaced() {
        let (storage, cache, both) = pair();
        storage.put_new(object("tea"), b"tea").unwrap();
        cache.put_new(object("tea"), b"pee").unwrap();
        assert_eq!(both.get(object("tea"), 9).unwrap(), b"tea");
        assert_eq!(cache.get(object("tea"), 9).unwrap(), b"tea");
        // Damage in the storage is not kept.
        storage.put_new(object("pot"), b"pop").unwrap();
        assert_eq!(both.get(object("pot"), 9).unwrap(), b"pop");
        assert!(cache.get(object("pot"), 9).is_err());
    }

    #[test]
    fn what_the_storage_has_no_longer_is_forgotten() {
        let (storage, cache, both) = pair();
        both.put_new(object("tea"), b"tea").unwrap();
        storage.delete(object("tea")).unwrap();
        assert_eq!(both.list(Class::Index).unwrap().objects, []);
        assert!(cache.get(object("tea"), 9).is_err());
        assert!(both.get(object("tea"), 9).is_err());
    }
}
