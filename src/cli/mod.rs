//! Words in, words out: parse, call one function, print. One file a command.

mod args;
mod backup;
mod cache;
mod cat;
mod check;
mod choose;
mod color;
mod completions;
mod config;
mod cron;
mod decided;
mod demo;
mod diff;
mod doctor;
mod dump;
mod failure;
mod find;
mod forget;
mod forgetting;
mod help;
mod hooks;
mod in_place;
mod init;
mod json;
mod key;
mod list;
mod load;
mod lost;
mod ls;
mod man;
mod object;
mod output;
mod plan;
mod proof;
mod prune;
mod repair;
mod restore;
mod rollback;
mod server;
mod session;
mod setup;
mod several;
mod shops;
mod snapshots;
mod stats;
mod table;
mod tag;
mod unlock;
mod usage;
mod verify;
mod version;

use std::ffi::OsString;
use std::process::ExitCode as ProcessExit;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use clap::FromArgMatches;
use clap::error::ErrorKind;
use serde_json::{Value, json};

use crate::error::ExitCode;
use args::{Cli, Command};
use color::When;
use failure::Failure;
use output::{Manner, Output};
use session::Session;

/// What a command leaves: its exit code, and fields for the summary.
pub(crate) struct Done {
    code: ExitCode,
    fields: Value,
}

impl Done {
    /// All is well.
    pub(crate) const fn well(fields: Value) -> Self {
        Self {
            code: ExitCode::Done,
            fields,
        }
    }
}

/// Runs the program; returns what the process returns.
#[must_use]
pub fn main() -> ProcessExit {
    ProcessExit::from(run(&std::env::args_os().collect::<Vec<_>>()))
}

fn run(words: &[OsString]) -> u8 {
    let signal = Arc::new(AtomicUsize::new(0));
    let cli = match parse(words) {
        Ok(cli) => cli,
        Err(refusal) => return refused(words, &refusal, signal),
    };
    if let Err(cause) = listen(&signal) {
        // Without handlers a signal just kills: safe, only less polite.
        let _ = cause;
    }
    let manner = Manner::of(&cli.global);
    let output = Arc::new(Output::new(manner, name_of(&cli.command), signal));
    output.keep_telling();
    let shop = filter_of(&cli.command).and_then(|filter| filter.shop.clone());
    let session = Session::new(cli.global, shop, Arc::clone(&output));
    let result = execute(&session, cli.command);
    output.finish();
    let (code, fields) = match result {
        Ok(done) => (done.code, done.fields),
        Err(error) => (session.fail(error), session.repository_field()),
    };
    end(&output, code, &fields)
}

/// Writes the summary; returns the exit code. A result that could not be written is no success.
fn end(output: &Output, code: ExitCode, fields: &Value) -> u8 {
    output.summary(code.number(), fields);
    match output.unwritten() {
        Some(cause) if code == ExitCode::Done => {
            let failure = failure::unwritten(&cause);
            output.failure_on_stderr(&failure);
            failure.code.number()
        }
        _ => code.number(),
    }
}

fn parse(words: &[OsString]) -> std::result::Result<Cli, clap::Error> {
    let program = help::program().color(When::of(words).for_clap());
    Cli::from_arg_matches(&program.try_get_matches_from(words)?)
}

fn execute(session: &Session, command: Command) -> anyhow::Result<Done> {
    Ok(match command {
        Command::Demo => demo::run(session)?,
        Command::Init => init::run(session)?,
        Command::Setup(args) => setup::run(session, &args)?,
        Command::Doctor => doctor::run(session)?,
        Command::Backup(args) => backup::run(session, &args)?,
        Command::Snapshots(args) => snapshots::run(session, &args)?,
        Command::Ls(args) => ls::run(session, &args)?,
        Command::Restore(args) => restore::run(session, &args)?,
        Command::Rollback(args) => rollback::run(session, &args)?,
        Command::Check(args) => check::run(session, &args)?,
        Command::Verify(args) => verify::run(session, &args)?,
        Command::Prune(args) => prune::run(session, &args)?,
        Command::Forget(args) => forget::run(session, &args)?,
        Command::Unlock(args) => unlock::run(session, &args)?,
        Command::Cache(args) => cache::run(session, &args)?,
        Command::Repair(args) => repair::run(session, &args)?,
        Command::Find(args) => find::run(session, &args)?,
        Command::Diff(args) => diff::run(session, &args)?,
        Command::Dump(args) => dump::run(session, &args)?,
        Command::Stats(args) => stats::run(session, &args)?,
        Command::Tag(args) => tag::run(session, &args)?,
        Command::Cat(args) => cat::run(session, &args)?,
        Command::List(args) => list::run(session, &args)?,
        Command::Key(args) => key::run(session, args.action)?,
        Command::Config(args) => config::run(session, &args.action)?,
        Command::Completions(args) => completions::run(session, &args),
        Command::Man(args) => man::run(session, &args)?,
        Command::Version => version::run(session),
    })
}

