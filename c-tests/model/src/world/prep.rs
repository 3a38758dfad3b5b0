// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes before the call: the guards, which refuse an operation as mnrun's `prep` does, and what is booked by then.

use std::sync::Arc;

use super::{Life, ListObject, MmSlot, Named, Operation, RangeSlot, Token, Why, World};
use crate::contract::{Op, Range};
use crate::language::{
    Bad, GATES, Line, MMS, OpSet, RANGES, SETS, SLOTS, TOKENS, Verb, index, number,
};

macro_rules! refuse {
    ($why:literal if $condition:expr) => {
        if $condition {
            return Err($why);
        }
    };
}

impl World {
    /// Books an operation, which is then the last of `operations`; or refuses it.
    ///
    /// # Errors
    /// mnrun would not read it.
    pub fn prep(&mut self, line: Line) -> Result<Why, Bad> {
        let mut op = Operation {
            m: None,
            set: 0,
            object: 0,
            slot: 0,
            write: false,
            has_lock: false,
            lockwait: false,
            numbers: [0; 2],
            outcome: None,
            blocked: false,
            out: String::new(),
            line: Arc::new(line),
        };
        let busy = op
            .line
            .thread
            .is_some_and(|thread| self.threads[thread].busy);
        let why = if busy {
            Err("thread busy")
        } else if matches!(op.line.verb, Verb::Ops | Verb::Iops) {
            self.prep_ops(&mut op)?
        } else {
            self.prep_operation(&mut op)
        };
        if why.is_ok() && !op.line.verb.is_local() {
            self.book_operation(&op);
        }
        self.operations.push(op);
        Ok(why)
    }

    fn book_operation(&mut self, op: &Operation) {
        if let Some(m) = op.m {
            self.mms[m].pending += 1;
            self.mms[m].lockwait += u32::from(op.lockwait);
        }
        if let Some(thread) = op.line.thread {
            self.threads[thread].busy = true;
        }
    }

    fn prep_operation(&mut self, op: &mut Operation) -> Why {
        match op.line.verb {
            Verb::Ops | Verb::Iops | Verb::Sync => Ok(()),
            Verb::Open | Verb::Close => self.prep_gate(op),
            Verb::Mm => self.prep_mm(op),
            Verb::Mmget => self.prep_mmget(op),
            Verb::Mmput => self.prep_mmput(op),
            Verb::Mmdrop => self.prep_mmdrop(op),
            Verb::MmgetNz | Verb::Mmgrab | Verb::Has | Verb::Counts => self.take_m(op, 0, true),
            Verb::Cfy | Verb::Cy | Verb::Tlb | Verb::Ty | Verb::Cpte => self.prep_event(op),
            Verb::Lock => self.prep_lock(op),
            Verb::Unlock => self.prep_unlock(op),
            Verb::Reg | Verb::RegLocked => self.prep_reg(op),
            Verb::Unreg => self.prep_unreg(op),
            Verb::Nput => self.prep_nput(op),
            Verb::Get | Verb::GetLocked => self.prep_get(op),
            Verb::Put => self.prep_put(op),
            Verb::Getmax => self.prep_getmax(op),
            Verb::Iins | Verb::IinsLocked => self.prep_iins(op),
            Verb::Irem => self.prep_irem(op),
            Verb::Rb => self.prep_rb(op),
            Verb::Rr | Verb::Cr => self.prep_retry(op),
            Verb::Start | Verb::StartNb => self.prep_start(op),
            Verb::End => self.prep_end(op),
        }
    }

    fn take_m(&self, op: &mut Operation, arg: usize, explicit_reference: bool) -> Why {
        let m = index(&op.line.args[arg], 'm', MMS).ok_or("syntax")?;
        op.m = Some(m);
        let slot = &self.mms[m];
        refuse!("no mm" if !slot.live);
        refuse!("no reference" if explicit_reference && slot.users == 0 && slot.count == 0);
        Ok(())
    }

    fn take_set(&self, op: &mut Operation, arg: usize, interval: bool) -> Why {
        let (prefix, sets) = if interval {
            ('p', &self.isets)
        } else {
            ('o', &self.sets)
        };
        op.set = index(&op.line.args[arg], prefix, SETS).ok_or("no ops")?;
        refuse!("no ops" if sets[op.set].is_none());
        Ok(())
    }

    fn take_slot(op: &mut Operation, prefix: char) -> Why {
        op.slot = index(&op.line.args[0], prefix, SLOTS).ok_or("syntax")?;
        Ok(())
    }

    fn mm(&self, op: &Operation) -> &MmSlot {
        &self.mms[op.m.expect("taken")]
    }

    fn named(&self, op: &Operation) -> Option<&Named> {
        op.line.thread.map(|thread| &self.threads[thread])
    }

