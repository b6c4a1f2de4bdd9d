//! Numbers by chance, the same for the same seed.

use super::shop::noise;

/// Throws them (`SplitMix64`).
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Where it stands: a seed that goes on from here.
    pub fn state(&self) -> u64 {
        self.0
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn small(&mut self, end: u32) -> u32 {
        u32::try_from(self.below(end.into())).unwrap()
    }

    pub fn bytes(&mut self, length: u64) -> Vec<u8> {
        noise(self.next() | 1, usize::try_from(length).unwrap())
    }

    /// A number below `sides`, of the better half of the bits.
    pub fn throw(&mut self, sides: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % sides
    }

    pub fn one_of<T: Copy>(&mut self, things: &[T]) -> T {
        things[self.throw(things.len())]
    }
}
