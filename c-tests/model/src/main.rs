// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random programs, or those of files, on the model and on the library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use mmu_notifier_model::check::{mnrun_trace, model_steps};
use mmu_notifier_model::generate::{self, Program};
use mmu_notifier_model::isolate::{Child, End, Shared, spawn};
use mmu_notifier_model::library::{self, Difference, Mode};
use mmu_notifier_model::{SHRINKING, shrink};

const USAGE: &str = "usage: model [-n PROGRAMS] [-s SEED] [-j JOBS] [-f] [-k FOLDER] [-p SEED] [FILE ...]
  -n, -s   the programs of SEED .. SEED+PROGRAMS-1 (default: 100000 from 1, without FILEs)
  -j       at a time (default: 2)
  -f       stop at the first difference
  -k       keep the shortest programs that differ there
  -p SEED  print the program of a seed
  FILE     programs; with a FILE.expected beside it, the model must print that (it is the reference's trace)";

#[derive(Debug, Default)]
struct Options {
    programs: u64,
    seed: u64,
    jobs: u64,
    first_only: bool,
    keep: Option<PathBuf>,
    print: Option<u64>,
    files: Vec<PathBuf>,
}

fn options() -> Option<Options> {
    let mut options = Options {
        seed: 1,
        jobs: 2,
        ..Options::default()
    };
    let mut programs = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-n" => programs = Some(args.next()?.parse().ok()?),
            "-s" => options.seed = args.next()?.parse().ok()?,
            "-j" => options.jobs = args.next()?.parse().ok().filter(|jobs| *jobs > 0)?,
            "-p" => options.print = Some(args.next()?.parse().ok()?),
            "-k" => options.keep = Some(args.next()?.into()),
            "-f" => options.first_only = true,
            file if !file.starts_with('-') => options.files.push(file.into()),
            _ => return None,
        }
    }
    let default = if options.files.is_empty() { 100_000 } else { 0 };
    options.programs = programs.unwrap_or(default);
    Some(options)
}

#[derive(Debug, Default)]
struct Count {
    passed: u64,
    failed: u64,
}

// ----------------------------------------------------------------------------------------------------- random ones

/// Statuses of a child that runs seeds.
const DONE: i32 = 0;
const DIFFERS: i32 = 10;
const TAINTED: i32 = 11;

/// One program in 16 has a thread for each operation.
fn mode_of(seed: u64) -> Mode {
    if seed % 16 == 0 {
        Mode::Threads
    } else {
        Mode::Fast
    }
}

/// A child's work: the seeds from `seed` on, in steps.
fn run_seeds(seeds: impl Iterator<Item = u64>, shared: &Shared) -> i32 {
    for seed in seeds {
        // ORDERING: Relaxed: one writer; a number to look at.
        shared.seed.store(seed, Ordering::Relaxed);
        let Program { lines, steps, .. } = generate::of_seed(seed);
        let verdict = library::run(&lines, steps, mode_of(seed));
        if let Some(difference) = verdict.difference {
            shared.put_difference(&difference);
            return DIFFERS;
        }
        // ORDERING: Relaxed: as above.
        shared.passed.fetch_add(1, Ordering::Relaxed);
        if verdict.tainted {
            return TAINTED;
        }
    }
    DONE
}

/// A stream of seeds, and the child that is at it.
struct Job {
    next: u64,
    shared: &'static Shared,
    child: Option<Child>,
    seen: (u64, Instant),
}

impl Job {
    fn start(&mut self, options: &Options) {
        let (next, end, step) = (self.next, options.seed + options.programs, options.jobs);
        let shared = self.shared;
        self.child = (next < end).then(|| {
            let seeds = (next..end).step_by(usize::try_from(step).unwrap_or(1));
            spawn(true, move || run_seeds(seeds, shared))
        });
        self.seen = (next, Instant::now());
    }

    /// How the child ended, if it has; one that is at the same seed for too long is ended.
    fn poll(&mut self) -> Option<End> {
        let child = self.child?;
        let end = child.poll();
        let seed = self.shared.seed.load(Ordering::Relaxed);
        if seed != self.seen.0 {
            self.seen = (seed, Instant::now());
        }
        if end.is_none() && self.seen.1.elapsed() > library::PATIENCE * 2 {
            child.kill();
            return Some(End::Badly("the process hangs".to_owned()));
        }
        end
    }
}

struct Campaign<'a> {
    options: &'a Options,
    count: Count,
    shared: &'static Shared,
    began: Instant,
}

