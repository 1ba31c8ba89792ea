//! The rules between nodes, pure.
