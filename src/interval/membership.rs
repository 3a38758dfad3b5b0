//! Who is a member: insert, remove; and read_begin (SPEC 3.4, 3.6, 3.7).

use core::ffi::{CStr, c_ulong, c_void};
use std::collections::HashMap;

use super::{Intervals, Membership, READ_BEGIN, REMOVE, State, Sub, load_seq, node_of, seq_of};
use crate::abi::mm::mm_struct;
use crate::abi::notifier::mmu_interval_notifier_ops;
use crate::dispatch::Abi;
use crate::index;
use crate::report::{DV_7, DV_9_INSERT, DV_9_REMOVE, Error, II_4, Result};
use crate::sync::Ordering;
use crate::thread;

const FUNCTION_OF_INSERT: &CStr = c"mmu_interval_notifier_insert";
const FUNCTION_OF_REMOVE: &CStr = c"mmu_interval_notifier_remove";
const FUNCTION_OF_READ_BEGIN: &CStr = c"mmu_interval_read_begin";

/// What an insert stores.
#[derive(Debug)]
pub struct Insert {
    /// The notifier; its memory may hold anything.
    pub sub: *mut Sub,
    /// The address space.
    pub mm: *mut mm_struct,
    /// The callbacks.
    pub ops: *const mmu_interval_notifier_ops,
    /// First byte.
    pub start: c_ulong,
    /// Length in bytes.
    pub length: c_ulong,
    /// The layout of the callbacks.
    pub abi: Abi,
    /// Has the address space users?
    pub mm_has_users: bool,
}

impl Intervals {
    /// Makes `new.sub` a member, now or at the end of the busy period.
    ///
    /// # Errors
    /// EOVERFLOW: `length` is 0 or wraps; EINVAL (II-4): no users; EINVAL (DV-9): a member already; ENOMEM.
    ///
    /// # Safety
    /// `new.sub` is valid until it was removed; `new.ops` as long.
    // SPEC: II-4 II-6 II-9 DV-9 DV-10
    pub unsafe fn insert(&self, new: &Insert) -> Result<()> {
        let mut state = self.state.lock();
        if state.members.contains_key(&new.sub.cast_const()) {
            let misuse = DV_9_INSERT
                .broken_by(FUNCTION_OF_INSERT)
                .about(new.sub.cast());
            return Err(misuse.errno(libc::EINVAL).into());
        }
        state
            .members
            .try_reserve(1)
            .map_err(|_| Error::Errno(libc::ENOMEM))?;
        // SAFETY: The caller gives us `new.sub`; not a member, so nobody else looks at it.
        unsafe { store_fields(new) }?;
        // SAFETY: As above.
        let turned_odd = unsafe { state.admit(new.sub, new.abi) };
        if turned_odd {
            // SPEC: RB-5: who collided with an even number waits for this.
            self.readers.wake_all(state, READ_BEGIN);
        }
        Ok(())
    }

    /// Ends the membership of `sub`. Sleeps while a busy period may still call it.
    ///
    /// # Errors
    /// DV-9: not a member. DV-7: it would wait for the callback that it is called from. Nothing is changed.
    ///
    /// # Safety
    /// `sub`, if it is a member, is valid.
    // SPEC: IR-2 IR-3 IR-4 IR-6 IR-8 IR-9 MO-3
    pub unsafe fn remove(&self, sub: *mut Sub, mm: *const c_void) -> Result<()> {
        let mut state = self.state.lock();
        match state.members.get(&sub.cast_const()) {
            None | Some(Membership::Removing) => {
                return Err(DV_9_REMOVE
                    .broken_by(FUNCTION_OF_REMOVE)
                    .about(sub.cast())
                    .into());
            }
            Some(Membership::Inserting(_)) => {
                // SAFETY: Deferred, hence a valid member.
                unsafe { state.undefer(sub) };
            }
            Some(Membership::Inserted) if !state.is_odd() => {
                // SAFETY: A member in the index, which may change.
                unsafe { state.index.remove(node_of(sub)) };
            }
            Some(Membership::Inserted) => {
                refuse_self_wait(mm, FUNCTION_OF_REMOVE)?;
                state.set_place(sub, Membership::Removing);
                // SAFETY: A member that is not deferred.
                unsafe { state.defer(sub) };
                let seq = state.seq;
                while state.seq == seq {
                    state = self.removers.wait(state, REMOVE);
                }
            }
        }
        // After a wait the end of the busy period has removed it already.
        state.members.remove(&sub.cast_const());
        if state.members.is_empty() {
            state.members = HashMap::default();
        }
        Ok(())
    }

    /// Is `sub` a member? Reads nothing of it.
    pub fn contains(&self, sub: *const Sub) -> bool {
        self.state.lock().members.contains_key(&sub)
    }

    /// Forgets a member without waiting, whatever state it is in. Says whether it was one.
    ///
    /// # Safety
    /// As `remove`; and no range will touch this object again.
    // SPEC: DV-13
    pub unsafe fn forget(&self, sub: *mut Sub) -> bool {
        self.state
            .lock()
            .members
            .remove(&sub.cast_const())
            .is_some()
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
        let mut state = self.state.lock();
        // SAFETY: The caller's promise.
        let seq = unsafe { load_seq(sub) };
        if seq == state.seq {
            refuse_self_wait(mm, FUNCTION_OF_READ_BEGIN)?;
            while state.seq == seq {
                state = self.readers.wait(state, READ_BEGIN);
            }
        }
        Ok(seq)
    }
}

impl State {
    /// Adds a notifier whose fields are set. Says whether `seq` became odd.
    // SPEC: II-7 II-8 ST-7
    unsafe fn admit(&mut self, sub: *mut Sub, abi: Abi) -> bool {
        let was_odd = self.is_odd();
        if was_odd {
            // SPEC: II-7c
            // SAFETY: The caller passes a notifier that is not a member.
            unsafe { self.defer(sub) };
            self.members.insert(sub, Membership::Inserting(abi));
        } else {
            // SAFETY: As above.
            unsafe { self.index.insert(node_of(sub), abi.number()) };
            self.members.insert(sub, Membership::Inserted);
        }
        // SPEC: II-7a II-7b
        let turns_odd = !was_odd && self.active > 0;
        if turns_odd {
            self.seq |= 1;
        }
        let seq = if self.active == 0 {
            self.seq.wrapping_sub(1)
        } else {
            self.seq
        };
        // SAFETY: As above.
        // ORDERING: Relaxed: the lock publishes the member.
        unsafe { seq_of(sub) }.store(seq, Ordering::Relaxed);
        turns_odd
    }
}

/// Stores what the contract says is stored, in its order, up to the first error.
// SPEC: II-4 DV-10
unsafe fn store_fields(new: &Insert) -> Result<()> {
    let sub = new.sub;
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
    if !new.mm_has_users {
        let misuse = II_4.broken_by(FUNCTION_OF_INSERT).about(sub.cast());
        return Err(misuse.errno(libc::EINVAL).into());
    }
    Ok(())
}

/// Fails if this thread runs a callback that it would now wait for.
// SPEC: DV-7 IR-10
fn refuse_self_wait(mm: *const c_void, function: &'static CStr) -> Result<()> {
    match thread::inside_range_of(mm) {
        Some(op) => Err(DV_7.broken_by(function).inside(op).into()),
        None => Ok(()),
    }
}
