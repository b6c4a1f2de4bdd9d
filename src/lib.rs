//! tillsafe gets a shop open again: consistent, encrypted, proven snapshots of databases and files.
//!
//! Data goes one way out and the same way back:
//! source ► capture ► chunker ► repository ► backend, and backend ► repository ► restore ► the shop.
//! A module imports only from floors below its own; `docs/design/architecture.md` draws the house
//! and `tests/tidy.rs` keeps the drawing true.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make and break files as they like"
    )
)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::print_stdout,
        clippy::print_stderr,
        clippy::exit
    )
)]

pub mod clock;
pub mod durable;
pub mod entry;
pub mod error;
pub mod glob;
pub mod id;
pub mod monitor;
pub mod parallel;
pub mod point;
pub mod rng;
pub mod secret;
pub mod units;

pub mod backend;
pub mod chunker;

pub mod records;
pub mod repository;
pub mod source;

pub mod capture;
pub mod host;
pub mod retention;

pub mod backup;
pub mod forget;
pub mod hook;
pub mod look;
pub mod restore;

pub mod doctor;

pub mod config;

pub mod cli;
