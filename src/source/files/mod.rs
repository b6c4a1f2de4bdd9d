//! Files: which are meant, the walk through them in the order that trees want, their metadata, their
//! bytes.

pub mod exclude;
mod metadata;
mod reader;
mod roots;
mod walk;

pub use reader::FileReader;
pub use roots::Walk;
pub use walk::Step;
