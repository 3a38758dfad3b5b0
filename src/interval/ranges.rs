//! Events: the start and the end of a range, and the end of the address space (SPEC 3.1, 3.3, 3.11).

use core::ffi::{CStr, c_ulong};
use core::mem::offset_of;

use super::{
    ATTENTION, CHANGING, ENDING, Intervals, ODD, READ_BEGIN, REMOVE, SPILLED, State, Word, node_of,
    sub_of_node, word,
};
use crate::abi::notifier::mmu_interval_notifier as Sub;
use crate::dispatch::{Finishes, NoSuchOp, Ops, Pass, Range};
use crate::index::{self, Changed, Run, Version};
use crate::report::{DV_8, Error, II_10, II_10_FINISH, RL_1, RS_5};
use crate::sync::{Ordering, fence::fence};
use crate::thread::{self, Callbacks, Frame, Kind};

const INVALIDATE: &CStr = c"invalidate";
static CALLBACKS: Callbacks = Callbacks::new(Kind::Interval, INVALIDATE);
const FUNCTION_OF_START: &CStr = c"mmu_notifier_invalidate_range_start";
const FUNCTION_OF_END: &CStr = c"mmu_notifier_invalidate_range_end";
const FUNCTION_OF_RELEASE: &CStr = c"mmput";

/// Why a range was not started. Two words, which a call returns in registers, where an [`Error`] is many.
#[derive(Clone, Copy, Debug)]
pub enum Refusal {
    /// A notifier refused a range that is not blockable.
    Again,
    /// A notifier has no `invalidate`.
    NoInvalidate(*mut Sub),
    /// A notifier has no `invalidate_finish`.
    NoFinish,
}

// SPEC: RS-4 II-10
impl From<Refusal> for Error {
    #[cold]
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Again => Self::Errno(libc::EAGAIN),
            Refusal::NoInvalidate(sub) => {
                II_10.broken_by(FUNCTION_OF_START).about(sub.cast()).into()
            }
            Refusal::NoFinish => II_10_FINISH.broken_by(FUNCTION_OF_START).into(),
        }
    }
}

/// No range is counted in that could be ended.
#[derive(Clone, Copy, Debug)]
pub struct NotStarted;

// SPEC: DV-8
impl From<NotStarted> for Error {
    #[cold]
    fn from(_: NotStarted) -> Self {
        DV_8.broken_by(FUNCTION_OF_END).into()
    }
}

impl Intervals {
    /// Counts `range` in and calls each interval notifier that it touches.
    ///
    /// # Errors
    /// One refused a non-blockable range, or misuse of `ops`: the range is counted out again.
    ///
    /// # Safety
    /// Every notifier that was inserted is valid.
    // SPEC: RS-1 RS-4 RS-5
    #[inline(always)]
    pub unsafe fn start(&self, range: Range) -> Result<(), Refusal> {
        let (start, last) = range.bounds();
        match self.count_in(start, last) {
            CountedIn::Missing => {
                thread::current().range_started(self.key());
                Ok(())
            }
            CountedIn::Touching(first, seq) => {
                thread::current().range_started(self.key());
                // SAFETY: The caller's promise; counted in.
                unsafe { self.call::<false>(range, seq, first) }
            }
            // SAFETY: The caller's promise.
            CountedIn::Unsure { counted } => unsafe { self.start_locked(range, counted) },
        }
    }

