//! Changes of the tree: insert and remove, under the owner's lock.

use core::ffi::c_void;
use core::ptr;

use super::node::{Entry, FANOUT, Node, end, first, low, prefetch};
use super::vector::ALL;
use super::{Index, Interval, LARGE, Nodes};
use crate::sync::{Ordering, Ordering::Relaxed, fence::fence};

/// A neighbour with so many free places takes half of them from a full node.
const ROOM: usize = 2;
/// What two neighbours may have together to become one: not so many that the next insert would part them.
const TOGETHER: usize = if cfg!(loom) { FANOUT } else { FANOUT * 3 / 4 };

// ORDERING, in this file: Relaxed: one writer at a time; readers are told by the version.

impl Index {
    /// A change begins: readers who come upon it will see that.
    pub fn begin_change(&self) {
        let version = self.version.load(Relaxed);
        debug_assert!(version & 1 == 0, "one change at a time");
        self.version.store(version.wrapping_add(1), Relaxed);
        // ORDERING: Release pairs with the Acquire fence in `is_still`.
        fence(Ordering::Release);
    }

    /// The change is complete.
    pub fn end_change(&self) {
        let version = self.version.load(Relaxed);
        // ORDERING: Release pairs with the Acquire in `version`.
        self.version
            .store(version.wrapping_add(1), Ordering::Release);
    }

    /// Nodes that the next insert may need: one on each level, and a new root.
    pub fn nodes_for_insert(&self) -> usize {
        self.height.load(Relaxed) + 2
    }

    /// Puts `interval` behind all whose start is not greater, with a `mark` that is neither 0 nor its address.
    ///
    /// # Safety
    /// Inside a change. `interval` is valid until it is removed, in no index, and its `start` and `last` are set. `nodes` are
    /// this index's, and have as many as it may need.
    // SPEC: RS-2 DV-12
    pub unsafe fn insert(&self, nodes: &mut Nodes, interval: *mut Interval, mark: u64) {
        // SAFETY: The caller's promise.
        let entry = unsafe {
            (*interval).rb.__rb_parent_color = mark;
            Entry {
                start: (*interval).start,
                last: (*interval).last,
                what: interval.cast(),
            }
        };
        let Some((leaf, before)) = near(nodes, &entry) else {
            self.insert_anywhere(nodes, entry, mark);
            return;
        };
        note_mark(leaf, mark);
        leaf.open(before, entry);
        set_home(entry.what, leaf, 0);
    }

    /// As [`Index::insert`], wherever the entry belongs.
    #[inline(never)]
    fn insert_anywhere(&self, nodes: &mut Nodes, entry: Entry, mark: u64) {
        let Some((leaf, before)) = self.leaf_for(&entry) else {
            let root = nodes.take();
            // SAFETY: Fresh from `nodes`.
            unsafe {
                (*root).mark.store(mark, Relaxed);
                adopt_alone(root, entry, ptr::null_mut(), 0);
            }
            self.root.store(root, Relaxed);
            return;
        };
        note_mark(leaf, mark);
        nodes.finger = ptr::from_ref(leaf);
        self.put(nodes, leaf, before, entry, 0);
    }

    /// The leaf that has to take `entry`, and what is before it there; the nodes above it know of it already.
    fn leaf_for(&self, entry: &Entry) -> Option<(&Node, u32)> {
        // SAFETY: Nodes of the tree are valid.
        let mut node = unsafe { self.root.load(Relaxed).as_ref() }?;
        let height = self.height.load(Relaxed);
        for _ in 0..height {
            let at = match node.not_after(entry.start) {
                0 => first(node.taken()),
                before => end(before) - 1,
            };
            if entry.start < node.start[at].load(Relaxed) {
                node.start[at].store(entry.start, Relaxed);
            }
            if entry.last > node.last[at].load(Relaxed) {
                node.last[at].store(entry.last, Relaxed);
            }
            let below = node.entry[at].load(Relaxed).cast::<Node>();
            if height >= LARGE {
                prefetch(below);
            }
            // SAFETY: An entry of an inner node is a node.
            node = unsafe { &*below };
        }
        Some((node, node.not_after(entry.start)))
    }

    /// Puts `entry` behind those at `before` in `node`, `level` levels above the leaves.
    fn put(&self, nodes: &mut Nodes, node: &Node, before: u32, entry: Entry, level: usize) {
        if node.taken() == ALL {
            self.put_into_full(nodes, node, end(before), entry, level);
        } else {
            node.open(before, entry);
            set_home(entry.what, node, level);
        }
    }

    /// As [`Index::put`], at place `at` of a full node.
    #[cold]
    fn put_into_full(&self, nodes: &mut Nodes, node: &Node, at: usize, entry: Entry, level: usize) {
        if !share(node, at, entry, level) {
            self.split(nodes, node, at, entry, level);
        }
    }

