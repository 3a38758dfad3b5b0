//! Who is a member: a set of addresses, so that misuse is seen without reading memory that may be anything (DV-9).
//!
//! Open addressing with linear probing. Its tables are allocated by whoever needs a larger one, outside the owner's lock.

use super::Sub;

/// The set. Guarded by the owner's lock.
#[derive(Debug)]
pub(super) struct Members {
    table: Table,
    len: usize,
}

/// Slots: 0, or the address of a member. Their number is 0 or a power of two.
pub(super) type Table = Box<[usize]>;

const SMALLEST: usize = 8;

/// An empty table of `slots` slots, if there is memory for it.
pub(super) fn new_table(slots: usize) -> Option<Table> {
    let mut table = Vec::new();
    table.try_reserve_exact(slots).ok()?;
    table.resize(slots, 0);
    Some(table.into_boxed_slice())
}

impl Members {
    pub(super) fn new() -> Self {
        Self {
            table: Box::default(),
            len: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Is there room for one more? If not: how many slots [`Members::move_to`] wants.
    pub(super) fn has_room(&self) -> Result<(), usize> {
        if self.len < self.table.len() / 8 * 7 {
            Ok(())
        } else {
            Err((self.table.len() * 2).max(SMALLEST))
        }
    }

    /// Moves to a table that has more slots. Returns the other one, to be dropped without the lock.
    pub(super) fn move_to(&mut self, table: Table) -> Table {
        if table.len() <= self.table.len() {
            return table;
        }
        let old = core::mem::replace(&mut self.table, table);
        for address in old.iter().filter(|address| **address != 0) {
            let at = self.find(*address);
            self.table[at] = *address;
        }
        old
    }

    /// Forgets the table of an empty set. Returns it, to be dropped without the lock.
    pub(super) fn take_table(&mut self) -> Table {
        core::mem::take(&mut self.table)
    }

    pub(super) fn contains(&self, sub: *const Sub) -> bool {
        !self.table.is_empty() && self.table[self.find(sub.addr())] != 0
    }

    /// Adds one that is not in the set, for which there is room.
    pub(super) fn insert(&mut self, sub: *const Sub) {
        let at = self.find(sub.addr());
        self.table[at] = sub.addr();
        self.len += 1;
    }

    /// Says whether it was in the set.
    pub(super) fn remove(&mut self, sub: *const Sub) -> bool {
        if !self.contains(sub) {
            return false;
        }
        let mut hole = self.find(sub.addr());
        self.len -= 1;
        // What follows without a gap moves up, where it is still found from its own place.
        let mask = self.table.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let address = self.table[at];
            if address == 0 {
                break;
            }
            let (from_home, from_hole) = (
                at.wrapping_sub(self.home(address)) & mask,
                at.wrapping_sub(hole) & mask,
            );
            if from_home >= from_hole {
                self.table[hole] = address;
                hole = at;
            }
        }
        self.table[hole] = 0;
        true
    }

    /// The slot of `address`, or the empty one where it belongs. There is always an empty one.
    fn find(&self, address: usize) -> usize {
        let mask = self.table.len() - 1;
        let mut at = self.home(address);
        while self.table[at] != 0 && self.table[at] != address {
            at = (at + 1) & mask;
        }
        at
    }

    /// Where the search for `address` begins: the upper bits of a product are well mixed.
    fn home(&self, address: usize) -> usize {
        let mixed = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & (self.table.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dv_9_a_set_of_addresses_remembers_exactly_what_is_in_it() {
        let mut members = Members::new();
        let mut known = std::collections::HashSet::new();
        let mut random = 88_172_645_463_325_252_u64;
        for _ in 0..50_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let address = 4096 + (random % 700) as usize * 88;
            let sub = core::ptr::without_provenance::<Sub>(address);
            assert_eq!(members.contains(sub), known.contains(&address));
            if random >> 40 & 1 == 0 {
                assert_eq!(members.remove(sub), known.remove(&address));
            } else if known.insert(address) {
                if let Err(slots) = members.has_room() {
                    members.move_to(new_table(slots).expect("memory"));
                }
                members.insert(sub);
            }
        }
        assert_eq!(members.len, known.len());
        assert!(members.table.len() <= 2048);
    }
}
