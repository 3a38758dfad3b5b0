// SPDX-License-Identifier: MIT OR Apache-2.0
//! An mm: its lock, and its life.

use std::future::pending;

use super::Contract;
use super::ops::*;
use super::state::*;

impl Contract {
    // ---------------------------------------------------------------------------------- mmap_lock: ML-5

    /// mmap_read_lock, mmap_write_lock.
    pub async fn lock(&self, mm: usize, write: bool) {
        if write {
            self.state().mms[mm].lock.waiting_writers += 1;
            self.until(|state| state.is_free(mm)).await;
            let lock = &mut self.state().mms[mm].lock;
            lock.waiting_writers -= 1;
            lock.writer = true;
        } else {
            self.until(|state| state.is_open_to_readers(mm)).await;
            self.state().mms[mm].lock.readers += 1;
        }
    }

    /// mmap_read_unlock, mmap_write_unlock.
    pub fn unlock(&self, mm: usize, write: bool) {
        let lock = &mut self.state().mms[mm].lock;
        if write {
            lock.writer = false;
        } else {
            lock.readers -= 1;
        }
    }

    // ---------------------------------------------------------------------------------- life of an mm: ML, RL, DS

    /// mm_alloc. ML-1.
    pub fn mm_alloc(&self) -> usize {
        let mut state = self.state();
        state.mms.push(Mm {
            users: 1,
            count: 1,
            subs: None,
            lock: MmapLock::default(),
        });
        state.mms.len() - 1
    }

    /// ML-1.
    pub fn mmget(&self, mm: usize) {
        self.state().mms[mm].users += 1;
    }

    /// ML-1.
    pub fn mmget_not_zero(&self, mm: usize) -> bool {
        let users = &mut self.state().mms[mm].users;
        let some = *users != 0;
        *users += i64::from(some);
        some
    }

    /// ML-1.
    pub fn mmgrab(&self, mm: usize) {
        self.state().mms[mm].count += 1;
    }

    /// ML-2.
    pub async fn mmput(&self, mm: usize) {
        self.state().mms[mm].users -= 1;
        if self.counts(mm).0 == 0 {
            if self.has_notifiers(mm) {
                self.exit_release(mm).await; // RL-7
            }
            self.mmdrop(mm).await;
        }
    }

    /// ML-3.
    pub async fn mmdrop(&self, mm: usize) {
        self.drop_count(mm);
        if self.bug().is_some() {
            pending::<()>().await;
        }
    }

    pub(super) fn drop_count(&self, mm: usize) {
        let mut state = self.state();
        state.mms[mm].count -= 1;
        if state.mms[mm].count == 0 && state.has_subs(mm) && !state.list_is_empty(mm) {
            state.bug = Some("DS-1");
        }
    }

    async fn exit_release(&self, mm: usize) {
        let has_itree = self.state().has_itree(mm);
        if has_itree {
            // RL-1
            let everything = Range {
                mm,
                start: 0,
                end: u64::MAX,
                flags: BLOCKABLE,
                event: EVENT_RELEASE,
                owner: 0,
            };
            self.tree_start(everything, "RL-1").await;
            self.inv_end(mm);
        }
        if self.state().list_is_empty(mm) {
            return; // RL-3
        }
        // RL-2
        let section = self.enter_section();
        self.walk(mm, Op::Release, Args::Mm { mm }, |_, _| false)
            .await;
        {
            // From the head: conformance/programs/srcu-passed needs the links that this order leaves.
            let mut state = self.state();
            while let Some(first) = state.s(mm).list.first().copied() {
                state.unlink(mm, first);
            }
        }
        self.leave_section(section);
        self.grace_period().await;
    }
}