    fn holds(&self, op: &Operation) -> bool {
        self.named(op)
            .is_some_and(|thread| op.m.is_some() && (thread.rl == op.m || thread.wl == op.m))
    }

    /// May this operation, which may want mmap_lock, run now?
    fn want_lock(&self, op: &mut Operation, owner_ok: bool) -> Why {
        if owner_ok && self.named(op).is_some_and(|thread| thread.wl == op.m) {
            op.has_lock = true;
            return Ok(());
        }
        refuse!("self-deadlock" if self.holds(op));
        refuse!("another waiter" if self.mm(op).lockwait > 0);
        op.lockwait = true;
        Ok(())
    }

    /// A change that must stay out of every start..end.
    fn structural(&self, op: &Operation) -> Why {
        if op.line.forced {
            return Ok(());
        }
        refuse!("range in flight" if self.mm(op).unlocked > 0);
        let own = self.named(op).is_some_and(|thread| thread.ranges > 0);
        refuse!("own range in flight" if self.mm(op).active > 0 && own);
        Ok(())
    }

    fn prep_ops(&mut self, op: &mut Operation) -> Result<Why, Bad> {
        let interval = op.line.verb == Verb::Iops;
        let (prefix, sets) = if interval {
            ('p', &mut self.isets)
        } else {
            ('o', &mut self.sets)
        };
        let Some(id) = index(&op.line.args[0], prefix, SETS) else {
            return Ok(Err("syntax"));
        };
        if sets[id].is_some() {
            return Ok(Err("defined"));
        }
        sets[id] = Some(OpSet::parse(id, interval, &op.line.args[1..])?);
        op.set = id;
        Ok(Ok(()))
    }

    fn prep_gate(&mut self, op: &mut Operation) -> Why {
        op.slot = index(&op.line.args[0], 'g', GATES).ok_or("syntax")?;
        self.gates[op.slot].closed = op.line.verb == Verb::Close;
        Ok(())
    }

    fn prep_mm(&mut self, op: &mut Operation) -> Why {
        let m = index(&op.line.args[0], 'm', MMS).ok_or("syntax")?;
        op.m = Some(m);
        refuse!("exists" if self.mms[m].live || self.mms[m].pending > 0);
        Ok(())
    }

    fn prep_mmget(&mut self, op: &mut Operation) -> Why {
        self.take_m(op, 0, false)?;
        refuse!("users 0" if self.mm(op).users == 0);
        Ok(())
    }

    fn prep_mmput(&mut self, op: &mut Operation) -> Why {
        self.take_m(op, 0, false)?;
        let m = self.mm(op);
        refuse!("users 0" if m.users == 0);
        refuse!("locked" if m.users == 1 && m.lockwait + m.rlocked + m.wlocked > 0);
        refuse!("in use" if m.users == 1 && m.count == 0 && m.active + m.pending > 0);
        self.mms[op.m.unwrap_or(0)].users -= 1;
        Ok(())
    }

    fn prep_mmdrop(&mut self, op: &mut Operation) -> Why {
        self.take_m(op, 0, false)?;
        let m = self.mm(op);
        refuse!("count 0" if m.count == 0);
        refuse!("in use" if m.count == 1 && m.users == 0 && m.active + m.pending > 0);
        self.mms[op.m.unwrap_or(0)].count -= 1;
        Ok(())
    }

    fn prep_event(&mut self, op: &mut Operation) -> Why {
        op.numbers[0] = number(&op.line.args[1]);
        op.numbers[1] = op.line.args.get(2).map_or(0, |arg| number(arg));
        self.take_m(op, 0, true)
    }

    fn prep_lock(&mut self, op: &mut Operation) -> Why {
        self.take_m(op, 1, true)?;
        refuse!("unnamed thread" if op.line.thread.is_none());
        refuse!("users 0" if self.mm(op).users == 0);
        let holds_one = self
            .named(op)
            .is_some_and(|thread| thread.rl.or(thread.wl).is_some());
        refuse!("holds one" if holds_one);
        op.write = op.line.args[0].starts_with('w');
        self.want_lock(op, false)
    }

    fn prep_unlock(&mut self, op: &mut Operation) -> Why {
        self.take_m(op, 0, true)?;
        refuse!("not held" if !self.holds(op));
        refuse!("range in flight" if self.named(op).is_some_and(|thread| thread.ranges > 0));
        op.write = self.named(op).is_some_and(|thread| thread.wl == op.m);
        Ok(())
    }

