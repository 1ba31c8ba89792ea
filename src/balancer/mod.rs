//! Which node takes a listener: a pure decision with its reason.
