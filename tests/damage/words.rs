//! What the program says about damage.
