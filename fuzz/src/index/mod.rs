//! The index of intervals against a vector that is kept in order.
//!
//! The bytes are read as a stream of operations. After each change the neighbourhood of what was changed is asked for, so
//! that a mistake shows at the operation that made it.

mod library;

use library::{Id, Library};

/// More than that makes runs slower and finds no more.
const MAX_OPERATIONS: usize = 512;

/// An interval that is in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interval {
    id: Id,
    start: u64,
    last: u64,
    mark: u64,
}

impl Interval {
    fn intersects(&self, start: u64, last: u64) -> bool {
        self.start <= last && self.last >= start
    }
}

/// Both sides.
struct Pair {
    library: Library,
    /// By start; equal starts in the order of insertion.
    model: Vec<Interval>,
}

impl Pair {
    fn insert(&mut self, start: u64, last: u64, mark: u64) {
        let id = self.library.insert(start, last, mark);
        let place = self.model.partition_point(|old| old.start <= start);
        let interval = Interval {
            id,
            start,
            last,
            mark,
        };
        self.model.insert(place, interval);
        self.check_around(interval);
    }

    fn remove(&mut self, which: usize) {
        if self.model.is_empty() {
            return;
        }
        let old = self.model.remove(which % self.model.len());
        self.library.remove(old.id);
        self.check_around(old);
    }

    /// Asks for the interval, and for what is right before and behind it.
    fn check_around(&self, interval: Interval) {
        let Interval { start, last, .. } = interval;
        self.check(start, last);
        self.check(last, last);
        self.check(last.saturating_add(1), u64::MAX);
        self.check(0, start.saturating_sub(1));
    }

    /// RS-2, RS-9: what intersects `[start, last]`, in order, each with its mark.
    fn check(&self, start: u64, last: u64) {
        let found = self.library.overlaps(start, last);
        let intersecting = self.model.iter().filter(|i| i.intersects(start, last));
        let expected: Vec<_> = intersecting.map(|i| (i.id, i.mark)).collect();
        assert_eq!(found, expected, "[{start:#x}, {last:#x}]");
    }

    /// As [`Pair::check`], from the start, or from the end, of one that is in the index.
    fn check_from(&self, which: usize, last: u64) {
        if self.model.is_empty() {
            return;
        }
        let from = self.model[which % self.model.len()];
        self.check(from.start, last.max(from.start));
        self.check(from.last, last.max(from.last));
    }
}

/// The bytes as operands; all 0 at the end.
struct Operands<'a>(std::slice::Iter<'a, u8>);

impl Operands<'_> {
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    /// Small numbers, so that intervals meet; pages; and the edges of what an address can be.
    fn address(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..0xc0 => u64::from(byte),
            byte @ 0xc0..0xf0 => u64::from(byte - 0xc0) << 12,
            byte @ 0xf0..0xf8 => (1 << 63) + u64::from(byte) - 0xf4,
            byte => u64::MAX - u64::from(0xff - byte),
        }
    }

    /// A first and a last address. Mostly narrow.
    fn bounds(&mut self) -> (u64, u64) {
        let start = self.address();
        let last = match self.byte() {
            byte @ 0..0x80 => start.saturating_add(u64::from(byte % 32)),
            byte @ 0x80..0xc0 => start.saturating_add(u64::from(byte % 64) << 12),
            0xc0..0xf0 => u64::MAX,
            _ => self.address().max(start),
        };
        (start, last)
    }
}

/// The body of the target `index`.
pub fn run(data: &[u8]) {
    let mut pair = Pair {
        library: Library::new(MAX_OPERATIONS),
        model: Vec::new(),
    };
    let mut operands = Operands(data.iter());
    for _ in 0..MAX_OPERATIONS {
        if operands.0.len() == 0 {
            break;
        }
        match operands.byte() {
            operation @ 0..0x70 => {
                let (start, last) = operands.bounds();
                pair.insert(start, last, u64::from(1 + operation % 7));
            }
            0x70..0xb0 => pair.remove(operands.byte().into()),
            0xb0..0xe0 => {
                let (start, last) = operands.bounds();
                pair.check(start, last);
            }
            0xe0..=0xff => {
                let which = operands.byte();
                let (_, last) = operands.bounds();
                pair.check_from(which.into(), last);
            }
        }
    }
    pair.check(0, u64::MAX);
    while !pair.model.is_empty() {
        pair.remove(pair.model.len() / 2);
    }
}
