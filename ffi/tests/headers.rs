//! The generated headers are what cbindgen makes of the sources (`UPDATE_EXPECT=1` rewrites them), and the C side asserts
//! the layouts that the Rust side asserts.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cbindgen::{Builder, Config, DocumentationStyle, Language, Style};
use mmu_notifier::abi::{Layout, mm, notifier, types, versions};

/// One generated header.
struct Header {
    path: &'static str,
    /// The Rust files whose items it declares.
    sources: &'static [&'static str],
    /// What it includes.
    includes: &'static [&'static str],
    /// The structs and enums that it defines; others are known from what it includes.
    defines: &'static [&'static str],
    /// Names that items have in C, where it is not the Rust name.
    renames: &'static [(&'static str, &'static str)],
    /// What its items need to have been declared.
    ahead: &'static [&'static str],
    /// For which kernels it says anything, as a condition of the preprocessor after `mmu_notifier/kernel.h`; "" for all.
    only_if: &'static str,
    /// What follows its items.
    behind: &'static str,
    /// One line on what it is.
    about: &'static str,
}

impl Header {
    const NONE: Self = Self {
        path: "",
        sources: &[],
        includes: &[],
        defines: &[],
        renames: &[],
        ahead: &[],
        only_if: "",
        behind: "",
        about: "",
    };
}

/// How C writes the types of other headers.
const KNOWN: &[(&str, &str)] = &[
    ("callback_head", "struct callback_head"),
    ("event_t", "enum mmu_notifier_event"),
    ("file", "struct file"),
    ("hlist_node", "struct hlist_node"),
    ("interval_tree_node", "struct interval_tree_node"),
    ("llist_node", "struct llist_node"),
    ("mm_struct", "struct mm_struct"),
    ("mmu_interval_notifier", "struct mmu_interval_notifier"),
    (
        "mmu_interval_notifier_ops",
        "struct mmu_interval_notifier_ops",
    ),
    ("mmu_notifier", "struct mmu_notifier"),
    ("mmu_notifier_ops", "struct mmu_notifier_ops"),
    ("mmu_notifier_range", "struct mmu_notifier_range"),
    (
        "mmu_notifier_subscriptions",
        "struct mmu_notifier_subscriptions",
    ),
    ("rw_semaphore", "struct rw_semaphore"),
    ("srcu_struct", "struct srcu_struct"),
    ("task_struct", "struct task_struct"),
    ("vm_area_struct", "struct vm_area_struct"),
];

