// SPDX-License-Identifier: MIT OR Apache-2.0
//! The library under a runner: real calls of the C interface, through shim/shim.c.
//!
//! One program runs at a time, on a thread of its own (number 0 of [`crate::baton`]). A call that the model has seen to
//! block runs on another thread, all others on thread 0; in [`Mode::Threads`], each operation has a thread.
//!
//! A program that goes wrong can leave threads asleep in the library for ever. Then the process is tainted, and the next
//! program needs another one ([`crate::isolate`]).

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use crate::baton;
use crate::contract::{Args, Call, OPS, Op, Range};
use crate::language::{Act, Verb};
use crate::runner::{Backend, Observer, Runner, SharedWorld, Step, lock};
use crate::world::{Fields, Life, Operation, Outcome, World};

#[repr(C)]
struct ListMemory(c_void);
#[repr(C)]
struct IntervalMemory(c_void);
#[repr(C)]
struct MmStruct(c_void);
type Mm = *mut MmStruct;
type List = *mut ListMemory;
type Interval = *mut IntervalMemory;

// SAFETY: The functions of shim/shim.c, with their C types. Each is as safe as the program's guards make it: pointers
// come from the shim or the library, and are used while the contract lets them live. A library that breaks the contract
// may corrupt this process, which is why it is a child of another one.
unsafe extern "C" {
    safe fn mn_install();
    safe fn mn_list_new(id: usize) -> List;
    safe fn mn_interval_new(id: usize) -> Interval;
    safe fn mn_list_poison(o: List);
    safe fn mn_interval_poison(o: Interval);
    safe fn mn_list_untouched(o: List) -> bool;
    safe fn mn_interval_untouched(o: Interval) -> bool;
    safe fn mn_free_memory(memory: *mut c_void);
    safe fn mn_list_users(o: List) -> c_uint;
    safe fn mn_list_set_users(o: List, users: c_uint);
    safe fn mn_list_linked(o: List) -> bool;
    safe fn mn_list_is_of(o: List, mm: Mm, set: usize) -> bool;
    safe fn mn_define_ops(set: usize, has: c_uint);
    safe fn mn_define_interval_ops(set: usize);
    safe fn mn_mm_alloc() -> Mm;
    safe fn mn_mmget(mm: Mm);
    safe fn mn_mmget_not_zero(mm: Mm) -> bool;
    safe fn mn_mmput(mm: Mm);
    safe fn mn_mmgrab(mm: Mm);
    safe fn mn_mmdrop(mm: Mm);
    safe fn mn_mm_users(mm: Mm) -> c_long;
    safe fn mn_mm_count(mm: Mm) -> c_long;
    safe fn mn_has(mm: Mm) -> bool;
    safe fn mn_lock(mm: Mm, write: bool);
    safe fn mn_unlock(mm: Mm, write: bool);
    safe fn mn_register(o: List, mm: Mm, set: usize, locked: bool) -> c_long;
    safe fn mn_unregister(o: List, mm: Mm);
    safe fn mn_put(o: List);
    safe fn mn_synchronize();
    safe fn mn_get(mm: Mm, set: usize, locked: bool, id: &mut usize) -> c_long;
    safe fn mn_insert(
        o: Interval,
        mm: Mm,
        start: c_ulong,
        length: c_ulong,
        set: usize,
        locked: bool,
    ) -> c_long;
    safe fn mn_remove(o: Interval);
    safe fn mn_read_begin(o: Interval) -> c_ulong;
    safe fn mn_read_retry(o: Interval, seq: c_ulong) -> bool;
    safe fn mn_check_retry(o: Interval, seq: c_ulong) -> bool;
    safe fn mn_set_seq(o: Interval, seq: c_ulong);
    safe fn mn_interval_mm(o: Interval) -> Mm;
    safe fn mn_interval_start(o: Interval) -> c_ulong;
    safe fn mn_interval_last(o: Interval) -> c_ulong;
    safe fn mn_interval_seq(o: Interval) -> c_ulong;
    safe fn mn_interval_empty(o: Interval) -> bool;
    safe fn mn_interval_item_untouched(o: Interval) -> bool;
    safe fn mn_interval_ops(o: Interval) -> usize;
    safe fn mn_range_init(
        slot: usize,
        mm: Mm,
        start: c_ulong,
        end: c_ulong,
        flags: c_uint,
        event: c_int,
        owned: bool,
        owner: c_ulong,
    );
    safe fn mn_start(slot: usize);
    safe fn mn_start_nonblock(slot: usize) -> c_long;
    safe fn mn_end(slot: usize);
    safe fn mn_range_flags(slot: usize) -> c_uint;
    safe fn mn_clear_flush_young(mm: Mm, start: c_ulong, end: c_ulong) -> c_long;
    safe fn mn_clear_young(mm: Mm, start: c_ulong, end: c_ulong) -> c_long;
    safe fn mn_test_young(mm: Mm, address: c_ulong) -> c_long;
    safe fn mn_change_pte(mm: Mm, address: c_ulong, value: c_ulong);
    safe fn mn_tlb(mm: Mm, start: c_ulong, end: c_ulong);
}

