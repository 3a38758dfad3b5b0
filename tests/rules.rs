//! Promise 1 of ARCHITECTURE.md: every rule of docs/spec/SPEC.md is in the code by its id, and in a test by its id.
//!
//! Collects the rules (sections 3 to 5 and 7), the code that carries them (`// SPEC: II-7b` above it) and the cases that
//! prove them (their names, `II_7b_...`, and the comments above and inside them), and writes docs/rules.md.
//! `UPDATE_EXPECT=1` (`make rules`) regenerates that file; otherwise the test fails when it is out of date.
//!
//! Rules without an id of their own get one from their place: `4.2-3` is row 3 of the table of 4.2, `4.3-5` item 5 of its
//! list, `5-6` what follows the list of section 5. In a case's name: `S4_2_3_...`; of section 5: `golden_1_...`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// `ID title`, or `ID title | why there is no code of ours`, in the order of the specification.
const TITLES: &str = include_str!("rules.txt");

const PREFIXES: &[&str] = &[
    "ST", "RS", "HS", "RE", "RB", "II", "IR", "RG", "GP", "UN", "RL", "YG", "SY", "DS", "ML", "MO",
    "DV",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a folder whose name ends in one of `endings`, sorted, relative to the repository.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if endings
                .iter()
                .any(|ending| path.to_string_lossy().ends_with(ending))
            {
                found.push(
                    path.strip_prefix(root())
                        .expect("below the root")
                        .to_owned(),
                );
            }
        }
    }
    found.sort();
    found
}

// ------------------------------------------------------------------------------------------------- the specification

/// Ids of the rules in the order of the specification, and the numbers of its sections.
struct Spec {
    rules: Vec<String>,
    sections: BTreeSet<String>,
}

/// `II-7` of `* II-7 Under ...`.
fn bullet(line: &str) -> Option<&str> {
    let id = line.strip_prefix("* ")?.split(' ').next()?;
    let (prefix, number) = id.split_once('-')?;
    (PREFIXES.contains(&prefix) && number.parse::<u32>().is_ok()).then_some(id)
}

/// `4.3` of `### 4.3 title`, `5` of `## 5. title`.
fn heading(line: &str) -> Option<&str> {
    let title = line
        .strip_prefix("##")?
        .trim_start_matches('#')
        .strip_prefix(' ')?;
    Some(title.split(' ').next()?.trim_end_matches('.'))
}

/// `b` of `  b) S.active>0, ...`.
fn part(line: &str) -> Option<char> {
    let text = line.strip_prefix("  ")?;
    let letter = text.chars().next()?;
    (letter.is_ascii_lowercase() && text[1..].starts_with(") ")).then_some(letter)
}

fn is_item(line: &str) -> bool {
    line.split_once(". ")
        .is_some_and(|(number, _)| number.parse::<u32>().is_ok())
}

fn parse_spec(text: &str) -> Spec {
    let mut spec = Spec {
        rules: Vec::new(),
        sections: BTreeSet::new(),
    };
    let (mut section, mut places, mut last_line) = ("", 0, "");
    for line in text.lines() {
        if let Some(number) = heading(line) {
            (section, places) = (number, 0);
            spec.sections.insert(number.to_owned());
            if number == "4.4" {
                spec.rules.push(number.to_owned());
            }
        } else if let Some(id) = bullet(line) {
            spec.rules.push(id.to_owned());
        } else if let (Some(letter), Some(whole)) = (part(line), spec.rules.last()) {
            let whole = whole
                .trim_end_matches(|c: char| c.is_ascii_lowercase())
                .to_owned();
            if letter == 'a' {
                spec.rules.pop();
            }
            spec.rules.push(format!("{whole}{letter}"));
        }
        let in_table = matches!(section, "3.14" | "4.1" | "4.2") && line.starts_with("| ");
        let row = in_table && last_line.starts_with('|');
        let item = matches!(section, "4.3" | "5") && is_item(line);
        let rest = section == "5" && line.starts_with("Intervals ");
        if row || item || rest {
            places += 1;
            spec.rules.push(format!("{section}-{places}"));
        }
        last_line = line;
    }
    spec
}

