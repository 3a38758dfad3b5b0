//! A node of the tree: up to [`FANOUT`] entries in order, as a structure of arrays.
//!
//! Every field is an atomic that is loaded and stored with Relaxed: a reader may look while a writer writes, and finds out by
//! the index's version that what it read is worth nothing. The memory of a node stays one for as long as the index lives.

use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr;

use super::Cursor;
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

    pub(super) fn get(&self, at: usize) -> Entry {
        Entry {
            start: self.start[at].load(Relaxed),
            last: self.last[at].load(Relaxed),
            what: self.entry[at].load(Relaxed),
        }
    }

    pub(super) fn set(&self, at: usize, entry: Entry) {
        self.start[at].store(entry.start, Relaxed);
        self.last[at].store(entry.last, Relaxed);
        self.entry[at].store(entry.what, Relaxed);
    }

    /// Puts `entry` at `at` of a node that has room; what stands there and behind moves up.
    pub(super) fn open(&self, at: usize, entry: Entry) {
        let len = self.len();
        for pair in self.start[at..=len].windows(2).rev() {
            pair[1].store(pair[0].load(Relaxed), Relaxed);
        }
        for pair in self.last[at..=len].windows(2).rev() {
            pair[1].store(pair[0].load(Relaxed), Relaxed);
        }
        for pair in self.entry[at..=len].windows(2).rev() {
            pair[1].store(pair[0].load(Relaxed), Relaxed);
        }
        self.set(at, entry);
        self.len.store(len + 1, Relaxed);
    }

    /// Takes the entry at `at` out; what stands behind moves down.
    pub(super) fn close(&self, at: usize) {
        let len = self.len();
        for pair in self.start[at..len].windows(2) {
            pair[0].store(pair[1].load(Relaxed), Relaxed);
        }
        for pair in self.last[at..len].windows(2) {
            pair[0].store(pair[1].load(Relaxed), Relaxed);
        }
        for pair in self.entry[at..len].windows(2) {
            pair[0].store(pair[1].load(Relaxed), Relaxed);
        }
        self.len.store(len - 1, Relaxed);
    }

    /// Where `what` stands.
    pub(super) fn place_of(&self, what: *const c_void) -> Option<usize> {
        let mut entries = self.entry[..self.len()].iter();
        entries.position(|entry| ptr::eq(entry.load(Relaxed), what))
    }

    /// Entries that start at or before `start`.
    pub(super) fn not_after(&self, start: u64) -> usize {
        let len = self.len().min(FANOUT);
        let behind = start.checked_add(1);
        if let Some(below) = behind.and_then(|behind| below(&self.start, behind)) {
            return (below.trailing_ones() as usize).min(len);
        }
        let mut starts = self.start[..len].iter();
        starts
            .position(|other| other.load(Relaxed) > start)
            .unwrap_or(len)
    }

    /// The greatest `last`.
    pub(super) fn greatest_last(&self) -> u64 {
        let lasts = self.last[..self.len()].iter();
        lasts.map(|last| last.load(Relaxed)).max().unwrap_or(0)
    }

    /// Does something reach as far as `last`? Looks at the last entry first: of intervals that do not overlap it reaches
    /// furthest.
    pub(super) fn reaches(&self, last: u64) -> bool {
        let lasts = self.last[..self.len()].iter();
        lasts.rev().any(|other| other.load(Relaxed) >= last)
    }

    /// What the node above knows of this one.
    pub(super) fn summary(&self) -> Entry {
        Entry {
            start: self.start[0].load(Relaxed),
            last: self.greatest_last(),
            what: ptr::from_ref(self).cast_mut().cast(),
        }
    }

    /// The first place from `from` on whose `last` is not below `start`; `FANOUT` or `len` if there is none.
    #[inline]
    pub(super) fn first_reaching(&self, from: usize, start: u64) -> usize {
        let len = self.len().min(FANOUT);
        if let Some(below) = below(&self.last, start) {
            let reaching = !below >> from << from;
            return (reaching.trailing_zeros() as usize).min(len);
        }
        let reaches = |at: &usize| self.last[*at].load(Relaxed) >= start;
        (from..len).find(reaches).unwrap_or(len)
    }
}