    /// As [`Index::put_into_full`]: the node is split.
    fn split(&self, nodes: &mut Nodes, node: &Node, at: usize, entry: Entry, level: usize) {
        let right = nodes.take();
        let parent = node.parent.load(Relaxed);
        // SAFETY: Fresh from `nodes`.
        let right = unsafe {
            (*right).parent.store(parent, Relaxed);
            (*right).mark.store(node.mark.load(Relaxed), Relaxed);
            &*right
        };
        // Intervals that come in ascending order leave full nodes behind.
        let keep = if at == FANOUT { FANOUT } else { FANOUT / 2 };
        for i in keep..FANOUT {
            move_entry(node.get(i), right, i - keep, level);
        }
        node.cut(keep);
        let (half, at) = if at < keep || (at == keep && at < FANOUT) {
            (node, at)
        } else {
            (right, at - keep)
        };
        half.open(low(at), entry);
        set_home(entry.what, half, level);
        self.add_right(nodes, node, right, level);
    }

    /// `right` was split off from `left`: tells the node above, or makes one.
    fn add_right(&self, nodes: &mut Nodes, left: &Node, right: &Node, level: usize) {
        // SAFETY: NULL, or a node of the tree.
        let parent = unsafe { left.parent.load(Relaxed).as_ref() };
        let Some(parent) = parent else {
            let root = nodes.take();
            // SAFETY: Fresh from `nodes`.
            unsafe {
                adopt_alone(root, left.summary(), ptr::null_mut(), level + 1);
                (*root).fill(1, right.summary());
            }
            right.parent.store(root, Relaxed);
            self.root.store(root, Relaxed);
            self.height.store(level + 1, Relaxed);
            return;
        };
        let at = place(parent, left);
        parent.set(at, left.summary());
        let before = parent.taken() & low(at + 1);
        self.put(nodes, parent, before, right.summary(), level + 1);
    }

    /// Takes `interval` out.
    ///
    /// # Safety
    /// Inside a change. `interval` is in this index, `nodes` are its.
    pub unsafe fn remove(&self, nodes: &mut Nodes, interval: *mut Interval) {
        // SAFETY: The caller's promise; its leaf is a node of the tree.
        let leaf = unsafe { &*(*interval).rb.rb_left.cast::<Node>() };
        let at = leaf.place_of(interval.cast()).unwrap_or(FANOUT);
        assert!(at < FANOUT, "an interval knows its leaf");
        nodes.finger = ptr::from_ref(leaf);
        // Before the change: the processor would have to wait for its stores.
        let reaching = leaf.reaching(leaf.last[at].load(Relaxed));
        leaf.close(at);
        let others_reach = reaching != 1 << at;
        if leaf.has_few() || !others_reach {
            self.shrink(nodes, leaf, 0);
        }
    }

    /// `node`, `level` levels above the leaves, has lost an entry: tells the nodes above, as far as that concerns them.
    #[inline(never)]
    fn shrink(&self, nodes: &mut Nodes, node: &Node, level: usize) {
        // SAFETY: NULL, or a node of the tree.
        let Some(parent) = (unsafe { node.parent.load(Relaxed).as_ref() }) else {
            self.shrink_root(nodes, node, level);
            return;
        };
        let at = place(parent, node);
        if node.taken() == 0 {
            parent.close(at);
            nodes.give(ptr::from_ref(node).cast_mut());
        } else if node.has_few() && merge(nodes, parent, at, level) {
            // Two entries of the parent have become one.
        } else {
            let last = node.greatest_last();
            if parent.last[at].load(Relaxed) == last {
                return;
            }
            parent.last[at].store(last, Relaxed);
        }
        self.shrink(nodes, parent, level + 1);
    }

    /// The root has lost an entry: an empty one goes, and so does an inner one with one child.
    fn shrink_root(&self, nodes: &mut Nodes, root: &Node, level: usize) {
        let only = match (root.len(), level) {
            (0, _) => ptr::null_mut(),
            (1, 1..) => root.entry[first(root.taken())].load(Relaxed).cast::<Node>(),
            _ => return,
        };
        self.root.store(only, Relaxed);
        self.height.store(level.saturating_sub(1), Relaxed);
        nodes.give(ptr::from_ref(root).cast_mut());
        if only.is_null() {
            nodes.renew();
        }
        // SAFETY: NULL, or a node of the tree.
        if let Some(only) = unsafe { only.as_ref() } {
            only.parent.store(ptr::null_mut(), Relaxed);
            self.shrink_root(nodes, only, level - 1);
        }
    }
}

/// The leaf of the last change and what is before `entry` there, if it has room, something is before and behind the entry, and it
/// reaches no further than another: so no node above need be told. What was removed is often inserted again, somewhere near.
#[inline]
fn near<'a>(nodes: &Nodes, entry: &Entry) -> Option<(&'a Node, u32)> {
    // SAFETY: NULL, or a leaf of the tree: a node that leaves it is forgotten.
    let leaf = unsafe { nodes.finger.as_ref() }?;
    let (before, taken) = (leaf.not_after(entry.start), leaf.taken());
    let inside = before != 0 && before != taken && taken != ALL;
    (inside && leaf.reaching(entry.last) != 0).then_some((leaf, before))
}

