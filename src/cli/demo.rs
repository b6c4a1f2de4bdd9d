//! `demo`
use super::{Done, session::Session};
use crate::error::{ExitCode, Result};
pub fn run(_session: &Session) -> Result<Done> {
    Ok(Done {
        code: ExitCode::Done,
        fields: serde_json::json!({}),
    })
}
