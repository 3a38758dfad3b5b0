//! Writes sites while other threads run through them.
//!
//! A site is one instruction of 5 bytes, replaced by one of 5 bytes: no thread is ever between them. A thread that sleeps in the
//! system call comes back behind it. What is left is that a thread may fetch the instruction while it is written. So, in place:
//! 1. a jump to itself takes the first 2 bytes, by one store: whoever comes by spins. Barrier.
//! 2. The other 3 bytes. Barrier.
//! 3. The first 2 bytes, by one store. Barrier.
//!
//! A barrier is membarrier(SYNC_CORE): every running thread of the process takes a serialising instruction. While threads spin, the
//! writer has all signals blocked, and calls nothing of libc, whose locks a spinning thread may hold.
//!
//! How a page becomes writable, in this order:
//! * mprotect: refused by PR_SET_MDWE, and by some security modules;
//! * not at all: a changed copy of the page, in a file in memory, is mapped over it. The kernel exchanges the page; no thread sees half
//!   of it. Where such a file may be mapped as code this always works;
//! * /proc/self/mem: works under PR_SET_MDWE, not if the process is not dumpable. Last, because the kernel does not promise that it
//!   stores two bytes at once.
//!
//! Sites whose first 2 bytes lie in two cache lines are exchanged with their page.
#![expect(unsafe_code, reason = "writes code")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one place, written step by step"
)]

use core::ffi::c_int;

use super::near;
use crate::live::signals::{block_signals, restore_signals};
use crate::live::status::{
    MMU_NOTIFIER_LIVE_WRITE_MPROTECT, MMU_NOTIFIER_LIVE_WRITE_PAGE_SWAP,
    MMU_NOTIFIER_LIVE_WRITE_PROC_MEM,
};
use crate::sync::pages::PAGE;
use crate::sync::syscall;

/// Bytes for one site.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patch {
    pub address: usize,
    pub bytes: [u8; 5],
}

/// Patches of different sites, sorted. No allocation.
pub(super) struct Patches {
    list: [Patch; u64::BITS as usize],
    length: usize,
}

impl Patches {
    fn new() -> Self {
        let none = Patch {
            address: 0,
            bytes: [0; 5],
        };
        Self {
            list: [none; u64::BITS as usize],
            length: 0,
        }
    }

    fn add(&mut self, patch: Patch) {
        self.list[self.length] = patch;
        self.length += 1;
    }

    pub(super) fn list(&self) -> &[Patch] {
        &self.list[..self.length]
    }
}

impl FromIterator<Patch> for Patches {
    fn from_iter<T: IntoIterator<Item = Patch>>(patches: T) -> Self {
        let mut all = Self::new();
        patches.into_iter().for_each(|patch| all.add(patch));
        all
    }
}

/// A way of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::live) enum Method {
    Mprotect,
    PageSwap,
    ProcMem,
}

impl Method {
    pub(in crate::live) const ALL: [Self; 3] = [Self::Mprotect, Self::PageSwap, Self::ProcMem];

    pub(in crate::live) fn number(self) -> u32 {
        match self {
            Self::Mprotect => MMU_NOTIFIER_LIVE_WRITE_MPROTECT,
            Self::PageSwap => MMU_NOTIFIER_LIVE_WRITE_PAGE_SWAP,
            Self::ProcMem => MMU_NOTIFIER_LIVE_WRITE_PROC_MEM,
        }
    }
}

/// Asks the kernel for barriers. False: there are none, so that nothing may be written.
pub(super) fn prepare() -> bool {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE)
}

fn barrier() {
    membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE);
}

fn membarrier(command: c_int) -> bool {
    // SAFETY: The command takes no pointers.
    unsafe {
        syscall(
            libc::SYS_membarrier as usize,
            [command as usize, 0, 0, 0, 0, 0],
        ) == 0
    }
}

/// Writes `patches` by `method`. False: that cannot be done. What it has done can be seen.
///
/// # Safety
/// Each place is an instruction of 5 bytes of a loaded object, and will be another one. One caller at a time.
pub(super) unsafe fn write(method: Method, patches: &[Patch]) -> bool {
    const LINE: usize = 64;
    let splits = |patch: &&Patch| patch.address % LINE == LINE - 1;
    let signals = block_signals(u64::MAX);
    // SAFETY: The caller's promise.
    let by = |method, patches: &[Patch]| unsafe {
        match method {
            Method::Mprotect => by_mprotect(patches),
            Method::ProcMem => by_proc_mem(patches),
            Method::PageSwap => by_page_swap(patches),
        }
    };
    let whole: Patches = patches
        .iter()
        .filter(|patch| !splits(patch))
        .copied()
        .collect();
    let split: Patches = patches.iter().filter(splits).copied().collect();
    let written = by(method, whole.list());
    if written && split.length > 0 {
        by(Method::PageSwap, split.list());
    }
    restore_signals(signals);
    written
}

