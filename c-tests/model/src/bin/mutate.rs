// SPDX-License-Identifier: MIT OR Apache-2.0
//! Seeds a mistake: replaces a text, which must be there exactly once, in a copy of the library's sources.
//!
//! Usage: mutate MUTATION ROOT. A mutation's first line is `RULE FILE`; then come `----- old`, the text, `----- new`, the text
//! that takes its place. The line breaks at the end of both count, unless a text is a part of a line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The file that a mutation is about, below `root`, and its text with the mistake in it.
fn mutated(mutation: &Path, root: &Path) -> Result<(PathBuf, String), String> {
    let text = fs::read_to_string(mutation).map_err(|error| error.to_string())?;
    let (head, rest) = text.split_once("\n----- old\n").ok_or("no old text")?;
    let (old, new) = rest.split_once("----- new\n").ok_or("no new text")?;
    let (_, file) = head.split_once(' ').ok_or("no file")?;
    let path = root.join(file);
    let source = fs::read_to_string(&path).map_err(|error| format!("{file}: {error}"))?;
    let (old, new) = match source.matches(old).count() {
        0 => (old.trim_end_matches('\n'), new.trim_end_matches('\n')),
        _ => (old, new),
    };
    let count = source.matches(old).count();
    if count != 1 {
        return Err(format!(
            "{file}: the old text is there {count} times, not once: anchor the mutation anew"
        ));
    }
    Ok((path, source.replacen(old, new, 1)))
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mutation, root] = &args[..] else {
        eprintln!("usage: mutate MUTATION ROOT");
        return ExitCode::from(2);
    };
    let written = mutated(Path::new(mutation), Path::new(root))
        .and_then(|(path, text)| fs::write(path, text).map_err(|error| error.to_string()));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{mutation}: {what}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutation_fits_the_sources() {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mutations = fs::read_dir(own.join("mutations")).expect("mutations");
        let paths = mutations.map(|entry| entry.expect("an entry").path());
        let results: Vec<_> = paths
            .map(|path| mutated(&path, &own.join("../..")))
            .collect();
        assert!(results.len() > 20, "{} mutations", results.len());
        let wrong: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
