//! A snapshot back out: plan, stage beside the target, prove the copy, swap it in.
//!
//! ```text
//! Plan ──fetch──► Staged ──verify──► Verified ──swap_in──► Restored
//! ```
//! Each step consumes the one before, so nothing unproved can reach a final name: only a
//! [`Verified`] can be swapped in. Dropping any of them removes what was staged. Where a folder is
//! filled in place, [`Target::finish`] completes what was interrupted after its proof.

mod estimate;
mod fetch;
pub mod in_place;
mod metadata;
mod plan;
mod ready;
mod select;
mod swap;
mod target;
mod verify;

pub use estimate::Estimate;
pub use fetch::Staged;
pub use plan::{Item, Plan};
pub use ready::Restored;
pub use select::{Request, select};
pub use target::Target;
pub use verify::{DatabaseProof, ProofLevel, Verified};
