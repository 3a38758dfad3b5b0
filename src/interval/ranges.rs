//! Events: the start and the end of a range, and the end of the address space (SPEC 3.1, 3.3, 3.11).

use core::ffi::{CStr, c_ulong};
use core::mem::offset_of;

use super::{
    ATTENTION, CHANGING, ENDING, Intervals, ODD, READ_BEGIN, REMOVE, SPILLED, State, Word, node_of,
    sub_of_node, word,
};
use crate::abi::notifier::mmu_interval_notifier as Sub;
use crate::dispatch::{NoSuchOp, Ops, Pass, Range};
use crate::index::{self, Changed, Run, Version};
use crate::report::{DV_8, Error, II_10, II_10_FINISH, RL_1, RS_5, Result, Rule};
use crate::sync::{Ordering, fence::fence};
use crate::thread::{self, Callbacks, Frame, Kind, Record};

const INVALIDATE: &CStr = c"invalidate";
static CALLBACKS: Callbacks = Callbacks::new(Kind::Interval, INVALIDATE);
const FUNCTION_OF_START: &CStr = c"mmu_notifier_invalidate_range_start";
const FUNCTION_OF_END: &CStr = c"mmu_notifier_invalidate_range_end";
const FUNCTION_OF_RELEASE: &CStr = c"mmput";

impl Intervals {
    /// Counts `range` in and calls each interval notifier that it touches.
    ///
    /// # Errors
    /// EAGAIN: one refused a non-blockable range, which is counted out again.
    ///
    /// # Safety
    /// Every notifier that was inserted is valid.
    // SPEC: RS-1 RS-4 RS-5
    #[inline]
    pub unsafe fn start(&self, range: &Range) -> Result<()> {
        // SAFETY: The caller's promise.
        unsafe { self.start_with(range, FUNCTION_OF_START) }
    }

    /// Counts in a range of no bytes, for who does not know yet what it will change: inserts from now on make their readers wait
    /// for its end, [`Intervals::end_own`].
    // SPEC: ST-4
    pub fn hold(&self) {
        // ORDERING: AcqRel: a step of the word.
        let old = Word(self.word.fetch_add(word::ONE, Ordering::AcqRel));
        if old.active() >= word::CROWD {
            self.spill();
        }
        thread::current().range_started(self.key());
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
        // SAFETY: The caller's promise.
        unsafe { self.start_with(range, FUNCTION_OF_RELEASE) }?;
        self.end_own();
        Ok(())
    }

    /// May a notifier be touched by `[start, last]`, now or when the present busy period is over? No lock is taken; no is certain.
    ///
    /// While `seq` is odd, and until what was deferred is in the index, the index does not show all.
    // SPEC: RS-7
    #[inline]
    pub fn may_touch(&self, start: c_ulong, last: c_ulong) -> bool {
        let word = self.word();
        if word.is_odd() || word.has(ENDING) {
            return true;
        }
        let Ok(version) = self.index.version() else {
            return true;
        };
        match self.index.first(version, start, last) {
            Ok(None) => !self.index.is_still(version),
            Ok(Some(_)) | Err(Changed) => true,
        }
    }

    /// Counts a range out. The last one ends the busy period.
    ///
    /// # Errors
    /// DV-8: no range is counted in; nothing is changed.
    // SPEC: RE-2 RE-3 RE-5 RE-6 DV-8 MO-3
    #[inline]
    pub fn end(&self) -> Result<()> {
        let mut old = self.word();
        while let Some(new) = ended(old) {
            if self.try_step(old, new) {
                thread::current().range_ended(self.key());
                return Ok(());
            }
            old = self.word();
        }
        self.end_locked()
    }

