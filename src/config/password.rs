//! Where a password comes from. It is never a command-line argument.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::durable::{Disk, File};
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Problem};
use crate::rng::{self, Rng};
use crate::secret::Secret;

/// Where a password comes from.
#[derive(Debug, Clone)]
pub enum PasswordSource {
    /// The content of a file.
    File(PathBuf),
    /// What a command of the shell prints.
    Command(String),
    /// What a program with these arguments prints, without a shell.
    Program(Vec<String>),
    /// A variable of the environment.
    Value {
        /// Its name.
        variable: String,
        /// What it holds.
        value: OsString,
    },
    /// The person at the terminal, because nothing else was named.
    Terminal {
        /// Where the repository came from.
        level: &'static str,
        /// What would name a password there.
        flag: &'static str,
    },
}

impl PasswordSource {
    /// What it is, for who wonders why it does not open.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::File(path) => format!("in the file {}", crate::units::shown(path)),
            // Not its words: somebody may have written the password into them.
            Self::Command(_) | Self::Program(_) => "that the password command prints".to_owned(),
            Self::Value { variable, .. } => format!("in the variable {variable}"),
            Self::Terminal { .. } => "that was typed".to_owned(),
        }
    }

    /// Gets the password for a new key: as [`Self::read`], but one of several lines is no password that
    /// anybody has chosen. One that opens already is read as it is, whoever made it.
    ///
    /// # Errors
    /// As [`Self::read`], and [`Error::Usage`] for more than one line.
    pub fn read_new(&self, may_ask: bool, monitor: &dyn Monitor) -> Result<Secret> {
        let secret = self.read(may_ask, monitor)?;
        let lines = secret.expose().split(|byte| *byte == b'\n').count();
        if lines > 1 {
            return Err(Error::Usage {
                finding: format!(
                    "the password {} has {lines} lines: that is some other text, all of which would be the password",
                    self.words()
                ),
                next: "give a file with nothing but the password in one line; one that does not exist is made, with a strong password in it".to_owned(),
            });
        }
        Ok(secret)
    }

    /// Gets the password. Nobody is asked if `may_ask` is false or there is no terminal.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none to get, or it is empty; [`Error::File`].
    pub fn read(&self, may_ask: bool, monitor: &dyn Monitor) -> Result<Secret> {
        let secret = match self {
            Self::File(path) => read_file(path, monitor)?,
            Self::Command(command) => run(Command::new("/bin/sh").args(["-c", command]))?,
            Self::Program(words) => {
                let (program, arguments) = words
                    .split_first()
                    .ok_or_else(|| Error::internal(&"an empty password_command"))?;
                run(Command::new(program).args(arguments))?
            }
            // Not trimmed, as in restic: a variable holds no line end by accident.
            Self::Value { value, .. } => Secret::new(value.clone().into_vec()),
            Self::Terminal { level, flag } => ask(level, flag, may_ask)?,
        };
        if secret.is_empty() {
            return Err(Error::Usage {
                finding: "the password is empty".to_owned(),
                next: "give the repository's password; `init` makes a strong one in a file that does not exist yet".to_owned(),
            });
        }
        Ok(secret)
    }
}

/// Where a new password comes from.
#[derive(Debug)]
pub enum NewPassword {
    /// A file; one that does not exist is made, with a strong password in it.
    File(PathBuf),
    /// What a command prints.
    Command(String),
    /// The person at the terminal, who is asked twice.
    Terminal,
}

impl NewPassword {
    /// Gets the password, and whether it was made. Nobody is asked if `may_ask` is false or there is no
    /// terminal.
    ///
    /// # Errors
    /// As [`PasswordSource::read`], and if the two answers differ; [`Error::File`] if none can be made.
    pub fn read(
        self,
        may_ask: bool,
        disk: &dyn Disk,
        rng: &dyn Rng,
        monitor: &dyn Monitor,
    ) -> Result<(Secret, bool)> {
        let mut made = false;
        let source = match self {
            Self::File(path) => {
                made = std::fs::symlink_metadata(&path).is_err();
                if made {
                    generate(&path, disk, rng)?;
                }
                PasswordSource::File(path)
            }
            Self::Command(command) => PasswordSource::Command(command),
            Self::Terminal => return Ok((ask_twice(may_ask)?, false)),
        };
        Ok((source.read_new(may_ask, monitor)?, made))
    }
}

