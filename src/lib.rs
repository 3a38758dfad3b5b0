//! The Linux kernel's MMU-notifier contract as a userspace library: the core.
//!
//! A device that keeps its own copy of a page table must drop its copies before the pages go away. Subscribers register
//! on an address space and are called before and after ranges of it change; interval notifiers add a collision-retry
//! protocol. `docs/spec/SPEC.md` is the contract, rule by rule; `ARCHITECTURE.md` is the map of this crate.
//!
//! [`api`] is the face for Rust programs: safe, and with an example for each item. The rooms below it speak C's pointers.
//!
//! The C library `libmmu_notifier` is this crate behind the crate `mmu-notifier-ffi`, which has no logic of its own.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!(
    "mmu-notifier needs a 64-bit Linux target: sequence numbers and addresses are 64-bit"
);

#[cfg_attr(loom, macro_use)]
pub mod sync;

pub mod abi;
#[cfg(not(loom))]
pub mod api;
pub mod chain;
pub mod dispatch;
#[cfg(not(loom))]
pub mod explore;
pub mod index;
pub mod interval;
#[cfg_attr(loom, path = "live/model.rs")]
#[cfg_attr(not(any(loom, target_arch = "x86_64")), path = "live/elsewhere.rs")]
pub mod live;
pub mod mm;
#[cfg(not(loom))]
pub mod replay;
pub mod report;
pub mod srcu;
pub mod thread;

/// Version of the library, `MAJOR.MINOR.PATCH`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
