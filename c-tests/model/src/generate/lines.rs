// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines, one function for each kind.

use super::Generator;
use super::profiles::*;
use super::values::*;
use crate::contract::{OPS, Op};
use crate::language::number;
use crate::world::{Life, World};

impl Generator<'_> {
    /// Registers and inserts a few. Nobody can with ranges in flight.
    fn populate(&mut self, mm: &str) {
        for _ in 0..=self.choices.below(5) {
            let line = match self.choices.below(5) {
                0 | 1 => self.registration("reg", 'n', &[], Some(mm.to_owned())),
                2 => self.registration("get", 'h', &[Op::Alloc, Op::Free], Some(mm.to_owned())),
                _ => self.iins(Some(mm.to_owned())),
            };
            if let Some(line) = line {
                self.add(line);
            }
        }
    }

    /// Mostly: ends the ranges of an mm that no thread holds, then populates it.
    fn line_populate(&mut self) -> Option<String> {
        let (live, ends) = {
            let world = self.world();
            let live: Vec<usize> = (0..world.mms.len())
                .filter(|m| world.mms[*m].live && world.mms[*m].users > 0)
                .collect();
            let free = |r: &usize| {
                let range = &world.ranges[*r];
                range.active && !range.busy && !range.locked
            };
            let ends: Vec<(usize, usize)> = (0..RANGES)
                .filter(free)
                .map(|r| (r, world.ranges[r].m))
                .collect();
            (live, ends)
        };
        let m = self.choices.pick(&live)?;
        for (r, of) in ends {
            if of == m {
                self.add(format!("end r{r}"));
            }
        }
        self.populate(&format!("m{m}"));
        Some(format!("counts m{m}"))
    }

    pub(super) fn new_mm(&mut self, mm: &str) {
        self.add(format!("mm {mm}"));
        if self.choices.percent(80) {
            self.add(format!("mmgrab {mm}"));
        }
        if self.choices.percent(90) {
            self.populate(mm);
        }
    }

    fn line_mm(&mut self) -> Option<String> {
        let live: Vec<bool> = self.world().mms[..6].iter().map(|slot| slot.live).collect();
        if live.iter().filter(|live| **live).count() >= self.traits.mms && !self.wrong() {
            return None;
        }
        let dead: Vec<usize> = (0..6).filter(|m| !live[*m]).collect();
        let m = if self.wrong() {
            Some(self.choices.below(6))
        } else {
            self.choices.pick(&dead)
        };
        let mm = format!("m{}", m?);
        self.new_mm(&mm);
        Some(format!("has {mm}"))
    }

    fn line_mmput(&mut self) -> Option<String> {
        // The last user goes less often, and rarely while the last reference goes with it.
        let mut live = Vec::new();
        for (m, slot) in self.world().mms.iter().enumerate() {
            let weight = if slot.users > 1 {
                6
            } else {
                1 + usize::from(slot.count > 0)
            };
            if slot.live && slot.users > 0 {
                live.extend(std::iter::repeat_n(m, weight));
            }
        }
        let m = self.choices.pick(&live)?;
        Some(self.on_thread(format!("mmput m{m}"), true))
    }

    fn line_mmdrop(&mut self) -> Option<String> {
        let at_least = if self.choices.percent(30) { 1 } else { 2 };
        let live: Vec<usize> = {
            let world = self.world();
            (0..world.mms.len())
                .filter(|m| world.mms[*m].live && world.mms[*m].count >= at_least)
                .collect()
        };
        self.choices.pick(&live).map(|m| format!("mmdrop m{m}"))
    }

    fn registration(
        &mut self,
        name: &str,
        prefix: char,
        needs: &[Op],
        mm: Option<String>,
    ) -> Option<String> {
        let taken = move |world: &World, slot: usize| match prefix {
            'n' => world.n[slot].is_some(),
            _ => world.h[slot].is_some(),
        };
        let slot = self.free_slot(prefix, taken, 12)?;
        let mm = match mm {
            Some(mm) => mm,
            None => self.quiet_mm()?,
        };
        let line = format!("{name} {slot} {mm} {}", self.set('o', needs)?);
        Some(match name.ends_with("_locked") {
            true => self.locked_form(line, &mm),
            false => self.on_thread(line, false),
        })
    }

    fn iins(&mut self, mm: Option<String>) -> Option<String> {
        let mm = match mm {
            Some(mm) => mm,
            None => self.mm(false)?,
        };
        let slot = self.free_slot('i', |world, slot| world.i[slot].is_some(), 14)?;
        let rest = format!(
            "{slot} {mm} {} {} {}",
            self.address(),
            self.length(),
            self.set('p', &[])?
        );
        let without_users = {
            let slot = &self.world().mms[number(&mm[1..]) as usize];
            slot.live && slot.users == 0 && slot.itree_on
        };
        Some(match without_users {
            true => format!("iins! {rest}"),
            false => self.on_thread(format!("iins {rest}"), false),
        })
    }

    fn iins_locked(&mut self) -> Option<String> {
        let mm = self.mm(true)?;
        let slot = self.free_slot('i', |world, slot| world.i[slot].is_some(), 14)?;
        let (address, length) = (self.address(), self.length());
        let line = format!(
            "iins_locked {slot} {mm} {address} {length} {}",
            self.set('p', &[])?
        );
        Some(self.locked_form(line, &mm))
    }

    fn used_n(&mut self) -> Option<String> {
        self.used_slot('n', |world, slot| {
            let n = Self::live_list(world, world.n[slot])?;
            Some(n.state == Life::Live && n.users == 1)
        })
    }

    fn used_h(&mut self) -> Option<String> {
        self.used_slot('h', |world, slot| {
            Some(Self::live_list(world, world.h[slot])?.state == Life::Live)
        })
    }

    fn used_i(&mut self, without_readers: bool) -> Option<String> {
        self.used_slot('i', |world, slot| {
            let io = &world.intervals[world.i[slot]?];
            Some(io.state == Life::Live && !(without_readers && io.readers > 0))
        })
    }

    fn line_rb(&mut self) -> Option<String> {
        let wrong = self.wrong();
        let free: Vec<usize> = (0..TOKENS)
            .filter(|k| wrong || !self.world().tokens[*k].busy)
            .collect();
        let token = self.choices.pick(&free)?;
        let line = format!("rb k{token} {}", self.used_i(false)?);
        Some(self.on_thread(line, true))
    }

    fn token(&mut self) -> Option<String> {
        if self.wrong() {
            return Some(format!("k{}", self.choices.below(TOKENS)));
        }
        let valid: Vec<usize> = {
            let world = self.world();
            let suits = |k: &usize| {
                let token = world.tokens[*k];
                token.valid && world.intervals[token.io].state != Life::Dead
            };
            (0..TOKENS).filter(suits).collect()
        };
        self.choices.pick(&valid).map(|k| format!("k{k}"))
    }

    fn start(&mut self, name: &str) -> Option<String> {
        let mm = self.mm(false)?;
        let busy = |world: &World, r: usize| world.ranges[r].active || world.ranges[r].busy;
        let slot = self.free_slot('r', busy, RANGES)?;
        let bounds = self.bounds();
        let owner = if self.choices.percent(60) {
            "-"
        } else {
            ["0", "7", "42"][self.choices.below(3)]
        };
        let (event, flags) = (
            self.choices.below(8),
            [0, 0, 1, 2, 6][self.choices.below(5)],
        );
        let line = format!("{name} {slot} {mm} {bounds} {event} {flags} {owner}");
        let m = Some(number(&mm[1..]) as usize);
        let holders = self.threads(|thread| !thread.busy && (thread.rl == m || thread.wl == m));
        match self.choices.pick(&holders) {
            Some(holder) if self.choices.percent(60) => Some(format!("t{holder}: {line}")),
            _ => Some(self.on_thread(line, false)),
        }
    }

    fn line_end(&mut self) -> Option<String> {
        let active: Vec<usize> = {
            let world = self.world();
            (0..RANGES)
                .filter(|r| world.ranges[*r].active && !world.ranges[*r].busy)
                .collect()
        };
        let r = self.choices.pick(&active)?;
        let owner = {
            let range = &self.world().ranges[r];
            range.thread.filter(|_| range.locked)
        };
        let line = format!("end r{r}");
        match owner {
            Some(thread) if !self.wrong() => Some(format!("t{thread}: {line}")),
            _ => Some(self.on_thread(line, false)),
        }
    }

    /// An end too many (DV-8).
    fn line_end_again(&mut self) -> Option<String> {
        let over: Vec<usize> = {
            let world = self.world();
            let suits = |r: &usize| {
                let range = &world.ranges[*r];
                let m = &world.mms[range.m];
                range.used && !range.active && !range.busy && m.live && m.active + m.pending == 0
            };
            (0..RANGES).filter(suits).collect()
        };
        self.choices.pick(&over).map(|r| format!("end! r{r}"))
    }

    /// A registration without users: a BUG (RG-1), the end of the program.
    fn line_doom(&mut self) -> Option<String> {
        let exited: Vec<usize> = {
            let world = self.world();
            let suits = |m: &usize| world.mms[*m].live && world.mms[*m].users == 0;
            (0..6).filter(suits).collect()
        };
        let m = self.choices.pick(&exited)?;
        Some(format!("reg! n11 m{m} {}", self.set('o', &[])?))
    }

    fn event(&mut self, name: &str) -> Option<String> {
        let mm = self.mm(false)?;
        let rest = match name {
            "ty" => self.address(),
            "cpte" => format!("{} {}", self.address(), hex(self.choices.word() >> 4)),
            _ => self.bounds(),
        };
        Some(self.on_thread(format!("{name} {mm} {rest}"), false))
    }

    fn line_lock(&mut self) -> Option<String> {
        let wrong = self.wrong();
        let idle =
            self.threads(|thread| !thread.busy && (wrong || thread.rl.or(thread.wl).is_none()));
        let thread = self.choices.pick(&idle)?;
        let how = ['r', 'r', 'r', 'w'][self.choices.below(4)];
        Some(format!("t{thread}: lock {how} {}", self.mm(true)?))
    }

    fn line_unlock(&mut self) -> Option<String> {
        let wrong = self.wrong();
        let owners = self.threads(|thread| {
            !thread.busy && thread.rl.or(thread.wl).is_some() && (wrong || thread.ranges == 0)
        });
        let thread = self.choices.pick(&owners)?;
        let holds = self.world().threads[thread];
        Some(format!("t{thread}: unlock m{}", holds.rl.or(holds.wl)?))
    }

    fn line_open(&mut self) -> Option<String> {
        let gates: Vec<_> = self.world().gates[..GATES].to_vec();
        let waited: Vec<usize> = (0..GATES)
            .filter(|g| gates[*g].closed && gates[*g].waiter)
            .collect();
        let closed: Vec<usize> = (0..GATES).filter(|g| gates[*g].closed).collect();
        let g = self
            .choices
            .pick(if waited.is_empty() { &closed } else { &waited })?;
        Some(format!("open g{g}"))
    }

    fn line_close(&mut self) -> Option<String> {
        let used: Vec<usize> = {
            let world = self.world();
            let sets = world.sets.iter().chain(&world.isets).flatten();
            let gates: Vec<usize> = sets
                .flat_map(|set| (0..OPS).filter_map(|op| set.gate[op]))
                .collect();
            (0..GATES)
                .filter(|g| gates.contains(g) && !world.gates[*g].closed)
                .collect()
        };
        self.choices.pick(&used).map(|g| format!("close g{g}"))
    }

    pub(super) fn line_cleanup(&mut self) -> String {
        let mut left = vec!['i', 'n', 'h', 'm'];
        let mut line = "cleanup ".to_owned();
        while !left.is_empty() {
            let at = self.choices.below(left.len());
            line.push(left.swap_remove(at));
        }
        line
    }

    pub(super) fn line(&mut self, kind: Kind) -> Option<String> {
        match kind {
            Kind::Mm => self.line_mm(),
            Kind::Mmget => self.mm(true).map(|mm| format!("mmget {mm}")),
            Kind::MmgetNz => self.mm(false).map(|mm| format!("mmget_nz {mm}")),
            Kind::Mmput => self.line_mmput(),
            Kind::Mmgrab => self.mm(false).map(|mm| format!("mmgrab {mm}")),
            Kind::Mmdrop => self.line_mmdrop(),
            Kind::Has => self.mm(false).map(|mm| format!("has {mm}")),
            Kind::Counts => self.mm(false).map(|mm| format!("counts {mm}")),
            Kind::Reg => self.registration("reg", 'n', &[], None),
            Kind::RegLocked => self.registration("reg_locked", 'n', &[], None),
            Kind::Unreg => self
                .used_n()
                .map(|n| self.on_thread(format!("unreg {n}"), true)),
            Kind::Nput => self
                .used_n()
                .map(|n| self.on_thread(format!("nput {n}"), false)),
            Kind::Get => self.registration("get", 'h', &[Op::Alloc, Op::Free], None),
            Kind::GetLocked => self.registration("get_locked", 'h', &[Op::Alloc, Op::Free], None),
            Kind::Put => self
                .used_h()
                .map(|h| self.on_thread(format!("put {h}"), false)),
            Kind::Getmax => self.used_h().map(|h| format!("getmax {h}")),
            Kind::Sync => Some(self.on_thread("sync".to_owned(), true)),
            Kind::Iins => self.iins(None),
            Kind::IinsLocked => self.iins_locked(),
            Kind::Irem => self
                .used_i(true)
                .map(|i| self.on_thread(format!("irem {i}"), true)),
            Kind::Rb => self.line_rb(),
            Kind::Rr => self.token().map(|k| format!("rr {k}")),
            Kind::Cr => self.token().map(|k| format!("cr {k}")),
            Kind::Start => self.start("start"),
            Kind::StartNb => {
                let name = if self.choices.percent(self.traits.leak) {
                    "start_nb!"
                } else {
                    "start_nb"
                };
                self.start(name)
            }
            Kind::End => self.line_end(),
            Kind::EndAgain => self.line_end_again(),
            Kind::Doom => self.line_doom(),
            Kind::Cfy => self.event("cfy"),
            Kind::Cy => self.event("cy"),
            Kind::Ty => self.event("ty"),
            Kind::Cpte => self.event("cpte"),
            Kind::Tlb => self.event("tlb"),
            Kind::Lock => self.line_lock(),
            Kind::Unlock => self.line_unlock(),
            Kind::Open => self.line_open(),
            Kind::Close => self.line_close(),
            Kind::Cleanup => Some(self.line_cleanup()),
            Kind::Define => self.define(),
            Kind::Populate => self.line_populate(),
        }
    }
}