const HEADERS: &[Header] = &[
    Header {
        path: "include/mmu_notifier/abi/mm.h",
        sources: &["src/abi/mm.rs", "ffi/src/mm.rs"],
        includes: &["asm/page.h", "linux/rwsem.h", "linux/types.h"],
        defines: &["mm_struct", "task_struct"],
        ahead: &[
            "struct file;",
            "struct mm_struct;",
            "struct mmu_notifier_subscriptions;",
            "typedef struct mm_context_t mm_context_t;",
        ],
        about: "The address space and the thread. Included by <linux/mm_types.h>, <linux/sched.h> and others.",
        ..Header::NONE
    },
    Header {
        path: "include/mmu_notifier/abi/notifier.h",
        sources: &["src/abi/notifier.rs", "ffi/src/notifier.rs"],
        includes: &["linux/interval_tree.h", "mmu_notifier/abi/mm.h"],
        defines: &[
            "mmu_notifier",
            "mmu_interval_notifier",
            "mmu_notifier_event",
            "MMU_NOTIFIER_RANGE_BLOCKABLE",
        ],
        ahead: &[
            "struct mmu_interval_notifier_ops;",
            "struct mmu_notifier_ops;",
            "struct mmu_notifier_range;",
        ],
        about: "The notifiers, as far as all kernels agree. Included by <linux/mmu_notifier.h>, which has the inlines.",
        ..Header::NONE
    },
    Header {
        path: "include/mmu_notifier/abi/reference.h",
        sources: &["ffi/src/reference.rs"],
        includes: &["mmu_notifier/abi/structs_6_6.h"],
        only_if: "defined(MMU_NOTIFIER_ABI_IS_REFERENCE)",
        about: "Functions on structs that kernels lay out differently, for kernels 6.6 to 6.9.",
        ..Header::NONE
    },
    Header {
        path: "include/mmu_notifier/abi/versions.h",
        sources: &["src/abi/versions.rs", "ffi/src/versions.rs"],
        includes: &["mmu_notifier/abi/notifier.h"],
        defines: &["mmu_notifier_abi"],
        about: "Functions on structs that kernels lay out differently, for any kernel. Not for programs.",
        ..Header::NONE
    },
    Header {
        path: "include/mmu_notifier/abi/structs_5_14.h",
        sources: &["src/abi/versions.rs"],
        includes: &["mmu_notifier/abi/notifier.h"],
        defines: &[
            "mmu_notifier_range_5_14",
            "mmu_notifier_ops_5_14",
            "mmu_interval_notifier_ops_5_14",
        ],
        renames: &[
            ("mmu_notifier_range_5_14", "mmu_notifier_range"),
            ("mmu_notifier_ops_5_14", "mmu_notifier_ops"),
            (
                "mmu_interval_notifier_ops_5_14",
                "mmu_interval_notifier_ops",
            ),
        ],
        ahead: &["struct vm_area_struct;"],
        only_if: "MMU_NOTIFIER_KERNEL < 0x060300",
        about: "What kernels 5.14 to 6.2 lay out in a way of their own.",
        ..Header::NONE
    },
    Header {
        path: "include/mmu_notifier/abi/structs_6_3.h",
        sources: &["src/abi/versions.rs"],
        includes: &[
            "mmu_notifier/abi/structs_range.h",
            "mmu_notifier/abi/structs_interval.h",
        ],
        defines: &["mmu_notifier_ops_6_3"],
        renames: &[("mmu_notifier_ops_6_3", "mmu_notifier_ops")],
        only_if: "MMU_NOTIFIER_KERNEL >= 0x060300 && MMU_NOTIFIER_KERNEL < 0x060600",
        about: "What kernels 6.3 to 6.5 lay out in a way of their own.",
        ..Header::NONE
    },
    Header {
        path: "include/mmu_notifier/abi/structs_6_6.h",
        sources: &["src/abi/notifier.rs"],
        includes: &[
            "mmu_notifier/abi/structs_range.h",
            "mmu_notifier/abi/structs_interval.h",
        ],
        defines: &["mmu_notifier_ops"],
        only_if: "MMU_NOTIFIER_KERNEL >= 0x060600 && MMU_NOTIFIER_KERNEL < 0x060a00",
        about: "What kernels 6.6 to 6.9 lay out in a way of their own.",
        ..Header::NONE
    },
    Header {
        path: "include/mmu_notifier/abi/structs_6_10.h",
        sources: &["src/abi/versions.rs"],
        includes: &[
            "mmu_notifier/abi/structs_range.h",
            "mmu_notifier/abi/structs_interval.h",
        ],
        defines: &["mmu_notifier_ops_6_10"],
        renames: &[("mmu_notifier_ops_6_10", "mmu_notifier_ops")],
        only_if: "MMU_NOTIFIER_KERNEL >= 0x060a00 && MMU_NOTIFIER_KERNEL < 0x070100",
        about: "What kernels 6.10 to 7.0 lay out in a way of their own.",
        ..Header::NONE
    },
    Header {
        path: "include/mmu_notifier/abi/structs_7_1.h",
        sources: &["src/abi/versions.rs"],
        includes: &["linux/llist.h", "mmu_notifier/abi/structs_range.h"],
        defines: &[
            "mmu_notifier_ops_7_1",
            "mmu_interval_notifier_ops_7_1",
            "mmu_interval_notifier_finish",
        ],
        renames: &[
            ("mmu_notifier_ops_7_1", "mmu_notifier_ops"),
            ("mmu_interval_notifier_ops_7_1", "mmu_interval_notifier_ops"),
        ],
        only_if: "MMU_NOTIFIER_KERNEL >= 0x070100",
        about: "What kernels from 7.1 on lay out in a way of their own.",
        ..Header::NONE
    },
    Header {
        path: "include/mmu_notifier/abi/structs_range.h",
        sources: &["src/abi/notifier.rs"],
        includes: &["mmu_notifier/abi/notifier.h"],
        defines: &["mmu_notifier_range"],
        only_if: "MMU_NOTIFIER_KERNEL >= 0x060300",
        about: "The range of kernels from 6.3 on.",
        ..Header::NONE
    },
    Header {
        path: "include/mmu_notifier/abi/structs_interval.h",
        sources: &["src/abi/notifier.rs"],
        includes: &["mmu_notifier/abi/notifier.h"],
        defines: &["mmu_interval_notifier_ops"],
        only_if: "MMU_NOTIFIER_KERNEL >= 0x060300 && MMU_NOTIFIER_KERNEL < 0x070100",
        about: "The ops of an interval notifier of kernels from 6.3 to 7.0.",
        ..Header::NONE
    },
    Header {
        path: "include/mmu_notifier/abi/support.h",
        sources: &["ffi/src/support.rs"],
        includes: &["linux/types.h"],
        about: "What inlines of linux/ need from the library. Not for programs.",
        ..Header::NONE
    },
    Header {
        path: "include/mmu_notifier/abi/rcu.h",
        sources: &["ffi/src/rcu.rs"],
        includes: &["linux/types.h"],
        ahead: &["struct srcu_struct;"],
        about: "Grace periods for drivers. Included by <linux/srcu.h> and <linux/rcupdate.h>.",
        ..Header::NONE
    },
    Header {
        path: "include/mmu_notifier/explore.h",
        sources: &["src/sync/point.rs", "ffi/src/explore.rs"],
        includes: &["stdint.h"],
        defines: &[
            "mmu_notifier_explore_kind",
            "mmu_notifier_scenario",
            "mmu_notifier_scenario_thread",
        ],
        about: "Schedule points, and what a driver exports to be explored (docs/explore.md).",
        ..Header::NONE
    },
    Header {
        path: "include/mmu_notifier/report.h",
        sources: &["src/report/mod.rs", "ffi/src/report.rs"],
        includes: &["stdbool.h"],
        about: "Who is told when the contract is broken: WARN and BUG.",
        ..Header::NONE
    },
    Header {
        path: "include/mmu_notifier/live.h",
        sources: &["src/live/status.rs", "src/live/gap.rs", "ffi/src/live.rs"],
        about: "The process's own address space, live: its system calls as events.",
        ..Header::NONE
    },
    Header {
        path: "include/mmu_notifier/stage.h",
        sources: &["src/live/stage/range.rs", "ffi/src/stage.rs"],
        includes: &["linux/mmu_notifier.h", "mmu_notifier/abi/versions.h"],
        ahead: &["struct mmu_notifier_live_range;"],
        behind: "\
            /**\n \
             * Has the memory changed since the insert? To be asked under the lock that `invalidate` takes, with what\n \
             * mmu_interval_read_begin() returned, before what was mapped is used. As mmu_interval_read_retry(), which does\n \
             * not know of a change between the insert and the begin; a range is good for one.\n \
             */\n\
            static inline bool mmu_notifier_live_range_retry(struct mmu_notifier_live_range *range, unsigned long seq)\n\
            {\n\
            \treturn __atomic_load_n(&range->changed, __ATOMIC_RELAXED) ||\n\
            \t       mmu_interval_read_retry(&range->interval, seq);\n\
            }\n\n\
            #if MMU_NOTIFIER_KERNEL < 0x060300\n\
                 /* The event of `invalidate` is another struct: the library is told. */\n\
                 #define mmu_notifier_live_range_insert(range, mm, start, length, ops, timeout_ms) \\\n\
                 \tmmu_notifier_abi_live_range_insert(range, mm, start, length, ops, timeout_ms, \\\n\
                 \t\t\t\t\t   MMU_NOTIFIER_ABI)\n\
                 #endif",
        about: "Ranges of memory with two stages: what has to happen before a change, and what may take longer.",
        ..Header::NONE
    },
    Header {
        path: "include/mmu_notifier/wait.h",
        sources: &["src/sync/hook.rs", "ffi/src/wait.rs"],
        about: "Who sleeps in the library, on what, and who wakes them: for tests and explorers.",
        ..Header::NONE
    },
    Header {
        path: "include/mmu_notifier/version.h",
        sources: &["ffi/src/version.rs"],
        about: "The version of the headers, and of the library that is running.",
        ..Header::NONE
    },
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn config(header: &Header) -> Config {
    let guard = header
        .path
        .trim_start_matches("include/")
        .replace(['/', '.'], "_")
        .to_uppercase();
    let mut config = Config {
        language: Language::C,
        style: Style::Tag,
        cpp_compat: true,
        no_includes: true,
        usize_is_size_t: true,
        include_guard: Some(guard),
        documentation_style: DocumentationStyle::Doxy,
        line_length: 100,
        tab_width: 8,
        header: Some(preamble(header)),
        ..Config::default()
    };
    config.function.no_return = Some("__attribute__((__noreturn__))".into());
    config.export.include = header.defines.iter().map(ToString::to_string).collect();
    for (rust, c) in KNOWN
        .iter()
        .filter(|(rust, _)| !header.defines.contains(rust))
    {
        config.export.exclude.push((*rust).into());
        config.export.rename.insert((*rust).into(), (*c).into());
    }
    for (rust, c) in header.renames {
        config.export.rename.insert((*rust).into(), (*c).into());
    }
    if !header.defines.contains(&"MMU_NOTIFIER_RANGE_BLOCKABLE") {
        config
            .export
            .exclude
            .push("MMU_NOTIFIER_RANGE_BLOCKABLE".into());
    }
    config.after_includes = Some(after_includes(header));
    config
}

fn preamble(header: &Header) -> String {
    format!(
        "/* SPDX-License-Identifier: MIT OR Apache-2.0 */\n\
         /*\n * {}\n * Generated from the Rust sources: change them, then run `make headers`.\n */",
        header.about
    )
}

fn after_includes(header: &Header) -> String {
    let mut text = String::new();
    for include in header.includes {
        writeln!(text, "#include <{include}>").expect("a string");
    }
    text.push('\n');
    for declaration in header.ahead {
        writeln!(text, "{declaration}").expect("a string");
    }
    if header.path.ends_with("version.h") {
        let [major, minor, patch] = [
            env!("CARGO_PKG_VERSION_MAJOR"),
            env!("CARGO_PKG_VERSION_MINOR"),
            env!("CARGO_PKG_VERSION_PATCH"),
        ];
        writeln!(
            text,
            "#define MMU_NOTIFIER_VERSION \"{major}.{minor}.{patch}\"\n\
             #define MMU_NOTIFIER_VERSION_MAJOR {major}\n\
             #define MMU_NOTIFIER_VERSION_MINOR {minor}\n\
             #define MMU_NOTIFIER_VERSION_PATCH {patch}"
        )
        .expect("a string");
    }
    text
}

/// Puts what a header declares behind its condition, and what follows it inside the include guard.
fn guarded(header: &Header, text: &str) -> String {
    if header.only_if.is_empty() {
        let end = text.rfind("#endif").expect("an include guard");
        let (declared, guard) = text.split_at(end);
        return format!("{declared}{}\n\n{guard}", header.behind);
    }
    let define = text.find("#define MMU_NOTIFIER").expect("an include guard");
    let start = define + text[define..].find('\n').expect("a line") + 1;
    let end = text.rfind("#endif").expect("an include guard");
    format!(
        "{}\n#include <mmu_notifier/kernel.h>\n\n#if {}\n{}#endif\n\n{}",
        &text[..start],
        header.only_if,
        &text[start..end],
        &text[end..]
    )
}

fn generate(header: &Header) -> String {
    let mut builder = Builder::new().with_config(config(header));
    for source in header.sources {
        builder = builder.with_src(root().join(source));
    }
    let mut out = Vec::new();
    builder
        .generate()
        .expect("cbindgen understands the sources")
        .write(&mut out);
    tidy(&guarded(header, &String::from_utf8(out).expect("UTF-8")))
}

/// Kernel style: tabs, and no run of empty lines.
fn tidy(text: &str) -> String {
    let mut tidy = String::new();
    for line in text.lines() {
        if line.is_empty() && tidy.ends_with("\n\n") {
            continue;
        }
        let code = line.trim_start_matches(' ');
        let indent = line.len() - code.len();
        let tabs = if code.starts_with('*') {
            (indent - 1) / 8
        } else {
            indent / 8
        };
        tidy.push_str(&"\t".repeat(tabs));
        tidy.push_str(&line[tabs * 8..]);
        tidy.push('\n');
    }
    tidy
}

/// Compares a file of the tree with what it should be, or writes it.
fn check(path: &str, wanted: &str) {
    let file = root().join(path);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(file, wanted).expect("writable");
        return;
    }
    let found = std::fs::read_to_string(file).unwrap_or_default();
    assert!(found == wanted, "{path} is out of date: run `make headers`");
}

