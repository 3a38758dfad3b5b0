//! All that is known here of the library's index: to be changed with it.
#![expect(unsafe_code, reason = "the index is intrusive")]

use std::cell::UnsafeCell;
use std::ptr;

use mmu_notifier::abi::types::{interval_tree_node, rb_node};
use mmu_notifier::index::{self, Cursor, Index, Nodes, Supply};

/// Names an interval that was inserted.
pub(super) type Id = usize;

/// An index, the memory of its nodes, and its intervals, which stay where they are until the end: the vector never grows beyond
/// its capacity.
pub(super) struct Library {
    index: Index,
    nodes: Nodes,
    intervals: Vec<UnsafeCell<interval_tree_node>>,
}

impl Library {
    /// With room for so many intervals, counted from the beginning.
    pub(super) fn new(room: usize) -> Self {
        Self {
            index: Index::new(),
            nodes: Nodes::new(),
            intervals: Vec::with_capacity(room),
        }
    }

    pub(super) fn insert(&mut self, start: u64, last: u64, mark: u8) -> Id {
        let rb = rb_node {
            __rb_parent_color: 0,
            rb_right: ptr::null_mut(),
            rb_left: ptr::null_mut(),
        };
        let interval = interval_tree_node {
            rb,
            start,
            last,
            __subtree_last: 0,
        };
        let id = self.intervals.len();
        assert!(id < self.intervals.capacity());
        self.intervals.push(UnsafeCell::new(interval));
        let interval = self.interval(id);
        // SAFETY: It is new, and valid until `self` is dropped.
        unsafe { index::clear(interval) };
        assert!(self.reads_as_empty(id));
        if let Err(wanted) = self.nodes.has(self.index.nodes_for_insert()) {
            self.nodes.add(Supply::new(wanted).expect("memory"));
        }
        self.index.begin_change();
        // SAFETY: As above; it is in no index; the nodes are there.
        unsafe { self.index.insert(&mut self.nodes, interval, mark) };
        self.index.end_change();
        assert!(!self.reads_as_empty(id));
        id
    }

    /// Of one that is in the index.
    pub(super) fn remove(&mut self, id: Id) {
        let interval = self.interval(id);
        self.index.begin_change();
        // SAFETY: It is in the index, says the caller.
        unsafe { self.index.remove(&mut self.nodes, interval) };
        self.index.end_change();
        // IR-9
        assert!(!self.reads_as_empty(id));
    }

    pub(super) fn first(&self, start: u64, last: u64) -> Option<Id> {
        let first = self.index.first_unchanging(start, last);
        first.map(|cursor| self.id_at(cursor))
    }

    /// Of one that is in the index, and intersects `[start, last]` or precedes one that does.
    pub(super) fn next(&self, id: Id, start: u64, last: u64) -> Option<Id> {
        // SAFETY: The index does not change.
        let next = unsafe { self.cursor_of(id).next(start, last) };
        next.map(|cursor| self.id_at(cursor))
    }

    /// Where one stands that is in the index: among those that intersect its first byte.
    fn cursor_of(&self, id: Id) -> Cursor {
        // SAFETY: The interval is valid.
        let start = unsafe { (*self.interval(id)).start };
        let mut at = self.index.first_unchanging(start, start);
        while let Some(cursor) = at {
            if self.id_at(cursor) == id {
                return cursor;
            }
            // SAFETY: The index does not change.
            at = unsafe { cursor.next(start, start) };
        }
        panic!("the interval {id} is not found where it stands");
    }

    /// Of one that is in the index.
    pub(super) fn mark(&self, id: Id) -> u8 {
        // SAFETY: It is in the index, says the caller.
        unsafe { index::mark(self.interval(id)) }
    }

    fn interval(&self, id: Id) -> *mut interval_tree_node {
        self.intervals[id].get()
    }

    fn id_at(&self, cursor: Cursor) -> Id {
        // SAFETY: The index does not change between the search and this.
        let interval = unsafe { cursor.interval() };
        let offset = interval.addr().wrapping_sub(self.intervals.as_ptr().addr());
        let id = offset / size_of::<interval_tree_node>();
        assert!(id < self.intervals.len(), "an interval of nobody's");
        id
    }

    /// `RB_EMPTY_NODE`
    fn reads_as_empty(&self, id: Id) -> bool {
        let interval = self.interval(id);
        // SAFETY: The interval is valid.
        unsafe { (*interval).rb.__rb_parent_color == interval.addr() as u64 }
    }
}
