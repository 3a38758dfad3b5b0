// SPDX-License-Identifier: MIT OR Apache-2.0
//! What there is: the structs of the kernel, by the names of the rules.

use super::ops::{Ops, POISON, Range};

/// struct mmu_notifier.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sub {
    pub(super) ops: Ops,
    pub(super) mm: usize,
    pub(super) users: u32,
    /// HS-11: an unlinked sub keeps the link it had.
    pub(super) next_when_unlinked: Option<usize>,
}

/// struct mmu_interval_notifier.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "fields by the names of the rules")]
pub struct Interval {
    pub ops: Option<Ops>,
    pub mm: Option<usize>,
    pub start: u64,
    pub last: u64,
    /// "rb not empty"; `None` while nobody has written it.
    pub in_tree: Option<bool>,
    pub seq: u64,
    /// Was deferred_item ever written?
    pub was_deferred: bool,
}

impl Default for Interval {
    fn default() -> Self {
        Self {
            ops: None,
            mm: None,
            start: POISON,
            last: POISON,
            in_tree: None,
            seq: POISON,
            was_deferred: false,
        }
    }
}

/// S: the subscriptions of one mm.
#[derive(Debug)]
pub(super) struct Subscriptions {
    /// HS-3: newest first.
    pub(super) list: Vec<usize>,
    pub(super) has_itree: bool,
    pub(super) seq: u64,
    pub(super) active: u64,
    /// By start; equal starts in insertion order (RS-2).
    pub(super) tree: Vec<usize>,
    /// Head first.
    pub(super) deferred: Vec<usize>,
}

impl Subscriptions {
    /// ST-1.
    pub(super) fn new() -> Self {
        Self {
            list: Vec::new(),
            has_itree: false,
            seq: 2,
            active: 0,
            tree: Vec::new(),
            deferred: Vec::new(),
        }
    }

    pub(super) fn odd(&self) -> bool {
        self.seq & 1 == 1
    }
}

/// ML-5: mmap_lock.
#[derive(Debug, Default)]
pub(super) struct MmapLock {
    pub(super) readers: u32,
    pub(super) writer: bool,
    pub(super) waiting_writers: u32,
}

/// struct mm_struct.
#[derive(Debug)]
pub(super) struct Mm {
    pub(super) users: i64,
    pub(super) count: i64,
    pub(super) subs: Option<Subscriptions>,
    pub(super) lock: MmapLock,
}

/// A put whose free_notifier is still to come, and the sections that it waits for.
#[derive(Debug)]
pub(super) struct Owed {
    pub(super) number: u64,
    pub(super) sub: usize,
    pub(super) before: Vec<u64>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) mms: Vec<Mm>,
    pub(super) subs: Vec<Sub>,
    pub(super) intervals: Vec<Interval>,
    /// DV-6: open read sections, of one domain for all mms.
    pub(super) sections: Vec<u64>,
    pub(super) owed: Vec<Owed>,
    pub(super) tickets: u64,
    pub(super) warnings: Vec<&'static str>,
    pub(super) warned_once: bool,
    pub(super) bug: Option<&'static str>,
    pub(super) progress: u64,
}

impl State {
    /// S of an mm that has it.
    pub(super) fn s(&mut self, mm: usize) -> &mut Subscriptions {
        self.mms[mm].subs.as_mut().expect("S was created")
    }

    pub(super) fn has_subs(&self, mm: usize) -> bool {
        self.mms[mm].subs.is_some()
    }

    pub(super) fn has_itree(&self, mm: usize) -> bool {
        self.mms[mm].subs.as_ref().is_some_and(|s| s.has_itree)
    }

    pub(super) fn list_is_empty(&mut self, mm: usize) -> bool {
        self.s(mm).list.is_empty()
    }

    pub(super) fn sub(&mut self, id: usize) -> &mut Sub {
        if self.subs.len() <= id {
            self.subs.resize(id + 1, Sub::default());
        }
        &mut self.subs[id]
    }

    pub(super) fn interval(&mut self, id: usize) -> &mut Interval {
        if self.intervals.len() <= id {
            self.intervals.resize(id + 1, Interval::default());
        }
        &mut self.intervals[id]
    }

    // The list.

    pub(super) fn successor(&self, mm: usize, sub: usize) -> Option<usize> {
        let list = &self.mms[mm].subs.as_ref()?.list;
        match list.iter().position(|listed| *listed == sub) {
            Some(at) => list.get(at + 1).copied(),
            None => self.subs[sub].next_when_unlinked, // HS-11
        }
    }

    pub(super) fn unlink(&mut self, mm: usize, sub: usize) {
        if self.s(mm).list.contains(&sub) {
            self.subs[sub].next_when_unlinked = self.successor(mm, sub);
            self.s(mm).list.retain(|listed| *listed != sub);
        }
    }

    // The tree. RS-2, RS-9, II-6: both ends of an interval are inclusive.

    pub(super) fn tree_insert(&mut self, mm: usize, id: usize) {
        let start = self.interval(id).start;
        let before = |other: &usize| self.intervals[*other].start <= start;
        let tree = &self.mms[mm].subs.as_ref().expect("S").tree;
        let at = tree.iter().filter(|other| before(other)).count();
        self.s(mm).tree.insert(at, id);
        self.interval(id).in_tree = Some(true);
    }

    pub(super) fn tree_remove(&mut self, mm: usize, id: usize) {
        self.s(mm).tree.retain(|other| *other != id);
    }

    pub(super) fn intersecting(&mut self, range: &Range) -> Vec<usize> {
        let hit = |id: &usize| {
            let interval = &self.intervals[*id];
            interval.start <= range.last() && range.start <= interval.last
        };
        let tree = &self.mms[range.mm].subs.as_ref().expect("S").tree;
        tree.iter().copied().filter(hit).collect()
    }
}

/// What a sleeper may look at.
pub struct View<'a>(pub(super) &'a State);

impl View<'_> {
    pub(super) fn any_open(&self, sections: &[u64]) -> bool {
        sections
            .iter()
            .any(|section| self.0.sections.contains(section))
    }

    pub(super) fn any_owed(&self, numbers: &[u64]) -> bool {
        self.0
            .owed
            .iter()
            .any(|owed| numbers.contains(&owed.number))
    }

    pub(super) fn seq(&self, mm: usize) -> u64 {
        self.0.mms[mm].subs.as_ref().map_or(0, |s| s.seq)
    }

    pub(super) fn is_free(&self, mm: usize) -> bool {
        let lock = &self.0.mms[mm].lock;
        !lock.writer && lock.readers == 0
    }

    pub(super) fn is_open_to_readers(&self, mm: usize) -> bool {
        let lock = &self.0.mms[mm].lock;
        !lock.writer && lock.waiting_writers == 0
    }
}
