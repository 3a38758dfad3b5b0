//! The replay: lines in, pairs out.

use std::collections::HashMap;
use std::io::BufRead;

use super::effect::{self, Begun, Range, World};
use super::line::{self, Line, Outcome, Time, What};
use super::lines::Lines;
use super::maps::{self, Difference, Moment, Snapshot};
use super::names::Names;
use super::programs::{NAMELESS, Programs};
use super::request::{self, Reading, Request};
use super::space::Space;
use super::summary::Summary;
use super::{Change, Error, Place, Sink};

/// A call that has begun, with its ranges in flight.
pub(super) struct Open<T> {
    pub(super) place: Place,
    call: &'static str,
    begun: Begun,
    ranges: [Option<(Change, T)>; 2],
}

/// A call that another thread's line has interrupted.
pub(super) struct Pending<T> {
    pub(super) name: Vec<u8>,
    pub(super) text: Vec<u8>,
    pub(super) open: Open<T>,
}

/// A replay of one trace.
pub struct Replay<R, S: Sink> {
    pub(super) lines: Lines<R>,
    line: Vec<u8>,
    time: Option<u64>,
    pub(super) programs: Programs,
    world: World,
    pub(super) pending: HashMap<u32, Pending<S::Range>>,
    /// Children that came before the end of their clone.
    pub(super) early: HashMap<u32, u32>,
    /// The thread and the call of the last line, if a remark of strace has cut it in two.
    cut: Option<(u32, Vec<u8>)>,
    pub(super) has_process_calls: bool,
    pub(super) watched: bool,
    snapshots: HashMap<u64, Vec<Snapshot>>,
    differences: Vec<Difference>,
    compared: u64,
    pub(super) summary: Summary,
    /// Who is told.
    pub sink: S,
}

impl<R, S: Sink + core::fmt::Debug> core::fmt::Debug for Replay<R, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Replay")
            .field("line", &self.lines.number)
            .field("sink", &self.sink)
            .finish_non_exhaustive()
    }
}

impl<R: BufRead, S: Sink> Replay<R, S> {
    /// A replay of `input`, which tells `sink`.
    pub fn new(input: R, sink: S) -> Self {
        Self {
            lines: Lines::new(input),
            line: Vec::new(),
            time: None,
            programs: Programs::default(),
            world: World::default(),
            pending: HashMap::new(),
            early: HashMap::new(),
            cut: None,
            has_process_calls: false,
            watched: false,
            snapshots: HashMap::new(),
            differences: Vec::new(),
            compared: 0,
            summary: Summary::default(),
            sink,
        }
    }

    /// Asks for [`Sink::painted`]. To be called before the first line.
    pub fn watch_mappings(&mut self) {
        self.watched = true;
    }

    /// Snapshots of `/proc/PID/maps`: those of execve are taken over, those of the end are compared.
    pub fn add_snapshots(&mut self, snapshots: impl IntoIterator<Item = Snapshot>) {
        for snapshot in snapshots {
            self.snapshots
                .entry(snapshot.line)
                .or_default()
                .push(snapshot);
        }
    }

    /// Replays the next line; false at the end of the trace.
    pub fn step(&mut self) -> Result<bool, Error<S::Error>> {
        let mut line = core::mem::take(&mut self.line);
        let more = self.lines.next(&mut line)?;
        if more {
            self.read(&line)?;
        } else {
            self.end()?;
        }
        self.line = line;
        Ok(more)
    }

    /// Replays all lines.
    pub fn run(&mut self) -> Result<(), Error<S::Error>> {
        while self.step()? {}
        Ok(())
    }

    /// What happened so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Lines and bytes that were read so far.
    pub fn progress(&self) -> (u64, u64) {
        (self.lines.number, self.lines.bytes)
    }

    /// When the last line was written, in microseconds, where the trace has times; never falls.
    pub fn time(&self) -> Option<u64> {
        self.time
    }

    /// Names of files.
    pub fn names(&self) -> &Names {
        &self.world.names
    }

