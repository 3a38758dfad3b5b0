//! Events: ranges, the end of an address space, accessed bits, single entries, secondary TLBs (SPEC 3.1 to 3.3, 3.11, 3.12).
//!
//! They take no lock of DV-2 and do not check for one. Nothing here allocates.

use core::ffi::{CStr, c_int, c_ulong};

use super::argument;
use super::lifetime::opaque;
use super::subscriptions::{self, Subscriptions};
use super::walk::Walk;
use crate::abi::mm::mm_struct;
use crate::abi::notifier::{
    MMU_NOTIFIER_RANGE_BLOCKABLE, mmu_notifier_event::MMU_NOTIFY_RELEASE, mmu_notifier_range,
};
use crate::abi::types::pte_t;
use crate::abi::versions::mmu_notifier_range_5_14;
use crate::chain::{self, Section};
use crate::dispatch::Range;
use crate::interval::{NotStarted, Refusal};
use crate::report::{DV_7, Error, Result};
use crate::thread;

const START: &CStr = c"mmu_notifier_invalidate_range_start";
const END: &CStr = c"mmu_notifier_invalidate_range_end";

#[inline(always)]
unsafe fn of_mm<'a>(
    mm: *mut mm_struct,
    function: &'static CStr,
) -> Result<Option<&'a Subscriptions>> {
    argument(mm, function)?;
    // SAFETY: The caller of the event passes a valid mm.
    Ok(unsafe { subscriptions::of(mm) })
}

/// A range is about to change: intervals first, then the chain. `Ok(0)`, or what the chain's last failing start said.
///
/// # Errors
/// EAGAIN: an interval notifier refused a non-blockable range. DV-14; II-10.
///
/// # Safety
/// `range` is NULL or valid, its mm too, and every subscriber keeps the contract.
#[inline(always)]
pub unsafe fn invalidate_range_start(range: *mut mmu_notifier_range) -> Result<c_int> {
    argument(range, START)?;
    // SAFETY: The caller's promise.
    unsafe { start_of(&Range::new(range)) }.map(|started| started.answer)
}

/// As [`invalidate_range_start`], for a producer that may hold no lock of DV-2: says whether the range was counted in, and
/// [`invalidate_range_end_of`] has to be told that again.
///
/// # Errors
/// As [`invalidate_range_start`].
///
/// # Safety
/// As [`invalidate_range_start`].
pub unsafe fn invalidate_range_start_noting(range: *mut mmu_notifier_range) -> Result<Started> {
    argument(range, START)?;
    // SAFETY: The caller's promise.
    unsafe { start_of(&Range::new(range)) }
}

/// As [`invalidate_range_start`], for a producer of kernels 5.14 to 6.2.
///
/// # Errors
/// As [`invalidate_range_start`].
///
/// # Safety
/// As [`invalidate_range_start`].
pub unsafe fn invalidate_range_start_5_14(range: *mut mmu_notifier_range_5_14) -> Result<c_int> {
    argument(range, START)?;
    // SAFETY: The caller's promise.
    unsafe {
        let copy = Range::copy_of(range);
        start_of(&Range::from_5_14(range, &raw const copy)).map(|started| started.answer)
    }
}

/// What became of a start.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// 0, or what the chain's last failing start said.
    pub answer: c_int,
    /// Do the intervals count the range?
    pub counted: bool,
}

// SPEC: HS-1
unsafe fn start_of(range: &Range) -> Result<Started> {
    // SAFETY: The caller of the event keeps the contract.
    match unsafe { of_mm(range.mm(), START) }? {
        // SAFETY: As above.
        Some(subscriptions) => unsafe {
            let counted = subscriptions.has_itree();
            Ok(start(subscriptions, *range, counted)?)
        },
        None => Ok(Started {
            answer: 0,
            counted: false,
        }),
    }
}

/// The start of a range on an mm that has subscriptions; its intervals count it, says `counted`, if it has had any.
///
/// # Errors
/// As [`Intervals::start`](crate::interval::Intervals::start).
///
/// # Safety
/// As [`invalidate_range_start`].
// SPEC: HS-1 HS-2
#[inline(always)]
pub(super) unsafe fn start(
    subscriptions: &Subscriptions,
    range: Range,
    counted: bool,
) -> core::result::Result<Started, Refusal> {
    if counted {
        // SAFETY: As above.
        unsafe { subscriptions.intervals.start(range) }?;
    }
    let answer = if subscriptions.chain.is_empty() {
        0
    } else {
        start_chain(subscriptions, range, counted)
    };
    Ok(Started { answer, counted })
}

