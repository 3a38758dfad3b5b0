//! `<mmu_notifier/version.h>`.

use core::ffi::c_char;

/// The version of the library that is running, `"MAJOR.MINOR.PATCH"`. Compare with MMU_NOTIFIER_VERSION, that of the
/// headers. Callable from anywhere.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
