//! All mms that exist, for fork; and the process's own.

use core::cell::UnsafeCell;
use core::ffi::c_uint;
use core::ptr;

use crate::abi::mm::{mm_context_t, mm_links, mm_struct};
use crate::abi::types::{atomic_t, callback_head};
use crate::sync::{AtomicI32, AtomicU64, Lock, Ordering, rw_semaphore};

/// The process's own mm: it exists as long as the process.
struct ProcessMm(UnsafeCell<mm_struct>);

// SAFETY: An mm_struct is shared by design: its parts are atomics, locks, or constant.
unsafe impl Sync for ProcessMm {}

static PROCESS: ProcessMm = ProcessMm(UnsafeCell::new(new_mm()));

crate::sync::global! {
    /// First of a list of all mms but the process's own.
    static ALL: Lock<First> = Lock::new(First(ptr::null_mut()));
}

struct First(*mut mm_struct);

/// A fresh mm: one user, which owns one reference.
// SPEC: ML-1
pub(super) const fn new_mm() -> mm_struct {
    mm_struct {
        mm_users: atomic_t {
            counter: AtomicI32::new(1),
        },
        mm_count: atomic_t {
            counter: AtomicI32::new(1),
        },
        mmap_lock: rw_semaphore::new(),
        notifier_subscriptions: ptr::null_mut(),
        pgd: ptr::null_mut(),
        context: mm_context_t { id: 0 },
        pasid: c_uint::MAX,
        rmap_lock: rw_semaphore::new(),
        inherited: ptr::null_mut(),
        async_work: callback_head {
            next: ptr::null_mut(),
            func: None,
        },
        links: mm_links {
            next: ptr::null_mut(),
            prev: ptr::null_mut(),
        },
    }
}

/// The process's own mm.
pub fn process_mm() -> *mut mm_struct {
    PROCESS.0.get()
}

/// Adds a fresh mm to the list, and gives it its identifier.
///
/// # Safety
/// `mm` is valid until it is removed.
pub(super) unsafe fn add(mm: *mut mm_struct) {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    let mut all = ALL.lock();
    // SAFETY: `mm` is the caller's; listed ones are valid.
    unsafe {
        // ORDERING: Relaxed: only uniqueness matters.
        (*mm).context.id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        (*mm).links = mm_links {
            next: all.0,
            prev: ptr::null_mut(),
        };
        if !all.0.is_null() {
            (*all.0).links.prev = mm;
        }
    }
    all.0 = mm;
}

/// Takes an mm off the list.
///
/// # Safety
/// `mm` is on it.
pub(super) unsafe fn remove(mm: *mut mm_struct) {
    let mut all = ALL.lock();
    // SAFETY: Listed mms are valid.
    unsafe {
        let (next, prev) = ((*mm).links.next, (*mm).links.prev);
        if prev.is_null() {
            all.0 = next;
        } else {
            (*prev).links.next = next;
        }
        if !next.is_null() {
            (*next).links.prev = prev;
        }
    }
}

/// Runs `act` while no fork is under way: what fork visits stays as it is from its beginning to its end.
pub(super) fn without_fork<T>(act: impl FnOnce() -> T) -> T {
    let held = ALL.lock();
    let result = act();
    drop(held);
    result
}

/// Before fork: nobody adds or removes an mm, or what hangs off one.
pub(super) fn hold_for_fork() {
    ALL.acquire();
}

/// After fork, in both processes: undoes `hold_for_fork`.
///
/// # Safety
/// This thread, or its image in the parent, called `hold_for_fork`.
pub(super) unsafe fn release_after_fork() {
    // SAFETY: Held since `hold_for_fork`.
    unsafe { ALL.release() };
}

/// Visits every mm, the process's own first.
///
/// # Safety
/// Between `hold_for_fork` and `release_after_fork`.
pub(super) unsafe fn each(mut visit: impl FnMut(*mut mm_struct)) {
    visit(process_mm());
    // SAFETY: The caller holds the list.
    let mut mm = unsafe { ALL.data() }.0;
    while !mm.is_null() {
        visit(mm);
        // SAFETY: Listed mms are valid.
        mm = unsafe { (*mm).links.next };
    }
}
