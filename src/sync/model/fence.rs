//! The fences of the model. Loom knows no membarrier, so the asymmetric pair is made of what it does know.
//!
//! Each thread has a word that stands for its CPU's store buffer. `light` is a step of the thread's own word, `heavy` a full
//! fence and a step of every thread's word; the steps are AcqRel. So a light fence orders against heavy ones alone: neither
//! against another light one nor against a [`fence`], as on the machine, where it is no instruction at all (models/README.md).

pub use loom::sync::atomic::fence;

use super::super::Ordering;
use super::thread;

/// As the real one, whose last step orders a thread that is new against [`fence`] and `heavy`.
pub fn prepare() {
    // ORDERING: SeqCst pairs with the fences of who looks for threads, and in `heavy`.
    fence(Ordering::SeqCst);
}

/// As the real one.
pub fn light() {
    // ORDERING: AcqRel pairs with the step of this word in `heavy`.
    thread::each_barrier(true, |word| word.fetch_add(1, Ordering::AcqRel));
}

/// As the real one.
pub fn heavy() {
    // ORDERING: SeqCst pairs with the fence in `prepare`.
    fence(Ordering::SeqCst);
    // ORDERING: AcqRel pairs with the step of each word in `light`.
    thread::each_barrier(false, |word| word.fetch_add(1, Ordering::AcqRel));
}
