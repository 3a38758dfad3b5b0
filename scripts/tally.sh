# SPDX-License-Identifier: MIT OR Apache-2.0
# Sourced by test.sh: what a part of the tests printed, in numbers. scripts/test-tally.sh tries it.

# tally LOG STATUS: sets `p`, `f` and `s` (passed, failed, skipped) and, if the part did not go as it says itself, `why`, which
# counts as one more failure. Read are the lines `N passed, N failed[, N skipped]`, cargo's `test result:`, and those that
# begin with SKIP and tell a reason; one of them may stand for several skipped tests. (An ignored test of cargo's has its reason
# in the source.)
tally() {
	local reasons
	read -r p f s reasons < <(awk '
		/^test result:/ { p += $4; f += $6; s += $8; reasons += $8 }
		/^[0-9]+ passed, [0-9]+ failed/ { p += $1; f += $3; if ($6 ~ /^skipped/) s += $5 }
		/^SKIP/ { reasons++ }
		END { print p + 0, f + 0, s + 0, reasons + 0 }' "$1")
	why=
	if [ $((p + f + s)) -eq 0 ]; then
		why="no closing line that counts anything, status $2"
	elif [ "$s" -lt "$reasons" ]; then
		why="$reasons reasons for skipping, but $s skipped"
	elif [ "$s" -gt 0 ] && [ "$reasons" -eq 0 ]; then
		why="$s skipped without a reason"
	elif [ "$2" -ne 0 ] && [ "$f" -eq 0 ]; then
		why="nothing failed, but status $2"
	fi
	[ -z "$why" ] || f=$((f + 1))
}
