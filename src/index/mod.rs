//! Finds the intervals that a range touches (floor 2).
//!
//! Owns: the links in `interval_tree_node` (`rb` and `__subtree_last`) of the nodes that are in the index. `start` and
//! `last` are set before a node is inserted and do not change while it is in.
//!
//! Four verbs: insert, remove, first overlap, next overlap. Order is ascending start; equal starts stand in insertion
//! order.
//!
//! A treap: a binary search tree by start, a heap by a number that is hashed from the node's address, hence balanced by
//! chance and without a stored balance. Each node knows the greatest `last` below it, which prunes the search. Nothing
//! allocates and nothing can fail, so a deferred insert (RE-3) cannot fail either.
//!
//! Invariants
//! * In-order: starts ascend; among equal starts, insertion order.
//! * `__subtree_last` is the greatest `last` of the node and its children.
//! * The parent's address is in `__rb_parent_color` (0 for the root), so a node in the index never reads as "empty",
//!   which is the node's own address. A removed node keeps reading as not empty (IR-9).
//! * The low three bits of that word hold a mark, 1 to 7, that the owner of the node gave it.
#![expect(unsafe_code, reason = "an intrusive tree")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "every step of a walk reads a link of a node that the index keeps valid"
)]

use core::ffi::c_ulong;
use core::ptr;

use crate::abi::types::{LIST_POISON1, interval_tree_node as Node, rb_node};

/// An ordered set of intervals. It does no locking of its own.
#[derive(Debug)]
pub struct Index {
    root: *mut Node,
}

/// The bits of `__rb_parent_color` that hold a node's mark: nodes are aligned to 8 bytes.
const MARK: c_ulong = 7;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}
use Side::{Left, Right};

/// Marks `node` as "empty": in no index (RB_EMPTY_NODE).
///
/// # Safety
/// `node` is valid and in no index.
pub unsafe fn clear(node: *mut Node) {
    // SAFETY: The caller's promise.
    unsafe { (*node).rb.__rb_parent_color = node.expose_provenance() as c_ulong };
}

/// The mark that [`Index::insert`] gave to `node`.
///
/// # Safety
/// `node` is in an index.
pub unsafe fn mark(node: *const Node) -> u8 {
    // SAFETY: The caller's promise.
    unsafe { ((*node).rb.__rb_parent_color & MARK) as u8 }
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
            root: ptr::null_mut(),
        }
    }

    /// Puts `node` behind all nodes whose start is not greater, with a `mark` from 1 to 7.
    ///
    /// # Safety
    /// `node` is valid until it is removed, in no index, and its `start` and `last` are set.
    // SPEC: RS-2 DV-12
    pub unsafe fn insert(&mut self, node: *mut Node, mark: u8) {
        // SAFETY: All nodes of the index are valid, and so is `node`.
        unsafe {
            let last = (*node).last;
            let (mut parent, mut side, mut at) = (ptr::null_mut(), Left, self.root);
            while !at.is_null() {
                (*at).__subtree_last = (*at).__subtree_last.max(last);
                side = if (*node).start < (*at).start {
                    Left
                } else {
                    Right
                };
                parent = at;
                at = child(at, side);
            }
            set_child(node, Left, ptr::null_mut());
            set_child(node, Right, ptr::null_mut());
            (*node).__subtree_last = last;
            (*node).rb.__rb_parent_color = c_ulong::from(mark) & MARK;
            self.attach(parent, side, node);
            while !parent.is_null() && priority(node) > priority(parent) {
                self.rotate_up(node);
                parent = parent_of(node);
            }
        }
    }

    /// Takes `node` out.
    ///
    /// # Safety
    /// `node` is in this index.
    pub unsafe fn remove(&mut self, node: *mut Node) {
        // SAFETY: All nodes of the index are valid.
        unsafe {
            while let Some(higher) = higher_child(node) {
                self.rotate_up(higher);
            }
            let mut parent = parent_of(node);
            let side = side_of(parent, node);
            self.attach(parent, side, ptr::null_mut());
            (*node).rb.__rb_parent_color = LIST_POISON1 as c_ulong;
            while !parent.is_null() {
                update_last(parent);
                parent = parent_of(parent);
            }
        }
    }

    /// The first node, in order, that intersects the closed interval `[start, last]`; or NULL.
    pub fn first(&self, start: c_ulong, last: c_ulong) -> *mut Node {
        // SAFETY: All nodes of the index are valid.
        unsafe { first_below(self.root, start, last) }
    }

    /// The root's links changed hands: `child` takes the place at `side` of `parent`, or the root.
    unsafe fn attach(&mut self, parent: *mut Node, side: Side, child: *mut Node) {
        // SAFETY: The caller passes nodes of the index or NULL.
        unsafe {
            if parent.is_null() {
                self.root = child;
            } else {
                set_child(parent, side, child);
            }
            if !child.is_null() {
                let mark = (*child).rb.__rb_parent_color & MARK;
                (*child).rb.__rb_parent_color = parent.expose_provenance() as c_ulong | mark;
            }
        }
    }

    /// Makes `node` the parent of its parent, keeping the order.
    unsafe fn rotate_up(&mut self, node: *mut Node) {
        // SAFETY: The caller passes a node of the index that has a parent.
        unsafe {
            let parent = parent_of(node);
            let grandparent = parent_of(parent);
            let side = side_of(parent, node);
            let parent_side = side_of(grandparent, parent);
            let inner = child(node, side.other());
            self.attach(parent, side, inner);
            self.attach(node, side.other(), parent);
            self.attach(grandparent, parent_side, node);
            update_last(parent);
            update_last(node);
        }
    }
}

