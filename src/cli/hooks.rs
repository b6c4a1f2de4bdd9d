//! The owner's programs around a backup or a restore of a shop: run, told, and judged.

use serde_json::json;

use super::session::Session;
use crate::error::{Error, ExitCode, Result};
use crate::hook::{Ended, Hook, When};
use crate::id::Id;
use crate::monitor::go_on;
use crate::units::Shown;

/// Most letters of a hook's output that an error quotes: its last ones.
const MAX_QUOTED: usize = 300;

/// The hooks of one shop.
pub struct Hooks<'a> {
    pub session: &'a Session,
    pub shop: &'a str,
    pub list: &'a [Hook],
    /// Where the repository is; empty if there is none to be named.
    pub repository: String,
}

impl Hooks<'_> {
    /// Runs those that come before, until one fails.
    ///
    /// # Errors
    /// That of the one that failed.
    pub fn before(&self, when: When, snapshot: Option<Id>) -> Result<()> {
        for hook in self.of(when) {
            go_on(self.session.output.as_ref())?;
            let ended = self.run(hook, snapshot, None);
            go_on(self.session.output.as_ref())?;
            if let Some(failure) = &ended.failure {
                let (hook, finding) = (hook.words(), finding(failure, &ended));
                return Err(match when {
                    When::BeforeRestore => Error::HookBeforeRestore { hook, finding },
                    _ => Error::HookBeforeBackup { hook, finding },
                });
            }
        }
        Ok(())
    }

    /// Runs all of those that come after, whatever has happened, a signal included. A failed one is told;
    /// returns the exit code that the whole has now.
    pub fn after(&self, when: When, code: ExitCode, snapshot: Option<Id>) -> ExitCode {
        let mut codes = vec![code];
        for hook in self.of(when) {
            let ended = self.run(hook, snapshot, Some(code));
            if let Some(failure) = &ended.failure {
                let error = Error::HookAfter {
                    when: when.name(),
                    hook: hook.words(),
                    finding: finding(failure, &ended),
                };
                let error = anyhow::Error::from(error).context(format!("shop {}", self.shop));
                codes.push(self.session.fail(error));
            }
        }
        ExitCode::first_of(&codes)
    }

    /// Says what is run around it, for a plan.
    pub fn tell(&self, when: [When; 2]) {
        for hook in when.into_iter().flat_map(|when| self.of(when)) {
            let output = &self.session.output;
            output.line(format!("  {:<14} {}", hook.when.name(), hook.words()));
        }
    }

    /// Whether any is run then.
    pub fn has(&self, when: When) -> bool {
        self.of(when).next().is_some()
    }

    fn of(&self, when: When) -> impl Iterator<Item = &Hook> {
        self.list.iter().filter(move |hook| hook.when == when)
    }

    fn run(&self, hook: &Hook, snapshot: Option<Id>, code: Option<ExitCode>) -> Ended {
        let text = |id: Id| id.to_string();
        let number = |code: ExitCode| code.number().to_string();
        let variables = [
            ("TILLSAFE_SHOP", self.shop.to_owned()),
            ("TILLSAFE_REPOSITORY", self.repository.clone()),
            ("TILLSAFE_SNAPSHOT_ID", snapshot.map_or(String::new(), text)),
            ("TILLSAFE_EXIT_CODE", code.map_or(String::new(), number)),
        ];
        let (clock, output) = (&self.session.services.clock, &self.session.output);
        let ended = hook.run(&variables, clock.as_ref(), output.as_ref());
        output.object(
            "hook",
            json!({
                "shop": self.shop,
                "when": hook.when.name(),
                "run": hook.run,
                "failed": ended.failure.is_some(),
                "hook_exit_code": ended.exit_code,
                "finding": ended.failure,
                "duration_seconds": ended.duration.as_secs_f64(),
                "output": String::from_utf8_lossy(&ended.output),
                "output_cut_bytes": ended.cut_bytes,
            }),
        );
        ended
    }
}

/// How it ended, with the end of what it said.
fn finding(failure: &str, ended: &Ended) -> String {
    let text = String::from_utf8_lossy(&ended.output);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let said = Shown(lines.join(" / ").as_bytes()).to_string();
    let skip = said.chars().count().saturating_sub(MAX_QUOTED);
    let mark = if skip > 0 { "…" } else { "" };
    let said: String = said.chars().skip(skip).collect();
    if said.is_empty() {
        format!("{failure}; it said nothing")
    } else {
        format!("{failure}; it said: {mark}{said}")
    }
}
