//! `restore --database`: the dump of a server's database into a new one, counted before it counts as restored.

use std::path::Path;

use serde_json::json;

use super::Done;
use super::args;
use super::choose::{Chosen, choose};
use super::server::{server, services};
use super::session::Session;
use crate::capture::manifest::{self, ServerDatabase};
use crate::config::absolute;
use crate::config::file::ServerEntry;
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Problem, Step, go_on};
use crate::records::ProofLevel;
use crate::repository::snapshot::Snapshot;
use crate::restore::{Plan, Selection, Target};
use crate::source::postgres::{Loader, NotLoaded, Server};
use crate::units::{ByteSize, Shown, shown};

/// The folder of the socket where nobody names another.
const SOCKET: &str = "/run/postgresql";

pub fn run(session: &Session, args: &args::Restore, source: &str) -> Result<Done> {
    let monitor = session.monitor();
    let Chosen {
        repository,
        index,
        snapshot,
        selection,
        proved: _,
        lock: _lock,
    } = choose(session, &args.snapshot, &args.filter, &args.choice)?;
    require_no_path(&selection.base)?;
    let root = repository.read_tree(&index, snapshot.file.tree)?;
    let found = manifest::find(&repository, &index, &root)?;
    let servers = found.map_or(Vec::new(), |manifest| manifest.servers);
    let described = one_of(&servers, source, &snapshot)?;
    let name = args.new_name.clone();
    let name = name.unwrap_or_else(|| format!("{source}_restored_{}", snapshot.id.short()));
    let server = chosen(session, args, described)?;
    let services = services(session, Session::scratch_folder());
    let loader = Loader {
        server: &server,
        services: &services,
        facts: &described.facts,
        is_scratch: false,
    };
    let ready = loader
        .look(&name)
        .map_err(|cause| unfit(session, described, cause))?;
    let place = format!("{}, port {}", shown(&server.socket), server.port);
    let summary = json!({
        "repository": repository.location(),
        "snapshot_id": snapshot.id,
        "source": described.name,
        "database": name,
        "socket": server.socket.to_string_lossy(),
        "port": server.port,
        "rows": described.fingerprint.rows(),
        "size_bytes": described.dump_bytes,
    });
    if args.dry_run {
        session.output.line(format!(
            "GO: database {} of snapshot {} ({}, {}, PostgreSQL {}) can become the new database {} at {place}",
            described.name,
            snapshot.id.short(),
            described.fingerprint.words(),
            ByteSize(described.dump_bytes),
            described.facts.server_major,
            Shown(name.as_bytes())
        ));
        return Ok(Done::well(summary));
    }
    let selection = Selection::whole(&described.folder());
    let plan = Plan::make(&repository, &index, snapshot, selection, monitor.as_ref())?;
    let target = Target::scratch(&services.scratch);
    let staged = plan.fetch(
        &repository,
        &index,
        target,
        session.disk.as_ref(),
        monitor.as_ref(),
    )?;
    if let Some(lost) = staged.plan.lost.first() {
        return Err(Error::NotWhole {
            count: staged.plan.lost.len(),
            first: shown(&lost.path),
        });
    }
    let verified = staged.verify(&index, &monitor)?;
    let Some(proof) = verified
        .servers
        .iter()
        .find(|proof| proof.described.name == source)
    else {
        unreachable!("a plan of its folder covers its dump");
    };
    let dump = verified.dump_of(proof);
    monitor.step(Step::Loading, Some(described.dump_bytes));
    let result = ready.load(&dump, &described.fingerprint, monitor.as_ref());
    result.map_err(|cause| failed(session, described, cause))?;
    let (snapshot, _) = verified.discard();
    session.output.finish();
    tell_settings(session, described, &name);
    session.output.good_news(format!(
        "restored database {} of snapshot {} from {} into the new database {} at {place} in {}: {}; proof level: {}",
        described.name,
        snapshot.id.short(),
        repository.location(),
        Shown(name.as_bytes()),
        session.output.elapsed(),
        described.fingerprint.words(),
        ProofLevel::Matched.name()
    ));
    let mut fields = summary;
    fields["proof_level"] = json!(ProofLevel::Matched);
    Ok(Done::well(fields))
}

