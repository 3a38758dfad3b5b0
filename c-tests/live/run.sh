#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Live events against real system calls and real programs.
# Usage: run.sh [table|net|ends|forks|early|reach|hard|fire|trace|coverage|patchers|regcache|asan ...]
set -u
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
stage=$(pkg-config --variable=prefix mmu_notifier)
out=$top/build/live
passed=0 failed=0
check() { # NAME COMMAND...
	local name=$1
	shift
	if "$@" >"$out/log" 2>&1; then passed=$((passed + 1)); else
		failed=$((failed + 1))
		echo "FAIL $name"
		tail -n 20 "$out/log" | sed 's/^/    /'
	fi
}
closing() {
	echo "$passed passed, $failed failed, 0 skipped"
	passed=0 failed=0
}

# With live events off, not one row may pass: the table can fail.
every_row_fails_when_off() {
	LIVE_TABLE_OFF=1 ./table live | tee off.txt | tail -n 1
	tail -n 1 off.txt | grep -qE '^0 passed, [1-9][0-9]* failed, 0 skipped$'
}
part_table() {
	local columns='off live' ucx
	if ucx=$(bash "$top/scripts/fetch.sh" --unpack libucx0 2>fetch.log); then
		columns='off live ucx ucx,live live,ucx'
		ucx=$(find "$ucx" -name libucs.so.0)
		export LD_LIBRARY_PATH=${ucx%/*}
	else
		echo "SKIP the columns of UCX: $(tail -n 1 fetch.log)"
		echo '0 passed, 0 failed, 1 skipped'
	fi
	./table $columns
	check 'every row fails when live events are off' every_row_fails_when_off
	unset LD_LIBRARY_PATH
	closing
}

part_net() { ./net; }

part_ends() { ./ends; }

part_forks() { ./forks; }

part_early() { ./early; }

# Segments of huge pages need some.
spare_huge_pages() {
	local huge=/proc/sys/vm/nr_hugepages
	[ ! -w $huge ] || [ "$(cat $huge)" -ge 4 ] || echo 4 >$huge
}

part_reach() { spare_huge_pages; ./reach; }

# A program that runs another one's code may not see that code is written: then live events are refused.
refused_in_valgrind() { valgrind -q ./hard 'errno and rounding after a callback'; [ $? -eq 1 ] && grep -q smc-check=all "$out/log"; }
works_in_valgrind() { valgrind -q --smc-check=all ./hard 'disable in a callback'; }
part_hard() {
	spare_huge_pages
	./hard || return 1
	if ! command -v valgrind >/dev/null; then
		echo 'SKIP in valgrind: it is not installed'
		echo '0 passed, 0 failed, 2 skipped'
		return
	fi
	check 'refused in valgrind, which keeps what it has translated' refused_in_valgrind
	check 'works in valgrind --smc-check=all' works_in_valgrind
	closing
}

part_fire() { ./fire "${FIRE_ROUNDS:-10000}"; }

# The report of a program whose events are known, and those of a child, of a shell and of one that leaves by _exit().
trace() { "$stage/bin/mmu-notifier-trace" -o "$out/trace.txt" "$@"; }
traces_known() {
	rm -f trace.txt
	trace ./known 1000 && grep -qE '^  UNMAP +1[0-9]{3} ' trace.txt && grep -qE '^  UNMAP +1000 .* 3\.9 MiB +4\.0 KiB +known: unmap_one$' trace.txt
}
traces_children() {
	rm -f trace.txt
	trace sh -c './known 10; ./known 20; exit 3'
	[ $? -eq 3 ] && [ "$(grep -c '^mmu-notifier-trace: known, pid' trace.txt)" -eq 2 ] && [ "$(grep -c ': sh, pid' trace.txt)" -eq 1 ]
}
traces_forked() {
	rm -f trace.txt
	trace ./known 10 fork && [ "$(grep -c '^mmu-notifier-trace: known, pid' trace.txt)" -eq 2 ] &&
		[ "$(grep -cE '^  UNMAP +10 .*known: unmap_one$' trace.txt)" -eq 2 ]
}
# A program without a dynamic linker runs, and it is said that nothing is seen of it.
traces_static() {
	echo 'int main(void) { return 5; }' >static.c && ${CC:-cc} -static static.c -o static || return 1
	PATH=$PATH:$out trace static 2>static.txt
	[ $? -eq 5 ] && grep -q 'statically linked' static.txt && ! trace ./known 1 2>&1 | grep -q 'statically linked'
}
traces_errors() {
	trace /nonexistent
	[ $? -eq 127 ]
}
part_trace() {
	check 'a program whose events are known' traces_known
	check 'children of a shell, and its status' traces_children
	check 'a forked child that leaves by _exit()' traces_forked
	check 'a program that is linked statically' traces_static
	check 'a program that is not there' traces_errors
	closing
}

part_patchers() { bash "$here/patchers.sh"; }

part_regcache() { bash "$here/regcache.sh"; }

part_coverage() {
	mkdir -p coverage
	export COVERAGE_PRELOAD="$stage/lib/libmmu_notifier_trace.so $out/mark.so"
	python3 "$here/coverage.py" coverage
	check 'nothing is seen when live events are off' coverage_off
	closing
}
coverage_off() {
	COVERAGE_OFF=1 COVERAGE_PRELOAD=$out/mark.so python3 "$here/coverage.py" coverage sqlite3 >coverage.txt
	[ $? -eq 1 ] && grep -qE '^sqlite3 .* 0 seen ' coverage.txt
}

# The runtime of AddressSanitizer unmaps by instructions of its own, and has its own heap; what the program does is seen.
asan_row() { (cd asan && ./table -r "$1" off live); }
asan_net() { (cd asan && ./net); }
asan_fire() { (cd asan && ./fire 300); }
part_asan() {
	local row
	export ASAN_OPTIONS=detect_leaks=0
	bash "$here/build.sh" "$out/asan" -fsanitize=address -fno-omit-frame-pointer || return 1
	for row in 'munmap()' 'mmap(MAP_FIXED) over it' 'mremap(FIXED): the source' 'madvise(DONTNEED)' 'mprotect(PROT_READ)' \
		'syscall(SYS_munmap)' 'shmdt()' 'dlclose(): .bss of the library' 'exit of a thread, 96M stack unmapped' \
		'fork(): pages become copy-on-write' 'munmap() in a vfork() child' 'munmap() in a handler that blocks all'; do
		check "with AddressSanitizer: $row" asan_row "$row"
	done
	check 'with AddressSanitizer: enabling and disabling under fire' asan_fire
	check 'with AddressSanitizer: the net' asan_net
	unset ASAN_OPTIONS
	closing
}

for part; do
	declare -F "part_$part" >/dev/null || { echo "there is no part '$part'" >&2; exit 2; }
done
[ $# -gt 0 ] || set -- table net ends forks early reach hard fire trace coverage patchers regcache asan
bash "$here/build.sh" "$out" || exit 1
cd "$out" || exit 1
status=0
for part; do
	echo "-- $part"
	"part_$part" || status=1
done
exit $status
