//! The index against a sorted vector.

use super::node::{Entry, places};
use super::*;
use crate::abi::types::rb_node;
use crate::sync::Ordering::Relaxed;
use core::cell::RefCell;
use std::collections::BTreeMap;

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

    /// Each node is as the module comment says, and what the one above knows of it.
    fn check(&self) {
        // SAFETY: The root, and a node of the tree.
        if let Some(root) = unsafe { self.index.root.load(Relaxed).as_ref() } {
            check_node(root, ptr::null_mut(), self.index.height.load(Relaxed));
        }
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

/// Returns the greatest start below `node`.
fn check_node(node: &Node, parent: *mut Node, level: usize) -> c_ulong {
    assert_eq!(node.parent.load(Relaxed), parent);
    assert!(node.taken() != 0 && node.taken() <= vector::ALL);
    let own = ptr::from_ref(node).cast_mut();
    let mut before = 0;
    for at in 0..FANOUT {
        let Entry { start, last, what } = node.get(at);
        if node.taken() >> at & 1 == 0 {
            assert_eq!(last, 0);
            continue;
        }
        assert!(before <= start);
        before = start;
        if level == 0 {
            // SAFETY: An interval of a test, in the tree.
            let interval = unsafe { &*what.cast::<Interval>() };
            assert_eq!(interval.rb.rb_left, own.cast());
            assert_eq!((start, last), (interval.start, interval.last));
        } else {
            // SAFETY: A node of the tree.
            let child = unsafe { &*what.cast::<Node>() };
            before = check_node(child, own, level - 1);
            let known = child.summary();
            assert!(start <= known.start && last == known.last);
        }
    }
    before
}

fn expected(model: &[*mut Interval], start: c_ulong, last: c_ulong) -> Vec<*mut Interval> {
    let hit = |node: &&*mut Interval| bounds(**node).0 <= last && bounds(**node).1 >= start;
    model.iter().filter(hit).copied().collect()
}

/// RS-2, RS-9: ascending start, equal starts in insertion order, for any shape of range.
#[test]
fn rs_2_order_is_that_of_a_sorted_vector() {
    vector::each_level(|| (1..40).for_each(random_changes));
}

/// More and more intervals, then about as many, then fewer: nodes are full, have free places anywhere, split, share and merge.
fn random_changes(seed: u64) {
    let mut random = Random(seed * 7_919);
    let mut owner = Owner::new();
    let mut model: Vec<*mut Interval> = Vec::new();
    let room = [8, 64, 4096, u64::MAX / 4][usize::try_from(seed % 4).expect("small")];
    for step in 0..900 {
        let inserts_of_ten = [8, 5, 2][step / 300];
        if model.is_empty() || random.below(10) < inserts_of_ten {
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
        owner.check();
        let start = random.below(room * 2) * random.below(2);
        let last = random.below(room * 2);
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

/// How often each of these came up.
type Seen = RefCell<BTreeMap<&'static str, u32>>;

#[test]
fn a_node_is_a_vector_wherever_its_free_places_are() {
    let seen = Seen::default();
    vector::each_level(|| {
        for load in [1, 3, 8, 13, 15, 16] {
            (1..20).for_each(|seed| change_a_node(seed * 104_729, load, &seen));
        }
    });
    let seen = seen.into_inner();
    assert_eq!(seen.len(), 8);
    assert!(seen.values().all(|count| *count > 100), "{seen:?}");
}

/// Changes a node that has about `load` entries, some of which start at the same byte.
fn change_a_node(seed: u64, load: usize, seen: &Seen) {
    let mut random = Random(seed);
    // SAFETY: Zeros are a node.
    let node: Node = unsafe { core::mem::zeroed() };
    let mut model: Vec<Entry> = Vec::new();
    for step in 1..200 {
        let change = random.below(9);
        if model.is_empty() || model.len() < load && change < 5 {
            let start = random.below(12);
            let last = start + random.below(4);
            let what = ptr::without_provenance_mut(step * 8);
            let entry = Entry { start, last, what };
            let before = node.not_after(start);
            see_move(seen, node.taken(), before);
            node.open(before, entry);
            model.insert(model.partition_point(|old| old.start <= start), entry);
        } else if change == 8 {
            see(seen, "packed", node.taken() & (node.taken() + 1) != 0);
            assert_eq!(node.pack(), model.len());
            assert_eq!(node.taken(), node::low(model.len()));
        } else {
            let victim = random.below(model.len() as u64);
            let old = model.remove(usize::try_from(victim).expect("small"));
            node.close(node.place_of(old.what).expect("in it"));
            assert_eq!(node.place_of(old.what), None);
        }
        see_node(seen, &node);
        for bound in [0, 1, random.below(16)] {
            compare_node(&node, &model, bound);
        }
    }
}

fn see(seen: &Seen, state: &'static str, is_so: bool) {
    *seen.borrow_mut().entry(state).or_default() += u32::from(is_so);
}

/// Which way entries move to let one in behind those at `before`.
fn see_move(seen: &Seen, taken: u32, before: u32) {
    let at = node::end(before);
    let has_place = at < FANOUT && taken >> at & 1 == 0;
    let free_behind = !taken & vector::ALL & !node::low(at) != 0;
    see(seen, "moved up", !has_place && free_behind);
    see(seen, "moved down", !has_place && !free_behind);
}

fn see_node(seen: &Seen, node: &Node) {
    let taken = node.taken();
    let starts = |start| taken & bits_where(|at| node.get(at).start == start);
    let is_within = |bits: u32| bits & !taken != 0;
    // From the first to the last of them.
    let span =
        |bits: u32| node::low(node::end(bits)) & !(bits & bits.wrapping_neg()).wrapping_sub(1);
    see(seen, "empty", taken == 0);
    see(seen, "full", taken == vector::ALL);
    let both_ends = 1 | 1 << (FANOUT - 1);
    see(
        seen,
        "free at both ends",
        taken != 0 && taken & both_ends == 0,
    );
    let parted = (0..12).any(|start| is_within(span(starts(start))));
    see(seen, "equal starts around a free place", parted);
    see(
        seen,
        "starts at 0 beside a free place",
        starts(0) != 0 && taken != vector::ALL,
    );
}

fn bits_where(is: impl Fn(usize) -> bool) -> u32 {
    (0..FANOUT).fold(0, |bits, at| bits | u32::from(is(at)) << at)
}

/// What is in `node`, and what it says of `bound`, is as in `model`.
fn compare_node(node: &Node, model: &[Entry], bound: u64) {
    let facts = |entry: &Entry| (entry.start, entry.last, entry.what);
    let known: Vec<_> = model.iter().map(facts).collect();
    let all = |bits| {
        places(bits)
            .map(|at| facts(&node.get(at)))
            .collect::<Vec<_>>()
    };
    assert_eq!(all(node.taken()), known);
    assert_eq!(node.len(), model.len());
    assert_eq!(node.has_few(), model.len() < FANOUT / 4);
    assert!(places(!node.taken()).all(|at| node.get(at).last == 0));
    let (mut reaching, mut not_after) = (known.clone(), known);
    reaching.retain(|(_, last, _)| *last >= bound);
    not_after.retain(|(start, ..)| *start <= bound);
    assert_eq!(all(node.reaching(bound)), reaching);
    assert_eq!(all(node.not_after(bound)), not_after);
    for pair in model.windows(2) {
        let [left, right] = [pair[0], pair[1]].map(|entry| node.place_of(entry.what));
        assert_eq!(node.behind(left.expect("in it")), right);
        assert_eq!(node.before(right.expect("in it")), left);
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
