//! x86-64: what a site looks like, what it jumps to, and what happens there.

pub(super) mod find;
pub(super) mod gate;
pub(super) mod slot;
