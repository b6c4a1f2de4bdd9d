//! A storage that remembers what was read of it, and of which parts are damaged or out of reach.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use crate::common::passed_on::passed_on;
use tillsafe::backend::{Backend, Class, Error, Object, Result};
use tillsafe::repository::index::Location;

/// A part of an object.
type Part = (Object, Range<u64>);

/// Wraps a backend.
#[derive(Debug)]
pub struct Recording {
    backend: Arc<dyn Backend>,
    reads: Mutex<Vec<Part>>,
    damaged: Mutex<Vec<Part>>,
    unreachable: Mutex<Vec<Part>>,
}

fn part(location: &Location) -> Part {
    let begin = u64::from(location.blob.offset);
    (
        Object::Named(Class::Data, location.pack),
        begin..begin + u64::from(location.blob.length),
    )
}

fn overlap(a: &Part, b: &Part) -> bool {
    a.0 == b.0 && a.1.start < b.1.end && b.1.start < a.1.end
}

impl Recording {
    pub fn of(backend: &Arc<dyn Backend>) -> Arc<Self> {
        Arc::new(Self {
            backend: Arc::clone(backend),
            reads: Mutex::default(),
            damaged: Mutex::default(),
            unreachable: Mutex::default(),
        })
    }

    /// From now on, what is read there has other bytes.
    pub fn damage(&self, locations: &[Location]) {
        self.damaged
            .lock()
            .unwrap()
            .extend(locations.iter().map(part));
    }

    /// From now on, what lies there cannot be read for a reason that may pass.
    pub fn take_away(&self, location: &Location) {
        self.unreachable.lock().unwrap().push(part(location));
    }

    pub fn forget(&self) {
        self.reads.lock().unwrap().clear();
    }

    /// Whether any of what lies there was read since.
    pub fn has_read(&self, location: &Location) -> bool {
        let part = part(location);
        let reads = self.reads.lock().unwrap();
        reads.iter().any(|read| overlap(read, &part))
    }
}

impl Backend for Recording {
    passed_on!(backend: location create put_new get list delete);

    fn get_range(&self, object: Object, offset: u64, length: usize) -> Result<Vec<u8>> {
        let read = (object, offset..offset + length as u64);
        self.reads.lock().unwrap().push(read.clone());
        let is_hit = |part: &&Part| overlap(part, &read);
        if self
            .unreachable
            .lock()
            .unwrap()
            .iter()
            .any(|part| is_hit(&part))
        {
            return Err(Error::Transient("the cable is out".to_owned()));
        }
        let mut bytes = self.backend.get_range(object, offset, length)?;
        for (_, part) in self.damaged.lock().unwrap().iter().filter(is_hit) {
            let middle = part.start.midpoint(part.end);
            if let Some(byte) = middle.checked_sub(offset)
                && let Some(byte) = bytes.get_mut(usize::try_from(byte).unwrap())
            {
                *byte ^= 1;
            }
        }
        Ok(bytes)
    }
}