    /// The address spaces that live, by number.
    pub fn spaces(&self) -> impl Iterator<Item = (u32, &Space)> {
        self.programs.spaces()
    }

    /// Where model and snapshots differ, and how many snapshots were compared.
    pub fn differences(&self) -> (&[Difference], u64) {
        (&self.differences, self.compared)
    }

    fn read(&mut self, text: &[u8]) -> Result<(), Error<S::Error>> {
        self.summary.lines += 1;
        let Line { pid, time, what } = line::parse(text);
        self.advance(time);
        let cut = self.cut.take();
        let (pid, what) = match (&cut, what) {
            // The rest of a call, which began on the line before the remark.
            (Some((thread, name)), What::Unreadable) => (Some(*thread), What::Resumed(name, text)),
            (_, what) => (pid, what),
        };
        if let What::Call(name, _) | What::Unfinished(name, _) = what {
            self.summary.note_first(name);
            self.has_process_calls |= request::is_of_process(name);
        }
        match what {
            What::Remark => {}
            What::Unreadable => self.unreadable(text),
            What::Exited => {
                if let Some(thread) = pid.or_else(|| self.programs.only_thread()) {
                    self.gone(thread)?;
                }
            }
            What::Superseded(other) => {
                if let Some(leader) = pid {
                    self.supersede(leader, other)?;
                }
            }
            What::Call(name, rest) => {
                if !self.is_followed(name) {
                    self.thread(pid, name)?;
                } else if let Some((arguments, outcome)) = line::split(rest) {
                    let thread = self.thread(pid, name)?;
                    if !self.whole(thread, name, arguments, outcome)? {
                        self.unreadable(text);
                    }
                } else if !self.last_words(pid, name)? {
                    self.unreadable(text);
                }
            }
            What::Unfinished(name, rest) => {
                let thread = self.thread(pid, name)?;
                if line::is_cut(text) {
                    self.cut = Some((thread, name.to_vec()));
                }
                if self.is_followed(name) && !self.unfinished(thread, name, rest)? {
                    self.unreadable(text);
                }
            }
            What::Resumed(name, rest) => {
                if request::is_followed(name) && !self.resumed(pid, name, rest)? {
                    self.unreadable(text);
                }
            }
        }
        Ok(())
    }

    fn is_followed(&mut self, name: &[u8]) -> bool {
        let followed = request::is_followed(name);
        if !followed {
            self.summary.note_other(name);
        }
        followed
    }

    /// `exit_group(0` without an end: the trace stops there, or the thread did.
    fn last_words(&mut self, pid: Option<u32>, name: &[u8]) -> Result<bool, Error<S::Error>> {
        let ends = matches!(name, b"exit" | b"exit_group");
        if ends {
            let thread = self.thread(pid, name)?;
            self.exits(thread, name == b"exit_group")?;
        }
        Ok(ends)
    }

    fn unreadable(&mut self, text: &[u8]) {
        self.summary.note_unread(self.lines.number, text);
    }

    fn advance(&mut self, time: Option<Time>) {
        let now = self.time.unwrap_or(0);
        self.time = match time {
            Some(Time::At(time)) => Some(time.max(now)),
            Some(Time::After(time)) => Some(now.saturating_add(time)),
            None => self.time,
        };
    }

    pub(super) fn place(&self, thread: u32) -> Place {
        let process = self.programs.process_of(thread);
        Place {
            line: self.lines.number,
            time: self.time,
            pid: process.map_or(thread, |process| process.pid),
            space: process.map_or(u32::MAX, |process| process.space),
        }
    }

    // -------------------------------------------------------------------------------------------------------- calls

