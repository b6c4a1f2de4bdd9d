//! A backend that fails where it is told to; see [`crate::durable::faults`].

use std::sync::Arc;

use super::{Backend, Class, Listing, Object, Result};
use crate::durable::faults::Fault;

/// A backend whose mutating operations fail as a [`Fault`] says.
#[derive(Debug)]
pub struct FaultyBackend {
    backend: Arc<dyn Backend>,
    fault: Arc<Fault>,
}

impl FaultyBackend {
    /// Wraps `backend`.
    #[must_use]
    pub const fn new(backend: Arc<dyn Backend>, fault: Arc<Fault>) -> Self {
        Self { backend, fault }
    }
}

impl Backend for FaultyBackend {
    fn location(&self) -> String {
        self.backend.location()
    }

    fn create(&self) -> Result<()> {
        self.fault.strike()?;
        self.backend.create()
    }

    fn put_new(&self, object: Object, bytes: &[u8]) -> Result<()> {
        self.fault.strike()?;
        self.backend.put_new(object, bytes)
    }

    fn get(&self, object: Object, limit: u64) -> Result<Vec<u8>> {
        self.backend.get(object, limit)
    }

    fn get_range(&self, object: Object, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.backend.get_range(object, offset, length)
    }

    fn list(&self, class: Class) -> Result<Listing> {
        self.backend.list(class)
    }

    fn delete(&self, object: Object) -> Result<()> {
        self.fault.strike()?;
        self.backend.delete(object)
    }

    fn lists_at_once(&self) -> bool {
        self.backend.lists_at_once()
    }
}
