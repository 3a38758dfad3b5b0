//! The mappings of one address space: what is mapped where, as far as the trace tells.
//!
//! Invariants
//! * Mappings are not empty and do not overlap; their ends are page-aligned, as the kernel's are.
//! * Neighbours that differ in nothing but their place are one mapping.

use std::collections::BTreeMap;

/// Bytes of a page. The traces of machines with larger pages are read all the same: their lengths are multiples of it.
pub const PAGE: u64 = 4096;

/// A mapping; its start is its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// One past its last byte.
    pub end: u64,
    /// What it shows.
    pub content: Content,
    /// Where in the file, in bytes; 0 for anonymous memory.
    pub offset: u64,
    /// PROT_READ, PROT_WRITE, PROT_EXEC.
    pub protection: u8,
    /// MAP_SHARED: fork does not write-protect it.
    pub shared: bool,
    /// It was writable at some time, so it may have pages of its own, which fork write-protects.
    pub written: bool,
    /// MADV_DONTFORK
    pub stays: bool,
}

/// What a mapping shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Memory of its own.
    Anonymous,
    /// The heap of brk.
    Heap,
    /// A file, by its number in [`super::names::Names`].
    File(u32),
    /// A System V shared memory segment.
    Segment,
    /// The trace changes it, but does not tell who made it.
    Unknown,
}

impl Mapping {
    /// True if `next`, which starts where this one ends, is the same mapping.
    fn goes_on(&self, start: u64, next: &Self) -> bool {
        let file = matches!(self.content, Content::File(_));
        self.content == next.content
            && (!file || self.offset.wrapping_add(self.end - start) == next.offset)
            && (self.protection, self.shared, self.written, self.stays)
                == (next.protection, next.shared, next.written, next.stays)
    }

    fn cut_before(&mut self, start: u64, at: u64) {
        if matches!(self.content, Content::File(_)) {
            self.offset = self.offset.wrapping_add(at - start);
        }
    }
}

/// The mappings of an address space.
#[derive(Clone, Debug, Default)]
pub struct Space {
    mappings: BTreeMap<u64, Mapping>,
    /// Where brk stands, once it is known.
    pub program_break: Option<u64>,
    /// Lengths of attached segments by their address.
    pub segments: BTreeMap<u64, u64>,
    /// What was put where since somebody looked, for pictures; None: nobody looks.
    pub log: Option<Vec<Paint>>,
    /// The mappings that the kernel made at execve are known.
    pub seeded: bool,
}

/// From now on `[start, end)` shows this mapping, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// What is there now.
    pub mapping: Option<Mapping>,
}

impl Space {
    /// An address space that maps nothing; with a log or without.
    pub(super) fn new(logged: bool) -> Self {
        Self {
            log: logged.then(Vec::new),
            ..Self::default()
        }
    }