fn mm_of(handle: usize) -> Mm {
    std::ptr::with_exposed_provenance_mut(handle)
}

// -------------------------------------------------------------------------------------------------- shared state

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

// ------------------------------------------------------------------------------------------------ what the shim calls

const ALL: [Op; OPS] = [
    Op::Release,
    Op::ClearFlushYoung,
    Op::ClearYoung,
    Op::TestYoung,
    Op::ChangePte,
    Op::Start,
    Op::End,
    Op::Tlb,
    Op::Alloc,
    Op::Free,
    Op::Invalidate,
];

fn op_of(number: c_int) -> Op {
    ALL[usize::try_from(number).unwrap_or(0)]
}

fn callback(call: &Call) -> i64 {
    let at = AT.get();
    let entered = world().enter(at, call);
    pass_gate(at, entered.gate);
    if let Some(act) = entered.act {
        run_act(at, act, call);
    }
    if let Args::Range { cur_seq, .. } = call.args {
        if entered.sets_seq {
            mn_set_seq(interval(call.subject), cur_seq);
        }
    }
    entered.ret
}

fn pass_gate(at: Option<usize>, gate: Option<usize>) {
    let gate = world().waits_at(at, gate);
    if let Some(gate) = gate {
        while world().gates[gate].closed {
            baton::wait_at_gate(gate);
        }
        world().gates[gate].waiter = false;
    }
}

