//! What is not as it should be, each finding with its cure (docs/design/setup.md).
//!
//! A check that could not be made is an error: silence would look like health.

mod databases;
mod history;
mod machine;
mod place;

pub use history::{History, history};
pub use machine::{Machine, machine};
pub use place::place;

use serde::Serialize;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Good,
    /// Backups work; a bad day would be worse than it need be.
    Warning,
    /// Backups do not work, or cannot be relied on.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What was looked at.
    pub item: String,
    /// What was seen.
    pub finding: String,
    /// What to do about it; nothing for what is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

impl Finding {
    /// All is well.
    #[must_use]
    pub fn good(item: impl Into<String>, finding: impl Into<String>) -> Self {
        Self {
            level: Level::Good,
            item: item.into(),
            finding: finding.into(),
            cure: None,
        }
    }

    /// Backups work, but.
    #[must_use]
    pub fn warning(
        item: impl Into<String>,
        finding: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self {
            level: Level::Warning,
            cure: Some(cure.into()),
            ..Self::good(item, finding)
        }
    }

    /// Backups cannot be relied on.
    #[must_use]
    pub fn error(
        item: impl Into<String>,
        finding: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self {
            level: Level::Error,
            ..Self::warning(item, finding, cure)
        }
    }
}
