//! Finds the intervals that a range touches (floor 2).
//!
//! Owns: a B+-tree beside the intervals, the memory of its nodes ([`Nodes`]), and three words in each
//! `interval_tree_node` that is in the tree: `__rb_parent_color` is the interval's mark, `rb_left` its leaf, and `rb_right` is
//! left to the owner of the interval. `start` and `last` are set before an interval is inserted and do not change while it is in.
//!
//! Four verbs: insert, remove, first overlap, next overlap. Order is ascending start; equal starts stand in insertion order.
//!
//! Each entry of an inner node knows the first `start` and the greatest `last` below it. The first overlap is found on one path:
//! the first child that reaches the range holds it, or nobody does, for if all that reach the range there start behind it, so
//! does everything that follows. A search that finds nothing touches no interval, and one that does, only that one.
//!
//! Readers and writers. One writer at a time, under the owner's lock; it brackets each change by [`Index::begin_change`] and
//! [`Index::end_change`], which make `version` odd and even again. Readers need no lock: they take the version, search, and
//! see by the version whether what they saw was one tree (a sequence lock). Nodes stay nodes for ever, so a reader may be
//! wherever it likes; before it follows a pointer it makes sure that the pointer is of its version. A reader who knows that
//! no change can begin may walk on with [`Cursor::next`].
//!
//! Invariants
//! * In a node: starts ascend; `len` is at least 1; `last` and `start` of an entry are those of what is below it.
//! * The leaf of an interval, and the parent of a node, are where it stands.
//! * An interval in the tree never reads as "empty", which is its own address in `__rb_parent_color`; one that was removed does
//!   not either (IR-9).
//! * A change takes no more nodes than [`Index::nodes_for_insert`] says, and a removal takes none: nothing here can fail.
//!
//! Memory order: see `node` for the fields. `version`: a writer stores the odd number, Release fence, changes, stores the even
//! number with Release. A reader loads it with Acquire, reads, Acquire fence, loads it again.
#![expect(unsafe_code, reason = "a tree of nodes that point at each other")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "every step of a walk reads a node that the index keeps valid"
)]

mod change;
mod node;
mod nodes;

pub use nodes::{Nodes, Supply, Wanted};

use core::ffi::c_ulong;
use core::ptr::{self, NonNull};

use crate::abi::types::interval_tree_node as Interval;
use crate::sync::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence::fence};
use node::Node;

/// Nodes above a leaf from which on a tree, with its intervals, will hardly be in the nearest caches: what will be read is
/// fetched ahead, all at a time, not each when the one before it is there.
const LARGE: usize = 2;

/// An ordered set of intervals.
#[derive(Debug)]
#[repr(align(64))]
pub struct Index {
    /// Even, or odd during a change.
    version: AtomicU64,
    /// NULL, or the node that has all others below it.
    root: AtomicPtr<Node>,
    /// Nodes above a leaf.
    height: AtomicUsize,
}

/// The index as it was at some moment: an even version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(u64);

/// The index was changed while it was read.
#[derive(Clone, Copy, Debug)]
pub struct Changed;

/// Where an interval stands in the tree.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    leaf: NonNull<Node>,
    at: usize,
}

impl Version {
    /// Changes that had been made by then.
    #[inline]
    pub fn changes(self) -> u64 {
        self.0 / 2
    }
}

/// Marks `interval` as "empty": in no index (RB_EMPTY_NODE).
///
/// # Safety
/// `interval` is valid and in no index.
pub unsafe fn clear(interval: *mut Interval) {
    // SAFETY: The caller's promise.
    unsafe { (*interval).rb.__rb_parent_color = interval.expose_provenance() as c_ulong };
}

