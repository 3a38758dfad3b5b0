//! A scenario: threads, invariants and a state function, made anew for each run; and one run of it.

use super::member::WORKER;
use super::session::{Options, Session, StartError};
use super::trace::{Run, Violation};

type Body = Box<dyn FnOnce() -> Result<(), String> + Send>;
type Check = Box<dyn FnMut() -> Result<(), String>>;

/// What one run is made of.
#[derive(Default)]
pub struct Scenario {
    threads: Vec<(String, Body)>,
    invariants: Vec<Check>,
    at_end: Vec<Check>,
    state: Option<Box<dyn FnMut() -> u64>>,
    finally: Vec<Box<dyn FnOnce()>>,
}

impl core::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let names = self.threads.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

impl Scenario {
    /// Adds a thread. Its error, like its panic, is a violation.
    pub fn thread(
        &mut self,
        name: &str,
        body: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) {
        self.threads.push((name.to_owned(), Box::new(body)));
    }

    /// Adds a condition that is looked at after every step, while every thread stands still. It must not wait.
    pub fn invariant(&mut self, check: impl FnMut() -> Result<(), String> + 'static) {
        self.invariants.push(Box::new(check));
    }

    /// Adds a condition that is looked at when all threads are over.
    pub fn at_end(&mut self, check: impl FnMut() -> Result<(), String> + 'static) {
        self.at_end.push(Box::new(check));
    }

    /// Sets the function whose value, together with the way that each thread has come, stands for the state of the run. A state
    /// that was met before is not explored again: so the value must depend on everything that a later step depends on, what
    /// threads remember included. Without one, nothing is taken for the same.
    pub fn state(&mut self, state: impl FnMut() -> u64 + 'static) {
        self.state = Some(Box::new(state));
    }

    /// Adds what is to be done after the run, in the reverse order, outside of the session. Left out where threads are left
    /// asleep for ever or ranges were never ended: a teardown could wait for them.
    pub fn finally(&mut self, teardown: impl FnOnce() + 'static) {
        self.finally.push(Box::new(teardown));
    }
}

/// A run of a scenario that is under way.
pub(super) struct Course {
    pub(super) session: Session,
    scenario: Scenario,
}

impl Course {
    /// Makes the scenario and begins the session.
    pub(super) fn begin(
        setup: &mut dyn FnMut(&mut Scenario) -> Result<(), String>,
        options: &Options,
    ) -> Result<Self, StartError> {
        let mut scenario = Scenario::default();
        setup(&mut scenario).map_err(StartError::Setup)?;
        let session = Session::begin(*options)?;
        for (name, body) in scenario.threads.drain(..) {
            let spawned = session.spawn(&name, body);
            spawned.map_err(|error| StartError::Setup(format!("no thread for {name}: {error}")))?;
        }
        Ok(Self { session, scenario })
    }

    /// One step, and the invariants after it. False: something is wrong.
    pub(super) fn step(&mut self, thread: usize) -> bool {
        if let Err(violation) = self.session.step(thread) {
            self.session.violate(violation);
            return false;
        }
        self.check(|scenario| &mut scenario.invariants)
    }

    fn check(&mut self, which: impl Fn(&mut Scenario) -> &mut Vec<Check>) -> bool {
        for check in which(&mut self.scenario) {
            if self.session.violation().is_some() {
                return false;
            }
            if let Err(message) = check() {
                self.session.violate(Violation::Invariant(message));
            }
        }
        self.session.violation().is_none()
    }

    /// The number that stands for where the run is.
    pub(super) fn state(&mut self) -> Option<u64> {
        let own = self.scenario.state.as_mut()?();
        Some(super::state::hash(&(own, self.session.position())))
    }

    /// Nobody can run.
    pub(super) fn end(&mut self) {
        self.session.check_end();
        if self.session.violation().is_none() {
            self.check(|scenario| &mut scenario.at_end);
        }
    }

    /// Ends the session, and tears down what the scenario has made.
    pub(super) fn finish(mut self) -> Run {
        let run = self.session.finish();
        self.scenario.invariants.clear();
        self.scenario.at_end.clear();
        if !run.leaked {
            for teardown in self.scenario.finally.drain(..).rev() {
                teardown();
            }
        }
        run
    }

    /// Whoever ran last goes on if it can; else the first of the scenario's threads that can, else the worker.
    pub(super) fn default_choice(&self, runnable: &[usize], last: Option<usize>) -> Option<usize> {
        let goes_on = last.filter(|last| runnable.contains(last) && !self.session.yields(*last));
        let after = |last: usize| runnable.iter().copied().find(|thread| *thread > last);
        let next = last
            .filter(|last| self.session.yields(*last))
            .and_then(after);
        let first = || runnable.iter().copied().find(|thread| *thread != WORKER);
        goes_on
            .or(next)
            .or_else(first)
            .or(runnable.first().copied())
    }
}

/// Runs a scenario once. `schedule` says who runs, step by step, by names; when it is at its end, whoever ran last goes on as
/// long as it can, then the first that can.
///
/// # Errors
/// No session can begin, or the setup failed. A schedule that cannot be followed is a violation of the run.
pub fn run(
    mut setup: impl FnMut(&mut Scenario) -> Result<(), String>,
    schedule: &[String],
    options: &Options,
) -> Result<Run, StartError> {
    let mut course = Course::begin(&mut setup, options)?;
    let mut last = None;
    for step in 0..=options.max_steps {
        let runnable = course.session.runnable();
        let next = match schedule.get(step) {
            Some(name) => {
                let found = course.session.find(name);
                if found.is_none() {
                    let thread = name.clone();
                    course
                        .session
                        .violate(Violation::NotRunnable { step, thread });
                    break;
                }
                found
            }
            None => course.default_choice(&runnable, last),
        };
        let Some(next) = next else {
            course.end();
            break;
        };
        if step == options.max_steps {
            course.session.violate(Violation::TooLong(step));
            break;
        }
        if !course.step(next) {
            break;
        }
        last = Some(next);
    }
    Ok(course.finish())
}
