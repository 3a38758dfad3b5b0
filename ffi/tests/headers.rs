//! The generated headers are what cbindgen makes of the sources (`UPDATE_EXPECT=1` rewrites them), and the C side asserts
//! the layouts that the Rust side asserts.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cbindgen::{Builder, Config, DocumentationStyle, Language, Style};
use mmu_notifier::abi::{Layout, mm, notifier, types};

/// One generated header.
struct Header {
    path: &'static str,
    /// The Rust files whose items it declares.
    sources: &'static [&'static str],
    /// What it includes.
    includes: &'static [&'static str],
    /// Items that no function mentions.
    also: &'static [&'static str],
    /// Types that other headers declare.
    elsewhere: &'static [(&'static str, &'static str)],
    /// What its items need to have been declared.
    ahead: &'static [&'static str],
    /// One line on what it is.
    about: &'static str,
}

const HEADERS: &[Header] = &[
    Header {
        path: "include/mmu_notifier/abi/mm.h",
        sources: &["src/abi/mm.rs", "ffi/src/mm.rs"],
        includes: &["asm/page.h", "linux/rwsem.h", "linux/types.h"],
        also: &["mm_struct", "task_struct"],
        elsewhere: &[
            ("rw_semaphore", "struct rw_semaphore"),
            ("callback_head", "struct callback_head"),
            ("file", "struct file"),
            (
                "mmu_notifier_subscriptions",
                "struct mmu_notifier_subscriptions",
            ),
        ],
        ahead: &[
            "struct file;",
            "struct mm_struct;",
            "struct mmu_notifier_subscriptions;",
            "typedef struct mm_context_t mm_context_t;",
        ],
        about: "The address space and the thread. Included by <linux/mm_types.h>, <linux/sched.h> and others.",
    },
    Header {
        path: "include/mmu_notifier/abi/notifier.h",
        sources: &["src/abi/notifier.rs", "ffi/src/notifier.rs"],
        includes: &["linux/interval_tree.h", "mmu_notifier/abi/mm.h"],
        also: &["mmu_notifier_event"],
        elsewhere: &[
            ("event_t", "enum mmu_notifier_event"),
            ("mm_struct", "struct mm_struct"),
            ("hlist_node", "struct hlist_node"),
            ("callback_head", "struct callback_head"),
            ("interval_tree_node", "struct interval_tree_node"),
        ],
        ahead: &["struct mmu_interval_notifier;", "struct mmu_notifier;"],
        about: "The notifiers. Included by <linux/mmu_notifier.h>, which has the inlines.",
    },
    Header {
        path: "include/mmu_notifier/abi/support.h",
        sources: &["ffi/src/support.rs"],
        includes: &["linux/types.h"],
        also: &[],
        elsewhere: &[],
        ahead: &[],
        about: "What inlines of linux/ need from the library. Not for programs.",
    },
    Header {
        path: "include/mmu_notifier/abi/rcu.h",
        sources: &["ffi/src/rcu.rs"],
        includes: &["linux/types.h"],
        also: &[],
        elsewhere: &[
            ("callback_head", "struct callback_head"),
            ("srcu_struct", "struct srcu_struct"),
        ],
        ahead: &["struct srcu_struct;"],
        about: "Grace periods for drivers. Included by <linux/srcu.h> and <linux/rcupdate.h>.",
    },
    Header {
        path: "include/mmu_notifier/report.h",
        sources: &["src/report/mod.rs", "ffi/src/report.rs"],
        includes: &[],
        also: &[],
        elsewhere: &[],
        ahead: &[],
        about: "Who is told when the contract is broken: WARN and BUG.",
    },
    Header {
        path: "include/mmu_notifier/wait.h",
        sources: &["src/sync/hook.rs", "ffi/src/wait.rs"],
        includes: &[],
        also: &[],
        elsewhere: &[],
        ahead: &[],
        about: "Who sleeps in the library, on what, and who wakes them: for tests and explorers.",
    },
    Header {
        path: "include/mmu_notifier/version.h",
        sources: &["ffi/src/version.rs"],
        includes: &[],
        also: &[],
        elsewhere: &[],
        ahead: &[],
        about: "The version of the headers, and of the library that is running.",
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
    let names = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    config.export.include = names(header.also);
    config.export.exclude = names(&["event_t", "file", "mmu_notifier_subscriptions"]);
    for (rust, c) in header.elsewhere {
        config.export.rename.insert((*rust).into(), (*c).into());
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
    tidy(&String::from_utf8(out).expect("UTF-8"))
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

/// SPEC 1.6, asserted again by a C compiler.
#[test]
fn the_c_assertions_are_up_to_date() {
    let mut text = String::from(
        "/* SPDX-License-Identifier: MIT OR Apache-2.0 */\n\
         /* SPEC 1.6 in C. Generated from the assertions of src/abi: run `make headers`. */\n\
         #include <linux/mmu_notifier.h>\n#include <linux/sched/mm.h>\n\n",
    );
    for layout in types::LAYOUTS
        .iter()
        .chain(notifier::LAYOUTS)
        .chain(mm::LAYOUTS)
    {
        assertions(&mut text, layout);
    }
    text += "\nint main(void)\n{\n\treturn 0;\n}\n";
    check("c-tests/test_layout.c", &text);
}

fn assertions(text: &mut String, layout: &Layout) {
    let Layout {
        c_name,
        size,
        align,
        fields,
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
