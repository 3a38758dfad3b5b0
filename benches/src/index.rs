// SPDX-License-Identifier: MIT OR Apache-2.0
//! Structures that find intervals, without locks and calls around them: the stand-in's tree, the kernel's own, and what crates
//! offer. Static ones, which are built once, are yardsticks, not candidates.
//!
//! Same layout as in c/loops.c: objects of 192 bytes in an order that has nothing to do with that of the intervals, dependent
//! queries, a hit reads its object.

use std::collections::BTreeMap;
use std::ffi::c_ulong;
use std::ptr;

use coitrees::IntervalTree as _;
use crossbeam_skiplist::SkipMap;

use crate::harness::{Candidate, Random, Settings, race};
use crate::report::{Report, power};

const SPACING: u64 = 128 << 10;
const LENGTH: u64 = 64 << 10;
const PAGE: u64 = 4096;

/// The tree's node of c/own_tree.c, and of the kernel: a driver's object begins with it.
#[repr(C)]
struct Node {
    rb: [usize; 3],
    start: c_ulong,
    last: c_ulong,
    subtree_last: c_ulong,
}

#[repr(C, align(64))]
struct Object {
    node: Node,
    before: [u64; 6],
    /// 0.
    data: u64,
    after: [u64; 11],
}

const _: () = assert!(size_of::<Object>() == 192);

type Root = [*mut Node; 2];

/// The verbs of an intrusive tree.
struct Verbs {
    insert: unsafe extern "C" fn(*mut Node, *mut Root),
    remove: unsafe extern "C" fn(*mut Node, *mut Root),
    first: unsafe extern "C" fn(*mut Root, c_ulong, c_ulong) -> *mut Node,
    next: unsafe extern "C" fn(*mut Node, c_ulong, c_ulong) -> *mut Node,
}

macro_rules! verbs {
    ($name:ident, $insert:ident, $remove:ident, $first:ident, $next:ident) => {
        unsafe extern "C" {
            fn $insert(node: *mut Node, root: *mut Root);
            fn $remove(node: *mut Node, root: *mut Root);
            fn $first(root: *mut Root, start: c_ulong, last: c_ulong) -> *mut Node;
            fn $next(node: *mut Node, start: c_ulong, last: c_ulong) -> *mut Node;
        }
        const $name: Verbs = Verbs {
            insert: $insert,
            remove: $remove,
            first: $first,
            next: $next,
        };
    };
}

verbs!(
    OWN,
    own_interval_tree_insert,
    own_interval_tree_remove,
    own_interval_tree_iter_first,
    own_interval_tree_iter_next
);
#[cfg(kernel_tree)]
verbs!(
    KERNEL,
    kernel_interval_tree_insert,
    kernel_interval_tree_remove,
    kernel_interval_tree_iter_first,
    kernel_interval_tree_iter_next
);

/// A structure that maps intervals to objects.
trait Index {
    /// Calls `hit` with the number of each object whose interval touches `[start, last]`.
    fn query(&mut self, start: u64, last: u64, hit: &mut dyn FnMut(usize));

    /// Takes one object's interval out and puts it in again. False if it cannot.
    fn update(&mut self, start: u64, object: usize) -> bool {
        let _ = (start, object);
        false
    }
}

struct Intrusive {
    verbs: Verbs,
    root: Box<Root>,
    nodes: Vec<Object>,
}

impl Intrusive {
    fn new(verbs: Verbs, starts: &[u64]) -> Self {
        let mut tree = Self {
            verbs,
            root: Box::new([ptr::null_mut(); 2]),
            nodes: objects(starts),
        };
        for i in 0..starts.len() {
            // SAFETY: The node is in no tree, and stays where it is while it is in this one.
            unsafe { (tree.verbs.insert)(&raw mut tree.nodes[i].node, &raw mut *tree.root) };
        }
        tree
    }
}

