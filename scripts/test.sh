#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs the tests, or the parts that are named. Each part prints its seconds; each line `N passed, N failed[, N skipped]`
# (and each `test result:` of cargo) that a part prints goes into the closing sum. A part that fails without such a line
# counts as one failure.
# Usage: test.sh [PART ...]; a part is a function part_PART below
set -u
cd "$(dirname "$0")/.."
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
part_model-bite() { bash c-tests/model/bite.sh; } # on request: builds the library once for each mistake
part_drivers() { bash c-tests/drivers/run.sh; }
part_abi() { bash c-tests/abi/run.sh; }
part_instructions() { bash benches/instructions/check.sh; }
part_readme() { bash c-tests/readme.sh; }
# The short form of every model, and as many of the mistakes that they must find as fit into the seconds.
part_models() {
	bash models/run.sh
	local status=$?
	python3 models/bite.py -s "${BITE_SECONDS:-30}" && return $status
}

# Adds up what a part printed; fails if it counted a failure.
tally() {
	local p f s
	read -r p f s < <(awk '
		/^test result:/ { p += $4; f += $6; s += $8 }
		/^[0-9]+ passed, [0-9]+ failed/ { p += $1; f += $3; if ($6 ~ /^skipped/) s += $5 }
		END { print p + 0, f + 0, s + 0 }' "$1")
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	[ "$f" -eq 0 ]
}

[ $# -gt 0 ] || set -- rust headers install c conformance model stress faults demo drivers abi man instructions readme models
make -s stage || exit 1
for part; do
	log=$build/test-$part.log start=$SECONDS
	echo "== $part"
	"part_$part" 2>&1 | tee "$log"
	status=${PIPESTATUS[0]}
	if tally "$log" && [ "$status" -ne 0 ]; then
		failed=$((failed + 1))
	fi
	echo "== $part: $((SECONDS - start)) s, status $status"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
