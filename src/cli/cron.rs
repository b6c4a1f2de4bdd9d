//! The line for cron.

use std::path::{Path, PathBuf};

use crate::units::quoted;

/// Every night at a quarter past three; what goes wrong is mailed by cron.
const WHEN: &str = "15 3 * * *";

/// The line for `/etc/cron.d` if this is root, else for the user's own crontab; `configuration` is one that
/// is not where it is looked for.
fn line(configuration: Option<&Path>) -> String {
    let program =
        std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/local/bin/tillsafe"));
    let mut words = quoted(program);
    if let Some(file) = configuration {
        words = format!("{words} -c {}", quoted(file));
    }
    // In a crontab a percent sign ends the line.
    let words = words.replace('%', "\\%");
    let user = if rustix::process::geteuid().is_root() {
        "root "
    } else {
        ""
    };
    format!("{WHEN} {user}{words} -q backup")
}

/// What to type to install it.
pub fn installing(configuration: Option<&Path>) -> String {
    let line = quoted(line(configuration));
    if rustix::process::geteuid().is_root() {
        format!("echo {line} > /etc/cron.d/tillsafe")
    } else {
        format!("(crontab -l 2>/dev/null; echo {line}) | crontab -")
    }
}
