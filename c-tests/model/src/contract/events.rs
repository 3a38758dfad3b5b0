// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events: the start and the end of a range, young and so on.

use super::Contract;
use super::ops::{Args, BLOCKABLE, Call, EAGAIN, Op, Range};

impl Contract {
    // --------------------------------------------------------------------------- range start: 1.3, RS, HS, DV-1

    /// The blockable inline. HS-9: it drops the result.
    pub async fn range_start_blockable(&self, range: &mut Range) {
        if self.has_notifiers(range.mm) {
            range.flags |= BLOCKABLE;
            self.range_start(*range).await;
        }
    }

    /// The non-blockable inline.
    pub async fn range_start_nonblock(&self, range: &mut Range) -> i64 {
        if !self.has_notifiers(range.mm) {
            return 0;
        }
        range.flags &= !BLOCKABLE;
        self.range_start(*range).await
    }

    async fn range_start(&self, range: Range) -> i64 {
        let counted = self.state().has_itree(range.mm);
        if counted {
            let refused = self.tree_start(range, "RS-5").await;
            if refused != 0 {
                return refused; // HS-1
            }
        }
        if self.state().list_is_empty(range.mm) {
            return 0; // HS-2
        }
        self.list_start(range, counted).await
    }

    pub(super) async fn tree_start(&self, range: Range, rule_of_refusal: &'static str) -> i64 {
        let (hit, cur_seq) = {
            let mut state = self.state();
            state.s(range.mm).active = state.s(range.mm).active.wrapping_add(1); // RS-1
            let hit = state.intersecting(&range);
            if !hit.is_empty() {
                state.s(range.mm).seq |= 1;
            }
            (hit, state.s(range.mm).seq)
        };
        // RS-2, RS-6, RS-7, RS-8. RS-3: the tree does not change while these callbacks run.
        for subject in hit {
            let args = Args::Range { range, cur_seq };
            let op = Op::Invalidate;
            let agreed = self.driver.call(Call { op, subject, args }).await != 0;
            if !agreed && range.blockable() {
                self.warn(rule_of_refusal); // RS-5
            } else if !agreed {
                self.inv_end(range.mm); // RS-4
                return -EAGAIN;
            }
        }
        0
    }

    async fn list_start(&self, range: Range, counted: bool) -> i64 {
        let section = self.enter_section(); // HS-2: one for both loops
        let args = Args::Range { range, cur_seq: 0 };
        let mut result = 0;
        let starts = self.walk(range.mm, Op::Start, args, |ops, said| {
            if said != 0 {
                result = said; // HS-5, HS-6
                if range.blockable() || said != -EAGAIN {
                    self.warn("HS-5");
                }
                if ops.has(Op::End) {
                    self.warn("HS-5");
                }
            }
            false
        });
        starts.await;
        if result != 0 {
            if counted && !range.blockable() {
                self.inv_end(range.mm); // DV-1
            }
            self.walk(range.mm, Op::End, args, |_, _| false).await; // HS-7
        }
        self.leave_section(section);
        result
    }

    // ------------------------------------------------------------------------------------------------ range end: RE

    /// The inline.
    pub async fn range_end(&self, range: Range) {
        if !self.has_notifiers(range.mm) {
            return;
        }
        // DV-8 does not say when the report comes: here it is the last thing.
        let has_itree = self.state().has_itree(range.mm);
        let unpaired = has_itree && self.state().s(range.mm).active == 0;
        if has_itree && !unpaired {
            self.inv_end(range.mm); // RE-1: readers and removers go first
        }
        if !self.state().list_is_empty(range.mm) {
            let args = Args::Range { range, cur_seq: 0 };
            self.walk_in_section(range.mm, Op::End, args, |_, _| false)
                .await;
        }
        if unpaired {
            self.warn("DV-8"); // RE-5
        }
    }

    pub(super) fn inv_end(&self, mm: usize) {
        let mut state = self.state();
        state.s(mm).active -= 1;
        if state.s(mm).active != 0 || !state.s(mm).odd() {
            return; // RE-2
        }
        state.s(mm).seq = state.s(mm).seq.wrapping_add(1); // RE-3; who sleeps on it sees it change
        for id in std::mem::take(&mut state.s(mm).deferred) {
            // RE-4: head first, so what was deferred last comes first
            if state.interval(id).in_tree == Some(true) {
                state.tree_remove(mm, id);
            } else {
                state.tree_insert(mm, id);
            }
        }
    }

    // ------------------------------------------------------------------------------------------- young and so on: YG

    /// YG-1.
    pub async fn clear_young(&self, op: Op, mm: usize, start: u64, end: u64) -> i64 {
        let mut result = 0;
        let or = |_, said| {
            result |= said;
            false
        };
        self.walk_in_section(mm, op, Args::Span { mm, start, end }, or)
            .await;
        result
    }

    /// YG-2.
    pub async fn test_young(&self, mm: usize, address: u64) -> i64 {
        let mut result = 0;
        let first = |_, said| {
            result = said;
            said != 0
        };
        let args = Args::Address { mm, address };
        self.walk_in_section(mm, Op::TestYoung, args, first).await;
        result
    }

    /// YG-3.
    pub async fn change_pte(&self, mm: usize, address: u64, pte: u64) {
        let args = Args::Pte { mm, address, pte };
        self.walk_in_section(mm, Op::ChangePte, args, |_, _| false)
            .await;
    }

    /// YG-3.
    pub async fn tlb(&self, mm: usize, start: u64, end: u64) {
        let args = Args::Span { mm, start, end };
        self.walk_in_section(mm, Op::Tlb, args, |_, _| false).await;
    }
}
