//! The walk through files that move, vanish, fail and lie: each trap has a test of its name. What is missing
//! is named, the rest is there, and the next run is whole.

mod exchanged;
mod failing;
mod large;
mod moving;