    /// As [`Intervals::start`], with the lock; `counted` says that the range is counted already.
    #[cold]
    #[inline(never)]
    unsafe fn start_locked(&self, range: Range, counted: bool) -> Result<(), Refusal> {
        let (start, last) = range.bounds();
        let (first, seq) = self.count_in_locked(start, last, counted);
        thread::current().range_started(self.key());
        match first {
            None => Ok(()),
            // SAFETY: The caller's promise; counted in.
            Some(first) => unsafe { self.call::<false>(range, seq, first) },
        }
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
    pub unsafe fn release(&self, range: Range) -> Result<(), Refusal> {
        let (start, last) = range.bounds();
        let (first, seq) = self.count_in_locked(start, last, false);
        thread::current().range_started(self.key());
        if let Some(first) = first {
            // SAFETY: The caller's promise; counted in.
            unsafe { self.call::<true>(range, seq, first) }?;
        }
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
    #[inline(always)]
    pub fn end(&self) -> Result<(), NotStarted> {
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
    #[inline(never)]
    fn end_locked(&self) -> Result<(), NotStarted> {
        let mut state = self.state.lock();
        let period_over = loop {
            let old = self.word();
            if !old.is_active() {
                return Err(NotStarted);
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

    /// Calls `first` and all that follow it and that `range` touches, which is counted in; for the end of the address space, or for a
    /// start. A function of its own, so that who touches nothing saves no registers for it.
    #[inline(never)]
    unsafe fn call<const ENDS: bool>(
        &self,
        range: Range,
        seq: c_ulong,
        first: Run,
    ) -> Result<(), Refusal> {
        // ORDERING: Release pairs with the Acquire in `read_begin`: callbacks store sequence numbers with plain stores.
        fence(Ordering::Release);
        let frame = Frame::new(&CALLBACKS, range.mm().cast(), true);
        let result = frame.run_on(thread::current(), || {
            let mut finishes = Finishes::NONE;
            let pass = Pass::new(range, seq);
            // SAFETY: `seq` is odd and this range is counted, so the index is frozen until `end`.
            let result =
                unsafe { call_each::<ENDS>(pass, first, self.index.is_large(), &mut finishes) };
            if finishes.any() {
                // SAFETY: As above.
                let finished = unsafe { finishes.call() };
                return result.and(finished.map_err(|NoSuchOp| Refusal::NoFinish));
            }
            result
        });
        if result.is_err() {
            self.end_own();
        }
        result
    }

    /// Ends a range that this room has counted in. Should it be gone, somebody has made an end too many.
    pub fn end_own(&self) {
        if self.end().is_err() {
            DV_8.broken_by(FUNCTION_OF_END).report();
        }
    }

    /// Counts a range in, without the lock.
    // SPEC: RS-1 RS-9 ST-5 ST-6
    #[inline(always)]
    fn count_in(&self, start: c_ulong, last: c_ulong) -> CountedIn {
        let Ok(version) = self.index.version() else {
            return CountedIn::Unsure { counted: false };
        };
        match self.index.first(version, start, last) {
            Ok(None) => self.count_miss(version),
            Ok(Some(first)) => {
                if self.index.is_large() {
                    first.prefetch(TOUCHED);
                }
                match self.count_hit(version) {
                    Some(seq) => CountedIn::Touching(first, seq),
                    None => CountedIn::Unsure { counted: false },
                }
            }
            Err(Changed) => CountedIn::Unsure { counted: false },
        }
    }

    /// Counts in a range that touches nothing in the index of `version`.
    #[inline]
    fn count_miss(&self, version: Version) -> CountedIn {
        let found_nothing = self.index.is_still(version);
        // ORDERING: AcqRel: a step of the word.
        let old = Word(self.word.fetch_add(word::ONE, Ordering::AcqRel));
        if old.active() >= word::CROWD {
            self.spill();
        }
        // Counted before the next change was complete, or it would have been counted in the word. (The word's count wraps.)
        let before_next = old.has_seen(version.changes()) && !old.has(ENDING);
        if found_nothing && before_next && self.index.is_still_or_changing(version) {
            CountedIn::Missing
        } else {
            CountedIn::Unsure { counted: true }
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
    /// counted already. Returns the place of the first notifier that it touches, and the sequence number for the callbacks.
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

/// What became of a range that was to be counted in without the lock.
enum CountedIn {
    /// It is in, and touches nothing.
    Missing,
    /// It is in, and touches what begins here. The sequence number for the callbacks.
    Touching(Run, c_ulong),
    /// What it touches has to be looked up under the lock: the index was, or is about to be, changed.
    Unsure {
        /// Is it in?
        counted: bool,
    },
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

/// Calls all of `first`, and all that follow it and intersect the range of `pass`.
// SPEC: RS-2 RS-3 RS-6 RS-7 RS-8 II-10
#[inline(always)]
unsafe fn call_each<const ENDS: bool>(
    pass: Pass,
    first: Run,
    is_large: bool,
    finishes: &mut Finishes,
) -> Result<(), Refusal> {
    let (start, last) = pass.bounds();
    let mut run = first;
    // SAFETY, in here: The index is frozen; what is in it is valid.
    loop {
        // SAFETY: As above.
        let next = unsafe { run.next(start, last) };
        if is_large {
            if let Some(next) = next {
                next.prefetch(TOUCHED);
            }
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
                None => unsafe { pass.call(sub, ops_of(sub, common), finishes) },
            };
            if !matches!(answer, Ok(true)) {
                refused::<ENDS>(pass, sub, answer)?;
            }
        }
        match next {
            Some(next) => run = next,
            None => return Ok(()),
        }
    }
}

/// Where a driver's callback looks first: its sequence number.
const TOUCHED: usize = offset_of!(Sub, invalidate_seq);

/// A notifier did not answer `true`.
// SPEC: RS-4 RS-5 RL-1 II-10
#[cold]
#[inline(never)]
fn refused<const ENDS: bool>(
    pass: Pass,
    sub: *mut Sub,
    answer: Result<bool, NoSuchOp>,
) -> Result<(), Refusal> {
    if answer.is_err() {
        return Err(Refusal::NoInvalidate(sub));
    }
    if !pass.may_sleep() {
        return Err(Refusal::Again);
    }
    let misuse = if ENDS {
        RL_1.broken_by(FUNCTION_OF_RELEASE)
    } else {
        RS_5.broken_by(FUNCTION_OF_START)
    };
    misuse.about(sub.cast()).inside(INVALIDATE).report();
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