/// Does a cited id stand for this rule: as itself, or as one of its parts?
fn stands_for(cited: &str, rule: &str) -> bool {
    let part = rule.strip_prefix(cited).map(str::as_bytes);
    matches!(part, Some([] | [b'a'..=b'z']))
}

impl Spec {
    fn has(&self, cited: &str) -> bool {
        self.rules.iter().any(|rule| stands_for(cited, rule))
    }
}

// ------------------------------------------------------------------------------------------------------------- ids

/// The longest run of characters at the start of `text` that `accept` accepts.
fn run(text: &str, accept: impl Fn(char) -> bool) -> &str {
    &text[..text.find(|c| !accept(c)).unwrap_or(text.len())]
}

/// An id of a text at its start, with separator `-`: `II-7b`, `4.2-3`.
fn id_at(text: &str) -> Option<&str> {
    let head = run(text, |c| c.is_ascii_alphanumeric() || c == '.');
    let number = run(text[head.len()..].strip_prefix('-')?, |c| {
        c.is_ascii_digit()
    });
    if number.is_empty() {
        return None;
    }
    let end = head.len() + 1 + number.len();
    let letter = run(&text[end..], |c| c.is_ascii_lowercase());
    if PREFIXES.contains(&head) {
        let end = end + usize::from(letter.len() == 1);
        return (letter.len() < 2).then_some(&text[..end]);
    }
    let placed = head
        .split_once('.')
        .is_some_and(|(a, b)| a.parse::<u32>().is_ok() && b.parse::<u32>().is_ok());
    (placed && letter.is_empty() && head.starts_with(['3', '4'])).then_some(&text[..end])
}

/// All ids that a text cites.
fn ids(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        if !before.is_alphanumeric() && !matches!(before, '-' | '.' | '_' | '/') {
            found.extend(id_at(&text[at..]).map(str::to_owned));
        }
        before = c;
    }
    found
}

/// All ids in the name of a case: `GP_3_and_GP_4_get`, `dv_6_nobody`, `S4_2_3_put`, `golden_4_and_5_release`.
fn ids_of_name(name: &str) -> Vec<String> {
    let words: Vec<String> = name.split('_').map(str::to_uppercase).collect();
    let is_number = |word: Option<&String>| word.is_some_and(|word| word.parse::<u32>().is_ok());
    let mut found = Vec::new();
    if words[0] == "GOLDEN" {
        let numbers = words.iter().filter(|word| is_number(Some(word)));
        found.extend(numbers.map(|number| format!("5-{number}")));
        if found.is_empty() {
            found.push("5-6".to_owned());
        }
        return found;
    }
    for (at, word) in words.iter().enumerate() {
        let Some(next) = words.get(at + 1) else { break };
        if PREFIXES.contains(&word.as_str()) {
            let number = run(next, |c| c.is_ascii_digit());
            if !number.is_empty() {
                found.push(format!("{word}-{}", next.to_lowercase()));
            }
        } else if word.len() == 2 && word.starts_with('S') && is_number(Some(next)) {
            let row = words.get(at + 2).filter(|row| is_number(Some(row)));
            let row = row.map_or(String::new(), |row| format!("-{row}"));
            found.push(format!("{}.{next}{row}", &word[1..]));
        }
    }
    found
}

// -------------------------------------------------------------------------------------------------- code and cases

/// Who cites what: rule id, then places.
type Places = BTreeMap<String, BTreeSet<(String, String)>>;

/// The name that a line of code defines, if it defines one.
fn defined(line: &str) -> Option<&str> {
    const BEFORE: &[&str] = &["pub", "crate", "super", "unsafe", "const", "extern", "C"];
    const KINDS: &[&str] = &["fn", "static", "struct", "enum", "macro_rules"];
    let words = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    let mut words = words.filter(|word| !word.is_empty());
    let kind = words.find(|word| !BEFORE.contains(word))?;
    words.next().filter(|_| KINDS.contains(&kind))
}

