//! The interval notifiers of one mm (floor 3): busy periods, sequence numbers, deferral, read_begin.
//!
//! Owns: `seq` and `active` (SPEC's S.seq and S.active), the index, the deferred list, the sleepers, and who is a member.
//!
//! The protocol. A range counts itself in `active` at its start and out at its end. If it touches a member it also makes
//! `seq` odd. The states (SPEC 3.0):
//!
//! | state | `active` | `seq` | index |
//! |---|---|---|---|
//! | idle | 0 | even | may change |
//! | partially excluded | > 0 | even | may change; an insert makes `seq` odd and is in the index (II-7b) |
//! | fully excluded | > 0 | odd | frozen: inserts and removes go to the deferred list (II-7c, IR-3) |
//!
//! The last end of a fully excluded period makes `seq` even, applies the deferred list, newest first (RE-4), and wakes
//! the sleepers. So a busy period with a touched member moves `seq` by 2, and all of its ranges share one odd number.
//!
//! Invariants
//! * Everything is under one lock, which no callback runs under. Callbacks walk the index without it: it is frozen, because
//!   the range that walks is counted and `seq` is odd.
//! * `members` knows every notifier that is inserted or about to be, by address, so that misuse is seen without reading
//!   memory that may be anything (DV-9).
//!
//! Memory order: the lock gives all of it. MO-2: read_begin compares under it. MO-3: a sleeper takes it after the end that
//! woke it. A driver's mmu_interval_set_seq() is a plain store that only user_lock orders; it is read here with Relaxed.
//!
//! Lock order: the lock is a leaf; the sleepers' wake comes after it.
#![expect(unsafe_code, reason = "intrusive nodes and callbacks of C")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "accesses to one live notifier"
)]

mod membership;
mod ranges;

pub use membership::Insert;

use core::mem::offset_of;
use core::ptr;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::abi::notifier::mmu_interval_notifier as Sub;
use crate::abi::types::{LIST_POISON1, LIST_POISON2, hlist_node, interval_tree_node};
use crate::dispatch::Abi;
use crate::index::Index;
use crate::sync::{
    AtomicU64, Lock, Ordering, WaitQueue,
    hook::WaitReason::{
        MMU_NOTIFIER_WAIT_READ_BEGIN as READ_BEGIN, MMU_NOTIFIER_WAIT_REMOVE as REMOVE,
    },
};
use crate::thread;

/// The interval notifiers of one mm.
#[derive(Debug)]
pub struct Intervals {
    state: Lock<State>,
    /// read_begin sleeps here until `seq` is another one.
    readers: WaitQueue,
    /// remove sleeps here until the deferred list was applied.
    removers: WaitQueue,
}

// SPEC: ST-4
#[derive(Debug)]
struct State {
    seq: u64,
    active: usize,
    index: Index,
    /// First of the deferred inserts and removes, newest first.
    deferred: *mut hlist_node,
    members: HashMap<*const Sub, Membership, BuildHasherDefault<AddressHasher>>,
}

/// Where a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Membership {
    /// In the index.
    Inserted,
    /// On the deferred list, not in the index yet; the layout of its ops.
    Inserting(Abi),
    /// On the deferred list, still in the index.
    Removing,
}

/// Hashes addresses: one multiplication.
#[derive(Debug, Default)]
struct AddressHasher(u64);

impl std::hash::Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

impl Default for Intervals {
    fn default() -> Self {
        Self::new()
    }
}

impl Intervals {
    /// No members, no ranges.
    // SPEC: ST-1
    pub fn new() -> Self {
        let state = State {
            seq: 2,
            active: 0,
            index: Index::new(),
            deferred: ptr::null_mut(),
            members: HashMap::default(),
        };
        Self {
            state: Lock::new(state),
            readers: WaitQueue::new(),
            removers: WaitQueue::new(),
        }
    }

    /// A key for what threads remember of this object.
    fn key(&self) -> *const core::ffi::c_void {
        ptr::from_ref(self).cast()
    }

    /// Before fork: holds the state still.
    pub fn hold_for_fork(&self) {
        self.state.acquire();
    }

    /// After fork, in the parent: undoes `hold_for_fork`.
    ///
    /// # Safety
    /// This thread called `hold_for_fork`.
    pub unsafe fn release_in_parent(&self) {
        // SAFETY: Held since `hold_for_fork`.
        unsafe { self.state.release() };
    }

