//! Helper types that the public structs are made of (SPEC 1.6, "Helper types").
//!
//! Their C twins stand in the header where the kernel has them (`linux/types.h`, `linux/rbtree_types.h`, ...).

use core::ffi::{c_int, c_ulong};

use super::layout;
use crate::sync::AtomicI32;

/// `atomic_t`: read and written by both languages, hence a real atomic.
#[repr(transparent)]
#[derive(Debug)]
pub struct atomic_t {
    /// The value.
    pub counter: AtomicI32,
}

/// `pte_t`, passed by value.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pte_t {
    /// The entry's bits.
    pub pte: c_ulong,
}

/// `struct hlist_node`.
#[repr(C)]
#[derive(Debug)]
pub struct hlist_node {
    /// The node that follows, or NULL.
    pub next: *mut hlist_node,
    /// The pointer that points here; NULL iff unhashed.
    pub pprev: *mut *mut hlist_node,
}

/// `struct hlist_head`.
#[repr(C)]
#[derive(Debug)]
pub struct hlist_head {
    /// The first node, or NULL.
    pub first: *mut hlist_node,
}

/// `struct llist_node`.
#[repr(C)]
#[derive(Debug)]
pub struct llist_node {
    /// The node that follows, or NULL.
    pub next: *mut llist_node,
}

/// `struct callback_head`, which the kernel also calls `struct rcu_head`.
#[repr(C)]
#[derive(Debug)]
pub struct callback_head {
    /// The next callback of a queue.
    pub next: *mut callback_head,
    /// What to call after a grace period.
    pub func: Option<unsafe extern "C" fn(head: *mut callback_head)>,
}

/// `struct rb_node`. The index of an mm uses the three words as it likes; only "empty" is visible to drivers.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct rb_node {
    /// Equal to the node's own address iff the node is "empty".
    pub __rb_parent_color: c_ulong,
    /// Right child.
    pub rb_right: *mut rb_node,
    /// Left child.
    pub rb_left: *mut rb_node,
}

/// `struct interval_tree_node`: the closed interval `[start, last]`, in bytes.
#[repr(C)]
#[derive(Debug)]
pub struct interval_tree_node {
    /// Links of the index.
    pub rb: rb_node,
    /// First byte.
    pub start: c_ulong,
    /// Last byte, inclusive.
    pub last: c_ulong,
    /// Greatest `last` below this node.
    pub __subtree_last: c_ulong,
}

/// `LIST_POISON1` of x86_64: `next` of a deleted node, and `notifier_subscriptions` of a dead mm (DS-1).
pub const LIST_POISON1: usize = 0xdead_0000_0000_0100;
/// `LIST_POISON2` of x86_64: `pprev` of a deleted node.
pub const LIST_POISON2: usize = 0xdead_0000_0000_0122;

const _: () = assert!(size_of::<c_int>() == 4);

layout! {
    "atomic_t" atomic_t: size 4, align 4 {}
    "pte_t" pte_t: size 8, align 8 { pte @ 0 }
    "struct hlist_node" hlist_node: size 16, align 8 { next @ 0, pprev @ 8 }
    "struct hlist_head" hlist_head: size 8, align 8 { first @ 0 }
    "struct llist_node" llist_node: size 8, align 8 { next @ 0 }
    "struct callback_head" callback_head: size 16, align 8 { next @ 0, func @ 8 }
    "struct rb_node" rb_node: size 24, align 8 { __rb_parent_color @ 0, rb_right @ 8, rb_left @ 16 }
    "struct interval_tree_node" interval_tree_node: size 48, align 8 { rb @ 0, start @ 24, last @ 32, __subtree_last @ 40 }
}
