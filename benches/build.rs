// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles the C side: the loops of each implementation, the stand-in, the machine's limits, liburcu's flavours.
//!
//! From run.sh it is told where things are: `STAGE` (the library's staged install), `URCU` (an unpacked liburcu-dev; may be
//! empty) and `KERNEL_TREE` (files of a linux-source package; may be empty).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn directory(name: &str) -> Option<PathBuf> {
    println!("cargo::rerun-if-env-changed={name}");
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn main() {
    println!("cargo::rerun-if-changed=c");
    println!("cargo::rustc-check-cfg=cfg(urcu, kernel_tree)");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let stage = directory("STAGE").expect("STAGE: run `make bench`");
    let include = stage.join("include/mmu_notifier");
    println!("cargo::rerun-if-changed={}", stage.join("lib").display());
    println!("cargo::rerun-if-changed={}", include.display());

    implementation(&include, "static", None);
    implementation(&include, "standin", Some("own"));
    implementation(&include, "floor", Some("own"));
    c(&include).file("c/own_tree.c").compile("own_tree");
    c(&include).file("c/limits.c").compile("limits");
    if let Some(files) = directory("KERNEL_TREE") {
        implementation(&include, "kernel", Some("kernel"));
        kernel_tree(&files, &out);
    }
    if let Some(urcu) = directory("URCU") {
        println!("cargo::rustc-cfg=urcu");
        c(&urcu.join("usr/include/x86_64-linux-gnu"))
            .file("c/urcu.c")
            .compile("urcu_loops");
        println!(
            "cargo::rustc-link-search={}",
            urcu.join("usr/lib/x86_64-linux-gnu").display()
        );
        for flavour in ["memb", "mb", "bp", "qsbr", "common"] {
            println!("cargo::rustc-link-lib=static:-bundle=urcu-{flavour}");
        }
    }
    println!("cargo::rustc-link-search={}", stage.join("lib").display());
    println!("cargo::rustc-link-lib=static:-bundle=mmu_notifier");
    shared_driver(&stage, &include, &out);
    programs(&stage, &include, &out);
    println!("cargo::rustc-env=BENCH_OUT={}", out.display());
}

fn c(include: &Path) -> cc::Build {
    let mut build = cc::Build::new();
    build
        .std("gnu11")
        .opt_level(2)
        .debug(false)
        .include(include)
        .warnings(true);
    build
}

/// The loops, and the stand-in behind them if it is one.
fn implementation(include: &Path, prefix: &str, tree: Option<&str>) {
    let mut build = c(include);
    build.define("PREFIX", prefix).file("c/loops.c");
    if let Some(tree) = tree {
        build
            .define("OTHER", None)
            .define("TREE", tree)
            .file("c/standin.c");
    }
    if prefix == "floor" {
        build.define("FLOOR", None);
    }
    build.compile(&format!("loops_{prefix}"));
}

/// The kernel's tree, in a world of empty headers.
fn kernel_tree(files: &Path, out: &Path) {
    println!("cargo::rustc-cfg=kernel_tree");
    let empty = out.join("empty");
    fs::create_dir_all(empty.join("linux")).expect("a directory");
    for header in [
        "compiler",
        "container_of",
        "export",
        "init",
        "kernel",
        "module",
        "rcupdate",
        "stddef",
        "types",
    ] {
        fs::write(empty.join(format!("linux/{header}.h")), "").expect("a file");
    }
    c(&files.join("include"))
        .include(&empty)
        .include(files)
        .warnings(false)
        .flag("-include")
        .flag("c/kernel_tree.h")
        .file("c/kernel_tree.c")
        .compile("kernel_tree");
}

fn run(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn compiler(include: &Path) -> Command {
    let mut command = c(include).get_compiler().to_command();
    command.args(["-pthread", "-DCONFIG_MMU_NOTIFIER=1"]);
    command
}

/// The loops as a plug-in that needs the shared library: dlopen()ing it is how a host's plug-in comes to the library.
fn shared_driver(stage: &Path, include: &Path, out: &Path) {
    let lib = stage.join("lib");
    run(compiler(include)
        .args(["-fPIC", "-shared", "-DPREFIX=shared", "c/loops.c", "-o"])
        .arg(out.join("libdriver.so"))
        .arg(format!("-L{}", lib.display()))
        .arg(format!("-Wl,-rpath,{}", lib.display()))
        // Not `-lmmu_notifier -Bsymbolic`: a driver is linked in no special way.
        .args(["-l:libmmu_notifier.so"]));
}

/// Programs of their own: what the library takes from the heap, and a burst of puts for strace.
fn programs(stage: &Path, include: &Path, out: &Path) {
    let archive = stage.join("lib/libmmu_notifier.a");
    run(compiler(include)
        .args(["-DPREFIX=static", "c/loops.c", "c/memory.c", "-o"])
        .arg(out.join("memory"))
        .arg(&archive)
        .args(["-ldl", "-lm", "-lrt"])
        .args(
            [
                "malloc",
                "calloc",
                "realloc",
                "free",
                "posix_memalign",
                "aligned_alloc",
            ]
            .map(|name| format!("-Wl,--wrap={name}")),
        ));
    run(compiler(include)
        .args(["-DPREFIX=static", "c/loops.c", "c/burst.c", "-o"])
        .arg(out.join("burst"))
        .arg(&archive)
        .args(["-ldl", "-lm", "-lrt"]));
    // The shared library: that is what a program with other libraries in it has.
    let lib = stage.join("lib");
    run(compiler(include)
        .args(["c/live.c", "-o"])
        .arg(out.join("live"))
        .arg(format!("-L{}", lib.display()))
        .arg(format!("-Wl,-rpath,{}", lib.display()))
        .args(["-l:libmmu_notifier.so", "-ldl"]));
    // M9's program, which stands alone.
    if cfg!(target_arch = "x86_64") {
        let mut command = compiler(include);
        run(command.args(["c/ahead.c", "-o"]).arg(out.join("ahead")));
    }
    // For the disassembly.
    for (object, prefix, source) in [
        ("inlines.o", "-DPREFIX=static", "c/loops.c"),
        ("fences.o", "-DPREFIX=standin", "c/standin.c"),
    ] {
        let mut command = compiler(include);
        if source == "c/standin.c" {
            command.args(["-DOTHER", "-DTREE=own"]);
        }
        run(command
            .args([prefix, "-c", source, "-o"])
            .arg(out.join(object)));
    }
}
