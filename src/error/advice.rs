//! What each error advises: what is safe, and what to do next.

use super::{Error, is_full};
use crate::units::shown;

/// What an error tells beside what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// What is safe.
    pub safe: String,
    /// What to do next: something to type where possible.
    pub next: String,
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
                "make room on the repository's storage, then run the same command again: `tillsafe prune --now` removes, without a byte left, what nobody needs, and tells what it cannot; `tillsafe forget` (with --keep-… or ids) removes snapshots first, without a byte left too",
            ),
            Self::PruneNeedsRoom { .. } => (
                "every snapshot is untouched, and whatever could go as a whole is gone: the rest lies in packs beside what is needed, which is stored anew first",
                "make so much room on the repository's storage, then run the same command again; or remove more snapshots before (`tillsafe forget` with --keep-… or ids): of what then nobody needs, whole packs go without a byte left",
            ),
            Self::NothingToFree { .. } => (
                "every snapshot is untouched",
                "make room on the repository's storage (other files, a larger disk); or remove snapshots first (`tillsafe forget` with --keep-… or ids, without a byte left), then `tillsafe prune --now`",
            ),
            Self::NothingToForget => (
                "every snapshot is untouched",
                "keep fewer (with --dry-run the same command shows what keeps each), or name snapshots by their ids: the first that goes makes the room; else make room on the repository's storage. What went before is freed by `tillsafe prune --now`",
            ),
            Self::Storage { .. } => (
                "every snapshot is untouched",
                "see that the storage is there and open to you (as its owner, or as root), then run the same command again",
            ),
            Self::FolderMissing {
                folder: "index", ..
            } => (
                "nothing was touched",
                "see that the whole repository is there (its disk mounted, its copy complete); if that folder is gone for good, `tillsafe repair index` makes it anew from the packs, and restoring works without it",
            ),
            Self::FolderMissing { .. } => (
                "nothing was touched",
                "see that the whole repository is there (its disk mounted, its copy complete), or put that folder back from any copy; one that never held anything (some copy tools leave it out) is made with mkdir",
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
                "wait until that process has ended (`--retry-lock 30m` waits for it); if it is dead, `tillsafe unlock` removes its lock",
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
            Self::NoSuchObject { .. } => (
                "nothing was changed",
                "`tillsafe list packs` lists what there is; so with snapshots, index, keys, locks and blobs",
            ),
            Self::OutputCut { .. } => (
                "the repository was not changed, and what was written before is as it was captured",
                "do not use what was written; `tillsafe restore SNAPSHOT:PATH --target DIR` brings back all that is whole and names the rest, with the snapshots in which it is intact",
            ),
            Self::OutputClosed => (
                "the repository was not changed, and what was written is as it was captured",
                "if the beginning was all that you wanted, nothing; else write into a file: --target FILE",
            ),
            Self::FileExists { .. } => (
                "it was not touched",
                "name a file that does not exist yet, or move this one aside (mv)",
            ),
            Self::KeyRefused { next, .. } => ("no key was added or removed", next.as_str()),
            Self::KeyTaken { other, old, flags } => {
                let how = if flags.is_empty() {
                    format!("open the repository with the new password and `key remove {old}`")
                } else {
                    format!("tillsafe {flags} key remove {old}")
                };
                return Advice {
                    safe: "no key was added or removed".into(),
                    next: format!(
                        "give a password that opens no key yet; but if an interrupted `key passwd` has made {other}, finish it: {how}"
                    ),
                };
            }
            Self::NoSuchPath { snapshot, .. } => {
                return Advice {
                    safe: "nothing was written".into(),
                    next: format!("`tillsafe ls {snapshot}` lists what it holds"),
                };
            }
            Self::NothingSelected { snapshot, base, .. } => {
                return Advice {
                    safe: "nothing was written".into(),
                    next: format!(
                        "`tillsafe ls {snapshot}:{base}` lists what it holds; a pattern with a slash is meant from {base}, one without is a name at any depth"
                    ),
                };
            }
            Self::ItemsLost { rest, .. } => {
                return Advice {
                    safe: rest.clone(),
                    next: "restore what is named as lost from a snapshot in which it is intact, where one is named (`tillsafe restore SNAPSHOT:PATH --target DIR`); `tillsafe check --read-data` shows the extent of the damage".into(),
                };
            }
            Self::HookBeforeBackup { .. } => (
                "no snapshot was made; every earlier one is untouched",
                "run it by hand to see why it fails, mend it or take it out of the configuration, then run the same backup again",
            ),
            Self::HookBeforeRestore { .. } => (
                "nothing was replaced",
                "run it by hand to see why it fails, mend it or take it out of the configuration, then run the same restore again",
            ),
            Self::HookAfter { .. } => (
                "what was backed up or restored before it stays as it is",
                "run it by hand: what the hooks before have stopped may still stand still",
            ),
            Self::Source { .. } => (
                "no snapshot was made from it; every earlier one is untouched",
                "mend the cause named above, then run the same backup again",
            ),
            Self::Damaged { object, .. } if object == "config" => (
                "nothing was changed; all that is in the repository can still be read and restored",
                "put `config` back from any copy of the repository, then run the same command again; without one, make a new repository elsewhere and back up there",
            ),
            Self::ProofsUncertain => (
                "nothing was removed",
                "`tillsafe verify` proves the last snapshot anew; then `tillsafe forget ID` removes the snapshot of records that the warning names (`tillsafe snapshots --all` lists it), or --trust-history, once, does without what it said",
            ),
            Self::Damaged { object, .. } if object.starts_with("snapshots/") => (
                "nothing was changed; the other snapshots are untouched",
                "`tillsafe snapshots` lists those that can be read: name one of them; once you have what you need, move that file out of the repository",
            ),
            Self::Damaged { .. } => (
                "nothing was changed; what does not depend on that object can still be restored by its path (SNAPSHOT:PATH)",
                "run `tillsafe check --read-data` for the extent; then `tillsafe repair index` and `tillsafe repair packs` keep all that is whole, a backup stores again what was lost where the source still has it, and `tillsafe repair snapshots --forget` leaves out what is lost for good",
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
                "every earlier snapshot is untouched; nothing was removed since, and no new snapshot was made",
                "run the same command again; what was stored already is not stored twice",
            ),
            Self::TargetNotEmpty { .. } => (
                "nothing was touched",
                "name a folder that does not exist yet with --target, or stop what uses this one, move it aside (mv), and run the same command again",
            ),
            Self::TargetUnfit { .. } => {
                ("nothing was touched", "name another folder with --target")
            }
            Self::UnfinishedRestore { .. } => (
                "nothing was lost: what that restore has not put in its place yet waits in the folder .tillsafe-ready-… or .tillsafe-kept-… there",
                "run that same restore again to finish it (what has taken one of its names must be moved away first); `tillsafe rollback` undoes one in place, and a folder that was being filled can be emptied instead, hidden names too",
            ),
            Self::Unsaved { .. } => (
                "nothing was touched",
                "to leave it where it is, the same command with --exclude and its path (what the snapshot does not hold then stays), or take another snapshot (`tillsafe snapshots`); with --accept-incomplete it is moved aside all the same, and kept",
            ),
            Self::OnlyCopy { .. } => (
                "nothing was removed",
                "fetch it first (`tillsafe rollback --list` names each of these files; cp -a, or `tillsafe rollback` with the restore's name, brings it back); with --accept-loss it is removed for good with the rest",
            ),
            Self::InUse { .. } => (
                "nothing was replaced",
                "stop what has it open (for a service: systemctl stop NAME), then run the same command again",
            ),
            Self::PlanChanged { .. } => (
                "nothing was touched",
                "look at the plan as it is now (the same command with --dry-run), and give its hash to --plan",
            ),
            Self::NoConsent { next, .. } => ("nothing was touched", *next),
            Self::NotWhole { .. } => (
                "what is live was not touched, and nothing is left beside it",
                "leave the lost items out (--exclude), so that what stands there in their place stays, or restore what is left to a new folder (--target); each is named with the snapshots in which it is intact",
            ),
            Self::TargetChanged { .. } => (
                "what stood there stands there, and nothing was lost",
                "stop whatever works there, then run the same command again",
            ),
            Self::HalfSwapped { path, .. } => {
                return Advice {
                    safe: format!(
                        "both the old data and the restored copy are whole: what is not in its place is in {}",
                        shown(path)
                    ),
                    next: "mend the cause named above, then `tillsafe rollback` brings the old data back, and the same restore completes the new".into(),
                };
            }
            Self::NothingKept { .. } => (
                "nothing was touched",
                "`tillsafe rollback --list` shows what there is to undo: name one of those; a restore with --target, or to where nothing stood, replaced nothing",
            ),
            Self::KeptMissing { id, .. } => {
                return Advice {
                    safe: "nothing was touched".into(),
                    next: format!(
                        "mount its disk, then run the same command again; if it was removed, `tillsafe rollback --discard {id}` forgets it"
                    ),
                };
            }
            Self::KeptInside { other, .. } => {
                return Advice {
                    safe: "nothing was touched".into(),
                    next: format!(
                        "`tillsafe rollback --list` shows that restore: unless it is rolled back already, `tillsafe rollback {other}` puts both back, then the same command again; `tillsafe rollback --discard {other}` removes both"
                    ),
                };
            }
            Self::LaterRestore { later, .. } => {
                return Advice {
                    safe: "nothing was touched".into(),
                    next: format!(
                        "take them back last to first: `tillsafe rollback {later}`, then the same command again"
                    ),
                };
            }
            Self::AlreadyRolledBack { kept, .. } => {
                return Advice {
                    safe: format!(
                        "the old data is live; what the rollback displaced is kept in {}",
                        shown(kept)
                    ),
                    next: "`tillsafe rollback --list` shows what is kept; with its name, `tillsafe rollback` undoes an earlier restore, and with --discard removes what is kept of it".into(),
                };
            }
            Self::NoRoom { .. } => (
                "nothing was touched",
                "make room there, or name a place on another file system (--target; for verify --scratch)",
            ),
            Self::NotVerified { .. } => (
                "nothing stands under its final name, and the copy was removed; live data was not touched",
                "run `tillsafe check --read-data`, then restore an earlier snapshot",
            ),
            Self::ServerUnfit { .. } => (
                "nothing was touched, on the server neither",
                "mend what is named, or name another server (--socket, --port, --user) or another database (--as), then run the same command again; `tillsafe dump SNAPSHOT:PATH` shows globals.sql, which has the roles",
            ),
            Self::RemovalStopped { cause, .. } => {
                return Advice {
                    safe: "every snapshot that was to stay is untouched".into(),
                    next: cause.advice().next,
                };
            }
            Self::LastSnapshot { .. } => (
                "nothing was touched",
                "leave it out; once a newer good (or proven) snapshot is there, it can be removed as well",
            ),
            Self::ImplausibleHistory { .. } => (
                "every snapshot of it is there; all other series are done",
                "look at them (`tillsafe snapshots`): if they are real, the same command with --trust-history; if not, change the password of whoever could write there, and remove them by their ids (`tillsafe forget ID…`)",
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
}
