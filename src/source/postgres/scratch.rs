//! A private server for a proof: from the installed programs, in a folder of its own, without a network, for as long as we live.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::time::{Duration, Instant};

use super::programs::Programs;
use super::server::{PORT, Server, Services};
use super::session::Session;
use super::tool::{self, Pipes, Tool};
use super::{Answer, Failure};
use crate::durable::scratch::Scratch;
use crate::monitor::{Monitor, go_on};
use crate::units::shown;

/// The user that it runs as where we are root: a server of PostgreSQL refuses to run as root. Not `postgres`, who owns the shop's own
/// databases: what a dump has the server do (a function of a CHECK, a superuser's there) must not reach them.
const USER: &str = "nobody";
/// The role that it is ruled by.
const ROLE: &str = "postgres";
/// Longest path of a socket that the kernel takes, in bytes.
const MAX_SOCKET: usize = 107;
/// How long it may take to start.
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(50);
/// Runs a server as long as its own input stays open, which only we hold: whatever ends us ends it.
const GUARD: &str = "exec 3<&0; \"$@\" </dev/null & server=$!; (cat >/dev/null; kill -QUIT $server) <&3 & exec 3<&-; wait $server";
/// What a server that is thrown away can do without, and what must not leave it.
const SETTINGS: [&str; 12] = [
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_wal_size=4GB",
    "autovacuum=off",
    "archive_mode=off",
    "shared_preload_libraries=",
    "max_locks_per_transaction=1024",
];

/// A running private server. Dropped, it is stopped, and its folder removed.
#[derive(Debug)]
pub struct ScratchServer {
    /// Where it is.
    pub server: Server,
    guard: Option<(Tool, ChildStdin)>,
    // After the process: it is removed once nobody works in it.
    _folder: Scratch,
}

impl ScratchServer {
    /// Whether programs are there that can run a server for a dump of this major version, made by tools of that one.
    ///
    /// # Errors
    /// What to install.
    pub fn programs(named: Option<&Path>, major: u32) -> Answer<Programs> {
        let wanted = ["postgres", "initdb", "pg_restore"];
        Programs::find(named, major, &wanted).map_err(|_| {
            Failure(format!(
                "PostgreSQL {major} or later is not installed here (Debian: apt-get install postgresql-{major})"
            ))
        })
    }

    /// Makes a server and starts it.
    ///
    /// # Errors
    /// What its programs say.
    pub fn start(programs: &Programs, services: &Services, monitor: &dyn Monitor) -> Answer<Self> {
        let folder = Scratch::create(
            services.disk.as_ref(),
            &services.scratch,
            "spool",
            services.rng.as_ref(),
        )
        .map_err(|cause| Failure(cause.to_string()))?;
        let path = folder.path();
        let socket = path.join(format!(".s.PGSQL.{PORT}"));
        if socket.as_os_str().len() > MAX_SOCKET {
            return Err(Failure(format!(
                "the path {} is too long for a socket: name a shorter folder with --scratch",
                shown(&path)
            )));
        }
        let user = unprivileged()?;
        if let Some((uid, gid)) = user {
            let (parent, name) = folder.place();
            let given = parent.set_owner(name, uid, gid);
            given.map_err(|cause| {
                Failure(format!(
                    "{} cannot be given to {USER}: {cause}",
                    shown(&path)
                ))
            })?;
        }
        let data = path.join("data");
        let mut command = as_user(tool::command(&programs.path("initdb")), user);
        command
            .current_dir(&path)
            .arg("--pgdata")
            .arg(&data)
            .args([
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ])
            .arg(format!("--username={ROLE}"));
        Tool::start(command, Pipes::None)?.end()?;
        let mut command = as_user(tool::command(Path::new("/bin/sh")), user);
        command
            .current_dir(&path)
            .args(["-c", GUARD, "guard"])
            .arg(programs.path("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&path);
        for setting in SETTINGS {
            command.arg("-c").arg(setting);
        }
        let mut guard = Tool::start(command, Pipes::InAndOut)?;
        let life = guard.stdin()?;
        let server = Server {
            user: Some(ROLE.to_owned()),
            ..Server::at(&path, Some(PORT))
        };
        let mut started = Self {
            server,
            guard: Some((guard, life)),
            _folder: folder,
        };
        started.wait(services, monitor)?;
        Ok(started)
    }

    /// Waits until it answers.
    fn wait(&mut self, services: &Services, monitor: &dyn Monitor) -> Answer<()> {
        let begun = Instant::now();
        loop {
            let Err(failure) = Session::open(&self.server, "postgres") else {
                return Ok(());
            };
            go_on(monitor).map_err(|cause| Failure(cause.to_string()))?;
            let has_ended = self
                .guard
                .as_mut()
                .is_none_or(|(guard, _)| guard.has_ended());
            if has_ended && let Some((guard, life)) = self.guard.take() {
                drop(life);
                let Failure(why) = guard.end().err().unwrap_or(failure);
                return Err(Failure(format!("the private server does not start: {why}")));
            }
            if begun.elapsed() > PATIENCE {
                return Err(failure);
            }
            services.clock.sleep(LOOK);
        }
    }
}

impl Drop for ScratchServer {
    fn drop(&mut self) {
        if let Some((guard, life)) = self.guard.take() {
            // Its end is the server's; how it ends is of no interest: nothing of it stays.
            drop(life);
            let _ = guard.end();
        }
    }
}

/// The user and group that the server runs as, unless that is us.
fn unprivileged() -> Answer<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    match uzers::get_user_by_name(USER) {
        Some(user) => Ok(Some((user.uid(), user.primary_group_id()))),
        None => Err(Failure(format!(
            "there is no user {USER} here to run a private server as"
        ))),
    }
}

fn as_user(mut command: Command, user: Option<(u32, u32)>) -> Command {
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}
