#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The library against the model of SPEC section 3: the conformance programs, then random ones. The library is the one that
# MMU_NOTIFIER_DIR or pkg-config finds. Other arguments go to the program (src/main.rs has its usage).
# MODEL_PROGRAMS (100000), MODEL_SEED (1), MODEL_JOBS (2)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$here/../../build/model}
cd "$here"
cargo fmt --check
cargo clippy --locked -q --all-targets -- -D warnings
cargo test --locked -q --release
cargo build --locked -q --release
exec "$CARGO_TARGET_DIR/release/model" -n "${MODEL_PROGRAMS:-100000}" -s "${MODEL_SEED:-1}" -j "${MODEL_JOBS:-2}" "$@" \
  ../conformance/{programs,random,own}/*.txt
