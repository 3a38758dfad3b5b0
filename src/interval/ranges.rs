//! Events: the start and the end of a range, and the end of the address space (SPEC 3.1, 3.3, 3.11).

use core::ffi::{CStr, c_ulong};

use super::{Intervals, READ_BEGIN, REMOVE, node_of, sub_of_node};
use crate::abi::notifier::mmu_interval_notifier as Sub;
use crate::dispatch::{Abi, NoSuchOp, Pass, Range};
use crate::index;
use crate::report::{DV_8, Error, II_10, II_10_FINISH, RL_1, RS_5, Result, Rule};
use crate::thread::{self, Frame, Kind};

const INVALIDATE: &CStr = c"invalidate";
const FUNCTION_OF_START: &CStr = c"mmu_notifier_invalidate_range_start";
const FUNCTION_OF_END: &CStr = c"mmu_notifier_invalidate_range_end";
const FUNCTION_OF_RELEASE: &CStr = c"mmput";

/// What a notifier's `false` means.
enum Refusal {
    /// It refuses: the range is not blockable.
    Stop,
    /// It may not, and is told so by this rule.
    Warn(&'static Rule, &'static CStr),
}

impl Intervals {
    /// Counts `range` in and calls each interval notifier that it touches.
    ///
    /// # Errors
    /// EAGAIN: one refused a non-blockable range, which is counted out again.
    ///
    /// # Safety
    /// Every notifier that was inserted is valid.
    // SPEC: RS-1 RS-4 RS-5
    pub unsafe fn start(&self, range: &Range) -> Result<()> {
        let blockable = range.is_blockable();
        let refusal = if blockable {
            Refusal::Warn(&RS_5, FUNCTION_OF_START)
        } else {
            Refusal::Stop
        };
        // SAFETY: The caller's promise.
        unsafe { self.start_with(range, &refusal) }
    }

    /// Tells each interval notifier that `range`, everything, ends for good; then counts the range out.
    ///
    /// # Errors
    /// Misuse of `ops` only.
    ///
    /// # Safety
    /// As `start`.
    // SPEC: RL-1
    pub unsafe fn release(&self, range: &Range) -> Result<()> {
        let refusal = Refusal::Warn(&RL_1, FUNCTION_OF_RELEASE);
        // SAFETY: The caller's promise.
        unsafe { self.start_with(range, &refusal) }?;
        self.end_own();
        Ok(())
    }

    /// Counts a range out. The last one ends the busy period.
    ///
    /// # Errors
    /// DV-8: no range is counted in; nothing is changed.
    // SPEC: RE-2 RE-3 RE-5 RE-6 DV-8 MO-3
    pub fn end(&self) -> Result<()> {
        let mut state = self.state.lock();
        if state.active == 0 {
            return Err(DV_8.broken_by(FUNCTION_OF_END).into());
        }
        state.active -= 1;
        thread::range_ended(self.key());
        if state.active == 0 && state.end_busy_period() {
            let wakes = (
                self.readers.announce(&state),
                self.removers.announce(&state),
            );
            drop(state);
            wakes.0.go(READ_BEGIN);
            wakes.1.go(REMOVE);
        }
        Ok(())
    }

    unsafe fn start_with(&self, range: &Range, refusal: &Refusal) -> Result<()> {
        let (start, last) = (range.start(), range.end().wrapping_sub(1));
        let (first, seq) = self.count_in(start, last);
        if first.is_null() {
            return Ok(());
        }
        let frame = Frame::new(Kind::Interval, range.mm().cast(), INVALIDATE);
        frame.now(INVALIDATE, true);
        let mut pass = Pass::new(range, seq);
        let result = frame.run(|| {
            // SAFETY: `seq` is odd and this range is counted, so the index is frozen until `end`.
            let result = unsafe { call_each(&mut pass, first, start, last, refusal) };
            // SAFETY: As above.
            let finished = unsafe { pass.finish() };
            result
                .and(finished.map_err(|NoSuchOp| II_10_FINISH.broken_by(FUNCTION_OF_START).into()))
        });
        if result.is_err() {
            self.end_own();
        }
        result
    }

    /// Ends a range that this room has counted in. Should it be gone, somebody has made an end too many.
    pub fn end_own(&self) {
        if let Err(Error::Misuse(misuse)) = self.end() {
            misuse.report();
        }
    }

    /// Counts a range in. Returns the first notifier that it touches, and the sequence number for the callbacks.
    // SPEC: RS-1 RS-9 ST-5 ST-6
    fn count_in(&self, start: c_ulong, last: c_ulong) -> (*mut Sub, c_ulong) {
        let mut state = self.state.lock();
        state.active += 1;
        let first = state.index.first(start, last);
        let turns_odd = !first.is_null() && !state.is_odd();
        if turns_odd {
            state.seq |= 1;
        }
        let seq = state.seq;
        thread::range_started(self.key());
        if turns_odd {
            // SPEC: RB-5: who collided with an even number waits for this.
            self.readers.wake_all(state, READ_BEGIN);
        }
        (sub_of_node(first), seq)
    }
}

/// Calls `first` and all that follow it and intersect `[start, last]`.
// SPEC: RS-2 RS-3 RS-6 RS-7 RS-8 II-10
unsafe fn call_each(
    pass: &mut Pass<'_>,
    first: *mut Sub,
    start: c_ulong,
    last: c_ulong,
    refusal: &Refusal,
) -> Result<()> {
    let mut sub = first;
    while !sub.is_null() {
        // SAFETY: In the frozen index, hence valid; the driver keeps its ops.
        let answer = unsafe { pass.call(sub, abi_of(sub)) };
        let misuse = |rule: &'static Rule, function| rule.broken_by(function).about(sub.cast());
        match (answer, refusal) {
            (Ok(true), _) => {}
            (Ok(false), Refusal::Stop) => return Err(Error::Errno(libc::EAGAIN)),
            (Ok(false), Refusal::Warn(rule, function)) => {
                misuse(rule, function).inside(INVALIDATE).report();
            }
            (Err(NoSuchOp), _) => return Err(misuse(&II_10, FUNCTION_OF_START).into()),
        }
        // SAFETY: The index is frozen.
        sub = sub_of_node(unsafe { index::next(node_of(sub), start, last) });
    }
    Ok(())
}

/// The layout of the ops of a notifier that is in the index.
unsafe fn abi_of(sub: *mut Sub) -> Abi {
    // SAFETY: The caller's promise.
    Abi::from_number(unsafe { index::mark(node_of(sub)) })
}
