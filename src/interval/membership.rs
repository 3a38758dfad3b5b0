//! Who is a member: insert, remove; and read_begin (SPEC 3.4, 3.6, 3.7).

use core::ffi::{CStr, c_ulong, c_void};

use super::deferred::Place;
use super::members::{NoSlot, Slot};
use super::{
    ATTENTION, CHANGING, Intervals, ODD, READ_BEGIN, REMOVE, State, Sub, Word, members, node_of,
    seq_of,
};
use crate::abi::mm::mm_struct;
use crate::abi::notifier::mmu_interval_notifier_ops;
use crate::dispatch::{Abi, Ops};
use crate::index::{self, Supply, Wanted};
use crate::report::{DV_7, DV_9_INSERT, DV_9_REMOVE, Error, II_4, Result};
use crate::sync::{LockGuard, Ordering};
use crate::thread;

const FUNCTION_OF_INSERT: &CStr = c"mmu_interval_notifier_insert";
const FUNCTION_OF_REMOVE: &CStr = c"mmu_interval_notifier_remove";
const FUNCTION_OF_READ_BEGIN: &CStr = c"mmu_interval_read_begin";

/// What an insert is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The notifier; its memory may hold anything.
    pub interval_sub: *mut Sub,
    /// The address space.
    pub mm: *mut mm_struct,
    /// First byte.
    pub start: c_ulong,
    /// Length in bytes.
    pub length: c_ulong,
    /// The callbacks: a table of the layout `abi`.
    pub ops: *const mmu_interval_notifier_ops,
    /// The layout of the callbacks.
    pub abi: Abi,
}

impl Intervals {
    /// Makes a notifier a member, now or at the end of the busy period.
    ///
    /// # Errors
    /// EOVERFLOW: `length` is 0 or wraps; EINVAL (II-4): no users; EINVAL (DV-9): a member already; ENOMEM.
    ///
    /// # Safety
    /// The notifier is valid until it was removed; its ops as long.
    // SPEC: II-4 II-6 II-9 DV-9 DV-10
    #[inline(always)]
    pub unsafe fn insert(&self, request: &Request, mm_has_users: bool) -> Result<()> {
        let sub = request.interval_sub;
        let (mut state, slot) = self.lock_with_room(sub)?;
        // SAFETY: The caller gives us the notifier; not a member, so nobody else looks at it.
        unsafe { store_fields(request, mm_has_users) }?;
        state.members.insert(sub, slot);
        // SAFETY: As above.
        let wake_readers = unsafe { self.admit(&mut state, sub, slot, request.abi) };
        if wake_readers {
            // SPEC: RB-5: who collided with an even number waits for this.
            self.readers.wake_all(state, READ_BEGIN);
        }
        Ok(())
    }

    /// Takes the lock, with all the memory that the insert of `sub`, no member yet, may need.
    #[inline(always)]
    fn lock_with_room(&self, sub: *mut Sub) -> Result<(LockGuard<'_, State>, Slot)> {
        loop {
            let mut state = self.state.lock();
            let slot = state.members.slot_for(sub);
            let has_nodes = state.nodes.has(self.index.nodes_for_insert()).is_ok();
            if let (Ok(slot), true) = (slot, has_nodes) {
                return Ok((state, slot));
            }
            self.make_room(state, sub, slot.err())?;
        }
    }

    /// Gets the memory that the insert of `sub` lacks, unless it is a member.
    #[cold]
    fn make_room(
        &self,
        state: LockGuard<'_, State>,
        sub: *mut Sub,
        why: Option<NoSlot>,
    ) -> Result<()> {
        if why == Some(NoSlot::Member) {
            let misuse = DV_9_INSERT.broken_by(FUNCTION_OF_INSERT);
            return Err(misuse.about(sub.cast()).errno(libc::EINVAL).into());
        }
        let nodes = state.nodes.has(self.index.nodes_for_insert()).err();
        let buckets = why.map(|_| state.members.wanted());
        // Without the lock: the allocator may unmap something, and be in the middle of a range then.
        drop(state);
        self.grow(nodes, buckets).ok_or(Error::Errno(libc::ENOMEM))
    }

    /// Gets memory: `nodes` for the index, `buckets` for the members.
    fn grow(&self, nodes: Option<Wanted>, buckets: Option<usize>) -> Option<()> {
        let supply = match nodes {
            Some(nodes) => Some(Supply::new(nodes)?),
            None => None,
        };
        let table = match buckets {
            Some(buckets) => Some(members::new_table(buckets)?),
            None => None,
        };
        let mut state = self.state.lock();
        if let Some(supply) = supply {
            state.nodes.add(supply);
        }
        let old = table.map(|table| state.members.move_to(table));
        drop(state);
        drop(old);
        Some(())
    }

