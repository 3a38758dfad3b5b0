// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs models: `models [--full] NAME...` in this process, one after the other; `models --list`.
//!
//! A model that fails ends the process at once with status 1: the threads of a broken execution cannot be unwound.

mod busy;
mod calls;
mod cover;
mod grace;
mod locks;
mod queue;
mod space;
mod stage;
mod tools;

use std::time::Instant;

use tools::Model;

fn models() -> Vec<&'static Model> {
    [
        locks::MODELS,
        grace::MODELS,
        busy::MODELS,
        space::MODELS,
        calls::MODELS,
        cover::MODELS,
        stage::MODELS,
        queue::MODELS,
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn main() {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    if names == ["--list"] {
        models().iter().for_each(|model| println!("{}", model.name));
        return;
    }
    let full = names.first().is_some_and(|name| name == "--full");
    if full {
        names.remove(0);
    }
    tools::prepare();
    for name in names {
        let found = models().into_iter().find(|model| model.name == name);
        let Some(model) = found else {
            eprintln!("there is no model {name}");
            std::process::exit(2);
        };
        let start = Instant::now();
        let executions = model.run(full);
        let seconds = start.elapsed().as_secs_f64();
        let bound = model.bound(full);
        println!("{name}: {executions} executions ({bound}), {seconds:.1} s");
    }
}