/// The pages of `patches`, each once, in order.
fn pages(patches: &[Patch]) -> impl Iterator<Item = usize> {
    let ends = |patch: &Patch| [patch.address / PAGE, (patch.address + 4) / PAGE];
    let mut last = None;
    // The patches are sorted.
    patches.iter().flat_map(ends).filter_map(move |number| {
        let fresh = last.is_none_or(|last| number > last);
        last = if fresh { Some(number) } else { last };
        fresh.then_some(number * PAGE)
    })
}

/// The three steps, by `store`.
fn in_place(patches: &[Patch], store: impl Fn(usize, &[u8])) {
    const SPIN: [u8; 2] = [0xeb, 0xfe];
    for patch in patches {
        store(patch.address, &SPIN);
    }
    barrier();
    for patch in patches {
        store(patch.address + 2, &patch.bytes[2..]);
    }
    barrier();
    for patch in patches {
        store(patch.address, &patch.bytes[..2]);
    }
    barrier();
}

unsafe fn by_mprotect(patches: &[Patch]) -> bool {
    const CODE: c_int = libc::PROT_READ | libc::PROT_EXEC;
    let protect = |page: usize, protection: c_int| {
        let arguments = [page, PAGE, protection as usize, 0, 0, 0];
        // SAFETY: A page of code, which stays readable and executable.
        unsafe { syscall(libc::SYS_mprotect as usize, arguments) == 0 }
    };
    let writable = pages(patches).all(|page| protect(page, CODE | libc::PROT_WRITE));
    if writable {
        in_place(patches, |address, bytes| {
            let place = core::ptr::with_exposed_provenance_mut::<u8>(address);
            // SAFETY: Writable now. By one store where there are two bytes, which no compiler may split; and not seen by
            // sanitizers.
            unsafe {
                if let [low, high] = *bytes {
                    core::arch::asm!("mov word ptr [{0}], {1:x}", in(reg) place,
                        in(reg) u16::from_le_bytes([low, high]), options(nostack, preserves_flags));
                } else {
                    for (index, byte) in bytes.iter().enumerate() {
                        place.add(index).write_volatile(*byte);
                    }
                }
            }
        });
    }
    for page in pages(patches) {
        protect(page, CODE);
    }
    writable
}

unsafe fn by_proc_mem(patches: &[Patch]) -> bool {
    let open = [
        libc::AT_FDCWD as usize,
        c"/proc/thread-self/mem".as_ptr().addr(),
        (libc::O_RDWR | libc::O_CLOEXEC) as usize,
        0,
        0,
        0,
    ];
    // SAFETY: A name that lives as long as the call.
    let memory = unsafe { syscall(libc::SYS_openat as usize, open) };
    if memory < 0 {
        return false;
    }
    let store = |address: usize, bytes: &[u8]| {
        let arguments = [
            memory as usize,
            bytes.as_ptr().addr(),
            bytes.len(),
            address,
            0,
            0,
        ];
        // SAFETY: Bytes of ours, to code that the caller has us change.
        unsafe { syscall(libc::SYS_pwrite64 as usize, arguments) == bytes.len() as isize }
    };
    // Does it take writes at all? Writes what is there.
    let probe = patches.first().is_some_and(|patch| {
        // SAFETY: Code is readable.
        let present =
            unsafe { core::ptr::with_exposed_provenance::<u8>(patch.address + 4).read_volatile() };
        store(patch.address + 4, &[present])
    });
    if probe {
        in_place(patches, |address, bytes| {
            store(address, bytes);
        });
    }
    // SAFETY: Our descriptor.
    unsafe { syscall(libc::SYS_close as usize, [memory as usize, 0, 0, 0, 0, 0]) };
    probe
}

unsafe fn by_page_swap(patches: &[Patch]) -> bool {
    let count = pages(patches).count();
    let Some(descriptor) = near::file(count * PAGE) else {
        return false;
    };
    // A copy of each page, changed.
    let copied = pages(patches).enumerate().all(|(index, page)| {
        let offset = index * PAGE;
        let put = |from: usize, length: usize, at: usize| {
            let arguments = [descriptor as usize, from, length, at, 0, 0];
            // SAFETY: Readable bytes, to our own file.
            unsafe { syscall(libc::SYS_pwrite64 as usize, arguments) == length as isize }
        };
        let copied = put(page, PAGE, offset);
        let mut bytes = patches
            .iter()
            .flat_map(|patch| (patch.address..).zip(&patch.bytes));
        copied
            && bytes.all(|(address, byte)| {
                let here = address / PAGE * PAGE == page;
                !here || put(core::ptr::from_ref(byte).addr(), 1, offset + address % PAGE)
            })
    });
    let swapped = copied
        && pages(patches).enumerate().all(|(index, page)| {
            let arguments = [
                page,
                PAGE,
                (libc::PROT_READ | libc::PROT_EXEC) as usize,
                (libc::MAP_PRIVATE | libc::MAP_FIXED) as usize,
                descriptor as usize,
                index * PAGE,
            ];
            // SAFETY: The same code, but for the patches.
            unsafe { syscall(libc::SYS_mmap as usize, arguments) == page as isize }
        });
    // SAFETY: Our descriptor.
    unsafe {
        syscall(
            libc::SYS_close as usize,
            [descriptor as usize, 0, 0, 0, 0, 0],
        )
    };
    barrier();
    swapped
}
