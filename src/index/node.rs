//! A node of the tree: up to [`FANOUT`] entries in order, as a structure of arrays.
//!
//! Every field is an atomic that is loaded and stored with Relaxed: a reader may look while a writer writes, and finds out by
//! the index's version that what it read is worth nothing. The memory of a node stays one for as long as the index lives.
//!
//! Where a node in a tree has no entry, its `last` is 0: a search need not know how many there are.

use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr;

use super::vector;
use crate::sync::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Entries in a node: two cache lines of each array. In a model as few as make a tree.
pub(super) const FANOUT: usize = if cfg!(loom) { 2 } else { 16 };

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
    pub(super) len: AtomicUsize,
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
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
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

    /// Puts `entry` at `at` of a node that has room; what stands there and behind moves up.
    #[inline]
    pub(super) fn open(&self, at: usize, entry: Entry) {
        let len = self.len();
        if !vector::move_up(self, at) {
            for place in (at..len).rev() {
                self.set(place + 1, self.get(place));
            }
        }
        self.set(at, entry);
        self.len.store(len + 1, Relaxed);
    }

    /// Takes the entry at `at` out; what stands behind moves down.
    #[inline]
    pub(super) fn close(&self, at: usize) {
        let len = self.len() - 1;
        if !vector::move_down(self, at) {
            for place in at..len {
                self.set(place, self.get(place + 1));
            }
        }
        self.last[len].store(0, Relaxed);
        self.len.store(len, Relaxed);
    }

    /// Leaves the first `len` entries.
    pub(super) fn cut(&self, len: usize) {
        for last in &self.last[len..self.len()] {
            last.store(0, Relaxed);
        }
        self.len.store(len, Relaxed);
    }

    /// Where `what` stands.
    #[inline]
    pub(super) fn place_of(&self, what: *const c_void) -> Option<usize> {
        let len = self.len();
        if let Some(equal) = vector::equal(&self.entry, what) {
            let place = equal.trailing_zeros() as usize;
            return (place < len).then_some(place);
        }
        let mut entries = self.entry[..len].iter();
        entries.position(|entry| ptr::eq(entry.load(Relaxed), what))
    }

    /// Entries that start at or before `start`.
    #[inline]
    pub(super) fn not_after(&self, start: u64) -> usize {
        (self.starting_by(start).trailing_ones() as usize).min(self.len())
    }

    /// The greatest `last`.
    pub(super) fn greatest_last(&self) -> u64 {
        let lasts = self.last[..self.len()].iter();
        lasts.map(|last| last.load(Relaxed)).max().unwrap_or(0)
    }

    /// What the node above knows of this one.
    pub(super) fn summary(&self) -> Entry {
        Entry {
            start: self.start[0].load(Relaxed),
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
            reaching & !(vector::ALL << self.len().min(FANOUT))
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