/// The function or object that the `SPEC:` comment at line `at` speaks of: what follows it, or what it is inside of.
fn subject<'a>(lines: &[&'a str], at: usize) -> &'a str {
    let is_code =
        |line: &&&str| !matches!(line.trim_start().as_bytes(), [b'/' | b'#' | b'*', ..] | []);
    let next = lines[at + 1..]
        .iter()
        .find(is_code)
        .and_then(|line| defined(line));
    let around = || lines[..at].iter().rev().find_map(|line| defined(line));
    next.or_else(around).unwrap_or("")
}

/// The inline of a C header that a comment at line `at` stands above.
fn subject_in_c<'a>(lines: &[&'a str], at: usize) -> &'a str {
    let name = |line: &&'a str| {
        let head = line.split_once('(')?.0;
        let name = head
            .rsplit(|c: char| !(c.is_alphanumeric() || c == '_'))
            .next()?;
        (!name.is_empty() && !line.starts_with([' ', '\t', '/'])).then_some(name)
    };
    lines[at + 1..].iter().find_map(name).unwrap_or("")
}

/// Places in the sources that say `SPEC: ID ...`.
fn collect_code() -> Places {
    let mut places = Places::new();
    let rust = files("src", &[".rs"])
        .into_iter()
        .chain(files("ffi/src", &[".rs"]));
    for file in rust.chain(files("include", &[".h"])) {
        let text = read(&root().join(&file));
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some((_, cited)) = line.split_once("SPEC: ") else {
                continue;
            };
            let in_c = file.extension().is_some_and(|extension| extension == "h");
            let name = if in_c {
                subject_in_c(&lines, at)
            } else {
                subject(&lines, at)
            };
            for id in cited_by(cited) {
                let place = (file.display().to_string(), name.to_owned());
                places.entry(id).or_default().insert(place);
            }
        }
    }
    places
}

/// The ids that a `SPEC:` comment begins with; what follows them is prose. `4.4` is a rule, `2.2` a section.
fn cited_by(text: &str) -> Vec<String> {
    let words = text
        .split([' ', ':', ','])
        .map(|word| word.trim_end_matches('.'));
    let is_section = |word: &str| {
        word.split_once('.')
            .is_some_and(|(a, b)| a.parse::<u32>().is_ok() && b.parse::<u32>().is_ok())
    };
    words
        .take_while(|word| is_section(word) || id_at(word) == Some(word))
        .map(str::to_owned)
        .collect()
}

/// The cases of a test program in C or Rust, each with the text that may cite rules: its name, the comments directly above
/// it and those inside it.
fn cases(text: &str) -> Vec<(String, Vec<String>)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    let mut above = String::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        let trimmed = line.trim_start();
        let in_rust = trimmed.starts_with("fn ") && at > 0 && lines[at - 1].trim() == "#[test]";
        let name = match line.strip_prefix("TEST(") {
            Some(rest) => Some(run(rest, |c| c.is_alphanumeric() || c == '_')),
            None => in_rust.then(|| run(&trimmed[3..], |c| c.is_alphanumeric() || c == '_')),
        };
        if let Some(name) = name {
            let closing = format!("{}}}", &line[..line.len() - trimmed.len()]);
            let one_line = line.ends_with('}');
            let length = if one_line {
                0
            } else {
                lines[at..].iter().position(|l| *l == closing).unwrap_or(0)
            };
            let mut cited = ids_of_name(name);
            cited.extend(ids(&above));
            for line in &lines[at..=at + length] {
                cited.extend(ids(&comments_of(line)));
            }
            found.push((name.to_owned(), cited));
            at += length;
            above.clear();
        } else if trimmed.starts_with("/*") || trimmed.starts_with('*') || trimmed.starts_with("//")
        {
            // A heading between groups of cases is not about the next case alone.
            if !trimmed.starts_with("/* ---") {
                above.push_str(trimmed);
            }
        } else if trimmed != "#[test]" {
            above.clear();
        }
        at += 1;
    }
    found
}

/// The comment of a line of C or Rust; of a line that is inside a comment, all of it.
fn comments_of(line: &str) -> String {
    let trimmed = line.trim_start();
    if trimmed.starts_with("* ") {
        return trimmed.to_owned();
    }
    let start = line.find("/*").or_else(|| line.find("// "));
    start.map_or(String::new(), |start| line[start..].to_owned())
}

