// SPDX-License-Identifier: MIT OR Apache-2.0
//! A program on the model, and on both.

use std::sync::{Arc, Mutex};

use crate::language::Bad;
use crate::library::{self, Mode, Verdict};
use crate::model::Model;
use crate::runner::{Observer, Runner, SharedWorld, Step, lock};
use crate::world::World;

/// Keeps the steps.
#[derive(Debug, Default)]
pub struct Record(pub Vec<Step>);

impl Observer for Record {
    fn after(&mut self, step: Step) -> bool {
        self.0.push(step);
        true
    }
}

/// A program in progress on the model.
pub type ModelRunner = Runner<Model, Record>;

/// Before the first line. `warned_once`: the process has had its WARN_ON_ONCE of RG-2.
pub fn model_runner(warned_once: bool) -> ModelRunner {
    let world: SharedWorld = Arc::new(Mutex::new(World::default()));
    let model = Model::new(&world, warned_once);
    Runner::new(world, model, Record::default())
}

/// What the model does with a program, the final cleanup included.
///
/// # Errors
/// mnrun would not read it.
pub fn model_steps(lines: &[String]) -> Result<Vec<Step>, Bad> {
    let mut runner = model_runner(true);
    runner.run(lines)?;
    Ok(runner.observer.0)
}

/// What `mnrun -c` should print for a program.
///
/// # Errors
/// mnrun would not read it.
pub fn mnrun_trace(lines: &[String]) -> Result<String, Bad> {
    let mut runner = model_runner(false);
    for line in lines {
        runner.source_line(line)?;
    }
    let mut trace = String::new();
    for step in &runner.observer.0 {
        for line in step.text.lines().filter(|line| !line.starts_with("  + ")) {
            trace += line;
            trace.push('\n');
        }
    }
    let world = lock(&runner.world);
    for at in &world.pending {
        trace += &format!("PENDING [{}] {}\n", at + 1, world.operations[*at].line.text);
    }
    let World {
        skipped,
        blocked,
        callbacks,
        ..
    } = *world;
    let ops = world.operations.len();
    trace += &format!("END ops={ops} skipped={skipped} blocked={blocked} callbacks={callbacks}\n");
    Ok(trace)
}

/// Runs a program on both, in this process.
///
/// # Errors
/// mnrun would not read it.
pub fn differential(lines: &[String], mode: Mode) -> Result<Verdict, Bad> {
    Ok(library::run(lines, model_steps(lines)?, mode))
}