    #[cold]
    fn end_locked(&self) -> Result<()> {
        let mut state = self.state.lock();
        let period_over = loop {
            let old = self.word();
            if !old.is_active() {
                return Err(DV_8.broken_by(FUNCTION_OF_END).into());
            }
            if old.active() <= 1 && old.has(SPILLED) {
                self.unspill(&mut state);
            } else if old.active() == 1 && old.is_odd() {
                if self.end_period(&mut state, old, old.uncounted()) {
                    break true;
                }
            } else if self.try_step(old, old.uncounted()) {
                break false;
            }
        };
        thread::current().range_ended(self.key());
        if period_over {
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

    #[inline(always)]
    unsafe fn start_with(&self, range: &Range, function: &'static CStr) -> Result<()> {
        let (first, seq) = self.count_in(range.start(), range.end().wrapping_sub(1));
        let thread = thread::current();
        thread.range_started(self.key());
        match first {
            None => Ok(()),
            // SAFETY: The caller's promise; counted in.
            Some(first) => unsafe { self.call(range, first, seq, thread, function) },
        }
    }

    /// Calls `first` and all that follow it and that `range` touches, which is counted in.
    #[inline(never)]
    unsafe fn call(
        &self,
        range: &Range,
        first: Run,
        seq: c_ulong,
        thread: &Record,
        function: &'static CStr,
    ) -> Result<()> {
        // ORDERING: Release pairs with the Acquire in `read_begin`: callbacks store sequence numbers with plain stores.
        fence(Ordering::Release);
        let frame = Frame::new(&CALLBACKS, range.mm().cast(), true);
        let mut pass = Pass::new(range, seq);
        let result = frame.run_on(thread, || {
            // SAFETY: `seq` is odd and this range is counted, so the index is frozen until `end`.
            let result = unsafe { call_each(&mut pass, first, self.index.is_large(), function) };
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

    /// Counts a range in. Returns the place of the first notifier that it touches, and the sequence number for the callbacks.
    // SPEC: RS-1 RS-9 ST-5 ST-6
    #[inline(always)]
    fn count_in(&self, start: c_ulong, last: c_ulong) -> (Option<Run>, c_ulong) {
        let Ok(version) = self.index.version() else {
            return self.count_in_locked(start, last, false);
        };
        let counted = match self.index.first(version, start, last) {
            Ok(None) => match self.count_miss(version) {
                Counted::Done => return (None, 0),
                Counted::Outdated => true,
            },
            Ok(Some(first)) => {
                if self.index.is_large() {
                    first.prefetch(TOUCHED);
                }
                match self.count_hit(version) {
                    Some(seq) => return (Some(first), seq),
                    None => false,
                }
            }
            Err(Changed) => false,
        };
        self.count_in_locked(start, last, counted)
    }

    /// Counts in a range that touches nothing in the index of `version`.
    #[inline]
    fn count_miss(&self, version: Version) -> Counted {
        let found_nothing = self.index.is_still(version);
        // ORDERING: AcqRel: a step of the word.
        let old = Word(self.word.fetch_add(word::ONE, Ordering::AcqRel));
        if old.active() >= word::CROWD {
            self.spill();
        }
        // Counted before the next change was complete, or it would have been counted in the word. (The word's count wraps.)
        let before_next = old.has_seen(version.changes()) && !old.has(ENDING);
        if found_nothing && before_next && self.index.is_still_or_changing(version) {
            Counted::Done
        } else {
            Counted::Outdated
        }
    }

    /// Counts in a range that touches something in the index of `version`, which is frozen from then on. None, with nothing
    /// changed, if it is not that index any more or about to change. Returns the sequence number for the callbacks.
    #[inline]
    fn count_hit(&self, version: Version) -> Option<c_ulong> {
        loop {
            let old = self.word();
            let sleepers = old.has(ATTENTION) && !old.is_odd();
            let busy = old.has(CHANGING | ENDING) || sleepers || old.active() >= word::CROWD;
            if busy || !old.has_seen(version.changes()) || !self.index.is_still(version) {
                return None;
            }
            let new = old.counted().with(ODD);
            if self.try_step(old, new) {
                return Some(self.seq(new));
            }
        }
    }

    /// As [`Intervals::count_in`], with the lock, under which the index does not change; `counted` says that the range is
    /// counted already.
    #[cold]
    fn count_in_locked(
        &self,
        start: c_ulong,
        last: c_ulong,
        counted: bool,
    ) -> (Option<Run>, c_ulong) {
        let state = self.state.lock();
        let first = self.index.first_unchanging(start, last);
        let old = self.step(|old| {
            let new = if counted { old } else { old.counted() };
            match first {
                Some(_) if !old.is_odd() => new.with(ODD).without(ATTENTION),
                _ => new,
            }
        });
        let seq = self.seq(old) | u64::from(first.is_some());
        let turned_odd = first.is_some() && !old.is_odd();
        if turned_odd && old.has(ATTENTION) {
            // SPEC: RB-5: who collided with an even number waits for this.
            self.readers.wake_all(state, READ_BEGIN);
        } else {
            drop(state);
        }
        if old.active() >= word::CROWD {
            self.spill();
        }
        (first, seq)
    }

    /// Moves half a crowd of ranges out of the word.
    #[cold]
    fn spill(&self) {
        let mut state = self.state.lock();
        let moved = word::CROWD / 2;
        let old = self.step(|old| match old.active() {
            crowd if crowd >= word::CROWD => old.with_active(crowd - moved).with(SPILLED),
            _ => old,
        });
        if old.active() >= word::CROWD {
            state.spilled += moved;
        }
    }

    /// Moves ranges back into the word. The lock is held.
    fn unspill(&self, state: &mut State) {
        let moved = state.spilled.min(word::CROWD / 2);
        state.spilled -= moved;
        let all = state.spilled == 0;
        self.step(|old| {
            let new = old.with_active(old.active() + moved);
            if all { new.without(SPILLED) } else { new }
        });
    }
}

/// What became of a range that was counted in without the lock.
enum Counted {
    /// It is in.
    Done,
    /// It is in, but changes that it may not know of came before it.
    Outdated,
}

/// `old` with one range less, if no more than this step is to be done.
#[inline]
fn ended(old: Word) -> Option<Word> {
    let last = old.active() <= 1;
    let alone = last && old.is_odd();
    let lock = old.active() == 0
        || last && old.has(SPILLED)
        || alone && (old.has(ATTENTION) || old.is_last_seq());
    (!lock).then(|| {
        let left = old.uncounted();
        if alone { left.next_seq() } else { left }
    })
}

/// Calls all of `first`, and all that follow it and intersect `[start, last]`.
// SPEC: RS-2 RS-3 RS-6 RS-7 RS-8 II-10
#[inline]
unsafe fn call_each(
    pass: &mut Pass<'_>,
    first: Run,
    is_large: bool,
    function: &'static CStr,
) -> Result<()> {
    let (start, last) = pass.bounds();
    let mut next = Some(first);
    // SAFETY, in here: The index is frozen; what is in it is valid.
    while let Some(mut run) = next {
        // SAFETY: As above.
        next = unsafe { run.next(start, last) };
        if let Some(next) = next.filter(|_| is_large) {
            next.prefetch(TOUCHED);
        }
        // SAFETY: As above.
        let common = unsafe { run.mark() };
        let plain = Ops::from_mark(common).plain();
        // SAFETY: As above.
        while let Some(node) = unsafe { run.pop() } {
            let sub = sub_of_node(node);
            let answer = match plain {
                // SAFETY: As above; the driver keeps its ops.
                Some(table) => unsafe { pass.call_plain(sub, table) },
                // SAFETY: As above.
                None => unsafe { pass.call(sub, ops_of(sub, common)) },
            };
            if !matches!(answer, Ok(true)) {
                refused(pass, sub, answer, function)?;
            }
        }
    }
    Ok(())
}

/// Where a driver's callback looks first: its sequence number.
const TOUCHED: usize = offset_of!(Sub, invalidate_seq);

/// A notifier did not answer `true`.
// SPEC: RS-4 RS-5 RL-1 II-10
#[cold]
fn refused(
    pass: &Pass<'_>,
    sub: *mut Sub,
    answer: core::result::Result<bool, NoSuchOp>,
    function: &'static CStr,
) -> Result<()> {
    let misuse = |rule: &'static Rule, function| rule.broken_by(function).about(sub.cast());
    if answer.is_err() {
        return Err(misuse(&II_10, FUNCTION_OF_START).into());
    }
    if !pass.may_sleep() {
        return Err(Error::Errno(libc::EAGAIN));
    }
    let ends = function == FUNCTION_OF_RELEASE;
    let rule = if ends { &RL_1 } else { &RS_5 };
    misuse(rule, function).inside(INVALIDATE).report();
    Ok(())
}

/// The ops of a notifier that is in the index, and has the mark `common` unless that is 0.
#[inline]
unsafe fn ops_of(sub: *mut Sub, common: u64) -> Ops {
    Ops::from_mark(if common == 0 {
        // SAFETY: The caller's promise.
        unsafe { index::mark(node_of(sub)) }
    } else {
        common
    })
}
