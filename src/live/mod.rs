//! The process's own address space, live (floor 5): makes events of the system calls that change it.
//!
//! | where | what |
//! |---|---|
//! | `sites` | which instructions make such calls, and how they are taken over while the program runs |
//! | `x86_64` | what belongs to the processor: what a site looks like, what its slot holds, the gate behind it |
//! | `events` | what happens there: what a call is about to change is announced; fork |
//! | `switch` | on and off, what is covered, and what was in the kernel before |
//! | `net` | on request: a userfaultfd that notices what goes by no site |
//! | [`stage`] | ranges with two stages, for subscribers that may not do all their work in such a call |
//! | [`queue`] | events in a queue, for those that cannot be called there at all |
//! | [`epoch`] | the epoch, which rises with each change that was not told of in time |
//! | `status`, [`gap`] | what C sees of it all; a hook for tests |
//! | `look`, `signals` | what they ask the kernel, in the middle of the program's own call |
//!
//! The protocol with who subscribes is `mm::calls`. Other processors have `elsewhere.rs` in place of this file, and the models
//! `model.rs`: the rooms in brackets but `gap`, and the protocol of the net.
//!
//! A system call of the program goes: site, slot, `x86_64::gate`. If it changes nothing that anybody watches, on to the kernel.
//! Otherwise `events::hook`, `events::classify`, `mm::calls::Call::announce`, the kernel, the end, and back behind the site.
//!
//! exit and execve: `release` is not called. The kernel takes the whole address space away and closes the device; at exit a driver's
//! callbacks may already be destroyed, and an execve may still fail.
//!
//! Limits
//! * A call that another thread was already in the middle of is not announced. `enable` waits for it (`switch::inflight`), within
//!   bounds. Not for those of other processes that share the address space.
//! * A signal handler that leaves by longjmp() in the middle of a call that nobody watches leaves its section open: whoever subscribes
//!   waits until the thread makes another such call, or ends.
//! * A clone that gives its child other thread-local variables without sharing the address space is not announced, but counted.
//!
//! Lock order: that of the switch (`switch::state`), before any other of the library, and by fork before malloc's; that of a walk
//! through the loaded objects (`sites::objects`), before malloc's, too; that of the net (`net::cover`), before an mm's interval lock.
//! The others are leaves.

pub mod epoch;
mod events;
pub mod gap;
mod look;
pub mod net;
pub mod queue;
mod signals;
mod sites;
pub mod stage;
mod status;
mod switch;
mod x86_64;

pub use events::current::{current_call, is_late};
pub use status::*;
pub use switch::{disable, enable, self_test, status};
