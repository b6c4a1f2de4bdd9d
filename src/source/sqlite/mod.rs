//! `SQLite`: found by its header, captured through `SQLite` itself, proved by `SQLite` itself.
//!
//! The trap that shapes this room: POSIX drops all of a process's locks on a file when the process
//! closes any descriptor of it. So nobody here or above opens a database's main file by path while a
//! connection to it is open: headers are peeked at before the first and after the last one.

mod capture;
mod detect;
mod fingerprint;
mod header;
mod open;
mod prove;
mod replaced;
pub mod sample;
mod spool;

pub use capture::{Captured, Method, Options, capture, engine_version, has_page_table};
pub use detect::{SIDE_FILES, Signature, beside, is_database, signature};
pub use fingerprint::Fingerprint;
pub use header::Header;
pub use prove::{Proof, count_at_rest, has_changes_beside, prove};
pub use replaced::is_on_a_network;
pub use spool::Limits;