    /// Adds a notifier whose fields are set. Says whether sleepers of `readers` have to be woken.
    // SPEC: II-7 II-8 ST-7
    unsafe fn admit(&self, state: &mut State, sub: *mut Sub, slot: Slot, abi: Abi) -> bool {
        // SAFETY, here and below: the caller passes a notifier that is becoming a member.
        if !self.try_begin_change() {
            // SPEC: II-7c
            let promised = self.index.nodes_for_insert();
            state.nodes.promise(promised);
            let seq = self.seq(self.word());
            // SAFETY: As above.
            unsafe {
                store_seq(sub, seq);
                Place::Inserting(abi, promised).note(sub);
                state.deferred.add(sub);
            }
            return false;
        }
        // SAFETY: As above. Inside a change.
        unsafe {
            Place::Inserted(slot).note(sub);
            let mark = Ops::new((*sub).ops, abi).mark();
            self.index.insert(&mut state.nodes, node_of(sub), mark);
        }
        // SAFETY: As above.
        let wake_readers = unsafe { self.publish(sub) };
        self.index.end_change();
        wake_readers
    }

    /// The step that completes an insert. A range in flight has come before it, and does not know of it: so the interval counts
    /// as being invalidated (II-7b). Says whether sleepers of `readers` have to be woken.
    // SPEC: II-7a II-7b
    unsafe fn publish(&self, sub: *mut Sub) -> bool {
        loop {
            let old = self.word();
            let even = self.seq(old);
            let (seq, new) = if old.is_active() {
                (even | 1, old.changed().with(ODD).without(ATTENTION))
            } else {
                (even.wrapping_sub(1), old.changed())
            };
            // Before the step: afterwards a callback may store a number of its own.
            // SAFETY: The caller passes a notifier of its own.
            unsafe { store_seq(sub, seq) };
            if self.try_step(old, new) {
                return old.has(ATTENTION) && !new.has(ATTENTION);
            }
        }
    }

    /// Begins a change of the index. False if it is frozen: what was to be changed has to be deferred, and the end of the busy
    /// period will see to it. The lock is held.
    fn try_begin_change(&self) -> bool {
        let old = self.step(|word| word.with(if word.is_odd() { ATTENTION } else { CHANGING }));
        let may_change = !old.is_odd();
        if may_change {
            self.index.begin_change();
        }
        may_change
    }

    /// Ends the membership of `sub`. Sleeps while a busy period may still call it.
    ///
    /// # Errors
    /// DV-9: not a member. DV-7: it would wait for the callback that it is called from. Nothing is changed.
    ///
    /// # Safety
    /// `sub` is valid.
    // SPEC: IR-2 IR-3 IR-4 IR-6 IR-8 IR-9 MO-3
    #[inline(always)]
    pub unsafe fn remove(&self, sub: *mut Sub, mm: *const c_void) -> Result<()> {
        // SAFETY: The caller's promise.
        unsafe { index::prefetch_leaf(node_of(sub)) };
        let mut state = self.state.lock();
        // SAFETY: The caller's promise.
        let place = unsafe { Place::of(sub) };
        let slot = match place {
            Place::Inserted(slot) => state.members.find_near(slot, sub),
            Place::Inserting(..) => state.members.find(sub),
            Place::Removing => None,
        };
        let Some(slot) = slot else {
            return Err(no_member(sub));
        };
        if let Place::Inserting(_, promised) = place {
            state.nodes.redeem(promised);
            // SAFETY: Deferred, hence a valid member.
            unsafe { state.deferred.remove(sub) };
        } else {
            if !self.try_begin_change() {
                // Now, not before: a range of another thread may have frozen the index meanwhile.
                refuse_self_wait(mm, FUNCTION_OF_REMOVE)?;
                // SAFETY: A member in the index.
                unsafe { self.remove_later(state, sub) };
                return Ok(());
            }
            // SAFETY: A member in the index. Inside a change.
            unsafe { self.index.remove(&mut state.nodes, node_of(sub)) };
            self.step(Word::changed);
            self.index.end_change();
        }
        state.members.remove(slot);
        drop_table(state);
        Ok(())
    }

