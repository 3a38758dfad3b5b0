//! A node of the tree: up to [`FANOUT`] entries in order, as a structure of arrays.
//!
//! Every field is an atomic that is loaded and stored with Relaxed: a reader may look while a writer writes, and finds out by
//! the index's version that what it read is worth nothing. The memory of a node stays one for as long as the index lives.

use core::ffi::c_void;
use core::ptr;

use crate::sync::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Entries in a node: two cache lines of each array. In a model as few as make a tree.
pub(super) const FANOUT: usize = if cfg!(loom) { 2 } else { 16 };

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
        for i in (at..len).rev() {
            self.set(i + 1, self.get(i));
        }
        self.set(at, entry);
        self.len.store(len + 1, Relaxed);
    }

    /// Takes the entry at `at` out; what stands behind moves down.
    pub(super) fn close(&self, at: usize) {
        let len = self.len() - 1;
        for i in at..len {
            self.set(i, self.get(i + 1));
        }
        self.len.store(len, Relaxed);
    }

    /// Where `what` stands.
    pub(super) fn place_of(&self, what: *const c_void) -> Option<usize> {
        (0..self.len()).find(|at| ptr::eq(self.entry[*at].load(Relaxed), what))
    }

    /// Entries that start at or before `start`.
    pub(super) fn not_after(&self, start: u64) -> usize {
        let behind = |at: &usize| self.start[*at].load(Relaxed) > start;
        let len = self.len();
        (0..len).find(behind).unwrap_or(len)
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

    /// The first place from `from` on whose `last` is not below `start`; `FANOUT` or `len` if there is none.
    #[inline]
    pub(super) fn first_reaching(&self, from: usize, start: u64) -> usize {
        let len = self.len().min(FANOUT);
        #[cfg(all(target_arch = "x86_64", not(loom)))]
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: The processor has AVX2.
            let reaching = !unsafe { lasts_below(&self.last, start) } >> from << from;
            return (reaching.trailing_zeros() as usize).min(len);
        }
        let reaches = |at: &usize| self.last[*at].load(Relaxed) >= start;
        (from..len).find(reaches).unwrap_or(len)
    }
}

/// One bit for each of `lasts` that is below `start`.
///
/// In assembly because these are 16 relaxed atomic loads, which Rust has no other way to make four at a time: x86-64 loads
/// aligned words of a vector one by one or together, but none of them in part.
///
/// # Safety
/// The processor has AVX2.
#[cfg(all(target_arch = "x86_64", not(loom)))]
#[inline]
unsafe fn lasts_below(lasts: &[AtomicU64; FANOUT], start: u64) -> u32 {
    let (mut below, mut a, mut b, mut c): (u32, u32, u32, u32);
    // SAFETY: Reads the 128 bytes of `lasts`, which are aligned to 32.
    unsafe {
        core::arch::asm!(
            // Unsigned comparison: both sides with the sign bit turned over.
            "vpcmpeqd ymm0, ymm0, ymm0",
            "vpsllq ymm0, ymm0, 63",
            "vmovq xmm1, {start}",
            "vpbroadcastq ymm1, xmm1",
            "vpxor ymm1, ymm1, ymm0",
            "vpxor ymm2, ymm0, ymmword ptr [{lasts}]",
            "vpxor ymm3, ymm0, ymmword ptr [{lasts} + 32]",
            "vpxor ymm4, ymm0, ymmword ptr [{lasts} + 64]",
            "vpxor ymm5, ymm0, ymmword ptr [{lasts} + 96]",
            "vpcmpgtq ymm2, ymm1, ymm2",
            "vpcmpgtq ymm3, ymm1, ymm3",
            "vpcmpgtq ymm4, ymm1, ymm4",
            "vpcmpgtq ymm5, ymm1, ymm5",
            "vmovmskpd {below:e}, ymm2",
            "vmovmskpd {a:e}, ymm3",
            "vmovmskpd {b:e}, ymm4",
            "vmovmskpd {c:e}, ymm5",
            "vzeroupper",
            lasts = in(reg) lasts.as_ptr(),
            start = in(reg) start,
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
