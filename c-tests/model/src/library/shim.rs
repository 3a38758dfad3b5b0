// SPDX-License-Identifier: MIT OR Apache-2.0
//! The border to C (shim/shim.c): what it offers, and what it calls.

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::sync::atomic::Ordering;
use std::thread;

use super::verdict::*;
use super::*;
use crate::baton;
use crate::contract::{Args, Call, Op, Range};
use crate::language::Act;

#[repr(C)]
pub(super) struct ListMemory(c_void);
#[repr(C)]
pub(super) struct IntervalMemory(c_void);
#[repr(C)]
pub(super) struct MmStruct(c_void);
pub(super) type Mm = *mut MmStruct;
pub(super) type List = *mut ListMemory;
pub(super) type Interval = *mut IntervalMemory;

// SAFETY: The functions of shim/shim.c, with their C types. Each is as safe as the program's guards make it: pointers
// come from the shim or the library, and are used while the contract lets them live. A library that breaks the contract
// may corrupt this process, which is why it is a child of another one.
unsafe extern "C" {
    pub(super) safe fn mn_install();
    pub(super) safe fn mn_list_new(id: usize) -> List;
    pub(super) safe fn mn_interval_new(id: usize) -> Interval;
    pub(super) safe fn mn_list_poison(o: List);
    pub(super) safe fn mn_interval_poison(o: Interval);
    pub(super) safe fn mn_list_untouched(o: List) -> bool;
    pub(super) safe fn mn_interval_untouched(o: Interval) -> bool;
    pub(super) safe fn mn_free_memory(memory: *mut c_void);
    pub(super) safe fn mn_list_users(o: List) -> c_uint;
    pub(super) safe fn mn_list_set_users(o: List, users: c_uint);
    pub(super) safe fn mn_list_linked(o: List) -> bool;
    pub(super) safe fn mn_list_is_of(o: List, mm: Mm, set: usize) -> bool;
    pub(super) safe fn mn_define_ops(set: usize, has: c_uint);
    pub(super) safe fn mn_define_interval_ops(set: usize);
    pub(super) safe fn mn_mm_alloc() -> Mm;
    pub(super) safe fn mn_mmget(mm: Mm);
    pub(super) safe fn mn_mmget_not_zero(mm: Mm) -> bool;
    pub(super) safe fn mn_mmput(mm: Mm);
    pub(super) safe fn mn_mmgrab(mm: Mm);
    pub(super) safe fn mn_mmdrop(mm: Mm);
    pub(super) safe fn mn_mm_users(mm: Mm) -> c_long;
    pub(super) safe fn mn_mm_count(mm: Mm) -> c_long;
    pub(super) safe fn mn_has(mm: Mm) -> bool;
    pub(super) safe fn mn_lock(mm: Mm, write: bool);
    pub(super) safe fn mn_unlock(mm: Mm, write: bool);
    pub(super) safe fn mn_register(o: List, mm: Mm, set: usize, locked: bool) -> c_long;
    pub(super) safe fn mn_unregister(o: List, mm: Mm);
    pub(super) safe fn mn_put(o: List);
    pub(super) safe fn mn_synchronize();
    pub(super) safe fn mn_get(mm: Mm, set: usize, locked: bool, id: &mut usize) -> c_long;
    pub(super) safe fn mn_insert(
        o: Interval,
        mm: Mm,
        start: c_ulong,
        length: c_ulong,
        set: usize,
        locked: bool,
    ) -> c_long;
    pub(super) safe fn mn_remove(o: Interval);
    pub(super) safe fn mn_read_begin(o: Interval) -> c_ulong;
    pub(super) safe fn mn_read_retry(o: Interval, seq: c_ulong) -> bool;
    pub(super) safe fn mn_check_retry(o: Interval, seq: c_ulong) -> bool;
    pub(super) safe fn mn_set_seq(o: Interval, seq: c_ulong);
    pub(super) safe fn mn_interval_mm(o: Interval) -> Mm;
    pub(super) safe fn mn_interval_start(o: Interval) -> c_ulong;
    pub(super) safe fn mn_interval_last(o: Interval) -> c_ulong;
    pub(super) safe fn mn_interval_seq(o: Interval) -> c_ulong;
    pub(super) safe fn mn_interval_empty(o: Interval) -> bool;
    pub(super) safe fn mn_interval_item_untouched(o: Interval) -> bool;
    pub(super) safe fn mn_interval_ops(o: Interval) -> usize;
    pub(super) safe fn mn_range_init(
        slot: usize,
        mm: Mm,
        start: c_ulong,
        end: c_ulong,
        flags: c_uint,
        event: c_int,
        owned: bool,
        owner: c_ulong,
    );
    pub(super) safe fn mn_start(slot: usize);
    pub(super) safe fn mn_start_nonblock(slot: usize) -> c_long;
    pub(super) safe fn mn_end(slot: usize);
    pub(super) safe fn mn_range_flags(slot: usize) -> c_uint;
    pub(super) safe fn mn_clear_flush_young(mm: Mm, start: c_ulong, end: c_ulong) -> c_long;
    pub(super) safe fn mn_clear_young(mm: Mm, start: c_ulong, end: c_ulong) -> c_long;
    pub(super) safe fn mn_test_young(mm: Mm, address: c_ulong) -> c_long;
    pub(super) safe fn mn_change_pte(mm: Mm, address: c_ulong, value: c_ulong);
    pub(super) safe fn mn_tlb(mm: Mm, start: c_ulong, end: c_ulong);
}

pub(super) fn mm_of(handle: usize) -> Mm {
    std::ptr::with_exposed_provenance_mut(handle)
}

pub(super) fn op_of(number: c_int) -> Op {
    Op::ALL[usize::try_from(number).unwrap_or(0)]
}

pub(super) fn callback(call: &Call) -> i64 {
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

pub(super) fn pass_gate(at: Option<usize>, gate: Option<usize>) {
    let gate = world().waits_at(at, gate);
    if let Some(gate) = gate {
        while world().gates[gate].closed {
            baton::wait_at_gate(gate);
        }
        world().gates[gate].waiter = false;
    }
}

pub(super) fn run_act(at: Option<usize>, act: Act, call: &Call) {
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

pub(super) const WARN: c_int = 1;
pub(super) const BUG: c_int = 2;

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
pub(super) fn end_in_bug(rule: String) -> ! {
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
