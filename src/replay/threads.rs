//! Whose line it is: threads that come, go, and call execve.

use std::io::BufRead;

use super::effect::{self, Range};
use super::line::{self, Line, Outcome, What};
use super::programs::NAMELESS;
use super::request::{self, Reading, Request};
use super::run::{Pending, Replay};
use super::space::Space;
use super::{Error, Place, Sink};

/// How far a replay looks for the end of a clone, in lines.
const LOOK_AHEAD: usize = 10_000;

impl<R: BufRead, S: Sink> Replay<R, S> {
    /// The thread of a line. One that was never seen is a child whose clone is under way, or a new process.
    pub(super) fn thread(&mut self, pid: Option<u32>, name: &[u8]) -> Result<u32, Error<S::Error>> {
        let Some(thread) = pid.or_else(|| self.unnamed()) else {
            self.new_process(NAMELESS)?;
            return Ok(NAMELESS);
        };
        if self.programs.process_of(thread).is_some() {
            return Ok(thread);
        }
        let nameless = self.programs.process_of(NAMELESS).is_some();
        if let Some(parent) = self.cloning(thread)? {
            self.early.insert(thread, parent);
            let flags = self.pending.get(&parent).map_or(0, |pending| {
                match request::read(&pending.name, &pending.text) {
                    Reading::Request(Request::Clone(flags)) => flags,
                    _ => 0,
                }
            });
            self.child(parent, thread, flags)?;
        } else if nameless {
            self.rename(NAMELESS, thread);
        } else if let Some(sibling) = self.sibling(name) {
            self.programs.add_thread(thread, sibling);
        } else {
            self.new_process(thread)?;
        }
        Ok(thread)
    }

    /// The thread that goes on with a call. None if it has none, which is right for the call that ended it.
    pub(super) fn resuming(&mut self, pid: Option<u32>) -> Option<u32> {
        let thread = pid.or_else(|| self.unnamed())?;
        let known = self.programs.process_of(thread).is_some();
        if !known && self.pending.contains_key(&NAMELESS) {
            self.rename(NAMELESS, thread);
        }
        self.programs.process_of(thread).map(|_| thread)
    }

    /// Whose line it is if the line does not say: there is but one.
    fn unnamed(&self) -> Option<u32> {
        let nameless = self.programs.process_of(NAMELESS).map(|_| NAMELESS);
        nameless.or_else(|| self.programs.only_thread())
    }

    /// A thread of the first process, if a pid that comes from nowhere has to be its sibling: the trace tells of no process,
    /// or began when the process ran already.
    fn sibling(&self, name: &[u8]) -> Option<u32> {
        let begins = matches!(name, b"execve" | b"execveat");
        let attached = !self.has_process_calls || self.summary.attached;
        let first = self.programs.first().filter(|_| attached && !begins)?;
        self.programs.process_of(first.pid).map(|_| first.pid)
    }

    /// The thread that is making `child`.
    fn cloning(&mut self, child: u32) -> Result<Option<u32>, Error<S::Error>> {
        let makes = |pending: &Pending<S::Range>| {
            matches!(&pending.name[..], b"clone" | b"clone3" | b"fork" | b"vfork")
        };
        let claimed: Vec<u32> = self.early.values().copied().collect();
        let open = self.pending.iter();
        let mut makers: Vec<(u64, u32)> = open
            .filter(|(thread, pending)| makes(pending) && !claimed.contains(thread))
            .map(|(thread, pending)| (pending.open.place.line, *thread))
            .collect();
        makers.sort_unstable();
        if makers.len() > 1 {
            for nth in 0..LOOK_AHEAD {
                let Some(text) = self.lines.peek(nth)? else {
                    break;
                };
                let Line { pid, what, .. } = line::parse(text);
                let What::Resumed(b"clone" | b"clone3" | b"fork" | b"vfork", rest) = what else {
                    continue;
                };
                let returned = line::split(rest).map(|(_, outcome)| outcome);
                if returned == Some(Outcome::Value(u64::from(child))) {
                    return Ok(pid);
                }
            }
        }
        Ok(makers.first().map(|(_, thread)| *thread))
    }

    fn new_process(&mut self, pid: u32) -> Result<(), Error<S::Error>> {
        self.summary.processes += 1;
        self.programs.add_process(pid, Space::new(self.watched));
        self.created(pid, None)
    }

    fn created(&mut self, thread: u32, parent: Option<u32>) -> Result<(), Error<S::Error>> {
        self.summary.spaces += 1;
        let place = self.place(thread);
        self.sink.created(place, parent).map_err(Error::Sink)?;
        self.show(place)
    }

    /// `parent` has made `child`.
    pub(super) fn child(
        &mut self,
        parent: u32,
        child: u32,
        flags: u64,
    ) -> Result<(), Error<S::Error>> {
        // A pid that comes back without a word of its end.
        self.gone(child)?;
        let place = self.place(parent);
        if flags & request::THREAD != 0 {
            self.programs.add_thread(child, parent);
            return Ok(());
        }
        self.summary.processes += 1;
        if flags & request::VM != 0 {
            self.programs.add_user(child, place.space);
            return Ok(());
        }
        self.summary.forks += 1;
        let Some(space) = self.programs.space(place.space) else {
            return self.new_process(child);
        };
        let ranges: Vec<Range> = effect::of_fork(space).collect();
        let copy = space.fork();
        for range in ranges {
            self.pair(place, "fork", range)?;
        }
        self.programs.add_process(child, copy);
        self.created(child, Some(place.space))
    }

    /// A thread is no more: what it was in the middle of is over.
    pub(super) fn gone(&mut self, thread: u32) -> Result<(), Error<S::Error>> {
        if let Some(pending) = self.pending.remove(&thread) {
            self.finish(thread, pending, Outcome::Unknown)?;
        }
        self.early.retain(|_, parent| *parent != thread);
        let place = self.place(thread);
        match self.programs.remove_thread(thread) {
            Some(_) => self.release(place),
            None => Ok(()),
        }
    }

    fn release(&mut self, place: Place) -> Result<(), Error<S::Error>> {
        self.programs.forget(place.space);
        self.sink.released(place).map_err(Error::Sink)
    }

    pub(super) fn exits(
        &mut self,
        thread: u32,
        whole_process: bool,
    ) -> Result<(), Error<S::Error>> {
        if whole_process {
            self.compare(thread);
            self.programs.begin_end(thread);
        }
        self.gone(thread)
    }

    /// The thread `other` called execve and goes on under the pid of its process.
    pub(super) fn supersede(&mut self, leader: u32, other: u32) -> Result<(), Error<S::Error>> {
        if leader != other && self.programs.process_of(other).is_some() {
            self.gone(leader)?;
            self.rename(other, leader);
        }
        Ok(())
    }

    fn rename(&mut self, from: u32, to: u32) {
        self.programs.rename(from, to);
        if let Some(pending) = self.pending.remove(&from) {
            self.pending.insert(to, pending);
        }
        for parent in self.early.values_mut().filter(|parent| **parent == from) {
            *parent = to;
        }
    }

    pub(super) fn execs(&mut self, thread: u32) -> Result<(), Error<S::Error>> {
        for sibling in self.programs.siblings(thread) {
            self.gone(sibling)?;
        }
        let before = self.place(thread);
        let Some((_, old)) = self.programs.exec(thread, Space::new(self.watched)) else {
            return Ok(());
        };
        if old.is_some() {
            self.release(before)?;
        }
        self.summary.execs += 1;
        self.take_over(thread);
        self.created(thread, None)
    }
}
