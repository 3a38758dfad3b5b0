//! Finds the intervals that a range touches (floor 2).
//!
//! Owns: a B+-tree beside the intervals, the memory of its nodes ([`Nodes`]), and three words in each
//! `interval_tree_node` that is in the tree: `__rb_parent_color` is the interval's mark, `rb_left` its leaf, and `rb_right` is
//! left to the owner of the interval. `start` and `last` are set before an interval is inserted and do not change while it is in.
//!
//! Four verbs: insert, remove, first overlaps, next overlaps. Order is ascending start; equal starts stand in insertion order.
//!
//! Each entry of an inner node knows a bound of the `start`s and the greatest `last` below it. The first overlap is found on one
//! path: the first child that reaches the range holds it, or nobody does, for if all that reach the range there start behind it,
//! so does everything that follows. Searches touch no interval; what they find comes leaf by leaf, as runs.
//!
//! Readers and writers. One writer at a time, under the owner's lock; it brackets each change by [`Index::begin_change`] and
//! [`Index::end_change`], which make `version` odd and even again. Readers need no lock: they take the version, search, and
//! see by the version whether what they saw was one tree (a sequence lock). Nodes stay nodes for ever, so a reader may be
//! wherever it likes; before it follows a pointer it makes sure that the pointer is of its version. A reader who knows that
//! no change can begin may walk on with [`Run::next`].
//!
//! Invariants
//! * In a node: starts ascend; there is at least 1 entry. `last` of an entry is the greatest below it; its `start` is not above
//!   those below it, and not below those of the entry before it.
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
mod vector;

pub use nodes::{Nodes, Supply, Wanted};

use core::ffi::c_ulong;
use core::ptr::{self, NonNull};

use crate::abi::types::interval_tree_node as Interval;
use crate::sync::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence::fence};
use node::{FANOUT, Node};

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

/// Intervals in order, all in one leaf of the tree.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    leaf: NonNull<Node>,
    /// A bit for the place of each.
    places: u32,
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
pub unsafe fn mark(interval: *const Interval) -> u64 {
    // SAFETY: The caller's promise.
    unsafe { (*interval).rb.__rb_parent_color }
}

/// Has the processor fetch the leaf of `interval`, which is about to be removed, if it is in an index.
///
/// # Safety
/// `interval` is valid.
#[inline]
pub unsafe fn prefetch_leaf(interval: *const Interval) {
    // SAFETY: The caller's promise. Any address may be fetched.
    node::prefetch(unsafe { (*interval).rb.rb_left }.cast());
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

    /// The first intervals, in order, that intersect the closed interval `[start, last]`. The answer is worth something only if
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
    ) -> Result<Option<Run>, Changed> {
        // ORDERING: Relaxed, all: the version orders them.
        let root = self.root.load(Ordering::Relaxed).cast_const();
        let height = self.height.load(Ordering::Relaxed);
        if !self.is_still(version) {
            return Err(Changed);
        }
        // SAFETY: NULL, or a node of this version; nodes stay valid as long as the index.
        let Some(mut node) = (unsafe { root.as_ref() }) else {
            return Ok(None);
        };
        for level in (0..height).rev() {
            let reaching = node.reaching(start);
            if reaching == 0 {
                return Ok(None);
            }
            let at = reaching.trailing_zeros() as usize % FANOUT;
            let below: *const Node = node.entry[at].load(Ordering::Relaxed).cast();
            if height >= LARGE {
                prefetch_below(node, level, reaching, last);
            }
            if !self.is_still(version) {
                return Err(Changed);
            }
            // SAFETY: The pointer is one of this version: an entry of an inner node is a node.
            node = unsafe { &*below };
        }
        Ok(Run::new(node, u32::MAX, start, last))
    }

    /// Will intervals hardly be in the nearest caches?
    #[inline]
    pub fn is_large(&self) -> bool {
        // ORDERING: Relaxed: a guess.
        self.height.load(Ordering::Relaxed) >= LARGE
    }

    /// As [`Index::first`], for a caller who knows that the index does not change meanwhile.
    pub fn first_unchanging(&self, start: c_ulong, last: c_ulong) -> Option<Run> {
        // ORDERING: Relaxed: no change can begin, and what came before is ordered by how the caller knows.
        let version = Version(self.version.load(Ordering::Relaxed));
        self.first(version, start, last).ok().flatten()
    }
}

