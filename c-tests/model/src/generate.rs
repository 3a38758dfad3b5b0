// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random programs, mean ones.
//!
//! A program is the same for the same seed and the same generator. It is made line by line with the model running it, so
//! that most lines do something; some are wrong on purpose, for the guards. A profile, which its first line names, says
//! what there is much of. The same generator can be fed with bytes instead of random numbers, for a fuzzer.
//!
//! `!` forms: `iins!` where an mm has no users any more (II-4), `start_nb!` where a refusal would leak in the reference
//! (DV-1), `reg!` without users (RG-1: a BUG, the end of the program); and `end!` for an end too many (DV-8), which mnrun
//! refuses.

use crate::check::{ModelRunner, model_runner};
use crate::contract::{OPS, Op};
use crate::language::number;
use crate::runner::{Step, lock};
use crate::world::{Life, World};

// -------------------------------------------------------------------------------------------------------- choices

/// Where choices come from.
#[derive(Debug)]
pub enum Choices<'a> {
    /// A pseudo-random sequence (xorshift64*).
    Seed(u64),
    /// Bytes; when they are used up, every choice is the first.
    Bytes(&'a [u8]),
}

impl Choices<'_> {
    /// The sequence of a seed; seeds that are neighbours have nothing in common.
    pub fn of(seed: u64) -> Self {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self::Seed((z ^ (z >> 31)) | 1)
    }

    fn is_used_up(&self) -> bool {
        matches!(self, Self::Bytes(rest) if rest.is_empty())
    }

    fn byte(&mut self) -> u64 {
        match self {
            Self::Bytes([first, rest @ ..]) => {
                let byte = *first;
                *self = Self::Bytes(rest);
                byte.into()
            }
            _ => 0,
        }
    }

    fn word(&mut self) -> u64 {
        match self {
            Self::Seed(state) => {
                *state ^= *state >> 12;
                *state ^= *state << 25;
                *state ^= *state >> 27;
                state.wrapping_mul(0x2545_f491_4f6c_dd1d)
            }
            Self::Bytes(_) => (0..8).fold(0, |word, _| word << 8 | self.byte()),
        }
    }

    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        let limit = limit.max(1) as u64;
        let word = match self {
            Self::Seed(_) => self.word() >> 16,
            Self::Bytes(_) if limit <= 256 => self.byte(),
            Self::Bytes(_) => self.byte() << 8 | self.byte(),
        };
        usize::try_from(word % limit).unwrap_or(0)
    }

    /// True in so many cases of 100.
    fn percent(&mut self, percent: u32) -> bool {
        percent > 0 && self.below(100) < percent as usize
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let at = if from.is_empty() {
            return None;
        } else {
            self.below(from.len())
        };
        from.get(at).cloned()
    }
}

// ------------------------------------------------------------------------------------------------------- profiles

macro_rules! kinds {
    ($($kind:ident $name:literal $weight:literal,)*) => {
        /// What a line can be.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Kind { $($kind),* }
        const KINDS: &[(Kind, &str, u32)] = &[$((Kind::$kind, $name, $weight)),*];
    };
}

// Weights are tenths.
kinds! {
    Mm "mm" 20, Mmget "mmget" 10, MmgetNz "mmget_nz" 10, Mmput "mmput" 20, Mmgrab "mmgrab" 10, Mmdrop "mmdrop" 10,
    Has "has" 10, Counts "counts" 20, Reg "reg" 60, RegLocked "reg_locked" 20, Unreg "unreg" 40, Nput "nput" 20,
    Get "get" 50, GetLocked "get_locked" 20, Put "put" 40, Getmax "getmax" 5, Sync "sync" 30,
    Iins "iins" 100, IinsLocked "iins_locked" 20, Irem "irem" 70, Rb "rb" 90, Rr "rr" 60, Cr "cr" 20,
    Start "start" 140, StartNb "start_nb" 70, End "end" 160,
    Cfy "cfy" 30, Cy "cy" 30, Ty "ty" 30, Cpte "cpte" 20, Tlb "tlb" 30,
    Lock "lock" 0, Unlock "unlock" 0, Open "open" 0, Close "close" 0,
    EndAgain "end_again" 4, Doom "doom" 1,
    Cleanup "cleanup" 1, Define "define" 5, Populate "populate" 30,
}

