//! The one public error, what it advises, and the table of exit codes.

use std::path::PathBuf;

use crate::units::{ByteSize, shown};

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the program ended: the one table of exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done, and durable.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Done, but some items could not be read; they are named.
    Incomplete = 3,
    /// Damage found.
    Damage = 4,
    /// Restored, but not proved on this machine.
    NotProved = 7,
    /// No repository there.
    NoRepository = 10,
    /// The repository is locked.
    Locked = 11,
    /// No key opens with this password.
    WrongPassword = 12,
    /// No such snapshot or moment.
    NoSnapshot = 13,
    /// A source could not be reached.
    Source = 14,
    /// The storage could not be reached, or is full.
    Storage = 15,
    /// Refused before anything was touched.
    Refused = 20,
    /// The restored copy did not pass its proof.
    NotVerified = 21,
    /// SIGINT.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

impl ExitCode {
    /// Every code with its meaning, as `--help` and the docs show it.
    pub const TABLE: [(Self, &'static str); 16] = [
        (Self::Done, "done, and durable"),
        (Self::Failed, "failed"),
        (Self::Usage, "usage or configuration"),
        (
            Self::Incomplete,
            "done, but some items could not be read (they are named)",
        ),
        (Self::Damage, "damage found"),
        (Self::NotProved, "restored, but not proved on this machine"),
        (Self::NoRepository, "no repository there"),
        (Self::Locked, "the repository is locked"),
        (Self::WrongPassword, "wrong password"),
        (Self::NoSnapshot, "no such snapshot"),
        (
            Self::Source,
            "a source could not be reached; no snapshot was made",
        ),
        (
            Self::Storage,
            "the storage could not be reached, or is full",
        ),
        (Self::Refused, "refused; nothing was touched"),
        (
            Self::NotVerified,
            "the restored copy did not pass its proof",
        ),
        (Self::Interrupted, "interrupted (SIGINT)"),
        (Self::Terminated, "terminated (SIGTERM)"),
    ];

    /// The number that the process returns.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The code of a number that a process of ours has returned.
    #[must_use]
    pub fn of_number(number: i32) -> Option<Self> {
        let codes = Self::TABLE.iter().map(|(code, _)| *code);
        codes
            .into_iter()
            .find(|code| i32::from(code.number()) == number)
    }
}

/// What an error tells beside what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// What is safe.
    pub safe: String,
    /// What to do next: something to type where possible.
    pub next: String,
}

