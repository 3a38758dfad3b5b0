// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes when the call is over: its result is booked, and told, as mnrun's `fin` does.

use super::{Hex, Life, MmSlot, Operation, Outcome, World};
use crate::language::Verb;

impl World {
    /// Books the result of an operation that is over, and returns its text.
    pub fn fin(&mut self, at: usize) -> String {
        let op = self.operations[at].clone();
        let outcome = op.outcome.expect("over");
        let text = self.fin_operation(at, &op, &outcome);
        if let Some(m) = op.m {
            self.mms[m].pending -= 1;
            self.mms[m].lockwait -= u32::from(op.lockwait);
            self.mm_maybe_dead(m);
        }
        if let Some(thread) = op.line.thread {
            self.threads[thread].busy = false;
        }
        text
    }

    fn fin_operation(&mut self, at: usize, op: &Operation, outcome: &Outcome) -> String {
        let m = op.m.unwrap_or(0);
        match op.line.verb {
            Verb::Mm => {
                let handle = usize::try_from(outcome.value).unwrap_or(0);
                self.mms[m] = MmSlot {
                    handle,
                    born: at,
                    live: true,
                    users: 1,
                    pending: 1,
                    ..MmSlot::default()
                };
            }
            Verb::Mmget => self.mms[m].users += 1,
            Verb::Mmgrab => self.mms[m].count += 1,
            Verb::MmgetNz => {
                self.mms[m].users += u32::from(outcome.ret != 0);
                return outcome.ret.to_string();
            }
            Verb::Counts if !op.blocked => {
                return format!("users={} count={}", outcome.ret, outcome.value);
            }
            Verb::Lock => self.fin_lock(op, m),
            Verb::Unlock => self.fin_unlock(op, m),
            Verb::Reg | Verb::RegLocked => return self.fin_reg(at, op, outcome),
            Verb::Unreg => self.fin_unreg(op, m),
            Verb::Get | Verb::GetLocked => return self.fin_get(op, outcome),
            Verb::Getmax => return self.fin_getmax(op, outcome),
            Verb::Sync => self.fin_sync(at),
            Verb::Iins | Verb::IinsLocked => return self.fin_iins(at, op, outcome),
            Verb::Irem => self.fin_irem(op, m),
            Verb::Rb => return self.fin_rb(op, outcome),
            Verb::Start | Verb::StartNb => return self.fin_start(op, outcome),
            Verb::End if self.ranges[op.slot].active => self.range_gone(op.slot),
            Verb::End => self.ranges[op.slot].busy = false,
            Verb::Cfy | Verb::Cy | Verb::Ty | Verb::Has | Verb::Rr | Verb::Cr => {
                return outcome.ret.to_string();
            }
            _ => (),
        }
        "ok".to_owned()
    }

    fn fin_lock(&mut self, op: &Operation, m: usize) {
        let thread = &mut self.threads[op.line.thread.expect("prep")];
        if op.write {
            thread.wl = op.m;
            self.mms[m].wlocked += 1;
        } else {
            thread.rl = op.m;
            self.mms[m].rlocked += 1;
        }
    }

    fn fin_unlock(&mut self, op: &Operation, m: usize) {
        let thread = &mut self.threads[op.line.thread.expect("prep")];
        if op.write {
            thread.wl = None;
            self.mms[m].wlocked -= 1;
        } else {
            thread.rl = None;
            self.mms[m].rlocked -= 1;
        }
    }

    fn fin_reg(&mut self, at: usize, op: &Operation, outcome: &Outcome) -> String {
        if outcome.ret != 0 {
            self.lists[op.object].state = Life::Dead;
            self.n[op.slot] = None;
        } else {
            self.lists[op.object].state = Life::Live;
            self.lists[op.object].users = 1;
            self.mms[op.m.unwrap_or(0)].registered += 1;
            if outcome.value == 0 {
                self.emit(
                    Some(at),
                    format_args!("  !!! n{}.mm or .ops is not set", op.slot),
                );
            }
        }
        outcome.ret.to_string()
    }