/// Cases that prove rules.
fn collect_cases() -> Places {
    let mut places = Places::new();
    let mut add = |file: &Path, name: &str, cited: Vec<String>| {
        for id in cited {
            places
                .entry(id)
                .or_default()
                .insert((file.display().to_string(), name.to_owned()));
        }
    };
    let mut programs = files("c-tests", &[".c", ".cc"]);
    programs.extend(files("src", &[".rs"]));
    programs.extend(files("ffi", &[".rs"]));
    programs.extend(
        files("tests", &[".rs"])
            .into_iter()
            .filter(|file| !file.ends_with("rules.rs")),
    );
    for file in programs {
        for (name, cited) in cases(&read(&root().join(&file))) {
            add(&file, &name, cited);
        }
    }
    // A program of the conformance suite says in its comments what it is about.
    for file in files("c-tests/conformance", &[".txt"]) {
        let text = read(&root().join(&file));
        let comments: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
        add(&file, "", ids(&comments.join("\n")));
    }
    places
}

/// Rules that the executable model decides: the random programs of `make test-model` compare the library with it.
fn collect_model() -> BTreeSet<String> {
    let sources = files("c-tests/model/src/contract", &[".rs"]);
    let cited = |file: &PathBuf| ids(&read(&root().join(file)));
    sources.iter().flat_map(cited).collect()
}

/// Every id that any file of the project cites.
fn collect_all() -> BTreeMap<String, BTreeSet<String>> {
    let endings = [
        ".rs", ".c", ".cc", ".h", ".py", ".sh", ".md", ".txt", ".toml", ".map", ".3", ".7",
    ];
    let folders = [
        "src", "ffi", "include", "c-tests", "examples", "man", "docs", "scripts",
    ];
    let mut cited: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let nested = folders.iter().flat_map(|folder| files(folder, &endings));
    let top = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ]
    .map(PathBuf::from);
    for file in nested.chain(top) {
        if file != Path::new("docs/rules.md") {
            for id in ids(&read(&root().join(&file)).replace("\\-", "-")) {
                cited
                    .entry(id)
                    .or_default()
                    .insert(file.display().to_string());
            }
        }
    }
    cited
}

// ------------------------------------------------------------------------------------------------------- the table

/// Of each rule: its title, and why no code of ours carries it, if none does.
fn titles(text: &str) -> Vec<(&str, &str, Option<&str>)> {
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (id, rest) = line.split_once(' ').expect("ID title");
            match rest.split_once(" | ") {
                Some((title, reason)) => (id, title.trim(), Some(reason)),
                None => (id, rest.trim(), None),
            }
        })
        .collect()
}

/// Places grouped by file.
fn list(places: &BTreeSet<(String, String)>) -> String {
    let mut by_file: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (file, name) in places {
        by_file.entry(file).or_default().push(name);
    }
    let groups = by_file.iter().map(|(file, names)| {
        let names: Vec<&str> = names
            .iter()
            .filter(|name| !name.is_empty())
            .copied()
            .collect();
        let colon = if names.is_empty() { "" } else { ": " };
        format!("{file}{colon}{}", names.join(", "))
    });
    groups.collect::<Vec<_>>().join("; ")
}

/// The places that cite the rule `id`, or the one that it is a part of.
fn places_of(places: &Places, id: &str) -> BTreeSet<(String, String)> {
    let citing = places.iter().filter(|(cited, _)| stands_for(cited, id));
    citing
        .flat_map(|(_, found)| found.iter().cloned())
        .collect()
}

struct Report {
    table: String,
    faults: Vec<String>,
    without_code: Vec<String>,
}