/// What can go wrong. The text says what happened; [`Error::advice`] says the rest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command's words do not fit.
    #[error("{finding}")]
    Usage {
        /// What does not fit.
        finding: String,
        /// What to type instead.
        next: String,
    },
    /// A file on this machine could not be read or written.
    #[error("{doing} {} failed: {cause}", shown(.path))]
    File {
        /// What was tried: `reading`, `creating` …
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// The storage of the repository refused.
    #[error("{doing} {object} failed: {cause}")]
    Storage {
        /// What was tried.
        doing: &'static str,
        /// The object's name below the repository.
        object: String,
        /// Why not.
        cause: String,
        /// Whether there is no room left.
        full: bool,
    },
    /// There is no repository at the location.
    #[error("there is no repository at {location}")]
    NoRepository {
        /// Where it was looked for.
        location: String,
    },
    /// A repository is already there.
    #[error("there is already a repository at {location}")]
    RepositoryExists {
        /// Where.
        location: String,
    },
    /// The repository is of a kind that this version cannot read or write.
    #[error("the repository at {location} {finding}")]
    Unsupported {
        /// Where.
        location: String,
        /// What is not supported.
        finding: String,
    },
    /// Somebody holds a lock that excludes us.
    #[error("the repository is locked by {holder}")]
    Locked {
        /// Who: user, host, process, since when.
        holder: String,
    },
    /// No key file opens with the password.
    #[error("the password opens none of the {tried} key(s) of {location}{}", untried(*.left))]
    WrongPassword {
        /// Where.
        location: String,
        /// How many key files were tried.
        tried: usize,
        /// How many were not, because all together would take too long.
        left: usize,
    },
    /// No snapshot fits.
    #[error("no snapshot fits {wanted}")]
    NoSnapshot {
        /// What was asked for.
        wanted: String,
    },
    /// `latest` was asked for, and a snapshot that cannot be read may be it.
    #[error("which snapshot is the latest is not certain: {object} cannot be read")]
    LatestUncertain {
        /// The one that cannot be read.
        object: String,
        /// Short id of the last that can be read and fits.
        readable: Option<String>,
    },
    /// No key file can be read.
    #[error("none of the key files of {location} can be read, and without a key nothing can")]
    NoKey {
        /// Where.
        location: String,
    },
    /// The snapshot does not hold the path.
    #[error("snapshot {snapshot} holds no {path}{}", finding.as_ref().map_or(String::new(), |finding| format!(": {finding}")))]
    NoSuchPath {
        /// The snapshot's short id.
        snapshot: String,
        /// What was asked for.
        path: String,
        /// Why it is not there, if the capture said so.
        finding: Option<String>,
    },
    /// A source that was asked for by name could not be captured.
    #[error("{name} could not be captured: {finding}")]
    Source {
        /// The source.
        name: String,
        /// Why not.
        finding: String,
    },
    /// An object of the repository is not what its name, key or index says.
    #[error("{object} is damaged: {finding}")]
    Damaged {
        /// The object's name below the repository.
        object: String,
        /// What is wrong.
        finding: String,
    },
    /// Something we made does not open again: this machine's memory is not to be trusted.
    #[error("a blob that was just sealed does not open again: {finding}")]
    SealFailed {
        /// What differs.
        finding: String,
    },
    /// Something that cannot happen, or only on a machine without memory.
    #[error("this should not happen: {finding}")]
    Internal {
        /// What happened.
        finding: String,
    },
    /// Our lock is no longer there: somebody may have taken us for dead, and removed what we wrote.
    #[error("the lock of this backup is lost: {finding}")]
    LockLost {
        /// What is wrong with it.
        finding: String,
    },
    /// The target of a restore already holds something.
    #[error("{} is not empty", shown(.path))]
    TargetNotEmpty {
        /// The target.
        path: PathBuf,
    },
    /// The target of a restore is something that nothing can be restored into.
    #[error("{} cannot be a restore target: {finding}", shown(.path))]
    TargetUnfit {
        /// The target.
        path: PathBuf,
        /// Why not.
        finding: String,
    },
    /// An interrupted restore waits in the target, and cannot be finished by this run.
    #[error("{} holds an interrupted restore {finding}", shown(.path))]
    UnfinishedRestore {
        /// The target.
        path: PathBuf,
        /// Which restore, or why it cannot be finished.
        finding: String,
    },
    /// The target's file system has too little room.
    #[error("{} has room for {}, but the restore needs {} more", shown(.path), ByteSize(*.free_bytes), ByteSize(.needed_bytes.saturating_sub(*.free_bytes)))]
    NoRoom {
        /// The target.
        path: PathBuf,
        /// Bytes needed.
        needed_bytes: u64,
        /// Bytes free.
        free_bytes: u64,
    },
    /// The restored copy is not what was captured.
    #[error("the restored copy of {name} did not pass its proof: {finding}")]
    NotVerified {
        /// The item.
        name: String,
        /// What differs.
        finding: String,
    },
    /// The kernel gives no random numbers.
    #[error("this machine gives no random numbers: {cause}")]
    NoRandomness {
        /// Why not.
        cause: String,
    },
    /// A signal asked us to stop.
    #[error("stopped by {}", signal_name(*.signal))]
    Interrupted {
        /// The signal's number.
        signal: i32,
    },
}

