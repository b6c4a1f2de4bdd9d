//! The lines for cron: a backup and what its rules let go each night, a proof and the freed room on Sundays.

use std::path::{Path, PathBuf};

use crate::id::Id;
use crate::units::{in_quotes, quoted};

/// How long a line waits for another that is still at work; what goes wrong then is mailed by cron.
const WAIT: &str = "--retry-lock 2h";
/// What goes where no configuration has rules.
pub const KEEP: &str = "--keep-last 3 --keep-daily 14 --keep-monthly 12";
/// The hour of the first proof.
const FIRST_PROOF: usize = 5;

/// What the lines are to do.
#[derive(Debug, Default)]
pub struct Plan {
    /// The flags that choose configuration, repository and password, as a shell takes them.
    pub flags: String,
    /// What each backup is of; one empty word for all shops of the configuration.
    pub backups: Vec<String>,
    /// The flags that choose each series that is proved.
    pub series: Vec<String>,
    /// The rules, if no configuration has them; nothing if some shop of it has.
    pub keep: Option<String>,
    /// Whether anything is forgotten.
    pub forgets: bool,
    /// The flags of each repository, where there are several.
    pub repositories: Vec<String>,
}

impl Plan {
    /// What to type to install them: for root in `/etc/cron.d`, in a file that is this plan's own, for what
    /// others have there is not to go; for others in their own crontab.
    pub fn installing(&self) -> String {
        let lines: Vec<String> = self.lines().iter().map(|line| in_quotes(line)).collect();
        let print = format!("printf '%s\\n' {}", lines.join(" "));
        if is_root() {
            let own = Id::of(self.own_words().as_bytes()).short();
            format!("{print} > /etc/cron.d/tillsafe-{own}")
        } else {
            format!("(crontab -l 2>/dev/null; {print}) | crontab -")
        }
    }

    fn own_words(&self) -> String {
        format!("{} {}", self.flags, self.backups.join(" "))
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (number, backup) in self.backups.iter().enumerate() {
            let minute = (15 + number) % 60;
            lines.push(self.line(&format!("{minute} 3 * * *"), WAIT, &["backup", backup]));
        }
        if self.forgets {
            let keep = self.keep.as_deref().unwrap_or_default();
            lines.push(self.line("30 3 * * *", WAIT, &["forget", keep]));
        }
        for (number, series) in self.series.iter().enumerate() {
            let hour = (FIRST_PROOF + number) % 24;
            lines.push(self.line(&format!("0 {hour} * * 0"), WAIT, &["verify", series]));
        }
        for repository in &self.repositories {
            let flags = [repository.as_str(), WAIT].join(" ");
            lines.push(self.line("0 6 * * 0", flags.trim(), &["prune"]));
        }
        lines
    }

    fn line(&self, when: &str, flags: &str, words: &[&str]) -> String {
        let program =
            std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/local/bin/tillsafe"));
        let program = quoted(&program);
        let all = [program.as_str(), "-q", self.flags.as_str(), flags];
        let all = all.into_iter().chain(words.iter().copied());
        let all: Vec<&str> = all.map(str::trim).filter(|word| !word.is_empty()).collect();
        // In a crontab a percent sign ends the line. No backslash stands before one: none is printed as itself.
        let command = all.join(" ").replace('%', "\\%");
        let user = if is_root() { "root " } else { "" };
        format!("{when} {user}{command}")
    }
}

/// Paths as a shell takes them.
pub fn paths<'a>(paths: impl IntoIterator<Item = &'a Path>) -> String {
    let words = paths.into_iter();
    let words: Vec<String> = words.map(quoted).collect();
    words.join(" ")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::Plan;

    #[test]
    fn a_percent_sign_ends_no_line_and_each_plan_has_a_file_of_its_own() {
        let plan = |flags: &str| Plan {
            flags: flags.to_owned(),
            backups: vec!["/srv/100%".to_owned()],
            series: vec![String::new()],
            keep: Some("--keep-last 3".to_owned()),
            forgets: true,
            repositories: vec![String::new()],
        };
        let lines = plan("-r /b -p /p").lines();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[0].ends_with(" -q -r /b -p /p --retry-lock 2h backup /srv/100\\%"));
        assert!(lines[1].ends_with(" --retry-lock 2h forget --keep-last 3"));
        assert!(lines[2].ends_with(" --retry-lock 2h verify"));
        assert!(lines[3].starts_with("0 6 * * 0 ") && lines[3].ends_with(" prune"));
        assert_ne!(plan("-c /a").installing(), plan("-c /b").installing());
    }
}
