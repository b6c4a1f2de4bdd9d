//! Cutting bytes into chunks: pure, no I/O but `Read`.
//!
//! Files are cut where their content says so ([`rabin`], with the repository's own polynomial, so
//! that restic and tillsafe cut alike and share blobs); database images are cut at page boundaries.

mod pages;
pub mod polynomial;
pub mod rabin;

use std::io::{self, Read};

pub use pages::{BASE_FROM, PageChunks};
pub use polynomial::Polynomial;
use rabin::{MAX_SIZE, MIN_SIZE, Rabin};

/// Cuts what a reader gives at places that its content decides.
pub struct ContentChunks<R> {
    reader: R,
    rabin: Rabin,
    buffer: Vec<u8>,
    ended: bool,
}

impl<R: Read> ContentChunks<R> {
    /// Begins to cut `reader`. `expected_bytes` sizes the first buffer; it may be wrong.
    pub fn new(reader: R, rabin: Rabin, expected_bytes: u64) -> Self {
        let capacity = usize::try_from(expected_bytes)
            .unwrap_or(MIN_SIZE)
            .min(MIN_SIZE);
        Self {
            reader,
            rabin,
            buffer: Vec::with_capacity(capacity),
            ended: false,
        }
    }

    /// Reads on until the buffer holds `wanted` bytes or the reader ends.
    fn fill_to(&mut self, wanted: usize) -> io::Result<()> {
        let missing = wanted.saturating_sub(self.buffer.len());
        if missing > 0 && !self.ended {
            let read = (&mut self.reader)
                .take(missing as u64)
                .read_to_end(&mut self.buffer)?;
            self.ended = read < missing;
        }
        Ok(())
    }

    /// Returns the next chunk, or `None` at the end.
    ///
    /// # Errors
    /// As the reader's.
    pub fn next_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        /// How much is read at a time while a cut is looked for.
        const STEP: usize = 256 * 1024;
        // One byte more than the smallest chunk tells a file that ends there from one that goes on.
        self.fill_to(MIN_SIZE + 1)?;
        if self.buffer.len() <= MIN_SIZE {
            let chunk = std::mem::take(&mut self.buffer);
            return Ok((!chunk.is_empty()).then_some(chunk));
        }
        self.rabin.begin(&self.buffer[..MIN_SIZE]);
        let mut seen = MIN_SIZE;
        let end = loop {
            if let Some(cut) = self.rabin.find_cut(&self.buffer[seen..], seen) {
                break cut;
            }
            seen = self.buffer.len();
            if seen >= MAX_SIZE || self.ended {
                break seen.min(MAX_SIZE);
            }
            self.fill_to((seen + STEP).min(MAX_SIZE))?;
        };
        let rest = self.buffer[end..].to_vec();
        self.buffer.truncate(end);
        Ok(Some(std::mem::replace(&mut self.buffer, rest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// restic's own polynomial of its test vectors.
    const POLYNOMIAL: u64 = 0x003D_A335_8B4D_C173;

    /// Seeded bytes of a plain generator (`SplitMix64`).
    fn bytes(mut seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            bytes.extend((mixed ^ (mixed >> 31)).to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// Gives at most seven bytes a call, as a pipe might.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(self.0.len()).min(7919);
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn cut(data: &[u8]) -> Vec<usize> {
        let rabin = Rabin::new(Polynomial::new(POLYNOMIAL));
        let mut chunks = ContentChunks::new(Trickle(data), rabin, data.len() as u64);
        let mut lengths = Vec::new();
        let mut offset = 0;
        while let Some(chunk) = chunks.next_chunk().unwrap() {
            assert_eq!(chunk, data[offset..offset + chunk.len()]);
            offset += chunk.len();
            lengths.push(chunk.len());
        }
        assert_eq!(offset, data.len());
        lengths
    }

    /// The same rule driven by another implementation of the rolling fingerprint.
    fn oracle(data: &[u8]) -> Vec<usize> {
        use rustic_cdc::{Rabin64, RollingHash64};
        let mut hash = Rabin64::new_with_polynom(6, &POLYNOMIAL);
        let mut lengths = Vec::new();
        let mut rest = data;
        while !rest.is_empty() {
            hash.reset();
            hash.slide(1);
            let most = rest.len().min(MAX_SIZE);
            let length = (MIN_SIZE - 64..most)
                .find_map(|at| {
                    hash.slide(rest[at]);
                    (at + 1 >= MIN_SIZE && hash.get_hash() & ((1 << 20) - 1) == 0).then_some(at + 1)
                })
                .unwrap_or(most);
            lengths.push(length);
            rest = &rest[length..];
        }
        lengths
    }

    #[test]
    fn cuts_are_those_of_another_implementation() {
        for (seed, length) in [
            (1, 20 << 20),
            (2, 9_000_001),
            (3, MIN_SIZE),
            (4, MIN_SIZE + 1),
            (5, 1),
            (6, 0),
        ] {
            let data = bytes(seed, length);
            assert_eq!(cut(&data), oracle(&data), "seed {seed}, {length} bytes");
        }
    }

    #[test]
    fn equal_bytes_are_cut_at_the_largest_size() {
        let data = vec![b'x'; 2 * MAX_SIZE + 5];
        assert_eq!(cut(&data), oracle(&data));
    }

    #[test]
    fn an_insertion_moves_only_the_cuts_around_it() {
        let data = bytes(7, 24 << 20);
        let mut longer = data.clone();
        longer.splice(100..100, [1, 2, 3]);
        let (before, after) = (cut(&data), cut(&longer));
        assert_eq!(before[2..], after[after.len() - (before.len() - 2)..]);
    }
}