#[test]
fn generated_headers_are_up_to_date() {
    for header in HEADERS {
        check(header.path, &generate(header));
    }
}

/// What the C side asserts for each kernel: the structs that are its own, by their Rust names, and those that all share.
const KERNELS: &[(&str, &str, &[&str])] = &[
    (
        "5_14",
        "0x050e00",
        &[
            "mmu_notifier_range_5_14",
            "mmu_notifier_ops_5_14",
            "mmu_interval_notifier_ops_5_14",
        ],
    ),
    (
        "6_3",
        "0x060300",
        &[
            "mmu_notifier_range",
            "mmu_notifier_ops_6_3",
            "mmu_interval_notifier_ops",
        ],
    ),
    (
        "6_6",
        "0x060600",
        &[
            "mmu_notifier_range",
            "mmu_notifier_ops",
            "mmu_interval_notifier_ops",
        ],
    ),
    (
        "6_10",
        "0x060a00",
        &[
            "mmu_notifier_range",
            "mmu_notifier_ops_6_10",
            "mmu_interval_notifier_ops",
        ],
    ),
    (
        "7_1",
        "0x070100",
        &[
            "mmu_notifier_range",
            "mmu_notifier_ops_7_1",
            "mmu_interval_notifier_ops_7_1",
            "mmu_interval_notifier_finish",
        ],
    ),
];