    /// Has the end of the busy period, during which the index is frozen, take a member out, and waits for it.
    unsafe fn remove_later<'a>(&'a self, mut state: LockGuard<'a, State>, sub: *mut Sub) {
        // SAFETY: The caller passes a member in the index; it is not deferred.
        unsafe {
            Place::Removing.note(sub);
            state.deferred.add(sub);
        }
        let seq = self.seq(self.word());
        while self.seq(self.word()) == seq {
            state = self.removers.wait(state, REMOVE);
        }
        drop_table(state);
    }

    /// Is `sub` a member? Reads nothing of it.
    pub fn contains(&self, sub: *const Sub) -> bool {
        self.state.lock().members.find(sub).is_some()
    }

    /// The first and the last byte of the member that begins first, of those that reach into `[start, last]`. A member counts from
    /// its insert on, deferred or not, until it is taken out of the index. Takes the lock.
    pub fn first_member(&self, start: c_ulong, last: c_ulong) -> Option<(c_ulong, c_ulong)> {
        let state = self.state.lock();
        // The lock keeps the index as it is.
        let found = self.index.first_unchanging(start, last);
        // SAFETY: As above.
        let found = found.and_then(|mut run| unsafe { run.pop() });
        // SAFETY: A member in the index is valid, and stays in it while the lock is held.
        let found = found.map(|interval| unsafe { ((*interval).start, (*interval).last) });
        let waiting = state.deferred.inserting().map(|sub| {
            // SAFETY: A member, hence valid.
            let interval = unsafe { &(*sub).interval_tree };
            (interval.start, interval.last)
        });
        let reaches = |range: &(c_ulong, c_ulong)| range.0 <= last && range.1 >= start;
        waiting.filter(reaches).chain(found).min()
    }

    /// As [`Intervals::read_begin`], if no busy period that concerns `sub` lasts.
    ///
    /// # Errors
    /// One may last: until the present sequence number is not this one.
    ///
    /// # Safety
    /// `sub` is a member.
    // SPEC: RB-2 MO-2
    #[inline(always)]
    pub unsafe fn read_begin_at_rest(&self, sub: *mut Sub) -> core::result::Result<c_ulong, u64> {
        // SAFETY: The caller's promise.
        // ORDERING: Acquire pairs with the Release fence in `start`: a callback's number brings its range's step along.
        let seq = unsafe { seq_of(sub) }.load(Ordering::Acquire);
        if self.word().may_be(seq) {
            return Err(seq);
        }
        Ok(seq)
    }

    /// Begins a read of what `sub` covers. Sleeps while a busy period that concerns it lasts.
    ///
    /// # Errors
    /// DV-7: it would wait for the callback that it is called from.
    ///
    /// # Safety
    /// `sub` is a member.
    // SPEC: RB-2 RB-3 RB-4 RB-5 MO-2
    pub unsafe fn read_begin(&self, sub: *mut Sub, mm: *const c_void) -> Result<c_ulong> {
        // SAFETY: The caller's promise.
        match unsafe { self.read_begin_at_rest(sub) } {
            Ok(seq) => Ok(seq),
            Err(seq) => self.wait_for_another(seq, mm).map(|()| seq),
        }
    }

    /// Sleeps while `seq` is the present sequence number.
    fn wait_for_another(&self, seq: u64, mm: *const c_void) -> Result<()> {
        let mut state = self.state.lock();
        if self.seq(self.word()) == seq {
            refuse_self_wait(mm, FUNCTION_OF_READ_BEGIN)?;
        }
        loop {
            let word = self.word();
            if self.seq(word) != seq {
                return Ok(());
            }
            // Whoever changes the number comes by the lock, and finds this thread asleep.
            if self.try_step(word, word.with(ATTENTION)) {
                state = self.readers.wait(state, READ_BEGIN);
            }
        }
    }
}

/// Releases the lock. The table of a set without members is freed.
#[inline(always)]
fn drop_table(state: LockGuard<'_, State>) {
    if state.members.is_empty() {
        drop_unused_table(state);
    }
}

#[cold]
fn drop_unused_table(mut state: LockGuard<'_, State>) {
    let table = state.members.take_table();
    drop(state);
    drop(table);
}

unsafe fn store_seq(sub: *mut Sub, seq: u64) {
    // SAFETY: The caller passes a valid notifier.
    // ORDERING: Relaxed: the step of the word that follows publishes the member.
    unsafe { seq_of(sub) }.store(seq, Ordering::Relaxed);
}

/// Stores what the contract says is stored, in its order, up to the first error.
// SPEC: II-4 DV-10
#[inline]
unsafe fn store_fields(new: &Request, mm_has_users: bool) -> Result<()> {
    let sub = new.interval_sub;
    // SAFETY: The caller gives us the notifier.
    unsafe {
        (*sub).mm = new.mm;
        (*sub).ops = new.ops;
        index::clear(node_of(sub));
        (*sub).interval_tree.start = new.start;
    }
    if new.length == 0 {
        return Err(Error::Errno(libc::EOVERFLOW));
    }
    let (last, wrapped) = new.start.overflowing_add(new.length - 1);
    // SAFETY: As above.
    unsafe { (*sub).interval_tree.last = last };
    if wrapped {
        return Err(Error::Errno(libc::EOVERFLOW));
    }
    if !mm_has_users {
        return Err(no_users(sub));
    }
    Ok(())
}

#[cold]
fn no_member(sub: *const Sub) -> Error {
    let misuse = DV_9_REMOVE.broken_by(FUNCTION_OF_REMOVE);
    misuse.about(sub.cast()).into()
}

#[cold]
fn no_users(sub: *const Sub) -> Error {
    let misuse = II_4.broken_by(FUNCTION_OF_INSERT);
    misuse.about(sub.cast()).errno(libc::EINVAL).into()
}

/// Fails if this thread runs a callback that it would now wait for.
// SPEC: DV-7 IR-10
#[cold]
fn refuse_self_wait(mm: *const c_void, function: &'static CStr) -> Result<()> {
    match thread::inside_range_of(mm) {
        Some(op) => Err(DV_7.broken_by(function).inside(op).into()),
        None => Ok(()),
    }
}