    fn fin_unreg(&mut self, op: &Operation, m: usize) {
        self.lists[op.object].state = Life::Dead;
        self.n[op.slot] = None;
        self.mms[m].registered -= 1;
    }

    fn fin_get(&mut self, op: &Operation, outcome: &Outcome) -> String {
        self.h_busy[op.slot] = false;
        let Some(object) = outcome.object else {
            return outcome.ret.to_string();
        };
        let Some(n) = self.lists.get_mut(object) else {
            return "!!! unknown notifier".to_owned();
        };
        if n.state == Life::New {
            n.state = Life::Live;
            self.mms[op.m.unwrap_or(0)].registered += 1;
        }
        n.users += 1;
        self.h[op.slot] = Some(object);
        let unset = if outcome.value == 0 {
            " !!! mm or ops is not set"
        } else {
            ""
        };
        format!("{}{unset}", self.lists[object].name)
    }

    fn fin_getmax(&mut self, op: &Operation, outcome: &Outcome) -> String {
        let changed = if outcome.value == 0 {
            " !!! users changed"
        } else {
            ""
        };
        let name = outcome.object.map(|object| self.lists[object].name.clone());
        let result = match name {
            Some(name) if outcome.object == Some(op.object) => name,
            Some(_) => "1".to_owned(),
            None => outcome.ret.to_string(),
        };
        format!("{result}{changed}")
    }

    fn fin_sync(&mut self, at: usize) {
        for object in 0..self.lists.len() {
            let n = &mut self.lists[object];
            if n.users > 0 || n.put_at == 0 || n.put_at > at || n.reported {
                continue;
            }
            n.reported = n.freed;
            let what = if n.freed { "freed" } else { "NOT FREED" };
            let name = n.name.clone();
            self.emit(Some(at), format_args!("  {what} {name}"));
        }
    }

    fn fin_iins(&mut self, at: usize, op: &Operation, outcome: &Outcome) -> String {
        let m = op.m.unwrap_or(0);
        self.mms[m].itree_on = true;
        self.book_insert(op.object, m, outcome.ret);
        let fields = outcome.fields.expect("an insert");
        let named = |mm: Option<usize>| mm.map_or("-".to_owned(), |mm| self.mm_name(mm));
        let (mm, item) = (
            named(fields.mm),
            if fields.item_untouched {
                "untouched"
            } else {
                "written"
            },
        );
        let ops = fields.set.map_or("-".to_owned(), |set| format!("p{set}"));
        let text = format!(
            "  + i{} mm={mm} ops={ops} start={} last={} {} seq={} item {item}",
            op.slot,
            Hex(fields.start),
            Hex(fields.last),
            if fields.empty { "empty" } else { "in tree" },
            Hex(fields.seq),
        );
        self.emit(Some(at), format_args!("{text}"));
        if outcome.ret != 0 {
            return outcome.ret.to_string();
        }
        format!("0 [{},{}]", Hex(fields.start), Hex(fields.last))
    }

    fn fin_irem(&mut self, op: &Operation, m: usize) {
        self.intervals[op.object].state = Life::Dead;
        self.mms[m].registered -= 1;
        let slot = self.intervals[op.object].slot;
        self.i[slot] = None;
    }

    fn fin_rb(&mut self, op: &Operation, outcome: &Outcome) -> String {
        let token = &mut self.tokens[op.slot];
        token.busy = false;
        token.valid = true;
        token.seq = outcome.value;
        self.intervals[op.object].readers -= 1;
        outcome.value.to_string()
    }

    fn fin_start(&mut self, op: &Operation, outcome: &Outcome) -> String {
        let flags = u32::try_from(outcome.value).unwrap_or(u32::MAX);
        self.ranges[op.slot].range.flags = flags;
        self.ranges[op.slot].busy = false;
        if outcome.ret != 0 {
            self.range_gone(op.slot);
        } else {
            self.ranges[op.slot].active = true;
        }
        format!("{} fl={}", outcome.ret, Hex(flags.into()))
    }
}