    /// After fork, in the child: as in the parent, but the ranges of other threads are over, and so is the busy period
    /// unless the forking thread has a range of its own in flight.
    ///
    /// # Safety
    /// This thread's image in the parent called `hold_for_fork`.
    // SPEC: DV-13
    pub unsafe fn release_in_child(&self) {
        // SAFETY: Held since `hold_for_fork`; the child has one thread.
        let state = unsafe { self.state.data() };
        if state.active > 0 {
            state.active = state.active.min(thread::ranges_in_flight(self.key()));
            if state.active == 0 {
                state.end_busy_period();
            }
        }
        self.readers.forget_sleepers();
        self.removers.forget_sleepers();
        // SAFETY: As above.
        unsafe { self.state.release() };
    }
}

impl State {
    fn is_odd(&self) -> bool {
        self.seq & 1 == 1
    }

    /// Ends a busy period: makes `seq` even and applies the deferred list. Says whether there was one to end.
    // SPEC: RE-2 RE-3 RE-4
    fn end_busy_period(&mut self) -> bool {
        if !self.is_odd() {
            return false;
        }
        self.seq = self.seq.wrapping_add(1);
        while !self.deferred.is_null() {
            let sub = sub_of_item(self.deferred);
            // SAFETY: Deferred notifiers are members, hence valid.
            unsafe { self.undefer(sub) };
            // SAFETY: As above.
            unsafe {
                if let Some(Membership::Inserting(abi)) = self.members.get(&sub.cast_const()) {
                    self.index.insert(node_of(sub), abi.number());
                    self.set_place(sub, Membership::Inserted);
                } else {
                    self.index.remove(node_of(sub));
                    self.members.remove(&sub.cast_const());
                }
            }
        }
        true
    }

    /// A member is in another place now. Does not allocate, as an insert into the map might.
    fn set_place(&mut self, sub: *const Sub, place: Membership) {
        if let Some(known) = self.members.get_mut(&sub) {
            *known = place;
        }
    }

    /// Puts `sub` at the head of the deferred list.
    unsafe fn defer(&mut self, sub: *mut Sub) {
        let head = &raw mut self.deferred;
        // SAFETY: The caller passes a valid notifier that is not deferred; deferred ones are valid.
        unsafe {
            let item = &raw mut (*sub).deferred_item;
            let next = self.deferred;
            (*item).next = next;
            (*item).pprev = head;
            if !next.is_null() {
                (*next).pprev = &raw mut (*item).next;
            }
            self.deferred = item;
        }
    }

    /// Takes `sub` off the deferred list; its item is poisoned, as after hlist_del.
    ///
    /// The head is written by its name and never through `pprev`: no pointer but `self` may change what `self` owns.
    unsafe fn undefer(&mut self, sub: *mut Sub) {
        // SAFETY: The caller passes a deferred notifier.
        unsafe {
            let item = &raw mut (*sub).deferred_item;
            let (next, pprev) = ((*item).next, (*item).pprev);
            if self.deferred == item {
                self.deferred = next;
            } else {
                *pprev = next;
            }
            if !next.is_null() {
                (*next).pprev = pprev;
            }
            (*item).next = ptr::with_exposed_provenance_mut(LIST_POISON1);
            (*item).pprev = ptr::with_exposed_provenance_mut(LIST_POISON2);
        }
    }
}

/// The node of the index in `sub`.
fn node_of(sub: *mut Sub) -> *mut interval_tree_node {
    const { assert!(offset_of!(Sub, interval_tree) == 0) };
    sub.cast()
}

/// The notifier that a node of the index is part of.
fn sub_of_node(node: *mut interval_tree_node) -> *mut Sub {
    node.cast()
}

/// The notifier that an item of the deferred list is part of.
fn sub_of_item(item: *mut hlist_node) -> *mut Sub {
    item.wrapping_byte_sub(offset_of!(Sub, deferred_item))
        .cast()
}

/// The sequence number of `sub`, as an atomic: drivers store it without a lock of ours.
///
/// # Safety
/// `sub` is valid while the result is used.
unsafe fn seq_of<'a>(sub: *mut Sub) -> &'a AtomicU64 {
    // SAFETY: The caller's promise; the field has the size and alignment of an AtomicU64.
    unsafe { AtomicU64::from_ptr(&raw mut (*sub).invalidate_seq) }
}

/// Reads the sequence number of `sub`.
unsafe fn load_seq(sub: *mut Sub) -> u64 {
    // SAFETY: The caller passes a valid notifier.
    // ORDERING: Relaxed: see the module comment.
    unsafe { seq_of(sub) }.load(Ordering::Relaxed)
}
