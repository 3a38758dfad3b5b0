//! A node of the tree: up to [`FANOUT`] entries in order, as a structure of arrays.
//!
//! Every field is an atomic that is loaded and stored with Relaxed: a reader may look while a writer writes, and finds out by
//! the index's version that what it read is worth nothing. The memory of a node stays one for as long as the index lives.
//!
//! A node may have no entry at any of its places: what leaves moves nothing, and what comes again in its stead finds its place. There
//! the `last` is 0, so that a search need not know of it, and the other words are whatever they were.

use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr;

use super::vector::{self, ALL};
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Entries in a node: two cache lines of each array. In a model as few as make a tree.
pub(super) const FANOUT: usize = if cfg!(loom) { 2 } else { 16 };

/// A node with fewer entries has few.
const FEW: usize = if cfg!(loom) { 2 } else { FANOUT / 4 };

/// Bytes of a cache line.
const LINE: usize = 64;

/// A leaf, whose entries are intervals, or an inner node, whose entries are nodes. 7 cache lines, an odd number, so that the
/// first lines of nodes spread over all sets of a cache.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Node {
    /// The last byte of an interval; the greatest below a node.
    pub(super) last: [AtomicU64; FANOUT],
    /// The first byte of an interval; the first below a node.
    pub(super) start: [AtomicU64; FANOUT],
    /// An interval, or a node.
    pub(super) entry: [AtomicPtr<c_void>; FANOUT],
    /// A bit for each place that has an entry.
    taken: AtomicU32,
    /// The node above; of a node that is in no tree: the next such.
    pub(super) parent: AtomicPtr<Node>,
    /// Of a leaf: the mark that all of its intervals have; 0: they have different ones.
    pub(super) mark: AtomicU64,
}

const _: () = assert!(cfg!(loom) || size_of::<Node>() == 448);

/// What a node holds in one place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) start: u64,
    pub(super) last: u64,
    pub(super) what: *mut c_void,
}

impl Node {
    // ORDERING, here and below: Relaxed, as the module comment says.
    /// One bit for each entry.
    #[inline]
    pub(super) fn taken(&self) -> u32 {
        self.taken.load(Relaxed)
    }

    pub(super) fn len(&self) -> usize {
        self.taken().count_ones() as usize
    }

    /// Has it so few entries that it looks for a neighbour that has room for them?
    #[inline]
    pub(super) fn has_few(&self) -> bool {
        // Without a population count, which not every processor has.
        let mut taken = self.taken();
        for _ in 1..FEW {
            taken &= taken.wrapping_sub(1);
        }
        taken == 0
    }

    /// Where the entry before that at `at` is.
    pub(super) fn before(&self, at: usize) -> Option<usize> {
        end(self.taken() & low(at)).checked_sub(1)
    }