/// The mark that [`Index::insert`] gave to `interval`.
///
/// # Safety
/// `interval` is in an index.
#[inline]
pub unsafe fn mark(interval: *const Interval) -> u8 {
    // SAFETY: The caller's promise.
    unsafe { (*interval).rb.__rb_parent_color as u8 }
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl Index {
    /// An empty index.
    pub const fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            root: AtomicPtr::new(ptr::null_mut()),
            height: AtomicUsize::new(0),
        }
    }

    /// The present version, unless a change is under way.
    #[inline]
    pub fn version(&self) -> Result<Version, Changed> {
        // ORDERING: Acquire pairs with the Release in `end_change`.
        let version = self.version.load(Ordering::Acquire);
        if version & 1 == 0 {
            Ok(Version(version))
        } else {
            Err(Changed)
        }
    }

    /// Is what was read since `version` was taken all of that version?
    #[inline]
    pub fn is_still(&self, version: Version) -> bool {
        // ORDERING: Acquire pairs with the Release fence in `begin_change`: whoever has read a word of a later change sees its
        // odd version.
        fence(Ordering::Acquire);
        // ORDERING: Relaxed: ordered by the fence.
        self.version.load(Ordering::Relaxed) == version.0
    }

    /// As [`Index::is_still`], or has just one change begun, and not ended, since?
    #[inline]
    pub fn is_still_or_changing(&self, version: Version) -> bool {
        // ORDERING: Acquire: as in `is_still`.
        fence(Ordering::Acquire);
        // ORDERING: Relaxed: as in `is_still`.
        self.version.load(Ordering::Relaxed) & !1 == version.0
    }

    /// The first interval, in order, that intersects the closed interval `[start, last]`. The answer is worth something only if
    /// the index [`is_still`](Index::is_still) `version` afterwards.
    ///
    /// # Errors
    /// The index has changed.
    #[inline]
    pub fn first(
        &self,
        version: Version,
        start: c_ulong,
        last: c_ulong,
    ) -> Result<Option<Cursor>, Changed> {
        // ORDERING: Relaxed, both: the version orders them.
        let mut node = self.root.load(Ordering::Relaxed).cast_const();
        let height = self.height.load(Ordering::Relaxed);
        let mut level = height;
        loop {
            if !self.is_still(version) {
                return Err(Changed);
            }
            if height >= LARGE {
                node::prefetch(node);
            }
            // SAFETY: The pointer was one of this version, and nodes stay valid as long as the index.
            let Some(known) = (unsafe { node.as_ref() }) else {
                return Ok(None);
            };
            let at = known.first_reaching(0, start);
            // ORDERING: Relaxed: the version orders it.
            if at >= known.len() || known.start[at].load(Ordering::Relaxed) > last {
                return Ok(None);
            }
            if level == 0 {
                if height >= LARGE {
                    known.prefetch_intervals(at, last);
                }
                return Ok(Some(known.cursor(at)));
            }
            level -= 1;
            // ORDERING: Relaxed: as above.
            node = known.entry[at].load(Ordering::Relaxed).cast_const().cast();
        }
    }

    /// As [`Index::first`], for a caller who knows that the index does not change meanwhile.
    pub fn first_unchanging(&self, start: c_ulong, last: c_ulong) -> Option<Cursor> {
        // ORDERING: Relaxed: no change can begin, and what came before is ordered by how the caller knows.
        let version = Version(self.version.load(Ordering::Relaxed));
        self.first(version, start, last).ok().flatten()
    }
}

impl Cursor {
    /// The interval.
    ///
    /// # Safety
    /// The index has not changed since the cursor was found.
    #[inline]
    pub unsafe fn interval(self) -> *mut Interval {
        // SAFETY: The caller's promise.
        // ORDERING: Relaxed: as in the module comment.
        unsafe {
            self.leaf.as_ref().entry[self.at]
                .load(Ordering::Relaxed)
                .cast()
        }
    }

    /// The interval that follows, in order, among those that intersect `[start, last]`.
    ///
    /// # Safety
    /// As for `interval`.
    #[inline]
    pub unsafe fn next(self, start: c_ulong, last: c_ulong) -> Option<Self> {
        // SAFETY: The caller's promise: nodes of one tree.
        let leaf = unsafe { self.leaf.as_ref() };
        let mut at = self.at + 1;
        // Mostly it is the next one.
        // ORDERING: Relaxed: as in the module comment.
        if at < leaf.len() && leaf.last[at].load(Ordering::Relaxed) < start {
            at = leaf.first_reaching(at + 1, start);
        }
        if at < leaf.len() {
            // ORDERING: Relaxed: as in the module comment.
            let overlaps = leaf.start[at].load(Ordering::Relaxed) <= last;
            return overlaps.then_some(Self { at, ..self });
        }
        // SAFETY: As above.
        unsafe { next_leaf(leaf, start, last) }
    }
}

/// The first interval behind `leaf` that intersects `[start, last]`.
#[cold]
unsafe fn next_leaf(leaf: &Node, start: c_ulong, last: c_ulong) -> Option<Cursor> {
    let mut below = ptr::from_ref(leaf);
    let mut level = 0;
    // SAFETY: The caller passes a leaf of a tree that does not change: its ancestors are valid.
    unsafe {
        // Up, to the first ancestor that has something further right that reaches the range.
        let (mut node, mut at) = loop {
            // ORDERING: Relaxed, here and below: as in the module comment.
            let parent = (*below).parent.load(Ordering::Relaxed).as_ref()?;
            level += 1;
            let own = parent.place_of(below.cast())?;
            let at = parent.first_reaching(own + 1, start);
            if at < parent.len() {
                break (parent, at);
            }
            below = parent;
        };
        // Down again, always to the first child that reaches it.
        loop {
            if node.start[at].load(Ordering::Relaxed) > last {
                return None;
            }
            if level == 0 {
                node.prefetch_intervals(at, last);
                return Some(node.cursor(at));
            }
            level -= 1;
            node = &*node.entry[at].load(Ordering::Relaxed).cast::<Node>();
            node::prefetch(node);
            at = node.first_reaching(0, start);
        }
    }
}

#[cfg(test)]
mod tests;
