//! Calls callbacks in the layout of the kernel that their driver was compiled for (floor 2; SPEC 2.3, DV-15).
//!
//! Owns: the mark on a notifier that says which layout it has, and the translation of a range between layouts. This is the one
//! room that another kernel's ABI touches, together with its structs in `abi::versions`.
//!
//! Invariants
//! * A registered `mmu_notifier` carries its [`Abi`] in the tail padding that every layout has (SPEC 1.6). An interval notifier
//!   has no such place: its index keeps the mark.
//! * A callback gets the producer's own range object if both have the same layout, and a copy for the time of the call if not.
#![expect(
    unsafe_code,
    reason = "ops are C functions behind pointers to structs of several layouts"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "reads of one live object"
)]

mod interval;
mod notifier;

pub use interval::{Finishes, NoSuchOp, Ops, Pass, has_finish_for_start};
pub use notifier::{NotifierOps, range_end, range_start};

use core::ffi::c_ulong;
use core::ptr;

use crate::abi::mm::mm_struct;
use crate::abi::notifier::{MMU_NOTIFIER_RANGE_BLOCKABLE, mmu_notifier, mmu_notifier_range};
pub use crate::abi::versions::mmu_notifier_abi as Abi;
use crate::abi::versions::mmu_notifier_range_5_14;
use Abi::{
    MMU_NOTIFIER_ABI_5_14 as V5_14, MMU_NOTIFIER_ABI_6_3 as V6_3, MMU_NOTIFIER_ABI_6_6 as V6_6,
    MMU_NOTIFIER_ABI_6_10 as V6_10, MMU_NOTIFIER_ABI_7_1 as V7_1,
};

/// The layout of kernel 6.6, which the library speaks unless told otherwise.
pub const REFERENCE: Abi = V6_6;

impl Abi {
    /// The layout with this number; the reference's for a number that none has.
    #[inline]
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => V5_14,
            2 => V6_3,
            4 => V6_10,
            5 => V7_1,
            _ => REFERENCE,
        }
    }

    /// 1 to 5: fits into three bits.
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// What a registered notifier carries in the first bytes of its tail padding.
#[repr(C)]
#[derive(Clone, Copy)]
struct Mark {
    /// The number of its layout.
    abi: u8,
    /// Where `invalidate_range_start` is in its table, in bytes, with `invalidate_range_end` behind it; 0 if calling them takes
    /// more than that.
    range_ops: u8,
}

fn mark(subscription: *mut mmu_notifier) -> *mut Mark {
    const PADDING: usize = 52;
    const { assert!(size_of::<mmu_notifier>() >= PADDING + size_of::<Mark>()) };
    subscription.wrapping_byte_add(PADDING).cast()
}

/// Marks a notifier that is being registered.
///
/// # Safety
/// `subscription` is valid.
// SPEC: DV-15
pub unsafe fn set_abi(subscription: *mut mmu_notifier, abi: Abi) {
    let new = Mark {
        abi: abi.number(),
        range_ops: notifier::range_ops(abi),
    };
    // SAFETY: The caller's promise.
    unsafe { mark(subscription).write(new) };
}

/// The layout of the ops of a registered notifier.
///
/// # Safety
/// `subscription` is valid and was registered.
// SPEC: DV-15
#[inline]
pub unsafe fn abi_of(subscription: *mut mmu_notifier) -> Abi {
    // SAFETY: The caller's promise.
    Abi::from_number(unsafe { mark(subscription).read() }.abi)
}

/// A range that is being announced, in its producer's layout and in the reference's.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    current: *const mmu_notifier_range,
    /// The producer's own object if it is a 5.14 one, or NULL.
    legacy: *const mmu_notifier_range_5_14,
}

impl Range {
    /// A range of a producer of 6.3 or newer.
    ///
    /// # Safety
    /// `range` is valid while the result is used.
    #[inline]
    pub unsafe fn new(range: *const mmu_notifier_range) -> Self {
        Self {
            current: range,
            legacy: ptr::null(),
        }
    }

    /// A range of a producer of 5.14 to 6.2; `copy` is what [`Range::copy_of`] made of it.
    ///
    /// # Safety
    /// Both are valid while the result is used.
    pub unsafe fn from_5_14(
        legacy: *const mmu_notifier_range_5_14,
        copy: *const mmu_notifier_range,
    ) -> Self {
        Self {
            current: copy,
            legacy,
        }
    }

    /// `range` in the reference's layout.
    ///
    /// # Safety
    /// `range` is valid.
    pub unsafe fn copy_of(range: *const mmu_notifier_range_5_14) -> mmu_notifier_range {
        // SAFETY: The caller's promise.
        let (mm, start, end) = unsafe { ((*range).mm, (*range).start, (*range).end) };
        // SAFETY: As above.
        let (flags, event, owner) = unsafe { ((*range).flags, (*range).event, (*range).owner) };
        mmu_notifier_range {
            mm,
            start,
            end,
            flags,
            event,
            owner,
        }
    }

    #[inline]
    fn range(&self) -> &mmu_notifier_range {
        // SAFETY: Valid while `self` is used, says whoever made it.
        unsafe { &*self.current }
    }

    /// The address space.
    #[inline]
    pub fn mm(&self) -> *mut mm_struct {
        self.range().mm
    }

    /// First byte.
    #[inline]
    pub fn start(&self) -> c_ulong {
        self.range().start
    }

    /// One past the last byte.
    #[inline]
    pub fn end(&self) -> c_ulong {
        self.range().end
    }

    /// First and last byte.
    #[inline]
    pub fn bounds(&self) -> (c_ulong, c_ulong) {
        (self.start(), self.end().wrapping_sub(1))
    }

    /// May callbacks sleep?
    // SPEC: RE-7
    #[inline]
    pub fn is_blockable(&self) -> bool {
        self.range().flags & MMU_NOTIFIER_RANGE_BLOCKABLE != 0
    }

    /// The object for callbacks of 6.3 and newer.
    #[inline]
    fn current(&self) -> *const mmu_notifier_range {
        self.current
    }

    /// Calls `callback` with the object for callbacks of 5.14 to 6.2.
    pub fn with_5_14<T>(&self, callback: impl FnOnce(*const mmu_notifier_range_5_14) -> T) -> T {
        if !self.legacy.is_null() {
            return callback(self.legacy);
        }
        let range = self.range();
        callback(&mmu_notifier_range_5_14 {
            vma: ptr::null_mut(),
            mm: range.mm,
            start: range.start,
            end: range.end,
            flags: range.flags,
            event: range.event,
            owner: range.owner,
        })
    }
}
