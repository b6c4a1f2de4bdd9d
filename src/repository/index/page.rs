//! Places in pages of one size, sealed: who can write where they lie can neither read nor change them.
//!
//! ```text
//! sealed( table 32 ‖ number of the page 8 ‖ places in it 8 ‖ 41 × place 48 ) = 2048 bytes
//! ```
//! A page says of which table it is and which of its pages, so that none stands in for another. It is small, for each
//! question opens one: two microseconds.

use std::io;
use std::ops::Range;

use super::table::Place;
use crate::durable::File;
use crate::id::Id;
use crate::repository::crypto::{self, Key};
use crate::rng::Rng;

/// Most places of a page.
pub const PLACES: usize = 41;
/// Bytes of a sealed page.
pub const BYTES: usize = crypto::OVERHEAD + PLAIN;
const PLAIN: usize = HEAD + PLACES * Place::BYTES;
const HEAD: usize = Id::LENGTH + 8 + 8;
const _: () = assert!(BYTES == 2048);

/// Sealed pages that are written at a time.
const BATCH: usize = 256 * 1024;

/// A file of pages.
#[derive(Debug, Clone, Copy)]
pub struct Pages<'a> {
    /// The file. Its pages stand first in it.
    pub file: &'a dyn File,
    /// What they are sealed under.
    pub key: &'a Key,
    /// The random name of the table they are of.
    pub table: Id,
}

impl<'a> Pages<'a> {
    /// Reads the places of one page.
    ///
    /// # Errors
    /// As the system reports them; `InvalidData` for one that is not what was written there.
    pub fn read(&self, number: u64) -> io::Result<Vec<Place>> {
        let mut sealed = [0; BYTES];
        self.file
            .read_exact_at(&mut sealed, number * BYTES as u64)?;
        let wrong = || io::Error::from(io::ErrorKind::InvalidData);
        let plain = self.key.open(&sealed).map_err(|_| wrong())?;
        let (head, places) = plain.split_first_chunk::<HEAD>().ok_or_else(wrong)?;
        let count = head[HEAD - 8..].try_into().map_or(0, u64::from_le_bytes);
        let (places, rest) = places.as_chunks::<{ Place::BYTES }>();
        let count = usize::try_from(count).map_err(|_| wrong())?;
        if head[..HEAD - 8] != self.name(number) || count > places.len() || !rest.is_empty() {
            return Err(wrong());
        }
        Ok(places[..count].iter().map(Place::from_bytes).collect())
    }

    fn name(&self, number: u64) -> [u8; HEAD - 8] {
        let mut name = [0; HEAD - 8];
        name[..Id::LENGTH].copy_from_slice(self.table.as_bytes());
        name[Id::LENGTH..].copy_from_slice(&number.to_le_bytes());
        name
    }

    /// The places of these pages, one after the other.
    pub fn places(self, numbers: Range<u64>) -> impl Iterator<Item = io::Result<Place>> + use<'a> {
        numbers.flat_map(move |number| {
            let (places, failure) = match self.read(number) {
                Ok(places) => (places, None),
                Err(cause) => (Vec::new(), Some(Err(cause))),
            };
            places.into_iter().map(Ok).chain(failure)
        })
    }
}

/// Fills pages.
#[derive(Debug)]
pub struct PageWriter<'a> {
    pages: Pages<'a>,
    rng: &'a dyn Rng,
    /// Of the page that is being filled.
    places: Vec<Place>,
    /// Sealed, and not yet written.
    sealed: Vec<u8>,
    /// Pages that are sealed.
    count: u64,
}

impl<'a> PageWriter<'a> {
    /// Begins with the first page.
    pub fn new(pages: Pages<'a>, rng: &'a dyn Rng) -> Self {
        Self {
            pages,
            rng,
            places: Vec::with_capacity(PLACES),
            sealed: Vec::with_capacity(BATCH),
            count: 0,
        }
    }

    /// Adds a place; tells the number of its page if it is the first in it.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn push(&mut self, place: Place) -> io::Result<Option<u64>> {
        if self.places.len() == PLACES {
            self.end_page()?;
        }
        self.places.push(place);
        Ok((self.places.len() == 1).then_some(self.count))
    }

    /// Ends the page that is being filled; returns how many there are.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn end_page(&mut self) -> io::Result<u64> {
        if self.places.is_empty() {
            return Ok(self.count);
        }
        let mut plain = Vec::with_capacity(PLAIN);
        plain.extend_from_slice(&self.pages.name(self.count));
        plain.extend_from_slice(&(self.places.len() as u64).to_le_bytes());
        for place in self.places.drain(..) {
            plain.extend_from_slice(&place.to_bytes());
        }
        plain.resize(PLAIN, 0);
        let sealed = self.pages.key.seal(&plain, self.rng);
        self.sealed
            .extend_from_slice(&sealed.map_err(io::Error::other)?);
        self.count += 1;
        if self.sealed.len() >= BATCH {
            self.write()?;
        }
        Ok(self.count)
    }

    /// Ends the last page and writes what is left; returns how many pages there are.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn finish(&mut self) -> io::Result<u64> {
        self.end_page()?;
        self.write()?;
        Ok(self.count)
    }

    fn write(&mut self) -> io::Result<()> {
        let end = self.count * BYTES as u64;
        let begin = end - self.sealed.len() as u64;
        self.pages.file.write_all_at(&self.sealed, begin)?;
        self.sealed.clear();
        Ok(())
    }

    /// What it fills.
    pub const fn pages(&self) -> Pages<'a> {
        self.pages
    }
}
