//! The index against a sorted vector.

use super::*;
use crate::abi::types::rb_node;

/// A small deterministic generator: the seed is the test's name for its run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn node(start: c_ulong, last: c_ulong) -> *mut Interval {
    let rb = rb_node {
        __rb_parent_color: 0,
        rb_right: ptr::null_mut(),
        rb_left: ptr::null_mut(),
    };
    Box::into_raw(Box::new(Interval {
        rb,
        start,
        last,
        __subtree_last: 0,
    }))
}

/// RB_EMPTY_NODE.
unsafe fn reads_as_empty(node: *const Interval) -> bool {
    // SAFETY: The tests pass nodes of their own.
    unsafe { (*node).rb.__rb_parent_color == node.addr() as c_ulong }
}

fn bounds(node: *mut Interval) -> (c_ulong, c_ulong) {
    // SAFETY: The tests keep their nodes.
    unsafe { ((*node).start, (*node).last) }
}

/// Most have the same one.
fn mark_of((start, last): (c_ulong, c_ulong)) -> u64 {
    if (start ^ last) % 50 == 0 { 8 } else { 3 }
}

/// An index with its nodes, as its owner has them.
struct Owner {
    index: Index,
    nodes: Nodes,
}

impl Owner {
    fn new() -> Self {
        Self {
            index: Index::new(),
            nodes: Nodes::new(),
        }
    }

    fn insert(&mut self, interval: *mut Interval) {
        if let Err(wanted) = self.nodes.has(self.index.nodes_for_insert()) {
            self.nodes.add(Supply::new(wanted).expect("memory"));
        }
        self.index.begin_change();
        // SAFETY: New, and kept until removed.
        unsafe {
            self.index
                .insert(&mut self.nodes, interval, mark_of(bounds(interval)))
        };
        self.index.end_change();
    }

    fn remove(&mut self, interval: *mut Interval) {
        self.index.begin_change();
        // SAFETY: The tests remove what is in the index.
        unsafe { self.index.remove(&mut self.nodes, interval) };
        self.index.end_change();
    }

    fn remove_and_drop(&mut self, interval: *mut Interval) {
        self.remove(interval);
        // SAFETY: Ours, and out of the index.
        drop(unsafe { Box::from_raw(interval) });
    }

    fn overlaps(&self, start: c_ulong, last: c_ulong) -> Vec<*mut Interval> {
        let mut found = Vec::new();
        let mut next = self.index.first_unchanging(start, last);
        while let Some(mut run) = next {
            // SAFETY: The index does not change.
            next = unsafe { run.next(start, last) };
            // SAFETY: As above.
            let common = unsafe { run.mark() };
            // SAFETY: As above.
            while let Some(interval) = unsafe { run.pop() } {
                found.push(interval);
                // SAFETY: In the index.
                let own = unsafe { mark(interval) };
                assert!([own, 0].contains(&common));
                assert_eq!(own, mark_of(bounds(interval)));
            }
        }
        found
    }
}

fn expected(model: &[*mut Interval], start: c_ulong, last: c_ulong) -> Vec<*mut Interval> {
    let hit = |node: &&*mut Interval| bounds(**node).0 <= last && bounds(**node).1 >= start;
    model.iter().filter(hit).copied().collect()
}

/// RS-2, RS-9: ascending start, equal starts in insertion order, for any shape of range.
#[test]
fn rs_2_order_is_that_of_a_sorted_vector() {
    for seed in 1..40 {
        let mut random = Random(seed * 7_919);
        let mut owner = Owner::new();
        let mut model: Vec<*mut Interval> = Vec::new();
        let room = [8, 64, 4096, u64::MAX / 4][usize::try_from(seed % 4).expect("small")];
        for _ in 0..600 {
            if model.is_empty() || random.below(5) < 3 {
                let start = random.below(room);
                let new = node(start, start + random.below(room / 4 + 1));
                let place = model.partition_point(|old| bounds(*old).0 <= start);
                model.insert(place, new);
                owner.insert(new);
            } else {
                let victim = random.below(model.len() as u64);
                let old = model.remove(usize::try_from(victim).expect("small"));
                owner.remove(old);
                // SAFETY: Ours, and out of the index.
                unsafe { assert!(!reads_as_empty(old)) };
                // SAFETY: As above.
                drop(unsafe { Box::from_raw(old) });
            }
            let (start, last) = (random.below(room * 2), random.below(room * 2));
            assert_eq!(
                owner.overlaps(start, last),
                expected(&model, start, last),
                "seed {seed}"
            );
        }
        assert_eq!(owner.overlaps(0, c_ulong::MAX), model);
        for old in model {
            owner.remove_and_drop(old);
        }
    }
}

#[test]
fn iteration_of_many_equal_starts_is_insertion_order() {
    let mut owner = Owner::new();
    let nodes: Vec<_> = (0..1000).map(|n| node(5, 5 + n % 3)).collect();
    for new in &nodes {
        owner.insert(*new);
    }
    assert_eq!(owner.overlaps(5, 5), nodes);
    for old in nodes {
        owner.remove_and_drop(old);
    }
    assert!(owner.overlaps(0, c_ulong::MAX).is_empty());
    let Nodes { spare, total, .. } = owner.nodes;
    assert_eq!(spare, total, "every node has left the tree");
}

#[test]
fn a_cleared_node_reads_as_empty_until_it_is_inserted() {
    let mut owner = Owner::new();
    let new = node(1, 2);
    // SAFETY: Ours.
    unsafe {
        clear(new);
        assert!(reads_as_empty(new));
        owner.insert(new);
        assert!(!reads_as_empty(new));
        owner.remove_and_drop(new);
    }
}
