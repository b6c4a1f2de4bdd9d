//! The one public error; what each advises, and the table of exit codes.

mod advice;
mod exit_code;
mod words;

use std::path::PathBuf;

use crate::units::{ByteSize, counted, shown};

pub use advice::Advice;
pub use exit_code::ExitCode;
use words::{and_freed, and_more, and_others, but_unused, signal_name, untried};

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

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
    /// A folder of the repository is missing: what it held may be elsewhere, so it is not taken for empty.
    #[error("the folder {folder} of the repository at {location} is missing")]
    FolderMissing {
        /// Where the repository is.
        location: String,
        /// The folder's name.
        folder: &'static str,
    },
    /// The storage has no room left, and what would free more of it wants room itself.
    #[error("the repository's storage is full{}: {} must be free there before `prune --now` can free {} more", and_freed(*.freed_bytes), ByteSize(*.needed_bytes), ByteSize(*.frees_bytes))]
    PruneNeedsRoom {
        /// Bytes that this run has freed.
        freed_bytes: u64,
        /// Bytes that could be freed.
        frees_bytes: u64,
        /// Bytes that must be free for that.
        needed_bytes: u64,
    },
    /// The storage has no room left, and there is nothing in the repository that could go.
    #[error("the repository's storage is full{}, and snapshots need all that is left in it{}", and_freed(*.freed_bytes), but_unused(*.unused_bytes))]
    NothingToFree {
        /// Bytes that this run has freed.
        freed_bytes: u64,
        /// Bytes that nobody needs, in packs that are needed: fewer than it takes to store those anew.
        unused_bytes: u64,
    },
    /// The storage has no room for a lock, and no snapshot would go.
    #[error(
        "the repository's storage is full, so there is no room for a lock, and by these rules no snapshot goes"
    )]
    NothingToForget,
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
    /// Not all records of proofs can be read.
    #[error("a record of proofs is damaged: nobody can tell which snapshot is the last proven one")]
    ProofsUncertain,
    /// No key file opens with the password.
    #[error("the password {whose} opens none of the {tried} key(s) of {location}{}", untried(*.left))]
    WrongPassword {
        /// Where it came from: the file, the variable.
        whose: String,
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
    /// The repository holds no such object.
    #[error("the repository holds no {object}")]
    NoSuchObject {
        /// What was asked for: its kind and its id.
        object: String,
    },
    /// What was written to a pipe or a file ends too early.
    #[error("the output is not whole, it ends after {}: {finding}", ByteSize(*.written_bytes))]
    OutputCut {
        /// Bytes that were written before.
        written_bytes: u64,
        /// Why it does not go on.
        finding: String,
    },
    /// Whoever reads what is written has gone away before the end.
    #[error("the output is not whole: whoever reads it has stopped before its end")]
    OutputClosed,
    /// The file that something was to be written to is there.
    #[error("{} is there already", shown(.path))]
    FileExists {
        /// The file.
        path: PathBuf,
    },
    /// The keys are as they must be to keep the way in open.
    #[error("{finding}")]
    KeyRefused {
        /// Why no key is added or removed.
        finding: String,
        /// What to do instead.
        next: String,
    },
    /// The new password is that of another key: somebody else's, or one that a run which was cut short has made.
    #[error("the new password opens another key already, {other}")]
    KeyTaken {
        /// That key.
        other: String,
        /// The key that was to be replaced.
        old: String,
        /// The flags that open the repository with the new password; empty if nobody knows them.
        flags: String,
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
    /// The patterns of a restore select nothing.
    #[error("{words} selects nothing of {base} in snapshot {snapshot}")]
    NothingSelected {
        /// The snapshot's short id.
        snapshot: String,
        /// The folder that was to be restored.
        base: String,
        /// The patterns with their flags.
        words: String,
    },
    /// Some of what was asked for is lost; all the rest was brought back.
    #[error("{} cannot be brought back: no whole copy is in the repository", counted(*.count, "item"))]
    ItemsLost {
        /// How many items.
        count: u64,
        /// What became of the rest.
        rest: String,
    },
    /// What the owner has run before a backup failed.
    #[error("the hook before-backup `{hook}` {finding}")]
    HookBeforeBackup {
        /// The program and its arguments.
        hook: String,
        /// How it ended, and what it said.
        finding: String,
    },
    /// What the owner has run before a restore failed.
    #[error("the hook before-restore `{hook}` {finding}")]
    HookBeforeRestore {
        /// The program and its arguments.
        hook: String,
        /// How it ended, and what it said.
        finding: String,
    },
    /// What the owner has run after a backup or a restore failed.
    #[error("the hook {when} `{hook}` {finding}")]
    HookAfter {
        /// After what: `after-backup` or `after-restore`.
        when: &'static str,
        /// The program and its arguments.
        hook: String,
        /// How it ended, and what it said.
        finding: String,
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
    #[error("our lock on the repository is lost: {finding}")]
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
    /// Something stands there that an incomplete snapshot failed to save, and would be moved aside.
    #[error("{}{} would be moved aside, and snapshot {snapshot} does not hold it: it is incomplete", shown(.path), and_others(*.others))]
    Unsaved {
        /// The snapshot's short id.
        snapshot: String,
        /// The first such path.
        path: PathBuf,
        /// How many more there are.
        others: u64,
    },
    /// What a restore in place keeps would be removed, and the snapshot failed to save some of it.
    #[error("what the restore {id} keeps may be all that there is of {}{}: snapshot {snapshot} failed to save it", shown(.path), and_others(*.others))]
    OnlyCopy {
        /// The restore's name.
        id: String,
        /// The short id of the snapshot that was restored.
        snapshot: String,
        /// Where the first of it lies now.
        path: PathBuf,
        /// How many more there are.
        others: u64,
    },
    /// A database that would be replaced is open.
    #[error("{} is open in {holder}", shown(.path))]
    InUse {
        /// The database, or a file of it.
        path: PathBuf,
        /// Who has it open.
        holder: String,
    },
    /// What would be replaced is not what was planned upon.
    #[error(
        "the plan {wanted} no longer holds: the host, the target, the snapshot or what would be replaced has changed"
    )]
    PlanChanged {
        /// The plan that was consented to.
        wanted: String,
    },
    /// Nobody has consented to what cannot be done unasked.
    #[error("nobody has agreed to {what}")]
    NoConsent {
        /// What would be done.
        what: String,
        /// How to agree.
        next: &'static str,
    },
    /// A copy lacks something, so it does not replace what is there.
    #[error("{count} item(s) cannot be brought back, {first} among them, so nothing was replaced")]
    NotWhole {
        /// How many.
        count: usize,
        /// One of them.
        first: String,
    },
    /// Somebody worked on the target while it was swapped.
    #[error("{} was changed while it was replaced: {finding}", shown(.path))]
    TargetChanged {
        /// What was changed.
        path: PathBuf,
        /// How.
        finding: String,
    },
    /// A swap or its undoing stopped half-way, and could not be taken back.
    #[error("the swap stopped half-way: {cause}")]
    HalfSwapped {
        /// Its kept folder.
        path: PathBuf,
        /// Why it stopped.
        cause: Box<Error>,
    },
    /// No restore in place is known.
    #[error("no restore in place is known {finding}")]
    NothingKept {
        /// Where it was looked for.
        finding: String,
    },
    /// A restore in place is remembered, and what it keeps is not where it was.
    #[error("what the restore {id} keeps in {} is not there", shown(.path))]
    KeptMissing {
        /// Its name.
        id: String,
        /// Its kept folder.
        path: PathBuf,
    },
    /// What a restore in place keeps lies in what another one has replaced or displaced.
    #[error("what the restore {id} keeps went along with what the restore {other} has moved aside: it is in {}", shown(.path))]
    KeptInside {
        /// Its name.
        id: String,
        /// The other's name.
        other: String,
        /// Its kept folder.
        path: PathBuf,
    },
    /// Another restore was done on top of the one that is to be rolled back.
    #[error("the later restore {later} has replaced something of what the restore {id} did")]
    LaterRestore {
        /// Its name.
        id: String,
        /// The later one's.
        later: String,
    },
    /// The restore was rolled back before.
    #[error("the restore {id} is already rolled back")]
    AlreadyRolledBack {
        /// Its name.
        id: String,
        /// Where what it displaced is kept.
        kept: PathBuf,
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
    /// A server cannot take the dump of a database.
    #[error("{name} is not loaded: {finding}")]
    ServerUnfit {
        /// The database.
        name: String,
        /// All that is in the way.
        finding: String,
    },
    /// Not all snapshots could be removed that were to go.
    #[error("{removed} of {} removed, then: {cause}", counted(*.count, "snapshot"))]
    RemovalStopped {
        /// How many are gone.
        removed: u64,
        /// How many were to go.
        count: u64,
        /// Why no more went.
        cause: Box<Error>,
    },
    /// A snapshot was named that is never removed.
    #[error("snapshot {snapshot} is not removed: it is {reason} of {group}")]
    LastSnapshot {
        /// Its short id.
        snapshot: String,
        /// What it is.
        reason: String,
        /// The series.
        group: String,
    },
    /// More snapshots came in than the history of their series makes plausible.
    #[error("nothing of {group} is removed: {finding}{}", and_more(*.others))]
    ImplausibleHistory {
        /// The first such series.
        group: String,
        /// What came in.
        finding: String,
        /// How many more series there are.
        others: u64,
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
    /// The exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage { .. } => ExitCode::Usage,
            Self::File { cause, .. } if is_full(cause) => ExitCode::Storage,
            Self::File { .. }
            | Self::Unsupported { .. }
            | Self::HalfSwapped { .. }
            | Self::HookAfter { .. }
            | Self::SealFailed { .. }
            | Self::Internal { .. }
            | Self::OutputClosed
            | Self::NoRandomness { .. } => ExitCode::Failed,
            Self::Storage { .. }
            | Self::FolderMissing { .. }
            | Self::PruneNeedsRoom { .. }
            | Self::NothingToFree { .. }
            | Self::NothingToForget => ExitCode::Storage,
            Self::NoRepository { .. } => ExitCode::NoRepository,
            Self::RepositoryExists { .. }
            | Self::TargetNotEmpty { .. }
            | Self::TargetUnfit { .. }
            | Self::FileExists { .. }
            | Self::UnfinishedRestore { .. }
            | Self::Unsaved { .. }
            | Self::OnlyCopy { .. }
            | Self::InUse { .. }
            | Self::PlanChanged { .. }
            | Self::NoConsent { .. }
            | Self::KeyRefused { .. }
            | Self::KeyTaken { .. }
            | Self::TargetChanged { .. }
            | Self::NothingKept { .. }
            | Self::LaterRestore { .. }
            | Self::KeptMissing { .. }
            | Self::KeptInside { .. }
            | Self::AlreadyRolledBack { .. }
            | Self::LastSnapshot { .. }
            | Self::ImplausibleHistory { .. }
            | Self::HookBeforeRestore { .. }
            | Self::ServerUnfit { .. }
            | Self::NoRoom { .. } => ExitCode::Refused,
            Self::Locked { .. } | Self::LockLost { .. } => ExitCode::Locked,
            Self::WrongPassword { .. } => ExitCode::WrongPassword,
            Self::NoSnapshot { .. }
            | Self::NoSuchObject { .. }
            | Self::NoSuchPath { .. }
            | Self::NothingSelected { .. } => ExitCode::NoSnapshot,
            Self::Source { .. } | Self::HookBeforeBackup { .. } => ExitCode::Source,
            Self::Damaged { .. }
            | Self::ItemsLost { .. }
            | Self::LatestUncertain { .. }
            | Self::ProofsUncertain
            | Self::NotWhole { .. }
            | Self::OutputCut { .. }
            | Self::NoKey { .. } => ExitCode::Damage,
            Self::RemovalStopped { cause, .. } => cause.exit_code(),
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

#[cfg(test)]
mod tests {
    use super::*;

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
