//! All knowledge of what is backed up: file systems and database engines, out and back.
//!
//! Nothing here knows how a repository stores anything.

pub mod files;
pub mod postgres;
pub mod sqlite;
