//! What is a database, and which files belong to one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::source::files::FileReader;

/// What `SQLite` appends to a database's name for the files beside it. They are part of the database
/// and never captured as files.
pub const SIDE_FILES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The file beside the database at `path`, by one of the [`SIDE_FILES`].
#[must_use]
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The database that a file with this suffix would lie beside; the way back from [`beside`].
#[must_use]
pub fn without(side_file: &Path, suffix: &str) -> Option<PathBuf> {
    let name = side_file.file_name()?.as_bytes();
    let name = name.strip_suffix(suffix.as_bytes())?;
    (!name.is_empty()).then(|| side_file.with_file_name(OsStr::from_bytes(name)))
}

/// The database that a file would belong to by its name.
#[must_use]
pub fn main_of(path: &Path) -> Option<PathBuf> {
    SIDE_FILES.iter().find_map(|suffix| without(path, suffix))
}

/// What the first bytes of a file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// A database.
    Database,
    /// A write-ahead log: its sibling without `-wal` is a database.
    Wal,
    /// A rollback journal: its sibling without `-journal` is a database.
    Journal,
    /// Something else.
    Other,
}

/// Bytes at the beginning of a file that tell what it is.
pub const HEAD: usize = 16;

impl Signature {
    /// What a file is that begins with these bytes: [`HEAD`] of them, or all that it has.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        match head {
            b"SQLite format 3\0" => Self::Database,
            [0x37, 0x7f, 0x06, 0x82 | 0x83, ..] => Self::Wal,
            [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7, ..] => Self::Journal,
            _ => Self::Other,
        }
    }
}

/// Whether a file begins as a database does; one that cannot be read does not. Only while no connection
/// to it is open.
#[must_use]
pub fn is_database(path: &Path) -> bool {
    signature(path).is_ok_and(|signature| signature == Signature::Database)
}

/// What lies beside a database as its write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    /// None, or one without content.
    None,
    /// One that this `SQLite` reads.
    Known,
    /// One that it passes over, or refuses.
    Unknown,
}

/// Looks at the log beside a database (<https://sqlite.org/fileformat2.html#walformat>).
#[must_use]
pub(super) fn log(path: &Path) -> Log {
    let mut head = [0; 8];
    let length = FileReader::open(&beside(path, "-wal")).and_then(|log| log.head(&mut head));
    match (length, head) {
        (Ok(8), [0x37, 0x7f, 0x06, 0x82 | 0x83, 0x00, 0x2d, 0xe2, 0x18]) => Log::Known,
        // Cut off before its first commit, or never written to after a crash of the machine.
        (Err(_) | Ok(..8), _) | (_, [0, 0, 0, 0, 0, 0, 0, 0]) => Log::None,
        _ => Log::Unknown,
    }
}

/// Whether a journal lies beside a database that may have to be rolled back.
#[must_use]
pub(super) fn has_hot_journal(path: &Path) -> bool {
    signature(&beside(path, "-journal")).is_ok_and(|signature| signature == Signature::Journal)
}

/// Peeks at the first bytes of a regular file. Only while no connection to it is open.
///
/// # Errors
/// As the system reports them.
pub fn signature(path: &Path) -> std::io::Result<Signature> {
    signature_of(&FileReader::open(path)?)
}

/// The same of a file that is open.
///
/// # Errors
/// As the system reports them.
pub fn signature_of(reader: &FileReader) -> std::io::Result<Signature> {
    let mut head = [0; HEAD];
    let length = reader.head(&mut head)?;
    Ok(Signature::of(&head[..length]))
}
