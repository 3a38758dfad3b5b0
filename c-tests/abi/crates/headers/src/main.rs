//! Runs what build.rs had ctest generate. What differs goes to stderr, one line each, beginning with `bad`.

/// Runs the tests of a group: how many checks agree, and whether one does not.
type Run = fn() -> (usize, bool);

include!(concat!(env!("OUT_DIR"), "/groups.rs"));

fn main() {
    let mut failed = false;
    for (kernel, run) in GROUPS {
        eprintln!("headers for {kernel}:");
        let (count, bad) = run();
        println!("{kernel}: {count} agree");
        failed |= bad;
    }
    std::process::exit(i32::from(failed));
}
