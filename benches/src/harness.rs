// SPDX-License-Identifier: MIT OR Apache-2.0
//! Races: candidates that do the same thing, timed in turns.
//!
//! Owns: what a sample is. In each round every candidate runs once, in random order, for about a millisecond, after a quarter
//! of that to warm up. What is compared are ratios within a round: noise of the machine is the same for both, more or less.

use std::time::Instant;

/// How long everything takes.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    /// Nanoseconds of a candidate's turn.
    pub(crate) turn: f64,
}

impl Settings {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            Self {
                quick,
                rounds: 15,
                turn: 4e5,
            }
        } else {
            Self {
                quick,
                rounds: 61,
                turn: 1e6,
            }
        }
    }
}

/// Does `n` operations and says how many nanoseconds they took.
type Run<'a> = Box<dyn FnMut(u64) -> f64 + 'a>;

pub(crate) struct Candidate<'a> {
    name: String,
    run: Run<'a>,
    /// Operations in a turn, if it cannot choose.
    fixed: Option<u64>,
}

impl<'a> Candidate<'a> {
    /// Its time is the CPU's: what other processes take is not counted. So it must not sleep.
    pub(crate) fn new(name: impl Into<String>, mut run: impl FnMut(u64) + 'a) -> Self {
        Self::timed(name, move |n| {
            let start = thread_time();
            run(n);
            thread_time() - start
        })
    }

    /// One that may sleep: the clock on the wall.
    pub(crate) fn wall(name: impl Into<String>, mut run: impl FnMut(u64) + 'a) -> Self {
        Self::timed(name, move |n| {
            let start = Instant::now();
            run(n);
            nanoseconds(start)
        })
    }

    /// One that takes the time by itself.
    pub(crate) fn timed(name: impl Into<String>, run: impl FnMut(u64) -> f64 + 'a) -> Self {
        Self {
            name: name.into(),
            run: Box::new(run),
            fixed: None,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn of(mut self, operations: u64) -> Self {
        self.fixed = Some(operations);
        self
    }

    /// How many operations make a turn.
    fn calibrate(&mut self, turn: f64) -> u64 {
        let mut n = 1;
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        // Twice from the time of a turn, as the first ones run on cold caches.
        let mut took = (self.run)(n);
        while took < turn / 8.0 && n < 1 << 32 {
            n *= 2;
            took = (self.run)(n);
        }
        for _ in 0..2 {
            n = ((turn / took * n as f64) as u64).max(1);
            took = (self.run)(n);
        }
        n
    }
}

/// Nanoseconds that this thread has been on a CPU.
pub(crate) fn thread_time() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: The struct is filled in.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

pub(crate) fn nanoseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e9
}

pub(crate) struct Row {
    pub(crate) name: String,
    /// Nanoseconds per operation, round by round.
    pub(crate) samples: Vec<f64>,
}

impl Row {
    pub(crate) fn median(&self) -> f64 {
        quantile(&self.samples, 0.5)
    }

    pub(crate) fn p10(&self) -> f64 {
        quantile(&self.samples, 0.1)
    }

    pub(crate) fn p90(&self) -> f64 {
        quantile(&self.samples, 0.9)
    }
}

/// Results of a race. Ratios in tables are to the first candidate.
pub(crate) struct Race {
    pub(crate) title: String,
    pub(crate) rows: Vec<Row>,
    /// The machine took memory away meanwhile.
    pub(crate) unsteady: bool,
}

impl Race {
    /// Of the same candidates: the rounds of both.
    pub(crate) fn join(mut self, other: Self) -> Self {
        for (row, more) in self.rows.iter_mut().zip(other.rows) {
            row.samples.extend(more.samples);
        }
        self
    }

    pub(crate) fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// Median of the rounds' `f(a, b)`; NaN if one of them did not run.
    pub(crate) fn compare(&self, a: &str, b: &str, f: impl Fn(f64, f64) -> f64) -> f64 {
        match (self.row(a), self.row(b)) {
            (Some(a), Some(b)) => {
                let each: Vec<f64> = a
                    .samples
                    .iter()
                    .zip(&b.samples)
                    .map(|(&a, &b)| f(a, b))
                    .collect();
                quantile(&each, 0.5)
            }
            _ => f64::NAN,
        }
    }

    pub(crate) fn ratio(&self, a: &str, b: &str) -> f64 {
        self.compare(a, b, |a, b| a / b)
    }

    pub(crate) fn median(&self, name: &str) -> f64 {
        self.row(name).map_or(f64::NAN, Row::median)
    }
}

pub(crate) fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len().saturating_sub(1)) as f64 * q;
    sorted.get(at.round() as usize).copied().unwrap_or(f64::NAN)
}

pub(crate) fn race(
    title: impl Into<String>,
    settings: &Settings,
    mut candidates: Vec<Candidate<'_>>,
) -> Race {
    let turns: Vec<u64> = candidates
        .iter_mut()
        .map(|candidate| candidate.calibrate(settings.turn))
        .collect();
    let mut samples = vec![Vec::with_capacity(settings.rounds); candidates.len()];
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..settings.rounds {
        for i in (1..order.len()).rev() {
            order.swap(i, random.below(i as u64 + 1) as usize);
        }
        for &i in &order {
            let n = turns[i];
            if candidates[i].fixed.is_none() {
                (candidates[i].run)(n.div_ceil(4));
            }
            samples[i].push((candidates[i].run)(n) / n as f64);
        }
    }
    let rows = candidates
        .into_iter()
        .zip(samples)
        .map(|(candidate, samples)| Row {
            name: candidate.name,
            samples,
        })
        .collect();
    Race {
        title: title.into(),
        rows,
        unsteady: false,
    }
}

/// Numbers that look random and are the same in every run; each user has its own.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 32) * below) >> 32
    }
}
