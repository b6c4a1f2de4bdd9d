//! A snapshot back out: plan, stage beside the target, prove the copy, swap it in.
//!
//! ```text
//! Plan ──fetch──► Staged ──verify──► Verified ──swap_in──► Restored
//! ```
//! Each step consumes the one before, so nothing unproved can reach a final name: only a
//! [`Verified`] can be swapped in. Dropping any of them removes what was staged; only what a signal or a
//! full disk cut short stays, for the same restore. What no whole copy is of in the repository is named
//! as [`Lost`], and the rest comes back. Where a folder is filled in place, [`Target::finish`] completes what was interrupted after its proof.

mod ahead;
mod estimate;
mod fetch;
mod filter;
mod fold;
mod foreseen;
mod holes;
mod image;
mod images;
pub mod in_place;
mod item;
mod links;
mod log;
mod lost;
mod metadata;
mod missing;
mod plan;
mod read_back;
mod ready;
mod resume;
mod run;
mod select;
mod servers;
mod swap;
mod target;
mod verify;

pub use crate::records::ProofLevel;
pub use estimate::{Estimate, Measured};
pub use fetch::Staged;
pub use filter::{Filter, Selection};
pub use foreseen::Foreseen;
pub use images::Images;
pub use item::{Item, Log};
pub use lost::{Holder, Lost};
pub use missing::Missing;
pub use plan::Plan;
pub use ready::Restored;
pub use select::{Request, select};
pub use servers::ServerProof;
pub use target::Target;
pub use verify::{DatabaseProof, Verified};
