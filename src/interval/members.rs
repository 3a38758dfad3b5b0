//! Who is a member: a set of addresses, so that misuse is seen without reading memory that may be anything (DV-9).
//!
//! Buckets of a cache line each. An address is in one of two buckets, the emptier one when it came; where both are full, one of
//! those in them moves to its other one. So a look-up reads two lines and decides by no branch, and the table may be nearly
//! full. Tables are allocated by whoever needs a larger one, outside the owner's lock.
//!
//! Who knows where a member was put need not look it up: the slot itself says whether it is there. So the set takes a slot from
//! memory that may hold anything.

use super::Sub;
use super::bucket::{Bucket, Found, SLOTS};

/// The set. Guarded by the owner's lock.
#[derive(Debug)]
pub(super) struct Members {
    table: Table,
    len: usize,
    /// A table of so many buckets was too small.
    too_small: usize,
}

pub(super) type Table = Box<[Bucket]>;

/// The number of a slot of the table; or any number.
pub(super) type Slot = usize;

/// Why there is no slot for a new member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoSlot {
    /// It is a member already.
    Member,
    /// The table is too small: [`Members::wanted`] says what to move to.
    Full,
}

/// An empty table of so many buckets, if there is memory for it.
pub(super) fn new_table(buckets: usize) -> Option<Table> {
    // What `homes` can tell apart.
    u32::try_from(buckets).ok()?;
    let mut table = Vec::new();
    table.try_reserve_exact(buckets).ok()?;
    table.resize(buckets, Bucket::EMPTY);
    Some(table.into_boxed_slice())
}