impl Index for Intrusive {
    fn query(&mut self, start: u64, last: u64, hit: &mut dyn FnMut(usize)) {
        let base = self.nodes.as_ptr().addr();
        let root = &raw mut *self.root;
        // SAFETY: The tree is whole.
        let mut node = unsafe { (self.verbs.first)(root, start, last) };
        while !node.is_null() {
            hit((node.addr() - base) / size_of::<Object>());
            // SAFETY: As above.
            node = unsafe { (self.verbs.next)(node, start, last) };
        }
    }

    fn update(&mut self, _: u64, object: usize) -> bool {
        let root = &raw mut *self.root;
        let node = &raw mut self.nodes[object].node;
        // SAFETY: It is in the tree.
        unsafe { (self.verbs.remove)(node, root) };
        // SAFETY: It is in no tree.
        unsafe { (self.verbs.insert)(node, root) };
        true
    }
}

fn objects(starts: &[u64]) -> Vec<Object> {
    starts
        .iter()
        .map(|&start| Object {
            node: Node {
                rb: [0; 3],
                start,
                last: start + LENGTH - 1,
                subtree_last: 0,
            },
            before: [0; 6],
            data: 0,
            after: [0; 11],
        })
        .collect()
}

/// By start: right for intervals that do not overlap.
impl Index for BTreeMap<u64, u32> {
    fn query(&mut self, start: u64, last: u64, hit: &mut dyn FnMut(usize)) {
        let before = self
            .range(..=start)
            .next_back()
            .filter(|(first, _)| *first + LENGTH > start);
        let from = before.map_or(start + 1, |(first, _)| *first);
        for (_, &object) in self.range(from..=last) {
            hit(object as usize);
        }
    }

    fn update(&mut self, start: u64, object: usize) -> bool {
        self.remove(&start);
        self.insert(start, object as u32).is_none()
    }
}

impl Index for SkipMap<u64, u32> {
    fn query(&mut self, start: u64, last: u64, hit: &mut dyn FnMut(usize)) {
        let before = self
            .upper_bound(std::ops::Bound::Included(&start))
            .filter(|entry| entry.key() + LENGTH > start);
        let from = before.map_or(start + 1, |entry| *entry.key());
        for entry in self.range(from..=last) {
            hit(*entry.value() as usize);
        }
    }

    fn update(&mut self, start: u64, object: usize) -> bool {
        self.remove(&start);
        self.insert(start, object as u32);
        true
    }
}

impl Index for iset::IntervalMap<u64, u32> {
    fn query(&mut self, start: u64, last: u64, hit: &mut dyn FnMut(usize)) {
        for (_, &object) in self.iter(start..last + 1) {
            hit(object as usize);
        }
    }

    fn update(&mut self, start: u64, object: usize) -> bool {
        self.remove(start..start + LENGTH);
        self.insert(start..start + LENGTH, object as u32).is_none()
    }
}

/// Its coordinates are 32 bits wide: pages.
impl Index for coitrees::COITree<u32, u32> {
    fn query(&mut self, start: u64, last: u64, hit: &mut dyn FnMut(usize)) {
        coitrees::IntervalTree::query(self, (start / PAGE) as i32, (last / PAGE) as i32, |node| {
            hit(*coitrees::GenericInterval::metadata(node) as usize);
        });
    }
}

impl Index for rust_lapper::Lapper<u64, u32> {
    fn query(&mut self, start: u64, last: u64, hit: &mut dyn FnMut(usize)) {
        for interval in self.find(start, last + 1) {
            hit(interval.val as usize);
        }
    }
}

impl Index for intervaltree::IntervalTree<u64, u32> {
    fn query(&mut self, start: u64, last: u64, hit: &mut dyn FnMut(usize)) {
        for element in intervaltree::IntervalTree::query(self, start..last + 1) {
            hit(element.value as usize);
        }
    }
}

