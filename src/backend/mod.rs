//! Named bytes on some storage.
//!
//! A [`Backend`] holds the objects of one repository. An object is written once and whole, or not at
//! all, is durable when `put_new` returns, and is never changed. All backends pass one conformance
//! suite (`tests/backends.rs`).

mod cached;
pub mod faults;
mod local;
mod mem;

use std::fmt::{self, Debug, Display};

use crate::id::Id;

pub use cached::CachedBackend;
pub use local::LocalBackend;
pub use mem::MemBackend;

/// The name of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Object {
    /// The one `config`; its existence is the repository's.
    Config,
    /// An object of a class, named by the SHA-256 of its bytes.
    Named(Class, Id),
}

/// The five kinds of named objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Key files.
    Keys,
    /// Locks.
    Locks,
    /// Snapshots.
    Snapshots,
    /// Index files.
    Index,
    /// Packs.
    Data,
}

impl Class {
    /// All five.
    pub const ALL: [Self; 5] = [
        Self::Keys,
        Self::Locks,
        Self::Snapshots,
        Self::Index,
        Self::Data,
    ];

    /// The class's folder in a repository.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Locks => "locks",
            Self::Snapshots => "snapshots",
            Self::Index => "index",
            Self::Data => "data",
        }
    }
}

impl Display for Object {
    /// The object's path in the default layout: packs are spread over 256 folders.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("config"),
            Self::Named(Class::Data, id) => write!(f, "data/{}/{id}", &id.short()[..2]),
            Self::Named(class, id) => write!(f, "{}/{id}", class.folder()),
        }
    }
}

/// What a folder of the repository holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The objects, by name, with their size in bytes.
    pub objects: Vec<(Id, u64)>,
    /// Names that are no object's: left alone, and worth naming to the owner.
    pub strays: Vec<String>,
}

/// Why a storage refused. Narrow, because retrying must decide on it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such object, or it ends before the bytes that were asked for.
    #[error("not found")]
    NotFound,
    /// The name is taken.
    #[error("already there")]
    AlreadyExists,
    /// No right to do so.
    #[error("permission denied: {0}")]
    Denied(String),
    /// No room left.
    #[error("no space left: {0}")]
    Full(String),
    /// The object is longer than its reader allows.
    #[error("it is too long: {0}")]
    TooLong(String),
    /// Anything else; trying again may help.
    #[error("{0}")]
    Transient(String),
}

/// A backend's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Becomes the crate's error: `doing` something to `object`.
    pub fn on(self, doing: &'static str, object: impl Display) -> crate::error::Error {
        crate::error::Error::Storage {
            doing,
            object: object.to_string(),
            full: matches!(self, Self::Full(_)),
            cause: self.to_string(),
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(cause: std::io::Error) -> Self {
        use std::io::ErrorKind;
        match cause.kind() {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::AlreadyExists => Self::AlreadyExists,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Self::Denied(cause.to_string())
            }
            _ if crate::error::is_full(&cause) => Self::Full(cause.to_string()),
            _ => Self::Transient(cause.to_string()),
        }
    }
}

/// Storage for one repository.
pub trait Backend: Debug + Send + Sync {
    /// Where it is, as its owner writes it.
    fn location(&self) -> String;

    /// Makes the place ready for a repository. Existing objects are left as they are.
    ///
    /// # Errors
    /// As the storage reports them.
    fn create(&self) -> Result<()>;

    /// Stores an object, durably and whole, under a name that is free.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] if the name is taken; nothing is changed then.
    fn put_new(&self, object: Object, bytes: &[u8]) -> Result<()>;

    /// Reads a whole object of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::TooLong`] if it is longer than `limit`.
    fn get(&self, object: Object, limit: u64) -> Result<Vec<u8>>;

    /// Reads `length` bytes from `offset`.
    ///
    /// # Errors
    /// [`Error::NotFound`], also if the object ends before; no memory is taken then.
    fn get_range(&self, object: Object, offset: u64, length: usize) -> Result<Vec<u8>>;

    /// Lists a class. A listing is whole or an error.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the storage has folders, and that of the class is missing: what it held may
    /// be elsewhere, so it is not empty. Only `locks/` may be missing. Else as the storage reports them.
    fn list(&self, class: Class) -> Result<Listing>;

    /// Deletes an object.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it is not there.
    fn delete(&self, object: Object) -> Result<()>;

    /// Whether any [`list`](Self::list) that begins once `put_new` has returned holds the object, whoever asks. Not known of
    /// most storages: what another machine writes may be seen later.
    fn lists_at_once(&self) -> bool {
        false
    }
}

/// Refuses an object longer than its reader allows, before memory is taken for it.
fn within(length: u64, limit: u64) -> Result<()> {
    if length > limit {
        return Err(Error::TooLong(format!("{length} bytes, {limit} allowed")));
    }
    Ok(())
}
