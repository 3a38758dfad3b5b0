// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verdict about a program: where the library differs from the model.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::*;
use crate::runner::{Observer, Step};

/// The first step in which the library did something else.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Index of the step.
    pub step: usize,
    /// What the model says.
    pub expected: String,
    /// What the library did.
    pub got: String,
}

/// How a program went.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// `None`: as the model says.
    pub difference: Option<Difference>,
    /// Has it left something behind, so that this process can run no other program?
    pub tainted: bool,
}

pub(super) fn told(step: &Step) -> String {
    let bug = step
        .bug
        .as_ref()
        .map_or(String::new(), |rule| format!("BUG {rule}\n"));
    format!("{}{bug}", step.text)
}

pub(super) fn expected_step(step: usize) -> Option<Step> {
    hold(&EXPECTED).as_ref()?.get(step).cloned()
}

pub(super) fn answer(verdict: Verdict) {
    if let Some(sender) = hold(&VERDICT).take() {
        let _ = sender.send(verdict);
    }
}

/// What the current operation, and those in progress, have said since the last step.
pub(super) fn outputs() -> String {
    let world = world();
    let Some(op) = world.operations.last() else {
        return String::new();
    };
    let out: String = world.operations.iter().map(|op| op.out.as_str()).collect();
    format!("[{}] {}\n{out}", world.operations.len(), op.line.text)
}

/// The runner's own call sleeps, and nobody can wake it.
pub(super) fn stuck() {
    let step = STEP.load(Ordering::SeqCst);
    let difference = Some(Difference {
        step,
        expected: expected_step(step).map_or(String::new(), |step| told(&step)),
        got: format!("{}  BLOCKED (or woken too late)\n", outputs()),
    });
    answer(Verdict {
        difference,
        tainted: true,
    });
}

pub(super) struct Compare {
    pub(super) expected: Arc<Vec<Step>>,
    pub(super) at: usize,
    pub(super) difference: Option<Difference>,
}

impl Observer for Compare {
    fn before(&mut self) {
        STEP.store(self.at, Ordering::SeqCst);
    }

    fn after(&mut self, step: Step) -> bool {
        let expected = self.expected.get(self.at);
        self.at += 1;
        if expected == Some(&step) {
            return true;
        }
        self.difference = Some(Difference {
            step: self.at - 1,
            expected: expected.map_or(String::new(), told),
            got: told(&step),
        });
        false
    }
}
