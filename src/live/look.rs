//! What is mapped, asked of the kernel in the middle of a system call: no allocation, no lock, no function of libc.
//!
//! PROCMAP_QUERY answers about one mapping in half a microsecond (Linux 6.11). Before that, the text is read.
//!
//! It is the calling thread that is asked about, not the process: of one whose first thread has ended, the kernel says that it has no memory.
#![expect(unsafe_code, reason = "system calls")]

use crate::sync::syscall;

const MAPS: &[u8] = b"/proc/thread-self/maps\0";

/// One mapping.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mapping {
    pub start: usize,
    pub end: usize,
    /// Where in its file it begins.
    pub offset: usize,
    /// Its file's inode; 0 if it has none. The first segment of shared memory (System V) has 0, too.
    pub inode: u64,
}

/// `struct procmap_query`.
#[repr(C)]
#[derive(Default)]
struct Query {
    size: u64,
    query_flags: u64,
    query_addr: u64,
    vma_start: u64,
    vma_end: u64,
    vma_flags: u64,
    vma_page_size: u64,
    vma_offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    vma_name_size: u32,
    build_id_size: u32,
    vma_name_addr: u64,
    build_id_addr: u64,
}

const PROCMAP_QUERY: usize = 0xc068_6611;
const COVERING_OR_NEXT: u64 = 0x10;

/// A file that is open as long as this lives.
pub(super) struct File(usize);

impl File {
    /// Opens a file to read; its name ends with a 0.
    pub(super) fn open(name: &[u8]) -> Option<Self> {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        let arguments = [
            libc::AT_FDCWD as usize,
            name.as_ptr().addr(),
            flags as usize,
            0,
            0,
            0,
        ];
        // SAFETY: The name is the caller's, and ends.
        let descriptor = unsafe { syscall(libc::SYS_openat as usize, arguments) };
        usize::try_from(descriptor).ok().map(Self)
    }

    /// The next bytes; nothing at the end.
    pub(super) fn read<'a>(&self, room: &'a mut [u8]) -> &'a [u8] {
        let arguments = [self.0, room.as_mut_ptr().addr(), room.len(), 0, 0, 0];
        // SAFETY: The room is the caller's.
        let length = unsafe { syscall(libc::SYS_read as usize, arguments) };
        &room[..usize::try_from(length).unwrap_or(0)]
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: Our descriptor.
        unsafe { syscall(libc::SYS_close as usize, [self.0, 0, 0, 0, 0, 0]) };
    }
}

/// The name of a file in /proc with a number in it. No allocation.
pub(super) struct Name([u8; 48]);

impl Name {
    /// `before` and `behind` are what stands before and behind the number: 37 bytes at most.
    pub(super) fn new(before: &[u8], number: u32, behind: &[u8]) -> Self {
        let mut digits = [b'0'; 10];
        let mut first = digits.len();
        let mut rest = number;
        while rest > 0 || first == digits.len() {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        let mut name = [0; 48];
        let parts = [before, &digits[first..], behind];
        // The last byte stays 0.
        for (to, from) in name[..47].iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        Self(name)
    }

    /// Opens the file to read.
    pub(super) fn open(&self) -> Option<File> {
        File::open(&self.0)
    }
}

/// Visits the mappings that reach into `[start, end)`, in order, until `visit` says no. False: they cannot be known.
pub(super) fn each(start: usize, end: usize, mut visit: impl FnMut(&Mapping) -> bool) -> bool {
    let Some(maps) = File::open(MAPS) else {
        return false;
    };
    let mut at = start;
    while at < end {
        match query(&maps, at) {
            Ok(mapping) => {
                if mapping.start >= end || !visit(&mapping) {
                    return true;
                }
                at = mapping.end;
            }
            // Nothing further up.
            Err(libc::ENOENT) => return true,
            Err(_) if at == start => return each_line(&maps, start, end, visit),
            Err(_) => return false,
        }
    }
    true
}

/// The size of the pages of the mapping at `address`. None: there is none, or nothing says so.
pub(super) fn page_size_at(address: usize) -> Option<usize> {
    let maps = File::open(MAPS)?;
    let answer = ask(&maps, address).ok()?;
    (answer.vma_start <= address as u64).then_some(answer.vma_page_size as usize)
}

/// The mapping at `address`, or the next one.
fn query(maps: &File, address: usize) -> Result<Mapping, i32> {
    let answer = ask(maps, address)?;
    Ok(Mapping {
        start: answer.vma_start as usize,
        end: answer.vma_end as usize,
        offset: answer.vma_offset as usize,
        inode: answer.inode,
    })
}

fn ask(maps: &File, address: usize) -> Result<Query, i32> {
    let mut query = Query {
        size: size_of::<Query>() as u64,
        query_flags: COVERING_OR_NEXT,
        query_addr: address as u64,
        ..Query::default()
    };
    let arguments = [maps.0, PROCMAP_QUERY, (&raw mut query).addr(), 0, 0, 0];
    // SAFETY: The struct is ours.
    let result = unsafe { syscall(libc::SYS_ioctl as usize, arguments) };
    if result < 0 {
        return Err(-result as i32);
    }
    Ok(query)
}

/// Reads the text instead, which is never empty. Not inlined: who does not need it has no room for it on a small stack.
#[inline(never)]
fn each_line(
    maps: &File,
    start: usize,
    end: usize,
    mut visit: impl FnMut(&Mapping) -> bool,
) -> bool {
    let mut room = [0; 1024];
    let mut line = Line::default();
    let mut known = false;
    loop {
        let bytes = maps.read(&mut room);
        if bytes.is_empty() {
            return known;
        }
        known = true;
        for byte in bytes {
            let Some(mapping) = line.add(*byte) else {
                continue;
            };
            if mapping.start >= end {
                return true;
            }
            if mapping.end > start && !visit(&mapping) {
                return true;
            }
        }
    }
}

/// `start-end perms offset major:minor inode name`, byte by byte.
#[derive(Default)]
struct Line {
    mapping: Mapping,
    field: usize,
    number: u64,
}

impl Line {
    /// The mapping, when its line is complete.
    fn add(&mut self, byte: u8) -> Option<Mapping> {
        const PERMISSIONS: usize = 2;
        const DEVICE: usize = 4;
        const INODE: usize = 5;
        let digit = char::from(byte).to_digit(if self.field == INODE { 10 } else { 16 });
        match (byte, digit) {
            (b'\n', _) => {
                self.end_field();
                let mapping = self.mapping;
                *self = Self::default();
                return Some(mapping);
            }
            (b'-', _) if self.field == 0 => self.end_field(),
            (b' ', _) if self.field <= INODE => self.end_field(),
            (_, Some(digit)) if self.field != PERMISSIONS && self.field != DEVICE => {
                let base = if self.field == INODE { 10 } else { 16 };
                self.number = self.number.wrapping_mul(base).wrapping_add(digit.into());
            }
            _ => {}
        }
        None
    }

