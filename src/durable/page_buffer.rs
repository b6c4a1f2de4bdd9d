//! Memory that begins where a page does, so that a disk may read and write it itself.

use std::ops::{Deref, DerefMut};

/// Bytes of the smallest piece that every disk takes straight from memory and every file system at any such place.
pub(super) const BLOCK: usize = 4096;

/// Bytes that grow as a [`Vec`]'s do, and whose first one is that of a block in memory.
#[derive(Debug, Default)]
pub struct PageBuffer {
    /// What comes before the block's begin, then the bytes.
    memory: Vec<u8>,
    begin: usize,
}

impl PageBuffer {
    /// Empty, with room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        // More than needed, because nobody can ask for memory at a whole block without unsafe code.
        let mut memory: Vec<u8> = Vec::with_capacity(bytes + BLOCK);
        let begin = memory.as_ptr().align_offset(BLOCK).min(BLOCK);
        memory.resize(begin, 0);
        Self { memory, begin }
    }

    /// Bytes that it takes before it moves.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.memory.capacity() - self.begin
    }

    /// Forgets the bytes and keeps the memory.
    pub fn clear(&mut self) {
        self.memory.truncate(self.begin);
    }

    /// Has so many bytes from now on; those that it had not are zeros.
    pub fn resize(&mut self, bytes: usize) {
        if bytes > self.capacity() {
            let mut grown = Self::with_capacity(bytes.max(2 * self.len()));
            grown.memory.extend_from_slice(self);
            *self = grown;
        }
        self.memory.resize(self.begin + bytes, 0);
    }

    /// Adds bytes behind those that it has.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let wanted = self.len() + bytes.len();
        if wanted > self.capacity() {
            // A `Vec` that grows by itself may begin anywhere.
            let mut grown = Self::with_capacity(wanted.max(2 * self.len()));
            grown.memory.extend_from_slice(self);
            *self = grown;
        }
        self.memory.extend_from_slice(bytes);
    }
}

impl Deref for PageBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.begin..]
    }
}

impl DerefMut for PageBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..]
    }
}

/// Whether a disk may take these bytes from where they lie.
pub(super) fn begins_a_block(bytes: &[u8]) -> bool {
    bytes.as_ptr().align_offset(BLOCK) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_a_block_however_it_grows() {
        let mut buffer = PageBuffer::default();
        let mut expected = Vec::new();
        for length in [0, 1, 4095, 4096, 4097, 200_000, 1] {
            let bytes = vec![u8::try_from(length % 251).unwrap(); length];
            buffer.extend_from_slice(&bytes);
            expected.extend_from_slice(&bytes);
            assert!(*buffer == *expected);
            assert!(buffer.is_empty() || begins_a_block(&buffer));
        }
        let capacity = buffer.capacity();
        buffer.clear();
        assert!(buffer.is_empty());
        buffer.extend_from_slice(&vec![7; capacity]);
        assert_eq!(buffer.capacity(), capacity);
        assert!(begins_a_block(&buffer));
    }
}