impl Campaign<'_> {
    fn run(&mut self) {
        let mut jobs: Vec<Job> = (0..self.options.jobs)
            .map(|job| Job {
                next: self.options.seed + job,
                shared: Shared::new(),
                child: None,
                seen: (0, self.began),
            })
            .collect();
        for job in &mut jobs {
            job.start(self.options);
        }
        while jobs.iter().any(|job| job.child.is_some()) {
            thread::sleep(Duration::from_millis(2));
            for job in &mut jobs {
                if let Some(end) = job.poll() {
                    self.ended(job, &end);
                }
            }
            if self.options.first_only && self.count.failed > 0 {
                jobs.iter()
                    .filter_map(|job| job.child)
                    .for_each(Child::kill);
                break;
            }
        }
        self.count.passed = jobs
            .iter()
            .map(|job| job.shared.passed.load(Ordering::Relaxed))
            .sum();
    }

    fn ended(&mut self, job: &mut Job, end: &End) {
        let seed = job.shared.seed.load(Ordering::Relaxed);
        job.child = None;
        if *end == End::Exit(DONE) {
            return;
        }
        if *end != End::Exit(TAINTED) {
            self.count.failed += 1;
            self.tell(seed, job.shared.get_difference(), end);
        }
        if self.count.failed < 20 {
            job.next = seed + self.options.jobs;
            job.start(self.options);
        }
    }

    fn tell(&mut self, seed: u64, difference: Option<Difference>, end: &End) {
        let program = seed - self.options.seed + 1;
        println!(
            "DIFFERS seed {seed} (program {program}, {:.1} s)",
            self.began.elapsed().as_secs_f64()
        );
        println!("# again: model -s {seed} -n 1");
        let Program { lines, steps, .. } = generate::of_seed(seed);
        let difference = difference.unwrap_or_else(|| Difference {
            step: steps.len(),
            expected: "all is well\n".to_owned(),
            got: format!("{end:?}\n"),
        });
        let limit = if self.count.failed > 3 {
            Duration::from_secs(5)
        } else {
            SHRINKING
        };
        let story = shrink::minimal(&lines, self.shared, limit).unwrap_or_else(|| {
            let story = shrink::story(&lines, &difference);
            format!("# not in a process of its own: earlier programs matter, or time does\n{story}")
        });
        println!("{story}");
        self.keep(&seed.to_string(), &story);
    }

    fn keep(&self, name: &str, story: &str) {
        if let Some(folder) = &self.options.keep {
            let file = folder.join(format!("{name}.txt"));
            if let Err(error) = fs::create_dir_all(folder).and_then(|()| fs::write(&file, story)) {
                println!("{}: {error}", file.display());
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------------------ files

/// Runs the program of a file. Is there a reference's trace beside it?
fn run_file(file: &Path, shared: &Shared) -> Result<bool, String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let expected = fs::read_to_string(file.with_extension("expected")).ok();
    model_steps(&lines).map_err(|bad| format!("no program: {bad}"))?;
    if let Some(expected) = &expected {
        let trace = mnrun_trace(&lines)?;
        if trace != *expected {
            let pairs = trace.lines().zip(expected.lines());
            let (got, wanted) = pairs
                .clone()
                .find(|(got, wanted)| got != wanted)
                .unwrap_or(("its end", "its end"));
            return Err(format!("the model says {got:?}, the reference {wanted:?}"));
        }
    }
    if let Some(difference) = shrink::difference(&lines, shared) {
        return Err(shrink::story(&lines, &difference));
    }
    Ok(expected.is_some())
}

fn run_files(files: &[PathBuf], shared: &Shared) -> Count {
    let mut count = Count::default();
    let mut with_trace = 0;
    for file in files {
        match run_file(file, shared) {
            Ok(has_trace) => {
                count.passed += 1;
                with_trace += u32::from(has_trace);
            }
            Err(what) => {
                count.failed += 1;
                println!("DIFFERS {}\n{what}", file.display());
            }
        }
    }
    println!(
        "{} of {} files: the model makes the reference's trace of {with_trace}, the library agrees with the model",
        count.passed,
        files.len()
    );
    count
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if let Some(seed) = options.print {
        println!("{}", generate::of_seed(seed).lines.join("\n"));
        return ExitCode::SUCCESS;
    }
    let shared = Shared::new();
    let mut count = Count::default();
    if !options.files.is_empty() {
        count = run_files(&options.files, shared);
    }
    if options.programs > 0 {
        let began = Instant::now();
        let mut campaign = Campaign {
            options: &options,
            count: Count::default(),
            shared,
            began,
        };
        campaign.run();
        let seconds = began.elapsed().as_secs_f64();
        let ran = campaign.count.passed + campaign.count.failed;
        let last = options.seed + options.programs - 1;
        println!(
            "seeds {}..{last}: {ran} programs in {seconds:.1} s, {:.0} a second",
            options.seed,
            ran as f64 / seconds
        );
        count.passed += campaign.count.passed;
        count.failed += campaign.count.failed;
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    ExitCode::from(u8::from(count.failed > 0))
}