/// The chain's part of a start. Returns the last failure, or 0.
// SPEC: HS-7 HS-8 HS-9 HS-10 DV-1
#[inline(never)]
fn start_chain(subscriptions: &Subscriptions, range: Range, counted: bool) -> c_int {
    let walk = Walk::enter(subscriptions, range.mm());
    let answer = walk.invalidate_start(&range, counted);
    if answer != 0 {
        undo(subscriptions, *walk, &range, counted);
    }
    answer
}

/// A start failed: the ends of those who were told, in the section of the starts.
// SPEC: HS-7 DV-1
#[cold]
pub(super) fn undo(
    subscriptions: &Subscriptions,
    section: Section<'_>,
    range: &Range,
    counted: bool,
) {
    let uncount = counted && !range.is_blockable();
    if uncount {
        subscriptions.intervals.end_own();
    }
    section.invalidate_end(range, counted && !uncount, true);
}

/// A range has changed: intervals first, then the chain. `only_end` keeps subscribers of kernels before 6.6 from being
/// called for their secondary TLBs.
///
/// # Errors
/// DV-8: there was no start; the chain's ends have run all the same. DV-14.
///
/// # Safety
/// As [`invalidate_range_start`].
#[inline(always)]
pub unsafe fn invalidate_range_end(range: *mut mmu_notifier_range, only_end: bool) -> Result<()> {
    argument(range, END)?;
    // SAFETY: The caller's promise.
    unsafe { end_of(&Range::new(range), only_end, Subscriptions::has_itree) }
}

/// As [`invalidate_range_end`], for what [`invalidate_range_start_noting`] started: `counted` is what it said. So the end takes
/// nothing away from other ranges, though an interval notifier may have been the mm's first in between.
///
/// # Errors
/// As [`invalidate_range_end`].
///
/// # Safety
/// As [`invalidate_range_start`].
// SPEC: RE-6
pub unsafe fn invalidate_range_end_of(range: *mut mmu_notifier_range, counted: bool) -> Result<()> {
    argument(range, END)?;
    // SAFETY: The caller's promise.
    unsafe { end_of(&Range::new(range), false, |_| counted) }
}

/// As [`invalidate_range_end`], for a producer of kernels 5.14 to 6.2.
///
/// # Errors
/// As [`invalidate_range_end`].
///
/// # Safety
/// As [`invalidate_range_start`].
pub unsafe fn invalidate_range_end_5_14(
    range: *mut mmu_notifier_range_5_14,
    only_end: bool,
) -> Result<()> {
    argument(range, END)?;
    // SAFETY: The caller's promise.
    unsafe {
        let copy = Range::copy_of(range);
        end_of(
            &Range::from_5_14(range, &raw const copy),
            only_end,
            Subscriptions::has_itree,
        )
    }
}

unsafe fn end_of(
    range: &Range,
    only_end: bool,
    is_counted: impl FnOnce(&Subscriptions) -> bool,
) -> Result<()> {
    // SAFETY: The caller of the event keeps the contract.
    match unsafe { of_mm(range.mm(), END) }? {
        Some(subscriptions) => {
            let counted = is_counted(subscriptions);
            // SAFETY: As above.
            Ok(unsafe { end(subscriptions, *range, only_end, counted) }?)
        }
        None => Ok(()),
    }
}

/// The end of a range on an mm that has subscriptions.
///
/// # Errors
/// As [`Intervals::end`](crate::interval::Intervals::end).
///
/// # Safety
/// As [`invalidate_range_start`].
// SPEC: RE-1 RE-5 DV-8
#[inline(always)]
pub(super) unsafe fn end(
    subscriptions: &Subscriptions,
    range: Range,
    only_end: bool,
    counted: bool,
) -> core::result::Result<(), NotStarted> {
    let result = if counted {
        subscriptions.intervals.end()
    } else {
        Ok(())
    };
    if !subscriptions.chain.is_empty() {
        end_chain(subscriptions, range, only_end);
    }
    result
}

/// The chain's part of an end.
#[inline(never)]
fn end_chain(subscriptions: &Subscriptions, range: Range, only_end: bool) {
    Walk::enter(subscriptions, range.mm()).invalidate_end(&range, false, only_end);
}