impl Error {
    /// What is safe, and what to do next.
    #[must_use]
    #[allow(
        clippy::too_many_lines,
        reason = "one arm an error: a table, not a path"
    )]
    pub fn advice(&self) -> Advice {
        // No wildcard arm: a new error must say what is safe and what to do.
        let (safe, next) = match self {
            Self::Usage { next, .. } => ("nothing was done", next.as_str()),
            Self::File { cause, .. } if is_full(cause) => (
                "nothing stands under a final name that is not whole; snapshots are untouched",
                "make room on that file system, then run the same command again",
            ),
            Self::File { .. } => (
                "the snapshots in the repository are untouched",
                "mend the cause named above, then run the same command again",
            ),
            Self::Storage { full: true, .. } => (
                "every snapshot is untouched",
                "make room on the repository's storage (`restic prune` frees what an interrupted run left), then run the same command again",
            ),
            Self::Storage { .. } => (
                "every snapshot is untouched",
                "see that the storage is there and open to you (as its owner, or as root), then run the same command again",
            ),
            Self::NoRepository { location } => {
                return Advice {
                    safe: "nothing was written".into(),
                    next: format!(
                        "check the location (is the disk mounted?); only if it is to be a new repository: tillsafe -r {location} -p FILE init"
                    ),
                };
            }
            Self::RepositoryExists { .. } => (
                "it was not touched",
                "use it as it is (`tillsafe snapshots` lists what it holds), or name another place",
            ),
            Self::Unsupported { .. } => (
                "nothing was written",
                "open it with the program that made it, or with a newer tillsafe",
            ),
            Self::Locked { .. } => (
                "nothing was written; every snapshot is untouched, and restore works in spite of the lock",
                "wait until that process has ended; if it is dead, `restic unlock` removes its lock",
            ),
            Self::WrongPassword { left: 1.., .. } => (
                "nothing was read or written",
                "move the key files that you do not know out of keys/ (yours is probably the oldest), then run the same command again",
            ),
            Self::WrongPassword { .. } => (
                "nothing was read or written",
                "check that the password belongs to this repository",
            ),
            Self::NoSnapshot { .. } => (
                "nothing was written",
                "`tillsafe snapshots` lists what there is",
            ),
            Self::LatestUncertain { object, readable } => {
                let last = readable.as_ref().map_or_else(
                    || "name a snapshot by its id".to_owned(),
                    |id| format!("name {id}, the last that can be read, instead of `latest`"),
                );
                return Advice {
                    safe: "nothing was written; the other snapshots are untouched".into(),
                    next: format!(
                        "{last}; once you have what you need, move {object} out of the repository"
                    ),
                };
            }
            Self::NoKey { .. } => (
                "nothing was changed",
                "put the files of keys/ back from any copy of the repository, then run the same command again",
            ),
            Self::NoSuchPath { snapshot, .. } => {
                return Advice {
                    safe: "nothing was written".into(),
                    next: format!("`tillsafe ls {snapshot}` lists what it holds"),
                };
            }
            Self::Source { .. } => (
                "no snapshot was made from it; every earlier one is untouched",
                "mend the cause named above, then run the same backup again",
            ),
            Self::Damaged { .. } => (
                "nothing was changed; what does not depend on that object can still be restored by its path (latest:PATH)",
                "run `tillsafe check --read-data` for the extent; then move a damaged pack out of the repository and back up: what it held is stored again where the source still has it",
            ),
            Self::SealFailed { .. } => (
                "the damaged blob was not stored; every earlier snapshot is untouched",
                "test this machine's memory before you trust anything that it writes",
            ),
            Self::Internal { .. } => (
                "every earlier snapshot is untouched, and nothing half-done stands under a final name",
                "run the same command again; if it fails again, please report it with these lines",
            ),
            Self::LockLost { .. } => (
                "every earlier snapshot is untouched; no new one was made",
                "run the same backup again; what was stored already is not stored twice",
            ),
            Self::TargetNotEmpty { .. } => (
                "nothing was touched",
                "name a folder that does not exist yet with --target, or stop what uses this one, move it aside (mv), and run the same command again",
            ),
            Self::TargetUnfit { .. } => {
                ("nothing was touched", "name another folder with --target")
            }
            Self::UnfinishedRestore { .. } => (
                "nothing was replaced; what that restore has not moved up yet waits in the folder .tillsafe-ready-… in it",
                "run that same restore again to finish it (what has taken one of its names must be moved away first), or empty the folder, hidden names too",
            ),
            Self::NoRoom { .. } => (
                "nothing was touched",
                "make room there, or name a place on another file system (--target; for verify --scratch)",
            ),
            Self::NotVerified { .. } => (
                "nothing stands under its final name, and the copy was removed; live data was not touched",
                "run `tillsafe check --read-data`, then restore an earlier snapshot",
            ),
            Self::NoRandomness { .. } => (
                "nothing was written",
                "see why getrandom(2) fails on this machine; without it nothing can be encrypted",
            ),
            Self::Interrupted { .. } => (
                "every earlier snapshot is untouched, and nothing half-done stands under a final name",
                "run the same command again when it suits you",
            ),
        };
        Advice {
            safe: safe.to_owned(),
            next: next.to_owned(),
        }
    }

    /// The exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage { .. } => ExitCode::Usage,
            Self::File { cause, .. } if is_full(cause) => ExitCode::Storage,
            Self::File { .. }
            | Self::Unsupported { .. }
            | Self::SealFailed { .. }
            | Self::Internal { .. }
            | Self::NoRandomness { .. } => ExitCode::Failed,
            Self::Storage { .. } => ExitCode::Storage,
            Self::NoRepository { .. } => ExitCode::NoRepository,
            Self::RepositoryExists { .. }
            | Self::TargetNotEmpty { .. }
            | Self::TargetUnfit { .. }
            | Self::UnfinishedRestore { .. }
            | Self::NoRoom { .. } => ExitCode::Refused,
            Self::Locked { .. } | Self::LockLost { .. } => ExitCode::Locked,
            Self::WrongPassword { .. } => ExitCode::WrongPassword,
            Self::NoSnapshot { .. } | Self::NoSuchPath { .. } => ExitCode::NoSnapshot,
            Self::Source { .. } => ExitCode::Source,
            Self::Damaged { .. } | Self::LatestUncertain { .. } | Self::NoKey { .. } => {
                ExitCode::Damage
            }
            Self::NotVerified { .. } => ExitCode::NotVerified,
            Self::Interrupted { signal: 2 } => ExitCode::Interrupted,
            Self::Interrupted { .. } => ExitCode::Terminated,
        }
    }

    /// An [`Error::Internal`] with its cause.
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        Self::Internal {
            finding: cause.to_string(),
        }
    }

    /// Turns an I/O error on `path` into an [`Error::File`]; for `map_err`.
    pub fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        move |cause| Self::File {
            doing,
            path: path.into(),
            cause,
        }
    }
}

/// Whether an I/O error means that there is no room left.
#[must_use]
pub fn is_full(cause: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        cause.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

fn untried(left: usize) -> String {
    match left {
        0 => String::new(),
        left => format!(" that were tried; {left} more would take too long"),
    }
}

fn signal_name(signal: i32) -> String {
    match signal {
        2 => "SIGINT".to_owned(),
        15 => "SIGTERM".to_owned(),
        other => format!("signal {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_code_once() {
        let mut numbers: Vec<u8> = ExitCode::TABLE
            .iter()
            .map(|(code, _)| code.number())
            .collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(
            Error::file("writing", "/x")(full).exit_code(),
            ExitCode::Storage
        );
        let other = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert_eq!(
            Error::file("writing", "/x")(other).exit_code(),
            ExitCode::Failed
        );
    }
}
