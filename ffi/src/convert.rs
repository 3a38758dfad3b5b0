//! From what the core returns to what the contract returns.

use core::ffi::{c_int, c_ulong};
use core::ptr;

use mmu_notifier::report::{Error, Misuse, Result};

/// Reports misuse; for a BUG this is the end.
// SPEC: DV-3 DV-17
pub(crate) fn raise(misuse: &Misuse) {
    misuse.report();
    if misuse.is_bug() {
        std::process::abort();
    }
}

/// Reports misuse if that is what the error is; returns the negative errno.
#[cold]
#[inline(never)]
fn fail(error: Error) -> c_int {
    if let Error::Misuse(misuse) = &error {
        raise(misuse);
    }
    -error.errno()
}

/// The value that a C function returns for the core's result.
pub(crate) trait IntoC {
    /// What C gets.
    type C;
    /// Converts; reports misuse.
    fn into_c(self) -> Self::C;
}

/// A function that returns nothing or an error: 0 or a negative errno.
impl IntoC for Result<()> {
    type C = c_int;
    #[inline]
    fn into_c(self) -> c_int {
        self.map_or_else(fail, |()| 0)
    }
}

/// A function that returns an int of its own, or a negative errno.
impl IntoC for Result<c_int> {
    type C = c_int;
    #[inline]
    fn into_c(self) -> c_int {
        self.unwrap_or_else(fail)
    }
}

/// A question. What cannot be answered is false.
impl IntoC for Result<bool> {
    type C = bool;
    fn into_c(self) -> bool {
        self.unwrap_or_else(|error| fail(error) > 0)
    }
}

/// A number or an address, or a negative errno in the same word.
impl IntoC for Result<c_ulong> {
    type C = c_ulong;
    #[inline]
    fn into_c(self) -> c_ulong {
        self.unwrap_or_else(|error| c_ulong::from_ne_bytes(i64::from(fail(error)).to_ne_bytes()))
    }
}

/// A pointer, or an ERR_PTR.
impl<T> IntoC for Result<*mut T> {
    type C = *mut T;
    fn into_c(self) -> *mut T {
        self.unwrap_or_else(|error| ptr::without_provenance_mut(fail(error) as isize as usize))
    }
}
