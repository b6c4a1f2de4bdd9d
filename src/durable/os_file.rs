//! An open file of the real file system.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;

use jiff::Timestamp;
use rustix::buffer::spare_capacity;
use rustix::fs::{Gid, Mode, Uid};

use super::direct::Direct;
use super::os::times;
use super::{File, Rights};

#[derive(Debug)]
pub(super) struct OsFile {
    file: fs::File,
    direct: Direct,
    read_direct: Direct,
}

impl OsFile {
    pub fn new(file: fs::File) -> Self {
        Self {
            file,
            direct: Direct::default(),
            read_direct: Direct::default(),
        }
    }
}

impl File for OsFile {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        // Into memory that nobody has filled with zeros first.
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let at = offset + bytes.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut bytes), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(cause) => return Err(cause.into()),
            }
        }
        // Whoever allocates may have given more than was asked for.
        bytes.truncate(length);
        Ok(bytes)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        /// Bytes of one call. The kernel takes memory for all of it in as large blocks as it can: those it may have to put
        /// together first, or to ask its own host for.
        const PIECE: usize = 64 * 1024;
        let mut at = offset;
        for piece in bytes.chunks(PIECE) {
            self.file.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn write_past_cache(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let done = self.direct.write(&self.file, bytes, offset, |bytes, at| {
            self.write_all_at(bytes, at)
        })?;
        self.write_all_at(&bytes[done..], offset + done as u64)
    }

    fn read_past_cache(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let done = self.read_direct.read(&self.file, bytes, offset);
        self.read_exact_at(&mut bytes[done..], offset + done as u64)
    }

    fn read_sparing(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let read = self.read_direct.read_uncached(&self.file, offset, length);
        read.map_or_else(|| self.read_at(offset, length), Ok)
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn rights(&self) -> io::Result<Rights> {
        let stat = rustix::fs::fstat(&self.file)?;
        Ok(Rights {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
        })
    }

    fn set_owner(&self, uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        Ok(rustix::fs::fchown(&self.file, Some(uid), Some(gid))?)
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode))?)
    }

    fn set_modified(&self, modified: Timestamp) -> io::Result<()> {
        Ok(rustix::fs::futimens(&self.file, &times(modified))?)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}
