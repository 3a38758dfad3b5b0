//! The state of the session: its threads, who holds which lock, and what has happened.

use std::collections::BTreeMap;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use core::cell::Cell;
use core::hash::{Hash, Hasher};
use core::ops::{Deref, DerefMut};
use core::time::Duration;

use super::session::Around;
use super::trace::{Event, Violation, What, awaited, class};
use crate::sync::hook::WaitReason;
use crate::sync::point::Kind;
use crate::sync::{self, Arc, AtomicBool, LockGuard, Ordering};

/// What a thread announced at a schedule point.
#[derive(Clone, Copy, Debug)]
pub(super) struct Op {
    pub(super) kind: Kind,
    /// A key; not dereferenced.
    pub(super) address: usize,
    /// The wait for a lock can be given up.
    pub(super) cancellable: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Status {
    /// It was created and has not begun.
    New,
    /// At a schedule point.
    Ready(Op),
    /// In the library, on a queue.
    Asleep(usize, WaitReason),
    /// It was woken.
    Woken,
    /// It has the baton.
    Running,
    /// Over.
    Finished,
    /// It will never come back: blocked outside, or at a BUG.
    Lost,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) baton: Arc<Baton>,
    pub(super) handle: Option<JoinHandle<()>>,
    pub(super) status: Status,
    /// Starts of ranges that are not blockable, and are running.
    pub(super) nonblock: u32,
    /// Ranges started, less those ended.
    pub(super) ranges: i64,
    /// When it fell asleep: a number that grows.
    pub(super) since: usize,
    /// Stands for the way that the thread has come.
    pub(super) path: u64,
    pub(super) cancelled: bool,
    /// It stands inside a walk's callback, or a free_notifier.
    pub(super) in_walk: bool,
}

/// The right to run, for one thread.
#[derive(Debug)]
pub(super) struct Baton {
    here: AtomicBool,
    owner: thread::Thread,
}

impl Baton {
    pub(super) fn new(owner: thread::Thread) -> Arc<Self> {
        Arc::new(Self {
            here: AtomicBool::new(false),
            owner,
        })
    }

    /// Does it belong to the calling thread?
    pub(super) fn is_mine(&self) -> bool {
        self.owner.id() == thread::current().id()
    }

    pub(super) fn give(&self) {
        // ORDERING: Release pairs with the Acquire in `is_taken`: the next one sees all that was done.
        self.here.store(true, Ordering::Release);
        self.owner.unpark();
    }

    fn is_taken(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `give`.
        self.here.swap(false, Ordering::Acquire)
    }

    /// The owner waits for it.
    pub(super) fn take(&self) {
        while !self.is_taken() {
            thread::park();
        }
    }

    /// The owner waits for it, but no longer than this. False: it did not come.
    pub(super) fn take_within(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        while !self.is_taken() {
            let waited = begun.elapsed();
            if waited >= patience {
                return self.is_taken();
            }
            thread::park_timeout(patience - waited);
        }
        true
    }
}

#[derive(Debug)]
pub(super) struct State {
    /// Tells sessions apart. 0: there was none.
    pub(super) generation: u64,
    pub(super) active: bool,
    pub(super) members: Vec<Member>,
    pub(super) controller: Option<Arc<Baton>>,
    /// Who has the baton.
    pub(super) running: Option<usize>,
    pub(super) worker: Option<usize>,
    pub(super) around: Option<Around>,
    /// Locks that are held, by whom.
    pub(super) held: BTreeMap<usize, Option<usize>>,
    /// Names of objects by class and address, as indices of `objects`.
    names: BTreeMap<(&'static str, usize), usize>,
    pub(super) objects: Vec<String>,
    pub(super) events: Vec<Event>,
    /// The step that runs, or ran last.
    pub(super) step: usize,
    pub(super) violation: Option<Violation>,
    clock: usize,
    /// A thread sleeps for ever inside a walk: every grace period of the process waits for it.
    pub(super) poisoned: bool,
}

static STATE: sync::Lock<State> = sync::Lock::new(State {
    generation: 0,
    active: false,
    members: Vec::new(),
    controller: None,
    running: None,
    worker: None,
    around: None,
    held: BTreeMap::new(),
    names: BTreeMap::new(),
    objects: Vec::new(),
    events: Vec::new(),
    step: 0,
    violation: None,
    clock: 0,
    poisoned: false,
});

/// Who the calling thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Nobody of the session.
    Outsider,
    /// It steps the session of this generation.
    Controller(u64),
    /// A logical thread of the session of this generation.
    Member(u64, usize),
}

thread_local! {
    /// Is this thread inside of `STATE`'s lock? Its waits for it are nobody's business.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static ROLE: Cell<Role> = const { Cell::new(Role::Outsider) };
}

pub(super) fn role() -> Role {
    ROLE.get()
}

pub(super) fn set_role(role: Role) {
    ROLE.set(role);
}

/// Is the calling thread looking at the state right now?
pub(super) fn is_inside() -> bool {
    INSIDE.get()
}

