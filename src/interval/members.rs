//! Who is a member: a set of addresses, so that misuse is seen without reading memory that may be anything (DV-9).
//!
//! Buckets of a cache line each. An address is in one of two buckets, the emptier one when it came; where both are full, one of
//! those in them moves to its other one. So a look-up reads two lines and decides by no branch, and the table may be nearly
//! full. Tables are allocated by whoever needs a larger one, outside the owner's lock.

use super::Sub;
use crate::index::vector;

/// The set. Guarded by the owner's lock.
#[derive(Debug)]
pub(super) struct Members {
    table: Table,
    len: usize,
    /// A table of so many buckets was too small.
    too_small: usize,
}

/// Each slot: 0, or the address of a member.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket([usize; SLOTS]);

const SLOTS: usize = 8;

pub(super) type Table = Box<[Bucket]>;

/// A slot of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    bucket: usize,
    slot: usize,
}

/// An empty table of so many buckets, if there is memory for it.
pub(super) fn new_table(buckets: usize) -> Option<Table> {
    let mut table = Vec::new();
    table.try_reserve_exact(buckets).ok()?;
    table.resize(buckets, Bucket([0; SLOTS]));
    Some(table.into_boxed_slice())
}

/// Where a member would be: its buckets. Nothing was changed since it was not found there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Absent([usize; 2]);

impl Bucket {
    /// A bit for each slot that holds `address`.
    #[inline(always)]
    fn holding(&self, address: usize) -> u32 {
        vector::equal_of_eight(&self.0, address).unwrap_or_else(|| {
            let slots = (0..).zip(self.0);
            slots.fold(0, |mask, (bit, slot)| {
                mask | u32::from(slot == address) << bit
            })
        })
    }
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

    /// A slot for what was not found. None: there is no room for it; [`Members::wanted`] says what to move to.
    #[inline]
    pub(super) fn room_for(&mut self, Absent(homes): Absent) -> Option<Slot> {
        if self.table.is_empty() {
            return None;
        }
        let [one, other] = homes.map(|bucket| (self.table[bucket].holding(0), bucket));
        // Slots are filled from the first one on, so the greater mask is that of the emptier bucket, but for holes.
        let (free, bucket) = one.max(other);
        if free == 0 {
            return self.make_room(homes);
        }
        let slot = free.trailing_zeros() as usize;
        Some(Slot { bucket, slot })
    }

    /// Moves one of those in the full `buckets` to its other bucket.
    #[cold]
    fn make_room(&mut self, buckets: [usize; 2]) -> Option<Slot> {
        for bucket in buckets {
            for slot in 0..SLOTS {
                let address = self.table[bucket].0[slot];
                let [one, other] = self.homes(address);
                let away = &mut self.table[if one == bucket { other } else { one }].0;
                if let Some(free) = away.iter_mut().find(|slot| **slot == 0) {
                    *free = address;
                    self.table[bucket].0[slot] = 0;
                    return Some(Slot { bucket, slot });
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
        let room = self.room_for(Absent(self.homes(address)));
        if let Some(Slot { bucket, slot }) = room {
            self.table[bucket].0[slot] = address;
        }
        room.is_some()
    }

    /// Forgets the table of an empty set. Returns it, to be dropped without the lock.
    pub(super) fn take_table(&mut self) -> Table {
        self.too_small = 0;
        core::mem::take(&mut self.table)
    }

    /// Where the member `sub` is, or would be.
    #[inline]
    pub(super) fn find(&self, sub: *const Sub) -> Result<Slot, Absent> {
        let homes @ [one, other] = self.homes(sub.addr());
        if self.table.is_empty() {
            return Err(Absent(homes));
        }
        let holding = self.table[one].holding(sub.addr());
        let both = holding | self.table[other].holding(sub.addr());
        if both == 0 {
            return Err(Absent(homes));
        }
        Ok(Slot {
            bucket: if holding == 0 { other } else { one },
            slot: both.trailing_zeros() as usize,
        })
    }

    /// Adds one that is not in the set, in the slot that [`Members::room_for`] has found.
    pub(super) fn insert(&mut self, sub: *const Sub, Slot { bucket, slot }: Slot) {
        self.table[bucket].0[slot] = sub.addr();
        self.len += 1;
    }

    /// Takes out what [`Members::find`] has found, with no change since.
    pub(super) fn remove(&mut self, Slot { bucket, slot }: Slot) {
        self.table[bucket].0[slot] = 0;
        self.len -= 1;
    }

    /// The two buckets where `address` may be. Mixed twice: objects lie in arrays, and one product makes their homes a pattern.
    #[inline]
    fn homes(&self, address: usize) -> [usize; 2] {
        const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;
        let once = (address as u64).wrapping_mul(MIXER);
        let mixed = (once ^ once >> 32).wrapping_mul(MIXER);
        let buckets = self.table.len() as u128;
        [mixed, mixed.rotate_left(32)].map(|mixed| ((u128::from(mixed) * buckets) >> 64) as usize)
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
        for round in 0..60_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let address = 4096 + (random % 1400) as usize * 88;
            let sub = core::ptr::without_provenance::<Sub>(address);
            let found = members.find(sub);
            assert_eq!(found.is_ok(), known.contains(&address));
            // More and more of them, then fewer.
            let wish = if round < 30_000 { 3 } else { 1 };
            match found {
                Ok(slot) if random >> 40 & 3 >= wish => {
                    members.remove(slot);
                    known.remove(&address);
                }
                Err(_) if random >> 40 & 3 < wish => {
                    let slot = loop {
                        let absent = members.find(sub).expect_err("not in it");
                        if let Some(slot) = members.room_for(absent) {
                            break slot;
                        }
                        members.move_to(new_table(members.wanted()).expect("memory"));
                    };
                    members.insert(sub, slot);
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
                    let absent = members.find(sub).expect_err("a new one");
                    if let Some(slot) = members.room_for(absent) {
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
