//! What is known of the means, as C sees it.

use core::ffi::{c_char, c_long, c_uint, c_ulong};

use super::epoch::{self, Cause};

/// Flag of mmu_notifier_live_enable_with(): also spreads a net, a userfaultfd on what interval notifiers watch, which notices,
/// late, what the sites do not see: munmap, mremap, mmap and madvise by other instructions and by io_uring. Where it cannot be
/// had, live is enabled all the same, and `reason` says why.
pub const MMU_NOTIFIER_LIVE_NET: c_uint = 1;
/// Flag: writes sites through /proc/self/mem at once, without trying mprotect() first.
pub const MMU_NOTIFIER_LIVE_PROC_MEM: c_uint = 2;
/// Flag: writes sites by replacing their pages at once, without trying the other ways first.
pub const MMU_NOTIFIER_LIVE_PAGE_SWAP: c_uint = 4;

/// All of them.
pub(super) const KNOWN_FLAGS: c_uint =
    MMU_NOTIFIER_LIVE_NET | MMU_NOTIFIER_LIVE_PROC_MEM | MMU_NOTIFIER_LIVE_PAGE_SWAP;

/// Mechanism in force: the system calls of libc and ld.so.
pub const MMU_NOTIFIER_LIVE_BY_SITES: c_uint = 1;
/// Mechanism in force: the net, on all that interval notifiers watch. Not set where a part of that could not be put into
/// it: `reason` says why.
pub const MMU_NOTIFIER_LIVE_BY_NET: c_uint = 2;

/// How sites were written: not at all.
pub const MMU_NOTIFIER_LIVE_WRITE_NONE: c_uint = 0;
/// How sites were written: in place, while their page was writable by mprotect().
pub const MMU_NOTIFIER_LIVE_WRITE_MPROTECT: c_uint = 1;
/// How sites were written: in place, through /proc/self/mem.
pub const MMU_NOTIFIER_LIVE_WRITE_PROC_MEM: c_uint = 2;
/// How sites were written: a changed copy of the page was mapped over it.
pub const MMU_NOTIFIER_LIVE_WRITE_PAGE_SWAP: c_uint = 3;

/// A system call of the program, as it was made.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mmu_notifier_live_call {
    /// Its number, SYS_munmap for one.
    pub number: c_long,
    /// Its arguments.
    pub arguments: [c_ulong; 6],
    /// The stack pointer of the code that made it. In libc the word there is often the address that its function returns to.
    pub stack: c_ulong,
}

/// Kind of change of mmu_notifier_live_self_test(): munmap().
pub const MMU_NOTIFIER_LIVE_KIND_MUNMAP: c_uint = 1;
/// Kind of change: syscall(SYS_munmap).
pub const MMU_NOTIFIER_LIVE_KIND_SYSCALL: c_uint = 2;
/// Kind of change: madvise(MADV_DONTNEED).
pub const MMU_NOTIFIER_LIVE_KIND_MADVISE: c_uint = 4;
/// Kind of change: mprotect().
pub const MMU_NOTIFIER_LIVE_KIND_MPROTECT: c_uint = 8;
/// Kind of change: mmap(MAP_FIXED).
pub const MMU_NOTIFIER_LIVE_KIND_MMAP: c_uint = 16;
/// Kind of change: mremap(MREMAP_FIXED).
pub const MMU_NOTIFIER_LIVE_KIND_MREMAP: c_uint = 32;
/// Kind of change: shmdt().
pub const MMU_NOTIFIER_LIVE_KIND_SHMDT: c_uint = 64;

/// What is covered, and what was missed so far.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mmu_notifier_live_status {
    /// Set by the caller: the size of its struct in bytes. No more than that is written.
    pub size: c_uint,
    /// 1 between enable and disable.
    pub enabled: c_uint,
    /// MMU_NOTIFIER_LIVE_BY_*: what is in force.
    pub mechanisms: c_uint,
    /// MMU_NOTIFIER_LIVE_WRITE_*: how sites were written.
    pub write_method: c_uint,
    /// Sites that are ours and in place.
    pub sites: c_uint,
    /// Sites that somebody else had patched before. Their calls reach us if his code makes them by syscall(), or by instructions of
    /// the object that his jump leads to: these are taken, too.
    pub foreign_sites: c_uint,
    /// Sites that were ours and that somebody else has taken away since, or whose functions he has. The epoch has risen; from then
    /// on it is as with foreign sites.
    pub lost_sites: c_uint,
    /// Loaded objects with memory system calls of their own, which no site covers.
    pub blind_objects: c_uint,
    /// Calls that were made a start and end pair.
    pub events: c_ulong,
    /// Changes that were told after they had been made.
    pub late: c_ulong,
    /// Changes of watched memory that were not told.
    pub missed: c_ulong,
    /// Memory system calls from inside a callback.
    pub nested: c_ulong,
    /// Calls that went on although a range's release had not ended.
    pub release_timeouts: c_ulong,
    /// See mmu_notifier_live_epoch().
    pub epoch: c_ulong,
    /// Why live is not enabled, or what is not covered; empty if there is nothing to say. NUL-terminated.
    pub reason: [c_char; 160],
}