/// Access to the state.
pub(super) struct Guard(Option<LockGuard<'static, State>>);

pub(super) fn state() -> Guard {
    INSIDE.set(true);
    Guard(Some(STATE.lock()))
}

impl Deref for Guard {
    type Target = State;
    fn deref(&self) -> &State {
        self.0.as_ref().expect("held until dropped")
    }
}

impl DerefMut for Guard {
    fn deref_mut(&mut self) -> &mut State {
        self.0.as_mut().expect("held until dropped")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0 = None;
        INSIDE.set(false);
    }
}

impl State {
    /// The calling thread's number, if it is a logical thread of this session.
    pub(super) fn me(&self) -> Option<usize> {
        match role() {
            Role::Member(generation, me) if self.active && generation == self.generation => {
                Some(me)
            }
            _ => None,
        }
    }

    /// Forgets the last session.
    pub(super) fn reset(&mut self, controller: Arc<Baton>, around: Option<Around>) {
        self.generation += 1;
        self.active = true;
        self.members.clear();
        self.controller = Some(controller);
        self.running = None;
        self.worker = None;
        self.around = around;
        self.held.clear();
        self.names.clear();
        self.objects.clear();
        self.events.clear();
        self.step = 0;
        self.violation = None;
        self.clock = 0;
    }

    pub(super) fn add(&mut self, name: &str, owner: thread::Thread, status: Status) -> usize {
        self.members.push(Member {
            name: name.to_owned(),
            baton: Baton::new(owner),
            handle: None,
            status,
            nonblock: 0,
            ranges: 0,
            since: 0,
            path: 0,
            cancelled: false,
            in_walk: false,
        });
        self.members.len() - 1
    }

    pub(super) fn log(&mut self, thread: usize, what: What) {
        let step = self.step;
        self.events.push(Event { step, thread, what });
    }

    /// The object that an operation is about. Objects get their names in the order in which they turn up.
    pub(super) fn object(&mut self, kind: Kind, address: usize) -> Option<usize> {
        if address == 0 {
            return None;
        }
        let class = class(kind);
        if let Some(known) = self.names.get(&(class, address)) {
            return Some(*known);
        }
        let number = self.names.keys().filter(|name| name.0 == class).count() + 1;
        Some(self.name(class, address, format!("{class} {number}")))
    }

    /// An object that has a name of its own.
    pub(super) fn introduce(&mut self, class: &'static str, address: usize, name: &str) {
        if !self.names.contains_key(&(class, address)) {
            self.name(class, address, name.to_owned());
        }
    }

    fn name(&mut self, class: &'static str, address: usize, name: String) -> usize {
        self.objects.push(name);
        let number = self.objects.len() - 1;
        self.names.insert((class, address), number);
        number
    }

    pub(super) fn violate(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    /// The status that a thread comes to rest in, and what it means for its path.
    pub(super) fn rest(&mut self, me: usize, status: Status) {
        self.clock += 1;
        let clock = self.clock;
        if let Status::Ready(op) = status {
            if op.kind == Kind::MMU_NOTIFIER_EXPLORE_LOCK && self.held.contains_key(&op.address) {
                let lock = self.object(op.kind, op.address);
                self.log(me, What::WaitsFor(lock.expect("a lock has an address")));
            }
        }
        let mark = match status {
            Status::Ready(op) => (1, op.kind as u32),
            Status::Asleep(_, reason) => (2, reason as u32),
            _ => (3, 0),
        };
        let member = &mut self.members[me];
        member.path = hash(&(member.path, mark));
        member.since = clock;
        member.status = status;
    }

    pub(super) fn is_enabled(&self, thread: usize) -> bool {
        let member = &self.members[thread];
        match member.status {
            Status::New | Status::Woken => true,
            Status::Ready(op) => {
                op.kind != Kind::MMU_NOTIFIER_EXPLORE_LOCK
                    || !self.held.contains_key(&op.address)
                    || member.cancelled
            }
            _ => false,
        }
    }

    /// Is it over, or the worker with nothing to do?
    pub(super) fn is_done(&self, thread: usize) -> bool {
        matches!(
            self.members[thread].status,
            Status::Finished | Status::Asleep(_, WaitReason::MMU_NOTIFIER_WAIT_IDLE)
        )
    }

    /// Will some thread stay inside a walk for ever?
    pub(super) fn has_open_walk(&self) -> bool {
        let stays = |member: &Member| member.in_walk && !matches!(member.status, Status::Finished);
        self.members.iter().any(stays)
    }

    /// Who waits for what.
    pub(super) fn waits(&self) -> Vec<String> {
        let waiting = (0..self.members.len()).filter(|thread| !self.is_done(*thread));
        let mut waits: Vec<String> = waiting.map(|thread| self.wait_of(thread)).collect();
        let owing = self.members.iter().filter(|member| member.ranges > 0);
        waits.extend(owing.map(|member| {
            let over = matches!(member.status, Status::Finished);
            let when = if over { ", which is over," } else { "" };
            format!(
                "{}{when} has not ended {} range(s)",
                member.name, member.ranges
            )
        }));
        waits
    }

    fn wait_of(&self, thread: usize) -> String {
        let member = &self.members[thread];
        let what = match member.status {
            Status::Ready(op) => {
                let object = self.names.get(&("lock", op.address));
                let name = object.map_or("a lock", |object| &self.objects[*object]);
                let holder = self.held.get(&op.address).copied().flatten();
                let holder = holder.map_or("nobody of the scenario", |holder| {
                    if holder == thread {
                        "itself"
                    } else {
                        &self.members[holder].name
                    }
                });
                format!("{name}, held by {holder}")
            }
            Status::Asleep(_, reason) => awaited(reason).to_owned(),
            _ => "nothing that is known".to_owned(),
        };
        format!("{} waits for {what}", member.name)
    }
}

/// A number for a value; the same in every run.
pub(super) fn hash(value: &impl Hash) -> u64 {
    #[expect(
        deprecated,
        reason = "a hash that is the same in every process; no adversary chooses what is hashed"
    )]
    let mut hasher = core::hash::SipHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
