//! All that is known here of the library's index: to be changed with it.
#![expect(unsafe_code, reason = "the index is intrusive")]

use std::cell::UnsafeCell;
use std::ptr;

use mmu_notifier::abi::types::{interval_tree_node, rb_node};
use mmu_notifier::index::{self, Index, Nodes, Supply};

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

    pub(super) fn insert(&mut self, start: u64, last: u64, mark: u64) -> Id {
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

    /// What intersects `[start, last]`, in order, each with its mark.
    pub(super) fn overlaps(&self, start: u64, last: u64) -> Vec<(Id, u64)> {
        let mut found = Vec::new();
        let mut next = self.index.first_unchanging(start, last);
        while let Some(mut run) = next {
            // SAFETY: The index does not change.
            next = unsafe { run.next(start, last) };
            // SAFETY: As above.
            let common = unsafe { run.mark() };
            // SAFETY: As above.
            while let Some(interval) = unsafe { run.pop() } {
                // SAFETY: As above: in the index.
                let mark = unsafe { index::mark(interval) };
                assert!(common == 0 || common == mark, "a common mark");
                found.push((self.id_of(interval), mark));
            }
        }
        found
    }

    fn interval(&self, id: Id) -> *mut interval_tree_node {
        self.intervals[id].get()
    }

    fn id_of(&self, interval: *mut interval_tree_node) -> Id {
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