impl Node {
    /// The place `at` of a leaf.
    #[inline]
    pub(super) fn cursor(&self, at: usize) -> Cursor {
        let leaf = self.into();
        Cursor { leaf, at }
    }

    /// Has the processor fetch the intervals, from `at` on, that begin by `last`: their owner is about to be called.
    #[inline]
    pub(super) fn prefetch_intervals(&self, at: usize, last: u64) {
        if cfg!(loom) {
            // Loads are steps of a model.
            return;
        }
        for (start, entry) in self.start.iter().zip(&self.entry).skip(at) {
            if start.load(Relaxed) > last {
                break;
            }
            let interval = entry.load(Relaxed);
            fetch(interval);
            fetch(interval.wrapping_byte_add(LINE));
        }
    }
}

/// Has the processor fetch what will be read of `node` while it waits for the lasts, which are read first. Any address will do.
#[inline]
pub(super) fn prefetch(node: *const Node) {
    for line in offset_of!(Node, start) / LINE..size_of::<Node>() / LINE {
        fetch(node.wrapping_byte_add(line * LINE).cast());
    }
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

/// One bit for each of `words` that is below `bound`, if the processor can compare many at a time.
#[inline]
fn below(words: &[AtomicU64; FANOUT], bound: u64) -> Option<u32> {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: The processor has AVX2.
        return Some(unsafe { below_avx2(words, bound) });
    }
    let _ = (words, bound);
    None
}

/// [`below`].
///
/// In assembly because these are 16 relaxed atomic loads, which Rust has no other way to make four at a time: x86-64 loads
/// aligned words of a vector one by one or together, but none of them in part.
///
/// # Safety
/// The processor has AVX2.
#[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
#[inline]
unsafe fn below_avx2(words: &[AtomicU64; FANOUT], bound: u64) -> u32 {
    let (mut below, mut a, mut b, mut c): (u32, u32, u32, u32);
    // SAFETY: Reads the 128 bytes of `words`, which are aligned to 32.
    unsafe {
        core::arch::asm!(
            // Unsigned comparison: both sides with the sign bit turned over.
            "vpcmpeqd ymm0, ymm0, ymm0",
            "vpsllq ymm0, ymm0, 63",
            "vmovq xmm1, {bound}",
            "vpbroadcastq ymm1, xmm1",
            "vpxor ymm1, ymm1, ymm0",
            "vpxor ymm2, ymm0, ymmword ptr [{words}]",
            "vpxor ymm3, ymm0, ymmword ptr [{words} + 32]",
            "vpxor ymm4, ymm0, ymmword ptr [{words} + 64]",
            "vpxor ymm5, ymm0, ymmword ptr [{words} + 96]",
            "vpcmpgtq ymm2, ymm1, ymm2",
            "vpcmpgtq ymm3, ymm1, ymm3",
            "vpcmpgtq ymm4, ymm1, ymm4",
            "vpcmpgtq ymm5, ymm1, ymm5",
            "vmovmskpd {below:e}, ymm2",
            "vmovmskpd {a:e}, ymm3",
            "vmovmskpd {b:e}, ymm4",
            "vmovmskpd {c:e}, ymm5",
            "vzeroupper",
            words = in(reg) words.as_ptr(),
            bound = in(reg) bound,
            // vzeroupper: all vector registers.
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            below = out(reg) below,
            a = out(reg) a,
            b = out(reg) b,
            c = out(reg) c,
            options(nostack, readonly, preserves_flags),
        );
    }
    a <<= 4;
    b <<= 8;
    c <<= 12;
    below |= a | b | c;
    below
}
