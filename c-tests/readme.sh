#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The README's example compiles as the README says and prints what it promises; its links lead somewhere.
set -u
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
count() { if [ "$1" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL $2"; fi; }

awk '/^```c$/ { on = 1; next } /^```/ { on = 0 } on' README.md >"$work/prog.c"
command=$(sed -n '/^gcc prog.c/{p;q}' README.md)
example() { # it is told of one page
	eval "$command -Wall -Werror -Wl,-rpath,$(pkg-config --variable=libdir mmu_notifier)" && ./a.out >output &&
		[[ $(<output) =~ ^drop\ \[([0-9a-f]+),\ ([0-9a-f]+)\)$ ]] &&
		[ $((0x${BASH_REMATCH[2]} - 0x${BASH_REMATCH[1]})) -eq "$(getconf PAGESIZE)" ]
}
(cd "$work" && example)
count $? "the example"
missing=$(grep -hoE '\]\([^)#]+\)' README.md ARCHITECTURE.md CONTRIBUTING.md | sed 's/^](//; s/)$//' | grep -v '^http' |
	while read -r link; do [ -e "$link" ] || echo "$link"; done)
[ -z "$missing" ]
count $? "links: $missing"
[ "$(wc -l <README.md)" -le 150 ]
count $? "the README has more than 150 lines"
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
