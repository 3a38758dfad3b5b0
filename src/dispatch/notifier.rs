//! The ops of a notifier of a whole address space, whatever their layout.

use core::ffi::{c_int, c_ulong, c_void};
use core::mem::offset_of;
use core::ptr;

use super::{Abi, Range, V5_14, V6_3, V6_6, V6_10, V7_1, abi_of, mark};
use crate::abi::mm::mm_struct;
use crate::abi::notifier::{mmu_notifier, mmu_notifier_ops, mmu_notifier_range};
use crate::abi::types::pte_t;
use crate::abi::versions::{
    mmu_notifier_ops_5_14, mmu_notifier_ops_6_3, mmu_notifier_ops_6_10, mmu_notifier_ops_7_1,
};

/// A table of ops and its layout.
#[derive(Clone, Copy, Debug)]
pub struct NotifierOps {
    table: *const c_void,
    abi: Abi,
}

/// An op on accessed bits: it returned an int before 7.1, and a bool since.
enum Young<I, B> {
    Int(I),
    Bool(B),
}

/// An op on a range, whose layout changed with 6.3.
enum OnRange<L, C> {
    Legacy(L),
    Current(C),
}

type SecondaryFn = unsafe extern "C" fn(
    subscription: *mut mmu_notifier,
    mm: *mut mm_struct,
    start: c_ulong,
    end: c_ulong,
);

/// The struct of a layout.
macro_rules! layout_of {
    (V5_14) => {
        mmu_notifier_ops_5_14
    };
    (V6_3) => {
        mmu_notifier_ops_6_3
    };
    (V6_6) => {
        mmu_notifier_ops
    };
    (V6_10) => {
        mmu_notifier_ops_6_10
    };
    (V7_1) => {
        mmu_notifier_ops_7_1
    };
}

/// `on!(self, ops => value)`: the value with `ops` as the table, whatever its layout.
/// `on!(self, [V6_10 V7_1] ops => value, [..] ops => value)`: the value for the layouts in the list.
macro_rules! on {
    ($self:ident, $ops:ident => $value:expr) => {
        on!($self, [V5_14 V6_3 V6_6 V6_10 V7_1] $ops => $value)
    };
    ($self:ident, $( [$($abi:ident)*] $ops:ident => $value:expr ),*) => {
        match $self.abi {
            $($( $abi => {
                // SAFETY: The table has the layout that it was registered with.
                let $ops = unsafe { &*$self.table.cast::<layout_of!($abi)>() };
                $value
            } )*)*
        }
    };
}

/// `young!(self, op(arguments))`: calls an op on accessed bits; 0 if it is not set. By the promise of `op`'s caller.
macro_rules! young {
    ($self:ident, $op:ident($($argument:expr),*)) => {{
        let op = on!($self,
            [V5_14 V6_3 V6_6 V6_10] ops => ops.$op.map(Young::Int),
            [V7_1] ops => ops.$op.map(Young::Bool)
        );
        match op {
            None => 0,
            // SAFETY: The caller's promise.
            Some(Young::Int(op)) => unsafe { op($($argument),*) },
            // SAFETY: The caller's promise.
            Some(Young::Bool(op)) => unsafe { op($($argument),*) }.into(),
        }
    }};
}

impl NotifierOps {
    /// A table of this layout.
    ///
    /// # Safety
    /// `table` is a valid table of the layout `abi` as long as the result is used.
    pub unsafe fn new(table: *const c_void, abi: Abi) -> Self {
        Self { table, abi }
    }

    /// The ops of a registered notifier.
    ///
    /// # Safety
    /// `subscription` is valid and was registered; its ops stay as long as the result is used.
    #[inline(always)]
    pub unsafe fn of(subscription: *mut mmu_notifier) -> Self {
        // SAFETY: The caller's promise.
        unsafe {
            Self {
                table: (*subscription).ops.cast(),
                abi: abi_of(subscription),
            }
        }
    }

    /// Calls `release`, if set.
    ///
    /// # Safety
    /// The arguments are what the op may get.
    pub unsafe fn release(self, subscription: *mut mmu_notifier, mm: *mut mm_struct) {
        if let Some(op) = on!(self, ops => ops.release) {
            // SAFETY: The caller's promise.
            unsafe { op(subscription, mm) };
        }
    }

    /// Calls `clear_flush_young` for `[start, end)`; 0 if it is not set.
    ///
    /// # Safety
    /// The arguments are what the op may get.
    pub unsafe fn clear_flush_young(
        self,
        subscription: *mut mmu_notifier,
        mm: *mut mm_struct,
        [start, end]: [c_ulong; 2],
    ) -> c_int {
        young!(self, clear_flush_young(subscription, mm, start, end))
    }

