//! What happened in a replay, counted.

use std::collections::{BTreeMap, HashMap};

use super::effect::Range;
use super::request::NOT_FOLLOWED;

/// Kinds of events, by the number of their `mmu_notifier_event`.
const KINDS: usize = 8;
/// Unreadable lines that are kept.
const KEPT: usize = 10;
/// Bytes of an unreadable line that are kept.
const SHOWN: usize = 120;
/// Ranges that are counted at a time.
const COUNTED: usize = 1 << 16;

/// Events and the bytes of their ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// How many pairs.
    pub events: u64,
    /// The sum of their lengths.
    pub bytes: u64,
}

/// A line that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Its number, from 1.
    pub line: u64,
    /// Its beginning.
    pub text: String,
}

/// A range and how often it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hot {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// Pairs. Too low by what was forgotten in a trace with more than 65,536 different ranges.
    pub events: u64,
}

/// Counts.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Lines of the trace.
    pub lines: u64,
    /// Calls that the model follows.
    pub calls: u64,
    /// Processes, address spaces, forks with a copy of the address space, execves.
    pub processes: u64,
    /// Address spaces.
    pub spaces: u64,
    /// Forks that copied an address space.
    pub forks: u64,
    /// Successful execves.
    pub execs: u64,
    /// Lines that could not be read.
    pub unreadable: u64,
    /// The first of them.
    pub unread: Vec<Unread>,
    /// Calls that change mappings in ways that the trace does not tell, by name.
    pub not_followed: BTreeMap<&'static str, u64>,
    /// Attached segments of which the trace does not tell how long they are.
    pub unknown_lengths: u64,
    /// The trace does not begin with an execve: the process ran already.
    pub attached: bool,
    began: bool,
    totals: [Total; KINDS],
    ranges: HashMap<(u64, u64), u64>,
}

impl Summary {
    /// Pairs of this kind of event.
    pub fn total(&self, event: super::Event) -> Total {
        self.totals[event as usize]
    }

    /// All pairs.
    pub fn events(&self) -> u64 {
        self.totals.iter().map(|total| total.events).sum()
    }

    /// The `count` ranges that changed most often.
    pub fn hottest(&self, count: usize) -> Vec<Hot> {
        let all = self.ranges.iter();
        let mut hot: Vec<Hot> = all
            .map(|(&(start, end), &events)| Hot { start, end, events })
            .collect();
        hot.sort_unstable_by_key(|hot| (core::cmp::Reverse(hot.events), hot.start, hot.end));
        hot.truncate(count);
        hot
    }

    pub(super) fn note_event(&mut self, range: Range) {
        let total = &mut self.totals[range.event as usize];
        total.events += 1;
        total.bytes = total.bytes.saturating_add(range.end - range.start);
        *self.ranges.entry((range.start, range.end)).or_default() += 1;
        if self.ranges.len() > COUNTED {
            self.forget_rare();
        }
    }

    /// Forgets the ranges that were seen least, at least half of them.
    fn forget_rare(&mut self) {
        let mut seen = 1;
        while self.ranges.len() > COUNTED / 2 {
            self.ranges.retain(|_, events| *events > seen);
            seen *= 2;
        }
    }

    pub(super) fn note_first(&mut self, name: &[u8]) {
        if !self.began {
            self.began = true;
            self.attached = !matches!(name, b"execve" | b"execveat");
        }
    }

    pub(super) fn note_other(&mut self, name: &[u8]) {
        if let Some(name) = NOT_FOLLOWED.iter().find(|other| other.as_bytes() == name) {
            *self.not_followed.entry(name).or_default() += 1;
        }
    }

    pub(super) fn note_unread(&mut self, line: u64, text: &[u8]) {
        self.unreadable += 1;
        if self.unread.len() < KEPT {
            let shown = &text[..text.len().min(SHOWN)];
            let text = String::from_utf8_lossy(shown).into_owned();
            self.unread.push(Unread { line, text });
        }
    }
}
