#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Lints the models and the library as they see it, then runs them, each in a process of its own, two at a time, and prints what
# each took.
# Usage: run.sh [--full] [MODEL ...]; without names: all of them
set -u
cd "$(dirname "$0")"
target=$PWD/../build/models
cargo fmt --check || exit 1
cargo clippy --locked -q --target-dir "$target" -- -D warnings || exit 1
cargo build --locked -q --target-dir "$target" || exit 1
program=$target/debug/models
full=
[ "${1-}" = --full ] && full=--full && shift
[ $# -gt 0 ] || set -- $("$program" --list)
[ $# -gt 0 ] || { echo "there are no models"; exit 1; }
printf '%s\n' "$@" | xargs -P "${JOBS:-2}" -I{} sh -c '
	timeout "${MODEL_SECONDS:-600}" "$0" $1 "{}" 2>&1
	status=$?
	[ $status -eq 0 ] || echo "{}: FAILED with status $status"' "$program" "$full" | tee "$target/log"
passed=$(grep -c ' executions (' "$target/log")
failed=$(($# - passed))
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
