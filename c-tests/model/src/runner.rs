// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a program on the model or on the library, line by line, and makes the trace.
//!
//! The trace is mnrun's, plus lines that begin with `  + ` for what mnrun does not print: reference counts, sub.users, is a
//! subscriber linked, is an interval in the tree, the fields after an insert, the rules of WARNs. Such a line is printed
//! when the value changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::language::{Bad, GATES, Line, MMS, RANGES, SLOTS, THREADS};
use crate::world::{Life, World};

/// The world, shared with the callbacks.
pub type SharedWorld = Arc<Mutex<World>>;

/// Takes the world.
pub fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who makes the calls.
pub trait Backend {
    /// Begins the call of an operation.
    fn start(&mut self, at: usize);
    /// Lets threads run until none can.
    fn settle(&mut self);
    /// A set of callbacks was defined, a gate was opened or closed.
    fn local(&mut self, at: usize);
    /// The result of an operation was booked.
    fn finished(&mut self, at: usize);
    /// mm_users and mm_count.
    fn counts(&mut self, mm: usize) -> (i64, i64);
    /// sub.users, and is it linked?
    fn sub(&mut self, object: usize) -> (u32, bool);
    /// invalidate_seq, and is it in the tree?
    fn interval(&mut self, object: usize) -> (u64, bool);
    /// The rules of WARNs since the last call.
    fn warnings(&mut self) -> Vec<String>;
    /// The rule of the BUG that ended it all.
    fn bug(&mut self) -> Option<String>;
}

/// What a line of the program led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Lines of the trace.
    pub text: String,
    /// Was the operation blocked?
    pub blocked: bool,
    /// The rule of the BUG that ended it all.
    pub bug: Option<String>,
}

/// Is told of each step before the next one; says whether to go on.
pub trait Observer {
    /// A line is about to run.
    fn before(&mut self) {}
    /// A line has run.
    fn after(&mut self, step: Step) -> bool;
}

/// A program in progress.
pub struct Runner<B, O> {
    /// What is known of it.
    pub world: SharedWorld,
    /// Who makes the calls.
    pub backend: B,
    /// Who is told.
    pub observer: O,
    stopped: bool,
}