fn report(spec: &Spec, code: &Places, cases: &Places, model: &BTreeSet<String>) -> Report {
    let mut rows = String::new();
    let (mut faults, mut without_code) = (Vec::new(), Vec::new());
    let known = titles(TITLES);
    let named: Vec<&str> = known.iter().map(|(id, ..)| *id).collect();
    if named != spec.rules {
        let missing = spec.rules.iter().filter(|id| !named.contains(&id.as_str()));
        let unknown = named
            .iter()
            .filter(|id| !spec.rules.iter().any(|rule| rule == *id));
        faults.push(format!(
            "tests/rules.txt does not list the rules of SPEC.md in their order; missing: {:?}; unknown: {:?}",
            missing.collect::<Vec<_>>(),
            unknown.collect::<Vec<_>>()
        ));
    }
    for (id, title, reason) in known {
        let (carriers, proofs) = (places_of(code, id), places_of(cases, id));
        let mut tests = list(&proofs);
        if proofs.is_empty() {
            faults.push(format!("{id} ({title}): no case proves it"));
        }
        if model.iter().any(|cited| stands_for(cited, id)) {
            tests.push_str("; c-tests/model");
        }
        let carried = match (reason, carriers.is_empty()) {
            (None, true) => {
                faults.push(format!("{id} ({title}): no code carries it"));
                String::new()
            }
            (Some(_), false) => {
                faults.push(format!(
                    "{id} ({title}): tests/rules.txt says that no code carries it, but {}",
                    list(&carriers)
                ));
                String::new()
            }
            (Some(reason), true) => {
                without_code.push(format!("{id} ({title}): {reason}"));
                format!("- ({reason})")
            }
            (None, false) => list(&carriers),
        };
        rows.push_str(&format!("| {id} | {title} | {carried} | {tests} |\n"));
    }
    let count = spec.rules.len();
    let table = format!(
        "# Where each rule is\n\nGenerated from the sources by `make rules`; `cargo test --test rules` fails when it is out of date. The rules are \
         those of [SPEC.md](spec/SPEC.md), {count} of them; `4.2-3` is row 3 of the table of section 4.2, `5-6` the last part of section \
         5. `c-tests/model`: the rule is part of the executable model that random programs are compared with.\n\n\
         | rule | title | code | cases |\n|---|---|---|---|\n{rows}"
    );
    Report {
        table,
        faults,
        without_code,
    }
}

/// What is cited by code or by the names of cases and is neither a rule nor a section.
fn unknown(spec: &Spec, places: &Places) -> Vec<String> {
    let cited = places
        .iter()
        .filter(|(id, _)| !spec.has(id) && !spec.sections.contains(*id));
    cited
        .map(|(id, found)| {
            format!(
                "SPEC.md has no rule {id}, which these cite: {}",
                list(found)
            )
        })
        .collect()
}

#[test]
fn every_rule_has_code_and_cases() {
    let spec = parse_spec(&read(&root().join("docs/spec/SPEC.md")));
    assert!(
        spec.rules.len() > 170,
        "found only {} rules",
        spec.rules.len()
    );
    let (code, cases) = (collect_code(), collect_cases());
    let mut report = report(&spec, &code, &cases, &collect_model());
    report.faults.extend(unknown(&spec, &code));
    report.faults.extend(unknown(&spec, &cases));
    for (id, citing) in collect_all() {
        if !spec.has(&id) {
            report.faults.push(format!(
                "SPEC.md has no rule {id}, which these cite: {citing:?}"
            ));
        }
    }
    println!(
        "{} rules; without code of ours: {}",
        spec.rules.len(),
        report.without_code.len()
    );
    for line in &report.without_code {
        println!("  {line}");
    }
    let path = root().join("docs/rules.md");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &report.table).expect("docs/rules.md can be written");
    } else if fs::read_to_string(&path).unwrap_or_default() != report.table {
        report
            .faults
            .push("docs/rules.md is out of date: run `make rules`".to_owned());
    }
    assert!(
        report.faults.is_empty(),
        "{} faults:\n{}",
        report.faults.len(),
        report.faults.join("\n")
    );
}

