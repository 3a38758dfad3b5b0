//! The kernel's userfaultfd, as far as the net uses it. Raw calls only: no allocation, no lock, nothing of libc.
//!
//! Memory is registered for write-protection, and nothing is ever write-protected: so no access faults, and all that comes are
//! the events of what is unmapped, moved or dropped.
#![expect(unsafe_code, reason = "system calls")]

use core::ffi::c_int;

use super::cover::{Kernel, PAGE};
use crate::live::look;
use crate::sync::{AtomicU32, Ordering, syscall};

const UFFDIO_API: usize = 0xc018_aa3f;
const UFFDIO_REGISTER: usize = 0xc020_aa00;
const UFFDIO_UNREGISTER: usize = 0x8010_aa01;
const API: u64 = 0xaa;
const USER_MODE_ONLY: c_int = 1;
const WRITE_PROTECT: u64 = 2;

const FEATURE_WRITE_PROTECT: u64 = 1;
const FEATURE_EVENT_REMAP: u64 = 1 << 2;
const FEATURE_EVENT_REMOVE: u64 = 1 << 3;
const FEATURE_EVENT_UNMAP: u64 = 1 << 6;
/// Since Linux 6.7: mappings of any file may be registered.
const FEATURE_ASYNC: u64 = 1 << 15;
const NEEDED: u64 =
    FEATURE_WRITE_PROTECT | FEATURE_EVENT_REMAP | FEATURE_EVENT_REMOVE | FEATURE_EVENT_UNMAP;

/// Why the net is not on all of what is watched. Bits.
pub(super) const KIND: u32 = 1;
pub(super) const BUSY: u32 = 2;
pub(super) const ROOM: u32 = 4;
pub(super) const CLOSED: u32 = 8;

/// What has gone wrong since the net was spread.
static FAULTS: AtomicU32 = AtomicU32::new(0);

pub(super) fn fault(bits: u32) {
    // ORDERING: Relaxed: the status is told no more than this.
    FAULTS.fetch_or(bits, Ordering::Relaxed);
}

pub(super) fn forget_faults() {
    // ORDERING: Relaxed: as in `fault`.
    FAULTS.store(0, Ordering::Relaxed);
}

/// The reasons why the net is not on all of what is watched.
pub(super) fn faults() -> u32 {
    // ORDERING: Relaxed: as in `fault`.
    FAULTS.load(Ordering::Relaxed)
}

/// Something that happened to registered memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It was unmapped.
    Unmapped(u64, u64),
    /// Its pages are about to be dropped.
    Dropped(u64, u64),
    /// It was moved; the registration went along to the second range.
    Moved((u64, u64), (u64, u64)),
}

/// `struct uffd_msg`.
#[repr(C)]
#[derive(Default)]
struct Message {
    event: u8,
    reserved: [u8; 7],
    words: [u64; 3],
}

impl Message {
    fn event(&self) -> Option<Event> {
        const REMAP: u8 = 0x14;
        const REMOVE: u8 = 0x15;
        const UNMAP: u8 = 0x16;
        let [a, b, c] = self.words;
        match self.event {
            UNMAP => Some(Event::Unmapped(a, b)),
            REMOVE => Some(Event::Dropped(a, b)),
            REMAP => Some(Event::Moved((a, a + c), (b, b + c))),
            _ => None,
        }
    }
}

/// A descriptor. Not closed when it is dropped: threads have their own copies of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uffd {
    pub(super) descriptor: c_int,
    /// A page that stays registered, whoever watches it.
    bell: u64,
    /// An old kernel lets one descriptor end what another has registered.
    reaches_others: bool,
}

/// The negative errno that a call returned, if it failed.
fn check(result: isize) -> Result<usize, c_int> {
    usize::try_from(result).map_err(|_| -result as c_int)
}