    /// Where the entry behind that at `at` is.
    pub(super) fn behind(&self, at: usize) -> Option<usize> {
        places(self.taken() & !low(at + 1)).next()
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> Entry {
        Entry {
            start: self.start[at].load(Relaxed),
            last: self.last[at].load(Relaxed),
            what: self.entry[at].load(Relaxed),
        }
    }

    #[inline]
    pub(super) fn set(&self, at: usize, entry: Entry) {
        self.start[at].store(entry.start, Relaxed);
        self.last[at].store(entry.last, Relaxed);
        self.entry[at].store(entry.what, Relaxed);
    }

    /// Puts `entry` into a node that has room, behind those at `before`, which are its first.
    #[inline]
    pub(super) fn open(&self, before: u32, entry: Entry) {
        let mut at = end(before);
        if (self.taken() | 1 << FANOUT) >> at & 1 != 0 {
            at = self.make_room(at);
        }
        self.fill(at, entry);
    }

    /// Moves entries so that there is a place between those before `at` and the others, and returns it: up to the next free
    /// place, or, if there is none behind, down to the last one.
    #[inline(never)]
    fn make_room(&self, at: usize) -> usize {
        let taken = self.taken();
        let free = !taken & ALL;
        debug_assert!(free != 0, "a node with room");
        let behind = free & !low(at);
        if behind != 0 {
            let to = first(behind);
            if !vector::move_up(self, low(to + 1) & !low(at + 1)) {
                for place in (at..to).rev() {
                    self.set(place + 1, self.get(place));
                }
            }
            self.taken.store(taken | 1 << to, Relaxed);
            return at;
        }
        let to = end(free) - 1;
        if !vector::move_down(self, low(at - 1) & !low(to)) {
            for place in to + 1..at {
                self.set(place - 1, self.get(place));
            }
        }
        self.taken.store(taken | 1 << to, Relaxed);
        at - 1
    }

    /// Takes the entry at `at` out.
    #[inline]
    pub(super) fn close(&self, at: usize) {
        self.last[at].store(0, Relaxed);
        self.taken.store(self.taken() & !(1 << at), Relaxed);
    }

    /// Leaves the entries before the place `end`.
    pub(super) fn cut(&self, end: usize) {
        for at in places(self.taken() & !low(end)) {
            self.close(at);
        }
    }

    /// Moves all entries to the first places. Returns how many there are.
    pub(super) fn pack(&self) -> usize {
        let taken = self.taken();
        let len = self.len();
        for (to, from) in places(taken).enumerate() {
            self.set(to, self.get(from));
        }
        self.taken.store(taken | low(len), Relaxed);
        self.cut(len);
        len
    }

    /// Sets the entry at `at`, a place that may have had none.
    #[inline]
    pub(super) fn fill(&self, at: usize, entry: Entry) {
        self.set(at, entry);
        self.taken.store(self.taken() | 1 << at, Relaxed);
    }

    /// Where `what` stands.
    #[inline]
    pub(super) fn place_of(&self, what: *const c_void) -> Option<usize> {
        if let Some(equal) = vector::equal(&self.entry, what) {
            return places(equal & self.taken()).next();
        }
        places(self.taken()).find(|at| ptr::eq(self.entry[*at].load(Relaxed), what))
    }

    /// One bit for each entry that starts at or before `start`: the first ones.
    #[inline]
    pub(super) fn not_after(&self, start: u64) -> u32 {
        self.starting_by(start) & self.taken()
    }

    /// The greatest `last`.
    pub(super) fn greatest_last(&self) -> u64 {
        let lasts = self.last.iter();
        lasts.map(|last| last.load(Relaxed)).max().unwrap_or(0)
    }

    /// What the node above knows of this one.
    pub(super) fn summary(&self) -> Entry {
        Entry {
            start: self.start[first(self.taken())].load(Relaxed),
            last: self.greatest_last(),
            what: ptr::from_ref(self).cast_mut().cast(),
        }
    }

    /// One bit for each entry whose `last` is not below `start`.
    #[inline(always)]
    pub(super) fn reaching(&self, start: u64) -> u32 {
        let reaching = vector::not_below(&self.last, start)
            .unwrap_or_else(|| mask(&self.last, |last| last >= start));
        if start == 0 {
            // Where there is no entry, 0 is not below it either.
            reaching & self.taken()
        } else {
            reaching
        }
    }

    /// One bit for each entry that starts at or before `last`; other bits may be anything.
    #[inline(always)]
    pub(super) fn starting_by(&self, last: u64) -> u32 {
        vector::not_above(&self.start, last)
            .unwrap_or_else(|| mask(&self.start, |start| start <= last))
    }
}

/// One bit for each of `words` that is as wanted.
#[cold]
#[inline(never)]
fn mask(words: &[AtomicU64; FANOUT], is_wanted: impl Fn(u64) -> bool) -> u32 {
    let bits = (0..).zip(words);
    bits.fold(0, |mask, (bit, word)| {
        mask | u32::from(is_wanted(word.load(Relaxed))) << bit
    })
}

/// The bits of the places before `end`.
#[inline]
pub(super) const fn low(end: usize) -> u32 {
    (1 << end) - 1
}

/// The first of `places`. (Of none: some place.)
#[inline]
pub(super) fn first(places: u32) -> usize {
    places.trailing_zeros() as usize % FANOUT
}

/// The place behind the last of `places`; 0, if there are none.
#[inline]
pub(super) fn end(places: u32) -> usize {
    (u32::BITS - places.leading_zeros()) as usize
}

/// Each of `places`, in order.
pub(super) fn places(mut places: u32) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let at = places.trailing_zeros() as usize;
        places &= places.wrapping_sub(1);
        (at < FANOUT).then_some(at)
    })
}

/// Has the processor fetch all of `node`, or what may be one.
#[inline]
pub(super) fn prefetch(node: *const Node) {
    for line in 0..size_of::<Node>() / LINE {
        fetch(node.wrapping_byte_add(line * LINE).cast());
    }
}

/// Has the processor fetch what a search reads of an inner node besides the lasts, which it reads at once.
#[inline]
pub(super) fn prefetch_entries(node: *const Node) {
    let entries = node.wrapping_byte_add(offset_of!(Node, entry));
    fetch(entries.cast());
    fetch(entries.wrapping_byte_add(LINE).cast());
}

/// Has the processor fetch the cache line of `address`, which may be any.
#[inline]
pub(super) fn fetch(address: *const c_void) {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: A hint: it reads nothing, and does nothing at an address where nothing is.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    let _ = address;
}
