#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The fuzz targets: their bodies over the committed corpus, and then some seconds of libFuzzer each, guided by coverage.
# Neither cargo-fuzz nor a nightly compiler is needed: the flags that cargo-fuzz passes are stable ones, but for the
# sanitizer's, which safe bodies that check what they see can do without.
# Usage: run.sh [TARGET...]   FUZZ_SECONDS=20 for each; SEED=n repeats libFuzzer's choices, given the same corpus.
#        run.sh --minimise [TARGET...] fuzzes, and then replaces the committed corpora by a minimal cover of all that is known.
# What is found in a run is kept in build/fuzz/corpus, for the next; an input that fails in build/fuzz/TARGET-crash-*: copy it
# to fuzz/corpus/TARGET once the library is mended. Wants a staged install (pkg-config), which the model is linked with.
set -u
cd "$(dirname "$0")"
out=$(cd .. && pwd)/build/fuzz
mkdir -p "$out"
export PKG_CONFIG_PATH=${PKG_CONFIG_PATH:-$(cd .. && pwd)/build/stage/lib/pkgconfig}
export CARGO_TARGET_DIR=$out/target
seconds=${FUZZ_SECONDS:-20}
# Inputs longer than that are cut; the committed ones are at most half of it.
max_length=512
minimise=
[ "${1:-}" != --minimise ] || { minimise=yes; shift; }
[ $# -gt 0 ] || set -- $(cd corpus && echo *)
passed=0 failed=0 skipped=0

close() {
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" -eq 0 ]
	exit
}

# ------------------------------------------------------------------------------------------------------- the corpora

for target; do
	echo "corpus/$target: $(ls "corpus/$target" | wc -l) inputs, $(cat "corpus/$target"/* | wc -c) bytes"
done
cargo test --locked -q --no-default-features >"$out/corpus.log" 2>&1
status=$?
read -r p f < <(awk '/^test result:/ { p += $4; f += $6 } END { print p + 0, f + 0 }' "$out/corpus.log")
passed=$((passed + p)) failed=$((failed + f))
if [ "$status" -ne 0 ] || [ "$p" -eq 0 ]; then
	tail -n 40 "$out/corpus.log"
	[ "$f" -gt 0 ] || failed=$((failed + 1))
	[ -n "$minimise" ] || close
fi

# ----------------------------------------------------------------------------------------------------------- fuzzing

host=$(rustc -vV | sed -n 's/^host: //p')
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
	-Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 --cfg fuzzing"
coverage=$(echo $coverage)

# Why libFuzzer cannot be had here; nothing if it can.
lacking() {
	command -v "${CXX:-c++}" >/dev/null 2>&1 || { echo "no C++ compiler, which libFuzzer wants"; return; }
	echo | rustc $coverage --crate-type lib --crate-name probe -o "$out/probe.rlib" - >"$out/probe.log" 2>&1 ||
		echo "$(rustc -V) cannot instrument: $(head -n 1 "$out/probe.log")"
}
reason=$(lacking)
if [ -n "$reason" ]; then
	skipped=$((skipped + $#))
	echo "SKIP fuzzing $*: $reason"
	close
fi

# With --target, build scripts are not instrumented.
build() { RUSTFLAGS=$coverage cargo build --locked -q --release --target "$host" "$@"; }

# The C library as link.sh makes it, but instrumented, in $MMU_NOTIFIER_DIR, where the model looks for it.
library() {
	local names=$out/names object=$out/mmu_notifier.o
	export MMU_NOTIFIER_DIR=$out/library
	rm -rf "$MMU_NOTIFIER_DIR"
	mkdir -p "$MMU_NOTIFIER_DIR/lib"
	cp -r "$(pkg-config --variable=includedir mmu_notifier)" "$MMU_NOTIFIER_DIR/include" || return 1
	(cd .. && build -p mmu-notifier-ffi) || return 1
	sed -n '/^global:/,/^local:/s/^\t\([A-Za-z_0-9]*\);$/\1/p' ../ffi/mmu_notifier.map >"$names"
	ld -r $(sed 's/^/-u /' "$names") --gc-sections -o "$object" "$CARGO_TARGET_DIR/$host/release/libmmu_notifier_ffi.a" &&
		objcopy --keep-global-symbols="$names" --remove-section=.llvmbc --remove-section=.llvmcmd "$object" &&
		ar rcs "$MMU_NOTIFIER_DIR/lib/libmmu_notifier.a" "$object"
}
library && build --bins || { failed=$((failed + $#)); close; }

# Sets `runs` and `covered` from libFuzzer's log.
read_log() {
	runs=$(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$1")
	covered=$(grep -oE ' cov: [0-9]+ ft: [0-9]+' "$1" | tail -n 1)
}

for target; do
	program=$CARGO_TARGET_DIR/$host/release/$target log=$out/$target.log
	mkdir -p "$out/corpus/$target"
	timeout -k 5 $((seconds + 120)) "$program" -max_total_time="$seconds" -seed="${SEED:-0}" -timeout=20 -max_len=$max_length \
		-artifact_prefix="$out/$target-" "$out/corpus/$target" "corpus/$target" >"$log" 2>&1 </dev/null
	status=$?
	read_log "$log"
	echo "$target: ${runs:-?} executions in $seconds s,${covered:- no coverage}, $(sed -n 's/^INFO: Seed: /seed /p' "$log")"
	# A program that is not instrumented would run, and find little.
	if [ "$status" -eq 0 ] && [ -n "$runs" ] && [ "$runs" -gt 0 ] && [ -n "$covered" ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAIL $target: status $status"
		grep -vE '^#[0-9]+[[:space:]]' "$log" | tail -n 40 | sed 's/^/    /'
		continue
	fi
	if [ -n "$minimise" ]; then
		rm -rf "$out/minimal"
		mkdir "$out/minimal"
		"$program" -set_cover_merge=1 -max_len=$((max_length / 2)) "$out/minimal" "corpus/$target" "$out/corpus/$target" \
			>"$log" 2>&1 || { tail -n 5 "$log"; failed=$((failed + 1)); continue; }
		rm -f "corpus/$target"/*
		cp "$out/minimal"/* "corpus/$target"/
		echo "corpus/$target: now $(ls "corpus/$target" | wc -l) inputs, $(cat "corpus/$target"/* | wc -c) bytes"
	fi
done
close
