//! Programs of the owner that are run around a backup or a restore: maintenance mode on and off.
//!
//! A program and its arguments, never a shell. It gets a time and a process group of its own, so that it
//! can be ended with all that it started; what it prints is kept up to a limit and quoted. Called by `cli`,
//! filled by `config`.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::clock::Clock;
use crate::monitor::Monitor;
use crate::units::{Shown, Span};

/// When a hook is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before the first source is read. If it fails, there is no snapshot.
    BeforeBackup,
    /// At the end of each backup, however it ended.
    AfterBackup,
    /// Before a restore in place replaces anything. If it fails, nothing is replaced.
    BeforeRestore,
    /// At the end of each restore in place, however it ended.
    AfterRestore,
}

impl When {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::BeforeBackup,
        Self::AfterBackup,
        Self::BeforeRestore,
        Self::AfterRestore,
    ];

    /// As the configuration writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeforeBackup => "before-backup",
            Self::AfterBackup => "after-backup",
            Self::BeforeRestore => "before-restore",
            Self::AfterRestore => "after-restore",
        }
    }

    /// Whether it comes at the end: then a signal does not stop it.
    #[must_use]
    pub const fn is_after(self) -> bool {
        matches!(self, Self::AfterBackup | Self::AfterRestore)
    }
}

/// One program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// When it is run.
    pub when: When,
    /// The program and its arguments.
    pub run: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// How a hook ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Why it counts as failed, if so.
    pub failure: Option<String>,
    /// Its exit code, if it ended by itself.
    pub exit_code: Option<i32>,
    /// The end of what it printed, as it was.
    pub output: Vec<u8>,
    /// How many bytes it printed before that.
    pub cut_bytes: u64,
    /// How long it ran.
    pub duration: Duration,
}

/// Most bytes of what a hook prints that are kept: the last ones.
const MAX_OUTPUT: usize = 8 * 1024;
/// How long a hook has to end after SIGTERM, before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// How long its output is waited for once it has ended: what it left running may hold it open.
const AFTERMATH: Duration = Duration::from_secs(1);
/// How often we look whether it has ended.
const LOOK: Duration = Duration::from_millis(20);
/// Variables that hold secrets of ours, which are no hook's business.
const SECRETS: [&str; 4] = [
    "TILLSAFE_PASSWORD",
    "TILLSAFE_PASSWORD_COMMAND",
    "RESTIC_PASSWORD",
    "RESTIC_PASSWORD_COMMAND",
];

impl Hook {
    /// Runs it to its end, with `variables` added to our environment.
    #[must_use]
    pub fn run(
        &self,
        variables: &[(&str, String)],
        clock: &dyn Clock,
        monitor: &dyn Monitor,
    ) -> Ended {
        let begun = Instant::now();
        let tail = Arc::new(Mutex::new(Tail::default()));
        let mut ended = match self.start(variables, &tail) {
            Err(cause) => Ended::failed(format!("cannot be started: {cause}")),
            Ok(mut child) => self.watch(&mut child, begun, clock, monitor),
        };
        let wait = Instant::now();
        // Each reader holds the tail as long as it reads.
        while Arc::strong_count(&tail) > 1 && wait.elapsed() < AFTERMATH {
            clock.sleep(LOOK);
        }
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        ended.output = std::mem::take(&mut tail.bytes).into();
        ended.cut_bytes = tail.cut_bytes;
        ended.duration = begun.elapsed();
        ended
    }

    fn start(
        &self,
        variables: &[(&str, String)],
        tail: &Arc<Mutex<Tail>>,
    ) -> std::io::Result<Child> {
        let (program, arguments) = self
            .run
            .split_first()
            .ok_or(std::io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        for secret in SECRETS {
            command.env_remove(secret);
        }
        let mut child = command
            .args(arguments)
            .envs(
                variables
                    .iter()
                    .map(|(name, value)| (name, OsStr::new(value))),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        if let Some(pipe) = child.stdout.take() {
            keep_the_end(pipe, Arc::clone(tail));
        }
        if let Some(pipe) = child.stderr.take() {
            keep_the_end(pipe, Arc::clone(tail));
        }
        Ok(child)
    }

    fn watch(
        &self,
        child: &mut Child,
        begun: Instant,
        clock: &dyn Clock,
        monitor: &dyn Monitor,
    ) -> Ended {
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ended::of(status),
                Ok(None) => {}
                Err(cause) => {
                    end(child, clock);
                    return Ended::failed(format!("cannot be waited for: {cause}"));
                }
            }
            if begun.elapsed() >= self.timeout {
                end(child, clock);
                let timeout = Span(self.timeout);
                return Ended::failed(format!("had not ended after {timeout} and was stopped"));
            }
            if !self.when.is_after() && monitor.signal().is_some() {
                end(child, clock);
                return Ended::failed("was stopped, as we were".to_owned());
            }
            clock.sleep(LOOK);
        }
    }

    /// Program and arguments as people read them.
    #[must_use]
    pub fn words(&self) -> String {
        let words: Vec<String> = self
            .run
            .iter()
            .map(|word| Shown(word.as_bytes()).to_string())
            .collect();
        words.join(" ")
    }
}

impl Ended {
    fn failed(failure: String) -> Self {
        Self {
            failure: Some(failure),
            exit_code: None,
            output: Vec::new(),
            cut_bytes: 0,
            duration: Duration::ZERO,
        }
    }

    fn of(status: ExitStatus) -> Self {
        let failure = match (status.code(), status.signal()) {
            (Some(0), _) => None,
            (Some(code), _) => Some(format!("ended with exit code {code}")),
            (None, signal) => Some(format!("was ended by signal {}", signal.unwrap_or(0))),
        };
        Self {
            exit_code: status.code(),
            failure,
            ..Self::failed(String::new())
        }
    }
}

/// Ends a hook with all that it started: asked first, then killed.
fn end(child: &mut Child, clock: &dyn Clock) {
    let group = Pid::from_child(child);
    // An error means that it has ended: then there is nothing to signal.
    let _ = kill_process_group(group, Signal::TERM);
    let asked = Instant::now();
    while asked.elapsed() < GRACE {
        // Not taken from the kernel yet, so that its number stays that of its group.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if !matches!(waitid(WaitId::Pid(group), look), Ok(None)) {
            break;
        }
        clock.sleep(LOOK);
    }
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait();
}

/// The last bytes of what a hook prints.
#[derive(Debug, Default)]
struct Tail {
    bytes: VecDeque<u8>,
    cut_bytes: u64,
}

/// Reads a pipe to its end, or to ours: a hook must never wait for its reader.
fn keep_the_end(mut pipe: impl Read + Send + 'static, tail: Arc<Mutex<Tail>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let read = match pipe.read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => read,
                Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.bytes.extend(&buffer[..read]);
            let excess = tail.bytes.len().saturating_sub(MAX_OUTPUT);
            tail.bytes.drain(..excess);
            tail.cut_bytes += excess as u64;
        }
    });
}
