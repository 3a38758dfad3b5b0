// SPDX-License-Identifier: MIT OR Apache-2.0
//! Callbacks as they come in: what they answer, and their lines of the trace.

use std::fmt::Write as _;

use super::{Entered, Hex, Life, MmSlot, World};
use crate::contract::{Args, Call, Op, Range};

impl World {
    /// A line into the output of the operation on whose thread it happened.
    pub fn emit(&mut self, at: Option<usize>, line: std::fmt::Arguments<'_>) {
        let out = match at {
            Some(at) => &mut self.operations[at].out,
            None => &mut self.stray,
        };
        writeln!(out, "{line}").expect("memory");
    }

    pub(super) fn mm_name(&self, handle: usize) -> String {
        let of = |slot: &&MmSlot| slot.handle == handle;
        let mut slots = self.mms.iter().enumerate().filter(|(_, slot)| of(slot));
        let live = self
            .mms
            .iter()
            .rposition(|slot| slot.live && slot.handle == handle);
        match live.or_else(|| slots.next().map(|(m, _)| m)) {
            Some(m) => format!("m{m}"),
            None => "m?".to_owned(),
        }
    }

    fn range_text(&self, range: &Range) -> String {
        let mm = self.mm_name(range.mm);
        let Range {
            start,
            end,
            flags,
            event,
            owner,
            ..
        } = *range;
        let (start, end, owner, flags) = (Hex(start), Hex(end), Hex(owner), Hex(flags.into()));
        format!("{mm} [{start},{end}) ev={event} fl={flags} ow={owner}")
    }

    /// A callback begins, on the thread of an operation.
    pub fn enter(&mut self, at: Option<usize>, call: &Call) -> Entered {
        self.callbacks += 1;
        if call.op == Op::Invalidate {
            return self.enter_interval(at, call);
        }
        let Some(n) = self.lists.get(call.subject).cloned() else {
            self.emit(at, format_args!("  !!! callback of an unknown subscriber"));
            return Entered {
                ret: 0,
                gate: None,
                act: None,
                sets_seq: false,
            };
        };
        if n.state == Life::Dead {
            self.emit(at, format_args!("  !!! callback on dead {}", n.name));
        }
        let (ret, blockable) = self.list_answer(n.set, call);
        let text = self.list_text(&n.name, call, ret);
        self.emit(at, format_args!("{text}"));
        let set = self.sets[n.set].as_ref().expect("defined");
        Entered {
            ret,
            gate: set.gate[call.op as usize].filter(|_| blockable),
            act: set.act[call.op as usize],
            sets_seq: false,
        }
    }

    /// What the callback returns, and may it sleep?
    fn list_answer(&mut self, set: usize, call: &Call) -> (i64, bool) {
        let set = self.sets[set].as_mut().expect("defined");
        let blockable = match &call.args {
            Args::Range { range, .. } => range.blockable(),
            _ => true,
        };
        let ret = match call.op {
            Op::Start if blockable => set.blockable_returns.next(0),
            Op::Start | Op::ClearFlushYoung | Op::ClearYoung | Op::TestYoung => {
                set.returns[call.op as usize].next(0)
            }
            _ => 0,
        };
        (i64::from(i32::try_from(ret).unwrap_or(0)), blockable)
    }

    fn list_text(&self, name: &str, call: &Call, ret: i64) -> String {
        let what = match call.op {
            Op::Release => "release",
            Op::ClearFlushYoung => "clear_flush_young",
            Op::ClearYoung => "clear_young",
            Op::TestYoung => "test_young",
            Op::ChangePte => "change_pte",
            Op::Start => "start",
            Op::End => "end",
            _ => "tlb",
        };
        let args = match &call.args {
            Args::Mm { mm } => self.mm_name(*mm),
            Args::Span { mm, start, end } => {
                format!("{} [{},{})", self.mm_name(*mm), Hex(*start), Hex(*end))
            }
            Args::Address { mm, address } => format!("{} {}", self.mm_name(*mm), Hex(*address)),
            Args::Pte { mm, address, pte } => {
                format!("{} {} pte={}", self.mm_name(*mm), Hex(*address), Hex(*pte))
            }
            Args::Range { range, .. } => self.range_text(range),
        };
        let answers = matches!(
            call.op,
            Op::Start | Op::ClearFlushYoung | Op::ClearYoung | Op::TestYoung
        );
        match answers {
            true => format!("  cb {name}.{what} {args} -> {ret}"),
            false => format!("  cb {name}.{what} {args}"),
        }
    }

