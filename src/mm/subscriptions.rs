//! What hangs off `mm->notifier_subscriptions`: SPEC's S.

use core::alloc::Layout;
use core::ptr;

use crate::abi::mm::{mm_struct, mmu_notifier_subscriptions};
use crate::abi::types::LIST_POISON1;
use crate::chain::Chain;
use crate::interval::Intervals;
use crate::report::{Error, Result};
use crate::sync::{AtomicBool, AtomicPtr, Ordering};

/// The subscriptions of one mm. Published once, freed with the mm (ST-2).
#[derive(Debug)]
pub(super) struct Subscriptions {
    pub(super) chain: Chain,
    pub(super) intervals: Intervals,
    /// Turned on by the first insert, never off (ST-3).
    has_itree: AtomicBool,
    /// In a child after fork: what the process's mm had inherited before (DV-13).
    pub(super) inherited_earlier: *mut Subscriptions,
}

impl Subscriptions {
    /// Allocates them, empty.
    // SPEC: ST-1 RG-3
    pub(super) fn allocate() -> Result<*mut Self> {
        let layout = Layout::new::<Self>();
        // SAFETY: The layout is not empty.
        let memory = unsafe { std::alloc::alloc(layout) }.cast::<Self>();
        if memory.is_null() {
            return Err(Error::Errno(libc::ENOMEM));
        }
        let empty = Self {
            chain: Chain::new(),
            intervals: Intervals::new(),
            has_itree: AtomicBool::new(false),
            inherited_earlier: ptr::null_mut(),
        };
        // SAFETY: Fresh memory of this layout.
        unsafe { memory.write(empty) };
        Ok(memory)
    }

    /// Frees what `allocate` returned.
    ///
    /// # Safety
    /// Nobody uses them any more.
    pub(super) unsafe fn free(subscriptions: *mut Self) {
        // SAFETY: Allocated with the global allocator and this type's layout.
        drop(unsafe { Box::from_raw(subscriptions) });
    }

    #[inline]
    pub(super) fn has_itree(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `turn_on_itree`.
        self.has_itree.load(Ordering::Acquire)
    }

    /// From now on ranges look at the intervals.
    // SPEC: ST-3 RG-5
    pub(super) fn turn_on_itree(&self) {
        // ORDERING: Release pairs with the Acquire in `has_itree`.
        self.has_itree.store(true, Ordering::Release);
    }
}

/// `mm->notifier_subscriptions`, which inlines of the header read as well.
#[inline]
unsafe fn field<'a>(mm: *const mm_struct) -> &'a AtomicPtr<mmu_notifier_subscriptions> {
    // SAFETY: The caller passes a valid mm.
    unsafe { AtomicPtr::from_ptr((&raw const (*mm).notifier_subscriptions).cast_mut()) }
}

/// The subscriptions of `mm`, if it has had any.
///
/// # Safety
/// `mm` is valid while the result is used.
#[inline]
pub(super) unsafe fn of<'a>(mm: *const mm_struct) -> Option<&'a Subscriptions> {
    // SAFETY: The caller's promise; what was published stays until the mm is destroyed.
    unsafe { raw(mm).as_ref() }
}

/// As [`of`], as a pointer that may be NULL.
#[inline]
pub(super) unsafe fn raw(mm: *const mm_struct) -> *mut Subscriptions {
    // SAFETY: The caller passes a valid mm.
    // ORDERING: Acquire pairs with the Release in `publish`.
    let found = unsafe { field(mm) }.load(Ordering::Acquire);
    // Neither NULL nor LIST_POISON1, which is no address of a program.
    const { assert!((LIST_POISON1 as isize) < 0) };
    if found.addr() as isize > 0 {
        found.cast()
    } else {
        ptr::null_mut()
    }
}

/// Makes `subscriptions` those of `mm`.
// SPEC: ST-2 MO-1
pub(super) unsafe fn publish(mm: *mut mm_struct, subscriptions: *mut Subscriptions) {
    // SAFETY: The caller passes a valid mm.
    // ORDERING: Release pairs with the Acquire in `raw` and in the header's `mm_has_notifiers`.
    unsafe { field(mm) }.store(subscriptions.cast(), Ordering::Release);
}

/// Marks `mm` as one whose subscriptions are gone.
// SPEC: DS-1
pub(super) unsafe fn poison(mm: *mut mm_struct) {
    // SAFETY: The caller passes a valid mm.
    // ORDERING: Relaxed: nobody else has a reference to the mm.
    unsafe { field(mm) }.store(
        ptr::with_exposed_provenance_mut(LIST_POISON1),
        Ordering::Relaxed,
    );
}

/// Ends a registration that the process's own mm had before a fork, if `forget` finds it there.
///
/// # Safety
/// `mm` is valid.
// SPEC: DV-13
pub(super) unsafe fn end_inherited(
    mm: *const mm_struct,
    forget: impl Fn(&Subscriptions) -> bool,
) -> bool {
    // SAFETY: The caller's promise. Inherited subscriptions are never freed.
    let mut inherited = unsafe { (*mm).inherited.cast::<Subscriptions>().as_ref() };
    while let Some(subscriptions) = inherited {
        if forget(subscriptions) {
            return true;
        }
        // SAFETY: As above.
        inherited = unsafe { subscriptions.inherited_earlier.as_ref() };
    }
    false
}
