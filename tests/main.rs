//! All integration tests: one module a capability, so that a name tells what broke.
#![allow(
    clippy::disallowed_methods,
    reason = "tests make and break files as they like"
)]

mod common;

mod backends;
mod backup;
mod cli;
mod config;
mod consistency;
mod crash;
mod damage;
mod docs;
mod errors;
mod excludes;
mod full;
mod host;
mod hostile;
mod in_place;
mod increments;
mod index;
mod interop;
mod keys;
mod kinds;
mod latest;
mod look;
mod overlap;
mod partial;
mod power;
mod prune;
mod records;
mod repair;
mod restore;
mod retention;
mod servers;
mod setup;
mod shops;
mod sqlite;
mod suite;
mod tidy;
mod unchanged;
mod walk;
