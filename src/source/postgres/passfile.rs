//! A password for the engine's tools: in a file that only we can read, never on a command line.

use std::path::{Path, PathBuf};

use super::server::{Server, Services};
use super::{Answer, Failure};
use crate::durable::scratch::Scratch;

/// A folder of our own with the file in it, if there is a password. Both are removed with this.
#[derive(Debug)]
pub struct Passfile {
    folder: Scratch,
}

/// Its name. Where there is no such file the tools have no password, and not that of somebody's home.
const NAME: &str = "pass";

impl Passfile {
    pub fn write(server: &Server, services: &Services) -> Answer<Self> {
        let failed = |cause: &dyn std::fmt::Display| {
            Failure(format!(
                "the password cannot be handed to the tools: {cause}"
            ))
        };
        let (disk, rng) = (services.disk.as_ref(), services.rng.as_ref());
        let folder = Scratch::create(disk, &services.scratch, "spool", rng)
            .map_err(|cause| failed(&cause))?;
        if let Some(password) = &server.password {
            let line = line(password.expose()).ok_or_else(|| {
                Failure::new(
                    "the password has more than one line, and a tool of PostgreSQL reads only one",
                )
            })?;
            let file = folder.folder().create_file(Path::new(NAME), 0o600);
            let written = file.and_then(|file| file.write_all_at(&line, 0));
            written.map_err(|cause| failed(&cause))?;
        }
        Ok(Self { folder })
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join(NAME)
    }
}

/// The line of any server that has this password; none if a line cannot hold it.
fn line(password: &[u8]) -> Option<zeroize::Zeroizing<Vec<u8>>> {
    if password.contains(&b'\n') {
        return None;
    }
    let mut line = zeroize::Zeroizing::new(b"*:*:*:*:".to_vec());
    for byte in password {
        if matches!(byte, b':' | b'\\') {
            line.push(b'\\');
        }
        line.push(*byte);
    }
    line.push(b'\n');
    Some(line)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_format_means_otherwise_is_escaped() {
        let line = super::line(b"a:b\\c d").unwrap();
        assert_eq!(line.as_slice(), b"*:*:*:*:a\\:b\\\\c d\n");
        assert!(super::line(b"two\nlines").is_none());
    }
}
