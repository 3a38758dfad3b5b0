#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs the tests, or the parts that are named. Each part prints its seconds; each line `N passed, N failed[, N skipped]`
# (and each `test result:` of cargo) that a part prints goes into the closing sum. A part without such a line, with a status
# that belies it, or with skips that are not counted or not explained counts as a failure (tally.sh).
# Usage: test.sh [PART ...]; a part is a function part_PART below
set -u
cd "$(dirname "$0")/.."
. scripts/tally.sh
build=$PWD/build
export PKG_CONFIG_PATH=$build/stage/lib/pkgconfig
mkdir -p "$build"
passed=0 failed=0 skipped=0

part_rust() {
	cargo fmt --all --check &&
		cargo clippy --locked -q --workspace --all-targets -- -D warnings &&
		RUSTDOCFLAGS="-D warnings" cargo doc --locked -q --workspace --no-deps &&
		cargo test --locked -q --workspace
}
part_headers() { sh c-tests/headers.sh $(pkg-config --cflags mmu_notifier); }
part_install() { bash c-tests/install.sh; }
part_c() {
	local programs
	programs=$(bash c-tests/build.sh "$build/c-tests" c-tests/test_*.c c-tests/test_*.cc) && bash c-tests/run.sh $programs
}
part_conformance() { bash c-tests/conformance/check; }
part_stress() { bash c-tests/stress/stress.sh "${STRESS_SECONDS:-60}"; }
part_faults() { bash c-tests/faults/run.sh; }
part_demo() { bash c-tests/demo.sh; }
part_man() { bash c-tests/man.sh; }
part_model() { bash c-tests/model/run.sh; }
part_live() { bash c-tests/live/run.sh; }
part_model-bite() { bash c-tests/model/bite.sh; } # on request: builds the library once for each mistake
part_cross() { bash c-tests/cross/run.sh; } # on request: compiles for two more targets
part_drivers() { bash c-tests/drivers/run.sh; }
part_abi() { bash c-tests/abi/run.sh; }
part_instructions() { bash benches/instructions/check.sh; }
part_readme() { bash c-tests/readme.sh; }
part_abi-guard() { bash c-tests/abi/guard.sh; }
part_python() { bash python/test.sh; }
part_fuzz() { bash fuzz/run.sh; }
# The checks themselves.
part_checks() {
	bash scripts/test-tally.sh && python3 c-tests/stress/bite.py --anchors && python3 scripts/bite.py --anchors
}
# The short form of every model, and as many of the mistakes that they must find as fit into the seconds.
part_models() {
	bash models/run.sh
	local status=$?
	python3 models/bite.py -s "${BITE_SECONDS:-30}" && return $status
}

[ $# -gt 0 ] || set -- rust headers install c conformance model stress faults live demo drivers abi man instructions readme \
	abi-guard fuzz checks models python
make -s stage || exit 1
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