fn run_act(at: Option<usize>, act: Act, call: &Call) {
    match act {
        Act::Put => {
            let may = world().act_put(at, call);
            if may {
                mn_put(list(call.subject));
                world().emit(at, format_args!("    act put"));
            }
        }
        Act::Insert {
            i,
            p,
            start,
            length,
        } => {
            let m = world().mm_of_act(at, call);
            let Some(object) = world().act_insert(at, m, i, p) else {
                return;
            };
            let m = m.expect("checked");
            let mm = mm_of(world().mms[m].handle);
            let ret = mn_insert(interval(object), mm, start, length, p, false);
            world().acted_insert(at, m, object, ret);
            if ret != 0 {
                mn_interval_poison(interval(object));
            }
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn mn_on_list(op: c_int, id: usize, mm: Mm, a: c_ulong, b: c_ulong) -> c_long {
    let (op, mm) = (op_of(op), address(mm));
    let args = match op {
        Op::Release => Args::Mm { mm },
        Op::TestYoung => Args::Address { mm, address: a },
        Op::ChangePte => Args::Pte {
            mm,
            address: a,
            pte: b,
        },
        _ => Args::Span {
            mm,
            start: a,
            end: b,
        },
    };
    callback(&Call {
        op,
        subject: id,
        args,
    })
}

#[unsafe(no_mangle)]
extern "C" fn mn_on_range(
    op: c_int,
    id: usize,
    mm: Mm,
    start: c_ulong,
    end: c_ulong,
    flags: c_uint,
    event: c_int,
    owner: c_ulong,
    cur_seq: c_ulong,
) -> c_long {
    let range = Range {
        mm: address(mm),
        start,
        end,
        flags,
        event,
        owner,
    };
    let args = Args::Range { range, cur_seq };
    callback(&Call {
        op: op_of(op),
        subject: id,
        args,
    })
}

#[unsafe(no_mangle)]
extern "C" fn mn_on_alloc(mm: Mm) -> *mut c_void {
    let at = AT.get();
    let made = world().alloc(at, address(mm));
    match made {
        Ok((object, gate)) => {
            pass_gate(at, gate);
            list(object).cast()
        }
        Err(error) => std::ptr::without_provenance_mut(error as usize),
    }
}

#[unsafe(no_mangle)]
extern "C" fn mn_on_free(id: usize) {
    // ORDERING: SeqCst: simple.
    if !WARM.load(Ordering::SeqCst) {
        return;
    }
    world().free(AT.get(), id);
    mn_list_poison(list(id));
}

const WARN: c_int = 1;
const BUG: c_int = 2;

#[unsafe(no_mangle)]
extern "C" fn mn_on_report(kind: c_int, rule: *const c_char) {
    // SAFETY: The library's promise in report.h: valid until the handler returns.
    let rule = unsafe { CStr::from_ptr(rule) }
        .to_string_lossy()
        .into_owned();
    if kind == WARN {
        hold(&WARNINGS).push(rule);
    } else if kind == BUG {
        end_in_bug(rule);
    }
}

/// A BUG would abort. If the model has it too, the program is over, and all is well; the thread must not go on.
fn end_in_bug(rule: String) -> ! {
    let step = STEP.load(Ordering::SeqCst);
    let expected = expected_step(step);
    let agreed = expected
        .as_ref()
        .is_some_and(|step| step.bug.as_ref() == Some(&rule));
    let difference = (!agreed).then(|| Difference {
        step,
        expected: expected.map_or(String::new(), |step| told(&step)),
        got: format!("{}BUG {rule}\n", outputs()),
    });
    answer(Verdict {
        difference,
        tainted: true,
    });
    loop {
        thread::park();
    }
}

#[unsafe(no_mangle)]
extern "C" fn mn_on_wait_begin(queue: *const c_void, reason: c_int) {
    baton::wait_begin(queue.addr(), reason);
}

#[unsafe(no_mangle)]
extern "C" fn mn_on_wait_end(_queue: *const c_void, reason: c_int) {
    baton::wait_end(reason);
}

#[unsafe(no_mangle)]
extern "C" fn mn_on_wake(queue: *const c_void, reason: c_int) {
    baton::wake(queue.addr(), reason);
}

// ------------------------------------------------------------------------------------------------------ the verdict

/// The first step in which the library did something else.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Index of the step.
    pub step: usize,
    /// What the model says.
    pub expected: String,
    /// What the library did.
    pub got: String,
}

/// How a program went.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// `None`: as the model says.
    pub difference: Option<Difference>,
    /// Has it left something behind, so that this process can run no other program?
    pub tainted: bool,
}

fn told(step: &Step) -> String {
    let bug = step
        .bug
        .as_ref()
        .map_or(String::new(), |rule| format!("BUG {rule}\n"));
    format!("{}{bug}", step.text)
}

fn expected_step(step: usize) -> Option<Step> {
    hold(&EXPECTED).as_ref()?.get(step).cloned()
}

fn answer(verdict: Verdict) {
    if let Some(sender) = hold(&VERDICT).take() {
        let _ = sender.send(verdict);
    }
}

/// What the current operation, and those in progress, have said since the last step.
fn outputs() -> String {
    let world = world();
    let Some(op) = world.operations.last() else {
        return String::new();
    };
    let out: String = world.operations.iter().map(|op| op.out.as_str()).collect();
    format!("[{}] {}\n{out}", world.operations.len(), op.line.text)
}

/// The runner's own call sleeps, and nobody can wake it.
fn stuck() {
    let step = STEP.load(Ordering::SeqCst);
    let difference = Some(Difference {
        step,
        expected: expected_step(step).map_or(String::new(), |step| told(&step)),
        got: format!("{}  BLOCKED (or woken too late)\n", outputs()),
    });
    answer(Verdict {
        difference,
        tainted: true,
    });
}

struct Compare {
    expected: Arc<Vec<Step>>,
    at: usize,
    difference: Option<Difference>,
}

impl Observer for Compare {
    fn before(&mut self) {
        STEP.store(self.at, Ordering::SeqCst);
    }

    fn after(&mut self, step: Step) -> bool {
        let expected = self.expected.get(self.at);
        self.at += 1;
        if expected == Some(&step) {
            return true;
        }
        self.difference = Some(Difference {
            step: self.at - 1,
            expected: expected.map_or(String::new(), told),
            got: told(&step),
        });
        false
    }
}

// ------------------------------------------------------------------------------------------------------- the backend

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

// --------------------------------------------------------------------------------------------------------- the calls

fn ret(ret: i64) -> Outcome {
    Outcome {
        ret,
        ..Outcome::default()
    }
}

fn value(value: u64) -> Outcome {
    Outcome {
        value,
        ..Outcome::default()
    }
}

fn call(op: &Operation, mm: Mm) -> Outcome {
    let [first, second] = op.numbers;
    match op.line.verb {
        Verb::Mm => return value(address(mn_mm_alloc()) as u64),
        Verb::Mmget => mn_mmget(mm),
        Verb::MmgetNz => return ret(mn_mmget_not_zero(mm).into()),
        Verb::Mmput => mn_mmput(mm),
        Verb::Mmgrab => mn_mmgrab(mm),
        Verb::Mmdrop => mn_mmdrop(mm),
        Verb::Lock => mn_lock(mm, op.write),
        Verb::Unlock => mn_unlock(mm, op.write),
        Verb::Reg | Verb::RegLocked => return register(op, mm),
        Verb::Unreg => mn_unregister(list(op.object), mm),
        Verb::Nput | Verb::Put => mn_put(list(op.object)),
        Verb::Get | Verb::GetLocked => return get(op, mm),
        Verb::Getmax => return getmax(op, mm),
        Verb::Sync => mn_synchronize(),
        Verb::Iins | Verb::IinsLocked => return insert(op, mm),
        Verb::Irem => mn_remove(interval(op.object)),
        Verb::Rb => return value(mn_read_begin(interval(op.object))),
        Verb::Rr => return ret(mn_read_retry(interval(op.object), first).into()),
        Verb::Cr => return ret(mn_check_retry(interval(op.object), first).into()),
        Verb::Start | Verb::StartNb => return start(op),
        Verb::End => mn_end(op.slot),
        Verb::Cfy => return ret(mn_clear_flush_young(mm, first, second)),
        Verb::Cy => return ret(mn_clear_young(mm, first, second)),
        Verb::Ty => return ret(mn_test_young(mm, first)),
        Verb::Cpte => mn_change_pte(mm, first, second),
        Verb::Tlb => mn_tlb(mm, first, second),
        Verb::Has => return ret(mn_has(mm).into()),
        Verb::Counts => {
            mn_synchronize();
            let value = mn_mm_count(mm) as u64;
            return Outcome {
                value,
                ..ret(mn_mm_users(mm))
            };
        }
        Verb::Ops | Verb::Iops | Verb::Open | Verb::Close => (),
    }
    Outcome::default()
}

/// Makes a `_locked` call with mmap_lock held for writing.
fn locked<T>(op: &Operation, mm: Mm, call: impl FnOnce(bool) -> T) -> T {
    let is_form = op.line.verb.is_locked_form();
    let takes = is_form && !op.has_lock;
    if takes {
        mn_lock(mm, true);
    }
    let result = call(is_form);
    if takes {
        mn_unlock(mm, true);
    }
    result
}

fn register(op: &Operation, mm: Mm) -> Outcome {
    let object = list(op.object);
    let result = locked(op, mm, |form| mn_register(object, mm, op.set, form));
    let value = u64::from(result != 0 || mn_list_is_of(object, mm, op.set));
    Outcome {
        value,
        ..ret(result)
    }
}

fn get(op: &Operation, mm: Mm) -> Outcome {
    let mut id = 0;
    let error = locked(op, mm, |form| mn_get(mm, op.set, form, &mut id));
    Outcome {
        value: u64::from(error != 0 || mn_list_is_of(list(id), mm, op.set)),
        object: (error == 0).then_some(id),
        ..ret(error)
    }
}

fn getmax(op: &Operation, mm: Mm) -> Outcome {
    let object = list(op.object);
    let before = mn_list_users(object);
    mn_list_set_users(object, c_uint::MAX);
    let mut id = 0;
    let error = mn_get(mm, op.set, false, &mut id);
    let unchanged = mn_list_users(object) == c_uint::MAX;
    mn_list_set_users(object, before);
    Outcome {
        value: unchanged.into(),
        object: (error == 0).then_some(id),
        ..ret(error)
    }
}

fn insert(op: &Operation, mm: Mm) -> Outcome {
    let [start, length] = op.numbers;
    let object = interval(op.object);
    let result = locked(op, mm, |form| {
        mn_insert(object, mm, start, length, op.set, form)
    });
    let fields = Fields {
        mm: Some(address(mn_interval_mm(object))),
        set: Some(mn_interval_ops(object)),
        start: mn_interval_start(object),
        last: mn_interval_last(object),
        empty: mn_interval_empty(object),
        seq: mn_interval_seq(object),
        item_untouched: mn_interval_item_untouched(object),
    };
    let fields = Some(fields);
    Outcome {
        fields,
        ..ret(result)
    }
}

fn start(op: &Operation) -> Outcome {
    let Range {
        mm,
        start,
        end,
        flags,
        event,
        owner,
    } = world().ranges[op.slot].range;
    let owned = op.line.args[6] != "-";
    mn_range_init(op.slot, mm_of(mm), start, end, flags, event, owned, owner);
    let result = match op.line.verb {
        Verb::Start => {
            mn_start(op.slot);
            0
        }
        _ => mn_start_nonblock(op.slot),
    };
    let value = mn_range_flags(op.slot).into();
    Outcome {
        value,
        ..ret(result)
    }
}

// -------------------------------------------------------------------------------------------------------- a program

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
