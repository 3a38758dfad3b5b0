//! Has ctest compare the installed headers, for each group of kernels of c-tests/abi/table.txt, with the types, constants and
//! exported functions of mmu_notifier and mmu_notifier_ffi.
//!
//! ctest wants declarations: this takes them from the sources, as they stand there. In the generated tests the names then
//! mean the real items. Of functions ctest compares no more than addresses; so that it sees their types too, they become the
//! fields of a struct, whose twin in C takes its types from the headers with `__typeof__`.
//!
//! $MMU_NOTIFIER_CFLAGS: the flags of pkg-config.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

use ctest::TestGenerator;
use quote::{ToTokens as _, format_ident, quote};
use source::{aliases, enums, exports, numbers, read, structs};
use syn::{File, FnArg, Ident, Item, Pat, ReturnType};

/// Sources and the modules that they are.
const CORE: &[(&str, &str)] = &[
    ("src/abi/types.rs", "::mmu_notifier::abi::types"),
    ("src/abi/notifier.rs", "::mmu_notifier::abi::notifier"),
    ("src/abi/versions.rs", "::mmu_notifier::abi::versions"),
    ("src/abi/mm.rs", "::mmu_notifier::abi::mm"),
    ("src/sync/rwsem.rs", "::mmu_notifier::sync"),
    ("src/sync/hook.rs", "::mmu_notifier::sync::hook"),
    ("src/srcu/domain.rs", "::mmu_notifier::srcu"),
    ("src/report/mod.rs", "::mmu_notifier::report"),
];

/// What is not compared, and why.
const SKIPPED: &[(&str, &str)] = &[
    (
        "event_t",
        "stands for enum mmu_notifier_event, which is compared",
    ),
    ("vm_area_struct", "incomplete in C"),
    ("mmu_notifier_subscriptions", "incomplete in C"),
    ("file", "incomplete in C"),
    ("Result", "not for C"),
    ("Observer", "not for C"),
];

/// Modules of mmu_notifier_ffi for what no kernel has: c-tests/abi/guard.sh holds C's view of their headers.
const WITHOUT_KERNEL: &[&str] = &["explore", "live", "stage"];

/// The types whose values cannot be any pattern of bits, so that ctest may not make some up.
const NO_ROUNDTRIP: &[&str] = &[
    "prototypes",
    "mmu_notifier_event",
    "mmu_notifier_abi",
    "mmu_notifier_report",
    "mmu_notifier_report_kind",
    "mmu_notifier_wait_reason",
    // ctest takes these for padding only, as their fields are private, and C does not.
    "rw_semaphore",
    "srcu_struct",
];

const HEADERS: &[&str] = &[
    "linux/mmu_notifier.h",
    "linux/kthread.h",
    "linux/llist.h",
    "linux/mm.h",
    "linux/poison.h",
    "linux/sched/mm.h",
    "linux/srcu.h",
    "mmu_notifier/abi/versions.h",
    "mmu_notifier/mm.h",
    "mmu_notifier/report.h",
    "mmu_notifier/version.h",
    "mmu_notifier/wait.h",
];

/// The kernels that share their layouts.
struct Group {
    /// As a Rust module: `from_0x060c00`.
    module: String,
    kernel: String,
    /// The kernel's name of a struct, by the core's.
    names: BTreeMap<String, String>,
}

impl Group {
    /// Lines `group | KERNELS | NUMBER | NAME=CORE'S NAME ...`.
    fn all(table: &Path) -> Vec<Self> {
        let text = fs::read_to_string(table).expect("c-tests/abi/table.txt");
        text.lines()
            .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
            .filter(|cells| cells[0] == "group")
            .map(|cells| Self {
                module: format!("from_{}", cells[2]),
                kernel: cells[2].to_owned(),
                names: cells[3]
                    .split_whitespace()
                    .filter_map(|pair| pair.split_once('='))
                    .map(|(kernel, core)| (core.to_owned(), kernel.to_owned()))
                    .collect(),
            })
            .collect()
    }

    fn is_reference(&self) -> bool {
        self.names.iter().all(|(core, kernel)| core == kernel) && self.names.len() == 3
    }
}

/// The modules of mmu_notifier_ffi that export something.
fn ffi() -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir(root().join("ffi/src"))
        .expect("ffi/src")
        .map(|entry| entry.expect("ffi/src").path())
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .filter(|path| exports(&read(path)).next().is_some())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .filter(|module| !WITHOUT_KERNEL.contains(&module.as_str()))
        .collect();
    found.sort();
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../..")
}

fn skipped(name: &Ident) -> bool {
    SKIPPED.iter().any(|(skipped, _)| name == skipped)
}

