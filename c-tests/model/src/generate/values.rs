// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments: numbers, and objects that the program has.

use super::Generator;
use crate::contract::Op;
use crate::language::number;
use crate::world::World;

/// How often an argument is a random one, in percent.
pub(super) const WRONG: u32 = 4;
/// Named threads, ranges, tokens, gates that programs use.
pub(super) const NAMED: usize = 5;
pub(super) const RANGES: usize = 10;
pub(super) const TOKENS: usize = 10;
pub(super) const GATES: usize = 5;
pub(super) const EDGES: [&str; 11] = [
    "0",
    "1",
    "0xfff",
    "0x1000",
    "0x7fffffffffffffff",
    "0x8000000000000000",
    "max-8191",
    "max-4096",
    "max-4095",
    "max-1",
    "max",
];

pub(super) fn hex(value: u64) -> String {
    if value == 0 {
        "0".to_owned()
    } else {
        format!("{value:#x}")
    }
}

impl Generator<'_> {
    pub(super) fn address(&mut self) -> String {
        if self.choices.percent(self.traits.edge) {
            return EDGES[self.choices.below(EDGES.len())].to_owned();
        }
        let page = self.choices.below(16) as u64 * 0x1000;
        if page == 0 {
            return "0".to_owned();
        }
        hex(page + [0, 0, 0, 0, 1, 2, 0x800, 0xfff][self.choices.below(8)])
    }

    /// Start and end of a range.
    pub(super) fn bounds(&mut self) -> String {
        if self.choices.percent(self.traits.edge) {
            let start = self.address();
            let end = match self.choices.below(5) {
                0 => start.clone(),
                1 => "0".to_owned(),
                2 => "max".to_owned(),
                _ => self.address(),
            };
            return format!("{start} {end}");
        }
        if self.choices.percent(12) {
            return "0 max".to_owned();
        }
        let start = number(&self.address());
        let length = [1, 0xfff, 0x1000, 0x1001, 0x2000, 0x4000, 0x8000, 0][self.choices.below(8)];
        format!("{} {}", hex(start), hex(start.wrapping_add(length)))
    }

    pub(super) fn length(&mut self) -> String {
        if self.choices.percent(self.traits.edge) {
            let odd = [
                "0",
                "1",
                "max",
                "max-1",
                "max-4096",
                "max-8191",
                "0x8000000000000000",
                "0x7fffffffffffffff",
            ];
            return odd[self.choices.below(odd.len())].to_owned();
        }
        hex([1, 0x1000, 0x1000, 0x1001, 0x2000, 0x4000, 0x6000, 0x10000][self.choices.below(8)])
    }

    // ------------------------------------------------------------------------------------------------ objects

    pub(super) fn mm(&mut self, with_users: bool) -> Option<String> {
        let live: Vec<usize> = {
            let world = self.world();
            let suits = |m: &usize| {
                let slot = &world.mms[*m];
                slot.live && (slot.users > 0 || slot.count > 0 && !with_users)
            };
            (0..world.mms.len()).filter(suits).collect()
        };
        let m = if self.wrong() {
            Some(self.choices.below(6))
        } else {
            self.choices.pick(&live)
        };
        m.map(|m| format!("m{m}"))
    }

    /// Mostly one that can be registered with.
    pub(super) fn quiet_mm(&mut self) -> Option<String> {
        if self.wrong() {
            return self.mm(true);
        }
        let quiet: Vec<usize> = {
            let world = self.world();
            let suits = |m: &usize| {
                let slot = &world.mms[*m];
                slot.live && slot.users > 0 && slot.unlocked == 0 && slot.lockwait == 0
            };
            (0..world.mms.len()).filter(suits).collect()
        };
        self.choices.pick(&quiet).map(|m| format!("m{m}"))
    }

    pub(super) fn free_slot(
        &mut self,
        prefix: char,
        taken: impl Fn(&World, usize) -> bool,
        limit: usize,
    ) -> Option<String> {
        let wrong = self.wrong();
        let slots: Vec<usize> = (0..limit)
            .filter(|slot| taken(&self.world(), *slot) == wrong)
            .collect();
        self.choices
            .pick(&slots)
            .map(|slot| format!("{prefix}{slot}"))
    }

    /// A slot whose object suits.
    pub(super) fn used_slot(
        &mut self,
        prefix: char,
        suits: impl Fn(&World, usize) -> Option<bool>,
    ) -> Option<String> {
        if self.wrong() {
            return Some(format!("{prefix}{}", self.choices.below(12)));
        }
        let any = self.wrong();
        let slots: Vec<usize> = {
            let world = self.world();
            (0..60)
                .filter(|slot| suits(&world, *slot).is_some_and(|good| good || any))
                .collect()
        };
        self.choices
            .pick(&slots)
            .map(|slot| format!("{prefix}{slot}"))
    }

    pub(super) fn live_list(
        world: &World,
        object: Option<usize>,
    ) -> Option<&crate::world::ListObject> {
        object.map(|object| &world.lists[object])
    }

    pub(super) fn set(&mut self, prefix: char, needs: &[Op]) -> Option<String> {
        if self.wrong() {
            return Some(format!("{prefix}{}", self.choices.below(8)));
        }
        let suitable: Vec<usize> = {
            let world = self.world();
            let sets = if prefix == 'p' {
                &world.isets
            } else {
                &world.sets
            };
            let suits = |id: &usize| {
                let set = sets[*id].as_ref();
                set.is_some_and(|set| needs.iter().all(|op| set.ops.has(*op)))
            };
            (0..8).filter(suits).collect()
        };
        self.choices
            .pick(&suitable)
            .map(|id| format!("{prefix}{id}"))
    }

    pub(super) fn threads(&self, suits: impl Fn(&crate::world::Named) -> bool) -> Vec<usize> {
        let world = self.world();
        (0..NAMED)
            .filter(|thread| suits(&world.threads[*thread]))
            .collect()
    }

    /// The line, sometimes on a named thread.
    pub(super) fn on_thread(&mut self, line: String, may_wait_for_range: bool) -> String {
        if !self.choices.percent(self.traits.named) {
            return line;
        }
        // With a range of its own it may wait for itself, for ever.
        let any = !may_wait_for_range || self.choices.percent(3);
        let idle = self.threads(|thread| !thread.busy && (any || thread.ranges == 0));
        let thread = if self.wrong() {
            Some(self.choices.below(NAMED))
        } else {
            self.choices.pick(&idle)
        };
        thread.map_or(line.clone(), |thread| format!("t{thread}: {line}"))
    }

    /// A `_locked` call is best made by who has the lock.
    pub(super) fn locked_form(&mut self, line: String, mm: &str) -> String {
        let m = number(&mm[1..]) as usize;
        let owners = self.threads(|thread| !thread.busy && thread.wl == Some(m));
        match self.choices.pick(&owners) {
            Some(owner) if self.choices.percent(80) => format!("t{owner}: {line}"),
            _ => self.on_thread(line, false),
        }
    }
}