impl mmu_notifier_live_status {
    pub(super) const fn new() -> Self {
        Self {
            size: size_of::<Self>() as c_uint,
            enabled: 0,
            mechanisms: 0,
            write_method: MMU_NOTIFIER_LIVE_WRITE_NONE,
            sites: 0,
            foreign_sites: 0,
            lost_sites: 0,
            blind_objects: 0,
            events: 0,
            late: 0,
            missed: 0,
            nested: 0,
            release_timeouts: 0,
            epoch: 0,
            reason: [0; 160],
        }
    }

    /// Fills in what the epoch counts, with or without live.
    pub(super) fn take_counts(&mut self) {
        self.late = epoch::count(Cause::Late);
        self.missed = epoch::count(Cause::Missed) + epoch::count(Cause::Nested);
        self.release_timeouts = epoch::count(Cause::Timeout);
        self.epoch = epoch::epoch();
    }

    /// Cuts what does not fit.
    pub(super) fn set_reason(&mut self, text: &str) {
        let room = self.reason.len() - 1;
        self.reason.fill(0);
        for (to, from) in self.reason[..room].iter_mut().zip(text.bytes()) {
            *to = from as c_char;
        }
    }
}

/// Why live is not enabled, or what is not covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "there is but one reason there")
)]
pub(super) enum Reason {
    None,
    #[cfg(not(target_arch = "x86_64"))]
    Machine,
    Barriers,
    Libc,
    Linker,
    Sites,
    Slots,
    Writing,
    Translated,
    Memory,
    InFlight,
    Unknown,
    NetKernel,
    NetRefused,
    NetThread,
    NetFork,
    NetKind,
    NetBusy,
    NetRoom,
    NetClosed,
}

impl Reason {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::None => "",
            #[cfg(not(target_arch = "x86_64"))]
            Self::Machine => {
                "this processor's system calls cannot be taken over yet: only x86-64 is done"
            }
            Self::Barriers => "membarrier(SYNC_CORE) is refused: code cannot be changed safely",
            Self::Libc => {
                "libc's system calls were not found: a libc that is not known, a static program, or code that somebody has changed"
            }
            Self::Linker => {
                "the dynamic linker's system calls were not found: one that is not known, or somebody has changed its code"
            }
            Self::Sites => {
                "libc and the dynamic linker have more system calls than there is room for"
            }
            Self::Slots => "no executable page can be mapped near libc",
            Self::Writing => {
                "libc's code cannot be changed: mprotect, a page mapped over it and /proc/self/mem are all refused"
            }
            Self::Translated => {
                "code that is written has no effect: the program runs in a translator (valgrind: --smc-check=all)"
            }
            Self::Memory => "no memory",
            Self::InFlight => {
                "a thread may be in a call that it began before: until it was seen elsewhere, each look at the epoch finds another one"
            }
            Self::Unknown => {
                "/proc does not say where threads are: calls that they began before were not waited for"
            }
            Self::NetKernel => {
                "no net: the kernel's userfaultfd cannot write-protect, or has no events"
            }
            Self::NetRefused => {
                "no net: userfaultfd is refused (a seccomp filter, a security module, or a kernel without it)"
            }
            Self::NetThread => {
                "no net: there is no thread for it, or it cannot have descriptors of its own"
            }
            Self::NetFork => {
                "a child of fork begins without live events and without a net; it may enable both"
            }
            Self::NetKind => {
                "the net is not on all that is watched: the kernel allows no userfaultfd on some kind of memory there"
            }
            Self::NetBusy => {
                "the net is not on all that is watched: some of it has another userfaultfd"
            }
            Self::NetRoom => {
                "the net is not on all that is watched: more intervals than there is room for mappings"
            }
            Self::NetClosed => {
                "the net is not on all that is watched: the program has closed its descriptor"
            }
        }
    }

    /// Why there is no userfaultfd.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn of_userfaultfd(error: core::ffi::c_int) -> Self {
        match error {
            libc::EINVAL => Self::NetKernel,
            _ => Self::NetRefused,
        }
    }
}
