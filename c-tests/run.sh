#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs test programs and sums up. Usage: run.sh PROGRAM...   LIMIT=SECONDS per program (300).
# A program says "N passed, N failed, N skipped" in its last line and exits with 0, 1, or 77 if it skipped everything.
# A test_layout* only has to compile: it says nothing, exits with 0, and counts as one that passed.
set -u
passed=0 failed=0 skipped=0
out=$(mktemp); trap 'rm -f "$out"' EXIT
for program in "$@"; do
  case $program in */*) ;; *) program=./$program;; esac
  timeout -k 5 "${LIMIT:-300}" "$program" >"$out" 2>&1 </dev/null
  status=$?
  sum=$(tail -n 1 "$out")
  [[ ${program##*/} == test_layout* ]] && [ "$status" -eq 0 ] && [ ! -s "$out" ] && sum="1 passed, 0 failed, 0 skipped"
  if [[ $sum =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
    p=${BASH_REMATCH[1]} f=${BASH_REMATCH[2]} s=${BASH_REMATCH[3]}
  else
    p=0 f=1 s=0 sum="no closing line"
  fi
  [ "$status" -eq 124 ] && sum="timed out"
  # A status that does not fit the line is a failure of its own.
  [ "$status" -ne 0 ] && [ "$status" -ne 77 ] && [ "$f" -eq 0 ] && f=1
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  if [ "$f" -eq 0 ]; then
    echo "ok   ${program##*/}: $sum"; grep '^SKIP' "$out"
  else
    echo "FAIL ${program##*/}: $sum (status $status)"; sed 's/^/    /' "$out"
  fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