    /// The mappings by ascending start.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Mapping)> {
        self.mappings
            .iter()
            .map(|(start, mapping)| (*start, mapping))
    }

    /// The mapping that holds `address`.
    pub fn at(&self, address: u64) -> Option<(u64, &Mapping)> {
        let (start, mapping) = self.mappings.range(..=address).next_back()?;
        (mapping.end > address).then_some((*start, mapping))
    }

    /// Where the mapped bytes that begin at `start` end; `start` if it is not mapped.
    pub fn mapped_until(&self, start: u64) -> u64 {
        let mut end = start;
        while let Some((_, mapping)) = self.at(end) {
            end = mapping.end;
        }
        end
    }

    /// Takes out what lies in `[start, end)`.
    pub fn take(&mut self, start: u64, end: u64) -> Vec<(u64, Mapping)> {
        self.split(start);
        self.split(end);
        if start >= end {
            return Vec::new();
        }
        let mut taken = Vec::new();
        while let Some((at, _)) = self.mappings.range(start..end).next() {
            let at = *at;
            taken.extend(self.mappings.remove(&at).map(|mapping| (at, mapping)));
        }
        if !taken.is_empty() {
            self.note(start, end, None);
        }
        taken
    }

    /// Puts a mapping in, in place of what is there.
    pub fn map(&mut self, start: u64, mapping: Mapping) {
        if start >= mapping.end {
            return;
        }
        self.take(start, mapping.end);
        self.note(start, mapping.end, Some(mapping));
        self.mappings.insert(start, mapping);
        self.merge(mapping.end);
        self.merge(start);
    }

    /// Changes what lies in `[start, end)`.
    pub fn change(&mut self, start: u64, end: u64, mut how: impl FnMut(&mut Mapping)) {
        for (at, mut mapping) in self.take(start, end) {
            how(&mut mapping);
            self.map(at, mapping);
        }
    }

    /// A mapping that the program has proved by changing `[start, end)` of it: fills the holes.
    pub fn learn(&mut self, start: u64, end: u64) {
        let unknown = |end| Mapping {
            end,
            content: Content::Unknown,
            offset: 0,
            protection: 0,
            shared: false,
            written: false,
            stays: false,
        };
        let mut at = start;
        while at < end {
            at = self.mapped_until(at);
            let next = self
                .mappings
                .range(at..)
                .next()
                .map_or(end, |(next, _)| *next);
            let hole_end = next.min(end);
            if at < hole_end {
                self.map(at, unknown(hole_end));
            }
            at = at.max(hole_end);
        }
    }

    /// The address space of a child, as fork makes it.
    pub fn fork(&self) -> Self {
        let mut child = Self {
            program_break: self.program_break,
            segments: self.segments.clone(),
            log: self.log.as_ref().map(|_| Vec::new()),
            seeded: self.seeded,
            ..Self::default()
        };
        for (start, mapping) in self.iter().filter(|(_, mapping)| !mapping.stays) {
            child.note(start, mapping.end, Some(*mapping));
            child.mappings.insert(start, *mapping);
        }
        child
    }

    fn note(&mut self, start: u64, end: u64, mapping: Option<Mapping>) {
        if let Some(log) = &mut self.log {
            log.push(Paint {
                start,
                end,
                mapping,
            });
        }
    }

    /// Bytes that are mapped.
    pub fn bytes(&self) -> u64 {
        self.iter()
            .map(|(start, mapping)| mapping.end - start)
            .sum()
    }

    fn split(&mut self, at: u64) {
        let Some((start, mapping)) = self.at(at) else {
            return;
        };
        if start == at {
            return;
        }
        let mut upper = *mapping;
        upper.cut_before(start, at);
        if let Some(lower) = self.mappings.get_mut(&start) {
            lower.end = at;
        }
        self.mappings.insert(at, upper);
    }

    /// Makes one mapping of the two that meet at `at`, if they are one.
    fn merge(&mut self, at: u64) {
        let Some(upper) = self.mappings.get(&at).copied() else {
            return;
        };
        let Some((start, lower)) = self.mappings.range_mut(..at).next_back() else {
            return;
        };
        if lower.end == at && lower.goes_on(*start, &upper) {
            lower.end = upper.end;
            self.mappings.remove(&at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anonymous(end: u64, protection: u8) -> Mapping {
        Mapping {
            end,
            content: Content::Anonymous,
            offset: 0,
            protection,
            shared: false,
            written: protection & 2 != 0,
            stays: false,
        }
    }

    fn list(space: &Space) -> Vec<(u64, u64, u8)> {
        space
            .iter()
            .map(|(start, mapping)| (start, mapping.end, mapping.protection))
            .collect()
    }

    #[test]
    fn neighbours_merge_and_split() {
        let mut space = Space::default();
        space.map(10, anonymous(20, 3));
        space.map(20, anonymous(30, 3));
        assert_eq!(list(&space), [(10, 30, 3)]);
        space.change(15, 25, |mapping| mapping.protection = 1);
        assert_eq!(list(&space), [(10, 15, 3), (15, 25, 1), (25, 30, 3)]);
        space.change(15, 25, |mapping| mapping.protection = 3);
        assert_eq!(list(&space), [(10, 30, 3)]);
        assert_eq!(space.take(12, 14).len(), 1);
        assert_eq!(list(&space), [(10, 12, 3), (14, 30, 3)]);
        space.map(0, anonymous(40, 5));
        assert_eq!(list(&space), [(0, 40, 5)]);
        assert_eq!(space.bytes(), 40);
    }

    #[test]
    fn files_merge_only_where_their_offsets_go_on() {
        let file = |end, offset| Mapping {
            content: Content::File(7),
            offset,
            ..anonymous(end, 1)
        };
        let mut space = Space::default();
        space.map(10, file(20, 0));
        space.map(20, file(30, 10));
        assert_eq!(list(&space), [(10, 30, 1)]);
        space.map(30, file(40, 0));
        assert_eq!(list(&space).len(), 2);
        space.take(10, 15);
        assert_eq!(
            space.at(15).map(|(start, mapping)| (start, mapping.offset)),
            Some((15, 5))
        );
    }

    #[test]
    fn holes_are_learnt() {
        let mut space = Space::default();
        space.map(10, anonymous(20, 3));
        space.learn(5, 30);
        assert_eq!(list(&space), [(5, 10, 0), (10, 20, 3), (20, 30, 0)]);
        assert_eq!(space.mapped_until(7), 30);
        assert_eq!(space.mapped_until(30), 30);
    }

    #[test]
    fn fork_leaves_out_what_stays() {
        let mut space = Space::default();
        space.map(10, anonymous(20, 3));
        space.change(12, 14, |mapping| mapping.stays = true);
        assert_eq!(list(&space.fork()), [(10, 12, 3), (14, 20, 3)]);
    }

    #[test]
    fn agrees_with_an_array_of_bytes() {
        const BYTES: usize = 64;
        let mut space = Space::default();
        let mut bytes = [None::<u8>; BYTES];
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..20_000 {
            let start = random(BYTES as u64);
            let end = start + random(BYTES as u64 - start + 1);
            let (low, high) = (start as usize, end as usize);
            match random(3) {
                0 => {
                    let protection = random(3) as u8;
                    space.map(start, anonymous(end, protection));
                    bytes[low..high].fill(Some(protection));
                }
                1 => {
                    space.take(start, end);
                    bytes[low..high].fill(None);
                }
                _ => {
                    space.change(start, end, |mapping| mapping.protection = 4);
                    bytes[low..high]
                        .iter_mut()
                        .flatten()
                        .for_each(|byte| *byte = 4);
                }
            }
            for (at, byte) in bytes.iter().enumerate() {
                let found = space.at(at as u64).map(|(_, mapping)| mapping.protection);
                assert_eq!(found, *byte, "at {at}");
            }
            for (start, mapping) in space.iter() {
                assert!(start < mapping.end);
            }
        }
    }
}
