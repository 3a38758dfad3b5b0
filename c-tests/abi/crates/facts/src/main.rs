//! Prints facts, one per line: `SOURCE struct NAME SIZE ALIGN`, `SOURCE field STRUCT NAME OFFSET TYPE`,
//! `SOURCE enum NAME VALUE-NAME VALUE`, `SOURCE const NAME VALUE`. SOURCE is `core` or a kernel's version.
//!
//! rustc computes every number: `size_of`, `align_of` and `offset_of!` of the core's types, and of bindgen's.

use mmu_notifier::abi::{Layout, mm, notifier, types, versions};

struct Facts {
    structs: &'static [Struct],
    /// Enum, or nothing; name; value.
    numbers: &'static [(&'static str, &'static str, i128)],
}

struct Struct {
    name: &'static str,
    size: usize,
    align: usize,
    fields: &'static [Field],
}

struct Field {
    name: &'static str,
    offset: usize,
    ty: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/facts.rs"));

fn print(source: &str, facts: &Facts) {
    for s in facts.structs {
        println!("{source} struct {} {} {}", s.name, s.size, s.align);
        for f in s.fields {
            println!("{source} field {} {} {} {}", s.name, f.name, f.offset, f.ty);
        }
    }
    for (ty, name, value) in facts.numbers {
        // What a probe says for a macro.
        let name = name.strip_prefix("ABI_").unwrap_or(name);
        if ty.is_empty() {
            println!("{source} const {name} {value}");
        } else {
            println!("{source} enum {ty} {name} {value}");
        }
    }
}

/// The tables that the C assertions come from say the same as the types.
fn check_layouts() {
    let layouts: [&[Layout]; 4] = [
        types::LAYOUTS,
        notifier::LAYOUTS,
        versions::LAYOUTS,
        mm::LAYOUTS,
    ];
    let structs = || CORE.iter().flat_map(|f| f.structs);
    for layout in layouts.into_iter().flatten() {
        let Some(s) = structs().find(|s| s.name == layout.name) else {
            continue;
        };
        assert_eq!((s.size, s.align), (layout.size, layout.align), "{}", s.name);
        for (name, offset) in layout.fields {
            let found = s.fields.iter().find(|f| f.name == *name);
            let found = found.map(|f| f.offset);
            assert_eq!(found, Some(*offset), "LAYOUTS: {}.{name}", s.name);
        }
    }
}

fn main() {
    check_layouts();
    for facts in CORE {
        print("core", facts);
    }
    for (version, facts) in KERNELS {
        print(version, facts);
    }
}
