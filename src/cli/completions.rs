//! `completions`: a script for a shell.

use clap::CommandFactory;
use serde_json::json;

use super::Done;
use super::args::{Cli, Completions};
use super::session::Session;
use crate::error::ExitCode;

pub fn run(session: &Session, args: &Completions) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tillsafe", &mut script);
    let script = String::from_utf8_lossy(&script);
    session.output.line(script.trim_end());
    session.output.object(
        "completions",
        json!({"shell": args.shell.to_string(), "script": script}),
    );
    Done {
        code: ExitCode::Done,
        fields: json!({}),
    }
}
