//! The memory of the nodes: taken from the allocator in chunks, outside the owner's lock, and given back with the index.
//!
//! A node that leaves the tree is used again for the same index, and never for anything else: a reader may still be in it.

use core::alloc::Layout;
use core::ptr;

use super::node::Node;
use crate::sync::Ordering::Relaxed;

/// Nodes that are in no tree, and all chunks. Guarded by the owner's lock.
#[derive(Debug)]
pub struct Nodes {
    free: *mut Node,
    /// How many of them there are.
    pub(super) spare: usize,
    /// How many of them are promised to inserts that are deferred.
    promised: usize,
    chunks: *mut Chunk,
    pub(super) total: usize,
}

/// Nodes in one allocation. The first 64 bytes are this header.
#[repr(C, align(64))]
#[derive(Debug)]
struct Chunk {
    next: *mut Chunk,
    nodes: usize,
}

/// Fresh nodes, on their way to a [`Nodes`].
#[derive(Debug)]
pub struct Supply(*mut Chunk);

/// Chunks grow with what there is, up to this many nodes.
const LARGEST_CHUNK: usize = 1024;

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
            spare: 0,
            promised: 0,
            chunks: ptr::null_mut(),
            total: 0,
        }
    }

    /// Are `wanted` nodes there that nobody was promised? If not: how many to get.
    ///
    /// # Errors
    /// The number for [`Supply::new`].
    pub fn has(&self, wanted: usize) -> Result<(), usize> {
        let wanted = wanted + self.promised;
        if self.spare >= wanted {
            return Ok(());
        }
        Err((wanted - self.spare).max((self.total / 16).min(LARGEST_CHUNK)))
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
        // SAFETY: `Supply::new` made the chunk and its nodes.
        unsafe {
            (*chunk).next = self.chunks;
            self.chunks = chunk;
            let first = chunk.add(1).cast::<Node>();
            for i in (0..(*chunk).nodes).rev() {
                self.give(first.add(i));
            }
            self.total += (*chunk).nodes;
        }
    }

    /// A node for the tree. It was promised, or [`Nodes::has`] has seen it.
    pub(super) fn take(&mut self) -> *mut Node {
        let node = self.free;
        assert!(!node.is_null(), "nodes are reserved before they are taken");
        // SAFETY: Free nodes are ours.
        // ORDERING: Relaxed: under the owner's lock.
        self.free = unsafe { (*node).parent.load(Relaxed) };
        self.spare -= 1;
        node
    }

    /// Takes back a node that has left the tree.
    pub(super) fn give(&mut self, node: *mut Node) {
        // SAFETY: The caller passes a node of this index.
        // ORDERING: Relaxed: under the owner's lock.
        unsafe { (*node).parent.store(self.free, Relaxed) };
        self.free = node;
        self.spare += 1;
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
    /// Allocates `nodes` nodes. None: there is no memory.
    pub fn new(nodes: usize) -> Option<Self> {
        let layout = Self::layout(nodes)?;
        // SAFETY: The layout is not empty.
        let chunk = unsafe { std::alloc::alloc(layout) }.cast::<Chunk>();
        if chunk.is_null() {
            return None;
        }
        // SAFETY: Fresh memory of this layout: a header, and behind it the nodes.
        unsafe {
            chunk.write(Chunk {
                next: ptr::null_mut(),
                nodes,
            });
            let first = chunk.add(1).cast::<Node>();
            for i in 0..nodes {
                first.add(i).write(Node::new());
            }
        }
        Some(Self(chunk))
    }

    fn layout(nodes: usize) -> Option<Layout> {
        let nodes = Layout::array::<Node>(nodes).ok()?;
        Layout::new::<Chunk>()
            .extend(nodes)
            .ok()
            .map(|(layout, _)| layout)
    }
}

impl Drop for Supply {
    fn drop(&mut self) {
        // SAFETY: Made by `new` with this layout.
        unsafe {
            if let Some(layout) = Self::layout((*self.0).nodes) {
                std::alloc::dealloc(self.0.cast(), layout);
            }
        }
    }
}
