//! A file system whose every answer a test has written: disks that fail, lengths that lie, names that are
//! listed and gone. It speaks to `/dev/fuse` itself, and needs root.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use super::mount::unmount_at_last;
use super::tools::find;

pub const EACCES: i32 = 13;
pub const EIO: i32 = 5;
pub const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;

/// What stands under a name.
pub enum Thing {
    File(Content),
    Folder(Folder),
    /// It is listed, and whoever looks gets this error.
    Gone(i32),
}

/// A file, which is told to be so long.
pub struct Content {
    pub length: u64,
    pub bytes: Vec<u8>,
    /// Whoever opens it gets this error.
    pub closed: Option<i32>,
    /// Whoever reads from there on gets this error.
    pub fails: Option<(u64, i32)>,
}

/// A folder.
pub struct Folder {
    pub things: BTreeMap<&'static str, Thing>,
    /// Whoever opens it gets this error.
    pub closed: Option<i32>,
    /// After all its names its list breaks off with this error.
    pub fails: Option<i32>,
}

/// A whole file.
pub fn file(bytes: &[u8]) -> Content {
    Content {
        length: bytes.len() as u64,
        bytes: bytes.to_vec(),
        closed: None,
        fails: None,
    }
}

/// A whole folder.
pub fn folder(things: impl IntoIterator<Item = (&'static str, Thing)>) -> Folder {
    Folder {
        things: things.into_iter().collect(),
        closed: None,
        fails: None,
    }
}

/// Such a file system, mounted until it is dropped.
pub struct Fuse {
    path: PathBuf,
    server: Option<JoinHandle<()>>,
}

impl Fuse {
    /// Mounts `root` at `path`, or says why that cannot be done here.
    pub fn mount(path: &Path, root: Folder) -> Result<Self, String> {
        std::fs::create_dir_all(path).unwrap();
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let device = device.map_err(|cause| format!("/dev/fuse: {cause}"))?;
        let mounted = Command::new(find("mount").ok_or("no mount")?)
            .args(["-i", "-t", "fuse", "-o"])
            .arg("fd=0,rootmode=40000,user_id=0,group_id=0,allow_other")
            .arg("tillsafe-test")
            .arg(path)
            .stdin(Stdio::from(device.try_clone().unwrap()))
            .output()
            .unwrap();
        if !mounted.status.success() {
            return Err(String::from_utf8_lossy(&mounted.stderr).into_owned());
        }
        let mut nodes = vec![Thing::Gone(ENOENT), Thing::Gone(ENOENT)];
        let mut names = BTreeMap::new();
        number(1, root, &mut nodes, &mut names);
        let server = Server {
            device,
            nodes,
            names,
        };
        Ok(Self {
            path: path.to_owned(),
            server: Some(std::thread::spawn(|| server.serve())),
        })
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        unmount_at_last(&self.path);
        if let Some(server) = self.server.take() {
            let ended = server.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server fell");
        }
    }
}

/// The numbers of names, by the number of their folder.
type Names = BTreeMap<u64, BTreeMap<&'static str, u64>>;

fn number(inode: u64, mut folder: Folder, nodes: &mut Vec<Thing>, names: &mut Names) {
    for (name, thing) in std::mem::take(&mut folder.things) {
        let next = nodes.len() as u64;
        names.entry(inode).or_default().insert(name, next);
        nodes.push(Thing::Gone(ENOENT));
        match thing {
            Thing::Folder(inner) => number(next, inner, nodes, names),
            other => nodes[usize::try_from(next).unwrap()] = other,
        }
    }
    nodes[usize::try_from(inode).unwrap()] = Thing::Folder(folder);
}

struct Server {
    device: File,
    nodes: Vec<Thing>,
    names: Names,
}

/// An answer, or the number of an error.
type Answer = Result<Vec<u8>, i32>;

impl Server {
    fn serve(mut self) {
        let mut request = vec![0; 1 << 18];
        // Reading ends when it is unmounted.
        while let Ok(length) = self.device.read(&mut request) {
            let number = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
            let long = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap());
            let (operation, unique, inode) = (number(4), long(8), long(16));
            let body = &request[40..length];
            let Some(answer) = self.answer(operation, inode, body) else {
                continue;
            };
            let (error, bytes) = match answer {
                Ok(bytes) => (0, bytes),
                Err(error) => (-error, Vec::new()),
            };
            let mut reply = Vec::new();
            reply.extend(u32::try_from(16 + bytes.len()).unwrap().to_ne_bytes());
            reply.extend(error.to_ne_bytes());
            reply.extend(unique.to_ne_bytes());
            reply.extend(bytes);
            // Who asked may be gone.
            let _ = self.device.write_all(&reply);
        }
    }

    /// By the numbers of linux/fuse.h.
    fn answer(&self, operation: u32, inode: u64, body: &[u8]) -> Option<Answer> {
        let offset = || u64::from_ne_bytes(body[8..16].try_into().unwrap());
        let wanted = || u32::from_ne_bytes(body[16..20].try_into().unwrap()) as usize;
        Some(match operation {
            // FORGET, INTERRUPT, BATCH_FORGET: no answer is wanted.
            2 | 36 | 42 => return None,
            1 => self.look(inode, body),
            3 => Ok([&[0; 16][..], &self.attributes(inode)].concat()),
            14 | 27 => self.open(inode),
            15 => self.read(inode, offset(), wanted()),
            17 => Ok(vec![0; 80]),
            26 => Ok(Self::welcome()),
            28 => self.list(inode, offset(), wanted()),
            // RELEASE, FLUSH, RELEASEDIR, DESTROY
            18 | 25 | 29 | 38 => Ok(Vec::new()),
            _ => Err(ENOSYS),
        })
    }

    fn welcome() -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [7_u32, 31, 0, 0, 0, 1 << 17, 1] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.resize(64, 0);
        bytes
    }

    fn node(&self, inode: u64) -> &Thing {
        &self.nodes[usize::try_from(inode).unwrap()]
    }

    fn look(&self, folder: u64, name: &[u8]) -> Answer {
        let name = std::str::from_utf8(name).unwrap().trim_end_matches('\0');
        let names = self.names.get(&folder);
        let inode = *names.and_then(|names| names.get(name)).ok_or(ENOENT)?;
        if let Thing::Gone(error) = self.node(inode) {
            return Err(*error);
        }
        let mut bytes = inode.to_ne_bytes().to_vec();
        bytes.resize(40, 0);
        bytes.extend(self.attributes(inode));
        Ok(bytes)
    }

    fn attributes(&self, inode: u64) -> Vec<u8> {
        let (mode, size) = match self.node(inode) {
            Thing::File(content) => (0o100_644_u32, content.length),
            Thing::Folder(_) | Thing::Gone(_) => (0o040_755, 0),
        };
        // Long ago: what is read does not change meanwhile.
        let mut bytes = Vec::new();
        for number in [inode, size, 0, 7, 7, 7] {
            bytes.extend(number.to_ne_bytes());
        }
        for number in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0_u32] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes
    }

    fn open(&self, inode: u64) -> Answer {
        /// No page cache reads ahead, or only as far as the length goes (`FOPEN_DIRECT_IO`).
        const DIRECT: u32 = 1;
        let closed = match self.node(inode) {
            Thing::File(content) => content.closed,
            Thing::Folder(folder) => folder.closed,
            Thing::Gone(error) => Some(*error),
        };
        closed.map_or_else(
            || {
                let mut bytes = vec![0; 8];
                bytes.extend(DIRECT.to_ne_bytes());
                bytes.resize(16, 0);
                Ok(bytes)
            },
            Err,
        )
    }

    fn read(&self, inode: u64, offset: u64, wanted: usize) -> Answer {
        let Thing::File(content) = self.node(inode) else {
            return Err(EIO);
        };
        let begin = usize::try_from(offset).unwrap().min(content.bytes.len());
        let mut end = (begin + wanted).min(content.bytes.len());
        if let Some((from, error)) = content.fails {
            if offset >= from {
                return Err(error);
            }
            end = end.min(usize::try_from(from).unwrap());
        }
        Ok(content.bytes[begin..end].to_vec())
    }

    fn list(&self, inode: u64, offset: u64, wanted: usize) -> Answer {
        let Thing::Folder(folder) = self.node(inode) else {
            return Err(EIO);
        };
        let mut bytes = Vec::new();
        let names = self.names.get(&inode).into_iter().flatten();
        let left = (1..).zip(names).skip(usize::try_from(offset).unwrap());
        for (place, (name, inode)) in left {
            let kind: u32 = match self.node(*inode) {
                Thing::Folder(_) => 4,
                Thing::File(_) | Thing::Gone(_) => 8,
            };
            let mut item = Vec::new();
            item.extend(inode.to_ne_bytes());
            item.extend(u64::to_ne_bytes(place));
            item.extend(u32::try_from(name.len()).unwrap().to_ne_bytes());
            item.extend(kind.to_ne_bytes());
            item.extend(name.as_bytes());
            item.resize(item.len().next_multiple_of(8), 0);
            if bytes.len() + item.len() > wanted {
                return Ok(bytes);
            }
            bytes.extend(item);
        }
        match folder.fails {
            Some(error) if bytes.is_empty() => Err(error),
            _ => Ok(bytes),
        }
    }
}
