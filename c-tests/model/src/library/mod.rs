// SPDX-License-Identifier: MIT OR Apache-2.0
//! The library under a runner: real calls of the C interface, through shim/shim.c.
//!
//! One program runs at a time, on a thread of its own (number 0 of [`crate::baton`]). A call that the model has seen to
//! block runs on another thread, all others on thread 0; in [`Mode::Threads`], each operation has a thread.
//!
//! A program that goes wrong can leave threads asleep in the library for ever. Then the process is tainted, and the next
//! program needs another one ([`crate::isolate`]).

mod calls;
mod shim;
mod verdict;

pub use verdict::{Difference, Verdict};

use std::cell::Cell;
use std::ffi::c_uint;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use crate::baton;
use crate::contract::Op;
use crate::language::Verb;
use crate::runner::{Backend, Runner, SharedWorld, Step, lock};
use crate::world::{Life, World};
use calls::call;
use shim::*;
use verdict::*;

/// Memory of the program's subscribers, by their numbers; addresses.
#[derive(Default)]
struct Memory {
    lists: Vec<usize>,
    intervals: Vec<usize>,
}

static WORLD: OnceLock<SharedWorld> = OnceLock::new();
static MEMORY: Mutex<Memory> = Mutex::new(Memory {
    lists: Vec::new(),
    intervals: Vec::new(),
});
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// Callbacks of the warm-up are nobody's.
static WARM: AtomicBool = AtomicBool::new(false);
/// The line of the program that runs.
static STEP: AtomicUsize = AtomicUsize::new(0);
static EXPECTED: Mutex<Option<Arc<Vec<Step>>>> = Mutex::new(None);
static VERDICT: Mutex<Option<Sender<Verdict>>> = Mutex::new(None);

thread_local! {
    /// The operation that this thread works for.
    static AT: Cell<Option<usize>> = const { Cell::new(None) };
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shared_world() -> &'static SharedWorld {
    WORLD.get_or_init(|| Arc::new(Mutex::new(World::default())))
}

fn world() -> MutexGuard<'static, World> {
    lock(shared_world())
}

fn list(id: usize) -> List {
    let mut memory = hold(&MEMORY);
    while memory.lists.len() <= id {
        let next = memory.lists.len();
        memory.lists.push(address(mn_list_new(next)));
    }
    std::ptr::with_exposed_provenance_mut(memory.lists[id])
}

fn interval(id: usize) -> Interval {
    let mut memory = hold(&MEMORY);
    while memory.intervals.len() <= id {
        let next = memory.intervals.len();
        memory.intervals.push(address(mn_interval_new(next)));
    }
    std::ptr::with_exposed_provenance_mut(memory.intervals[id])
}

fn address<T>(pointer: *mut T) -> usize {
    pointer.expose_provenance()
}

/// Which operations get a thread of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Those that the model has seen to block.
    Fast,
    /// All.
    Threads,
}

/// Work of a thread of the pool.
static WORK: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());
static POOL: Mutex<Vec<usize>> = Mutex::new(Vec::new());

fn pool_thread() {
    let me = baton::join();
    hold(&POOL).push(me);
    baton::wait_for_work();
    loop {
        let mut work = hold(&WORK);
        let mine = work
            .iter()
            .position(|(thread, _)| *thread == me)
            .expect("given work");
        let (_, at) = work.swap_remove(mine);
        drop(work);
        run_call(at);
        baton::rest();
    }
}

fn on_thread(at: usize) {
    let idle = hold(&POOL)
        .iter()
        .copied()
        .find(|thread| baton::is_idle(*thread));
    let number = idle.unwrap_or_else(|| {
        let before = hold(&POOL).len();
        thread::Builder::new()
            .stack_size(256 << 10)
            .spawn(pool_thread)
            .expect("a thread");
        loop {
            let last = hold(&POOL).get(before).copied();
            if let Some(number) = last.filter(|number| baton::is_idle(*number)) {
                return number;
            }
            thread::yield_now();
        }
    });
    hold(&WORK).push((number, at));
    baton::give_work(number, at);
}