/// SPEC 1.6 and 2, asserted again by a C compiler.
#[test]
fn the_c_assertions_are_up_to_date() {
    let all = || {
        types::LAYOUTS
            .iter()
            .chain(notifier::LAYOUTS)
            .chain(versions::LAYOUTS)
            .chain(mm::LAYOUTS)
    };
    for (name, kernel, own) in KERNELS {
        let mut text = format!(
            "/* SPDX-License-Identifier: MIT OR Apache-2.0 */\n\
             /* SPEC 1.6 and 2 in C. Generated from the assertions of src/abi: run `make headers`. */\n\
             #define MMU_NOTIFIER_KERNEL {kernel}\n\
             #include <linux/llist.h>\n#include <linux/mmu_notifier.h>\n#include <linux/sched/mm.h>\n\n"
        );
        let differs = |name: &str| KERNELS.iter().any(|(_, _, own)| own.contains(&name));
        for layout in all().filter(|layout| own.contains(&layout.name) || !differs(layout.name)) {
            assertions(&mut text, layout);
        }
        text += "\nint main(void)\n{\n\treturn 0;\n}\n";
        check(&format!("c-tests/test_layout_{name}.c"), &text);
    }
}

fn assertions(text: &mut String, layout: &Layout) {
    let Layout {
        c_name,
        size,
        align,
        fields,
        ..
    } = layout;
    writeln!(
        text,
        "_Static_assert(sizeof({c_name}) == {size}, \"size of {c_name}\");"
    )
    .expect("a string");
    writeln!(
        text,
        "_Static_assert(_Alignof({c_name}) == {align}, \"alignment of {c_name}\");"
    )
    .expect("a string");
    for (field, offset) in *fields {
        writeln!(
            text,
            "_Static_assert(offsetof({c_name}, {field}) == {offset}, \"{c_name}.{field}\");"
        )
        .expect("a string");
    }
}
