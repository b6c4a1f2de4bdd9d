//! `completions`: a script for a shell.

use serde_json::json;

use super::Done;
use super::args::Completions;
use super::help;
use super::session::Session;
use crate::error::ExitCode;

pub fn run(session: &Session, args: &Completions) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut help::program(), "tillsafe", &mut script);
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
