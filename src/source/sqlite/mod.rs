//! `SQLite`: found by its header, captured through `SQLite` itself, proved by `SQLite` itself.
//!
//! The trap that shapes this room: POSIX drops all of a process's locks on a file when the process
//! closes any descriptor of it. So nobody here or above opens a database's main file by path while a
//! connection to it is open: headers are peeked at before the first and after the last one.

mod capture;
mod captured;
mod census;
mod detect;
mod direct;
mod fingerprint;
mod harm;
mod header;
mod names;
mod open;
mod options;
mod pages;
mod prove;
mod refusal;
mod relay;
mod replaced;
pub mod sample;
mod second;
mod sink;
mod spool;
mod standing;
mod tidy;
mod together;
mod view;
pub mod wal;

pub use capture::{Prepared, capture};
pub use captured::{Captured, Method};
pub use census::{Census, Look};
pub use detect::{
    HEAD, SIDE_FILES, Signature, beside, is_database, main_of, signature, signature_of, without,
};
pub use fingerprint::Fingerprint;
pub use header::Header;
pub use names::at_work;
pub use options::{Limits, Options, engine_version, has_page_table};
pub use prove::{Proof, count_at_rest, has_changes_beside, open_copy, prove};
pub use relay::Rest;
pub use replaced::is_on_a_network;
pub use sink::Sink;
pub use standing::Standing;
pub use together::{Together, together};
