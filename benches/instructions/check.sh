#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Instructions of each hot path under callgrind, against the committed numbers of the same compilers and level of CPU: more than
# 2 % off, up or down, fails. Numbers say nothing about fences and cache misses; they say that the code has changed.
# Against the staged install. check.sh --rewrite puts what is measured into the baseline.
set -u
cd "$(dirname "$0")"
top=$(cd ../.. && pwd)
work=$top/build/instructions
passed=0 failed=0 skipped=0
baseline=baseline.txt

finish() {
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" -eq 0 ]
	exit
}

skip() {
	echo "SKIP instruction counts: $1"
	skipped=1
	finish
}

command -v valgrind >/dev/null 2>&1 || skip "valgrind is not installed"
command -v setarch >/dev/null 2>&1 || skip "setarch (util-linux) is not installed"
rm -rf "$work"
mkdir -p "$work"
libdir=$(pkg-config --variable=libdir mmu_notifier) &&
	${CC:-cc} -std=gnu11 -O2 -DPREFIX=static hot.c ../c/loops.c -o "$work/hot" \
		$(pkg-config --cflags mmu_notifier) "$libdir/libmmu_notifier.a" -lpthread -ldl -lm -lrt || { failed=1; finish; }

# The same addresses, environment and names each time: they decide where things lie, and so on which paths.
(cd "$work" && setarch -R env -i PATH="$PATH" valgrind --tool=callgrind --separate-threads=yes --callgrind-out-file=out \
	./hot >level 2>log) || { tail -n 5 "$work/log"; failed=1; finish; }
read -r level operations <"$work/level"

# Lines `PATH COUNT-PER-OPERATION`, of the main thread's dumps in order: each path has a short and a long one.
for dump in $(ls "$work" | grep '^out\.[0-9]*-01$' | sort -t. -k2 -V); do
	sed -n 's/^desc: Trigger: Client Request: //p; s/^totals: //p; s/^summary: //p' "$work/$dump" | tr '\n' ' '
	echo
done | awk -v n="$operations" '
	NF < 2 { next }
	$1 in short { printf "%s %.2f\n", $1, ($2 - short[$1]) / n; next }
	{ short[$1] = $2 }' >"$work/counts"
[ "$(wc -l <"$work/counts")" -ge 14 ] || { echo "FAIL callgrind's dumps are not understood"; failed=1; finish; }

compiler() {
	${CC:-cc} -dM -E -x c /dev/null | sed -n 's/^#define __clang_version__ "\([^ "]*\).*/clang-\1/p; s/^#define __VERSION__ "\([0-9.]*\)"/gcc-\1/p'
}
key="rustc-$(rustc -V | cut -d' ' -f2) $(compiler) $level"
if [ "${1:-}" = --rewrite ]; then
	{
		grep '^#' $baseline 2>/dev/null
		{ grep -v '^#' $baseline 2>/dev/null | grep -vF "$key "; sed "s/^/$key /" "$work/counts"; } | sort
	} >"$work/baseline"
	cp "$work/baseline" $baseline
	echo "$(wc -l <"$work/counts") counts for $key"
	exit 0
fi

grep -qF "$key " $baseline || {
	sed 's/^/  /' "$work/counts"
	skip "no baseline for $key (make instructions-baseline makes one)"
}
while read -r path count; do
	expected=$(sed -n "s/^$key $path //p" $baseline)
	if [ -z "$expected" ]; then
		echo "FAIL $path: not in the baseline"
	else
		awk -v path="$path" -v is="$count" -v was="$expected" 'BEGIN {
			off = was ? (is - was) / was * 100 : 100
			bad = off > 2 || off < -2
			printf "%s %-18s %9.2f instructions, baseline %9.2f (%+.1f %%)\n", bad ? "FAIL" : "  ok", path, is, was, off
			exit bad }'
	fi && [ -n "$expected" ] && passed=$((passed + 1)) || failed=$((failed + 1))
done <"$work/counts"
finish
