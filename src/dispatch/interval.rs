//! The ops of an interval notifier, whatever their layout.

use core::ffi::{c_ulong, c_void};
use core::ptr::{self, NonNull};

use super::{Abi, Range, V5_14, V7_1};
use crate::abi::mm::mm_struct;
use crate::abi::notifier::{mmu_interval_notifier as Sub, mmu_interval_notifier_ops};
use crate::abi::types::llist_node;
use crate::abi::versions::{
    mmu_interval_notifier_finish, mmu_interval_notifier_ops_5_14, mmu_interval_notifier_ops_7_1,
};

/// The ops of an interval notifier and their layout, in a word: the mark by which the index keeps them. Tables are aligned; of one
/// that is not, only the layout. What an insert was given is what is called: another table in `sub->ops` later on is not seen.
#[derive(Clone, Copy, Debug)]
pub struct Ops(u64);

impl Ops {
    const LAYOUT: u64 = 7;

    /// `ops`, of the layout `abi`.
    pub fn new(ops: *const mmu_interval_notifier_ops, abi: Abi) -> Self {
        let address = ops.expose_provenance() as u64;
        let aligned = address & Self::LAYOUT == 0;
        Self(if aligned { address } else { 0 } | u64::from(abi.number()))
    }

    /// Not 0, nor the address of a notifier.
    pub fn mark(self) -> u64 {
        self.0
    }

    /// What has this mark.
    #[inline]
    pub fn from_mark(mark: u64) -> Self {
        Self(mark)
    }

    #[inline]
    fn abi(self) -> Abi {
        Abi::from_number((self.0 & Self::LAYOUT) as u8)
    }

    /// The table, if its `invalidate` is where the reference has it and gets what the reference's does, and the word says where it is.
    #[inline]
    pub fn plain(self) -> Option<NonNull<mmu_interval_notifier_ops>> {
        let address = (self.0 & !Self::LAYOUT) as usize;
        let table = ptr::with_exposed_provenance_mut(address);
        NonNull::new(table).filter(|_| !matches!(self.abi(), V5_14 | V7_1))
    }

    /// The table.
    ///
    /// # Safety
    /// `sub` is valid, and has these ops.
    #[inline]
    unsafe fn table(self, sub: *const Sub) -> *const mmu_interval_notifier_ops {
        let address = self.0 & !Self::LAYOUT;
        if address == 0 {
            // SAFETY: The caller's promise.
            return unsafe { (*sub).ops };
        }
        ptr::with_exposed_provenance(address as usize)
    }
}

/// The op that has to be called is NULL.
#[derive(Clone, Copy, Debug)]
pub struct NoSuchOp;

/// What one walk tells the interval notifiers of a range. Small, and passed by value: so it stays in registers.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    range: Range,
    seq: c_ulong,
}

/// What the starts of two-pass notifiers leave to be done, in their order.
#[derive(Debug)]
pub struct Finishes {
    first: *mut mmu_interval_notifier_finish,
    last: *mut mmu_interval_notifier_finish,
}

impl Pass {
    /// A walk for `range`, with the sequence number of the busy period.
    #[inline]
    pub fn new(range: Range, seq: c_ulong) -> Self {
        Self { range, seq }
    }

    /// The address space.
    #[inline]
    pub fn mm(self) -> *mut mm_struct {
        self.range.mm()
    }

    /// First and last byte of the range.
    #[inline]
    pub fn bounds(self) -> (c_ulong, c_ulong) {
        self.range.bounds()
    }

    /// May callbacks sleep? Then none of them may refuse.
    pub fn may_sleep(self) -> bool {
        self.range.is_blockable()
    }

    /// As [`Pass::call`], of a table that is [`Ops::plain`].
    ///
    /// # Errors
    /// There is no op to call.
    ///
    /// # Safety
    /// `sub` is valid, and `table` is that of its ops.
    // SPEC: RS-2
    #[inline(always)]
    pub unsafe fn call_plain(
        self,
        sub: *mut Sub,
        table: NonNull<mmu_interval_notifier_ops>,
    ) -> Result<bool, NoSuchOp> {
        // SAFETY: The caller's promise.
        unsafe {
            let op = table.as_ref().invalidate.ok_or(NoSuchOp)?;
            Ok(op(sub, self.range.current(), self.seq))
        }
    }

