//! The search: every interleaving with few preemptions, those with fewer first.
//!
//! A schedule is a list of choices. A run follows the choices that it was given, then goes on by the rule of
//! `Course::default_choice`; at each new step it leaves behind, as work to do, the beginnings of the schedules that choose
//! another thread there. Such a beginning costs one preemption if the thread that ran last could have gone on, else none. Work is
//! kept by its cost, so each schedule is run once, and what is found first has the fewest preemptions.
//!
//! With a state function, a state that was met before, at the same cost or a lower one, with the same thread having run last, is not
//! gone on from: all that follows from it is done, or on the lists. Nothing else is pruned: two steps of different threads are never
//! taken for independent, since a plain access between two points is not seen.

use std::collections::HashSet;
use std::time::Instant;

use core::time::Duration;

use super::scenario::{Course, Scenario};
use super::session::{Options, StartError};
use super::trace::{Run, Violation};

/// What a search has found.
#[derive(Clone, Debug)]
pub struct Exploration {
    /// The shortest run with the fewest preemptions that breaks something.
    pub violation: Option<Run>,
    /// Runs.
    pub schedules: u64,
    /// Different states that were met; without a state function, each new step counts as one.
    pub states: u64,
    /// Steps, those that repeat the beginning of another run included.
    pub steps: u64,
    /// Runs that ended where a known state was met.
    pub pruned: u64,
    /// Every schedule within the bound was run, and none broke anything.
    pub exhaustive: bool,
    /// The bound on preemptions left nothing out, so that it holds for any number of them.
    pub unbounded: bool,
    /// How long it took.
    pub took: Duration,
}

/// The beginning of a schedule.
type Prefix = Vec<u16>;

struct Search<'a> {
    options: &'a Options,
    /// What is to be run, by its preemptions.
    work: Vec<Vec<Prefix>>,
    met: HashSet<u64>,
    result: Exploration,
    /// While a shorter run is looked for: runs must be shorter than this.
    below: usize,
}

/// Runs a scenario in every interleaving that [`Options::preemptions`] allows, until one breaks something.
///
/// # Errors
/// No session can begin, or the setup failed.
pub fn explore(
    mut setup: impl FnMut(&mut Scenario) -> Result<(), String>,
    options: &Options,
) -> Result<Exploration, StartError> {
    let begun = Instant::now();
    let mut search = Search {
        options,
        work: vec![vec![Prefix::new()]],
        met: HashSet::new(),
        result: Exploration {
            violation: None,
            schedules: 0,
            states: 0,
            steps: 0,
            pruned: 0,
            exhaustive: false,
            unbounded: false,
            took: Duration::ZERO,
        },
        below: usize::MAX,
    };
    if let Err(error) = search.go(&mut setup) {
        // What was found may be why no further run can begin.
        if search.result.violation.is_none() {
            return Err(error);
        }
    }
    let mut result = search.result;
    result.took = begun.elapsed();
    Ok(result)
}

impl Search<'_> {
    fn go(
        &mut self,
        setup: &mut dyn FnMut(&mut Scenario) -> Result<(), String>,
    ) -> Result<(), StartError> {
        let levels = self
            .options
            .preemptions
            .map_or(1, |bound| bound as usize + 1);
        for level in 0..levels {
            let mut tries = 0;
            while let Some(prefix) = self.work.get_mut(level).and_then(Vec::pop) {
                if self.result.violation.is_some() {
                    if tries == self.options.shorten {
                        return Ok(());
                    }
                    tries += 1;
                    if prefix.len() >= self.below {
                        continue;
                    }
                }
                if self.options.max_schedules == Some(self.result.schedules) {
                    return Ok(());
                }
                self.run(setup, level, prefix)?;
            }
            if self.result.violation.is_some() {
                return Ok(());
            }
        }
        self.result.exhaustive = true;
        self.result.unbounded = self.work.iter().all(Vec::is_empty);
        Ok(())
    }

    /// One run. `level` is what its preemptions cost.
    fn run(
        &mut self,
        setup: &mut dyn FnMut(&mut Scenario) -> Result<(), String>,
        level: usize,
        prefix: Prefix,
    ) -> Result<(), StartError> {
        let mut course = Course::begin(setup, self.options)?;
        let given = prefix.len();
        let mut choices = prefix;
        let mut last = None;
        let mut step = 0;
        self.result.schedules += 1;
        loop {
            let runnable = course.session.runnable();
            let next = if step < given {
                Some(usize::from(choices[step]))
            } else {
                course.default_choice(&runnable, last)
            };
            let Some(next) = next else {
                course.end();
                break;
            };
            if step + 1 >= self.below {
                break;
            }
            if step == self.options.max_steps {
                course.session.violate(Violation::TooLong(step));
                break;
            }
            if step >= given {
                self.leave_others(&course, level, &choices, &runnable, next, last);
                choices.push(number(next));
            }
            step += 1;
            self.result.steps += 1;
            if !course.step(next) {
                break;
            }
            last = Some(next);
            if step >= given && self.is_known(&mut course) {
                self.result.pruned += 1;
                break;
            }
        }
        let run = course.finish();
        if run.violation.is_some() && run.schedule.len() < self.below {
            self.below = run.schedule.len();
            self.result.violation = Some(run);
        }
        Ok(())
    }

    /// Puts the other choices of this step on the lists.
    fn leave_others(
        &mut self,
        course: &Course,
        level: usize,
        choices: &[u16],
        runnable: &[usize],
        next: usize,
        last: Option<usize>,
    ) {
        let interrupts =
            last.is_some_and(|last| runnable.contains(&last) && !course.session.yields(last));
        for other in runnable.iter().filter(|other| **other != next) {
            let bounded = self.options.preemptions.is_some();
            let cost = level + usize::from(interrupts && bounded);
            if self.work.len() <= cost {
                self.work.resize(cost + 1, Vec::new());
            }
            let mut prefix = choices.to_vec();
            prefix.push(number(*other));
            self.work[cost].push(prefix);
        }
    }

    fn is_known(&mut self, course: &mut Course) -> bool {
        let state = course.state();
        let known = state.is_some_and(|state| !self.met.insert(state));
        self.result.states += u64::from(!known);
        known
    }
}

fn number(thread: usize) -> u16 {
    u16::try_from(thread).expect("fewer threads than that")
}