/// In percent, except `mms`.
#[derive(Clone, Copy, Debug)]
struct Traits {
    /// Gates in callbacks.
    gates: u32,
    /// Odd shapes and addresses.
    edge: u32,
    /// Callbacks that put or insert.
    acts: u32,
    /// Starts and invalidates that fail.
    refuse: u32,
    /// mms at a time.
    mms: usize,
    /// Lines on named threads.
    named: u32,
    /// `start_nb!`: refusals where an interval was ever inserted.
    leak: u32,
}

const TRAITS: Traits = Traits {
    gates: 0,
    edge: 5,
    acts: 10,
    refuse: 10,
    mms: 2,
    named: 5,
    leak: 0,
};

struct Profile {
    name: &'static str,
    weights: &'static [(&'static str, u32)],
    traits: Traits,
}

const PROFILES: &[Profile] = &[
    Profile {
        name: "basic",
        weights: &[],
        traits: TRAITS,
    },
    Profile {
        name: "edge",
        weights: &[("iins", 160), ("start", 180), ("irem", 90)],
        traits: Traits { edge: 60, ..TRAITS },
    },
    Profile {
        name: "nested",
        weights: &[
            ("start", 220),
            ("end", 200),
            ("iins", 160),
            ("irem", 120),
            ("rb", 140),
        ],
        traits: TRAITS,
    },
    Profile {
        name: "getput",
        weights: &[
            ("get", 140),
            ("get_locked", 60),
            ("put", 120),
            ("nput", 50),
            ("getmax", 20),
            ("sync", 60),
            ("reg", 80),
        ],
        traits: Traits { acts: 40, ..TRAITS },
    },
    Profile {
        name: "locks",
        weights: &[
            ("lock", 90),
            ("unlock", 70),
            ("reg", 90),
            ("get", 80),
            ("reg_locked", 60),
            ("get_locked", 50),
            ("iins_locked", 60),
        ],
        traits: Traits {
            named: 30,
            ..TRAITS
        },
    },
    Profile {
        name: "gates",
        weights: &[
            ("open", 80),
            ("close", 100),
            ("cfy", 50),
            ("cy", 40),
            ("ty", 40),
            ("sync", 40),
        ],
        traits: Traits {
            gates: 50,
            ..TRAITS
        },
    },
    Profile {
        name: "srcu",
        weights: &[
            ("open", 80),
            ("close", 120),
            ("unreg", 100),
            ("reg", 140),
            ("sync", 50),
            ("cfy", 80),
            ("ty", 50),
            ("tlb", 60),
            ("start", 80),
            ("end", 80),
            ("nput", 50),
            ("iins", 40),
        ],
        traits: Traits {
            gates: 70,
            mms: 3,
            ..TRAITS
        },
    },
    Profile {
        name: "life",
        weights: &[
            ("mm", 80),
            ("mmput", 120),
            ("mmget_nz", 40),
            ("mmdrop", 50),
            ("mmgrab", 40),
            ("counts", 60),
        ],
        traits: Traits {
            gates: 30,
            mms: 5,
            acts: 30,
            ..TRAITS
        },
    },
    Profile {
        name: "lifelocks",
        weights: &[
            ("mm", 80),
            ("mmput", 100),
            ("mmdrop", 50),
            ("mmgrab", 40),
            ("lock", 60),
            ("unlock", 50),
            ("open", 60),
            ("close", 40),
        ],
        traits: Traits {
            gates: 40,
            mms: 4,
            named: 25,
            ..TRAITS
        },
    },
    Profile {
        name: "refuse",
        weights: &[("start_nb", 200), ("reg", 100), ("iins", 120)],
        traits: Traits {
            refuse: 60,
            gates: 30,
            ..TRAITS
        },
    },
    Profile {
        name: "retreat",
        weights: &[
            ("start", 160),
            ("end", 120),
            ("sync", 60),
            ("unreg", 60),
            ("reg", 120),
            ("open", 80),
            ("close", 120),
            ("iins", 60),
            ("irem", 40),
            ("rb", 40),
        ],
        traits: Traits {
            gates: 80,
            refuse: 90,
            ..TRAITS
        },
    },
    Profile {
        name: "callbacks",
        weights: &[
            ("start", 200),
            ("reg", 90),
            ("get", 90),
            ("open", 40),
            ("close", 30),
        ],
        traits: Traits {
            acts: 80,
            gates: 30,
            ..TRAITS
        },
    },
    Profile {
        name: "mix",
        weights: &[
            ("lock", 50),
            ("unlock", 40),
            ("open", 60),
            ("close", 80),
            ("mmput", 40),
            ("cleanup", 4),
        ],
        traits: Traits {
            gates: 50,
            edge: 30,
            acts: 30,
            refuse: 20,
            mms: 4,
            named: 25,
            leak: 0,
        },
    },
    Profile {
        name: "dv1",
        weights: &[
            ("start_nb", 240),
            ("reg", 80),
            ("rb", 120),
            ("open", 30),
            ("close", 20),
        ],
        traits: Traits {
            refuse: 80,
            gates: 30,
            leak: 70,
            ..TRAITS
        },
    },
];