/// Has the processor fetch what a search will read below `node`, `level` levels above the leaves, all at a time: of two leaves, if
/// it may go on in a second one.
#[inline]
fn prefetch_below(node: &Node, level: usize, reaching: u32, last: c_ulong) {
    // ORDERING: Relaxed: as in `first`; anything may be fetched.
    let child = |at: u32| node.entry[at as usize % FANOUT].load(Ordering::Relaxed);
    let first = child(reaching.trailing_zeros()).cast_const().cast();
    if level > 0 {
        node::prefetch_entries(first);
        return;
    }
    node::prefetch(first);
    let others = reaching & (reaching - 1) & node.starting_by(last);
    if others != 0 {
        node::prefetch(child(others.trailing_zeros()).cast_const().cast());
    }
}

impl Run {
    /// What intersects `[start, last]` among `places` of `leaf`, if anything does.
    #[inline(always)]
    fn new(leaf: &Node, places: u32, start: c_ulong, last: c_ulong) -> Option<Self> {
        let reaching = leaf.reaching(start) & places;
        let first = reaching.trailing_zeros() as usize;
        // ORDERING: Relaxed: as in the module comment.
        if reaching == 0 || leaf.start[first % FANOUT].load(Ordering::Relaxed) > last {
            return None;
        }
        Some(Self {
            leaf: leaf.into(),
            places: reaching & leaf.starting_by(last),
        })
    }

    /// The mark that all intervals of the leaf have, or 0.
    ///
    /// # Safety
    /// The index has not changed since the run was found.
    #[inline]
    pub unsafe fn mark(&self) -> u64 {
        // SAFETY: The caller's promise.
        // ORDERING: Relaxed: as in the module comment.
        unsafe { self.leaf.as_ref() }.mark.load(Ordering::Relaxed)
    }

    /// Takes the first interval out of the run.
    ///
    /// # Safety
    /// As for `mark`.
    #[inline(always)]
    pub unsafe fn pop(&mut self) -> Option<*mut Interval> {
        if self.places == 0 {
            return None;
        }
        let at = self.places.trailing_zeros() as usize % FANOUT;
        self.places &= self.places - 1;
        // SAFETY: The caller's promise.
        // ORDERING: Relaxed: as in the module comment.
        let interval = unsafe { self.leaf.as_ref() }.entry[at].load(Ordering::Relaxed);
        Some(interval.cast())
    }

    /// The intervals that follow the leaf's, in order, among those that intersect `[start, last]`.
    ///
    /// # Safety
    /// As for `mark`.
    #[inline]
    pub unsafe fn next(&self, start: c_ulong, last: c_ulong) -> Option<Self> {
        // SAFETY: The caller's promise: nodes of one tree.
        let leaf = unsafe { self.leaf.as_ref() };
        // ORDERING: Relaxed: as in the module comment.
        let greatest = &leaf.start[node::end(leaf.taken()).wrapping_sub(1) % FANOUT];
        if greatest.load(Ordering::Relaxed) > last {
            return None;
        }
        // SAFETY: As above.
        unsafe { next_run(leaf, start, last) }
    }

    /// Has the processor fetch what `offset` bytes from the begin of each interval is: their owner is about to be called.
    #[inline]
    pub fn prefetch(mut self, offset: usize) {
        // SAFETY: Whatever is there in place of an interval may be fetched.
        while let Some(interval) = unsafe { self.pop() } {
            node::fetch(interval.wrapping_byte_add(offset).cast());
        }
    }
}

/// The first intervals behind `leaf` that intersect `[start, last]`.
#[inline(never)]
unsafe fn next_run(leaf: &Node, start: c_ulong, last: c_ulong) -> Option<Run> {
    let mut below = ptr::from_ref(leaf);
    let mut level = 0;
    // SAFETY: The caller passes a leaf of a tree that does not change: its ancestors are valid.
    unsafe {
        // Up, to the first ancestor that has something further right that reaches the range.
        let (mut node, mut places) = loop {
            // ORDERING: Relaxed, here and below: as in the module comment.
            let parent = (*below).parent.load(Ordering::Relaxed).as_ref()?;
            level += 1;
            let behind = vector::ALL << parent.place_of(below.cast())? << 1;
            let places = parent.reaching(start) & behind;
            if places != 0 {
                break (parent, places);
            }
            below = parent;
        };
        // Down again, always to the first child that reaches it.
        while level > 0 {
            let at = places.trailing_zeros() as usize % FANOUT;
            if node.start[at].load(Ordering::Relaxed) > last {
                return None;
            }
            level -= 1;
            node = &*node.entry[at].load(Ordering::Relaxed).cast::<Node>();
            places = node.reaching(start);
        }
        Run::new(node, places, start, last)
    }
}

#[cfg(test)]
mod tests;
