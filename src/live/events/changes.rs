//! What one system call changes: a few ranges of events, without allocation.

use core::ffi::c_ulong;
use core::ptr;

use crate::abi::mm::mm_struct;
use crate::abi::notifier::{
    MMU_NOTIFIER_RANGE_BLOCKABLE,
    mmu_notifier_event::{self, MMU_NOTIFY_UNMAP as UNMAP},
    mmu_notifier_range,
};
use crate::sync::pages::PAGE;

/// What somebody may watch: what lies outside needs no closer look.
pub(super) type Hull = (c_ulong, c_ulong);

/// All there is.
pub(super) const EVERYTHING: Hull = (0, c_ulong::MAX);

/// Ranges that one call can have.
const MOST: usize = 16;

/// What a call changes.
#[derive(Debug)]
pub(super) struct Changes {
    ranges: [mmu_notifier_range; MOST],
    length: usize,
    mm: *mut mm_struct,
}

impl Changes {
    /// Nothing, of `mm`.
    pub(super) fn new(mm: *mut mm_struct) -> Self {
        let empty = mmu_notifier_range {
            mm,
            start: 0,
            end: 0,
            flags: MMU_NOTIFIER_RANGE_BLOCKABLE,
            event: UNMAP.into(),
            owner: ptr::null_mut(),
        };
        Self {
            ranges: [empty; MOST],
            length: 0,
            mm,
        }
    }

    /// The ranges.
    pub(super) fn ranges(&self) -> &[mmu_notifier_range] {
        &self.ranges[..self.length]
    }

    /// Nothing again.
    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    /// Adds `length` bytes, rounded up to pages, unless the kernel would refuse them.
    pub(super) fn add(&mut self, event: mmu_notifier_event, start: usize, length: usize) {
        let length = length.checked_next_multiple_of(PAGE).unwrap_or(0);
        let end = start.checked_add(length);
        if let (true, Some(end)) = (start % PAGE == 0 && length > 0, end) {
            self.put(event, start, end);
        }
    }

    /// Adds all pages of the hull.
    pub(super) fn put_hull(&mut self, event: mmu_notifier_event, (first, last): Hull) {
        let behind = (last as usize).saturating_add(1);
        let end = behind.checked_next_multiple_of(PAGE);
        let end = end.unwrap_or(usize::MAX / PAGE * PAGE);
        self.put(event, first as usize / PAGE * PAGE, end);
    }

    /// Adds a range of pages. Where there is no room left, the last one grows over it.
    pub(super) fn put(&mut self, event: mmu_notifier_event, start: usize, end: usize) {
        let (start, end) = (start as c_ulong, end as c_ulong);
        if self.length == MOST {
            let last = &mut self.ranges[MOST - 1];
            last.start = last.start.min(start);
            last.end = last.end.max(end);
            return;
        }
        self.ranges[self.length] = mmu_notifier_range {
            mm: self.mm,
            start,
            end,
            flags: MMU_NOTIFIER_RANGE_BLOCKABLE,
            event: event.into(),
            owner: ptr::null_mut(),
        };
        self.length += 1;
    }
}