/// As [`Index::put_into_full`]: part of the node goes to a neighbour that has room, so that nodes are full before there are more of
/// them. False, with nothing done, if there is none.
fn share(node: &Node, at: usize, entry: Entry, level: usize) -> bool {
    // SAFETY: NULL, or a node of the tree.
    let Some(parent) = (unsafe { node.parent.load(Relaxed).as_ref() }) else {
        return false;
    };
    let own = place(parent, node);
    let room = |at: &usize| FANOUT - child(parent, *at).len();
    let has_room = |at: &usize| room(at) >= ROOM;
    // The other one takes half of the difference: the place of the entry among those of both, and how many the left one is to
    // have of them.
    let (left_at, right_at, at, keep) = if let Some(other) = parent.before(own).filter(has_room) {
        let len = FANOUT - room(&other);
        (other, own, len + at, len + room(&other) / 2)
    } else if let Some(other) = parent.behind(own).filter(has_room) {
        (own, other, at, FANOUT - room(&other) / 2)
    } else {
        return false;
    };
    let (left, right) = (child(parent, left_at), child(parent, right_at));
    move_border(left, right, keep, level);
    let (node, at) = if at < keep || (at == keep && left_at == own) {
        (left, at)
    } else {
        (right, at - keep)
    };
    node.open(low(at), entry);
    set_home(entry.what, node, level);
    parent.set(left_at, left.summary());
    parent.set(right_at, right.summary());
    true
}

/// Moves entries between neighbours so that `left` has `keep` of them. All are at the first places then.
fn move_border(left: &Node, right: &Node, keep: usize, level: usize) {
    let (before, behind) = (left.pack(), right.pack());
    if left.mark.load(Relaxed) != right.mark.load(Relaxed) {
        left.mark.store(0, Relaxed);
        right.mark.store(0, Relaxed);
    }
    if before < keep {
        let moved = keep - before;
        for i in 0..moved {
            move_entry(right.get(i), left, before + i, level);
        }
        for i in moved..behind {
            right.set(i - moved, right.get(i));
        }
        right.cut(behind - moved);
    } else {
        let moved = before - keep;
        for i in (0..behind).rev() {
            right.fill(i + moved, right.get(i));
        }
        for i in 0..moved {
            move_entry(left.get(keep + i), right, i, level);
        }
        left.cut(keep);
    }
}

/// The child at `at` of an inner node.
fn child(parent: &Node, at: usize) -> &Node {
    // SAFETY: An entry of an inner node is a node, and valid as long as the index.
    unsafe { &*parent.entry[at].load(Relaxed).cast::<Node>() }
}

/// Merges the child at `at` of `parent` with a neighbour, if there is one with room.
fn merge(nodes: &mut Nodes, parent: &Node, at: usize, level: usize) -> bool {
    let fits = |(left, right): &(usize, usize)| {
        child(parent, *left).len() + child(parent, *right).len() <= TOGETHER
    };
    let with_behind = parent.behind(at).map(|behind| (at, behind));
    let with_before = parent.before(at).map(|before| (before, at));
    let mut pairs = with_behind.into_iter().chain(with_before);
    let Some((left_at, right_at)) = pairs.find(fits) else {
        return false;
    };
    let (left, right) = (child(parent, left_at), child(parent, right_at));
    move_border(left, right, left.len() + right.len(), level);
    parent.set(left_at, left.summary());
    parent.close(right_at);
    nodes.give(ptr::from_ref(right).cast_mut());
    true
}

/// Puts `entry`, from elsewhere, at place `at` of `node`.
fn move_entry(entry: Entry, node: &Node, at: usize, level: usize) {
    node.fill(at, entry);
    set_home(entry.what, node, level);
}

/// An interval with `mark` comes into `leaf`.
fn note_mark(leaf: &Node, mark: u64) {
    if leaf.mark.load(Relaxed) != mark {
        leaf.mark.store(0, Relaxed);
    }
}

/// What stands in a node of this level now lives in `node`.
fn set_home(what: *mut c_void, node: &Node, level: usize) {
    let node = ptr::from_ref(node).cast_mut();
    // SAFETY: Entries of leaves are intervals, those of inner nodes are nodes; all of them are valid.
    unsafe {
        if level == 0 {
            (*what.cast::<Interval>()).rb.rb_left = node.cast();
        } else {
            (*what.cast::<Node>()).parent.store(node, Relaxed);
        }
    }
}

/// Makes `node` one that holds `entry` alone.
unsafe fn adopt_alone(node: *mut Node, entry: Entry, parent: *mut Node, level: usize) {
    // SAFETY: The caller passes a node of its own.
    let node = unsafe { &*node };
    node.parent.store(parent, Relaxed);
    move_entry(entry, node, 0, level);
}

/// Where `child` stands in its parent.
fn place(parent: &Node, child: &Node) -> usize {
    let at = parent.place_of(ptr::from_ref(child).cast());
    at.expect("a node stands in its parent")
}
