//! Blobs in the order in which they are wanted, read ahead on all cores.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::durable::File;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Progress, go_on};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::pack::BlobKind;
use crate::source::sqlite::wal;

/// Bytes of blobs that are read ahead of the writer, but for one blob.
const AHEAD: u64 = 64 * 1024 * 1024;
/// Most parts that wait for the writer.
const PARTS: usize = 256;

/// A part of an output.
#[derive(Debug)]
pub enum Part {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A blob, for the file of this path.
    Blob(Id, Rc<PathBuf>),
    /// A stretch of a file, which becomes the file of this path.
    Piece {
        /// The file.
        file: Arc<dyn File>,
        /// Where the stretch begins, in bytes.
        offset: u64,
        /// Its length in bytes.
        length: usize,
        /// The path.
        path: Rc<PathBuf>,
    },
}

/// How an output ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Bytes that were written.
    pub bytes: u64,
    /// Whether their reader had enough before all was written.
    pub is_cut: bool,
}

/// A part that waits for its turn.
enum Waiting {
    Bytes(Vec<u8>),
    Piece(Arc<dyn File>, u64, usize, Rc<PathBuf>),
    Blob {
        answer: Receiver<Result<Vec<u8>>>,
        length: u64,
        path: Rc<PathBuf>,
    },
    Failed(Error),
}

type Job = (Id, Sender<Result<Vec<u8>>>);

/// Writes `parts` to `sink`, which says whether its reader wants more. Each blob is verified before it
/// goes out.
///
/// # Errors
/// [`Error::OutputCut`] if something is damaged; what `sink` returns; [`Error::Storage`],
/// [`Error::Interrupted`].
pub fn pour(
    repository: &Repository,
    index: &Index,
    parts: impl Iterator<Item = Result<Part>>,
    sink: &mut dyn FnMut(&[u8]) -> Result<bool>,
    monitor: &dyn Monitor,
) -> Result<Written> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let (jobs, queue) = crossbeam_channel::bounded::<Job>(PARTS);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let queue = queue.clone();
            scope.spawn(move || {
                for (id, answer) in queue {
                    // Nobody listens any more once the writer has stopped.
                    let _ = answer.send(repository.read_blob(index, BlobKind::Data, id));
                }
            });
        }
        drop(queue);
        // Moved in, so that the threads end with it.
        let order = |id: Id, answer| jobs.send((id, answer)).is_ok();
        let written = write(index, parts, &order, sink, monitor);
        drop(jobs);
        written
    })
}

fn write(
    index: &Index,
    parts: impl Iterator<Item = Result<Part>>,
    order: &dyn Fn(Id, Sender<Result<Vec<u8>>>) -> bool,
    sink: &mut dyn FnMut(&[u8]) -> Result<bool>,
    monitor: &dyn Monitor,
) -> Result<Written> {
    let mut parts = parts.fuse();
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    let (mut ahead, mut bytes) = (0, 0);
    loop {
        go_on(monitor)?;
        while waiting.len() < PARTS && (ahead < AHEAD || waiting.is_empty()) {
            match parts.next() {
                None => break,
                Some(Err(cause)) => {
                    waiting.push_back(Waiting::Failed(cause));
                    break;
                }
                Some(Ok(Part::Bytes(bytes))) => waiting.push_back(Waiting::Bytes(bytes)),
                Some(Ok(Part::Piece {
                    file,
                    offset,
                    length,
                    path,
                })) => waiting.push_back(Waiting::Piece(file, offset, length, path)),
                Some(Ok(Part::Blob(id, path))) => {
                    let at = index.find(BlobKind::Data, id);
                    let length = at.map_or(0, |at| at.plain_length());
                    let (question, answer) = channel();
                    if !order(id, question) {
                        unreachable!("the threads end after the writer");
                    }
                    ahead += length;
                    waiting.push_back(Waiting::Blob {
                        answer,
                        length,
                        path,
                    });
                }
            }
        }
        let next = match waiting.pop_front() {
            None => {
                return Ok(Written {
                    bytes,
                    is_cut: false,
                });
            }
            Some(Waiting::Bytes(bytes)) => Ok(bytes),
            Some(Waiting::Piece(file, offset, length, path)) => file
                .read_at(offset, length)
                .map_err(Error::file("reading", path.as_path())),
            Some(Waiting::Failed(cause)) => Err(cut(cause, bytes, None)),
            Some(Waiting::Blob {
                answer,
                length,
                path,
            }) => {
                ahead -= length;
                let Ok(read) = answer.recv() else {
                    unreachable!("a thread answers, or its panic goes on in the scope");
                };
                let read = read.and_then(|read| {
                    if wal::is_refusing(&read) {
                        return Err(Error::Damaged {
                            object: "it".to_owned(),
                            finding: "is only the base of a database, and how that is made whole cannot be read; restore it with the log beside it".to_owned(),
                        });
                    }
                    Ok(read)
                });
                read.map_err(|cause| cut(cause, bytes, Some(&path)))
            }
        }?;
        if !sink(&next)? {
            return Ok(Written {
                bytes,
                is_cut: true,
            });
        }
        bytes += next.len() as u64;
        monitor.progress(Progress {
            bytes: next.len() as u64,
            files: 0,
        });
    }
}

/// Damage, as who has the beginning of the output must hear of it.
fn cut(cause: Error, written_bytes: u64, path: Option<&Path>) -> Error {
    let Error::Damaged { object, finding } = cause else {
        return cause;
    };
    let file = path.map_or(String::new(), |path| {
        format!("{}: ", crate::units::shown(path))
    });
    Error::OutputCut {
        written_bytes,
        finding: format!("{file}{object}: {finding}"),
    }
}
