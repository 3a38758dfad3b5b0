//! The heap of a model: what is freed in an execution is spoilt, and kept until the execution ends.
//!
//! So no address has two lives in one execution, and who uses the first one's remains is seen.
#![expect(unsafe_code, reason = "an allocator")]

use core::cell::Cell;
use core::ptr;
use std::alloc::{GlobalAlloc, Layout, System};

/// What each byte of freed memory is.
const POISON: u8 = 0xdd;

/// Is this the value of a word of `bits` bits in freed memory?
pub(super) fn is_poison(value: u64, bits: u32) -> bool {
    value == u64::from_ne_bytes([POISON; 8]) >> (64 - bits)
}

/// What is known of a freed block, behind what its user had of it.
struct Freed {
    next: *mut Freed,
    block: *mut u8,
    layout: Layout,
}

std::thread_local! {
    static KEEPS: Cell<bool> = const { Cell::new(false) };
    static FREED: Cell<*mut Freed> = const { Cell::new(ptr::null_mut()) };
}

/// From now on what is freed is kept.
pub(super) fn begin() {
    KEEPS.set(true);
}

/// Frees what was kept.
pub(super) fn end() {
    KEEPS.set(false);
    let mut next = FREED.replace(ptr::null_mut());
    while !next.is_null() {
        // SAFETY: Kept, hence valid; it holds what `dealloc` wrote.
        let freed = unsafe { next.read() };
        next = freed.next;
        // SAFETY: Allocated with this layout.
        unsafe { System.dealloc(freed.block, freed.layout) };
    }
}

struct Heap;

#[global_allocator]
static HEAP: Heap = Heap;

/// The layout that a block really has, and where its [`Freed`] is.
fn grown(layout: Layout) -> (Layout, usize) {
    let grown = layout.extend(Layout::new::<Freed>());
    grown.expect("a block that leaves some of the address space")
}

// SAFETY: The system's allocator, with larger blocks that are freed later.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: The caller's promise; the size is not 0.
        unsafe { System.alloc(grown(layout).0) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let user = layout.size();
        let (layout, place) = grown(layout);
        if !KEEPS.try_with(Cell::get).unwrap_or(false) {
            // SAFETY: The caller's promise; allocated with the grown layout.
            return unsafe { System.dealloc(block, layout) };
        }
        // SAFETY: The block is ours, and as large as `layout` says.
        unsafe { block.write_bytes(POISON, user) };
        let next = FREED.get();
        let freed = block.wrapping_add(place).cast::<Freed>();
        // SAFETY: Behind the user's part of the block, and aligned.
        unsafe {
            freed.write(Freed {
                next,
                block,
                layout,
            })
        };
        FREED.set(freed);
    }
}
