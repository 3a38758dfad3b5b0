//! The notifiers of one mm (floor 3): an ordered list, and fan-out to it.
//!
//! Owns: the list, newest first; `hlist` of the notifiers that are on it; and the library's one domain of grace periods
//! for walks, which all mms share (DV-6).
//!
//! Invariants
//! * Links change under the chain's lock only. Walks take no lock and read links as they go (HS-11).
//! * An unlinked notifier keeps its `next` and has a NULL `pprev`; it may be freed after a grace period.
//! * A walk runs inside a [`Section`], which is a read section of the domain and a frame of the thread (DV-7).
//!
//! The mm is an opaque pointer here, handed to callbacks. Lock order: the chain's lock is a leaf. fork does not hold it: a callback
//! inside free() may take it (a put), and fork takes malloc's locks after its handlers have run.
#![expect(unsafe_code, reason = "an intrusive list and callbacks of C")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "accesses to one live notifier"
)]

mod walks;

pub use walks::{FailedStart, Place, Section, Solo};

use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr;

use crate::abi::notifier::mmu_notifier;
use crate::abi::types::hlist_node;
use crate::srcu::Srcu;
use crate::sync::{AtomicPtr, Lock, LockGuard, Ordering};

crate::sync::global! {
    /// The one domain of walks, for all mms.
    // SPEC: DV-6
    pub static WALKS: Srcu = Srcu::new();
}

/// The list of notifiers of one mm.
#[derive(Debug)]
pub struct Chain {
    /// First node; written under `lock`.
    first: AtomicPtr<hlist_node>,
    lock: Lock<()>,
}

/// `next` of a node, as an atomic: walks read it while it is written.
#[inline]
fn next_of<'a>(node: *mut hlist_node) -> &'a AtomicPtr<hlist_node> {
    // SAFETY: Callers pass a node that is on the list, or was when the current section began.
    unsafe { AtomicPtr::from_ptr(&raw mut (*node).next) }
}

/// `pprev` of a node, as an atomic: UN-2 reads it without the lock.
fn pprev_of<'a>(node: *mut hlist_node) -> &'a AtomicPtr<*mut hlist_node> {
    // SAFETY: As in `next_of`.
    unsafe { AtomicPtr::from_ptr(&raw mut (*node).pprev) }
}

/// The notifier that a node is part of.
#[inline]
fn notifier_of(node: *mut hlist_node) -> *mut mmu_notifier {
    const { assert!(offset_of!(mmu_notifier, hlist) == 0) };
    node.cast()
}

fn node_of(subscription: *mut mmu_notifier) -> *mut hlist_node {
    subscription.cast()
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

impl Chain {
    /// An empty list.
    pub const fn new() -> Self {
        Self {
            first: AtomicPtr::new(ptr::null_mut()),
            lock: Lock::new(()),
        }
    }

    /// Is the list empty? Without a lock, hence true or false for some moment of the call (HS-2).
    #[inline]
    pub fn is_empty(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `Held::add`, as in walks.
        self.first.load(Ordering::Acquire).is_null()
    }

    /// Takes the lock, to look at the list or to change it.
    pub fn lock(&self) -> Held<'_> {
        Held {
            chain: self,
            _guard: self.lock.lock(),
        }
    }

    /// In the child of a fork, which did not hold the lock: links may be half-way through a change. Walks go by `next`, which is
    /// whole at any time; so is the list, once it is linked back along it.
    ///
    /// # Safety
    /// No other thread runs, and this one does not hold the lock.
    // SPEC: DV-13
    pub unsafe fn repair_in_child(&self) {
        // SAFETY: The caller's promise.
        unsafe { self.lock.renew_in_child() };
        let mut place = &self.first;
        loop {
            // ORDERING: Relaxed, both: there is one thread.
            let node = place.load(Ordering::Relaxed);
            if node.is_null() {
                break;
            }
            pprev_of(node).store(place.as_ptr(), Ordering::Relaxed);
            place = next_of(node);
        }
    }
}

/// A chain whose lock is held: links may change, and listed notifiers stay.
#[derive(Debug)]
pub struct Held<'a> {
    chain: &'a Chain,
    _guard: LockGuard<'a, ()>,
}