    fn end_field(&mut self) {
        match self.field {
            0 => self.mapping.start = self.number as usize,
            1 => self.mapping.end = self.number as usize,
            3 => self.mapping.offset = self.number as usize,
            5 => self.mapping.inode = self.number,
            _ => {}
        }
        self.field += 1;
        self.number = 0;
    }
}

/// Copies from memory that the program named, and that may not be there. Says whether it was.
pub(super) fn copy(from: usize, to: &mut [usize]) -> bool {
    let length = size_of_val(to);
    let local = libc::iovec {
        iov_base: to.as_mut_ptr().cast(),
        iov_len: length,
    };
    let remote = libc::iovec {
        iov_base: core::ptr::with_exposed_provenance_mut(from),
        iov_len: length,
    };
    // SAFETY: Has no arguments.
    let own = unsafe { syscall(libc::SYS_gettid as usize, [0; 6]) };
    let arguments = [
        own as usize,
        (&raw const local).addr(),
        1,
        (&raw const remote).addr(),
        1,
        0,
    ];
    // SAFETY: To our memory; what is wrong with the other is an error.
    let copied = unsafe { syscall(libc::SYS_process_vm_readv as usize, arguments) };
    copied == length as isize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_understood() {
        let mut line = Line::default();
        let text = b"7f00a000-7f00c000 r-xp 00001000 fe:01 1234567    /lib/libc.so.6 - 9\n";
        let found: Vec<Mapping> = text.iter().filter_map(|byte| line.add(*byte)).collect();
        let [mapping] = found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(
            (mapping.start, mapping.end, mapping.offset, mapping.inode),
            (0x7f00_a000, 0x7f00_c000, 0x1000, 1_234_567)
        );
    }

    #[test]
    fn a_name_has_its_number_without_zeros_in_front() {
        let text = |name: &Name| {
            name.0
                .split(|byte| *byte == 0)
                .next()
                .unwrap_or_default()
                .to_vec()
        };
        assert_eq!(text(&Name::new(b"/a/", 0, b"/b")), b"/a/0/b");
        assert_eq!(text(&Name::new(b"/a/", 10, b"")), b"/a/10");
        let longest = Name::new(b"/proc/thread-self/fdinfo/", u32::MAX, &[b'x'; 12]);
        assert_eq!(
            text(&longest),
            [
                b"/proc/thread-self/fdinfo/4294967295".as_slice(),
                &[b'x'; 12]
            ]
            .concat()
        );
        let cut = Name::new(&[b'x'; 60], 1, b"");
        assert_eq!(text(&cut).len(), 47);
    }

    #[test]
    fn both_ways_of_asking_agree() {
        let place = both_ways_of_asking_agree as *const () as usize;
        let list = |text: bool| {
            let mut found = Vec::new();
            let maps = File::open(MAPS).expect("readable");
            let visit = |mapping: &Mapping| {
                found.push((mapping.start, mapping.end, mapping.offset, mapping.inode));
                found.len() < 2
            };
            assert!(if text {
                each_line(&maps, place, usize::MAX, visit)
            } else {
                each(place, usize::MAX, visit)
            });
            found
        };
        assert_eq!(list(true), list(false));
        assert_eq!(list(true).len(), 2);
    }

    #[test]
    fn what_cannot_be_read_is_not_known() {
        assert!(!each_line(&File(usize::MAX), 0, usize::MAX, |_| true));
    }

    #[test]
    fn memory_that_is_not_there_is_not_copied() {
        let known = [1_usize, 2, 3];
        let mut copied = [0; 3];
        assert!(copy(known.as_ptr().addr(), &mut copied));
        assert_eq!(copied, known);
        assert!(!copy(16, &mut copied));
    }
}