impl Uffd {
    /// A new one, with the page at `bell` registered.
    pub(super) fn open(bell: u64) -> Result<Self, c_int> {
        let mut uffd = match Self::with(NEEDED | FEATURE_ASYNC) {
            // A kernel before 6.7: then some kinds of memory cannot be registered.
            Err(libc::EINVAL) => Self::with(NEEDED),
            result => result,
        }?;
        uffd.bell = bell;
        if let Err(error) = uffd.register(bell, bell + PAGE) {
            uffd.close();
            return Err(error);
        }
        uffd.mind_others();
        Ok(uffd)
    }

    fn with(features: u64) -> Result<Self, c_int> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | USER_MODE_ONLY;
        // SAFETY: Has no pointers.
        let opened = unsafe {
            syscall(
                libc::SYS_userfaultfd as usize,
                [flags as usize, 0, 0, 0, 0, 0],
            )
        };
        let uffd = Self {
            descriptor: beside_standard(check(opened)?)? as c_int,
            bell: 0,
            reaches_others: false,
        };
        let mut words = [API, features, 0];
        match uffd.control(UFFDIO_API, words.as_mut_ptr()) {
            Ok(_) if words[1] & features == features => Ok(uffd),
            Ok(_) => {
                uffd.close();
                Err(libc::EINVAL)
            }
            Err(error) => {
                uffd.close();
                Err(error)
            }
        }
    }

    fn control(self, request: usize, argument: *mut u64) -> Result<usize, c_int> {
        let arguments = [
            self.descriptor as usize,
            request,
            argument.expose_provenance(),
            0,
            0,
            0,
        ];
        // SAFETY: The words that belong to the request, which are the caller's.
        check(unsafe { syscall(libc::SYS_ioctl as usize, arguments) })
    }

    fn register(self, start: u64, end: u64) -> Result<usize, c_int> {
        let mut words = [start, end - start, WRITE_PROTECT, 0];
        self.control(UFFDIO_REGISTER, words.as_mut_ptr())
    }

    fn unregister(self, start: u64, end: u64) -> Result<usize, c_int> {
        if self.reaches_others {
            // Fails if it is another's.
            self.register(start, end)?;
        }
        let mut words = [start, end - start];
        self.control(UFFDIO_UNREGISTER, words.as_mut_ptr())
    }

    /// Finds out whether this kernel minds whose registrations are ended: another descriptor tries it with the bell.
    fn mind_others(&mut self) {
        if let Ok(other) = Self::with(NEEDED) {
            self.reaches_others = other.unregister(self.bell, self.bell + PAGE).is_ok();
            other.close();
        }
        if self.reaches_others {
            // It was registered a moment ago, so it can be.
            let _ = self.register(self.bell, self.bell + PAGE);
        }
    }

    /// The next event, if there is one. The thread that made it goes on.
    pub(super) fn read(self) -> Option<Event> {
        let mut message = Message::default();
        let room = (&raw mut message).expose_provenance();
        let arguments = [
            self.descriptor as usize,
            room,
            size_of::<Message>(),
            0,
            0,
            0,
        ];
        // SAFETY: The message is ours.
        let length = unsafe { syscall(libc::SYS_read as usize, arguments) };
        if length != size_of::<Message>() as isize {
            return None;
        }
        message.event()
    }

    /// Sleeps until there is an event, or until so many milliseconds are over. Is there one?
    pub(super) fn wait(self, milliseconds: Option<i64>) -> bool {
        let mut poll = libc::pollfd {
            fd: self.descriptor,
            events: libc::POLLIN,
            revents: 0,
        };
        let time = libc::timespec {
            tv_sec: 0,
            tv_nsec: milliseconds.unwrap_or(0) * 1_000_000,
        };
        let time = milliseconds.map_or(0, |_| (&raw const time).expose_provenance());
        let arguments = [(&raw mut poll).expose_provenance(), 1, time, 0, 0, 0];
        // SAFETY: Both structs are ours.
        let ready = unsafe { syscall(libc::SYS_ppoll as usize, arguments) };
        ready > 0 && poll.revents & libc::POLLIN != 0
    }

    /// Closes every other descriptor of the calling thread, in a table of its own.
    pub(super) fn keep_only(self) -> Result<(), c_int> {
        const UNSHARE: usize = 2;
        let own = self.descriptor as usize;
        let close = |first: usize, last: usize, flags: usize| {
            let arguments = [first, last, flags, 0, 0, 0];
            // SAFETY: Has no pointers; the thread uses no other descriptor.
            check(unsafe { syscall(libc::SYS_close_range as usize, arguments) })
        };
        close(own + 1, u32::MAX as usize, UNSHARE)?;
        if own > 0 {
            close(0, own - 1, 0)?;
        }
        Ok(())
    }

    pub(super) fn close(self) {
        // SAFETY: Ours.
        unsafe {
            syscall(
                libc::SYS_close as usize,
                [self.descriptor as usize, 0, 0, 0, 0, 0],
            )
        };
    }
}

