//! The door with loom behind it: what the rest of the room is made of when the library is compiled with `--cfg loom`.
//!
//! Owns: for one execution of a model, what stands behind each address: the shadow of an atomic, the access record of a cell,
//! the sleepers of a futex; and each thread's locals and the library's globals, which every execution begins anew.
//!
//! The library lays atomics over words of C structs, makes them in constants, and frees them with their struct. A loom atomic
//! can do none of it. So an atomic here is its word and nothing more, and its first access in an execution gives its address
//! a loom atomic from a pool. The pool is filled before the first thread is started, so that every thread may use each atomic
//! of it; an atomic's shadow holds the difference to the value that its word had at first.
//!
//! Invariants
//! * A switch of threads happens inside loom's operations only. What is done between two of them is atomic; no borrow of
//!   the tables is held across one.
//! * The word of an atomic holds the value that was stored last in this execution. Memory that is freed is filled with
//!   [`heap::POISON`] and is not used again before the execution ends: a late access is seen by the value.
//! * Outside an execution (static initialisers, process exit) there is one thread, and words are used as they are.

mod atomic;
mod cell;
pub mod fence;
pub(super) mod futex;
mod heap;
mod local;
mod thread;

pub use atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
pub use cell::UnsafeCell;
pub use futex::{Deadline, expire};
pub use local::{Global, LocalKey};
pub use thread::{Thread, is_alive, join, may_end, own_id, spawn, start, yield_now};

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use atomic::Shadow;
use futex::Sleepers;

/// How far a model is explored.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Involuntary switches of threads in one execution; `None`: any number.
    pub preemptions: Option<usize>,
    /// Atomics and futexes that one execution may touch.
    pub atomics: usize,
    /// Cells that one execution may touch.
    pub cells: usize,
}

/// The tables of one execution.
#[derive(Default)]
struct Execution {
    words: HashMap<usize, Rc<Shadow>>,
    free_words: Vec<loom::sync::atomic::AtomicU64>,
    cells: HashMap<usize, Rc<loom::cell::UnsafeCell<()>>>,
    free_cells: Vec<loom::cell::UnsafeCell<()>>,
    sleepers: HashMap<usize, Rc<Sleepers>>,
    clock: futex::Clock,
    locals: HashMap<(loom::thread::ThreadId, usize), Rc<dyn std::any::Any>>,
    globals: HashMap<usize, Rc<dyn std::any::Any>>,
    threads: Vec<Option<loom::thread::JoinHandle<()>>>,
    known: Vec<thread::Known>,
}

std::thread_local! {
    static EXECUTION: RefCell<Option<Execution>> = const { RefCell::new(None) };
}

/// Runs `look` on the tables; `None` outside an execution.
fn with<T>(look: impl FnOnce(&mut Execution) -> T) -> Option<T> {
    EXECUTION
        .try_with(|execution| execution.borrow_mut().as_mut().map(look))
        .ok()
        .flatten()
}

/// Runs `body` in every execution that `bounds` admit. Returns how many those were.
///
/// # Panics
/// `body` panicked, a thread waits for ever, or memory was used without the order that it needs.
pub fn check(bounds: Bounds, body: fn()) -> usize {
    let executions = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bounds.preemptions;
    builder.max_branches = 20_000;
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        begin(bounds);
        body();
        end();
    });
    executions.load(std::sync::atomic::Ordering::Relaxed)
}

fn begin(bounds: Bounds) {
    let execution = Execution {
        free_words: (0..bounds.atomics)
            .map(|_| loom::sync::atomic::AtomicU64::new(0))
            .collect(),
        free_cells: (0..bounds.cells)
            .map(|_| loom::cell::UnsafeCell::new(()))
            .collect(),
        ..Execution::default()
    };
    EXECUTION.set(Some(execution));
    heap::begin();
}

fn end() {
    let unjoined = with(|execution| execution.threads.iter().flatten().count());
    assert_eq!(unjoined, Some(0), "a model joins all threads");
    // Dropped when it is out of the table: what its globals own asks the table.
    let execution = EXECUTION.take();
    drop(execution);
    heap::end();
}