impl Held<'_> {
    /// Links a notifier at the head: the newest is called first (HS-3).
    ///
    /// # Safety
    /// `subscription` is on no list, and valid until it was unlinked and a grace period has passed.
    // SPEC: HS-3 RG-5 MO-1
    pub unsafe fn add(&mut self, subscription: *mut mmu_notifier) {
        let node = node_of(subscription);
        let first = self.first();
        // ORDERING: Relaxed: published by the Release below.
        next_of(node).store(first, Ordering::Relaxed);
        // ORDERING: Relaxed: `pprev` is a flag to those without the lock (UN-2).
        pprev_of(node).store(self.chain.first.as_ptr(), Ordering::Relaxed);
        if !first.is_null() {
            // ORDERING: Relaxed: as above.
            pprev_of(first).store(node.cast(), Ordering::Relaxed);
        }
        // ORDERING: Release pairs with the Acquires of walks: who sees the node sees its ops, its mm, and what its owner
        // stored before it registered.
        self.chain.first.store(node, Ordering::Release);
    }

    /// Unlinks a notifier unless that was done before. It keeps its `next` for walks that stand on it (HS-11).
    ///
    /// # Safety
    /// `subscription` was linked here and is valid.
    // SPEC: HS-11 UN-2 GP-5
    pub unsafe fn unlink(&mut self, subscription: *mut mmu_notifier) {
        let node = node_of(subscription);
        // ORDERING: Relaxed: written under the lock only.
        let place = pprev_of(node).load(Ordering::Relaxed);
        if place.is_null() {
            return;
        }
        // SAFETY: `place` is `first` of this list or `next` of the node before.
        let place = unsafe { AtomicPtr::from_ptr(place) };
        // ORDERING: Relaxed: written under the lock only.
        let next = next_of(node).load(Ordering::Relaxed);
        // ORDERING: Release pairs with the Acquires of walks, which may come to `next` over this link only.
        place.store(next, Ordering::Release);
        if !next.is_null() {
            // ORDERING: Relaxed: a flag to those without the lock.
            pprev_of(next).store(place.as_ptr(), Ordering::Relaxed);
        }
        // ORDERING: Relaxed: as above.
        pprev_of(node).store(ptr::null_mut(), Ordering::Relaxed);
    }

    /// Unlinks all notifiers.
    // SPEC: RL-2
    pub fn unlink_all(&mut self) {
        while !self.first().is_null() {
            // SAFETY: Listed, hence valid.
            unsafe { self.unlink(notifier_of(self.first())) };
        }
    }

    /// Is the list empty?
    pub fn is_empty(&self) -> bool {
        self.first().is_null()
    }

    /// Is a notifier at this address listed? Reads nothing of it, so that it may be anything.
    // SPEC: DV-9
    pub fn contains(&self, subscription: *const mmu_notifier) -> bool {
        self.find(|listed| ptr::eq(listed, subscription)).is_some()
    }

    /// The newest notifier that `wanted` accepts.
    // SPEC: GP-1 GP-2
    pub fn find(&self, wanted: impl Fn(*mut mmu_notifier) -> bool) -> Option<*mut mmu_notifier> {
        let mut node = self.first();
        while !node.is_null() && !wanted(notifier_of(node)) {
            // ORDERING: Relaxed: written under the lock only.
            node = next_of(node).load(Ordering::Relaxed);
        }
        (!node.is_null()).then(|| notifier_of(node))
    }

    fn first(&self) -> *mut hlist_node {
        // ORDERING: Relaxed: written under the lock only.
        self.chain.first.load(Ordering::Relaxed)
    }
}

/// Is a notifier linked? Without the lock.
///
/// # Safety
/// `subscription` is valid and was registered.
// SPEC: UN-2
pub unsafe fn is_linked(subscription: *mut mmu_notifier) -> bool {
    // ORDERING: Relaxed: a flag to those without the lock.
    !pprev_of(node_of(subscription))
        .load(Ordering::Relaxed)
        .is_null()
}

/// Waits for all walks of all mms that are in progress.
pub fn synchronize() {
    WALKS.synchronize();
}

/// An mm as the frames of a thread know it.
fn opaque<T>(mm: *const T) -> *const c_void {
    mm.cast()
}
