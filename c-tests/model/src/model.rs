// SPDX-License-Identifier: MIT OR Apache-2.0
//! The contract under a runner: operations are futures, which are polled in the order of their numbers.

use std::cell::{Cell, OnceCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::contract::{Call, Contract, Driver, Op, Ops, Sleepy};
use crate::language::{Act, Verb};
use crate::runner::{Backend, SharedWorld, lock};
use crate::world::{Fields, Operation, Outcome, World};

/// The drivers of a program: callbacks do what the sets say.
struct Callbacks {
    world: SharedWorld,
    contract: OnceCell<Weak<Contract>>,
    /// The operation that is being polled.
    current: Cell<Option<usize>>,
    progress: Cell<u64>,
}

impl Callbacks {
    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    fn contract(&self) -> Rc<Contract> {
        let contract = self.contract.get().and_then(Weak::upgrade);
        contract.expect("it polls us")
    }

    async fn pass_gate(&self, gate: Option<usize>) {
        let Some(gate) = self.world().waits_at(self.current.get(), gate) else {
            return;
        };
        let open = || !self.world().gates[gate].closed;
        poll_fn(|_| {
            if open() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        self.progress.set(self.progress.get() + 1);
        self.world().gates[gate].waiter = false;
    }

    async fn act(&self, act: Act, call: &Call) {
        let at = self.current.get();
        match act {
            Act::Put => {
                let may = self.world().act_put(at, call);
                if may {
                    self.contract().put(call.subject);
                    self.world().emit(at, format_args!("    act put"));
                }
            }
            Act::Insert {
                i,
                p,
                start,
                length,
            } => {
                let m = self.world().mm_of_act(at, call);
                let Some(object) = self.world().act_insert(at, m, i, p) else {
                    return;
                };
                let m = m.expect("checked");
                let mm = self.world().mms[m].handle;
                let ops = self.world().isets[p].as_ref().expect("checked").ops;
                let contract = self.contract();
                let ret = contract.insert(object, mm, start, length, ops, false).await;
                let at = self.current.get();
                self.world().acted_insert(at, m, object, ret);
            }
        }
    }

    async fn run(&self, call: Call) -> i64 {
        let entered = self.world().enter(self.current.get(), &call);
        self.pass_gate(entered.gate).await;
        if let Some(act) = entered.act {
            self.act(act, &call).await;
        }
        if let crate::contract::Args::Range { cur_seq, .. } = call.args {
            if entered.sets_seq {
                self.contract().set_seq(call.subject, cur_seq);
            }
        }
        entered.ret
    }
}

struct Handle(Rc<Callbacks>);

impl Driver for Handle {
    fn call(&self, call: Call) -> Sleepy<i64> {
        let callbacks = Rc::clone(&self.0);
        Box::pin(async move { callbacks.run(call).await })
    }

    fn alloc(&self, _ops: Ops, mm: usize) -> Sleepy<Result<usize, i64>> {
        let callbacks = Rc::clone(&self.0);
        Box::pin(async move {
            let (object, gate) = callbacks.world().alloc(callbacks.current.get(), mm)?;
            callbacks.pass_gate(gate).await;
            Ok(object)
        })
    }

    fn free(&self, subject: usize) {
        self.0.world().free(self.0.current.get(), subject);
    }
}

/// The model.
pub struct Model {
    contract: Rc<Contract>,
    callbacks: Rc<Callbacks>,
    /// Operations in progress, by their numbers.
    running: Vec<Running>,
}

struct Running {
    at: usize,
    fresh: bool,
    call: Pin<Box<dyn Future<Output = Outcome>>>,
}

impl Model {
    /// For a process that has had its WARN_ON_ONCE, or has not.
    pub fn new(world: &SharedWorld, warned_once: bool) -> Self {
        let callbacks = Rc::new(Callbacks {
            world: Arc::clone(world),
            contract: OnceCell::new(),
            current: Cell::new(None),
            progress: Cell::new(0),
        });
        let contract = Contract::new(Box::new(Handle(Rc::clone(&callbacks))), warned_once);
        let _ = callbacks.contract.set(Rc::downgrade(&contract));
        Self {
            contract,
            callbacks,
            running: Vec::new(),
        }
    }

    fn progress(&self) -> u64 {
        self.contract.progress() + self.callbacks.progress.get()
    }

    /// Polls the operations until one has moved. Says whether one has.
    fn poll_once(&mut self) -> bool {
        for slot in 0..self.running.len() {
            let before = self.progress();
            let Running { at, fresh, .. } = self.running[slot];
            self.running[slot].fresh = false;
            self.callbacks.current.set(Some(at));
            let mut context = Context::from_waker(Waker::noop());
            let poll = self.running[slot].call.as_mut().poll(&mut context);
            self.callbacks.current.set(None);
            if let Poll::Ready(outcome) = poll {
                drop(self.running.remove(slot));
                self.callbacks.world().operations[at].outcome = Some(outcome);
                return true;
            }
            if self.contract.bug().is_some() {
                return false;
            }
            if fresh || self.progress() != before {
                return true;
            }
        }
        false
    }
}

impl Backend for Model {
    fn start(&mut self, at: usize) {
        let (op, mm, ops) = {
            let world = self.callbacks.world();
            let op = world.operations[at].clone();
            let sets = match op.line.verb {
                Verb::Iins | Verb::IinsLocked => &world.isets,
                _ => &world.sets,
            };
            let ops = sets[op.set].as_ref().map_or(Ops::default(), |set| set.ops);
            (op.clone(), op.m.map_or(0, |m| world.mms[m].handle), ops)
        };
        let call = CallOf {
            contract: Rc::clone(&self.contract),
            world: Arc::clone(&self.callbacks.world),
            op,
            mm,
            ops,
        };
        self.running.push(Running {
            at,
            fresh: true,
            call: Box::pin(async move { call.run().await }),
        });
    }

    fn settle(&mut self) {
        while self.poll_once() {}
    }

    fn local(&mut self, _at: usize) {}

    fn finished(&mut self, _at: usize) {}

    fn counts(&mut self, mm: usize) -> (i64, i64) {
        self.contract.counts(mm)
    }

    fn sub(&mut self, object: usize) -> (u32, bool) {
        self.contract.sub(object)
    }

    fn interval(&mut self, object: usize) -> (u64, bool) {
        let interval = self.contract.interval(object);
        (interval.seq, interval.in_tree == Some(true))
    }

    fn warnings(&mut self) -> Vec<String> {
        let rules = self.contract.take_warnings();
        rules.into_iter().map(str::to_owned).collect()
    }

    fn bug(&mut self) -> Option<String> {
        self.contract.bug().map(str::to_owned)
    }
}

/// An operation's call, with all that it needs.
struct CallOf {
    contract: Rc<Contract>,
    world: SharedWorld,
    op: Operation,
    mm: usize,
    ops: Ops,
}

fn ret(ret: i64) -> Outcome {
    Outcome {
        ret,
        ..Outcome::default()
    }
}

impl CallOf {
    async fn run(&self) -> Outcome {
        let (contract, mm, object) = (&self.contract, self.mm, self.op.object);
        let [first, second] = self.op.numbers;
        match self.op.line.verb {
            Verb::Mm => {
                let value = contract.mm_alloc() as u64;
                return Outcome {
                    value,
                    ..Outcome::default()
                };
            }
            Verb::Mmget => contract.mmget(mm),
            Verb::MmgetNz => return ret(contract.mmget_not_zero(mm).into()),
            Verb::Mmput => contract.mmput(mm).await,
            Verb::Mmgrab => contract.mmgrab(mm),
            Verb::Mmdrop => contract.mmdrop(mm).await,
            Verb::Lock => contract.lock(mm, self.op.write).await,
            Verb::Unlock => contract.unlock(mm, self.op.write),
            Verb::Reg | Verb::RegLocked => return self.register().await,
            Verb::Unreg => contract.unregister(object, mm).await,
            Verb::Nput | Verb::Put => contract.put(object),
            Verb::Get | Verb::GetLocked => return self.get().await,
            Verb::Getmax => return self.getmax().await,
            Verb::Sync => contract.synchronize().await,
            Verb::Iins | Verb::IinsLocked => return self.insert().await,
            Verb::Irem => contract.remove(object).await,
            Verb::Start | Verb::StartNb => return self.start().await,
            Verb::End => {
                let range = lock(&self.world).ranges[self.op.slot].range;
                contract.range_end(range).await;
            }
            Verb::Cfy => {
                return ret(contract
                    .clear_young(Op::ClearFlushYoung, mm, first, second)
                    .await);
            }
            Verb::Cy => {
                return ret(contract
                    .clear_young(Op::ClearYoung, mm, first, second)
                    .await);
            }
            Verb::Ty => return ret(contract.test_young(mm, first).await),
            Verb::Cpte => contract.change_pte(mm, first, second).await,
            Verb::Tlb => contract.tlb(mm, first, second).await,
            Verb::Has => return ret(contract.has_notifiers(mm).into()),
            Verb::Counts => {
                contract.synchronize().await;
                let (users, count) = contract.counts(mm);
                let value = count as u64;
                return Outcome {
                    value,
                    ..ret(users)
                };
            }
            Verb::Rb => {
                let value = contract.read_begin(object).await;
                return Outcome {
                    value,
                    ..Outcome::default()
                };
            }
            Verb::Rr | Verb::Cr => return ret(contract.retry(object, first).into()),
            Verb::Ops | Verb::Iops | Verb::Open | Verb::Close => (),
        }
        Outcome::default()
    }

    /// Is mmap_lock to be taken for the call?
    fn takes_lock(&self) -> bool {
        self.op.line.verb.is_locked_form() && !self.op.has_lock
    }

    async fn register(&self) -> Outcome {
        let sub = Some((self.op.object, self.ops));
        if self.op.line.verb == Verb::Reg {
            let value = 1;
            return Outcome {
                value,
                ..ret(self.contract.register(sub, self.mm).await)
            };
        }
        if self.takes_lock() {
            self.contract.lock(self.mm, true).await;
        }
        let result = self.contract.register_locked(sub, self.mm).await;
        if self.takes_lock() {
            self.contract.unlock(self.mm, true);
        }
        Outcome {
            value: 1,
            ..ret(result)
        }
    }

    async fn get(&self) -> Outcome {
        let found = if self.op.line.verb == Verb::Get {
            self.contract.get(self.ops, self.mm).await
        } else {
            if self.takes_lock() {
                self.contract.lock(self.mm, true).await;
            }
            let found = self.contract.get_locked(self.ops, self.mm).await;
            if self.takes_lock() {
                self.contract.unlock(self.mm, true);
            }
            found
        };
        Outcome {
            value: 1,
            object: found.ok(),
            ..ret(found.err().unwrap_or(0))
        }
    }

    async fn getmax(&self) -> Outcome {
        let before = self.contract.sub(self.op.object).0;
        self.contract.set_users(self.op.object, u32::MAX);
        let found = self.contract.get(self.ops, self.mm).await;
        let unchanged = self.contract.sub(self.op.object).0 == u32::MAX;
        self.contract.set_users(self.op.object, before);
        Outcome {
            value: unchanged.into(),
            object: found.ok(),
            ..ret(found.err().unwrap_or(0))
        }
    }

    async fn insert(&self) -> Outcome {
        let [start, length] = self.op.numbers;
        let object = self.op.object;
        if self.takes_lock() {
            self.contract.lock(self.mm, true).await;
        }
        let locked = self.op.line.verb == Verb::IinsLocked;
        let result = self
            .contract
            .insert(object, self.mm, start, length, self.ops, locked)
            .await;
        if self.takes_lock() {
            self.contract.unlock(self.mm, true);
        }
        let interval = self.contract.interval(object);
        let fields = Fields {
            mm: interval.mm,
            set: interval.ops.map(|ops| ops.id),
            start: interval.start,
            last: interval.last,
            empty: interval.in_tree == Some(false),
            seq: interval.seq,
            item_untouched: !interval.was_deferred,
        };
        let fields = Some(fields);
        Outcome {
            fields,
            ..ret(result)
        }
    }

    async fn start(&self) -> Outcome {
        let mut range = lock(&self.world).ranges[self.op.slot].range;
        let result = match self.op.line.verb {
            Verb::Start => {
                self.contract.range_start_blockable(&mut range).await;
                0
            }
            _ => self.contract.range_start_nonblock(&mut range).await,
        };
        Outcome {
            value: range.flags.into(),
            ..ret(result)
        }
    }
}