const fn name_of(command: &Command) -> &'static str {
    match command {
        Command::Demo => "demo",
        Command::Init => "init",
        Command::Setup(_) => "setup",
        Command::Doctor => "doctor",
        Command::Backup(_) => "backup",
        Command::Snapshots(_) => "snapshots",
        Command::Ls(_) => "ls",
        Command::Restore(_) => "restore",
        Command::Rollback(_) => "rollback",
        Command::Check(_) => "check",
        Command::Verify(_) => "verify",
        Command::Prune(_) => "prune",
        Command::Forget(_) => "forget",
        Command::Unlock(_) => "unlock",
        Command::Cache(_) => "cache",
        Command::Repair(_) => "repair",
        Command::Find(_) => "find",
        Command::Diff(_) => "diff",
        Command::Dump(_) => "dump",
        Command::Stats(_) => "stats",
        Command::Tag(_) => "tag",
        Command::Cat(_) => "cat",
        Command::List(_) => "list",
        Command::Key(_) => "key",
        Command::Config(_) => "config",
        Command::Completions(_) => "completions",
        Command::Man(_) => "man",
        Command::Version => "version",
    }
}

/// Which snapshots a command is about, where it says so.
const fn filter_of(command: &Command) -> Option<&args::Filter> {
    Some(match command {
        Command::Snapshots(args) => &args.filter,
        Command::Ls(args) => &args.filter,
        Command::Restore(args) => &args.filter,
        Command::Verify(args) => &args.filter,
        Command::Forget(args) => &args.filter,
        Command::Repair(args::Repair::Snapshots(args)) => &args.filter,
        Command::Find(args) => &args.filter,
        Command::Diff(args) => &args.filter,
        Command::Dump(args) => &args.filter,
        Command::Stats(args) => &args.filter,
        Command::Tag(args) => &args.filter,
        Command::Cat(args) => &args.filter,
        _ => return None,
    })
}

/// A signal's number is kept, and every long step looks at it. A second one ends us at once.
fn listen(signal: &Arc<AtomicUsize>) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let again = Arc::new(std::sync::atomic::AtomicBool::new(false));
    // restic asks with SIGHUP whether the holder of a lock lives, and a closed terminal sends it too:
    // neither is a reason to stop. Being caught, it does nothing.
    signal_hook::flag::register(SIGHUP, Arc::default())?;
    for number in [SIGINT, SIGTERM] {
        // In this order: the first signal arms the shutdown that the second one runs.
        signal_hook::flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&again))?;
        signal_hook::flag::register(number, Arc::clone(&again))?;
        signal_hook::flag::register_usize(
            number,
            Arc::clone(signal),
            usize::try_from(number).unwrap_or(15),
        )?;
    }
    Ok(())
}

/// Words that do not fit, or a call for help.
fn refused(words: &[OsString], refusal: &clap::Error, signal: Arc<AtomicUsize>) -> u8 {
    if matches!(
        refusal.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return match refusal.print() {
            Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => {
                let failure = failure::unwritten(&cause);
                Output::new(Manner::of_words(words), "", signal).failure(&failure);
                failure.code.number()
            }
            // A reader that has gone away is no failure of ours.
            _ => ExitCode::Done.number(),
        };
    }
    let error = usage::error(words, refusal);
    let command = usage::command(words, refusal);
    let output = Output::new(
        Manner::of_words(words),
        &command.unwrap_or_default(),
        signal,
    );
    output.failure(&Failure::from(anyhow::Error::from(error)));
    end(&output, ExitCode::Usage, &json!({}))
}
