//! The memory of the nodes: taken in chunks, outside the owner's lock, and given back with the index.
//!
//! A node that leaves the tree is used again for the same index, and never for anything else: a reader may still be in it. When
//! the tree is empty, large chunks keep their addresses, and give their pages back to the system: a reader finds zeros there,
//! which are an empty node.
//!
//! Invariants
//! * Chunks before `fresh` in the list have handed out all of their nodes, those behind it none.
//! * Zeroed memory is a node.

use core::alloc::Layout;
use core::ptr;

use super::node::Node;
use crate::sync::{Ordering::Relaxed, pages};

/// Nodes that are in no tree, and all chunks. Guarded by the owner's lock.
#[derive(Debug)]
pub struct Nodes {
    /// Nodes that have left the tree.
    free: *mut Node,
    /// The chunk that fresh nodes come from; NULL: the first.
    fresh: *mut Chunk,
    chunks: *mut Chunk,
    /// NULL, or the leaf of the last change.
    pub(super) finger: *const Node,
    /// Nodes in no tree.
    pub(super) spare: usize,
    /// How many of them are promised to inserts that are deferred.
    promised: usize,
    pub(super) total: usize,
}

/// Nodes in one allocation. The first 64 bytes are this header.
#[repr(C, align(64))]
#[derive(Debug)]
struct Chunk {
    next: *mut Chunk,
    nodes: usize,
    /// Nodes that were handed out.
    used: usize,
}

/// Fresh nodes, on their way to a [`Nodes`].
#[derive(Debug)]
pub struct Supply(*mut Chunk);

/// How many fresh nodes are wanted, and of what memory.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    nodes: usize,
    huge_pages: bool,
}

/// Nodes of the first chunk: enough for a few dozen intervals.
const FIRST_CHUNK: usize = 4;
/// Nodes of the second: it just fills 16 KiB. The others double what there is, up to the largest: pages that are not touched
/// cost nothing.
const NEXT_CHUNK: usize = 36;
/// It just fills a huge page.
const LARGEST_CHUNK: usize = (pages::HUGE - size_of::<Chunk>()) / size_of::<Node>();
/// From so many nodes on chunks are of huge pages, as a search is mostly misses of the TLB then. Little is wasted by a last one
/// that is not full.
const MANY: usize = 4 * LARGEST_CHUNK;
/// From so many bytes on a chunk has pages of its own.
const LARGE: usize = 8 << 10;

impl Default for Nodes {
    fn default() -> Self {
        Self::new()
    }
}

impl Nodes {
    /// None.
    pub const fn new() -> Self {
        Self {
            free: ptr::null_mut(),
            fresh: ptr::null_mut(),
            chunks: ptr::null_mut(),
            finger: ptr::null(),
            spare: 0,
            promised: 0,
            total: 0,
        }
    }

    /// Are `wanted` nodes there that nobody was promised?
    ///
    /// # Errors
    /// No: what [`Supply::new`] is to get.
    pub fn has(&self, wanted: usize) -> Result<(), Wanted> {
        let wanted = wanted + self.promised;
        if self.spare >= wanted {
            return Ok(());
        }
        let chunk = match self.total {
            0 => FIRST_CHUNK,
            total => total.clamp(NEXT_CHUNK, LARGEST_CHUNK),
        };
        Err(Wanted {
            nodes: chunk.max(wanted - self.spare),
            huge_pages: self.total >= MANY,
        })
    }

    /// Promises `count` nodes, which are there, to an insert that is deferred.
    pub fn promise(&mut self, count: usize) {
        self.promised += count;
    }

    /// The deferred insert that `count` nodes were promised to happens now, or never.
    pub fn redeem(&mut self, count: usize) {
        self.promised -= count;
    }

    /// Takes over fresh nodes.
    pub fn add(&mut self, supply: Supply) {
        let chunk = supply.0;
        core::mem::forget(supply);
        // SAFETY: `Supply::new` made the chunk; those in the list are ours.
        unsafe {
            let before = if self.fresh.is_null() {
                &raw mut self.chunks
            } else {
                &raw mut (*self.fresh).next
            };
            (*chunk).next = *before;
            *before = chunk;
            self.spare += (*chunk).nodes;
            self.total += (*chunk).nodes;
        }
    }