/// How often an argument is a random one, in percent.
const WRONG: u32 = 4;
/// Named threads, ranges, tokens, gates that programs use.
const NAMED: usize = 5;
const RANGES: usize = 10;
const TOKENS: usize = 10;
const GATES: usize = 5;
const EDGES: [&str; 11] = [
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

// ------------------------------------------------------------------------------------------------------ a program

/// A program and what the model did with it, the final cleanup included.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its lines.
    pub lines: Vec<String>,
    /// What the model did.
    pub steps: Vec<Step>,
    /// Is nothing left, and was there no BUG?
    pub ends_cleanly: bool,
}

struct Generator<'a> {
    choices: Choices<'a>,
    profile: &'static Profile,
    weights: Vec<u32>,
    traits: Traits,
    /// Operations in progress before it lets some go.
    patience: usize,
    lines: Vec<String>,
    runner: ModelRunner,
}

/// The program of a seed.
pub fn of_seed(seed: u64) -> Program {
    Generator::new(Choices::of(seed)).program(None)
}

/// The program of a fuzzer's bytes. It ends where the bytes do.
pub fn of_bytes(data: &[u8]) -> Program {
    Generator::new(Choices::Bytes(data)).program(Some(300))
}

fn hex(value: u64) -> String {
    if value == 0 {
        "0".to_owned()
    } else {
        format!("{value:#x}")
    }
}

