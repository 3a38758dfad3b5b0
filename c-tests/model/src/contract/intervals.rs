// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interval notifiers: readers, insert, remove.

use super::Contract;
use super::ops::*;
use super::state::*;

impl Contract {
    // --------------------------------------------------------------------------------------------- readers: RB, 1.3

    /// mmu_interval_read_begin.
    pub async fn read_begin(&self, id: usize) -> u64 {
        let (mm, seq) = {
            let interval = self.interval(id);
            (interval.mm.expect("RB-1: inserted"), interval.seq)
        };
        if self.state().s(mm).seq == seq {
            self.until(|state| state.seq(mm) != seq).await; // RB-2, RB-3
        }
        seq // RB-4
    }

    /// read_retry and check_retry: 1.3.
    pub fn retry(&self, id: usize, seq: u64) -> bool {
        self.interval(id).seq != seq
    }

    /// mmu_interval_set_seq: 1.3.
    pub fn set_seq(&self, id: usize, cur_seq: u64) {
        self.state().interval(id).seq = cur_seq;
    }

    // --------------------------------------------------------------------------------------------- interval insert: II

    /// `locked`: the caller holds mmap_lock.
    pub async fn insert(
        &self,
        id: usize,
        mm: usize,
        start: u64,
        length: u64,
        ops: Ops,
        locked: bool,
    ) -> i64 {
        if !self.state().has_itree(mm) {
            // II-1, II-3, II-11
            if locked {
                self.register_locked(None, mm).await;
            } else {
                self.register(None, mm).await;
            }
        }
        self.insert_registered(id, mm, start, length, ops)
    }

    fn insert_registered(&self, id: usize, mm: usize, start: u64, length: u64, ops: Ops) -> i64 {
        let mut state = self.state();
        let interval = state.interval(id); // II-4
        interval.mm = Some(mm);
        interval.ops = Some(ops);
        interval.start = start;
        interval.in_tree = Some(false);
        if length == 0 {
            return -EOVERFLOW;
        }
        interval.last = start.wrapping_add(length - 1); // II-6
        if start.checked_add(length - 1).is_none() {
            return -EOVERFLOW;
        }
        if state.mms[mm].users <= 0 {
            drop(state);
            self.warn("II-4");
            return -EINVAL;
        }
        state.mms[mm].count += 1; // II-5
        drop(state);
        self.place(id, mm);
        0 // II-9
    }

    /// II-7.
    fn place(&self, id: usize, mm: usize) {
        let mut state = self.state();
        let Subscriptions { seq, active, .. } = *state.s(mm);
        let odd = state.s(mm).odd();
        if active == 0 {
            state.interval(id).seq = seq.wrapping_sub(1);
            state.tree_insert(mm, id);
            if odd {
                state.warnings.push("II-7");
            }
        } else if !odd {
            state.s(mm).seq |= 1;
            state.interval(id).seq = seq | 1;
            state.tree_insert(mm, id);
        } else {
            state.interval(id).seq = seq;
            state.interval(id).was_deferred = true;
            state.s(mm).deferred.insert(0, id);
        }
    }

    // --------------------------------------------------------------------------------------------- interval remove: IR

    /// mmu_interval_notifier_remove.
    pub async fn remove(&self, id: usize) {
        let interval = self.interval(id);
        let mm = interval.mm.expect("IR-1: inserted");
        let odd = self.state().s(mm).odd();
        if odd && interval.in_tree != Some(true) {
            self.state().s(mm).deferred.retain(|item| *item != id); // IR-2
        } else if odd {
            // IR-3, IR-6
            let seq = {
                let mut state = self.state();
                state.interval(id).was_deferred = true;
                state.s(mm).deferred.insert(0, id);
                state.s(mm).seq
            };
            self.until(|state| state.seq(mm) != seq).await;
        } else {
            self.state().tree_remove(mm, id); // IR-4
        }
        self.mmdrop(mm).await; // IR-7
    }
}
