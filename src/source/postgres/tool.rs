//! One of the engine's tools as a process: its environment, what it says, and how it ends.

use std::collections::VecDeque;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process_group};

use super::passfile::Passfile;
use super::server::Server;
use super::{Answer, Failure};
use crate::units::Shown;

/// Most bytes of what a tool says on stderr that are kept: the last ones.
const MAX_SAID: usize = 64 * 1024;
/// Most of it that an error quotes.
const MAX_QUOTED: usize = 1200;

/// A running tool. Dropped, it is killed.
#[derive(Debug)]
pub struct Tool {
    name: String,
    child: Child,
    said: Option<JoinHandle<Vec<u8>>>,
}

/// A tool's way in and out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipes {
    /// It gets nothing, and we read what it writes.
    Out,
    /// We write what it reads, and read what it writes.
    InAndOut,
    /// It gets and gives nothing.
    None,
}

/// The command of a tool, with an environment in which nobody's settings are.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C")
        .env("TZ", "UTC");
    command
}

/// The same of one that connects to a server.
pub fn client(program: &Path, server: &Server, database: &str, passfile: &Passfile) -> Command {
    let mut command = command(program);
    command
        .env("PGHOST", &server.socket)
        .env("PGPORT", server.port.to_string())
        .env("PGDATABASE", database)
        .env("PGPASSFILE", passfile.path())
        .env("PGAPPNAME", "tillsafe")
        .env("PGCONNECT_TIMEOUT", "30");
    if let Some(user) = &server.user {
        command.env("PGUSER", user);
    }
    command
}

impl Tool {
    pub fn start(mut command: Command, pipes: Pipes) -> Answer<Self> {
        let name = Path::new(command.get_program());
        let name = name
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let open = |wanted: bool| {
            if wanted {
                Stdio::piped()
            } else {
                Stdio::null()
            }
        };
        let mut child = command
            .stdin(open(pipes == Pipes::InAndOut))
            .stdout(open(pipes != Pipes::None))
            .stderr(Stdio::piped())
            // With all that it starts it can be ended.
            .process_group(0)
            .spawn()
            .map_err(|cause| Failure(format!("{name} cannot be started: {cause}")))?;
        let said = child
            .stderr
            .take()
            .map(|pipe| std::thread::spawn(move || the_end_of(pipe)));
        Ok(Self { name, child, said })
    }

    pub fn stdout(&mut self) -> Answer<ChildStdout> {
        let pipe = self.child.stdout.take();
        pipe.ok_or_else(|| Failure(format!("{} has no output", self.name)))
    }

    pub fn stdin(&mut self) -> Answer<ChildStdin> {
        let pipe = self.child.stdin.take();
        pipe.ok_or_else(|| Failure(format!("{} has no input", self.name)))
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// What ends it from another thread, as long as nobody has waited for it.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for its end; returns what it said.
    pub fn end(mut self) -> Answer<Vec<u8>> {
        let status = self.child.wait();
        let said = self.said.take().and_then(|said| said.join().ok());
        let said = said.unwrap_or_default();
        let failed = |how: String| Err(Failure(format!("{} {how}{}", self.name, quoted(&said))));
        match status {
            Err(cause) => failed(format!("cannot be waited for: {cause}")),
            Ok(status) if status.success() => Ok(said),
            Ok(status) => failed(how(status)),
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // Once it was waited for, its number may be somebody else's.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Ends a tool whose number is still its own, with all that it has started.
pub fn stop(pid: Pid) {
    let _ = kill_process_group(pid, Signal::TERM);
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or(0)),
    }
}

/// The last of what a tool said, as an error quotes it.
fn quoted(said: &[u8]) -> String {
    let said = said.trim_ascii();
    if said.is_empty() {
        return String::new();
    }
    let from = said.len().saturating_sub(MAX_QUOTED);
    let lines = said[from..].split(|byte| *byte == b'\n');
    let lines = lines.map(|line| Shown(line.trim_ascii()).to_string());
    let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    format!(": {}", lines.join("; "))
}

/// Reads a pipe to its end, whatever comes: a tool must never wait for its reader.
fn the_end_of(mut pipe: impl Read) -> Vec<u8> {
    let mut kept = VecDeque::new();
    let mut buffer = [0; 4096];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                kept.extend(&buffer[..read]);
                let excess = kept.len().saturating_sub(MAX_SAID);
                kept.drain(..excess);
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    kept.into()
}
