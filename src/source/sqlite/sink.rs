//! Where the chunks of an image go.

use crate::error::Result;

/// Takes the chunks of an image, in their order.
pub trait Sink {
    /// Takes the next chunk.
    ///
    /// # Errors
    /// Those of whoever stores it.
    fn take(&mut self, chunk: Vec<u8>) -> Result<()>;

    /// Whether all of it is stored anew: then `SQLite`'s own check looks at all of it, too. Asked for once the first chunk was
    /// taken.
    fn is_whole(&self) -> bool {
        true
    }
}

impl<F: FnMut(Vec<u8>) -> Result<()>> Sink for F {
    fn take(&mut self, chunk: Vec<u8>) -> Result<()> {
        self(chunk)
    }
}