    /// A node for the tree, without entries. It was promised, or [`Nodes::has`] has seen it.
    pub(super) fn take(&mut self) -> *mut Node {
        self.spare -= 1;
        let node = if self.free.is_null() {
            self.take_fresh()
        } else {
            self.free
        };
        // SAFETY: Free nodes are ours.
        // ORDERING: Relaxed: under the owner's lock.
        unsafe {
            if node == self.free {
                self.free = (*node).parent.load(Relaxed);
            }
            (*node).cut(0);
        }
        node
    }

    fn take_fresh(&mut self) -> *mut Node {
        if self.fresh.is_null() {
            self.fresh = self.chunks;
        }
        // SAFETY: `spare` says that a chunk has one: from `fresh` on.
        unsafe {
            while (*self.fresh).used == (*self.fresh).nodes {
                self.fresh = (*self.fresh).next;
                assert!(
                    !self.fresh.is_null(),
                    "nodes are reserved before they are taken"
                );
            }
            let at = (*self.fresh).used;
            (*self.fresh).used += 1;
            self.fresh.add(1).cast::<Node>().add(at)
        }
    }

    /// Takes back a node that has left the tree.
    pub(super) fn give(&mut self, node: *mut Node) {
        // SAFETY: The caller passes a node of this index.
        // ORDERING: Relaxed: under the owner's lock.
        unsafe { (*node).parent.store(self.free, Relaxed) };
        self.free = node;
        if ptr::eq(self.finger, node) {
            self.finger = ptr::null();
        }
        self.spare += 1;
    }

    /// The tree is empty: gives memory back to the system, if it is much.
    pub(super) fn renew(&mut self) {
        if self.total <= FIRST_CHUNK + 4 * NEXT_CHUNK {
            return;
        }
        self.free = ptr::null_mut();
        self.fresh = ptr::null_mut();
        let mut chunk = self.chunks;
        while !chunk.is_null() {
            // SAFETY: One of ours, none of whose nodes is in a tree.
            unsafe {
                (*chunk).used = 0;
                if let Some(layout) = Supply::layout((*chunk).nodes).filter(is_large) {
                    pages::forget_behind_first(chunk.cast(), layout.size());
                }
                chunk = (*chunk).next;
            }
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        while !self.chunks.is_null() {
            let chunk = Supply(self.chunks);
            // SAFETY: One of ours.
            self.chunks = unsafe { (*chunk.0).next };
            drop(chunk);
        }
    }
}

impl Supply {
    /// Allocates what is wanted. None: there is no memory.
    pub fn new(wanted: Wanted) -> Option<Self> {
        let nodes = wanted.nodes;
        let layout = Self::layout(nodes)?;
        let memory = if wanted.huge_pages {
            pages::map_huge(layout.size())
        } else if is_large(&layout) {
            pages::map(layout.size())
        } else {
            // SAFETY: The layout is not empty.
            unsafe { std::alloc::alloc_zeroed(layout) }
        };
        let chunk = memory.cast::<Chunk>();
        if chunk.is_null() {
            return None;
        }
        let header = Chunk {
            next: ptr::null_mut(),
            nodes,
            used: 0,
        };
        // SAFETY: Fresh memory of this layout: a header, and behind it zeros, which are nodes.
        unsafe { chunk.write(header) };
        Some(Self(chunk))
    }

    fn layout(nodes: usize) -> Option<Layout> {
        let nodes = Layout::array::<Node>(nodes).ok()?;
        let (layout, behind_header) = Layout::new::<Chunk>().extend(nodes).ok()?;
        debug_assert!(behind_header == size_of::<Chunk>());
        Some(layout)
    }
}

fn is_large(layout: &Layout) -> bool {
    layout.size() >= LARGE
}

impl Drop for Supply {
    fn drop(&mut self) {
        // SAFETY: Made by `new` with this layout.
        unsafe {
            match Self::layout((*self.0).nodes) {
                Some(layout) if is_large(&layout) => pages::unmap(self.0.cast(), layout.size()),
                Some(layout) => std::alloc::dealloc(self.0.cast(), layout),
                None => {}
            }
        }
    }
}
