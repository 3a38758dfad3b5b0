//! All that is known here of the library's index: to be changed with it.
#![expect(unsafe_code, reason = "the index is intrusive")]

use std::cell::UnsafeCell;
use std::ptr;

use mmu_notifier::abi::types::{interval_tree_node, rb_node};
use mmu_notifier::index::{self, Index};

/// Names an interval that was inserted.
pub(super) type Id = usize;

/// An index and its nodes, which stay where they are until the end: the vector never grows beyond its capacity.
pub(super) struct Library {
    index: Index,
    nodes: Vec<UnsafeCell<interval_tree_node>>,
}

impl Library {
    /// With room for so many intervals, counted from the beginning.
    pub(super) fn new(room: usize) -> Self {
        Self {
            index: Index::new(),
            nodes: Vec::with_capacity(room),
        }
    }

    pub(super) fn insert(&mut self, start: u64, last: u64, mark: u8) -> Id {
        let rb = rb_node {
            __rb_parent_color: 0,
            rb_right: ptr::null_mut(),
            rb_left: ptr::null_mut(),
        };
        let node = interval_tree_node {
            rb,
            start,
            last,
            __subtree_last: 0,
        };
        let id = self.nodes.len();
        assert!(id < self.nodes.capacity());
        self.nodes.push(UnsafeCell::new(node));
        // SAFETY: The node is new, and valid until `self` is dropped.
        unsafe { index::clear(self.node(id)) };
        assert!(self.reads_as_empty(id));
        // SAFETY: As above; it is in no index.
        unsafe { self.index.insert(self.node(id), mark) };
        assert!(!self.reads_as_empty(id));
        id
    }

    /// Of one that is in the index.
    pub(super) fn remove(&mut self, id: Id) {
        let node = self.node(id);
        // SAFETY: It is in the index, says the caller.
        unsafe { self.index.remove(node) };
        // IR-9
        assert!(!self.reads_as_empty(id));
    }

    pub(super) fn first(&self, start: u64, last: u64) -> Option<Id> {
        self.id_of(self.index.first(start, last))
    }

    /// Of one that is in the index, and intersects `[start, last]` or precedes one that does.
    pub(super) fn next(&self, id: Id, start: u64, last: u64) -> Option<Id> {
        // SAFETY: It is in the index, says the caller, and the index does not change.
        self.id_of(unsafe { index::next(self.node(id), start, last) })
    }

    /// Of one that is in the index.
    pub(super) fn mark(&self, id: Id) -> u8 {
        // SAFETY: It is in the index, says the caller.
        unsafe { index::mark(self.node(id)) }
    }

    fn node(&self, id: Id) -> *mut interval_tree_node {
        self.nodes[id].get()
    }

    fn id_of(&self, node: *mut interval_tree_node) -> Option<Id> {
        if node.is_null() {
            return None;
        }
        let offset = node.addr().wrapping_sub(self.nodes.as_ptr().addr());
        let id = offset / size_of::<interval_tree_node>();
        assert!(id < self.nodes.len(), "a node of nobody's");
        Some(id)
    }

    /// `RB_EMPTY_NODE`
    fn reads_as_empty(&self, id: Id) -> bool {
        let node = self.node(id);
        // SAFETY: The node is valid.
        unsafe { (*node).rb.__rb_parent_color == node.addr() as u64 }
    }
}
