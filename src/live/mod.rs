//! The process's own address space, live (floor 5): makes events of the system calls that change it.
//!
//! Owns: the sites (`plan`, `sites`: which instructions of libc, of the dynamic linker, and of who has patched these make such calls;
//! `objects`, `find`), how they are taken over while the program runs (`write`, `near`, `slot`, `probe`), what happens there (`gate`,
//! `hook`, `classify`, `look`, `huge`, `call`), what was in the kernel before (`inflight`), fork (`fork`), what is known of all that
//! (`status`), and the epoch of what went wrong (`epoch`). The protocol with who subscribes is `mm::calls`.
//! On request: the net for what goes by none of the sites (`net`, `cover`).
//! Beside them: ranges with two stages (`stage`), for subscribers that may not do all their work in such a call; events in a queue
//! (`queue`), for those that cannot be called there at all.
//!
//! A system call of the program goes: site, slot, `gate`. If it changes nothing that anybody watches, on to the kernel. Otherwise
//! `hook`, `classify`, `mm::calls::Call::announce`, the kernel, the end, and back behind the site.
//!
//! Invariants
//! * Slots, the gate and this library are never unmapped: a thread may be on its way through them at any time.
//! * A site is written only while it holds what it held when it was found, or what this room wrote there. Somebody else's jump is
//!   never overwritten; the object that it leads to is followed, and its sites are taken.
//! * While sites are written, all signals are blocked, and nothing of libc is called.
//! * `hook` neither allocates nor waits before it calls a callback.
//!
//! exit and execve: `release` is not called. The kernel takes the whole address space away and closes the device; at exit a driver's
//! callbacks may already be destroyed, and an execve may still fail.
//!
//! Limits
//! * A call that another thread was already in the middle of is not announced. `enable` waits for it (`inflight`), within bounds.
//!   Not for those of other processes that share the address space.
//! * A signal handler that leaves by longjmp() in the middle of a call that nobody watches leaves its section open: whoever subscribes
//!   waits until the thread makes another such call, or ends.
//! * A clone that begins on another stack without sharing the address space is not announced.
//!
//! What belongs to a processor is in a folder of its own (`x86_64`): what a site looks like, what a slot holds, the gate.
//!
//! Lock order: the lock of `STATE` is taken before any other of the library, and by fork before malloc's: nothing that may run in a
//! callback waits for it. No callback runs under it. That of `SHOWN` is a leaf.

pub mod cover;
pub mod epoch;
pub mod gap;
pub mod queue;
pub mod stage;
mod status;

pub use status::{
    MMU_NOTIFIER_LIVE_BY_NET, MMU_NOTIFIER_LIVE_BY_SITES, MMU_NOTIFIER_LIVE_KIND_MADVISE,
    MMU_NOTIFIER_LIVE_KIND_MMAP, MMU_NOTIFIER_LIVE_KIND_MPROTECT, MMU_NOTIFIER_LIVE_KIND_MREMAP,
    MMU_NOTIFIER_LIVE_KIND_MUNMAP, MMU_NOTIFIER_LIVE_KIND_SHMDT, MMU_NOTIFIER_LIVE_KIND_SYSCALL,
    MMU_NOTIFIER_LIVE_NET, MMU_NOTIFIER_LIVE_PAGE_SWAP, MMU_NOTIFIER_LIVE_PROC_MEM,
    MMU_NOTIFIER_LIVE_WRITE_MPROTECT, MMU_NOTIFIER_LIVE_WRITE_NONE,
    MMU_NOTIFIER_LIVE_WRITE_PAGE_SWAP, MMU_NOTIFIER_LIVE_WRITE_PROC_MEM, mmu_notifier_live_call,
    mmu_notifier_live_status,
};

#[cfg(target_arch = "x86_64")]
mod call;
#[cfg(target_arch = "x86_64")]
mod classify;
#[cfg(target_arch = "x86_64")]
mod fork;
#[cfg(target_arch = "x86_64")]
mod hook;
#[cfg(target_arch = "x86_64")]
mod huge;
#[cfg(target_arch = "x86_64")]
mod inflight;
#[cfg(target_arch = "x86_64")]
mod look;
#[cfg(target_arch = "x86_64")]
mod near;
#[cfg(target_arch = "x86_64")]
mod net;
#[cfg(target_arch = "x86_64")]
mod objects;
#[cfg(target_arch = "x86_64")]
mod plan;
#[cfg(target_arch = "x86_64")]
mod probe;
#[cfg(target_arch = "x86_64")]
mod selftest;
#[cfg(target_arch = "x86_64")]
mod sites;
#[cfg(target_arch = "x86_64")]
mod switch;
#[cfg(target_arch = "x86_64")]
mod write;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "x86_64")]
pub use call::{current_call, is_late};
#[cfg(target_arch = "x86_64")]
pub use selftest::self_test;
#[cfg(target_arch = "x86_64")]
use switch::{count_event, count_nested, is_in_slot, page_size};
#[cfg(target_arch = "x86_64")]
pub use switch::{disable, enable, status};
#[cfg(target_arch = "x86_64")]
use x86_64::{find, gate, slot};

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere;
#[cfg(not(target_arch = "x86_64"))]
pub use elsewhere::{current_call, disable, enable, is_late, self_test, status};
