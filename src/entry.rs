//! A captured item of a file system: its name, its kind and its metadata.

use std::ffi::OsString;

use jiff::Timestamp;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link and the text it holds.
    Symlink {
        /// Where it points, as stored.
        target: OsString,
    },
    /// A block device, by its number (`st_rdev`).
    BlockDevice {
        /// Its number.
        number: u64,
    },
    /// A character device, by its number (`st_rdev`).
    CharacterDevice {
        /// Its number.
        number: u64,
    },
    /// A named pipe.
    Pipe,
    /// A socket: it holds nothing, and only the program that listens there can make it.
    Socket,
    /// A kind that this version does not know, by its name in the repository format.
    Other(String),
}

impl Kind {
    /// Its name in the repository format.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::File => "file",
            Self::Folder => "dir",
            Self::Symlink { .. } => "symlink",
            Self::BlockDevice { .. } => "dev",
            Self::CharacterDevice { .. } => "chardev",
            Self::Pipe => "fifo",
            Self::Socket => "socket",
            Self::Other(name) => name,
        }
    }
}

/// An extended attribute: an access list, a capability, a label, or what any program keeps there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its name with its namespace, as `user.origin` or `system.posix_acl_access`.
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
}

/// Who owns an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// Number of the user.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// The user's name on the machine that was backed up; empty if unknown.
    pub user: String,
    /// The group's name there; empty if unknown.
    pub group: String,
}

/// Where a file lives on its file system: what makes two names one file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// Number of the device (`st_dev`).
    pub device: u64,
    /// Number of the inode; 0 for entries that no file system holds.
    pub inode: u64,
    /// Number of names.
    pub links: u64,
}

/// One item: everything but its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The last component of its path.
    pub name: OsString,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-id and sticky bits: the low 12 of `st_mode`.
    pub mode: u32,
    /// When its content changed.
    pub modified: Timestamp,
    /// When its metadata changed.
    pub changed: Timestamp,
    /// Who owns it.
    pub owner: Owner,
    /// Where it lives.
    pub place: Place,
    /// Its extended attributes, in the order in which the file system lists them.
    pub attributes: Vec<Attribute>,
}
