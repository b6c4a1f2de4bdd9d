//! The words of what keeps a repository in order.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub struct Unlock {
    /// All locks, also those whose holder may live: make sure that nobody works on the repository
    #[arg(long)]
    pub remove_all: bool,
}

#[derive(Debug, Args)]
pub struct Key {
    #[command(subcommand)]
    pub action: KeyAction,
}

#[derive(Debug, Subcommand)]
pub enum KeyAction {
    /// List the keys: when each was made, what a guess at its password costs, which one is in use
    List,
    /// Add a key, so that one more password opens the repository
    Add(Password),
    /// Remove a key: its password opens nothing from then on
    ///
    /// Not the key that this run opens the repository with, so one always stays.
    Remove(KeyRemove),
    /// Change the password that this run opens the repository with
    ///
    /// The new password must open before the old key goes; in between both do. Whoever had the old one and
    /// a copy of the repository's keys can still read what they copied: docs/keys.md.
    Passwd(Password),
}

#[derive(Debug, Args)]
pub struct Password {
    /// File that holds the new password; one that does not exist is made, with a strong password in it
    #[arg(long, value_name = "FILE", conflicts_with = "new_password_command")]
    pub new_password_file: Option<PathBuf>,
    /// Command that prints the new password
    #[arg(long, value_name = "COMMAND")]
    pub new_password_command: Option<String>,
}

#[derive(Debug, Args)]
pub struct KeyRemove {
    /// First digits of the key's name; of a file that is no key, the full name
    #[arg(value_name = "ID")]
    pub key: String,
}