impl Side {
    fn other(self) -> Self {
        if self == Left { Right } else { Left }
    }
}

/// The node that follows `node`, in order, among those that intersect `[start, last]`; or NULL.
///
/// # Safety
/// `node` is in an index that does not change meanwhile, and intersects `[start, last]` or precedes one that does.
pub unsafe fn next(node: *mut Node, start: c_ulong, last: c_ulong) -> *mut Node {
    // SAFETY: All nodes of the index are valid.
    unsafe {
        let mut at = node;
        loop {
            let found = first_below(child(at, Right), start, last);
            if !found.is_null() {
                return found;
            }
            // Up to the first ancestor of which we come from the left: it follows in order.
            let mut parent = parent_of(at);
            while !parent.is_null() && side_of(parent, at) == Right {
                at = parent;
                parent = parent_of(at);
            }
            if parent.is_null() || (*parent).start > last {
                return ptr::null_mut();
            }
            if (*parent).last >= start {
                return parent;
            }
            at = parent;
        }
    }
}

/// The first node below `top` that intersects `[start, last]`.
unsafe fn first_below(top: *mut Node, start: c_ulong, last: c_ulong) -> *mut Node {
    let mut at = top;
    // SAFETY: The caller passes a node of an index or NULL.
    unsafe {
        while !at.is_null() && (*at).__subtree_last >= start {
            let left = child(at, Left);
            if !left.is_null() && (*left).__subtree_last >= start {
                // Whatever reaches `start` on the left precedes; if none of them intersects, all of them start behind
                // `last`, and so does the rest.
                at = left;
            } else if (*at).start > last {
                break;
            } else if (*at).last >= start {
                return at;
            } else {
                at = child(at, Right);
            }
        }
    }
    ptr::null_mut()
}

/// Decides who is above whom. Any number that is fixed per node will do; a mixed address is one.
fn priority(node: *mut Node) -> u64 {
    let mixed = (node.addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

unsafe fn child(node: *mut Node, side: Side) -> *mut Node {
    // SAFETY: The caller passes a valid node. `rb` is its first member, so the pointers are the same.
    let link = unsafe {
        if side == Left {
            (*node).rb.rb_left
        } else {
            (*node).rb.rb_right
        }
    };
    link.cast()
}

unsafe fn set_child(node: *mut Node, side: Side, child: *mut Node) {
    let link = child.cast::<rb_node>();
    // SAFETY: The caller passes a valid node.
    unsafe {
        if side == Left {
            (*node).rb.rb_left = link;
        } else {
            (*node).rb.rb_right = link;
        }
    }
}

unsafe fn parent_of(node: *mut Node) -> *mut Node {
    // SAFETY: The caller passes a node of an index, whose word holds its parent's exposed address or 0.
    let word = unsafe { (*node).rb.__rb_parent_color };
    ptr::with_exposed_provenance_mut((word & !MARK) as usize)
}

/// On which side of `parent` (NULL: it does not matter) `node` is.
unsafe fn side_of(parent: *mut Node, node: *mut Node) -> Side {
    // SAFETY: The caller passes a valid node or NULL.
    if !parent.is_null() && unsafe { child(parent, Right) } == node {
        Right
    } else {
        Left
    }
}

/// The child that belongs above the other one, if there is any.
unsafe fn higher_child(node: *mut Node) -> Option<*mut Node> {
    // SAFETY: The caller passes a valid node.
    let (left, right) = unsafe { (child(node, Left), child(node, Right)) };
    match (left.is_null(), right.is_null()) {
        (true, true) => None,
        (false, true) => Some(left),
        (true, false) => Some(right),
        (false, false) => Some(if priority(left) > priority(right) {
            left
        } else {
            right
        }),
    }
}

unsafe fn update_last(node: *mut Node) {
    // SAFETY: The caller passes a node of an index; its children are valid.
    unsafe {
        let mut last = (*node).last;
        for side in [Left, Right] {
            let below = child(node, side);
            if !below.is_null() {
                last = last.max((*below).__subtree_last);
            }
        }
        (*node).__subtree_last = last;
    }
}

#[cfg(test)]
mod tests;
