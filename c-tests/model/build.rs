// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles shim/shim.c against the library's installed headers and links the library, the static one.
//!
//! The library is found through MMU_NOTIFIER_DIR (an install prefix), else through `pkg-config mmu_notifier`. With
//! MMU_NOTIFIER_SHARED set, it is the shared one, which LD_LIBRARY_PATH finds at run time (bite.sh, which exchanges it).

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a command and returns what it printed; panics if it fails.
fn output(command: &mut Command) -> String {
    let out = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        out.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).expect("text")
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The compiler flags, and the folder of libmmu_notifier.a.
fn library() -> (Vec<String>, PathBuf) {
    if let Some(prefix) = env::var_os("MMU_NOTIFIER_DIR") {
        let prefix = PathBuf::from(prefix);
        let include = prefix.join("include/mmu_notifier");
        let flags = vec![
            format!("-I{}", include.display()),
            "-DCONFIG_MMU_NOTIFIER=1".to_owned(),
        ];
        return (flags, prefix.join("lib"));
    }
    let ask = |what: &str| {
        output(Command::new("pkg-config").args(["--print-errors", what, "mmu_notifier"]))
    };
    let libdir = ask("--variable=libdir").trim().to_owned();
    (words(&ask("--cflags")), PathBuf::from(libdir))
}

/// A copy of the static library that can be linked into a Rust program. It holds a Rust runtime of its own: the one symbol
/// whose name both share (a comdat group, which some linkers drop in favour of the program's) gets another name, and what
/// that runtime uses only where the C library has it becomes weak again.
fn copy_library(libdir: &Path, out: &Path) {
    const SHARED: &str = "DW.ref.rust_eh_personality";
    const OPTIONAL: [&str; 3] = [
        "pidfd_getpid",
        "pidfd_spawnp",
        "posix_spawn_file_actions_addchdir",
    ];
    let objcopy = env::var("OBJCOPY").unwrap_or_else(|_| "objcopy".to_owned());
    output(
        Command::new(objcopy)
            .arg(format!("--redefine-sym={SHARED}={SHARED}.mmu_notifier"))
            .args(OPTIONAL.map(|name| format!("--weaken-symbol={name}")))
            .arg(libdir.join("libmmu_notifier.a"))
            .arg(out.join("libmmu_notifier_copy.a")),
    );
}

fn main() {
    let (cflags, libdir) = library();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    output(
        Command::new(&compiler)
            .args([
                "-std=gnu11",
                "-O2",
                "-g",
                "-fPIC",
                "-Wall",
                "-Wextra",
                "-Werror",
            ])
            .args(&cflags)
            .args(["-c", "shim/shim.c", "-o"])
            .arg(out.join("shim.o")),
    );
    let archive = out.join("libshim.a");
    let _ = std::fs::remove_file(&archive);
    output(
        Command::new("ar")
            .arg("rcs")
            .arg(&archive)
            .arg(out.join("shim.o")),
    );
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=static=shim");
    if env::var_os("MMU_NOTIFIER_SHARED").is_some() {
        println!("cargo::rustc-link-search=native={}", libdir.display());
        println!("cargo::rustc-link-lib=dylib=mmu_notifier");
    } else {
        copy_library(&libdir, &out);
        println!("cargo::rustc-link-lib=static=mmu_notifier_copy");
        println!(
            "cargo::rerun-if-changed={}",
            libdir.join("libmmu_notifier.a").display()
        );
    }
    println!("cargo::rerun-if-changed=shim/shim.c");
    for name in [
        "MMU_NOTIFIER_DIR",
        "MMU_NOTIFIER_SHARED",
        "PKG_CONFIG_PATH",
        "CC",
    ] {
        println!("cargo::rerun-if-env-changed={name}");
    }
}