    /// Calls `invalidate`, or `invalidate_start` where there is one; what that leaves to be done goes to `finishes`. Returns its answer.
    ///
    /// # Errors
    /// There is no op to call.
    ///
    /// # Safety
    /// `sub` is valid, and its ops are `ops`.
    // SPEC: RS-2 2.2
    #[inline(always)]
    pub unsafe fn call(
        self,
        sub: *mut Sub,
        ops: Ops,
        finishes: &mut Finishes,
    ) -> Result<bool, NoSuchOp> {
        // SAFETY: The caller's promise.
        unsafe {
            let (abi, ops) = (ops.abi(), ops.table(sub));
            match abi {
                V5_14 => self.call_5_14(sub, &*ops.cast()),
                V7_1 => self.call_7_1(sub, &*ops.cast(), finishes),
                _ => {
                    let op = (*ops).invalidate.ok_or(NoSuchOp)?;
                    Ok(op(sub, self.range.current(), self.seq))
                }
            }
        }
    }

    #[cold]
    unsafe fn call_5_14(
        self,
        sub: *mut Sub,
        ops: &mmu_interval_notifier_ops_5_14,
    ) -> Result<bool, NoSuchOp> {
        let op = ops.invalidate.ok_or(NoSuchOp)?;
        // SAFETY: The caller's promise.
        let call = |range| unsafe { op(sub, range, self.seq) };
        Ok(self.range.with_5_14(call))
    }

    #[cold]
    unsafe fn call_7_1(
        self,
        sub: *mut Sub,
        ops: &mmu_interval_notifier_ops_7_1,
        finishes: &mut Finishes,
    ) -> Result<bool, NoSuchOp> {
        let Some(start) = ops.invalidate_start else {
            let op = ops.invalidate.ok_or(NoSuchOp)?;
            // SAFETY: The caller's promise.
            return Ok(unsafe { op(sub, self.range.current(), self.seq) });
        };
        let mut finish = ptr::null_mut();
        // SAFETY: The caller's promise.
        let answer = unsafe { start(sub, self.range.current(), self.seq, &raw mut finish) };
        if answer && !finish.is_null() {
            // SAFETY: The driver gives us the object until its finish is called.
            unsafe { finishes.add(sub, finish) };
        }
        Ok(answer)
    }
}

impl Finishes {
    /// Nothing is left.
    pub const NONE: Self = Self {
        first: ptr::null_mut(),
        last: ptr::null_mut(),
    };

    /// Is anything left?
    #[inline]
    pub fn any(&self) -> bool {
        !self.first.is_null()
    }

    unsafe fn add(&mut self, sub: *mut Sub, finish: *mut mmu_interval_notifier_finish) {
        // SAFETY: The caller passes an object that is ours until its finish is called; queued ones are too.
        unsafe {
            (*finish).notifier = sub;
            (*finish).link.next = ptr::null_mut();
            if self.first.is_null() {
                self.first = finish;
            } else {
                (*self.last).link.next = finish.cast::<llist_node>();
            }
        }
        self.last = finish;
    }

    /// Calls `invalidate_finish` of all, in the order of the starts.
    ///
    /// # Errors
    /// There is no op to call; the others have been called.
    ///
    /// # Safety
    /// The notifiers that were called are valid.
    // SPEC: 2.2
    #[cold]
    #[inline(never)]
    pub unsafe fn call(self) -> Result<(), NoSuchOp> {
        const { assert!(core::mem::offset_of!(mmu_interval_notifier_finish, link) == 0) };
        let mut result = Ok(());
        let mut finish = self.first;
        while !finish.is_null() {
            // SAFETY: Queued, hence ours until its finish is called; only two-pass notifiers queue.
            let (next, op) = unsafe {
                let ops = (*(*finish).notifier)
                    .ops
                    .cast::<mmu_interval_notifier_ops_7_1>();
                ((*finish).link.next, (*ops).invalidate_finish)
            };
            match op {
                // SAFETY: As above.
                Some(op) => unsafe { op(finish) },
                None => result = Err(NoSuchOp),
            }
            finish = next.cast();
        }
        result
    }
}

/// Is `invalidate_finish` set where `invalidate_start` is?
///
/// # Safety
/// `ops` is a valid table of the layout `abi`.
// SPEC: 2.2
pub unsafe fn has_finish_for_start(ops: *const mmu_interval_notifier_ops, abi: Abi) -> bool {
    if abi != V7_1 {
        return true;
    }
    // SAFETY: The caller's promise.
    let ops = unsafe { &*ops.cast::<c_void>().cast::<mmu_interval_notifier_ops_7_1>() };
    ops.invalidate_start.is_none() || ops.invalidate_finish.is_some()
}