fn run_call(at: usize) {
    AT.set(Some(at));
    let (op, mm) = {
        let world = world();
        let op = world.operations[at].clone();
        let handle = op.m.map_or(0, |m| world.mms[m].handle);
        (op, mm_of(handle))
    };
    let outcome = call(&op, mm);
    world().operations[at].outcome = Some(outcome);
    AT.set(None);
}

struct Library {
    mode: Mode,
    expected: Arc<Vec<Step>>,
}

impl Backend for Library {
    fn start(&mut self, at: usize) {
        let step = self.expected.get(STEP.load(Ordering::SeqCst));
        if self.mode == Mode::Threads || step.is_none_or(|step| step.blocked) {
            on_thread(at);
        } else {
            baton::set_order(at);
            run_call(at);
        }
    }

    fn settle(&mut self) {
        baton::settle();
    }

    fn local(&mut self, at: usize) {
        let op = world().operations[at].clone();
        match op.line.verb {
            Verb::Ops => {
                let members = world().sets[op.set]
                    .as_ref()
                    .map_or(0, |set| set.ops.members);
                mn_define_ops(op.set, members.into());
            }
            Verb::Iops => mn_define_interval_ops(op.set),
            Verb::Open => baton::open_gate(op.slot),
            _ => (),
        }
    }

    fn finished(&mut self, at: usize) {
        let (verb, object, failed) = {
            let world = world();
            let op = &world.operations[at];
            let failed = op.outcome.is_some_and(|outcome| outcome.ret != 0);
            (op.line.verb, op.object, failed)
        };
        match verb {
            Verb::Unreg => mn_list_poison(list(object)),
            Verb::Reg | Verb::RegLocked if failed => mn_list_poison(list(object)),
            Verb::Irem => mn_interval_poison(interval(object)),
            Verb::Iins | Verb::IinsLocked if failed => mn_interval_poison(interval(object)),
            _ => (),
        }
    }

    fn counts(&mut self, mm: usize) -> (i64, i64) {
        (mn_mm_users(mm_of(mm)), mn_mm_count(mm_of(mm)))
    }

    fn sub(&mut self, object: usize) -> (u32, bool) {
        (mn_list_users(list(object)), mn_list_linked(list(object)))
    }

    fn interval(&mut self, object: usize) -> (u64, bool) {
        let memory = interval(object);
        (mn_interval_seq(memory), !mn_interval_empty(memory))
    }

    fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut *hold(&WARNINGS))
    }

    fn bug(&mut self) -> Option<String> {
        None
    }
}

