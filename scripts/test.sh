#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs the tests, or the parts that are named. Each part prints its seconds; each line `N passed, N failed[, N skipped]`
# (and each `test result:` of cargo) that a part prints goes into the closing sum. A part without such a line, with a status
# that belies it, or with skips that are not counted or not explained counts as a failure (tally.sh).
# Usage: test.sh [PART ...]   a part is a function part_PART below
#        test.sh --list       the parts, and what each is about: the comment above its function
set -u
cd "$(dirname "$0")/.."
. scripts/tally.sh
build=$PWD/build
export PKG_CONFIG_PATH=$build/stage/lib/pkgconfig

ALL='rust headers install c conformance model stress faults live demo drivers abi man instructions readme abi-guard fuzz
	checks models python'
ON_REQUEST='model-bite cross'

# rust: formatting, lints and unit tests of the crates; docs/rules.md and the generated headers are up to date
part_rust() {
	cargo fmt --all --check &&
		cargo clippy --locked -q --workspace --all-targets -- -D warnings &&
		RUSTDOCFLAGS="-D warnings" cargo doc --locked -q --workspace --no-deps &&
		cargo test --locked -q --workspace
}

# headers: each header alone and beside libc's, in C and C++
part_headers() { sh c-tests/headers.sh $(pkg-config --cflags mmu_notifier); }

# install: what is installed, how it is linked, what it exports, what `make uninstall` leaves
part_install() { bash c-tests/install.sh; }

# c: C programs against the install, a case for each rule
part_c() {
	local programs
	programs=$(bash c-tests/build.sh "$build/c-tests" c-tests/test_*.c c-tests/test_*.cc) && bash c-tests/run.sh $programs
}

# conformance: the traces of the kernel's implementation
part_conformance() { bash c-tests/conformance/check; }

# model: random programs, the library against an executable model of the specification
part_model() { bash c-tests/model/run.sh; }

# stress: many threads against invariants, also under AddressSanitizer and valgrind
part_stress() { bash c-tests/stress/stress.sh "${STRESS_SECONDS:-60}"; }

# faults: refused memory and threads, fork at every moment, dlclose, signals, sizes
part_faults() { bash c-tests/faults/run.sh; }

# live: the system calls of real programs as events
part_live() { bash c-tests/live/run.sh; }

# demo: the demo finds each seeded mistake, and nothing else
part_demo() { bash c-tests/demo.sh; }

# drivers: drivers of the kernel, compiled as they are
part_drivers() { bash c-tests/drivers/run.sh; }

# abi: struct layouts, and what lists do, against real kernels
part_abi() { bash c-tests/abi/run.sh; }

# man: the manuals and docs/porting.md
part_man() { bash c-tests/man.sh; }

# instructions: instructions of the hot paths, against committed numbers
part_instructions() { bash benches/instructions/check.sh; }

# readme: the README's example and links
part_readme() { bash c-tests/readme.sh; }

# abi-guard: the public ABI against the committed one
part_abi-guard() { bash c-tests/abi/guard.sh; }

# fuzz: the fuzz targets, for some seconds each
part_fuzz() { bash fuzz/run.sh; }

# checks: the checks themselves: the closing sum, and that seeded mistakes fit the sources
part_checks() {
	bash scripts/test-tally.sh && python3 c-tests/stress/bite.py --anchors && python3 scripts/bite.py --anchors
}

# models: the concurrency protocols under loom, and some of the mistakes that the models must find
part_models() {
	bash models/run.sh
	local status=$?
	python3 models/bite.py -s "${BITE_SECONDS:-30}" && return $status
}

# python: the Python package: lints, types, pytest, the tutorial
part_python() { bash python/test.sh; }

# model-bite: all mistakes that `model` must find; builds the library once for each
part_model-bite() { bash c-tests/model/bite.sh; }

# cross: unit tests and C programs for musl, and for aarch64 under qemu
part_cross() { bash c-tests/cross/run.sh; }

list() { # PART...
	local part
	for part; do
		printf '  %-14s%s\n' "$part" "$(sed -n "s/^# $part: //p" scripts/test.sh)"
	done
}
if [ "${1:-}" = --list ]; then
	list $ALL
	echo 'on request:'
	list $ON_REQUEST
	exit
fi
for part; do
	declare -F "part_$part" >/dev/null || { echo "there is no part '$part'; the parts are:"; list $ALL $ON_REQUEST; exit 2; }
done >&2

[ $# -gt 0 ] || set -- $ALL
mkdir -p "$build"
make -s stage || exit 1
passed=0 failed=0 skipped=0
for part; do
	log=$build/test-$part.log start=$SECONDS
	echo "== $part"
	"part_$part" 2>&1 | tee "$log"
	status=${PIPESTATUS[0]}
	tally "$log" "$status"
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	[ -z "$why" ] || echo "FAIL $part: $why"
	echo "== $part: $((SECONDS - start)) s, status $status: $p passed, $f failed, $s skipped"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
