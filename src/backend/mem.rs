//! A repository in memory: for tests, and for a simulator that drives the production code.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Backend, Class, Error, Listing, Object, Result};

/// Objects in memory.
#[derive(Debug, Default)]
pub struct MemBackend {
    objects: Mutex<BTreeMap<Object, Vec<u8>>>,
}

impl MemBackend {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<Object, Vec<u8>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the bytes of an object as a failing disk would; returns whether it is there.
    pub fn damage(&self, object: Object, how: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.objects().get_mut(&object).map(how).is_some()
    }
}

impl Backend for MemBackend {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn create(&self) -> Result<()> {
        Ok(())
    }

    fn put_new(&self, object: Object, bytes: &[u8]) -> Result<()> {
        match self.objects().entry(object) {
            std::collections::btree_map::Entry::Occupied(_) => Err(Error::AlreadyExists),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(bytes.to_vec());
                Ok(())
            }
        }
    }

    fn get(&self, object: Object, limit: u64) -> Result<Vec<u8>> {
        let objects = self.objects();
        let bytes = objects.get(&object).ok_or(Error::NotFound)?;
        super::within(bytes.len() as u64, limit)?;
        Ok(bytes.clone())
    }

    fn get_range(&self, object: Object, offset: u64, length: usize) -> Result<Vec<u8>> {
        let objects = self.objects();
        let bytes = objects.get(&object).ok_or(Error::NotFound)?;
        let range = usize::try_from(offset)
            .ok()
            .and_then(|start| Some(start..start.checked_add(length)?));
        range
            .and_then(|range| bytes.get(range))
            .map(<[u8]>::to_vec)
            .ok_or(Error::NotFound)
    }

    fn list(&self, class: Class) -> Result<Listing> {
        let objects = self
            .objects()
            .iter()
            .filter_map(|(object, bytes)| match object {
                Object::Named(of, id) if *of == class => Some((*id, bytes.len() as u64)),
                _ => None,
            })
            .collect();
        Ok(Listing {
            objects,
            strays: Vec::new(),
        })
    }

    fn delete(&self, object: Object) -> Result<()> {
        self.objects()
            .remove(&object)
            .map(drop)
            .ok_or(Error::NotFound)
    }
}