    /// Calls `clear_young` for `[start, end)`; 0 if it is not set.
    ///
    /// # Safety
    /// The arguments are what the op may get.
    pub unsafe fn clear_young(
        self,
        subscription: *mut mmu_notifier,
        mm: *mut mm_struct,
        [start, end]: [c_ulong; 2],
    ) -> c_int {
        young!(self, clear_young(subscription, mm, start, end))
    }

    /// Calls `test_young`; 0 if it is not set.
    ///
    /// # Safety
    /// The arguments are what the op may get.
    pub unsafe fn test_young(
        self,
        subscription: *mut mmu_notifier,
        mm: *mut mm_struct,
        address: c_ulong,
    ) -> c_int {
        young!(self, test_young(subscription, mm, address))
    }

    /// Calls `change_pte`, if the layout has it and it is set.
    ///
    /// # Safety
    /// The arguments are what the op may get.
    pub unsafe fn change_pte(
        self,
        subscription: *mut mmu_notifier,
        mm: *mut mm_struct,
        address: c_ulong,
        pte: pte_t,
    ) {
        let op = on!(self, [V5_14 V6_3 V6_6] ops => ops.change_pte, [V6_10 V7_1] _none => None);
        if let Some(op) = op {
            // SAFETY: The caller's promise.
            unsafe { op(subscription, mm, address, pte) };
        }
    }

    /// Calls `invalidate_range_start` of a registered notifier of any layout; 0 if it is not set.
    ///
    /// # Safety
    /// The notifier is valid, the range is what the op may get.
    #[cold]
    #[inline(never)]
    unsafe fn range_start(subscription: *mut mmu_notifier, range: Range) -> c_int {
        // SAFETY: The caller's promise.
        let ops = unsafe { Self::of(subscription) };
        let op = on!(ops,
            [V5_14] ops => ops.invalidate_range_start.map(OnRange::Legacy),
            [V6_3 V6_6 V6_10 V7_1] ops => ops.invalidate_range_start.map(OnRange::Current)
        );
        match op {
            None => 0,
            // SAFETY: The caller's promise.
            Some(OnRange::Current(op)) => unsafe { op(subscription, range.current()) },
            Some(OnRange::Legacy(op)) => {
                // SAFETY: The caller's promise.
                range.with_5_14(|range| unsafe { op(subscription, range) })
            }
        }
    }

    /// Calls `invalidate_range_end` of a registered notifier of any layout, if set. Up to 6.5, `invalidate_range` comes first, unless
    /// `only_end`.
    ///
    /// # Safety
    /// The notifier is valid, the range is what the ops may get.
    // SPEC: 2.1
    #[cold]
    #[inline(never)]
    unsafe fn range_end(subscription: *mut mmu_notifier, range: Range, only_end: bool) {
        // SAFETY: The caller's promise.
        let ops = unsafe { Self::of(subscription) };
        if matches!(ops.abi, V5_14 | V6_3) && !only_end {
            let bounds = [range.start(), range.end()];
            // SAFETY: The caller's promise.
            unsafe { ops.invalidate_secondary(subscription, range.mm(), bounds) };
        }
        let op = on!(ops,
            [V5_14] ops => ops.invalidate_range_end.map(OnRange::Legacy),
            [V6_3 V6_6 V6_10 V7_1] ops => ops.invalidate_range_end.map(OnRange::Current)
        );
        match op {
            None => {}
            // SAFETY: The caller's promise.
            Some(OnRange::Current(op)) => unsafe { op(subscription, range.current()) },
            Some(OnRange::Legacy(op)) => {
                // SAFETY: The caller's promise.
                range.with_5_14(|range| unsafe { op(subscription, range) });
            }
        }
    }

    /// Calls `arch_invalidate_secondary_tlbs`, once called `invalidate_range`, for `[start, end)`, if set.
    ///
    /// # Safety
    /// The arguments are what the op may get.
    pub unsafe fn invalidate_secondary(
        self,
        subscription: *mut mmu_notifier,
        mm: *mut mm_struct,
        [start, end]: [c_ulong; 2],
    ) {
        if let Some(op) = self.secondary() {
            // SAFETY: The caller's promise.
            unsafe { op(subscription, mm, start, end) };
        }
    }

