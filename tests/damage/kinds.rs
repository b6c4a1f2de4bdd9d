//! Each kind of repository file, hurt in each way: flipped, cut, extended, emptied, deleted.