    fn enter_interval(&mut self, at: Option<usize>, call: &Call) -> Entered {
        let (Some(io), Args::Range { range, cur_seq }) =
            (self.intervals.get(call.subject).cloned(), call.args)
        else {
            self.emit(at, format_args!("  !!! callback of an unknown interval"));
            return Entered {
                ret: 1,
                gate: None,
                act: None,
                sets_seq: false,
            };
        };
        if io.state == Life::Dead {
            self.emit(at, format_args!("  !!! callback on removed i{}", io.slot));
        }
        let blockable = range.blockable();
        let set = self.isets[io.set].as_mut().expect("defined");
        let returns = match blockable {
            true => &mut set.blockable_returns,
            false => &mut set.returns[Op::Invalidate as usize],
        };
        let ret = i64::from(returns.next(1) != 0);
        let entered = Entered {
            ret,
            gate: set.gate[Op::Invalidate as usize].filter(|_| blockable),
            act: set.act[Op::Invalidate as usize],
            sets_seq: if ret != 0 {
                set.sets_seq
            } else {
                set.sets_seq_on_false
            },
        };
        let range = self.range_text(&range);
        self.emit(
            at,
            format_args!("  cb i{}.inv {range} seq={cur_seq} -> {ret}", io.slot),
        );
        entered
    }

    /// Has the callback to wait at this gate? If so it is its waiter.
    pub fn waits_at(&mut self, at: Option<usize>, gate: Option<usize>) -> Option<usize> {
        let gate = gate.filter(|gate| self.gates[*gate].closed)?;
        if self.gates[gate].waiter {
            self.emit(at, format_args!("    gate {gate} taken"));
            return None;
        }
        self.gates[gate].waiter = true;
        Some(gate)
    }

    /// May the callback put its subscriber? Then that is booked.
    pub fn act_put(&mut self, at: Option<usize>, call: &Call) -> bool {
        let n = (call.op != Op::Invalidate).then(|| &self.lists[call.subject]);
        let may = n.is_some_and(|n| {
            let has_free = self.sets[n.set]
                .as_ref()
                .is_some_and(|set| set.ops.has(Op::Free));
            n.state == Life::Live && n.users >= 1 && (n.users > 1 || has_free)
        });
        if may {
            self.book_put(call.subject, self.operations.len());
        } else {
            self.emit(at, format_args!("    act put SKIP"));
        }
        may
    }

    /// The mm of a callback's act: its subscriber's, or that of the operation.
    pub fn mm_of_act(&self, at: Option<usize>, call: &Call) -> Option<usize> {
        match call.op {
            Op::Invalidate => self.intervals[call.subject]
                .m
                .or_else(|| self.operations[at?].m),
            _ => Some(self.lists[call.subject].m),
        }
    }

    /// May the callback insert an interval? Then: the object.
    pub fn act_insert(
        &mut self,
        at: Option<usize>,
        m: Option<usize>,
        i: usize,
        p: usize,
    ) -> Option<usize> {
        let may = |m: usize| {
            let slot = &self.mms[m];
            self.isets[p].is_some() && slot.itree_on && slot.users >= 1 && self.i[i].is_none()
        };
        if !m.is_some_and(may) {
            self.emit(at, format_args!("    act iins i{i} SKIP"));
            return None;
        }
        Some(self.new_interval(i, p))
    }

    /// The insert came back.
    pub fn acted_insert(&mut self, at: Option<usize>, m: usize, object: usize, ret: i64) {
        let slot = self.intervals[object].slot;
        self.emit(at, format_args!("    act iins i{slot} = {ret}"));
        self.book_insert(object, m, ret);
    }

    /// alloc_notifier, on the thread of a get: the new object, or its error.
    pub fn alloc(&mut self, at: Option<usize>, mm: usize) -> Result<(usize, Option<usize>), i64> {
        let Some(at) = at else {
            self.emit(
                None,
                format_args!("  !!! alloc_notifier outside mmu_notifier_get"),
            );
            return Err(-12);
        };
        self.callbacks += 1;
        let set = self.operations[at].set;
        let m = self.operations[at].m.unwrap_or(0);
        let opset = self.sets[set].as_mut().expect("defined");
        let gate = opset.gate[Op::Alloc as usize];
        let error = opset.returns[Op::Alloc as usize].next(0);
        let mm = self.mm_name(mm);
        if error != 0 {
            self.emit(Some(at), format_args!("  cb alloc {mm} -> {error}"));
            return Err(error);
        }
        let name = format!("a{}", self.allocated);
        self.allocated += 1;
        self.emit(Some(at), format_args!("  cb alloc {mm} -> {name}"));
        Ok((self.new_list(name, set, m, Life::New), gate))
    }

    /// free_notifier.
    pub fn free(&mut self, at: Option<usize>, object: usize) {
        let Some(n) = self.lists.get_mut(object) else {
            self.emit(at, format_args!("  !!! free of an unknown subscriber"));
            return;
        };
        let (was, name) = (n.state, n.name.clone());
        let again = n.freed;
        n.freed = true;
        n.state = Life::Dead;
        match was {
            _ if again => self.emit(at, format_args!("  !!! second free of {name}")),
            Life::Dead => self.emit(at, format_args!("  !!! second free of {name}")),
            Life::New => self.emit(at, format_args!("  cb {name}.free")),
            Life::Put => (),
            _ => self.emit(
                at,
                format_args!("  !!! free of {name}, which is still in use"),
            ),
        }
    }
}
