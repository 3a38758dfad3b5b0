//! The house of ARCHITECTURE.md: a room knows only rooms on lower floors, and each file says what it is about.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms with their floors, in tenths: `thread` stands on `sync`, and both are on floor 0; `replay` on `api`, on floor 6. A room that is
/// not listed fails the test.
const FLOORS: &[(&str, u32)] = &[
    ("sync", 0),
    ("thread", 5),
    ("abi", 10),
    ("report", 10),
    ("dispatch", 20),
    ("srcu", 20),
    ("index", 20),
    ("chain", 30),
    ("interval", 30),
    ("mm", 40),
    ("live", 50),
    ("api", 60),
    ("explore", 60),
    ("replay", 65),
];

fn floor(room: &str) -> Option<u32> {
    FLOORS
        .iter()
        .find(|(name, _)| *name == room)
        .map(|(_, floor)| *floor)
}

fn source_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The room that a file belongs to: its first folder below src/, or its own name there. None for lib.rs.
fn room_of(file: &Path) -> Option<String> {
    let inside = file
        .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .expect("below src");
    let first = inside
        .components()
        .next()
        .expect("a name")
        .as_os_str()
        .to_string_lossy();
    let room = first.trim_end_matches(".rs");
    (room != "lib").then(|| room.to_owned())
}

/// Code without comments.
fn code(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or(""))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Every `crate::room` that a text names.
fn rooms_named(text: &str) -> Vec<&str> {
    let starts = text
        .match_indices("crate::")
        .map(|(at, found)| at + found.len());
    let name = |at: usize| {
        let rest = &text[at..];
        &rest[..rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len())]
    };
    starts.map(name).filter(|name| !name.is_empty()).collect()
}

/// What is wrong with the arrows of a room's text.
fn wrong_arrows(room: &str, text: &str) -> Vec<String> {
    let Some(own) = floor(room) else {
        return vec![format!("the room {room} has no floor")];
    };
    let mut wrong = Vec::new();
    for named in rooms_named(text) {
        let allowed = named == room || floor(named).is_some_and(|below| below < own);
        // A macro of the same room is named from the crate's root as well.
        if !allowed && !(named.starts_with(char::is_uppercase)) {
            let own = f64::from(own) / 10.0;
            wrong.push(format!("{room} (floor {own}) names crate::{named}"));
        }
    }
    wrong
}

#[test]
fn arrows_point_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = source_files(&src);
    assert!(files.len() > 20, "found only {} files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        if let Some(room) = room_of(&file) {
            let text = code(&fs::read_to_string(&file).expect("readable"));
            wrong.extend(
                wrong_arrows(&room, &text)
                    .into_iter()
                    .map(|what| format!("{}: {what}", file.display())),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn arrows_that_point_up_are_seen() {
    assert_eq!(wrong_arrows("index", "use crate::chain::Chain;").len(), 1);
    assert_eq!(
        wrong_arrows("chain", "use crate::interval::Intervals;").len(),
        1
    );
    assert_eq!(
        wrong_arrows("sync", "let x = crate::report::count;").len(),
        1
    );
    assert_eq!(wrong_arrows("cellar", "").len(), 1);
    assert!(wrong_arrows("mm", "use crate::{chain::A};").is_empty());
    assert!(
        wrong_arrows(
            "mm",
            "use crate::chain::A; use crate::sync::B; crate::mm::c()"
        )
        .is_empty()
    );
}

/// Names that only one room may use.
const DOORS: &[(&str, &[&str])] = &[
    ("std::sync", &["sync"]),
    ("core::sync", &["sync"]),
    ("SYS_futex", &["sync"]),
    ("no_mangle", &[]),
];

#[test]
fn only_sync_opens_the_door_to_atomics() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in source_files(&src) {
        let text = code(&fs::read_to_string(&file).expect("readable"));
        let room = room_of(&file).unwrap_or_default();
        for (name, rooms) in DOORS {
            let used = text.contains(name) && !rooms.contains(&room.as_str());
            assert!(!used, "{} names {name}", file.display());
        }
    }
}

/// Grouped imports would hide arrows from the test above.
#[test]
fn imports_name_their_room() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in source_files(&src) {
        let text = code(&fs::read_to_string(&file).expect("readable"));
        assert!(
            !text.contains("crate::{"),
            "{} imports from several rooms at once",
            file.display()
        );
    }
}

/// The longest file that a reader takes in.
const LONGEST: usize = 800;

#[test]
fn files_say_what_they_are_about() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["src", "ffi/src", "tests"] {
        for file in source_files(&root.join(folder)) {
            let text = fs::read_to_string(&file).expect("readable");
            let name = file.display();
            assert!(
                text.starts_with("//! "),
                "{name} does not say what it is about"
            );
            let lines = text.lines().count();
            assert!(lines <= LONGEST, "{name} has {lines} lines");
        }
    }
}
