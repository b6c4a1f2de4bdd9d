//! A test of this program run again as a process of its own: one that can be killed, and whose locks are
//! then those of the dead.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

/// How such a process ended.
#[derive(Debug)]
pub struct Ended {
    /// Whether it was killed.
    pub killed: bool,
    /// What it said before.
    pub text: String,
}

/// Runs the test `name` with these variables, which tell it that it is the child. It must end well, or be
/// killed.
pub fn run_child(name: &str, variables: &[(&str, &OsStr)]) -> Ended {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let killed = output.status.signal() == Some(9);
    assert!(
        killed || output.status.success(),
        "{name} {variables:?}: {output:?}"
    );
    Ended {
        killed,
        text: String::from_utf8_lossy(&output.stdout).into_owned(),
    }
}
