//! What a lock object says, and whether whoever wrote it still lives.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A lock not refreshed for so long is nobody's.
const STALE: SignedDuration = SignedDuration::from_mins(30);

/// A lock object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::repository) struct LockFile {
    pub time: Timestamp,
    pub exclusive: bool,
    #[serde(default)]
    pub hostname: String,
    #[serde(default)]
    pub username: String,
    #[serde(default)]
    pub pid: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    /// Ours alone; restic passes over it, and nobody writes a lock anew. See [`Running`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    running: Option<Running>,
}

/// Which run of which machine a process number belongs to. A machine's name is no proof: containers and
/// copies of a machine share it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    /// The kernel's `boot_id`.
    boot: String,
    /// The inode of the process's PID namespace.
    namespace: u64,
    /// When the process started, in the kernel's ticks since the boot.
    start: u64,
}

/// What is to be thought of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its holder lives, as far as anybody can tell.
    Held,
    /// Its process is gone, for sure.
    Dead,
    /// Long not refreshed.
    Stale,
}

impl LockFile {
    pub fn ours(time: Timestamp, exclusive: bool) -> Self {
        let id = |number: u32| (number != 0).then_some(number);
        let pid = rustix::process::getpid().as_raw_pid();
        Self {
            time,
            exclusive,
            hostname: host_name(),
            username: user_name(),
            pid,
            uid: id(rustix::process::getuid().as_raw()),
            gid: id(rustix::process::getgid().as_raw()),
            running: Running::here(pid),
        }
    }

    /// Whether its holder lives. A process number alone may be that of a container that shares the
    /// machine's name: then a lock is dead only once it is stale as well.
    pub fn standing(&self, now: Timestamp) -> Standing {
        let is_stale = now.duration_since(self.time) > STALE;
        match self.is_running() {
            Some(false) => Standing::Dead,
            None if is_stale && self.is_unknown_here() => Standing::Dead,
            None if is_stale => Standing::Stale,
            Some(true) | None => Standing::Held,
        }
    }

    /// Whether its process runs, if that can be known for sure.
    fn is_running(&self) -> Option<bool> {
        let theirs = self.running.as_ref()?;
        let ours = Running::here(rustix::process::getpid().as_raw_pid())?;
        if (&theirs.boot, theirs.namespace) != (&ours.boot, ours.namespace) {
            return None;
        }
        match Process::find(self.pid) {
            // Another process may have got its number since.
            Some(process) => Some(process.start == theirs.start && !process.has_ended),
            // Other users' processes may be hidden from us (`hidepid`); only the kernel's word counts.
            None if is_nobody(self.pid) => Some(false),
            None => None,
        }
    }

    /// Whether it says that it is of this machine, where no process has its number.
    pub fn is_unknown_here(&self) -> bool {
        self.hostname == host_name() && is_nobody(self.pid)
    }

    /// Who holds it, for people.
    pub fn holder(&self, now: Timestamp) -> String {
        let kind = if self.exclusive {
            "exclusive"
        } else {
            "shared"
        };
        let standing = match self.standing(now) {
            Standing::Held => "",
            Standing::Dead => "; that process no longer runs",
            Standing::Stale => "; not refreshed for more than 30 minutes: probably left by a crash",
        };
        format!(
            "{} on {}, process {} ({kind}, since {:.0}{standing})",
            self.username, self.hostname, self.pid, self.time
        )
    }
}

impl Running {
    fn here(pid: i32) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Self {
            boot: boot.trim().to_owned(),
            namespace: std::fs::metadata("/proc/self/ns/pid").ok()?.ino(),
            start: Process::find(pid)?.start,
        })
    }
}

/// A process as the kernel shows it.
struct Process {
    /// When it started, in ticks since the boot.
    start: u64,
    /// Whether it does nothing more, and only waits for its parent to ask how it ended. In a container whose
    /// first process asks nobody, that is for ever.
    has_ended: bool,
}

impl Process {
    fn find(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Its name is between brackets and may hold anything, also brackets.
        let (_, after_name) = stat.rsplit_once(')')?;
        let mut fields = after_name.split_whitespace();
        let (state, threads) = (fields.next()?, fields.nth(16)?);
        // The first of its threads may have ended before others that still write.
        let has_ended = matches!(state, "Z" | "X") && matches!(threads, "0" | "1");
        Some(Self {
            start: fields.nth(1)?.parse().ok()?,
            has_ended,
        })
    }
}

/// Whether no process has this number, also none that we may not see.
fn is_nobody(pid: i32) -> bool {
    let exists = |pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH);
    pid > 0 && !rustix::process::Pid::from_raw(pid).is_some_and(exists)
}

/// The name of this machine.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The name of the user we run as, or the number if it has none.
#[must_use]
pub fn user_name() -> String {
    let uid = rustix::process::getuid().as_raw();
    uzers::get_user_by_uid(uid).map_or_else(
        || uid.to_string(),
        |user| user.name().to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> LockFile {
        LockFile::ours(Timestamp::UNIX_EPOCH, true)
    }

    fn later(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    /// A process number that was just somebody's.
    fn gone() -> i32 {
        let child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        { child }.wait().unwrap();
        pid
    }

    #[test]
    fn a_process_of_this_run_of_the_machine_is_known_for_sure() {
        assert_eq!(lock().standing(later(10_000)), Standing::Held, "it is us");
        let mut dead = lock();
        dead.pid = gone();
        assert_eq!(dead.standing(later(0)), Standing::Dead);
        // Its number was given to another process.
        let mut reused = lock();
        reused.running.as_mut().unwrap().start -= 1;
        assert_eq!(reused.standing(later(0)), Standing::Dead);
    }

    #[test]
    fn a_process_that_nobody_has_asked_how_it_ended_is_dead() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let mut ended = lock();
        ended.pid = i32::try_from(child.id()).unwrap();
        // Waits until it has ended, and leaves it as it is.
        rustix::process::waitid(
            rustix::process::WaitId::Pid(rustix::process::Pid::from_child(&child)),
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        )
        .unwrap();
        let process = Process::find(ended.pid).unwrap();
        ended.running.as_mut().unwrap().start = process.start;
        assert_eq!(ended.standing(later(0)), Standing::Dead);
        child.wait().unwrap();
    }

    #[test]
    fn of_any_other_only_time_tells() {
        let mut container = lock();
        container.running.as_mut().unwrap().namespace += 1;
        container.pid = gone();
        assert_eq!(container.standing(later(30)), Standing::Held);
        assert_eq!(container.standing(later(31)), Standing::Dead);
        let mut restic = lock();
        restic.running = None;
        restic.pid = gone();
        assert_eq!(restic.standing(later(30)), Standing::Held);
        assert_eq!(restic.standing(later(31)), Standing::Dead);
        restic.hostname = "elsewhere".into();
        assert_eq!(restic.standing(later(31)), Standing::Stale);
        // A clock that is behind makes nobody dead.
        assert_eq!(restic.standing(later(-100_000)), Standing::Held);
    }
}
