//! The fences of the model. Both sides of the asymmetric pair are real fences: loom knows no membarrier (models/README.md).

pub use loom::sync::atomic::fence;

use super::super::Ordering;

/// As the real one, whose last step orders a thread that is new against [`fence`] and `heavy`.
pub fn prepare() {
    // ORDERING: SeqCst pairs with the fence of who looks for threads.
    fence(Ordering::SeqCst);
}

/// As the real one.
pub fn light() {
    // ORDERING: SeqCst pairs with the fence in `heavy`.
    fence(Ordering::SeqCst);
}

/// As the real one.
pub fn heavy() {
    // ORDERING: SeqCst pairs with the fence in `light`.
    fence(Ordering::SeqCst);
}
