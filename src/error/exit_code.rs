//! The one table of exit codes.

/// Why the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done, and durable.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Done, but some items could not be read; they are named.
    Incomplete = 3,
    /// Damage found.
    Damage = 4,
    /// Kept, but suspect.
    Suspect = 6,
    /// Restored, but not proved on this machine.
    NotProved = 7,
    /// No repository there.
    NoRepository = 10,
    /// The repository is locked.
    Locked = 11,
    /// No key opens with this password.
    WrongPassword = 12,
    /// No such snapshot or moment.
    NoSnapshot = 13,
    /// A source could not be reached.
    Source = 14,
    /// The storage could not be reached, or is full.
    Storage = 15,
    /// Refused before anything was touched.
    Refused = 20,
    /// The restored copy did not pass its proof.
    NotVerified = 21,
    /// SIGINT.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

impl ExitCode {
    /// Every code with its meaning, as `--help` and the docs show it.
    pub const TABLE: [(Self, &'static str); 17] = [
        (Self::Done, "done, and durable"),
        (Self::Failed, "failed"),
        (Self::Usage, "usage or configuration"),
        (
            Self::Incomplete,
            "done, but some items could not be read (they are named)",
        ),
        (Self::Damage, "damage found"),
        (
            Self::Suspect,
            "kept, but suspect: something in the source is damaged (it is named)",
        ),
        (Self::NotProved, "restored, but not proved on this machine"),
        (Self::NoRepository, "no repository there"),
        (Self::Locked, "the repository is locked"),
        (Self::WrongPassword, "wrong password"),
        (Self::NoSnapshot, "no such snapshot"),
        (
            Self::Source,
            "a source could not be reached; no snapshot was made",
        ),
        (
            Self::Storage,
            "the storage could not be reached, or is full",
        ),
        (Self::Refused, "refused; nothing was touched"),
        (
            Self::NotVerified,
            "the restored copy did not pass its proof",
        ),
        (Self::Interrupted, "interrupted (SIGINT)"),
        (Self::Terminated, "terminated (SIGTERM)"),
    ];

    /// The number that the process returns.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// What a run of several parts ends with: the first code of this order that any of them gave.
    #[must_use]
    pub fn first_of(codes: &[Self]) -> Self {
        /// The contract's order. What it does not name stands where its like stand: a part whose words do
        /// not fit after a wrong password, a snapshot that is not there after a repository that is not.
        const ORDER: [ExitCode; 16] = [
            ExitCode::Interrupted,
            ExitCode::Terminated,
            ExitCode::Damage,
            ExitCode::NotVerified,
            ExitCode::WrongPassword,
            ExitCode::Usage,
            ExitCode::NoRepository,
            ExitCode::NoSnapshot,
            ExitCode::Storage,
            ExitCode::Source,
            ExitCode::Failed,
            ExitCode::Locked,
            ExitCode::Refused,
            ExitCode::Suspect,
            ExitCode::NotProved,
            ExitCode::Incomplete,
        ];
        let first = ORDER.into_iter().find(|code| codes.contains(code));
        first.unwrap_or(Self::Done)
    }

    /// The code of a number that a process of ours has returned.
    #[must_use]
    pub fn of_number(number: i32) -> Option<Self> {
        let codes = Self::TABLE.iter().map(|(code, _)| *code);
        codes
            .into_iter()
            .find(|code| i32::from(code.number()) == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_is_forgotten_where_several_are_told() {
        for (code, _) in ExitCode::TABLE {
            assert_eq!(ExitCode::first_of(&[ExitCode::Done, code]), code);
        }
        let some = [ExitCode::Incomplete, ExitCode::Source, ExitCode::Locked];
        assert_eq!(ExitCode::first_of(&some), ExitCode::Source);
        assert_eq!(ExitCode::first_of(&[]), ExitCode::Done);
    }

    #[test]
    fn the_table_names_every_code_once() {
        let mut numbers: Vec<u8> = ExitCode::TABLE
            .iter()
            .map(|(code, _)| code.number())
            .collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
    }
}
