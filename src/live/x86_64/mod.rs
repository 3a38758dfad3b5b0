//! x86-64: what a site looks like, what it jumps to, and what happens there. Code that compilers did not make: instructions are decoded
//! in `find` and `blind`, encoded in `slot`, and written by hand in `gate`.

pub(super) mod blind;
pub(super) mod find;
pub(super) mod gate;
pub(super) mod slot;
