//! Makes tables of the core's declarations and, for the kernels of $MMU_NOTIFIER_KERNELS, of what bindgen makes of the real
//! `linux/mmu_notifier.h`. Nothing of a kernel is kept but in cargo's own directory.
//!
//! A line of $MMU_NOTIFIER_KERNELS: the kernel's version, and the flags by which clang finds its headers, all separated by tabs.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

/// What is looked at. `mmu_.*notifier.*`: what a kernel has and the core has not is a difference, too.
const TYPES: &[&str] = &[
    "mmu_(interval_)?notifier.*",
    "atomic_t",
    "pte_t",
    "pteval_t",
    "hlist_node",
    "hlist_head",
    "llist_node",
    "callback_head",
    "rb_node",
    "interval_tree_node",
];

/// Mentioned by those, and not looked into.
const OTHERS: &str = "pub type bool_ = bool;
    pub enum mm_struct {} pub enum vm_area_struct {}";

/// Macros become numbers that bindgen sees.
const PROBE: &str = "#include <linux/mmu_notifier.h>
    #include <linux/poison.h>
    static const unsigned int ABI_MMU_NOTIFIER_RANGE_BLOCKABLE = MMU_NOTIFIER_RANGE_BLOCKABLE;
    static const unsigned long ABI_LIST_POISON1 = (unsigned long)LIST_POISON1;
    static const unsigned long ABI_LIST_POISON2 = (unsigned long)LIST_POISON2;
    ";

fn bindgen(flags: &[&str]) -> String {
    let mut builder = bindgen::Builder::default()
        .header_contents("probe.h", PROBE)
        .clang_args(flags)
        .formatter(bindgen::Formatter::None)
        .use_core()
        .generate_comments(false)
        .derive_debug(false)
        .derive_copy(false)
        .allowlist_recursively(false)
        .rustified_enum("mmu_notifier_event")
        .allowlist_var("ABI_.*");
    for ty in TYPES {
        builder = builder.allowlist_type(ty);
    }
    builder
        .generate()
        .unwrap_or_else(|e| panic!("bindgen: {e}"))
        .to_string()
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../../../src/abi");
    println!("cargo::rerun-if-env-changed=MMU_NOTIFIER_KERNELS");
    println!("cargo::rerun-if-env-changed=LIBCLANG_PATH");

    let mut text = String::from("static CORE: &[Facts] = &[");
    for path in fs::read_dir("../../../../src/abi").expect("src/abi") {
        let path = path.expect("src/abi").path();
        let module = path.file_stem().expect("a file").to_string_lossy();
        if module == "mod" {
            continue;
        }
        let file = source::read(&path);
        text += &source::facts(&format!("::mmu_notifier::abi::{module}"), &file);
        text.push_str(",\n");
    }
    text.push_str("];\n");

    let kernels = env::var("MMU_NOTIFIER_KERNELS").unwrap_or_default();
    let mut table = String::from("static KERNELS: &[(&str, Facts)] = &[");
    for line in kernels.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        let (version, flags) = words.split_first().expect("a version");
        let module = format!("kernel_{}", version.replace('.', "_"));
        let bindings = bindgen(flags);
        let file = source::parse(&bindings);
        writeln!(
            text,
            "#[allow(warnings)] mod {module} {{ {OTHERS}\n{bindings} }}"
        )
        .expect("a string");
        writeln!(table, "(\"{version}\", {}),", source::facts(&module, &file)).expect("a string");
    }
    table.push_str("];\n");

    let out = Path::new(&env::var_os("OUT_DIR").expect("cargo sets it")).join("facts.rs");
    fs::write(out, text + &table).expect("OUT_DIR is writable");
}