impl<'a> Generator<'a> {
    fn new(mut choices: Choices<'a>) -> Self {
        let profile = &PROFILES[choices.below(PROFILES.len())];
        let weight = |name: &str, default: u32| {
            let own = profile.weights.iter().find(|(own, _)| *own == name);
            let weight = own.map_or(default, |(_, weight)| *weight);
            match name {
                "open" if profile.traits.gates > 0 => weight.max(40),
                "close" if profile.traits.gates > 0 => weight.max(60),
                _ => weight,
            }
        };
        let weights = KINDS
            .iter()
            .map(|(_, name, default)| weight(name, *default))
            .collect();
        let patience = [3, 6, 10][choices.below(3)];
        Self {
            choices,
            profile,
            weights,
            traits: profile.traits,
            patience,
            lines: Vec::new(),
            runner: model_runner(true),
        }
    }

    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        lock(&self.runner.world)
    }

    fn add(&mut self, line: String) {
        self.runner
            .source_line(&line)
            .expect("a line of ours is well-formed");
        self.lines.push(line);
    }

    fn wrong(&mut self) -> bool {
        self.choices.percent(WRONG)
    }

    // ------------------------------------------------------------------------------------------------ numbers

    fn address(&mut self) -> String {
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
    fn bounds(&mut self) -> String {
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

    fn length(&mut self) -> String {
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

    fn mm(&mut self, with_users: bool) -> Option<String> {
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
    fn quiet_mm(&mut self) -> Option<String> {
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

    fn free_slot(
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
    fn used_slot(
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

    fn live_list(world: &World, object: Option<usize>) -> Option<&crate::world::ListObject> {
        object.map(|object| &world.lists[object])
    }

    fn set(&mut self, prefix: char, needs: &[Op]) -> Option<String> {
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

    fn threads(&self, suits: impl Fn(&crate::world::Named) -> bool) -> Vec<usize> {
        let world = self.world();
        (0..NAMED)
            .filter(|thread| suits(&world.threads[*thread]))
            .collect()
    }

    /// The line, sometimes on a named thread.
    fn on_thread(&mut self, line: String, may_wait_for_range: bool) -> String {
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
    fn locked_form(&mut self, line: String, mm: &str) -> String {
        let m = number(&mm[1..]) as usize;
        let owners = self.threads(|thread| !thread.busy && thread.wl == Some(m));
        match self.choices.pick(&owners) {
            Some(owner) if self.choices.percent(80) => format!("t{owner}: {line}"),
            _ => self.on_thread(line, false),
        }
    }

    // ------------------------------------------------------------------------------------------------ sets

    fn values(&mut self, pool: &[i64]) -> String {
        let count = 1 + self.choices.below(4);
        let values: Vec<String> = (0..count)
            .map(|_| pool[self.choices.below(pool.len())].to_string())
            .collect();
        values.join(",")
    }

    fn act(&mut self, may_put: bool) -> String {
        if may_put && self.choices.percent(50) {
            return "put".to_owned();
        }
        let slot = 20 + self.choices.below(40);
        let (address, length) = (self.address(), self.length());
        format!("iins:i{slot}:{address}:{length}:p{}", self.choices.below(3))
    }

    /// The callbacks of a set: name and word.
    fn members(&mut self) -> Vec<(&'static str, String)> {
        let mut chosen = Vec::new();
        if self.choices.percent(70) {
            chosen.push(("rel", "rel".to_owned()));
        }
        for (name, pool) in [
            ("cfy", [0, 0, 1, 2]),
            ("cy", [0, 0, 1, 4]),
            ("ty", [0, 0, 1, 3]),
        ] {
            if self.choices.percent(60) {
                chosen.push((name, format!("{name}={}", self.values(&pool))));
            }
        }
        if self.choices.percent(50) {
            chosen.push(("cpte", "cpte".to_owned()));
        }
        let tlb = self.choices.percent(20);
        if tlb {
            chosen.push(("tlb", "tlb".to_owned()));
        }
        if !tlb || self.choices.percent(10) {
            self.start_and_end(&mut chosen);
        }
        if self.choices.percent(65) {
            let fails = self.choices.percent(15);
            let values = if fails {
                format!("={}", self.values(&[-12, -22, 0]))
            } else {
                String::new()
            };
            chosen.push(("alloc", format!("alloc{values}")));
            chosen.push(("free", "free".to_owned()));
        } else if self.choices.percent(50) {
            chosen.push(("free", "free".to_owned()));
        }
        chosen
    }

    fn start_and_end(&mut self, chosen: &mut Vec<(&'static str, String)>) {
        if self.choices.percent(75) {
            let refuses = self.choices.percent(self.traits.refuse);
            let values = if refuses {
                format!("={}", self.values(&[0, 0, -11, -11, -22, 5]))
            } else {
                String::new()
            };
            chosen.push(("start", format!("start{values}")));
        }
        if self.choices.percent(70) {
            chosen.push(("end", "end".to_owned()));
        }
    }

    fn define(&mut self) -> Option<String> {
        if self.choices.percent(40) {
            return self.define_intervals();
        }
        let slot = (0..8).find(|slot| self.world().sets[*slot].is_none())?;
        let chosen = self.members();
        let has = |name: &str| chosen.iter().any(|(own, _)| *own == name);
        let mut words: Vec<String> = chosen.iter().map(|(_, word)| word.clone()).collect();
        if has("start") && self.choices.percent(self.traits.refuse * 7 / 10) {
            words.push(format!("bstart={}", self.values(&[0, 0, -11, -22, 7])));
        }
        for (name, _) in &chosen {
            if *name != "free" && self.choices.percent(self.traits.gates) {
                words.push(format!("gate={name}:{}", self.choices.below(GATES)));
            }
        }
        let acting: Vec<&str> = chosen
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| !matches!(*name, "alloc" | "free"))
            .collect();
        if !acting.is_empty() && self.choices.percent(self.traits.acts) {
            let name = self.choices.pick(&acting)?;
            words.push(format!("act={name}:{}", self.act(has("free"))));
        }
        words.truncate(11);
        Some(
            format!("ops o{slot} {}", words.join(" "))
                .trim_end()
                .to_owned(),
        )
    }

    fn define_intervals(&mut self) -> Option<String> {
        let slot = (0..5).find(|slot| self.world().isets[*slot].is_none())?;
        let mut line = format!("iops p{slot}");
        if self.choices.percent(self.traits.refuse.max(15)) {
            line += &format!(" nb={}", self.values(&[1, 1, 0]));
        }
        if self.choices.percent(self.traits.refuse) {
            line += &format!(" b={}", self.values(&[1, 1, 0]));
        }
        if self.choices.percent(15) {
            line += " set=0";
        }
        if self.choices.percent(20) {
            line += " setf=1";
        }
        if self.choices.percent(self.traits.gates) {
            line += &format!(" gate=inv:{}", self.choices.below(GATES));
        }
        if self.choices.percent(self.traits.acts) {
            line += &format!(" act=inv:{}", self.act(false));
        }
        Some(line)
    }

    // ------------------------------------------------------------------------------------------------ lines

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

    fn new_mm(&mut self, mm: &str) {
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

    fn line_cleanup(&mut self) -> String {
        let mut left = vec!['i', 'n', 'h', 'm'];
        let mut line = "cleanup ".to_owned();
        while !left.is_empty() {
            let at = self.choices.below(left.len());
            line.push(left.swap_remove(at));
        }
        line
    }

    fn line(&mut self, kind: Kind) -> Option<String> {
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

    // ------------------------------------------------------------------------------------------------ the whole

    /// With much in progress, prefers what lets it go on.
    fn kind(&mut self) -> Kind {
        let crowded = self.world().pending.len() > self.patience;
        let weight = |at: usize| match KINDS[at].0 {
            Kind::Open if crowded => self.weights[at] * 5,
            Kind::End | Kind::Unlock if crowded => self.weights[at] * 4,
            _ => self.weights[at],
        };
        let weights: Vec<u32> = (0..KINDS.len()).map(weight).collect();
        let total: u32 = weights.iter().sum();
        let mut at = self.choices.below(total as usize) as u32;
        for (kind, weight) in weights.iter().enumerate() {
            if at < *weight {
                return KINDS[kind].0;
            }
            at -= weight;
        }
        Kind::Sync
    }

    fn one_line(&mut self) {
        for _ in 0..20 {
            let kind = self.kind();
            if let Some(line) = self.line(kind) {
                self.add(line);
                return;
            }
        }
    }

    fn program(mut self, length: Option<usize>) -> Program {
        self.lines.push(format!("# profile {}", self.profile.name));
        let length = length.unwrap_or_else(|| 50 + self.choices.below(100));
        for _ in 0..3 + self.choices.below(4) {
            let line = self.define();
            self.add(line.unwrap_or_else(|| "ops o7 rel".to_owned()));
        }
        if self.world().isets.iter().all(Option::is_none) {
            self.add("iops p0".to_owned());
        }
        for m in 0..=self.choices.below(self.traits.mms) {
            self.new_mm(&format!("m{m}"));
        }
        while self.lines.len() < length && !self.choices.is_used_up() && !self.runner.stopped() {
            self.one_line();
        }
        if self.choices.percent(95) {
            let line = self.line_cleanup();
            self.add(line);
        }
        self.runner
            .cleanup("")
            .expect("lines of ours are well-formed");
        let ends_cleanly = {
            let world = self.world();
            !self.runner.stopped()
                && world.pending.is_empty()
                && !world.mms.iter().any(|slot| slot.live)
        };
        Program {
            ends_cleanly,
            lines: self.lines,
            steps: self.runner.observer.0,
        }
    }
}
