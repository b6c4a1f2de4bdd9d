//! A genuine `SQLite` write-ahead log, written without `SQLite`: pages that changed since the base.
//!
//! The whole log is one transaction: only its last frame is a commit, and that frame holds page 1.
//! A longer log drops that one frame and goes on after the others, so they stay an exact prefix; and
//! a log that is cut anywhere holds no commit at all.

use anyhow::{Result, ensure};

/// Bytes of a page in this bench.
pub const PAGE: usize = 4096;
/// Bytes of the log's header.
pub const HEADER: usize = 32;
/// Bytes of a frame.
pub const FRAME: usize = 24 + PAGE;

/// What marks a log whose checksums run over little-endian words.
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;
/// Tells this log's frames from those of an older one in the same file; here there is none.
const SALTS: [u32; 2] = [0x7469_6c6c, 0x7361_6665];

/// What a base has instead of `SQLite format 3\0`, so that nothing opens it alone.
pub const REFUSING: &[u8; 16] = b"base, needs -wal";

/// The running checksum of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chain(u32, u32);

impl Chain {
    fn over(mut self, bytes: &[u8]) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        let (pairs, _) = words.as_chunks::<2>();
        for [a, b] in pairs {
            self.0 = self
                .0
                .wrapping_add(u32::from_le_bytes(*a))
                .wrapping_add(self.1);
            self.1 = self
                .1
                .wrapping_add(u32::from_le_bytes(*b))
                .wrapping_add(self.0);
        }
        self
    }

    fn push_to(self, bytes: &mut Vec<u8>) {
        bytes.extend(self.0.to_be_bytes());
        bytes.extend(self.1.to_be_bytes());
    }

    /// Begins a log: appends its header to `bytes`.
    pub fn begin(bytes: &mut Vec<u8>) -> Self {
        let begin = bytes.len();
        let page_bytes = u32::try_from(PAGE).unwrap_or(0);
        for word in [MAGIC, VERSION, page_bytes, 0, SALTS[0], SALTS[1]] {
            bytes.extend(word.to_be_bytes());
        }
        let chain = Self::default().over(&bytes[begin..]);
        chain.push_to(bytes);
        chain
    }

    /// Appends a frame to `bytes`. `pages` is the database's size if the frame is a commit, else 0.
    #[must_use]
    pub fn frame(self, number: u32, pages: u32, page: &[u8], bytes: &mut Vec<u8>) -> Self {
        let begin = bytes.len();
        bytes.extend(number.to_be_bytes());
        bytes.extend(pages.to_be_bytes());
        let chain = self.over(&bytes[begin..]).over(page);
        bytes.extend(SALTS[0].to_be_bytes());
        bytes.extend(SALTS[1].to_be_bytes());
        chain.push_to(bytes);
        bytes.extend_from_slice(page);
        chain
    }
}

/// One frame as it is read back.
#[derive(Debug)]
pub struct Frame<'a> {
    /// The page's number, from 1.
    pub number: u32,
    /// The database's size in pages if the frame is a commit, else 0.
    pub pages: u32,
    /// The page.
    pub page: &'a [u8],
}

/// Reads a frame and checks that it continues `chain`.
pub fn read_frame<'a>(bytes: &'a [u8], chain: &mut Chain) -> Result<Frame<'a>> {
    let (head, page) = bytes.split_at(24);
    let word = |at: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(&head[at..at + 4]);
        u32::from_be_bytes(word)
    };
    *chain = chain.over(&head[..8]).over(page);
    ensure!(
        (word(8), word(12)) == (SALTS[0], SALTS[1]) && (word(16), word(20)) == (chain.0, chain.1),
        "a frame does not continue the log"
    );
    Ok(Frame {
        number: word(0),
        pages: word(4),
        page,
    })
}
