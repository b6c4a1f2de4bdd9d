//! What the first 100 bytes of a database say (<https://sqlite.org/fileformat2.html#the_database_header>).

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::source::files::FileReader;

/// Bytes of the header.
pub const BYTES: usize = 100;

/// What a database's header says of it. Part of the manifest: fields are added, never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Whether it is in WAL mode.
    pub is_wal: bool,
    /// Bytes at the end of each page that `SQLite` leaves to extensions.
    pub reserved_bytes: u8,
    /// Changes with each transaction in rollback mode; in WAL mode only when page 1 is written.
    pub change_counter: u32,
    /// Changes whenever the schema does.
    pub schema_version: u32,
    /// Pages that are free.
    pub freelist_pages: u32,
    /// Whether free pages are given back (`auto_vacuum` full or incremental).
    pub auto_vacuum: bool,
    /// The `SQLite` that last wrote page 1, as 3051002 for 3.51.2; 0 for an old one.
    pub written_by: u32,
}

impl Header {
    /// Reads it from a database's first bytes; `None` if there are too few of them.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.get(..BYTES)?.try_into().ok()?;
        let number = |at: usize| {
            let four: [u8; 4] = std::array::from_fn(|index| bytes[at + index]);
            u32::from_be_bytes(four)
        };
        Some(Self {
            is_wal: bytes[19] == 2,
            reserved_bytes: bytes[20],
            change_counter: number(24),
            schema_version: number(40),
            freelist_pages: number(36),
            auto_vacuum: number(52) != 0,
            written_by: number(96),
        })
    }

    /// Reads it from a file. Only while no connection to it is open.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn read(path: &Path) -> std::io::Result<Option<Self>> {
        let mut bytes = [0; BYTES];
        let length = FileReader::open(path)?.head(&mut bytes)?;
        Ok(Self::parse(&bytes[..length]))
    }

    /// Whether the application's `SQLite` can lose pages when two checkpoints race the restart of the log
    /// (the "WAL-reset bug"): 3.7.0 to 3.51.2, but for 3.50.7 and later of 3.50, and 3.44.6 and later of 3.44.
    #[must_use]
    pub const fn has_wal_reset_bug(&self) -> bool {
        let version = self.written_by;
        self.is_wal
            && version >= 3_007_000
            && version <= 3_051_002
            && !(version >= 3_050_007 && version < 3_051_000)
            && !(version >= 3_044_006 && version < 3_045_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wal_reset_bug_is_known_by_its_versions() {
        let mut bytes = [0; BYTES];
        for (version, wal, has) in [
            (3_006_023_u32, 2, false),
            (3_007_000, 2, true),
            (3_040_001, 2, true),
            (3_040_001, 1, false),
            (3_044_005, 2, true),
            (3_044_006, 2, false),
            (3_045_000, 2, true),
            (3_050_006, 2, true),
            (3_050_007, 2, false),
            (3_051_002, 2, true),
            (3_051_003, 2, false),
            (0, 2, false),
        ] {
            bytes[19] = wal;
            bytes[96..].copy_from_slice(&version.to_be_bytes());
            let header = Header::parse(&bytes).unwrap();
            assert_eq!(header.has_wal_reset_bug(), has, "{version} {wal}");
        }
        assert_eq!(Header::parse(&bytes[1..]), None);
    }
}