/// What would name a new password.
const NEW_FLAG: &str = "--new-password-file FILE (made if it does not exist)";

fn ask_twice(may_ask: bool) -> Result<Secret> {
    let usage = |finding: &str| Error::Usage {
        finding: finding.to_owned(),
        next: format!("run the same command again, or name a file: {NEW_FLAG}"),
    };
    if !may_ask || !std::io::stdin().is_terminal() {
        return Err(Error::Usage {
            finding: "nothing names the new password".to_owned(),
            next: format!("name a file: {NEW_FLAG}"),
        });
    }
    let typed = prompt("new password: ", NEW_FLAG)?;
    if typed.is_empty() {
        return Err(usage("the new password is empty"));
    }
    if typed.expose() != Secret::from_text(typed.expose().to_vec()).expose() {
        return Err(usage(
            "the new password begins or ends with white space, which no password file can hold",
        ));
    }
    if prompt("new password again: ", NEW_FLAG)?.expose() != typed.expose() {
        return Err(usage("the two answers differ"));
    }
    Ok(typed)
}

fn prompt(question: &str, flag: &str) -> Result<Secret> {
    let typed = rpassword::prompt_password(question).map_err(|cause| Error::Usage {
        finding: format!("the password cannot be read from the terminal: {cause}"),
        next: format!("name a file: {flag}"),
    })?;
    Ok(Secret::new(typed.into_bytes()))
}

fn read_file(path: &Path, monitor: &dyn Monitor) -> Result<Secret> {
    /// Nobody types more.
    const MAX_BYTES: u64 = 64 * 1024;
    let unreadable = |cause: std::io::Error| {
        Error::Usage {
        finding: format!(
            "the password file {} cannot be read: {cause}",
            crate::units::shown(path)
        ),
        next: "check the path; if the file is lost, put the copy that you keep elsewhere back there (chmod 600)".to_owned(),
    }
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.len() > MAX_BYTES {
        return Err(unreadable(std::io::Error::other(
            "it is too long for a password",
        )));
    }
    if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
        monitor.problem(Problem {
            item: crate::units::shown(path),
            finding: "others on this machine may read the password; `chmod 600` it".to_owned(),
            incomplete: false,
        });
    }
    std::fs::read(path)
        .map(Secret::from_text)
        .map_err(unreadable)
}

fn run(command: &mut Command) -> Result<Secret> {
    let failed = |finding: String| Error::Usage {
        finding: format!("the password command {finding}"),
        next: "run it by hand: it must print the password and exit 0".to_owned(),
    };
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|cause| failed(format!("cannot be started: {cause}")))?;
    if !output.status.success() {
        return Err(failed(format!("failed ({})", output.status)));
    }
    Ok(Secret::from_text(output.stdout))
}

fn ask(level: &str, flag: &str, may_ask: bool) -> Result<Secret> {
    if !may_ask || !std::io::stdin().is_terminal() {
        return Err(Error::Usage {
            finding: format!("{level} names the repository, but nothing names its password"),
            next: format!("name it in the same place: {flag}"),
        });
    }
    prompt("password of the repository: ", flag)
}

/// Makes a strong password (160 random bits) in a new file that only its owner can read, durably.
///
/// # Errors
/// [`Error::File`]; nothing is overwritten.
pub fn generate(path: &Path, disk: &dyn Disk, rng: &dyn Rng) -> Result<()> {
    /// Without letters and digits that look alike: it may be copied by hand one day.
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let random: [u8; 32] = rng::array(rng)?;
    let mut text = String::new();
    for (index, byte) in random.iter().enumerate() {
        if index > 0 && index % 4 == 0 {
            text.push('-');
        }
        text.push(char::from(LETTERS[usize::from(byte % 32)]));
    }
    text.push('\n');
    let (folder, name) = match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => (folder, Path::new(name)),
        _ => {
            return Err(Error::file("creating", path)(
                std::io::ErrorKind::InvalidInput.into(),
            ));
        }
    };
    let write = || {
        let root = disk.open(folder)?;
        let file: Box<dyn File> = root.create_file(name, 0o600)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.sync()?;
        root.sync_folder(Path::new(""))
    };
    write().map_err(Error::file("creating", path))
}