impl<B: Backend, O: Observer> Runner<B, O> {
    /// Before the first line.
    pub fn new(world: SharedWorld, backend: B, observer: O) -> Self {
        Self {
            world,
            backend,
            observer,
            stopped: false,
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    /// Has the observer, or a BUG, stopped it?
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Runs the lines, then what undoes all that is still there.
    ///
    /// # Errors
    /// mnrun would not read a line.
    pub fn run(&mut self, lines: &[String]) -> Result<(), Bad> {
        for line in lines {
            self.source_line(line)?;
        }
        self.cleanup("")
    }

    /// Runs a line of a program's text.
    ///
    /// # Errors
    /// mnrun would not read it.
    pub fn source_line(&mut self, source: &str) -> Result<(), Bad> {
        if let Some(order) = source.strip_prefix("cleanup") {
            return self.cleanup(order.split(['#', '\r', '\n']).next().unwrap_or(""));
        }
        match Line::parse(source)? {
            Some(line) => self.line(line),
            None => Ok(()),
        }
    }

    fn line(&mut self, line: Line) -> Result<(), Bad> {
        if self.stopped {
            return Ok(());
        }
        self.observer.before();
        let mut step = Step {
            text: format!("[{}] {}\n", self.world().operations.len() + 1, line.text),
            blocked: false,
            bug: None,
        };
        let is_local = line.verb.is_local();
        let why = self.world().prep(line)?;
        let at = self.world().operations.len() - 1;
        match why {
            Err(why) => {
                step.text += &format!("  SKIP {why}\n");
                self.world().skipped += 1;
            }
            Ok(()) if is_local => {
                self.backend.local(at);
                self.backend.settle();
                step.text += "  = ok\n";
            }
            Ok(()) => self.operation(at, &mut step),
        }
        self.report_pending(&mut step);
        step.bug = self.backend.bug();
        if step.bug.is_none() {
            self.show(&mut step.text);
        }
        self.stopped = step.bug.is_some();
        self.stopped |= !self.observer.after(step);
        Ok(())
    }

    fn operation(&mut self, at: usize, step: &mut Step) {
        self.backend.start(at);
        self.backend.settle();
        if self.world().operations[at].outcome.is_some() {
            self.finish(at, &mut step.text);
            return;
        }
        let mut world = self.world();
        world.operations[at].blocked = true;
        world.blocked += 1;
        world.pending.push(at);
        step.text += &std::mem::take(&mut world.operations[at].out);
        step.text += "  BLOCKED\n";
        step.blocked = true;
    }

    fn finish(&mut self, at: usize, text: &mut String) {
        let result = self.world().fin(at);
        {
            let mut world = self.world();
            *text += &std::mem::take(&mut world.operations[at].out);
            *text += &match world.operations[at].blocked {
                true => format!("  [{}] DONE = {result}\n", at + 1),
                false => format!("  = {result}\n"),
            };
        }
        self.backend.finished(at);
    }

    fn report_pending(&mut self, step: &mut Step) {
        let pending = std::mem::take(&mut self.world().pending);
        let mut still = Vec::new();
        for at in pending {
            if at + 1 == self.world().operations.len() {
                still.push(at); // just begun
                continue;
            }
            if self.world().operations[at].outcome.is_some() {
                self.finish(at, &mut step.text);
                continue;
            }
            let out = std::mem::take(&mut self.world().operations[at].out);
            if !out.is_empty() {
                step.text += &format!("  [{}] still BLOCKED\n{out}", at + 1);
            }
            still.push(at);
        }
        self.world().pending = still;
    }

    /// What has changed that no line has said.
    fn show(&mut self, text: &mut String) {
        let world = Arc::clone(&self.world);
        let mut world = lock(&world);
        if !world.stray.is_empty() {
            *text += "  STRAY\n";
            *text += &std::mem::take(&mut world.stray);
        }
        self.show_intervals(&mut world, text);
        for m in 0..world.mms.len() {
            let slot = &mut world.mms[m];
            if slot.live {
                let counts = self.backend.counts(slot.handle);
                if slot.shown.replace(counts) != Some(counts) {
                    *text += &format!("  + m{m} users={} count={}\n", counts.0, counts.1);
                }
            }
        }
        for object in 0..world.lists.len() {
            let n = &mut world.lists[object];
            if n.state == Life::Live {
                let (users, linked) = self.backend.sub(object);
                if n.shown.replace((users, linked)) != Some((users, linked)) {
                    *text += &format!("  + {} users={users} linked={linked}\n", n.name);
                }
            }
        }
        let mut warnings = self.backend.warnings();
        warnings.sort();
        if !warnings.is_empty() {
            *text += &format!("  + warn {}\n", warnings.join(" "));
        }
    }

    fn show_intervals(&mut self, world: &mut World, text: &mut String) {
        for slot in 0..world.i.len() {
            let Some(object) = world.i[slot] else {
                continue;
            };
            let io = &mut world.intervals[object];
            if io.state != Life::Live && io.m.is_none() {
                continue;
            }
            let (seq, in_tree) = self.backend.interval(object);
            if io.shown_seq.replace(seq) != Some(seq) {
                *text += &format!("  seq i{slot}={seq}\n");
            }
            if io.shown_in_tree.replace(in_tree) != Some(in_tree) {
                *text += &format!("  + i{slot} in tree={in_tree}\n");
            }
        }
    }
}

// -------------------------------------------------------------------------------------------------------- cleanup

impl<B: Backend, O: Observer> Runner<B, O> {
    fn made(&mut self, line: &str) -> Result<(), Bad> {
        self.source_line(line)
    }

    /// Undoes what is still there, as mnrun does. `order` is a permutation of inhm.
    ///
    /// # Errors
    /// None; for symmetry.
    pub fn cleanup(&mut self, order: &str) -> Result<(), Bad> {
        // Thrice: a lock that was waited for may be granted by an unlock. At the end: what the order has made possible.
        for what in "gggc".chars().chain(order.chars()).chain("inmscds".chars()) {
            self.cleanup_step(what)?;
        }
        Ok(())
    }

    fn cleanup_step(&mut self, what: char) -> Result<(), Bad> {
        match what {
            'g' => self.cleanup_gates_ranges_locks()?,
            'i' => {
                for slot in 0..SLOTS {
                    if self.world().i[slot].is_some() {
                        self.made(&format!("irem i{slot}"))?;
                    }
                }
            }
            'n' => {
                for slot in 0..SLOTS {
                    if self.world().n_of(slot).is_some() {
                        self.made(&format!("unreg n{slot}"))?;
                    }
                }
            }
            'h' => {
                for slot in 0..SLOTS {
                    if self.world().h[slot].is_some() {
                        self.made(&format!("put h{slot}"))?;
                    }
                }
            }
            'm' | 'c' | 'd' => self.cleanup_mms(what)?,
            's' => self.made("sync")?,
            _ => (),
        }
        Ok(())
    }

    fn cleanup_gates_ranges_locks(&mut self) -> Result<(), Bad> {
        for gate in 0..GATES {
            if self.world().gates[gate].closed {
                self.made(&format!("open g{gate}"))?;
            }
        }
        for r in 0..RANGES {
            let range = self.world().ranges[r].clone();
            if range.active {
                let prefix = match range.thread.filter(|_| range.locked) {
                    Some(thread) => format!("t{thread}: "),
                    None => String::new(),
                };
                self.made(&format!("{prefix}end r{r}"))?;
            }
        }
        for thread in 0..THREADS {
            let holds = self.world().threads[thread];
            if let Some(m) = holds.rl.or(holds.wl) {
                self.made(&format!("t{thread}: unlock m{m}"))?;
            }
        }
        Ok(())
    }

    fn cleanup_mms(&mut self, what: char) -> Result<(), Bad> {
        for m in 0..MMS {
            let slot = self.world().mms[m].clone();
            let (line, times) = match what {
                'm' => ("mmput", slot.users),
                'd' => ("mmdrop", slot.count),
                _ => ("counts", u32::from(slot.users + slot.count > 0)),
            };
            for _ in 0..if slot.live { times } else { 0 } {
                self.made(&format!("{line} m{m}"))?;
            }
        }
        Ok(())
    }
}
