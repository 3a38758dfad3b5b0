//! Huge pages: the kernel rounds lengths of mmap and mremap up to them, so that more goes than the program said.
#![expect(unsafe_code, reason = "system calls")]

use crate::live::look;
use crate::sync::{AtomicU64, Ordering, syscall};

/// The smallest.
const SMALLEST: usize = 2 << 20;

/// The size of those of MAP_HUGETLB without a size.
static DEFAULT: AtomicU64 = AtomicU64::new(SMALLEST as u64);

/// Asks for the default size.
pub(in crate::live) fn prepare() {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("Hugepagesize:"));
    let size = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    if let Some(size) = size.filter(|size| size.is_power_of_two()) {
        // ORDERING: Relaxed: sites are patched later.
        DEFAULT.store(size << 10, Ordering::Relaxed);
    }
}

fn round(length: usize, size: usize) -> usize {
    length.checked_next_multiple_of(size).unwrap_or(length)
}

/// The size of the pages of a file, if it is of hugetlbfs.
fn of_file(descriptor: usize) -> Option<usize> {
    // SAFETY: Plain numbers.
    let mut known = unsafe { core::mem::zeroed::<libc::statfs>() };
    let arguments = [descriptor, (&raw mut known).addr(), 0, 0, 0, 0];
    // SAFETY: The struct is ours.
    let result = unsafe { syscall(libc::SYS_fstatfs as usize, arguments) };
    (result == 0 && known.f_type as usize == libc::HUGETLBFS_MAGIC as usize)
        .then_some(known.f_bsize as usize)
}

/// How long a mapping with these flags of this file becomes.
pub(super) fn of_map(length: usize, flags: usize, descriptor: usize) -> usize {
    let has = |flag: i32| flags & flag as usize != 0;
    let size = if !has(libc::MAP_ANONYMOUS) {
        of_file(descriptor)
    } else if has(libc::MAP_HUGETLB) {
        let shift = flags >> libc::MAP_HUGE_SHIFT & libc::MAP_HUGE_MASK as usize;
        // ORDERING: Relaxed: as in `prepare`.
        let default = DEFAULT.load(Ordering::Relaxed) as usize;
        Some(if shift == 0 { default } else { 1 << shift })
    } else {
        None
    };
    size.map_or(length, |size| round(length, size))
}

/// What mremap makes of its lengths. Before Linux 6.11 nothing says what pages a mapping has: they are left as they are.
pub(super) fn of_remap(start: usize, old: usize, new: usize) -> (usize, usize) {
    let is_whole = |length: usize| length % SMALLEST == 0;
    if start % SMALLEST != 0 || (is_whole(old) && is_whole(new)) {
        return (old, new);
    }
    let size = look::page_size_at(start).filter(|size| *size >= SMALLEST);
    size.map_or((old, new), |size| (round(old, size), round(new, size)))
}

/// How much a System V segment takes where it is attached. Nothing says what pages it has; huge ones lie at multiples of their
/// size.
pub(super) fn of_segment(start: usize, size: usize) -> usize {
    let sizes = [1 << 30, SMALLEST];
    let page = sizes.into_iter().find(|page| start % page == 0);
    page.map_or(size, |page| round(size, page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_rounded_where_pages_are_huge() {
        const NO_FILE: usize = usize::MAX;
        let anonymous = libc::MAP_ANONYMOUS as usize;
        let huge = anonymous | libc::MAP_HUGETLB as usize;
        let sized = |size: i32| of_map(4096, huge | size as usize, NO_FILE);
        assert_eq!(of_map(4096, anonymous, NO_FILE), 4096);
        assert_eq!(sized(libc::MAP_HUGE_2MB), 2 << 20);
        assert_eq!(sized(libc::MAP_HUGE_1GB), 1 << 30);
        assert!(sized(0) >= SMALLEST);
        let file = std::fs::File::open("/proc/self/exe").expect("readable");
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file) as usize;
        assert_eq!(of_map(4096, 0, descriptor), 4096);
        assert_eq!(of_remap(SMALLEST, 4096, 8192), (4096, 8192));
        assert_eq!(of_segment(3 << 20, 4096), 4096);
        assert_eq!(of_segment(6 << 20, 4096), 2 << 20);
    }
}
