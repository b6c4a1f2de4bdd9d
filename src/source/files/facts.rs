//! What the kernel says of an item, and what its numbers mean: times, and who users and groups are.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use jiff::Timestamp;
use rustix::fs::{AtFlags, FileType};

use crate::durable::Identity;
use crate::entry::Owner;

/// What the kernel says of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    pub identity: Identity,
    /// Kind and permissions.
    pub mode: u32,
    pub links: u64,
    pub uid: u32,
    pub gid: u32,
    /// The number of a device.
    pub number: u64,
    /// Bytes.
    pub size: u64,
    pub modified: Timestamp,
    pub changed: Timestamp,
}

impl Facts {
    /// Of what stands under a name in a folder now; no link is followed.
    ///
    /// # Errors
    /// As the system reports them.
    #[allow(
        clippy::useless_conversion,
        reason = "fields are narrower on other processors"
    )]
    pub fn look(folder: &File, name: &OsStr) -> io::Result<Self> {
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Self {
            identity: Identity {
                device: stat.st_dev.into(),
                inode: stat.st_ino.into(),
            },
            mode: stat.st_mode.into(),
            links: stat.st_nlink.into(),
            uid: stat.st_uid,
            gid: stat.st_gid,
            number: stat.st_rdev.into(),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: time(
                stat.st_mtime.into(),
                i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
            ),
            changed: time(
                stat.st_ctime.into(),
                i64::try_from(stat.st_ctime_nsec).unwrap_or(0),
            ),
        })
    }

    /// Of what is open.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            identity: Identity::of(metadata),
            mode: metadata.mode(),
            links: metadata.nlink(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            number: metadata.rdev(),
            size: metadata.len(),
            modified: time(metadata.mtime(), metadata.mtime_nsec()),
            changed: time(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// What it is.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }
}

/// A time as the kernel gives it.
fn time(seconds: i64, nanoseconds: i64) -> Timestamp {
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or(0);
    // A file system can hold times beyond the year 9999; nothing else can.
    Timestamp::new(seconds, nanoseconds).unwrap_or(if seconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// Names of users and groups, each looked up once.
#[derive(Debug, Default)]
pub struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    pub fn owner(&mut self, uid: u32, gid: u32) -> Owner {
        let user = self.users.entry(uid).or_insert_with(|| {
            uzers::get_user_by_uid(uid).map_or_else(String::new, |user| {
                user.name().to_string_lossy().into_owned()
            })
        });
        let group = self.groups.entry(gid).or_insert_with(|| {
            uzers::get_group_by_gid(gid).map_or_else(String::new, |group| {
                group.name().to_string_lossy().into_owned()
            })
        });
        Owner {
            uid,
            gid,
            user: user.clone(),
            group: group.clone(),
        }
    }
}