    /// A call on one line. False if its arguments are none.
    fn whole(
        &mut self,
        thread: u32,
        name: &[u8],
        arguments: &[u8],
        outcome: Outcome<'_>,
    ) -> Result<bool, Error<S::Error>> {
        let Reading::Request(request) = request::read(name, arguments) else {
            return Ok(matches!(request::read(name, arguments), Reading::Other));
        };
        self.summary.calls += 1;
        if !self.of_process(thread, &request, outcome)? {
            let place = self.place(thread);
            let call = request::static_name(name);
            let open = self.begin(place, call, &request, Some(outcome))?;
            self.complete(&request, outcome, open)?;
        }
        Ok(true)
    }

    /// Calls that change processes. False if it is none of them.
    fn of_process(
        &mut self,
        thread: u32,
        request: &Request<'_>,
        outcome: Outcome<'_>,
    ) -> Result<bool, Error<S::Error>> {
        match (request, outcome) {
            (Request::Clone(flags), Outcome::Value(child)) => {
                let child = u32::try_from(child).unwrap_or(NAMELESS);
                if self.early.remove(&child) != Some(thread) && child != NAMELESS {
                    self.child(thread, child, *flags)?;
                }
            }
            (Request::Exec, Outcome::Value(0)) => self.execs(thread)?,
            (Request::Exit, _) => self.exits(thread, false)?,
            (Request::ExitGroup, _) => self.exits(thread, true)?,
            (Request::Clone(_) | Request::Exec, _) => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// A call that begins on this line and ends on another. False if its arguments are none.
    fn unfinished(
        &mut self,
        thread: u32,
        name: &[u8],
        text: &[u8],
    ) -> Result<bool, Error<S::Error>> {
        let Reading::Request(request) = request::read(name, text) else {
            return Ok(matches!(request::read(name, text), Reading::Other));
        };
        if let Request::Exit | Request::ExitGroup = request {
            self.summary.calls += 1;
            self.exits(thread, request == Request::ExitGroup)?;
            return Ok(true);
        }
        if let Some(pending) = self.pending.remove(&thread) {
            self.finish(thread, pending, Outcome::Unknown)?;
        }
        let place = self.place(thread);
        let open = self.begin(place, request::static_name(name), &request, None)?;
        let pending = Pending {
            name: name.to_vec(),
            text: text.to_vec(),
            open,
        };
        self.pending.insert(thread, pending);
        Ok(true)
    }

    /// The end of an unfinished call. False if there is none, or it cannot be read.
    fn resumed(
        &mut self,
        pid: Option<u32>,
        name: &[u8],
        text: &[u8],
    ) -> Result<bool, Error<S::Error>> {
        if matches!(name, b"exit" | b"exit_group") {
            return Ok(true);
        }
        let Some(thread) = self.resuming(pid) else {
            return Ok(false);
        };
        let Some(mut pending) = self.pending.remove(&thread) else {
            return Ok(false);
        };
        let mut whole = core::mem::take(&mut pending.text);
        whole.extend_from_slice(text);
        let split = line::split(&whole).filter(|_| pending.name == name);
        let outcome = split.map_or(Outcome::Unknown, |(_, outcome)| outcome);
        self.summary.calls += 1;
        pending.text = split
            .map_or(&whole[..], |(arguments, _)| arguments)
            .to_vec();
        self.finish(thread, pending, outcome)?;
        Ok(split.is_some())
    }

    pub(super) fn finish(
        &mut self,
        thread: u32,
        pending: Pending<S::Range>,
        outcome: Outcome<'_>,
    ) -> Result<(), Error<S::Error>> {
        let Reading::Request(request) = request::read(&pending.name, &pending.text) else {
            // The rest of it was no call: what had begun is over.
            return self.close(pending.open.ranges);
        };
        if self.of_process(thread, &request, outcome)? {
            return Ok(());
        }
        self.complete(&request, outcome, pending.open)
    }

    // ------------------------------------------------------------------------------------------------------- events

    fn begin(
        &mut self,
        place: Place,
        call: &'static str,
        request: &Request<'_>,
        outcome: Option<Outcome<'_>>,
    ) -> Result<Open<S::Range>, Error<S::Error>> {
        let space = self.programs.space(place.space);
        let begun = space.map_or_else(Begun::default, |space| {
            effect::begin(request, outcome, space)
        });
        let mut ranges = [None, None];
        for (range, slot) in begun.ranges.iter().zip(&mut ranges) {
            if let Some(range) = *range {
                *slot = Some(self.open(place, call, range)?);
            }
        }
        Ok(Open {
            place,
            call,
            begun,
            ranges,
        })
    }

    fn complete(
        &mut self,
        request: &Request<'_>,
        outcome: Outcome<'_>,
        open: Open<S::Range>,
    ) -> Result<(), Error<S::Error>> {
        let place = Place {
            line: self.lines.number,
            time: self.time,
            ..open.place
        };
        if let Some(space) = self.programs.space(place.space) {
            let late = effect::finish(request, outcome, open.begun, space, &mut self.world);
            if let Some(range) = late {
                self.pair(place, open.call, range)?;
            }
        }
        self.close(open.ranges)?;
        self.show(place)
    }

    fn open(
        &mut self,
        place: Place,
        call: &'static str,
        range: Range,
    ) -> Result<(Change, S::Range), Error<S::Error>> {
        self.summary.note_event(range);
        let change = Change { place, call, range };
        let token = self.sink.start(&change).map_err(Error::Sink)?;
        Ok((change, token))
    }

    /// Ends what was begun, the last first.
    fn close(&mut self, open: [Option<(Change, S::Range)>; 2]) -> Result<(), Error<S::Error>> {
        for (change, range) in open.into_iter().rev().flatten() {
            self.sink.end(&change, range).map_err(Error::Sink)?;
        }
        Ok(())
    }

    pub(super) fn pair(
        &mut self,
        place: Place,
        call: &'static str,
        range: Range,
    ) -> Result<(), Error<S::Error>> {
        let open = self.open(place, call, range)?;
        self.close([Some(open), None])
    }

    pub(super) fn show(&mut self, place: Place) -> Result<(), Error<S::Error>> {
        if !self.watched {
            return Ok(());
        }
        let log = self
            .programs
            .space(place.space)
            .and_then(|space| space.log.as_mut());
        let paint = log.map(core::mem::take).unwrap_or_default();
        if paint.is_empty() {
            return Ok(());
        }
        self.sink.painted(place, &paint).map_err(Error::Sink)
    }

    /// The end of the trace: what is unfinished stays so, and processes that were ending have ended.
    fn end(&mut self) -> Result<(), Error<S::Error>> {
        let mut pending: Vec<u32> = self.pending.keys().copied().collect();
        pending.sort_unstable();
        for thread in pending {
            if let Some(pending) = self.pending.remove(&thread) {
                self.finish(thread, pending, Outcome::Unknown)?;
            }
        }
        for thread in self.programs.dying() {
            self.gone(thread)?;
        }
        self.summary.unknown_lengths = self.world.unknown_lengths;
        Ok(())
    }

    // ---------------------------------------------------------------------------------------------------- snapshots

    fn snapshot(&mut self, moment: Moment) -> Option<Snapshot> {
        let here = self.snapshots.get_mut(&self.lines.number)?;
        let at = here.iter().position(|snapshot| snapshot.moment == moment)?;
        Some(here.swap_remove(at))
    }

    /// After execve: what the kernel has mapped.
    pub(super) fn take_over(&mut self, thread: u32) {
        let place = self.place(thread);
        if let Some(snapshot) = self.snapshot(Moment::Exec)
            && let Some(space) = self.programs.space(place.space)
        {
            maps::take_over(&snapshot, space, &mut self.world.names);
        }
    }

    /// Before the end of a process: does the model agree?
    pub(super) fn compare(&mut self, thread: u32) {
        let place = self.place(thread);
        if let Some(snapshot) = self.snapshot(Moment::Exit)
            && let Some(space) = self.programs.space(place.space)
        {
            self.compared += 1;
            self.differences
                .extend(maps::compare(&snapshot, space, &self.world.names, place));
        }
    }
}