impl Members {
    pub(super) fn new() -> Self {
        Self {
            table: Box::default(),
            len: 0,
            too_small: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A slot for `sub`.
    ///
    /// # Errors
    /// There is none.
    #[inline]
    pub(super) fn slot_for(&mut self, sub: *const Sub) -> Result<Slot, NoSlot> {
        let homes = self.homes(sub.addr());
        let Some(Found { held, free }) = self.look(homes, sub.addr()) else {
            return Err(NoSlot::Full);
        };
        if held != 0 {
            return Err(NoSlot::Member);
        }
        if free == 0 {
            return self.make_room(homes).ok_or(NoSlot::Full);
        }
        Ok(emptier(homes, free))
    }

    /// What is in the buckets `homes`. None: the table has none.
    #[inline(always)]
    fn look(&self, [one, other]: [usize; 2], address: usize) -> Option<Found> {
        Some(self.table.get(one)?.look(self.table.get(other)?, address))
    }

    /// Moves one of those in the full `buckets` to its other bucket. Returns its slot.
    #[cold]
    fn make_room(&mut self, buckets: [usize; 2]) -> Option<Slot> {
        for bucket in buckets {
            for at in 0..SLOTS {
                let address = self.table[bucket].0[at];
                let [one, other] = self.homes(address);
                let away = &mut self.table[if one == bucket { other } else { one }].0;
                if let Some(free) = away.iter_mut().find(|slot| **slot == 0) {
                    *free = address;
                    self.table[bucket].0[at] = 0;
                    return Some(bucket * SLOTS + at);
                }
            }
        }
        None
    }

    /// Buckets of the table to move to: a quarter more.
    pub(super) fn wanted(&self) -> usize {
        let buckets = self.table.len().max(self.too_small);
        buckets + buckets / 4 + 1
    }

    /// Moves to a table that has more buckets. Returns the other one, to be dropped without the lock.
    pub(super) fn move_to(&mut self, table: Table) -> Table {
        if table.len() <= self.table.len() {
            return table;
        }
        let old = core::mem::replace(&mut self.table, table);
        let mut members = old.iter().flat_map(|bucket| bucket.0);
        let all_fit = members.all(|address| address == 0 || self.put(address));
        if all_fit {
            return old;
        }
        // Hardly ever: their homes are in each other's way.
        self.too_small = self.table.len();
        core::mem::replace(&mut self.table, old)
    }

    /// Puts `address` where there is room, if there is any.
    fn put(&mut self, address: usize) -> bool {
        let slot = self.slot_for(core::ptr::without_provenance(address));
        if let Ok(slot) = slot {
            *self.at(slot) = address;
        }
        slot.is_ok()
    }

    /// Forgets the table of an empty set. Returns it, to be dropped without the lock.
    pub(super) fn take_table(&mut self) -> Table {
        self.too_small = 0;
        core::mem::take(&mut self.table)
    }

    /// Where the member `sub` is.
    pub(super) fn find(&self, sub: *const Sub) -> Option<Slot> {
        let [one, other] = self.homes(sub.addr());
        let found = self.look([one, other], sub.addr())?;
        let at = found.held.trailing_zeros() as usize;
        match at {
            0..SLOTS => Some(one * SLOTS + at),
            SLOTS..32 => Some(other * SLOTS + at - SLOTS),
            _ => None,
        }
    }

    /// As [`Members::find`], for who was told that it may be in `slot`.
    #[inline]
    pub(super) fn find_near(&self, slot: Slot, sub: *const Sub) -> Option<Slot> {
        let bucket = self.table.get(slot / SLOTS);
        if bucket.is_some_and(|bucket| bucket.0[slot % SLOTS] == sub.addr()) {
            return Some(slot);
        }
        self.find(sub)
    }

    #[inline]
    fn at(&mut self, slot: Slot) -> &mut usize {
        &mut self.table[slot / SLOTS].0[slot % SLOTS]
    }

    /// Adds one that is not in the set, in the slot that [`Members::slot_for`] has found.
    #[inline]
    pub(super) fn insert(&mut self, sub: *const Sub, slot: Slot) {
        *self.at(slot) = sub.addr();
        self.len += 1;
    }

    /// Takes out what is in `slot`.
    #[inline]
    pub(super) fn remove(&mut self, slot: Slot) {
        *self.at(slot) = 0;
        self.len -= 1;
    }

    /// The two buckets where `address` may be. Mixed twice: objects lie in arrays, and one product makes their homes a pattern.
    #[inline]
    fn homes(&self, address: usize) -> [usize; 2] {
        const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;
        let once = (address as u64).wrapping_mul(MIXER);
        let mixed = (once ^ once >> 32).wrapping_mul(MIXER);
        let buckets = self.table.len() as u64;
        // Both factors are less than 2^32.
        [mixed & 0xffff_ffff, mixed >> 32].map(|mixed| (mixed.wrapping_mul(buckets) >> 32) as usize)
    }
}

/// A free slot in the emptier one of two buckets.
#[inline(always)]
fn emptier([one, other]: [usize; 2], free: u32) -> Slot {
    let (in_one, in_other) = (free & 0xff, free >> SLOTS);
    // Slots are filled from the first one on, so the greater mask is that of the emptier bucket, but for holes.
    let (bucket, free) = if in_other > in_one {
        (other, in_other)
    } else {
        (one, in_one)
    };
    bucket * SLOTS + free.trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dv_9_a_set_of_addresses_remembers_exactly_what_is_in_it() {
        let mut members = Members::new();
        let mut known = std::collections::HashSet::new();
        let mut random = 88_172_645_463_325_252_u64;
        for round in 0..60_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let address = 4096 + (random % 1400) as usize * 88;
            let sub = core::ptr::without_provenance::<Sub>(address);
            let found = members.find(sub);
            assert_eq!(found.is_some(), known.contains(&address));
            assert_eq!(found, members.find_near(random as usize, sub));
            // More and more of them, then fewer.
            let wish = if round < 30_000 { 3 } else { 1 };
            match found {
                Some(slot) if random >> 40 & 3 >= wish => {
                    members.remove(slot);
                    known.remove(&address);
                }
                None if random >> 40 & 3 < wish => {
                    let slot = loop {
                        match members.slot_for(sub) {
                            Ok(slot) => break slot,
                            Err(why) => assert_eq!(why, NoSlot::Full),
                        }
                        members.move_to(new_table(members.wanted()).expect("memory"));
                    };
                    members.insert(sub, slot);
                    assert_eq!(members.find_near(slot, sub), Some(slot));
                    assert_eq!(members.slot_for(sub), Err(NoSlot::Member));
                    known.insert(address);
                }
                _ => {}
            }
        }
        assert_eq!(members.len, known.len());
        assert!(members.table.len() * SLOTS <= 1400 * 3 / 2);
    }

    /// Drivers' objects lie in arrays of any stride: the table is nearly full before it grows.
    #[test]
    fn a_table_is_nearly_full_before_it_grows() {
        for stride in [88, 96, 192, 4096, 1 << 21] {
            let mut members = Members::new();
            for n in 1..20_000 {
                let sub = core::ptr::without_provenance::<Sub>(0x7000_0000_0000 + n * stride);
                let slot = loop {
                    if let Ok(slot) = members.slot_for(sub) {
                        break slot;
                    }
                    let slots = members.table.len() * SLOTS;
                    assert!(
                        members.len * 100 >= slots * 85,
                        "{} of {slots}",
                        members.len
                    );
                    members.move_to(new_table(members.wanted()).expect("memory"));
                };
                members.insert(sub, slot);
            }
        }
    }
}
