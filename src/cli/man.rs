//! `man`: the manual, made of the same words as the help.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::Done;
use super::args;
use super::help;
use super::output::path_fields;
use super::session::Session;
use crate::config;
use crate::error::{Error, Result};
use crate::units::{counted, shown};

pub fn run(session: &Session, args: &args::Man) -> Result<Done> {
    let mut program = help::program();
    // Every command learns its full name, and the options that all share.
    program.build();
    if let Some(folder) = &args.dir {
        return write_all(session, &program, &config::absolute(folder)?);
    }
    let mut command = &program;
    for name in &args.command {
        command = command.find_subcommand(name).ok_or_else(|| Error::Usage {
            finding: format!("there is no command `{}`", args.command.join(" ")),
            next: "tillsafe --help".to_owned(),
        })?;
    }
    let page = page(command)?;
    session.output.line(page.trim_end());
    session
        .output
        .object("man", json!({"name": title(command), "page": page}));
    Ok(Done::well(json!({"pages": 1})))
}

/// The name of a page: `tillsafe-key-add`.
fn title(command: &clap::Command) -> String {
    command
        .get_display_name()
        .unwrap_or(command.get_name())
        .to_owned()
}

fn page(command: &clap::Command) -> Result<String> {
    let mut page = Vec::new();
    let manual = clap_mangen::Man::new(command.clone());
    manual
        .title(title(command).to_uppercase())
        .manual("tillsafe")
        .render(&mut page)
        .map_err(|cause| Error::internal(&cause))?;
    String::from_utf8(page).map_err(|cause| Error::internal(&cause))
}

/// Writes a page for each command; none that is there is overwritten.
fn write_all(session: &Session, program: &clap::Command, folder: &Path) -> Result<Done> {
    let mut waiting = vec![program];
    let mut pages: Vec<(PathBuf, String)> = Vec::new();
    while let Some(command) = waiting.pop() {
        pages.push((format!("{}.1", title(command)).into(), page(command)?));
        waiting.extend(command.get_subcommands());
    }
    pages.sort();
    let disk = &session.disk;
    let failed = || Error::file("creating", folder);
    disk.create_all(folder, 0o755).map_err(failed())?;
    let root = disk.open(folder).map_err(failed())?;
    for (name, page) in &pages {
        let path = folder.join(name);
        let file = match root.create_file(name, 0o644) {
            Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::FileExists { path });
            }
            other => other.map_err(Error::file("creating", &path))?,
        };
        let written = file.write_all_at(page.as_bytes(), 0);
        written
            .and_then(|()| file.sync())
            .map_err(Error::file("writing", &path))?;
        session.output.object("page", path_fields(&path));
    }
    root.sync_folder(Path::new("")).map_err(failed())?;
    session.output.good_news(format!(
        "{} in {}",
        counted(pages.len() as u64, "page"),
        shown(folder)
    ));
    Ok(Done::well(json!({"pages": pages.len()})))
}
