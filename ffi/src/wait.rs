//! `<mmu_notifier/wait.h>`: who sleeps in the library, and who wakes them.

use mmu_notifier::sync::hook;
use mmu_notifier::sync::hook::mmu_notifier_wait_hook;

/// Has `hook` told of every sleep and every wake inside the library from now on; NULL removes it.
///
/// The struct has to stay valid, unchanged, for the rest of the process. Its functions run on the thread concerned. They must
/// not call the library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_set_wait_hook(hook: *const mmu_notifier_wait_hook) {
    // SAFETY: The caller keeps the contract.
    unsafe { hook::set_wait_hook(hook) };
}