/// The server that is meant: of the configuration if it has this source, with what is said on the command line.
fn chosen(session: &Session, args: &args::Restore, described: &ServerDatabase) -> Result<Server> {
    let configuration = session.configuration()?;
    let shop = configuration
        .as_ref()
        .and_then(|all| all.shops.get(&described.shop));
    let entry: Option<&ServerEntry> = shop.and_then(|shop| {
        shop.servers
            .iter()
            .find(|entry| entry.name == described.name)
    });
    let mut server = match entry {
        Some(entry) => server(session, entry)?,
        None => Server::at(Path::new(SOCKET), None),
    };
    if let Some(socket) = &args.socket {
        let named = Server::at(&absolute(socket)?, args.port);
        (server.socket, server.port) = (named.socket, named.port);
    } else if let Some(port) = args.port {
        server.port = port;
    }
    if let Some(user) = &args.user {
        if server.user.as_ref() != Some(user) {
            // The password of another role is nobody's business.
            server.password = None;
        }
        server.user = Some(user.clone());
    }
    Ok(server)
}

fn require_no_path(base: &Path) -> Result<()> {
    if base == Path::new("/") {
        return Ok(());
    }
    Err(Error::Usage {
        finding: format!(
            "--database names what is restored, and {} does too",
            shown(base)
        ),
        next: "name the snapshot alone: tillsafe restore latest --database NAME".to_owned(),
    })
}

/// The database of this name in the snapshot.
fn one_of<'a>(
    servers: &'a [ServerDatabase],
    source: &str,
    snapshot: &Snapshot,
) -> Result<&'a ServerDatabase> {
    let found = servers.iter().find(|one| one.name == source);
    found.ok_or_else(|| {
        let names: Vec<&str> = servers.iter().map(|one| one.name.as_str()).collect();
        let held = match names.as_slice() {
            [] => "it holds no database of a server".to_owned(),
            names => format!("of servers it holds: {}", names.join(", ")),
        };
        Error::NoSuchPath {
            snapshot: snapshot.id.short(),
            path: format!("database {}", Shown(source.as_bytes())),
            finding: Some(held),
        }
    })
}

fn tell_settings(session: &Session, described: &ServerDatabase, name: &str) {
    if described.facts.settings.is_empty() {
        return;
    }
    session.output.problem(Problem {
        item: format!("the database {}", Shown(name.as_bytes())),
        finding: format!(
            "settings of the original itself are in no dump, and are to be set by ALTER DATABASE … SET: {}",
            described.facts.settings.join(", ")
        ),
        incomplete: false,
    });
}

/// A refusal before anything was made.
fn unfit(session: &Session, described: &ServerDatabase, cause: NotLoaded) -> Error {
    if let Err(stopped) = go_on(session.output.as_ref()) {
        return stopped;
    }
    let finding = match cause {
        NotLoaded::Refused(found) => found.join("; "),
        NotLoaded::Failed(finding) | NotLoaded::Differs(finding) => finding,
    };
    Error::ServerUnfit {
        name: format!("the database {}", described.name),
        finding,
    }
}

/// A failure after that: what was made is gone again, or it says so.
fn failed(session: &Session, described: &ServerDatabase, cause: NotLoaded) -> Error {
    match cause {
        NotLoaded::Failed(finding) | NotLoaded::Differs(finding) => {
            match go_on(session.output.as_ref()) {
                Err(stopped) => stopped,
                Ok(()) => Error::NotVerified {
                    name: format!("the database {}", described.name),
                    finding,
                },
            }
        }
        refused @ NotLoaded::Refused(_) => unfit(session, described, refused),
    }
}
