#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Does the comparison bite? Seeds each mistake of mutations/ in a copy of the library's sources, builds that, and runs random
# programs until one finds it. A mistake that no program finds fails, and so does a mutation whose text is gone.
# Usage: bite.sh [MUTATION ...]   (names without .txt; default: all). BITE_PROGRAMS (20000) is how many programs it may take.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=$root/build/model-bite copy=$root/build/model-bite/copy
export CARGO_TARGET_DIR=$build/target
mkdir -p "$copy" "$build/logs"
[ $# -gt 0 ] || set -- $(cd "$here/mutations" && ls | sed 's/\.txt$//')
for name; do
  [ -e "$here/mutations/$name.txt" ] || { echo "there is no mutation '$name'" >&2; exit 2; }
done
unset PKG_CONFIG_PATH
export MMU_NOTIFIER_DIR=$copy/build/stage MMU_NOTIFIER_SHARED=1 LD_LIBRARY_PATH=$copy/build/stage/lib

# The copy as it is in the working tree.
fresh() {
  (cd "$root" && git ls-files -z src ffi include scripts pkgconfig man docs examples tools Cargo.toml Cargo.lock Makefile 'LICENSE-*' README.md |
    tar -c --null -T -) | tar -x -m -C "$copy"
}
# Undoes a mistake.
mend() { cp "$root/$1" "$copy/$1"; }
stage() { (unset CARGO_TARGET_DIR; make -s -C "$copy" stage) >"$build/logs/$1.build" 2>&1; }

fresh
stage none
cargo build -q --locked --release --manifest-path "$here/Cargo.toml"
"$build/target/release/model" -n 200 | tail -n 1 # without a mistake
found=0 missed=0
for name; do
  log=$build/logs/$name
  read -r rule file <"$here/mutations/$name.txt"
  if "$build/target/release/mutate" "$here/mutations/$name.txt" "$copy" && stage "$name"; then
    if timeout 900 "$build/target/release/model" -f -n "${BITE_PROGRAMS:-20000}" >"$log" 2>&1; then
      missed=$((missed + 1)); echo "MISSED $name"
    elif line=$(grep -m1 '^DIFFERS' "$log"); then
      # The lines of the shortest program, without comments.
      short=$(sed -n '/^DIFFERS/,$p' "$log" | sed '1d;/^# ---/,$d;/^#/d;/^$/d' | wc -l)
      found=$((found + 1))
      printf '%-34s %-6s %s; %s lines\n' "$name" "$rule" "${line#DIFFERS }" "$short"
    else
      missed=$((missed + 1)); echo "BROKEN $name: see $log"
    fi
  else
    missed=$((missed + 1)); echo "NOT BUILT $name: see $log.build"
  fi
  mend "$file"
done
echo "$found passed, $missed failed"
[ "$missed" -eq 0 ]
