//! Polynomials over GF(2) of degree at most 63: bit i is the coefficient of x^i.

use crate::error::Result;
use crate::rng::{self, Rng};

/// Degree that the repository format wants of a chunker polynomial.
const DEGREE: u32 = 53;

/// A polynomial over GF(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Polynomial(u64);

impl Polynomial {
    /// Takes the coefficients as bits.
    #[must_use]
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns a random irreducible polynomial of degree 53, as restic makes them.
    ///
    /// # Errors
    /// As [`Rng::fill`].
    pub fn random(rng: &dyn Rng) -> Result<Self> {
        loop {
            // One candidate in about 27 is irreducible, so this ends.
            let bits = u64::from_le_bytes(rng::array(rng)?) & ((1 << (DEGREE + 1)) - 1);
            let candidate = Self(bits | (1 << DEGREE) | 1);
            if candidate.is_irreducible() {
                return Ok(candidate);
            }
        }
    }

    /// The coefficients as bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The degree; 0 for the zero polynomial too.
    #[must_use]
    pub const fn degree(self) -> u32 {
        (self.0 | 1).ilog2()
    }

    /// Whether the repository format can use it: irreducible and of degree 53.
    #[must_use]
    pub fn is_usable(self) -> bool {
        self.degree() == DEGREE && self.is_irreducible()
    }

    /// Ben-Or's test: gcd(P, x^(2^i) + x mod P) = 1 for i = 1 … ⌊degree / 2⌋.
    #[must_use]
    pub fn is_irreducible(self) -> bool {
        let mut power = Self(2).modulo(self); // x^(2^0)
        for _ in 0..self.degree() / 2 {
            power = power.square_modulo(self);
            if self.gcd(Self(power.0 ^ 2)).0 != 1 {
                return false;
            }
        }
        self.degree() > 0
    }

    /// The remainder of division by `divisor`.
    #[must_use]
    pub fn modulo(self, divisor: Self) -> Self {
        let mut rest = self;
        while rest.0 != 0 && rest.degree() >= divisor.degree() {
            rest.0 ^= divisor.0 << (rest.degree() - divisor.degree());
            if divisor.degree() == 0 {
                return Self(0);
            }
        }
        rest
    }

    fn square_modulo(self, divisor: Self) -> Self {
        // Multiply by one coefficient after the other, so that nothing outgrows 64 bits.
        let mut product = Self(0);
        let mut shifted = self.modulo(divisor);
        let mut bits = self.0;
        while bits != 0 {
            if bits & 1 == 1 {
                product.0 ^= shifted.0;
            }
            shifted = Self(shifted.0 << 1).modulo(divisor);
            bits >>= 1;
        }
        product
    }

    fn gcd(self, other: Self) -> Self {
        let (mut a, mut b) = (self, other);
        while b.0 != 0 {
            (a, b) = (b, a.modulo(b));
        }
        a
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SystemRng;

    #[test]
    fn known_polynomials_are_told_apart() {
        // From restic's chunker: the first is the one of its test vectors.
        assert!(Polynomial::new(0x003D_A335_8B4D_C173).is_usable());
        for (bits, irreducible) in [
            (0b11, true),
            (0b111, true),
            (0b101, false),
            (0b1011, true),
            (0b1001, false),
            (1, false),
            (0, false),
        ] {
            assert_eq!(
                Polynomial::new(bits).is_irreducible(),
                irreducible,
                "{bits:b}"
            );
        }
        assert!(!Polynomial::new(0x003D_A335_8B4D_C172).is_usable());
    }

    #[test]
    fn a_random_one_is_usable() {
        assert!(Polynomial::random(&SystemRng).unwrap().is_usable());
    }

    #[test]
    fn small_irreducibles_are_those_found_by_trial_division() {
        for bits in 2..2048_u64 {
            let polynomial = Polynomial::new(bits);
            let divisible = (2..bits)
                .map(Polynomial::new)
                .take_while(|divisor| 2 * divisor.degree() <= polynomial.degree())
                .any(|divisor| divisor.degree() > 0 && polynomial.modulo(divisor).bits() == 0);
            assert_eq!(polynomial.is_irreducible(), !divisible, "{bits:b}");
        }
    }
}
