//! Pages for slots, within reach of the code that jumps to them.
#![expect(unsafe_code, reason = "maps pages")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one mapping, step by step"
)]

use core::ffi::c_int;
use core::ops::Range;
use core::ptr;

use crate::sync::pages::PAGE;

/// How far a 32-bit jump reaches, less what an object and the slots may span.
const REACH: usize = 0x7000_0000;

/// Free places of `size` bytes near `code`, the nearest first.
fn gaps(code: &Range<usize>, size: usize) -> Option<Vec<usize>> {
    /// A mapping that grows downwards wants this much to be free below it.
    const GUARD: usize = 256 * 4096;
    let maps = std::fs::read_to_string("/proc/thread-self/maps").ok()?;
    let taken: Vec<Range<usize>> = maps.lines().filter_map(span).collect();
    let gaps = taken.windows(2).map(|pair| pair[0].end..pair[1].start);
    let places = gaps
        .filter(|gap| gap.len() >= size + 2 * GUARD)
        .flat_map(|gap| [gap.start + GUARD, gap.end - GUARD - size]);
    let mut places: Vec<usize> = places.filter(|place| is_near(code, *place, size)).collect();
    places.sort_unstable_by_key(|place| place.abs_diff(code.start));
    Some(places)
}

fn is_near(code: &Range<usize>, place: usize, size: usize) -> bool {
    let lowest = code.end.saturating_sub(REACH).max(1 << 20);
    place >= lowest && place + size <= code.start.saturating_add(REACH)
}

/// Places that may be free, where nothing says what is mapped: no /proc, or no descriptor left.
fn guesses(code: &Range<usize>, size: usize) -> Vec<usize> {
    const STEP: usize = 8 << 20;
    let steps = (1..REACH / STEP).flat_map(|step| {
        let start = code.start / STEP * STEP;
        [
            start.wrapping_add(step * STEP),
            start.wrapping_sub(step * STEP),
        ]
    });
    steps.filter(|place| is_near(code, *place, size)).collect()
}

/// Takes a place of `size` bytes near `code`, with nothing there yet. What was free a moment ago may be another thread's now.
fn reserve(code: &Range<usize>, size: usize) -> Option<usize> {
    let places = gaps(code, size).unwrap_or_else(|| guesses(code, size));
    places.into_iter().find(|place| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let wanted = ptr::with_exposed_provenance_mut(*place);
        // SAFETY: The place is free, or the call fails.
        let found = unsafe { libc::mmap(wanted, size, libc::PROT_NONE, flags, -1, 0) };
        let other = found != wanted && found != libc::MAP_FAILED;
        if other {
            // A kernel that does not know MAP_FIXED_NOREPLACE takes the place for a hint.
            // SAFETY: Ours.
            unsafe { libc::munmap(found, size) };
        }
        found == wanted
    })
}

/// `7f0000000000-7f0000001000 r-xp ...`
fn span(line: &str) -> Option<Range<usize>> {
    let (start, rest) = line.split_once('-')?;
    let (end, _) = rest.split_once(' ')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}

/// A mapping of code whose bytes are written through another mapping.
#[derive(Debug)]
pub(super) struct Pages {
    /// Where it is executed, once it is there.
    pub place: usize,
    descriptor: c_int,
    writable: *mut u8,
    size: usize,
}

impl Pages {
    /// Room for `size` bytes near `code`; nothing is executable yet.
    pub(super) fn new(code: &Range<usize>, size: usize) -> Option<Self> {
        let size = size.next_multiple_of(PAGE);
        let descriptor = file(size)?;
        // SAFETY: A new mapping of our file.
        let writable = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                descriptor,
                0,
            )
        };
        let place = (writable != libc::MAP_FAILED)
            .then(|| reserve(code, size))
            .flatten();
        let pages = Self {
            place: place.unwrap_or(0),
            descriptor,
            writable: writable.cast(),
            size,
        };
        place.map(|_| pages)
    }

    /// The bytes.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: Our mapping.
        unsafe { core::slice::from_raw_parts_mut(self.writable, self.size) }
    }

    /// Makes them executable at `place`, for ever, and writable nowhere.
    pub(super) fn finish(mut self) -> bool {
        let wanted = ptr::with_exposed_provenance_mut(self.place);
        let protection = libc::PROT_READ | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
        // SAFETY: Over our own mapping.
        let code = unsafe { libc::mmap(wanted, self.size, protection, flags, self.descriptor, 0) };
        if code == libc::MAP_FAILED {
            return false;
        }
        self.place = 0;
        true
    }
}

/// Gives back what is not needed any more, or was for nothing.
impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: Our mappings and descriptor.
        unsafe {
            if self.writable.cast() != libc::MAP_FAILED {
                libc::munmap(self.writable.cast(), self.size);
            }
            if self.place != 0 {
                libc::munmap(ptr::with_exposed_provenance_mut(self.place), self.size);
            }
            libc::close(self.descriptor);
        }
    }
}

/// A file in memory that may be mapped as code.
pub(super) fn file(size: usize) -> Option<c_int> {
    /// MFD_EXEC: since Linux 6.3; an older kernel refuses it.
    const EXECUTABLE: u32 = 0x10;
    let name = c"mmu_notifier".as_ptr();
    // SAFETY: A name that lives as long as the call; a descriptor of our own.
    unsafe {
        let mut descriptor = libc::memfd_create(name, libc::MFD_CLOEXEC | EXECUTABLE);
        if descriptor < 0 {
            descriptor = libc::memfd_create(name, libc::MFD_CLOEXEC);
        }
        if descriptor < 0 {
            return None;
        }
        if libc::ftruncate(descriptor, size as libc::off_t) != 0 {
            libc::close(descriptor);
            return None;
        }
        Some(descriptor)
    }
}
