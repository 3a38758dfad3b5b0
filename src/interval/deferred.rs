//! Inserts and removes that wait for the end of a busy period: a list, newest first, through `deferred_item` (RE-4).
//!
//! What is deferred is a member, and its memory ours. Where it stands is in `rb.rb_right`, which the index leaves alone: in the
//! index, with the slot of the set of members that it was given; [`INSERTING`] with the layout of its ops and the nodes that it
//! was promised; [`REMOVING`].

use core::mem::offset_of;
use core::ptr;

use super::members::Slot;
use super::{State, Sub, node_of};
use crate::abi::types::{LIST_POISON1, LIST_POISON2, hlist_node};
use crate::dispatch::{Abi, Ops};
use crate::index::Index;

/// In the index. Above it: the slot.
const INSERTED: usize = 0;
/// Not in the index yet. Above it: a byte for the layout, then the nodes.
const INSERTING: usize = 1;
/// Still in the index.
const REMOVING: usize = 2;

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the index; and perhaps in this slot.
    Inserted(Slot),
    /// On the list, not in the index yet: the layout of its ops, and the nodes of the index that it was promised.
    Inserting(Abi, usize),
    /// On the list, still in the index.
    Removing,
}

impl Place {
    /// Where `sub` stands, if it is a member. Otherwise it may be anything.
    ///
    /// # Safety
    /// `sub` is valid.
    pub(super) unsafe fn of(sub: *const Sub) -> Self {
        // SAFETY: The caller's promise.
        let word = unsafe { (*sub).interval_tree.rb.rb_right.addr() };
        match word & 0xff {
            INSERTING => Self::Inserting(Abi::from_number((word >> 8) as u8), word >> 16),
            REMOVING => Self::Removing,
            _ => Self::Inserted(word >> 8),
        }
    }

    /// Notes it in the member `sub`.
    ///
    /// # Safety
    /// `sub` is a member, or about to be one.
    pub(super) unsafe fn note(self, sub: *mut Sub) {
        let word = match self {
            Self::Inserted(slot) => INSERTED | slot << 8,
            Self::Inserting(abi, nodes) => INSERTING | usize::from(abi.number()) << 8 | nodes << 16,
            Self::Removing => REMOVING,
        };
        // SAFETY: The caller's promise.
        unsafe { (*sub).interval_tree.rb.rb_right = ptr::without_provenance_mut(word) };
    }
}

/// The list. Guarded by the owner's lock.
#[derive(Debug)]
pub(super) struct Deferred {
    first: *mut hlist_node,
}

impl Deferred {
    pub(super) const EMPTY: Self = Self {
        first: ptr::null_mut(),
    };

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// The members on the list whose insert waits, newest first.
    pub(super) fn inserting(&self) -> impl Iterator<Item = *mut Sub> {
        let mut item = self.first;
        let all = core::iter::from_fn(move || {
            let sub = (!item.is_null()).then(|| sub_of_item(item))?;
            // SAFETY: Deferred notifiers are members, hence valid.
            item = unsafe { (*sub).deferred_item.next };
            Some(sub)
        });
        // SAFETY: As above.
        all.filter(|sub| matches!(unsafe { Place::of(*sub) }, Place::Inserting(..)))
    }

    /// Puts `sub` at the head.
    ///
    /// # Safety
    /// `sub` is valid, until it is taken off, and not on the list.
    pub(super) unsafe fn add(&mut self, sub: *mut Sub) {
        let head = &raw mut self.first;
        // SAFETY: The caller passes a valid notifier that is not deferred; deferred ones are valid.
        unsafe {
            let item = &raw mut (*sub).deferred_item;
            let next = self.first;
            (*item).next = next;
            (*item).pprev = head;
            if !next.is_null() {
                (*next).pprev = &raw mut (*item).next;
            }
            self.first = item;
        }
    }

    /// Takes `sub` off; its item is poisoned, as after hlist_del.
    ///
    /// The head is written by its name and never through `pprev`: no pointer but `self` may change what `self` owns.
    ///
    /// # Safety
    /// `sub` is on the list.
    pub(super) unsafe fn remove(&mut self, sub: *mut Sub) {
        // SAFETY: The caller passes a deferred notifier.
        unsafe {
            let item = &raw mut (*sub).deferred_item;
            let (next, pprev) = ((*item).next, (*item).pprev);
            if self.first == item {
                self.first = next;
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

impl State {
    /// Does what was deferred, newest first.
    ///
    /// # Safety
    /// Inside a change of `index`, which is this state's. Deferred notifiers are valid.
    // SPEC: RE-3 RE-4
    pub(super) unsafe fn apply_deferred(&mut self, index: &Index) {
        while !self.deferred.is_empty() {
            let sub = sub_of_item(self.deferred.first);
            // SAFETY: Deferred notifiers are members, hence valid.
            unsafe {
                self.deferred.remove(sub);
                if let Place::Inserting(abi, promised) = Place::of(sub) {
                    self.nodes.redeem(promised);
                    let mark = Ops::new((*sub).ops, abi).mark();
                    index.insert(&mut self.nodes, node_of(sub), mark);
                    Place::Inserted(0).note(sub);
                } else {
                    index.remove(&mut self.nodes, node_of(sub));
                    if let Some(slot) = self.members.find(sub) {
                        self.members.remove(slot);
                    }
                }
            }
        }
    }
}

/// The notifier that an item of the list is part of.
fn sub_of_item(item: *mut hlist_node) -> *mut Sub {
    item.wrapping_byte_sub(offset_of!(Sub, deferred_item))
        .cast()
}
