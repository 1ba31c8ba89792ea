//! What a node answers besides audio.
