//! The rolling Rabin fingerprint, with restic's window, limits and rule for a cut.

use std::sync::Arc;

use super::polynomial::Polynomial;

/// Smallest chunk in bytes, but for the last of a file.
pub const MIN_SIZE: usize = 512 * 1024;
/// Largest chunk in bytes.
pub const MAX_SIZE: usize = 8 * 1024 * 1024;
/// A cut lies where these bits of the fingerprint are zero: one place in 2^20.
const CUT_MASK: u64 = (1 << 20) - 1;
const WINDOW: usize = 64;
const _: () = assert!(MIN_SIZE > WINDOW && MIN_SIZE < MAX_SIZE);

/// What leaving and overflowing bytes add, by byte.
#[derive(Debug)]
struct Tables {
    leave: [u64; 256],
    reduce: [u64; 256],
    shift: u32,
}

/// A fingerprint over the last 64 bytes. Cheap to clone: the tables are shared.
#[derive(Debug, Clone)]
pub struct Rabin {
    tables: Arc<Tables>,
    window: [u8; WINDOW],
    next: usize,
    digest: u64,
}

impl Rabin {
    /// Makes the tables of `polynomial`, whose degree must be between 9 and 53.
    #[must_use]
    pub fn new(polynomial: Polynomial) -> Self {
        let degree = polynomial.degree();
        let append = |digest: u64, byte: u8| {
            let mut digest = Polynomial::new(digest);
            for bit in (0..8).rev() {
                digest = Polynomial::new((digest.bits() << 1) | u64::from((byte >> bit) & 1))
                    .modulo(polynomial);
            }
            digest.bits()
        };
        let byte_table = |of: &dyn Fn(u8) -> u64| {
            std::array::from_fn(|byte| of(u8::try_from(byte).unwrap_or(0)))
        };
        let tables = Tables {
            // A byte that leaves has been followed by 63 others.
            leave: byte_table(&|byte| {
                (1..WINDOW).fold(append(0, byte), |digest, _| append(digest, 0))
            }),
            reduce: byte_table(&|byte| {
                let top = u64::from(byte) << degree;
                Polynomial::new(top).modulo(polynomial).bits() | top
            }),
            shift: degree - 8,
        };
        Self {
            tables: Arc::new(tables),
            window: [0; WINDOW],
            next: 0,
            digest: 0,
        }
    }

    /// Begins a chunk whose first bytes are `head`; only its last 64 decide anything.
    pub fn begin(&mut self, head: &[u8]) {
        self.window = [0; WINDOW];
        self.next = 0;
        self.digest = 0;
        self.slide(1);
        for byte in &head[head.len().saturating_sub(WINDOW)..] {
            self.slide(*byte);
        }
    }

    /// Slides over `bytes`, before which the chunk has `length` bytes, and returns the chunk's
    /// length at the first cut.
    pub fn find_cut(&mut self, bytes: &[u8], length: usize) -> Option<usize> {
        if self.digest & CUT_MASK == 0 && length == MIN_SIZE {
            return Some(length);
        }
        for (index, byte) in bytes.iter().enumerate() {
            self.slide(*byte);
            if self.digest & CUT_MASK == 0 {
                return Some(length + index + 1);
            }
        }
        None
    }

    fn slide(&mut self, byte: u8) {
        let leaving = std::mem::replace(&mut self.window[self.next], byte);
        self.next = (self.next + 1) % WINDOW;
        self.digest ^= self.tables.leave[usize::from(leaving)];
        let top = (self.digest >> self.tables.shift) & 0xff;
        self.digest = ((self.digest << 8) | u64::from(byte))
            ^ self.tables.reduce[usize::try_from(top).unwrap_or(0)];
    }
}
