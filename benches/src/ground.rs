// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ground that large sets stand on: which of their memory is on huge pages, and whether the machine below leaves it alone.
//!
//! The host of a virtual machine may take pages away from it and give them back at the next access, some thousands at a time: each
//! costs microseconds then, where a miss costs a third of one. No counter in the guest tells. A sweep over all pages of the
//! process does: it brings back what is gone, and says how long that took.

use std::fs;
use std::ops::Range;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::harness::{nanoseconds, thread_time};

const PAGE: usize = 4096;

/// Nanoseconds; a page that takes longer was not there, or somebody interrupted.
const MISS: f64 = 2e3;

/// One look at each page.
#[derive(Clone, Copy)]
pub(crate) struct Sweep {
    took: f64,
    /// What took longer than a miss.
    lost: f64,
}

impl Sweep {
    /// Interrupts alone take less than a hundredth; pages that were taken away take more than all the rest.
    pub(crate) fn is_calm(self) -> bool {
        self.lost <= self.took / 20.0 + 1e6
    }
}

/// Private memory that can be written, as `/proc/self/maps` has it. What is a file's, or the kernel's, is left out.
fn mappings() -> Vec<Range<usize>> {
    let text = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let anonymous = words.next()? == "rw-p" && words.nth(2)? == "0";
        let name = words.next().unwrap_or_default();
        let ours = anonymous && (name.is_empty() || name == "[heap]");
        let number = |text| usize::from_str_radix(text, 16).ok();
        ours.then_some(number(start)?..number(end)?)
    };
    text.lines().filter_map(parse).collect()
}

/// Looks at each page that is there.
pub(crate) fn sweep() -> Sweep {
    let (start, on_cpu) = (Instant::now(), thread_time());
    let mut lost = 0.0;
    for range in mappings() {
        let mut present = vec![0u8; range.len().div_ceil(PAGE)];
        // SAFETY: One byte for each page of the range; where nothing is mapped any more it fails.
        let failed = unsafe {
            libc::mincore(
                std::ptr::without_provenance_mut(range.start),
                range.len(),
                present.as_mut_ptr(),
            )
        };
        if failed != 0 {
            continue;
        }
        let there = range.step_by(PAGE).zip(present).filter(|(_, p)| p & 1 == 1);
        for (page, _) in there {
            let before = Instant::now();
            // SAFETY: Mapped memory, which no thread unmaps: all but this one sleep between two races.
            unsafe { std::ptr::with_exposed_provenance::<u8>(page).read_volatile() };
            let took = nanoseconds(before);
            if took > MISS {
                lost += took;
            }
        }
    }
    let took = nanoseconds(start);
    // Time in which others had the CPU is no loss of ours.
    let waited = took - (thread_time() - on_cpu);
    Sweep {
        took,
        lost: lost - waited,
    }
}

/// Sweeps until all is there, and nothing goes away any more; for a few seconds at most.
pub(crate) fn settle() {
    for _ in 0..10 {
        if sweep().is_calm() {
            return;
        }
        sleep(Duration::from_millis(300));
    }
}

/// Bytes of memory that this process has, and how many of them are on huge pages.
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) bytes: u64,
    pub(crate) huge: u64,
}

impl Memory {
    pub(crate) fn now() -> Self {
        let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
        let bytes = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) << 10
        };
        Self {
            bytes: bytes("Anonymous:"),
            huge: bytes("AnonHugePages:"),
        }
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(before.bytes),
            huge: self.huge.saturating_sub(before.huge),
        }
    }

    /// How much of it is on huge pages.
    pub(crate) fn share(self) -> f64 {
        self.huge as f64 / self.bytes.max(1) as f64
    }
}
