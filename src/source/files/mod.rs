//! Files: which are meant, the walk through them in the order that trees want, their metadata, their
//! bytes.

pub mod exclude;
mod facts;
mod finding;
mod item;
mod metadata;
mod reader;
mod roots;
mod walk;

pub use finding::unreadable;
pub use item::Item;
pub use metadata::{ATTRIBUTES_UNREADABLE, Entries};
pub use reader::{Change, FileReader};
pub use roots::Walk;
pub use walk::Step;