/// The descriptor, or a copy in its place: a program that has closed its input or output is to find it closed.
fn beside_standard(descriptor: usize) -> Result<usize, c_int> {
    let first = libc::STDERR_FILENO as usize + 1;
    if descriptor >= first {
        return Ok(descriptor);
    }
    let duplicate = [descriptor, libc::F_DUPFD_CLOEXEC as usize, first, 0, 0, 0];
    // SAFETY: Have no pointers. The descriptor is ours.
    let copy = unsafe { syscall(libc::SYS_fcntl as usize, duplicate) };
    // SAFETY: As above.
    unsafe { syscall(libc::SYS_close as usize, [descriptor, 0, 0, 0, 0, 0]) };
    check(copy)
}

/// Mapping by mapping: one that cannot be registered does not keep the others from it.
fn each_mapping(start: u64, end: u64, mut visit: impl FnMut(u64, u64)) -> bool {
    look::each(start as usize, end as usize, |mapping| {
        visit(
            (mapping.start as u64).max(start),
            (mapping.end as u64).min(end),
        );
        true
    })
}

/// Why the memory could not be registered, if anything is there.
fn fault_of(error: c_int) -> u32 {
    match error {
        libc::EBUSY => BUSY,
        libc::ENOMEM => ROOM,
        libc::EBADF | libc::ENOTTY => CLOSED,
        _ => KIND,
    }
}

impl Kernel for Uffd {
    fn arm(&self, start: u64, end: u64) {
        let Err(error) = self.register(start, end) else {
            return;
        };
        if fault_of(error) == CLOSED {
            return fault(CLOSED);
        }
        // Nothing may be mapped there at all, which is no fault.
        let known = each_mapping(start, end, |from, to| {
            if let Err(error) = self.register(from, to) {
                fault(fault_of(error));
            }
        });
        if !known {
            fault(fault_of(error));
        }
    }

    fn disarm(&self, start: u64, end: u64) {
        if start <= self.bell && self.bell < end {
            self.disarm(start, self.bell);
            return self.disarm(self.bell + PAGE, end);
        }
        if start < end && self.unregister(start, end).is_err() {
            each_mapping(start, end, |from, to| {
                // What was never registered may say no.
                let _ = self.unregister(from, to);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_understood() {
        let message = |event, words| Message {
            event,
            reserved: [0; 7],
            words,
        };
        assert_eq!(
            message(0x16, [1, 2, 0]).event(),
            Some(Event::Unmapped(1, 2))
        );
        assert_eq!(message(0x15, [1, 2, 0]).event(), Some(Event::Dropped(1, 2)));
        let moved = Event::Moved((0x1000, 0x1800), (0x5000, 0x5800));
        assert_eq!(message(0x14, [0x1000, 0x5000, 0x800]).event(), Some(moved));
        assert_eq!(message(0x12, [0; 3]).event(), None);
    }
}