/// The address space ends: every interval notifier hears of a RELEASE of everything, then every `release` runs, the
/// list is emptied, and all walks are waited for.
///
/// # Errors
/// DV-7: the wait would be for the callback that makes the call. DV-14; II-10.
///
/// # Safety
/// `mm` is NULL or valid.
// SPEC: RL-1 RL-2 RL-3 RL-4 RL-5
pub unsafe fn release(mm: *mut mm_struct) -> Result<()> {
    const FUNCTION: &CStr = c"mmu_notifier_release";
    // SAFETY: The caller's promise.
    let Some(subscriptions) = (unsafe { of_mm(mm, FUNCTION) })? else {
        return Ok(());
    };
    if subscriptions.has_itree() {
        let range = mmu_notifier_range {
            mm,
            start: 0,
            end: c_ulong::MAX,
            flags: MMU_NOTIFIER_RANGE_BLOCKABLE,
            event: MMU_NOTIFY_RELEASE.into(),
            owner: core::ptr::null_mut(),
        };
        // SAFETY: The caller's promise.
        unsafe {
            subscriptions
                .intervals
                .release(Range::new(&raw const range))
        }?;
    }
    if subscriptions.chain.is_empty() {
        return Ok(());
    }
    if let Some(op) = thread::inside_section() {
        return Err(Error::from(
            DV_7.broken_by(FUNCTION).inside(op).about(opaque(mm)),
        ));
    }
    let section = Walk::enter(subscriptions, mm);
    section.release();
    subscriptions.chain.lock().unlink_all();
    drop(section);
    chain::synchronize();
    Ok(())
}

/// Runs `walk` over the chain of `mm`, if there is one; `none` otherwise.
unsafe fn on_chain<T>(
    mm: *mut mm_struct,
    function: &'static CStr,
    none: T,
    walk: impl FnOnce(&Section<'_>) -> T,
) -> Result<T> {
    // SAFETY: The caller of the event passes a valid mm.
    Ok(match unsafe { of_mm(mm, function) }? {
        Some(subscriptions) => walk(&Walk::enter(subscriptions, mm)),
        None => none,
    })
}

/// Tests and clears the accessed state of `[start, end)` and flushes it: the or of all answers.
///
/// # Errors
/// DV-14.
///
/// # Safety
/// `mm` is NULL or valid.
// SPEC: YG-1 YG-4
pub unsafe fn clear_flush_young(mm: *mut mm_struct, start: c_ulong, end: c_ulong) -> Result<c_int> {
    let walk = |section: &Section<'_>| section.clear_flush_young(start, end);
    // SAFETY: The caller's promise.
    unsafe { on_chain(mm, c"mmu_notifier_clear_flush_young", 0, walk) }
}

/// Tests and clears the accessed state of `[start, end)`: the or of all answers.
///
/// # Errors
/// DV-14.
///
/// # Safety
/// `mm` is NULL or valid.
// SPEC: YG-1 YG-4
pub unsafe fn clear_young(mm: *mut mm_struct, start: c_ulong, end: c_ulong) -> Result<c_int> {
    let walk = |section: &Section<'_>| section.clear_young(start, end);
    // SAFETY: The caller's promise.
    unsafe { on_chain(mm, c"mmu_notifier_clear_young", 0, walk) }
}

/// Tests the accessed state of the page at `address`: the first answer that is not 0.
///
/// # Errors
/// DV-14.
///
/// # Safety
/// `mm` is NULL or valid.
// SPEC: YG-2 YG-4
pub unsafe fn test_young(mm: *mut mm_struct, address: c_ulong) -> Result<c_int> {
    let walk = |section: &Section<'_>| section.test_young(address);
    // SAFETY: The caller's promise.
    unsafe { on_chain(mm, c"mmu_notifier_test_young", 0, walk) }
}

/// The entry of `address` is about to be replaced by `pte`.
///
/// # Errors
/// DV-14.
///
/// # Safety
/// `mm` is NULL or valid.
// SPEC: YG-3 YG-4
pub unsafe fn change_pte(mm: *mut mm_struct, address: c_ulong, pte: pte_t) -> Result<()> {
    let walk = |section: &Section<'_>| section.change_pte(address, pte);
    // SAFETY: The caller's promise.
    unsafe { on_chain(mm, c"mmu_notifier_change_pte", (), walk) }
}

/// TLBs that share the CPU's page table must drop `[start, end)`.
///
/// # Errors
/// DV-14.
///
/// # Safety
/// `mm` is NULL or valid.
// SPEC: YG-3 YG-4
pub unsafe fn arch_invalidate_secondary_tlbs(
    mm: *mut mm_struct,
    start: c_ulong,
    end: c_ulong,
) -> Result<()> {
    const FUNCTION: &CStr = c"mmu_notifier_arch_invalidate_secondary_tlbs";
    let walk = |section: &Section<'_>| section.arch_invalidate_secondary_tlbs(start, end);
    // SAFETY: The caller's promise.
    unsafe { on_chain(mm, FUNCTION, (), walk) }
}
