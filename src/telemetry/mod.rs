//! What is counted, logged and listed. Others write counters and open sessions here; this room never asks
//! anybody anything.
