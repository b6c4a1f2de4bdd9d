//! Where the chunks of an image go.

use super::census::Census;
use crate::error::Result;

/// Takes the chunks of an image, in their order.
pub trait Sink {
    /// Takes the next chunk.
    ///
    /// # Errors
    /// Those of whoever stores it.
    fn take(&mut self, chunk: Vec<u8>) -> Result<()>;

    /// Whether all of it is stored anew: then `SQLite` itself checks and counts all of it. Asked for once the first chunk was
    /// taken.
    fn is_whole(&self) -> bool {
        true
    }

    /// Of one of which only what changed is stored: what its pages say of themselves, once all were taken.
    ///
    /// # Errors
    /// Those of whoever stores it.
    fn census(&mut self) -> Result<Option<Census>> {
        Ok(None)
    }
}

impl<F: FnMut(Vec<u8>) -> Result<()>> Sink for F {
    fn take(&mut self, chunk: Vec<u8>) -> Result<()> {
        self(chunk)
    }
}