fn all(starts: &[u64]) -> Vec<(&'static str, Box<dyn Index>)> {
    let each = || {
        starts
            .iter()
            .enumerate()
            .map(|(object, &start)| (start, object as u32))
    };
    let mut interval_map = iset::IntervalMap::new();
    let mut tree_map = BTreeMap::new();
    let skip_map = SkipMap::new();
    for (start, object) in each() {
        interval_map.insert(start..start + LENGTH, object);
        tree_map.insert(start, object);
        skip_map.insert(start, object);
    }
    let pages = |bytes: u64| (bytes / PAGE) as i32;
    let nodes: Vec<_> = each()
        .map(|(start, object)| {
            coitrees::Interval::new(pages(start), pages(start + LENGTH - 1), object)
        })
        .collect();
    let intervals = each()
        .map(|(start, val)| rust_lapper::Interval {
            start,
            stop: start + LENGTH,
            val,
        })
        .collect();
    vec![
        (
            "stand-in's red-black tree",
            Box::new(Intrusive::new(OWN, starts)) as Box<dyn Index>,
        ),
        #[cfg(kernel_tree)]
        (
            "kernel's red-black tree",
            Box::new(Intrusive::new(KERNEL, starts)),
        ),
        ("BTreeMap (disjoint only)", Box::new(tree_map)),
        ("crossbeam-skiplist (disjoint only)", Box::new(skip_map)),
        ("iset", Box::new(interval_map)),
        (
            "coitrees (static)",
            Box::new(coitrees::COITree::<u32, u32>::new(&nodes)),
        ),
        (
            "rust-lapper (static)",
            Box::new(rust_lapper::Lapper::new(intervals)),
        ),
        (
            "intervaltree (static)",
            Box::new(
                each()
                    .map(|(start, object)| (start..start + LENGTH, object))
                    .collect::<intervaltree::IntervalTree<_, _>>(),
            ),
        ),
    ]
}

fn queries(index: &mut dyn Index, objects: &[Object], random: &mut Random, hits: u64, n: u64) {
    let limit = objects.len() as u64 - hits.saturating_sub(1);
    let (offset, length) = match hits {
        0 => (LENGTH + LENGTH / 2, PAGE),
        1 => (LENGTH / 2, PAGE),
        _ => (0, (hits - 1) * SPACING + LENGTH),
    };
    let (mut depend, mut found) = (0, 0);
    for _ in 0..n {
        let start = random.below(limit) * SPACING + offset + depend;
        let mut seen = 0;
        index.query(start, start + length - 1, &mut |object| {
            // SAFETY: A valid object; volatile, so that it is looked at.
            seen += 1 + unsafe { ptr::read_volatile(&raw const objects[object].data) };
        });
        found += seen;
        // Nothing, but the next query has to wait for this one.
        depend = seen & std::hint::black_box(0);
    }
    assert_eq!(found, hits * n);
}

pub(crate) fn measure(report: &mut Report, settings: &Settings) {
    let sizes: &[u64] = if settings.quick {
        &[100, 10_000]
    } else {
        &[100, 10_000, 1_000_000]
    };
    for &n in sizes {
        let mut random = Random(42);
        let mut starts: Vec<u64> = (0..n).map(|position| position * SPACING).collect();
        for i in (1..starts.len()).rev() {
            starts.swap(i, random.below(i as u64 + 1) as usize);
        }
        let objects = objects(&starts);
        let mut indexes = all(&starts);
        for hits in [0, 1, 16] {
            let candidates = indexes
                .iter_mut()
                .map(|(name, index)| {
                    let (objects, mut random) = (&objects, Random(7));
                    Candidate::new(*name, move |n| {
                        queries(&mut **index, objects, &mut random, hits, n)
                    })
                })
                .collect();
            report.add(race(
                format!("Structure alone: query, N={} k={hits} random", power(n)),
                settings,
                candidates,
            ));
        }
        let candidates = indexes
            .iter_mut()
            .filter_map(|(name, index)| {
                let (starts, mut random) = (&starts, Random(7));
                index.update(starts[0], 0).then_some(())?;
                Some(Candidate::new(*name, move |n| {
                    for _ in 0..n {
                        let object = random.below(starts.len() as u64) as usize;
                        assert!(index.update(starts[object], object));
                    }
                }))
            })
            .collect();
        report.add(race(
            format!("Structure alone: remove and insert, N={} random", power(n)),
            settings,
            candidates,
        ));
    }
}
