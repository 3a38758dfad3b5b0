//! The index against a sorted vector.

use super::*;

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

fn node(start: c_ulong, last: c_ulong) -> *mut Node {
    let rb = rb_node {
        __rb_parent_color: 0,
        rb_right: ptr::null_mut(),
        rb_left: ptr::null_mut(),
    };
    Box::into_raw(Box::new(Node {
        rb,
        start,
        last,
        __subtree_last: 0,
    }))
}

/// RB_EMPTY_NODE.
unsafe fn reads_as_empty(node: *const Node) -> bool {
    // SAFETY: The tests pass nodes of their own.
    unsafe { (*node).rb.__rb_parent_color == node.addr() as c_ulong }
}

fn bounds(node: *mut Node) -> (c_ulong, c_ulong) {
    // SAFETY: The tests keep their nodes.
    unsafe { ((*node).start, (*node).last) }
}

fn overlaps(index: &Index, start: c_ulong, last: c_ulong) -> Vec<*mut Node> {
    let mut found = Vec::new();
    let mut at = index.first(start, last);
    while !at.is_null() {
        found.push(at);
        // SAFETY: In the index.
        assert_eq!(unsafe { mark(at) }, 3);
        // SAFETY: The index does not change.
        at = unsafe { next(at, start, last) };
    }
    found
}

fn expected(model: &[*mut Node], start: c_ulong, last: c_ulong) -> Vec<*mut Node> {
    let hit = |node: &&*mut Node| bounds(**node).0 <= last && bounds(**node).1 >= start;
    model.iter().filter(hit).copied().collect()
}

/// RS-2, RS-9: ascending start, equal starts in insertion order, for any shape of range.
#[test]
fn rs_2_order_is_that_of_a_sorted_vector() {
    for seed in 1..40 {
        let mut random = Random(seed * 7_919);
        let mut index = Index::new();
        let mut model: Vec<*mut Node> = Vec::new();
        let room = [8, 64, 4096][usize::try_from(seed % 3).expect("small")];
        for _ in 0..600 {
            if model.is_empty() || random.below(5) < 3 {
                let start = random.below(room);
                let new = node(start, start + random.below(room / 4 + 1));
                let place = model.partition_point(|old| bounds(*old).0 <= start);
                model.insert(place, new);
                // SAFETY: New and kept until removed.
                unsafe { index.insert(new, 3) };
            } else {
                let victim = random.below(model.len() as u64);
                let old = model.remove(usize::try_from(victim).expect("small"));
                // SAFETY: It is in the index.
                unsafe { index.remove(old) };
                // SAFETY: Ours, and out of the index.
                unsafe { assert!(!reads_as_empty(old)) };
                // SAFETY: As above.
                drop(unsafe { Box::from_raw(old) });
            }
            let (start, last) = (random.below(room * 2), random.below(room * 2));
            assert_eq!(
                overlaps(&index, start, last),
                expected(&model, start, last),
                "seed {seed}"
            );
        }
        assert_eq!(overlaps(&index, 0, c_ulong::MAX), model);
        for old in model {
            // SAFETY: It is in the index, and ours.
            unsafe {
                index.remove(old);
                drop(Box::from_raw(old));
            }
        }
    }
}

#[test]
fn iteration_of_many_equal_starts_is_insertion_order() {
    let mut index = Index::new();
    let nodes: Vec<_> = (0..1000).map(|n| node(5, 5 + n % 3)).collect();
    for new in &nodes {
        // SAFETY: New and kept.
        unsafe { index.insert(*new, 3) };
    }
    assert_eq!(overlaps(&index, 5, 5), nodes);
    for old in nodes {
        // SAFETY: It is in the index, and ours.
        unsafe {
            index.remove(old);
            drop(Box::from_raw(old));
        }
    }
    assert!(index.first(0, c_ulong::MAX).is_null());
}

#[test]
fn a_cleared_node_reads_as_empty_until_it_is_inserted() {
    let mut index = Index::new();
    let new = node(1, 2);
    // SAFETY: Ours.
    unsafe {
        clear(new);
        assert!(reads_as_empty(new));
        index.insert(new, 3);
        assert!(!reads_as_empty(new));
        index.remove(new);
        drop(Box::from_raw(new));
    }
}
