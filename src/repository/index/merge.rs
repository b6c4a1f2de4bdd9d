//! More places than memory should hold, sorted: in runs that are written to a file, and then merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io;
use std::ops::Range;

use super::page::{PageWriter, Pages};
use super::table::{MAX_PLACES, Place, settle_one};
use crate::id::Id;
use crate::repository::pack::BlobKind;
use crate::rng::Rng;

/// Places of one run: 24 MiB.
pub const RUN: usize = 1 << 19;

/// Places in order of kinds and ids.
pub type Sorted<'a> = Box<dyn Iterator<Item = io::Result<Place>> + 'a>;

/// Takes places in any order and gives them in that of kinds and ids.
#[derive(Debug)]
pub struct Sorter<'a> {
    writer: PageWriter<'a>,
    run: usize,
    places: Vec<Place>,
    /// The pages of each run.
    runs: Vec<Range<u64>>,
    count: u64,
}

impl<'a> Sorter<'a> {
    /// Keeps at most `run` places in memory, and the others in `pages`.
    pub fn new(pages: Pages<'a>, rng: &'a dyn Rng, run: usize) -> Self {
        Self {
            writer: PageWriter::new(pages, rng),
            run: run.max(1),
            places: Vec::new(),
            runs: Vec::new(),
            count: 0,
        }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn push(&mut self, place: Place) -> io::Result<()> {
        if self.places.len() == self.run {
            self.sort();
            let begin = self.runs.last().map_or(0, |run| run.end);
            for place in self.places.drain(..) {
                self.writer.push(place)?;
            }
            self.runs.push(begin..self.writer.end_page()?);
        }
        self.places.push(place);
        self.count += 1;
        Ok(())
    }

    fn sort(&mut self) {
        self.places.sort_unstable_by_key(Place::key);
    }

    /// How many it has taken.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Its runs, each sorted.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn finish(&mut self) -> io::Result<Vec<Sorted<'_>>> {
        self.writer.finish()?;
        self.sort();
        let pages = self.writer.pages();
        let written = self.runs.iter().cloned();
        let mut runs: Vec<Sorted<'_>> = written
            .map(|run| Box::new(pages.places(run)) as Sorted<'_>)
            .collect();
        runs.push(Box::new(self.places.iter().copied().map(Ok)));
        Ok(runs)
    }
}

/// Merges what is sorted. Of each blob, `take` gets the places that [`super::Table::settle`] would keep, in its order.
///
/// # Errors
/// Those of the sources and of `take`.
pub fn merge<R: Ord>(
    mut sources: Vec<Sorted<'_>>,
    rank: &dyn Fn(u32) -> R,
    take: &mut dyn FnMut(Place) -> io::Result<()>,
) -> io::Result<()> {
    /// Of a hostile blob of a million places, so many are held.
    const HELD: usize = 4 * MAX_PLACES;
    /// What comes next of a source; the least of all comes first.
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct Next(Reverse<(BlobKind, Id)>, usize, Place);
    let mut next = BinaryHeap::new();
    for (number, source) in sources.iter_mut().enumerate() {
        if let Some(place) = source.next().transpose()? {
            next.push(Next(Reverse(place.key()), number, place));
        }
    }
    let mut of_one: Vec<Place> = Vec::new();
    while let Some(mut least) = next.peek_mut() {
        let place = least.2;
        match sources[least.1].next().transpose()? {
            Some(place) => *least = Next(Reverse(place.key()), least.1, place),
            None => drop(PeekMut::pop(least)),
        }
        if of_one.first().is_some_and(|one| one.key() != place.key()) {
            settle_one(&mut of_one, rank);
            of_one.drain(..).try_for_each(&mut *take)?;
        } else if of_one.len() >= HELD {
            settle_one(&mut of_one, rank);
        }
        of_one.push(place);
    }
    settle_one(&mut of_one, rank);
    of_one.into_iter().try_for_each(take)
}