    fn prep_reg(&mut self, op: &mut Operation) -> Why {
        let syntax = Self::take_slot(op, 'n');
        self.take_m(op, 1, false)?;
        self.take_set(op, 2, false)?;
        syntax?;
        refuse!("registered" if self.n_of(op.slot).is_some());
        refuse!("users 0" if self.mm(op).users == 0 && !op.line.forced);
        self.structural(op)?;
        self.want_lock(op, op.line.verb.is_locked_form())?;
        op.object = self.new_list(
            format!("n{}", op.slot),
            op.set,
            op.m.unwrap_or(0),
            Life::Busy,
        );
        self.n[op.slot] = Some(op.object);
        Ok(())
    }

    fn take_n(&mut self, op: &mut Operation) -> Why {
        let slot = Self::take_slot(op, 'n').map(|()| op.slot);
        op.object = slot
            .ok()
            .and_then(|slot| self.n_of(slot))
            .ok_or("not registered")?;
        let n = &self.lists[op.object];
        refuse!("busy" if n.state != Life::Live);
        op.m = Some(n.m);
        op.set = n.set;
        Ok(())
    }

    fn prep_unreg(&mut self, op: &mut Operation) -> Why {
        self.take_n(op)?;
        refuse!("gets outstanding" if self.lists[op.object].users != 1);
        self.lists[op.object].state = Life::Busy;
        Ok(())
    }

    fn has(&self, set: usize, op: Op) -> bool {
        self.sets[set].as_ref().is_some_and(|set| set.ops.has(op))
    }

    fn prep_nput(&mut self, op: &mut Operation) -> Why {
        self.take_n(op)?;
        refuse!("gets outstanding" if self.lists[op.object].users != 1);
        refuse!("no free_notifier" if !self.has(op.set, Op::Free));
        self.book_put(op.object, self.operations.len() + 1);
        Ok(())
    }

    fn prep_get(&mut self, op: &mut Operation) -> Why {
        let syntax = Self::take_slot(op, 'h');
        self.take_m(op, 1, false)?;
        self.take_set(op, 2, false)?;
        syntax?;
        refuse!("in use" if self.h[op.slot].is_some() || self.h_busy[op.slot]);
        refuse!("no alloc_notifier" if !self.has(op.set, Op::Alloc) || !self.has(op.set, Op::Free));
        refuse!("users 0" if self.mm(op).users == 0);
        let busy = |n: &ListObject| n.state == Life::Busy && Some(n.m) == op.m && n.set == op.set;
        refuse!("busy" if self.lists.iter().any(busy));
        self.structural(op)?;
        self.want_lock(op, op.line.verb.is_locked_form())?;
        self.h_busy[op.slot] = true;
        Ok(())
    }

    fn prep_put(&mut self, op: &mut Operation) -> Why {
        let slot = Self::take_slot(op, 'h').map(|()| op.slot);
        op.object = slot.ok().and_then(|slot| self.h[slot]).ok_or("no handle")?;
        let n = &self.lists[op.object];
        if matches!(n.state, Life::Put | Life::Dead) {
            self.h[op.slot] = None; // a callback has put it
            return Err("gone");
        }
        refuse!("busy" if n.state != Life::Live);
        op.m = Some(n.m);
        op.set = n.set;
        self.h[op.slot] = None;
        self.book_put(op.object, self.operations.len() + 1);
        Ok(())
    }

    fn prep_getmax(&mut self, op: &mut Operation) -> Why {
        let slot = Self::take_slot(op, 'h').map(|()| op.slot);
        op.object = slot.ok().and_then(|slot| self.h[slot]).ok_or("no handle")?;
        let n = &self.lists[op.object];
        refuse!("no handle" if n.state != Life::Live);
        op.m = Some(n.m);
        op.set = n.set;
        refuse!("users 0" if self.mm(op).users == 0);
        let same = |(object, other): (usize, &ListObject)| {
            object != op.object
                && (other.m, other.set) == (n.m, n.set)
                && matches!(other.state, Life::Live | Life::Busy)
        };
        refuse!("ambiguous" if self.lists.iter().enumerate().any(same));
        let m = self.mm(op);
        refuse!("locked" if m.rlocked + m.wlocked + m.lockwait > 0);
        self.want_lock(op, false)
    }

    fn prep_iins(&mut self, op: &mut Operation) -> Why {
        let locked = op.line.verb.is_locked_form();
        let syntax = Self::take_slot(op, 'i');
        self.take_m(op, 1, true)?;
        self.take_set(op, 4, true)?;
        syntax?;
        refuse!("inserted" if self.i[op.slot].is_some());
        let m = self.mm(op);
        let on = m.itree_on;
        refuse!("users 0" if m.users == 0 && !(op.line.forced && on && !locked));
        if !on {
            self.structural(op)?;
        }
        if locked || !on {
            self.want_lock(op, locked)?;
        }
        op.numbers = [number(&op.line.args[2]), number(&op.line.args[3])];
        op.object = self.new_interval(op.slot, op.set);
        Ok(())
    }

