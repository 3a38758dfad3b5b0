//! Tries whether events arrive: makes real changes of memory of its own, by the functions that programs call.
#![expect(unsafe_code, reason = "maps memory, and subscribes to it")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one mapping of our own"
)]

use core::ffi::{c_uint, c_ulong, c_void};
use core::ptr;

use crate::abi::notifier::{mmu_interval_notifier, mmu_interval_notifier_ops, mmu_notifier_range};
use crate::dispatch::REFERENCE;
use crate::live::status::{
    MMU_NOTIFIER_LIVE_KIND_MADVISE, MMU_NOTIFIER_LIVE_KIND_MMAP, MMU_NOTIFIER_LIVE_KIND_MPROTECT,
    MMU_NOTIFIER_LIVE_KIND_MREMAP, MMU_NOTIFIER_LIVE_KIND_MUNMAP, MMU_NOTIFIER_LIVE_KIND_SHMDT,
    MMU_NOTIFIER_LIVE_KIND_SYSCALL,
};
use crate::mm::calls::own_mm;
use crate::mm::{self, Request, WATCHED};
use crate::report::{Error, Result};
use crate::sync::pages::PAGE;
use crate::sync::{AtomicU32, Ordering};

/// What each page holds before it is changed.
const HERE: u8 = 0x5a;

/// A mapping, and who watches it.
#[repr(C)]
struct Probe {
    sub: mmu_interval_notifier,
    place: *mut u8,
    /// Calls that came while the page was still there.
    seen: AtomicU32,
}

unsafe extern "C" fn invalidate(
    sub: *mut mmu_interval_notifier,
    _range: *const mmu_notifier_range,
    seq: c_ulong,
) -> bool {
    let probe = sub.cast::<Probe>();
    // SAFETY: The first field of a probe; its page is readable until the change has been made.
    unsafe {
        (*probe).sub.invalidate_seq = seq;
        if (*probe).place.read_volatile() == HERE {
            // ORDERING: Relaxed: the same thread reads it.
            (*probe).seen.fetch_add(1, Ordering::Relaxed);
        }
    }
    true
}

static OPS: mmu_interval_notifier_ops = mmu_interval_notifier_ops {
    invalidate: Some(invalidate),
};

/// Was `change` of one page announced in time? `map` makes the page; the change returns where it still is, or NULL.
unsafe fn is_told(
    map: impl FnOnce() -> *mut c_void,
    change: impl FnOnce(*mut c_void) -> *mut c_void,
) -> Result<bool> {
    let place = map();
    if place == libc::MAP_FAILED {
        return Err(Error::Errno(libc::ENOMEM));
    }
    // SAFETY: A fresh page; plain numbers and NULLs.
    let mut probe = unsafe {
        place.cast::<u8>().write(HERE);
        Box::new(Probe {
            sub: core::mem::zeroed(),
            place: place.cast(),
            seen: AtomicU32::new(0),
        })
    };
    let request = Request {
        interval_sub: &raw mut probe.sub,
        mm: own_mm(),
        start: place.addr() as c_ulong,
        length: PAGE as c_ulong,
        ops: &raw const OPS,
        abi: REFERENCE,
    };
    // SAFETY: The probe lives until it was removed.
    unsafe {
        mm::insert(&request)?;
        let left = change(place);
        // ORDERING: Relaxed: this thread's.
        let seen = probe.seen.load(Ordering::Relaxed);
        mm::remove(&raw mut probe.sub)?;
        if !left.is_null() {
            libc::munmap(left, PAGE);
        }
        Ok(seen > 0)
    }
}

fn page() -> *mut c_void {
    let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: A new mapping.
    unsafe {
        libc::mmap(
            ptr::null_mut(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            anonymous,
            -1,
            0,
        )
    }
}

/// A page of shared memory, which goes with its last mapping.
fn segment() -> *mut c_void {
    // SAFETY: A segment of our own.
    unsafe {
        let identifier = libc::shmget(libc::IPC_PRIVATE, PAGE, libc::IPC_CREAT | 0o600);
        if identifier < 0 {
            return libc::MAP_FAILED;
        }
        let place = libc::shmat(identifier, ptr::null(), 0);
        libc::shmctl(identifier, libc::IPC_RMID, ptr::null_mut());
        place
    }
}

/// A change of a page of the test's own. Returns where the page is now, or NULL.
type Change = unsafe fn(*mut c_void, usize) -> *mut c_void;

/// The changes of a private page.
const CHANGES: [(c_uint, Change); 6] = [
    (MMU_NOTIFIER_LIVE_KIND_MUNMAP, |place, size| {
        // SAFETY: As for the type.
        unsafe {
            libc::munmap(place, size);
            ptr::null_mut()
        }
    }),
    (MMU_NOTIFIER_LIVE_KIND_SYSCALL, |place, size| {
        // SAFETY: As for the type.
        unsafe {
            libc::syscall(libc::SYS_munmap, place, size);
            ptr::null_mut()
        }
    }),
    (MMU_NOTIFIER_LIVE_KIND_MADVISE, |place, size| {
        // SAFETY: As for the type.
        unsafe {
            libc::madvise(place, size, libc::MADV_DONTNEED);
            place
        }
    }),
    (MMU_NOTIFIER_LIVE_KIND_MPROTECT, |place, size| {
        // SAFETY: As for the type.
        unsafe {
            libc::mprotect(place, size, libc::PROT_READ);
            place
        }
    }),
    (MMU_NOTIFIER_LIVE_KIND_MMAP, |place, size| {
        // SAFETY: As for the type.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            libc::mmap(place, size, libc::PROT_READ, flags, -1, 0)
        }
    }),
    (MMU_NOTIFIER_LIVE_KIND_MREMAP, |place, size| {
        // SAFETY: As for the type.
        unsafe {
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            libc::mremap(place, size, size, flags, page())
        }
    }),
];

/// The kinds of changes whose events do not arrive in time, as MMU_NOTIFIER_LIVE_KIND_ bits.
///
/// # Errors
/// EINVAL: live is not enabled. ENOMEM; those of an insert.
pub fn self_test() -> Result<c_uint> {
    if !WATCHED.is_enabled() {
        return Err(Error::Errno(libc::EINVAL));
    }
    let mut lost = 0;
    for (kind, change) in CHANGES {
        // SAFETY: A page of the test's own.
        let told = unsafe { is_told(page, |place| change(place, PAGE)) }?;
        lost |= if told { 0 } else { kind };
    }
    let detach = |place: *mut c_void| {
        // SAFETY: A segment of the test's own.
        unsafe { libc::shmdt(place) };
        ptr::null_mut()
    };
    // SAFETY: As above.
    match unsafe { is_told(segment, detach) } {
        Ok(false) => lost |= MMU_NOTIFIER_LIVE_KIND_SHMDT,
        // There may be no shared memory here.
        Ok(true) | Err(Error::Errno(libc::ENOMEM)) => {}
        Err(error) => return Err(error),
    }
    Ok(lost)
}
