//! How far a copy is proved.

use serde::Serialize;

/// How far a copy is proved. Each is earned, never assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProofLevel {
    /// Staged from the repository, every hash right.
    Restored,
    /// The engine opened it and its own check passed; files: bytes read back are equal.
    Opened,
    /// It holds what was counted at capture.
    Matched,
}

impl ProofLevel {
    /// The level's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Restored => "restored",
            Self::Opened => "opened",
            Self::Matched => "matched",
        }
    }

    /// The level of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Restored, Self::Opened, Self::Matched];
        all.into_iter().find(|level| level.name() == name)
    }
}
