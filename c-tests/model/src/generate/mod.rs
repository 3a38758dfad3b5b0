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
mod choices;
mod lines;
mod profiles;
mod sets;
mod values;

use crate::check::{ModelRunner, model_runner};
use crate::runner::{Step, lock};
use crate::world::World;
use choices::Choices;
use profiles::{KINDS, Kind, PROFILES, Profile, Traits};
use values::WRONG;

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