/// Declarations of the core's items, without attributes. `hidden`: structs that are another group's.
fn declarations(files: &[File], hidden: &[String]) -> String {
    // rustc, which ctest calls, wants to know every name; ctest leaves alone what is private.
    let mut items: Vec<Item> = vec![
        syn::parse_quote!(
            use core::ffi::*;
        ),
        syn::parse_quote!(
            use core::sync::atomic::AtomicI32;
        ),
    ];
    for name in SKIPPED
        .iter()
        .map(|(name, _)| *name)
        .chain(hidden.iter().map(String::as_str))
    {
        let name = format_ident!("{name}");
        items.push(syn::parse_quote!(struct #name;));
    }
    for file in files {
        for item in structs(file).filter(|s| !skipped(&s.ident)) {
            if !hidden.iter().any(|h| item.ident == h) {
                let mut item = item.clone();
                item.attrs.clear();
                if let syn::Fields::Named(fields) = &mut item.fields {
                    fields.named = fields
                        .named
                        .iter()
                        .filter(|f| matches!(f.vis, syn::Visibility::Public(_)))
                        .cloned()
                        .collect();
                }
                for field in &mut item.fields {
                    field.attrs.clear();
                }
                items.push(item.into());
            }
        }
        for item in enums(file) {
            let name = &item.ident;
            items.push(syn::parse_quote!(pub type #name = u32;));
            for variant in &item.variants {
                let variant = &variant.ident;
                items.push(syn::parse_quote!(pub const #variant: #name = 0;));
            }
        }
        for item in aliases(file).filter(|a| !skipped(&a.ident)) {
            let mut item = item.clone();
            item.attrs.clear();
            items.push(item.into());
        }
        for item in numbers(file) {
            let (name, ty) = (&item.ident, &item.ty);
            items.push(syn::parse_quote!(pub const #name: #ty = 0;));
        }
    }
    items
        .iter()
        .map(|item| item.to_token_stream().to_string() + "\n")
        .collect()
}

/// The exported functions: declared (for ctest), as fields, and the struct's value (for rustc), and the twin in C.
struct Functions {
    declared: String,
    fields: String,
    value: String,
    twin: String,
}

fn functions(group: &Group) -> Functions {
    let mut all = Functions {
        declared: String::from("unsafe extern \"C\" {\n"),
        fields: String::from("#[repr(C)] pub struct prototypes {\n"),
        value: String::from("pub static PROTOTYPES: prototypes = prototypes {\n"),
        twin: String::from("struct prototypes {\n"),
    };
    for module in ffi() {
        // For other kernels than the reference's these are inline functions of the headers.
        if module == "reference" && !group.is_reference() {
            continue;
        }
        let file = read(&root().join(format!("ffi/src/{module}.rs")));
        let path = format_ident!("{module}");
        for f in exports(&file) {
            let (name, output) = (&f.sig.ident, &f.sig.output);
            let inputs: Vec<_> = f
                .sig
                .inputs
                .iter()
                .map(|input| match input {
                    FnArg::Typed(typed) => {
                        let Pat::Ident(pattern) = &*typed.pat else {
                            panic!("{name}: a parameter without a name")
                        };
                        let (name, ty) = (&pattern.ident, &typed.ty);
                        quote!(#name: #ty)
                    }
                    FnArg::Receiver(_) => panic!("{name}: self"),
                })
                .collect();
            let add = |text: &mut String, tokens: proc_macro2::TokenStream| {
                *text += &(tokens.to_string() + "\n");
            };
            add(
                &mut all.declared,
                quote!(pub fn #name(#(#inputs),*) #output;),
            );
            // C has no type for what does not return; its headers say it with an attribute, which is not a part of the type.
            let output = match output {
                ReturnType::Type(_, ty) if matches!(**ty, syn::Type::Never(_)) => quote!(),
                other => quote!(#other),
            };
            add(
                &mut all.fields,
                quote!(pub #name: Option<unsafe extern "C" fn(#(#inputs),*) #output>,),
            );
            if f.sig.output.to_token_stream().to_string().contains('!') {
                add(&mut all.value, quote!(#name: None,));
                all.twin += &format!("\tvoid (*{name})(const char *);\n");
            } else {
                add(
                    &mut all.value,
                    quote!(#name: Some(::mmu_notifier_ffi::#path::#name),),
                );
                all.twin += &format!("\t__typeof__(&{name}) {name};\n");
            }
        }
    }
    for text in [&mut all.declared, &mut all.fields] {
        text.push_str("}\n");
    }
    all.value.push_str("};\n");
    all.twin.push_str("};\n");
    all
}

/// The C name of a Rust type.
fn c_name(names: &BTreeMap<String, String>, known: &[String], name: &str) -> Option<String> {
    match name {
        "event_t" | "mmu_notifier_event" => return Some("enum mmu_notifier_event".into()),
        "mmu_notifier_abi" | "mmu_notifier_report_kind" | "mmu_notifier_wait_reason" => {
            return Some(format!("enum {name}"));
        }
        "AtomicI32" => return Some("int".into()),
        "atomic_t" | "pte_t" => return Some(name.into()),
        "vm_area_struct" | "mmu_notifier_subscriptions" | "file" => {}
        _ if known.iter().any(|k| k == name) => {}
        _ => return None,
    }
    Some(format!(
        "struct {}",
        names.get(name).map_or(name, String::as_str)
    ))
}

fn generate(
    group: &Group,
    files: &[File],
    variants: &BTreeSet<String>,
    cflags: &[String],
) -> String {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let module = &group.module;
    let hidden: Vec<String> = variants
        .iter()
        .filter(|v| !group.names.contains_key(*v))
        .cloned()
        .collect();
    let functions = functions(group);
    let input = declarations(files, &hidden) + &functions.fields + &functions.declared;
    let input_path = out.join(format!("{module}_input.rs"));
    fs::write(&input_path, input).expect("OUT_DIR is writable");
    let twin = format!("{module}_prototypes.h");
    fs::write(out.join(&twin), &functions.twin).expect("OUT_DIR is writable");

    let known: Vec<String> = files
        .iter()
        .flat_map(structs)
        .map(|s| s.ident.to_string())
        .chain(["prototypes".to_owned()])
        .collect();
    let mut config = TestGenerator::new();
    config.out_dir(&out).edition(2024).skip_private(true);
    for header in HEADERS.iter().filter(|h| installed(cflags, h)) {
        config.header(header);
    }
    config.header(&twin);
    let (names, every) = (group.names.clone(), known.clone());
    config.rename_struct_ty(move |name| c_name(&names, &every, name));
    let (names, every) = (group.names.clone(), known);
    config.rename_type(move |name| c_name(&names, &every, name));
    config.rename_alias(|alias| c_name(&BTreeMap::new(), &[], alias.ident()));
    // Pointers in C.
    config.rename_constant(|c| {
        c.ident()
            .starts_with("LIST_POISON")
            .then(|| format!("(size_t){}", c.ident()))
    });
    config.skip_roundtrip(|name| NO_ROUNDTRIP.contains(&name));
    config.skip_signededness(|_| true);
    config
        .generate_files(&input_path, format!("{module}.rs"))
        .unwrap_or_else(|e| panic!("ctest: {e}"));

    // All groups end up in one program: their symbols need names of their own.
    for extension in ["rs", "c"] {
        let path = out.join(module).with_extension(extension);
        let text = fs::read_to_string(&path).expect("ctest wrote it");
        let text = text.replace("ctest_", &format!("{module}_ctest_"));
        fs::write(&path, text).expect("OUT_DIR is writable");
    }
    let mut cc = cc::Build::new();
    cc.file(out.join(format!("{module}.c"))).include(&out);
    cc.define("MMU_NOTIFIER_KERNEL", group.kernel.as_str());
    cc.flag("-std=gnu11")
        .extra_warnings(true)
        .warnings_into_errors(true);
    cc.flag("-Wno-unused-parameter").flag("-Wno-type-limits");
    for flag in cflags {
        cc.flag(flag);
    }
    cc.compile(module);

    let types = functions.fields + &functions.value;
    let uses: String = CORE
        .iter()
        .map(|(_, path)| format!("use {path}::*;\n"))
        .collect();
    let variants: String = CORE
        .iter()
        .zip(files)
        .flat_map(|((_, path), file)| {
            enums(file).map(move |e| format!("use {path}::{}::*;\n", e.ident))
        })
        .collect();
    let exported: String = ffi()
        .iter()
        .map(|module| format!("use ::mmu_notifier_ffi::{module}::*;\n"))
        .collect();
    format!(
        "#[allow(warnings, clippy::all)] mod {module} {{ use core::ffi::*; {uses} {exported} {variants} {types}
         include!(concat!(env!(\"OUT_DIR\"), \"/{module}.rs\"));
         pub fn run() -> (usize, bool) {{
             run_all();
             (NTESTS.load(std::sync::atomic::Ordering::Relaxed), FAILED.load(std::sync::atomic::Ordering::Relaxed))
         }} }}\n"
    )
}

fn installed(cflags: &[String], header: &str) -> bool {
    let directories = cflags.iter().filter_map(|f| f.strip_prefix("-I"));
    directories
        .into_iter()
        .any(|d| Path::new(d).join(header).exists())
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=MMU_NOTIFIER_CFLAGS");
    for path in ["src", "ffi/src", "c-tests/abi/table.txt"] {
        println!("cargo::rerun-if-changed={}", root().join(path).display());
    }
    let cflags = env::var("MMU_NOTIFIER_CFLAGS")
        .expect("MMU_NOTIFIER_CFLAGS: pkg-config --cflags mmu_notifier");
    let cflags: Vec<String> = cflags.split_whitespace().map(str::to_owned).collect();
    for directory in cflags.iter().filter_map(|f| f.strip_prefix("-I")) {
        println!("cargo::rerun-if-changed={directory}");
    }

    let files: Vec<File> = CORE
        .iter()
        .map(|(path, _)| read(&root().join(path)))
        .collect();
    let groups = Group::all(&root().join("c-tests/abi/table.txt"));
    let variants: BTreeSet<String> = groups
        .iter()
        .flat_map(|g| g.names.keys().cloned())
        .collect();
    let mut text = String::new();
    let mut table = String::from("const GROUPS: &[(&str, Run)] = &[");
    for group in &groups {
        text += &generate(group, &files, &variants, &cflags);
        table += &format!("(\"{}\", {}::run),", group.kernel, group.module);
    }
    table.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("groups.rs"), text + &table).expect("OUT_DIR is writable");
}
