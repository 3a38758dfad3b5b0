// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a fuzzer calls, in one process. (One test: the library runs one program at a time.)

use mmu_notifier_model::{generate, run_bytes, run_program};

/// Bytes that look random, and differ with `n`.
fn bytes(n: u64) -> Vec<u8> {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..n % 2000).map(|_| next()).collect()
}

#[test]
fn bytes_and_texts_are_programs() {
    run_bytes(&[]);
    let (mut lines, mut blocked) = (0, 0);
    for n in 1..600 {
        let program = generate::of_bytes(&bytes(n));
        lines += program.lines.len();
        blocked += program.steps.iter().filter(|step| step.blocked).count();
        run_bytes(&bytes(n));
    }
    assert!(
        lines > 15_000 && blocked > 300,
        "{lines} lines, {blocked} blocked"
    );
    for program in ["own/dv1", "programs/deferred", "random/7"] {
        let file = format!("../conformance/{program}.txt");
        let text = std::fs::read_to_string(&file).expect(&file);
        run_program(&text).expect("a program");
    }
    assert!(run_program("nonsense").is_err());
}
