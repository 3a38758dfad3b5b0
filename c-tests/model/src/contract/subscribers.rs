// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notifiers of a whole mm: register, get, put, unregister.

use super::Contract;
use super::ops::*;
use super::state::*;

impl Contract {
    // --------------------------------------------------------------------------------- register, get, put: RG, GP

    /// mmu_notifier_register. RG-8.
    pub async fn register(&self, sub: Option<(usize, Ops)>, mm: usize) -> i64 {
        self.lock(mm, true).await;
        let result = self.register_locked(sub, mm).await;
        self.unlock(mm, true);
        result
    }

    /// __mmu_notifier_register. RG-6: the ops are the caller's to set.
    pub async fn register_locked(&self, sub: Option<(usize, Ops)>, mm: usize) -> i64 {
        if self.state().mms[mm].users <= 0 {
            self.die("RG-1").await;
        }
        let mut state = self.state();
        if let Some((_, ops)) = sub {
            if ops.has(Op::Tlb) && (ops.has(Op::Start) || ops.has(Op::End)) {
                // RG-2
                if !std::mem::replace(&mut state.warned_once, true) {
                    state.warnings.push("RG-2");
                }
                return -EINVAL;
            }
        }
        state.mms[mm].subs.get_or_insert_with(Subscriptions::new); // RG-3
        match sub {
            None => state.s(mm).has_itree = true, // RG-5, ST-3
            Some((sub, ops)) => {
                state.mms[mm].count += 1;
                *state.sub(sub) = Sub {
                    ops,
                    mm,
                    users: 1,
                    next_when_unlinked: None,
                };
                state.s(mm).list.insert(0, sub);
            }
        }
        0
    }

    /// mmu_notifier_get: 1.3.
    pub async fn get(&self, ops: Ops, mm: usize) -> Result<usize, i64> {
        self.lock(mm, true).await;
        let found = self.get_locked(ops, mm).await;
        self.unlock(mm, true);
        found
    }

    /// mmu_notifier_get_locked.
    pub async fn get_locked(&self, ops: Ops, mm: usize) -> Result<usize, i64> {
        if let Some(found) = self.find(ops, mm) {
            return found;
        }
        let sub = self.driver.alloc(ops, mm).await?; // GP-3
        let error = self.register_locked(Some((sub, ops)), mm).await;
        if error != 0 {
            self.driver.free(sub);
            return Err(error);
        }
        Ok(sub) // GP-4
    }

    /// GP-1, GP-2.
    fn find(&self, ops: Ops, mm: usize) -> Option<Result<usize, i64>> {
        let mut state = self.state();
        let list = state.mms[mm].subs.as_ref()?.list.clone();
        let sub = list.into_iter().find(|sub| state.subs[*sub].ops == ops)?;
        let users = &mut state.sub(sub).users;
        if *users == u32::MAX {
            return Some(Err(-EOVERFLOW));
        }
        *users += 1;
        Some(Ok(sub))
    }

    /// What a test does to the public field.
    pub fn set_users(&self, sub: usize, users: u32) {
        self.state().sub(sub).users = users;
    }

    /// mmu_notifier_put. GP-5, GP-6.
    pub fn put(&self, sub: usize) {
        let mut state = self.state();
        let Sub { mm, users, .. } = *state.sub(sub);
        if users == 0 {
            state.warnings.push("GP-5");
            return;
        }
        state.sub(sub).users -= 1;
        if users > 1 {
            return;
        }
        state.unlink(mm, sub);
        state.tickets += 1;
        let owed = Owed {
            number: state.tickets,
            sub,
            before: state.sections.clone(),
        };
        state.owed.push(owed);
        drop(state);
        self.free_what_is_due();
    }

    // ----------------------------------------------------------------------------------------------- unregister: UN

    /// mmu_notifier_unregister.
    pub async fn unregister(&self, sub: usize, mm: usize) {
        if self.state().mms[mm].count <= 0 {
            self.die("UN-1").await;
        }
        let linked = self.state().s(mm).list.contains(&sub);
        if linked {
            // UN-2, else UN-3
            let section = self.enter_section();
            if self.state().sub(sub).ops.has(Op::Release) {
                let (op, subject, args) = (Op::Release, sub, Args::Mm { mm });
                self.driver.call(Call { op, subject, args }).await;
            }
            self.leave_section(section);
            self.state().unlink(mm, sub);
        }
        self.grace_period().await; // UN-4
        self.mmdrop(mm).await;
    }
}
