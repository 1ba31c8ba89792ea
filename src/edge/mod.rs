//! The data port.