/// The library's once-per-process things happen here, so that every program finds the same: its worker exists and is known
/// to the baton, the WARN_ON_ONCE of RG-2 is spent.
fn warm_up() {
    let members = |ops: &[Op]| ops.iter().fold(0, |bits, op| bits | 1 << *op as c_uint);
    mn_define_ops(0, members(&[Op::Free]));
    mn_define_ops(1, members(&[Op::Tlb, Op::Start]));
    let mm = mn_mm_alloc();
    let put_one = || {
        let object = mn_list_new(0);
        assert_eq!(mn_register(object, mm, 0, false), 0);
        mn_put(object);
        object
    };
    let first = put_one();
    mn_synchronize();
    mn_install();
    // SAFETY: A function of the right type. It runs before the library's own handler, which stops its worker.
    unsafe { libc::atexit(baton::retire) };
    let second = put_one();
    for _ in 0..2000 {
        if baton::count() > 1 {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    baton::settle();
    mn_synchronize();
    let refused = mn_list_new(0);
    for expected in [1, 0] {
        assert!(mn_register(refused, mm, 1, false) != 0, "RG-2");
        assert_eq!(
            std::mem::take(&mut *hold(&WARNINGS)).len(),
            expected,
            "RG-2: once"
        );
    }
    mn_mmput(mm);
    for object in [first, second, refused] {
        mn_free_memory(object.cast());
    }
    WARM.store(true, Ordering::SeqCst);
}

/// Memory that the library has no right to touch any more, and what else is left.
fn after_all() -> (Option<String>, bool) {
    let world = world();
    let dead = world
        .lists
        .iter()
        .enumerate()
        .filter(|(_, n)| n.state == Life::Dead);
    let mut touched: Vec<String> = dead
        .filter(|(id, _)| !mn_list_untouched(list(*id)))
        .map(|(_, n)| n.name.clone())
        .collect();
    let dead = world
        .intervals
        .iter()
        .enumerate()
        .filter(|(_, io)| io.state == Life::Dead);
    touched.extend(
        dead.filter(|(id, _)| !mn_interval_untouched(interval(*id)))
            .map(|(_, io)| format!("i{}", io.slot)),
    );
    let left = !world.pending.is_empty()
        || world.mms.iter().any(|slot| slot.live)
        || world.lists.iter().any(|n| n.state != Life::Dead);
    let touched = (!touched.is_empty()).then(|| {
        format!(
            "!!! memory of the dead was written: {}\n",
            touched.join(" ")
        )
    });
    (touched, left)
}

fn forget_memory() {
    let memory = std::mem::take(&mut *hold(&MEMORY));
    for address in memory.lists.into_iter().chain(memory.intervals) {
        mn_free_memory(std::ptr::with_exposed_provenance_mut(address));
    }
}

fn run_here(lines: &[String], expected: &Arc<Vec<Step>>, mode: Mode) -> Verdict {
    *world() = World::default();
    hold(&WARNINGS).clear();
    let compare = Compare {
        expected: Arc::clone(expected),
        at: 0,
        difference: None,
    };
    let backend = Library {
        mode,
        expected: Arc::clone(expected),
    };
    let mut runner = Runner::new(Arc::clone(shared_world()), backend, compare);
    let read = runner.run(lines);
    let mut difference = runner.observer.difference.take();
    if difference.is_none() && (read.is_err() || runner.observer.at != expected.len()) {
        difference = Some(Difference {
            step: runner.observer.at,
            expected: expected.get(runner.observer.at).map_or(String::new(), told),
            got: "the program ends here\n".to_owned(),
        });
    }
    if difference.is_some() {
        return Verdict {
            difference,
            tainted: true,
        };
    }
    let (touched, tainted) = after_all();
    let difference = touched.map(|got| Difference {
        step: expected.len(),
        expected: String::new(),
        got,
    });
    if !tainted {
        forget_memory();
    }
    let tainted = tainted || difference.is_some();
    Verdict {
        difference,
        tainted,
    }
}

type Job = (Vec<String>, Arc<Vec<Step>>, Mode);

fn runner_thread(jobs: &Receiver<Job>) {
    baton::join();
    baton::set_stuck(stuck);
    warm_up();
    for (lines, expected, mode) in jobs {
        answer(run_here(&lines, &expected, mode));
    }
}

static JOBS: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();

/// How long a program may take. It needs a few milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a program on the library, and compares each step with the model's.
pub fn run(lines: &[String], expected: Vec<Step>, mode: Mode) -> Verdict {
    let jobs = JOBS.get_or_init(|| {
        let (sender, receiver) = channel();
        thread::spawn(move || runner_thread(&receiver));
        Mutex::new(sender)
    });
    let expected = Arc::new(expected);
    let (sender, verdict) = channel();
    *hold(&VERDICT) = Some(sender);
    *hold(&EXPECTED) = Some(Arc::clone(&expected));
    let _ = hold(jobs).send((lines.to_vec(), Arc::clone(&expected), mode));
    verdict.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        let step = STEP.load(Ordering::SeqCst);
        Verdict {
            difference: Some(Difference {
                step,
                expected: expected.get(step).map_or(String::new(), told),
                got: "it hangs, outside of every sleep that the hook knows\n".to_owned(),
            }),
            tainted: true,
        }
    })
}
