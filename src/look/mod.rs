//! What is in a snapshot, looked at without restoring it: nothing is written, and no lock is needed.
//!
//! A repository may be somebody else's: folders are at most so deep, paths so long, and equal folders
//! are gone through only so often, that no run takes more memory or time than what it looks at. Called
//! by `cli`.

mod ahead;
mod diff;
mod dump;
mod find;
mod new_file;
mod place;
mod stats;
mod tar;
mod walk;

pub use ahead::Written;
pub use diff::{Change, Compared, Differences, Tally, diff};
pub use dump::{Dump, Images};
pub use find::{Match, Objects, Query, Wanted};
pub use new_file::{NewFile, Sink};
pub use place::{Found, folder, locate};
pub use stats::{Mode, Stats, stats};
pub use walk::{Step, Walk};
