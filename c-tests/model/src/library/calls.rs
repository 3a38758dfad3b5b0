// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls of the operations.

use std::ffi::c_uint;

use super::shim::*;
use super::*;
use crate::contract::Range;
use crate::language::Verb;
use crate::world::{Fields, Operation, Outcome};

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

pub(super) fn call(op: &Operation, mm: Mm) -> Outcome {
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
