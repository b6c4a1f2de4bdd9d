//! What ended a command: an error of the library, perhaps with words on where it happened, or something
//! that only the command line meets.

use crate::error::{Advice, Error, ExitCode};

/// A failure as it is told.
#[derive(Debug)]
pub struct Failure {
    pub text: String,
    pub advice: Advice,
    pub code: ExitCode,
}

/// A command of ours, run by another, ended otherwise than it should. What it said was shown.
#[derive(Debug, thiserror::Error)]
#[error("`{command}` ended with exit code {}, see above", code.number())]
pub struct StepFailed {
    pub command: String,
    pub code: ExitCode,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let (advice, code) = if let Some(known) = error.downcast_ref::<Error>() {
            (known.advice(), known.exit_code())
        } else {
            let step = error.downcast_ref::<StepFailed>();
            let advice = Advice {
                safe: "no repository of yours was changed".to_owned(),
                next: "mend the cause named above, then run the same command again".to_owned(),
            };
            (advice, step.map_or(ExitCode::Failed, |step| step.code))
        };
        Self {
            text: format!("{error:#}"),
            advice,
            code,
        }
    }
}

/// The work is done, but what it has to say could not be written.
pub fn unwritten(cause: &std::io::Error) -> Failure {
    Failure {
        text: format!("the result could not be written to stdout: {cause}"),
        advice: Advice {
            safe: "what the command was asked to do was done, as far as its messages say"
                .to_owned(),
            next: "make room where stdout goes, then look with `tillsafe snapshots`".to_owned(),
        },
        code: ExitCode::Failed,
    }
}
