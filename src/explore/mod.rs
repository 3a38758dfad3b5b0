//! Scenarios: threads of a test under a deterministic scheduler, and the search for an interleaving that breaks them (floor 6).
//!
//! Owns: the one [`Session`] of the process. Its logical threads are real threads that hand each other a baton: one of them runs
//! at a time, from one schedule point to the next, which is a *step*. Who is blocked is learnt from the library's own sleeps
//! (`sync::point`), never from time.
//!
//! Invariants
//! * Between two steps every logical thread stands at a schedule point, sleeps in the library, or is over. So whoever looks then
//!   (an invariant, a state function) looks at a standing picture.
//! * Logical threads sleep on no futex: a sleep in the library is a wait for the baton, which comes when the thread was woken and
//!   is chosen. So the same program and the same schedule make the same trace.
//! * The library's worker is a logical thread too, named `worker`. A session begins and ends when it is idle.
//! * A thread that sleeps for ever stays asleep, with its stack and what that owns, until the process ends.
//! * One clock: a step that does not come back within [`Options::patience`] is blocked outside, on something that is not ours.
//!
//! What is not seen: two accesses without a schedule point between them are one step. A driver in C that is compiled with
//! `MMU_NOTIFIER_EXPLORE` has points at READ_ONCE() and WRITE_ONCE(), the header's locks and the calls of the library; plain
//! accesses have none. Memory is sequentially consistent here: reorderings are the models' business (models/README.md).
//!
//! Other threads of the process must leave the library alone while a session runs.
//!
//! Lock order: the session's own lock is a leaf, taken with no other lock held.
//!
//! ```
//! use mmu_notifier::explore::{self, Options, Scenario};
//! use mmu_notifier::sync::{Arc, AtomicU32, Ordering::SeqCst};
//!
//! // Two threads that add without a lock: a load, a schedule point, a store.
//! let setup = |scenario: &mut Scenario| {
//!     let total = Arc::new(AtomicU32::new(0));
//!     for name in ["a", "b"] {
//!         let total = Arc::clone(&total);
//!         scenario.thread(name, move || {
//!             let seen = total.load(SeqCst);
//!             explore::point();
//!             total.store(seen + 1, SeqCst);
//!             Ok(())
//!         });
//!     }
//!     scenario.at_end(move || match total.load(SeqCst) {
//!         2 => Ok(()),
//!         other => Err(format!("the total is {other}")),
//!     });
//!     Ok(())
//! };
//! let found = explore::explore(setup, &Options::default()).expect("no other session runs");
//! let run = found.violation.expect("one addition can be lost");
//! assert_eq!(run.preemptions, 1);
//! println!("{run}");
//! ```

mod lock;
mod member;
mod scenario;
mod search;
mod session;
mod state;
mod trace;

pub use lock::{Lock, LockError};
pub use member::{is_logical, note, point, yield_now};
pub use scenario::{Scenario, run};
pub use search::{Exploration, explore};
pub use session::{Around, Options, Session, StartError};
pub use trace::{Event, Run, Violation, What, operation};

pub use crate::sync::point::Kind;