    fn take_i(&mut self, op: &mut Operation, arg: usize) -> Why {
        let slot = index(&op.line.args[arg], 'i', SLOTS);
        op.object = slot.and_then(|slot| self.i[slot]).ok_or("not inserted")?;
        let io = &self.intervals[op.object];
        refuse!("busy" if io.state != Life::Live);
        op.m = io.m;
        Ok(())
    }

    fn prep_irem(&mut self, op: &mut Operation) -> Why {
        self.take_i(op, 0)?;
        refuse!("reader inside" if self.intervals[op.object].readers > 0);
        self.intervals[op.object].state = Life::Busy;
        Ok(())
    }

    fn prep_rb(&mut self, op: &mut Operation) -> Why {
        let slot = index(&op.line.args[0], 'k', TOKENS);
        self.take_i(op, 1)?;
        op.slot = slot.ok_or("syntax")?;
        let token = &mut self.tokens[op.slot];
        refuse!("token busy" if token.busy);
        *token = Token {
            valid: false,
            busy: true,
            io: op.object,
            seq: 0,
        };
        self.intervals[op.object].readers += 1;
        Ok(())
    }

    fn prep_retry(&mut self, op: &mut Operation) -> Why {
        let slot = index(&op.line.args[0], 'k', TOKENS).ok_or("no token")?;
        let Token {
            valid,
            busy,
            io,
            seq,
        } = self.tokens[slot];
        refuse!("no token" if !valid || busy);
        let object = &self.intervals[io];
        refuse!("removed" if !matches!(object.state, Life::Live | Life::Busy));
        op.m = object.m;
        op.object = io;
        op.numbers[0] = seq;
        Ok(())
    }

    /// A refusal that would leak a range in the reference (HS-10): mnrun keeps out of it.
    fn may_refuse(&self, m: Option<usize>) -> bool {
        self.lists.iter().any(|n| {
            let set = self.sets[n.set].as_ref().expect("defined");
            let there = Some(n.m) == m && !matches!(n.state, Life::Put | Life::Dead);
            there && set.ops.has(Op::Start) && !set.returns[Op::Start as usize].values.is_empty()
        })
    }

    fn prep_start(&mut self, op: &mut Operation) -> Why {
        let r = index(&op.line.args[0], 'r', RANGES);
        self.take_m(op, 1, true)?;
        op.slot = r.ok_or("syntax")?;
        let (holds, m) = (self.holds(op), self.mm(op));
        refuse!("active" if self.ranges[op.slot].active || self.ranges[op.slot].busy);
        refuse!("registration in progress" if !holds && m.lockwait > 0 && !op.line.forced);
        let guarded = op.line.verb == Verb::StartNb && !op.line.forced && m.itree_on;
        refuse!("would leak" if guarded && self.may_refuse(op.m));
        self.book_start(op, holds);
        Ok(())
    }

    fn book_start(&mut self, op: &Operation, locked: bool) {
        let m = op.m.expect("taken");
        self.mms[m].active += 1;
        match op.line.thread {
            Some(thread) if locked => self.threads[thread].ranges += 1,
            _ => self.mms[m].unlocked += 1,
        }
        let number = |arg: usize| number(&op.line.args[arg]);
        let owned = op.line.args[6] != "-";
        self.ranges[op.slot] = RangeSlot {
            used: true,
            mm_born: self.mms[m].born,
            active: false,
            busy: true,
            locked,
            m,
            thread: op.line.thread,
            range: Range {
                mm: self.mms[m].handle,
                start: number(2),
                end: number(3),
                event: number(4) as i32,
                flags: number(5) as u32,
                owner: if owned { number(6) } else { 0 },
            },
        };
    }

    fn prep_end(&mut self, op: &mut Operation) -> Why {
        let r = index(&op.line.args[0], 'r', RANGES).ok_or("not active")?;
        op.slot = r;
        if op.line.forced && !self.ranges[r].active {
            return self.prep_end_again(op);
        }
        let range = &mut self.ranges[r];
        refuse!("not active" if !range.active);
        refuse!("busy" if range.busy);
        refuse!("not the locking thread" if range.locked && range.thread != op.line.thread);
        range.busy = true;
        op.m = Some(range.m);
        Ok(())
    }

    /// `end!` of a range that has ended, on an mm where nothing else happens (DV-8). mnrun refuses it: "not active".
    fn prep_end_again(&mut self, op: &mut Operation) -> Why {
        let range = &self.ranges[op.slot];
        refuse!("not active" if !range.used || range.busy);
        let m = &self.mms[range.m];
        let there = m.live && m.born == range.mm_born && m.users + m.count > 0;
        refuse!("not active" if !there || m.active + m.pending > 0);
        op.m = Some(range.m);
        self.ranges[op.slot].busy = true;
        Ok(())
    }
}
