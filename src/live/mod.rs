//! The process's own address space, live (floor 5).
//!
//! Owns: the epoch of what went wrong (`epoch`).

pub mod epoch;
