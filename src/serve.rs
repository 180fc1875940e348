//! Start and end of a node: everything that can fail is tried before the first connection is taken.