#[test]
fn ids_are_seen() {
    assert_eq!(
        ids("RS-4, (II-7b) and DV-10; D01, XX-1, II-7bc, MMU_ST-1, 3-4"),
        ["RS-4", "II-7b", "DV-10"]
    );
    assert_eq!(ids("4.2-3 of 2.2; linux-6.12-1 2024.11-3x"), ["4.2-3"]);
    assert_eq!(ids_of_name("GP_3_and_GP_4_get"), ["GP-3", "GP-4"]);
    assert_eq!(ids_of_name("II_7b_insert"), ["II-7b"]);
    assert_eq!(ids_of_name("dv_6_nobody"), ["DV-6"]);
    assert_eq!(ids_of_name("S4_4_vm_munmap"), ["4.4"]);
    assert_eq!(ids_of_name("S4_2_3_unregister"), ["4.2-3"]);
    assert_eq!(ids_of_name("golden_4_and_5_release"), ["5-4", "5-5"]);
    assert_eq!(ids_of_name("golden_intervals_idle"), ["5-6"]);
    assert!(ids_of_name("current_of_the_first_thread").is_empty());
    assert_eq!(cited_by("II-5. Taken first: 2 of DV-9"), ["II-5"]);
    assert_eq!(cited_by("RS-2 2.2"), ["RS-2", "2.2"]);
}

#[test]
fn rules_are_seen() {
    let text = "## 3. S\n* ST-1 x\n* II-7 Under:\n  a) y\n  b) z\n* II-8 v\n### 4.2 T\n| call | a |\n|---|---|\n| put | b |\n| get | c |\n\
                ### 4.3 U\n1. one\n2. two\n## 5. Golden\n1. first\n\nIntervals on\nmore\n## 7. D\n* DV-1 (x) y\n";
    let spec = parse_spec(text);
    let want = [
        "ST-1", "II-7a", "II-7b", "II-8", "4.2-1", "4.2-2", "4.3-1", "4.3-2", "5-1", "5-2", "DV-1",
    ];
    assert_eq!(spec.rules, want);
    assert!(spec.has("II-7") && spec.has("II-7b") && !spec.has("II-9") && !spec.has("II-7c"));
    assert!(stands_for("II-7", "II-7a") && !stands_for("ST-1", "ST-11"));
    assert!(spec.sections.contains("4.3"));
}

#[test]
fn cases_and_their_comments_are_seen() {
    let text = "/* --- RS-1 heads a group */\n\n/* UN-4: why. */\nTEST(UN_2_x)\n{\n\tf(\"HS-5\");\t/* RL-4 */\n}\n\nTEST(DV_7_y) { g(); }\n";
    let found = cases(text);
    assert_eq!(found[0].1, ["UN-2", "UN-4", "RL-4"]);
    assert_eq!(found[1].0, "DV_7_y");
    let rust = "    // SPEC: MO-5\n    #[test]\n    fn dv_6_z() {\n    }\n";
    assert_eq!(cases(rust)[0].1, ["DV-6", "MO-5"]);
    let lines = [
        "// SPEC: X",
        "#[inline]",
        "pub fn one() {",
        "    // SPEC: Y",
        "    two();",
    ];
    assert_eq!((subject(&lines, 0), subject(&lines, 3)), ("one", "one"));
}

/// A rule without a case, a rule without code and an exemption that is none are faults.
#[test]
fn faults_are_seen() {
    let spec = parse_spec(&read(&root().join("docs/spec/SPEC.md")));
    let (code, cases) = (collect_code(), collect_cases());
    let faults =
        |code: &Places, cases: &Places| report(&spec, code, cases, &BTreeSet::new()).faults;
    let before = faults(&code, &cases).len();
    let (mut less_code, mut fewer_cases, mut more_code) =
        (code.clone(), cases.clone(), code.clone());
    less_code.remove("HS-6");
    assert_eq!(faults(&less_code, &cases).len(), before + 1);
    fewer_cases.remove("IR-2");
    assert_eq!(faults(&code, &fewer_cases).len(), before + 1);
    more_code.insert(
        "DV-11".to_owned(),
        BTreeSet::from([("src/x.rs".to_owned(), "f".to_owned())]),
    );
    assert_eq!(faults(&more_code, &cases).len(), before + 1);
    more_code.insert("HS-99".to_owned(), BTreeSet::new());
    assert_eq!(unknown(&spec, &more_code).len(), 1);
    assert!(unknown(&spec, &code).is_empty());
}
