//! Which ids are not in a table, without a look at it: a Bloom filter.
//!
//! Of ids that are there it always says so, of one in a hundred others as well. So what a backup stores for the first
//! time costs no read, and a hostile choice of ids costs a read each.

use crate::id::Id;

/// Bits for each id, and how many of them it sets: one in a hundred others finds all of its own set.
const BITS: u64 = 10;
const SET: u64 = 6;

/// The filter.
#[derive(Debug)]
pub struct Filter {
    words: Vec<u64>,
}

impl Filter {
    /// An empty one for so many ids.
    pub fn new(ids: u64) -> Self {
        let words = (ids * BITS).div_ceil(64).max(1);
        Self {
            words: vec![0; usize::try_from(words).unwrap_or(1)],
        }
    }

    /// One as [`Self::to_bytes`] has written it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        (rest.is_empty() && !words.is_empty()).then_some(Self { words })
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> impl Iterator<Item = u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes())
    }

    /// Adds an id.
    pub fn add(&mut self, id: &Id) {
        for (word, bit) in self.bits(id) {
            self.words[word] |= bit;
        }
    }

    /// Whether the id may have been added.
    pub fn may_hold(&self, id: &Id) -> bool {
        let mut bits = self.bits(id);
        bits.all(|(word, bit)| self.words[word] & bit != 0)
    }

    /// The bits of an id: an honest one is as good as random already.
    fn bits(&self, id: &Id) -> impl Iterator<Item = (usize, u64)> + use<> {
        let part = |from: usize| {
            let bytes = std::array::from_fn(|at| id.as_bytes()[from + at]);
            u64::from_le_bytes(bytes)
        };
        let (begin, step) = (part(8), part(16) | 1);
        let count = self.words.len() as u128 * 64;
        (0..SET).map(move |number| {
            let hash = begin.wrapping_add(number.wrapping_mul(step));
            // Spread over all bits, whatever their number.
            let at = u64::try_from((u128::from(hash) * count) >> 64).unwrap_or(0);
            (usize::try_from(at / 64).unwrap_or(0), 1 << (at % 64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found_and_of_others_one_in_a_hundred() {
        let id = |number: u32| Id::of(&number.to_le_bytes());
        let mut filter = Filter::new(10_000);
        (0..10_000).for_each(|number| filter.add(&id(number)));
        let bytes: Vec<u8> = filter.to_bytes().collect();
        let filter = Filter::from_bytes(&bytes).unwrap();
        assert!((0..10_000).all(|number| filter.may_hold(&id(number))));
        let wrong = (10_000..20_000).filter(|number| filter.may_hold(&id(*number)));
        let wrong = wrong.count();
        assert!(wrong < 250, "{wrong}");
        assert!(Filter::from_bytes(&bytes[1..]).is_none() && Filter::from_bytes(&[]).is_none());
    }
}
