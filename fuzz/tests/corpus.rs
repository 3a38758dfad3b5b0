//! Every target over its committed corpus, and that each body can tell right from wrong at all is seen by `make bite`.

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use mmu_notifier_fuzz::TARGETS;

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let entries = fs::read_dir(folder.join(target)).expect("a corpus");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
}

#[test]
fn every_input_of_the_corpus_passes() {
    for (target, body) in TARGETS {
        let files = corpus(target);
        assert!(files.len() >= 10, "{target}: {} inputs", files.len());
        let failing: Vec<_> = files
            .iter()
            .filter(|file| {
                let data = fs::read(file).expect("readable");
                panic::catch_unwind(|| body(&data)).is_err()
            })
            .collect();
        assert!(failing.is_empty(), "{target}: {failing:#?}");
        println!("{target}: {} inputs", files.len());
    }
}

#[test]
fn every_corpus_has_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(folder).expect("the corpora") {
        let name = entry.expect("an entry").file_name();
        let known = TARGETS.iter().any(|(target, _)| name == *target);
        assert!(known, "{}", name.display());
    }
}
