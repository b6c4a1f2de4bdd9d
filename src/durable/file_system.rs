//! Which kind of file system a path lies on, by the kernel's numbers (linux/magic.h).

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// NFS.
pub const NFS: u32 = 0x6969;
/// SMB: smbfs, cifs, smb2.
pub const SMB: [u32; 3] = [0x517b, 0xff53_4d42, 0xfe53_4d42];
/// 9p, by which a virtual machine sees its host's files.
pub const PLAN_9: u32 = 0x0102_1997;
/// Whatever a program shows as files.
pub const FUSE: u32 = 0x6573_5546;
/// ext2, ext3 and ext4.
pub const EXT: u32 = 0xef53;
/// XFS.
pub const XFS: u32 = 0x5846_5342;
/// Btrfs.
pub const BTRFS: u32 = 0x9123_683e;
/// Files in memory.
pub const TMPFS: u32 = 0x0102_1994;

/// The kind of the file system that `path` lies on.
///
/// # Errors
/// As the system reports them.
pub fn kind(path: &Path) -> io::Result<u32> {
    Ok(number(&rustix::fs::statfs(path)?))
}

/// The kind of the file system that `held` lies on.
///
/// # Errors
/// As the system reports them.
pub fn kind_of_held(held: impl AsFd) -> io::Result<u32> {
    Ok(number(&rustix::fs::fstatfs(held)?))
}

/// The kernel's numbers have 32 bits, whatever the width and the sign of the field.
fn number(stat: &rustix::fs::StatFs) -> u32 {
    u32::try_from(stat.f_type & 0xffff_ffff).unwrap_or(0)
}
