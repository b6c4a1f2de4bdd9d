//! What is in a snapshot, looked at without restoring it: nothing is written, and no lock is needed.
//!
//! A repository may be somebody else's: folders are at most so deep, paths so long, and equal folders
//! are gone through only so often, that no run takes more memory or time than what it looks at. Called
//! by `cli`.

mod diff;
mod find;
mod place;
mod stats;
mod walk;

pub use diff::{Change, Compared, Differences, Tally, diff};
pub use find::{Match, Objects, Query, Wanted};
pub use place::{Found, locate};
pub use stats::{Mode, Stats, stats};
pub use walk::{Step, Walk};