    fn secondary(self) -> Option<SecondaryFn> {
        on!(self,
            [V5_14 V6_3] ops => ops.invalidate_range,
            [V6_6 V6_10 V7_1] ops => ops.arch_invalidate_secondary_tlbs
        )
    }

    /// `alloc_notifier`.
    pub fn alloc(self) -> Option<unsafe extern "C" fn(mm: *mut mm_struct) -> *mut mmu_notifier> {
        on!(self, ops => ops.alloc_notifier)
    }

    /// `free_notifier`.
    pub fn free(self) -> Option<unsafe extern "C" fn(subscription: *mut mmu_notifier)> {
        on!(self, ops => ops.free_notifier)
    }

    /// The address of `invalidate_range_start`, or NULL.
    pub fn start_address(self) -> *const c_void {
        on!(self, ops => ops.invalidate_range_start.map_or(ptr::null(), |op| op as *const c_void))
    }

    /// Is `invalidate_range_end` set?
    pub fn has_end(self) -> bool {
        on!(self, ops => ops.invalidate_range_end.is_some())
    }

    /// Does it set ops that 6.6 and newer refuse together?
    // SPEC: RG-2
    pub fn mixes_range_ops(self) -> bool {
        let mixable = matches!(self.abi, V5_14 | V6_3);
        let has_range_op = !self.start_address().is_null() || self.has_end();
        !mixable && has_range_op && self.secondary().is_some()
    }
}

/// `invalidate_range_start` of 6.3 and newer, which `invalidate_range_end` follows in every layout.
type StartFn = unsafe extern "C" fn(
    subscription: *mut mmu_notifier,
    range: *const mmu_notifier_range,
) -> c_int;
type EndFn =
    unsafe extern "C" fn(subscription: *mut mmu_notifier, range: *const mmu_notifier_range);

#[repr(C)]
#[derive(Clone, Copy)]
struct RangeOps {
    start: Option<StartFn>,
    end: Option<EndFn>,
}

/// Where the range ops of a layout are; 0 if its ranges are other structs, or its end has a second op to call.
pub(super) fn range_ops(abi: Abi) -> u8 {
    const REFERENCE: usize = offset_of!(mmu_notifier_ops, invalidate_range_start);
    const LATE: usize = offset_of!(mmu_notifier_ops_6_10, invalidate_range_start);
    const {
        assert!(REFERENCE + 8 == offset_of!(mmu_notifier_ops, invalidate_range_end));
        assert!(LATE + 8 == offset_of!(mmu_notifier_ops_6_10, invalidate_range_end));
        assert!(LATE == offset_of!(mmu_notifier_ops_7_1, invalidate_range_start));
        assert!(LATE + 8 == offset_of!(mmu_notifier_ops_7_1, invalidate_range_end));
    }
    match abi {
        V5_14 | V6_3 => 0,
        V6_6 => REFERENCE as u8,
        V6_10 | V7_1 => LATE as u8,
    }
}

/// The range ops of a registered notifier, if they can be called as they are.
///
/// # Safety
/// `subscription` is valid and was registered.
#[inline]
unsafe fn plain_range_ops(subscription: *mut mmu_notifier) -> Option<RangeOps> {
    // SAFETY: The caller's promise: its mark says where they are in its table.
    unsafe {
        let offset = usize::from((*mark(subscription)).range_ops);
        let table = (*subscription).ops.cast::<RangeOps>();
        (offset != 0).then(|| *table.wrapping_byte_add(offset))
    }
}

/// Calls `invalidate_range_start` of a notifier; 0 if it is not set.
///
/// # Safety
/// `subscription` is valid and was registered; the range is what the op may get.
#[inline]
pub unsafe fn range_start(subscription: *mut mmu_notifier, range: Range) -> c_int {
    // SAFETY: The caller's promise.
    unsafe {
        match plain_range_ops(subscription) {
            Some(ops) => ops.start.map_or(0, |op| op(subscription, range.current())),
            None => NotifierOps::range_start(subscription, range),
        }
    }
}

/// Calls `invalidate_range_end` of a notifier, if it is set. Up to 6.5, `invalidate_range` comes first, unless `only_end`.
///
/// # Safety
/// `subscription` is valid and was registered; the range is what the op may get.
#[inline]
pub unsafe fn range_end(subscription: *mut mmu_notifier, range: Range, only_end: bool) {
    // SAFETY: The caller's promise.
    unsafe {
        match plain_range_ops(subscription) {
            Some(ops) => {
                if let Some(op) = ops.end {
                    op(subscription, range.current());
                }
            }
            None => NotifierOps::range_end(subscription, range, only_end),
        }
    }
}
